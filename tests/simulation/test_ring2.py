"""Ring 2: the runtime's own coroutines on a loop of ours, in virtual time, killed and stopped at every await."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contrapas.testing.simulation import CALM, Options
from contrapas.testing.simulation.command import drawn, hunt, play, play_seed
from contrapas.testing.simulation.planted_async import ASYNC_BUGS
from tests.simulation.everywhere import told_everywhere
from tests.simulation.loads import LOADS


@pytest.mark.parametrize("fence", ["refuse", "order"])
def test_a_worker_brings_a_saga_to_its_end_in_virtual_time(fence: str) -> None:
    drawn = Options.drawn(1, ["bank"], fence=fence).but({"instances": 1, "workers": 1})
    done = play(LOADS, replace(drawn, rates=CALM), ring=2)
    assert not done.wrong, done.wrong
    assert done.transitions >= 4 and done.seen["I-43"]


@pytest.mark.parametrize("name", sorted(LOADS))
def test_every_invariant_holds_in_every_kind_of_world(name: str) -> None:
    done = play(LOADS, Options.drawn(1, [name]).but({"instances": 20}), ring=2)
    assert not done.wrong, (done.options.words(), done.wrong)
    assert done.transitions and done.faults


def test_a_seed_is_a_world_on_every_hash_seed() -> None:
    """The same trace in processes that hash text differently, and in other Pythons (`CONTRAPAS_PYTHONS`)."""
    code = (
        "from tests.simulation.loads import LOADS\n"
        "from contrapas.testing.simulation.command import play_seed\n"
        "for seed, load in ((11, 'order'), (12, 'bank'), (13, 'observed')):\n"
        "    done = play_seed(LOADS, seed, load=load, ring=2); print(done.trace, done.transitions, done.wrong)"
    )
    told = told_everywhere(code)
    assert len(told) == 1 and "I-" not in told.pop()


@pytest.mark.parametrize("seed", range(3))
def test_worlds_by_chance(seed: int) -> None:
    done = play_seed(LOADS, seed, ring=2)
    assert not done.wrong, (done.options.words(), done.wrong)


@pytest.mark.parametrize(
    ("seed", "load", "rates"),
    [
        (11, "order", {}),  # who lets timers go was left over when its worker was
        (3, "", {"retriable": 0.1}),  # a further attempt ran though its step was answered in the same batch
        (2, "family", {"release": 0.05}),  # a stop before a worker's first step was forgotten
        (21, "stubborn", {"retriable": 0.1}),  # a question given up left a task behind
    ],
)
def test_worlds_in_which_something_was_wrong_once(seed: int, load: str, rates: dict[str, float]) -> None:
    options = drawn(seed, [load] if load else sorted(LOADS), 2).but({}, rates)
    done = play(LOADS, options, ring=2)
    assert not done.wrong, (options.words(), done.wrong)


@pytest.mark.parametrize("name", ["A-01", "A-03", "A-04", "A-09", "A-10", "A-12", "A-16"])
def test_a_planted_bug_is_found_within_its_seeds(name: str) -> None:
    """The others: `python -m tests.simulation --ring 2 --planted`."""
    number, wrong = hunt(LOADS, ASYNC_BUGS[name])
    assert number and wrong, f"{ASYNC_BUGS[name].what} survives {ASYNC_BUGS[name].seeds} seeds"
