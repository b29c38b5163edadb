"""Racing owners: no run is wrong while every rule is kept, and a broken rule shows. The long form is a command."""

from __future__ import annotations

import pytest

from contrapas.core.control import new_control
from contrapas.core.fold import Fold, Verdict
from contrapas.core.lane import Draft, Known, Record
from contrapas.log import order
from contrapas.testing.races_broken import BROKEN, hunt, run

RARE = frozenset({"floor", "checkpoint"})
"""Need hundreds of runs: the command hunts them."""


def test_owners_that_keep_the_rules_may_race_as_they_like() -> None:
    seed, wrong, seen = run(50_000, 200)
    assert seed < 0, f"python -m contrapas.testing.races_broken --runs 1 --first {seed}: {wrong}"
    often = (
        "commits",
        "fenced",
        "losers",
        "heals",
        "checkpoints",
        "late batches",
        "prefixes",
        "records removed",
    )
    assert min(seen[what] for what in (*often, "equal claims", "strangers", "stops")) > 20


@pytest.mark.parametrize("seed", [292, 10_065, 11_346])
def test_a_heal_is_owed_though_a_later_record_of_a_lower_version_lies_on_the_loser(seed: int) -> None:
    """Seeds that once were wrong: only the newest records are read in a restore, and the loser was not among them."""
    assert run(seed, 1)[0] < 0


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - RARE))
def test_a_rule_that_is_broken_shows(name: str) -> None:
    needed, wrong = hunt(name, within=200)
    assert needed, f"{BROKEN[name].what} survives"
    assert wrong


def at(offset: int, draft: Draft) -> Record:
    return Record(0, offset, draft.key, draft.value, draft.headers, 1)


def test_no_epoch_is_given_twice_though_an_operator_emptied_the_lane() -> None:
    """The one rule that no race breaks: as long as the lane holds its last claim, highest seen and end say the same. What
    it is for: `delete_records` up to the end, and a former owner's request still on the way."""
    former = order.claim_of(order.Seen(), "former", end=40, partitions=1)
    late = order.control_draft(0, order.committing(former, former))
    next_owner = order.claim_of(order.Seen(Known(60, 0, None)), "next", end=60, partitions=1)
    judge = Fold()
    assert judge.judge(at(60, order.claim_draft(0, next_owner, b"n"))) is Verdict.CONTROL
    assert judge.judge(at(61, late)) is Verdict.VOID
    begun_anew = Fold()  # without the end in it, the next epoch would be 1
    begun_anew.judge(at(60, order.claim_draft(0, new_control(1)._replace(epoch=1, owner="next"), b"n")))
    assert begun_anew.judge(at(61, late)) is Verdict.CONTROL, "and the former owner would rule again"


def test_an_old_version_below_the_floor_is_not_taken_though_nothing_is_left_that_makes_it_void() -> None:
    """A rule that no race breaks either: heals come before the cleaner. What it is for: where they did not."""
    judge = Fold(floor=10)
    said = {"cp-kind": b"instance", "cp-epoch": b"5"}

    def record(offset: int, version: int) -> Record:
        return Record(0, offset, b"s/k", b"v", (*said.items(), ("cp-version", b"%d" % version)), 1)

    assert judge.judge(record(3, 7)) is Verdict.APPLIED
    assert judge.judge(record(6, 6)) is Verdict.STALE
    assert judge.known == {b"s/k": 7} and judge.stale == 1


def test_a_heal_stands_above_both_so_that_a_reader_from_the_middle_takes_it() -> None:
    """Whoever read the lane from its beginning knows that the loser is void. Whoever begins behind the claim does not, until
    the heal comes: one below the loser's version would pass for something old."""

    def record(offset: int, epoch: int, version: int, cause: bytes) -> Record:
        headers = {"cp-epoch": b"%d" % epoch, "cp-version": b"%d" % version, "cp-cause": cause}
        return Record(0, offset, b"s/k", b"v", tuple(headers.items()), 1)

    for version, verdict in ((9, Verdict.APPLIED), (4, Verdict.STALE)):
        judge = Fold(floor=20)
        assert judge.judge(record(11, 5, 8, b"")) is Verdict.APPLIED, (
            "the loser: the claim of epoch 10 is at 10"
        )
        assert judge.judge(record(12, 10, version, b"heal")) is verdict
