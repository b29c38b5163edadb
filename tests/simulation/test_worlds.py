"""Simulated worlds: what holds in each, that a seed is a world, and worlds in which something was wrong once."""

from __future__ import annotations

import pytest

from contrapas.testing.simulation import Chance, Options, Outcome, Play
from tests.simulation.loads import LOADS

ONCE = {
    "what follows a healed rendezvous had the version of the heal": Options(
        seed=26, load="observed", partitions=4, workers=6, instances=19, fence="order", atomic=False, gaps=0.0,
        batch=2, history_ms=30000, spread_ms=200, skew_ms=500,
    ),
    "a careful owner with a step in hand span on a timer that was due": Options(
        seed=8, load="bank", partitions=1, workers=4, instances=45, fence="order", atomic=False, gaps=0.0,
        batch=20, history_ms=600000, spread_ms=20000, skew_ms=500,
    ),
    "a service that gave up on a topic of one type answered the dead letters": Options(
        seed=76, load="order", partitions=3, workers=1, instances=24, fence="order", atomic=False, gaps=0.0,
        batch=1, history_ms=604800000, spread_ms=200, skew_ms=0,
    ),
}  # fmt: skip


def play(options: Options) -> Outcome:
    return Play(LOADS[options.load], options, Chance(options.seed)).run()


@pytest.mark.parametrize("name", sorted(LOADS))
def test_every_invariant_holds_in_every_kind_of_world(name: str) -> None:
    done = play(Options.drawn(1, [name]))
    assert not done.wrong, (done.options.words(), done.wrong)
    assert done.transitions and done.faults


@pytest.mark.parametrize("what", sorted(ONCE))
def test_it_holds_where_it_did_not_once(what: str) -> None:
    done = play(ONCE[what])
    assert not done.wrong, (what, done.wrong)


def test_a_seed_is_a_world() -> None:
    options = Options.drawn(3, sorted(LOADS))
    first, second = play(options), play(options)
    assert (first.trace, first.transitions, first.tape) == (second.trace, second.transitions, second.tape)
