"""Racing owners: no run is wrong while every rule is kept, and a broken rule shows. The long form is a command."""

from __future__ import annotations

import pytest

from contrapas.testing.races_broken import BROKEN, hunt, run

QUICK = ("offsets", "dispatch", "read back", "tie", "epoch", "old epoch", "tombstone")


def test_owners_that_keep_the_rules_may_race_as_they_like() -> None:
    seed, wrong, seen = run(50_000, 120)
    assert seed < 0, f"python -m contrapas.testing.races_broken --runs 1 --first {seed}: {wrong}"
    assert (
        min(seen[what] for what in ("commits", "fenced", "losers", "heals", "checkpoints", "late batches"))
        > 30
    )


@pytest.mark.parametrize("name", QUICK)
def test_a_rule_that_is_broken_shows(name: str) -> None:
    needed, wrong = hunt(name, within=200)
    assert needed, f"{BROKEN[name].what} survives"
    assert wrong
