"""Simulated worlds: what holds in each, that a seed is a world, and worlds in which something was wrong once."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import uuid
from dataclasses import replace
from typing import Any

import pytest

from contrapas.testing.simulation import CALM, Chance, Options, Outcome, Play
from contrapas.testing.simulation.command import hunt
from contrapas.testing.simulation.floors import figures
from contrapas.testing.simulation.guard import Leak, guarded
from contrapas.testing.simulation.planted import BUGS, NOT_PLANTED
from contrapas.testing.simulation.rows import ROWS, come_to
from contrapas.testing.simulation.shrink import shrink
from tests.simulation.everywhere import told_everywhere
from tests.simulation.loads import HOT, LOADS

QUICK = (
    "M-01", "M-04", "M-06", "M-09", "M-13", "M-15.gap", "M-16", "M-34", "M-50", "M-51", "M-52", "M-56", "M-58", "M-65",
    "M-70",
)  # fmt: skip
"""Planted bugs that are found within seconds; the others by `python -m tests.simulation --planted`."""
MENDED = ("R-01", "R-03")
"""Defects that a world once had, planted again: what found them is still there. The others as above."""


def play(options: Options) -> Outcome:
    return Play(LOADS[options.load], options, Chance(options.seed)).run()


@pytest.mark.parametrize("name", sorted(LOADS))
def test_every_invariant_holds_in_every_kind_of_world(name: str) -> None:
    done = play(Options.drawn(1, [name]).but({"instances": 60}))
    assert not done.wrong, (done.options.words(), done.wrong)
    assert done.transitions and done.faults


def test_a_seed_is_a_world_on_every_hash_seed() -> None:
    """The same trace in processes that hash text differently, and in other Pythons (`CONTRAPAS_PYTHONS`)."""
    code = (
        "from tests.simulation.loads import HOT, LOADS\n"
        "from contrapas.testing.simulation.command import play_seed\n"
        "for load in ('order', 'bank', 'travel', 'entity'):\n"
        "    done = play_seed(LOADS, 11, load=load); print(done.trace, done.transitions, done.wrong)"
    )
    told = told_everywhere(code)
    assert len(told) == 1 and "I-" not in told.pop()


@pytest.mark.parametrize("place", [(time, "time"), (random, "random"), (uuid, "uuid4"), (os, "urandom")])
def test_what_is_real_raises_in_a_simulated_world(place: tuple[Any, str]) -> None:
    where, name = place
    with guarded(), pytest.raises(Leak, match="seed"):
        getattr(where, name)(*([1] if name == "urandom" else []))
    assert getattr(where, name)(*([1] if name == "urandom" else []))


def test_sockets_and_threads_raise_too() -> None:
    with guarded():
        with pytest.raises(Leak):
            threading.Thread(target=print).start()
        with pytest.raises(Leak):
            socket.create_connection(("127.0.0.1", 1))


def test_a_failing_world_is_made_small_and_can_be_repeated() -> None:
    """Planted: the owner's cursor leads its commits. Few faults and few instances are left of it."""
    bug = BUGS["M-16"]

    def again(options: Options, keep: frozenset[int] | None) -> Outcome:
        with bug.planted():
            return Play(LOADS[options.load], options, Chance(options.seed, keep)).run()

    failed = next(f for seed in range(50) if (f := again(Options.drawn(seed, ["bank"]), None)).wrong)
    options, keep, small = shrink(failed, again, seconds=20)
    assert small.wrong.startswith("I-06") and small.events
    assert options.instances <= failed.options.instances and len(keep) <= len(failed.tape)
    assert again(options, keep).trace == small.trace


@pytest.mark.parametrize("name", [*QUICK, *MENDED])
def test_a_planted_bug_is_found_within_its_seeds(name: str) -> None:
    number, wrong = hunt(LOADS, BUGS[name])
    assert number, f"{BUGS[name].what} survives {BUGS[name].seeds} seeds"
    assert wrong


def test_there_are_never_fewer_than_forty_planted_bugs_and_the_others_have_a_reason() -> None:
    assert len(BUGS) >= 40
    assert not set(BUGS) & set(NOT_PLANTED)
    assert set(QUICK) | set(MENDED) <= set(BUGS)
    planted = {
        n.partition(".")[0] for n in {*BUGS, *NOT_PLANTED}
    }  # some rules can be broken in more ways than one
    assert {f"M-{n:02}" for n in range(1, 73)} == {n for n in planted if n.startswith("M-")}


def test_a_million_transitions_have_floors_and_a_run_below_them_says_so() -> None:
    found = {what: good for what, _, _, good in figures({"crash": 1_000}, 100_000)}
    assert found["worker crashes"] and not found["all faults"]
    assert all(good for *_, good in figures({}, 1_000)), "a short run proves nothing, and is not judged"


def test_every_row_of_the_crash_table_is_counted_by_name() -> None:
    assert sorted(ROWS) == list(range(1, 25))
    found = come_to({"crash: commit.before": 2, "unknown commit": 5}, {"careful mode": 1})
    assert found[1] == 2 and found[2] == 5 and found[23] == 1 and not found[3]


@pytest.mark.parametrize("fence", ["refuse", "order"])
def test_a_busy_entity_hears_each_call_once(fence: str) -> None:
    """What a takeover sends again is older than the 64 ids that a busy entity remembers."""
    drawn = Options.drawn(7, ["hot"], fence=fence).but({"instances": 400, "workers": 4, "partitions": 4})
    done = Play(HOT, replace(drawn, rates=replace(CALM, crash=0.05)), Chance(7)).run()  # nothing but crashes
    assert not done.wrong, done.wrong
    assert done.sometimes["messages published again at takeover"]


def test_what_a_destination_refused_once_is_heard_once_however_late_it_is_sent_again() -> None:
    """A takeover sent it and a retry once more, judged by an id that its reader had forgotten in between."""
    rates = {"refuses": 0.02, "crash": 0.04}
    for seed in (15, 25):
        done = play(Options.drawn(seed, ["till"]).but({}, rates))
        assert not done.wrong, (done.options.words(), done.wrong)
