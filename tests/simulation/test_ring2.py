"""Ring 2: the runtime's own coroutines on a loop of ours, in virtual time, killed and stopped at every await."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from contrapas.testing.simulation import CALM, Options
from contrapas.testing.simulation.command import play, play_seed
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
    told: set[str] = set()
    others = [p for p in os.environ.get("CONTRAPAS_PYTHONS", "").split(os.pathsep) if p]
    for seed, python in (("1", sys.executable), *(("2", p) for p in [sys.executable, *others])):
        found = subprocess.run(
            [python, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(found.stdout)
    assert len(told) == 1 and "I-" not in told.pop()


@pytest.mark.parametrize("seed", range(3))
def test_worlds_by_chance(seed: int) -> None:
    done = play_seed(LOADS, seed, ring=2)
    assert not done.wrong, (done.options.words(), done.wrong)
