"""The order of a partition as its fence: verdicts over a claim that was read back and over the offsets of a commit."""

from __future__ import annotations

import pytest

from contrapas.core.control import decode_control, new_control
from contrapas.core.lane import Control, Known, Record
from contrapas.errors import Fenced, Indeterminate
from contrapas.log import order


def rec(offset: int, epoch: int | None, key: bytes = b"k", value: bytes | None = b"v") -> Record:
    headers = () if epoch is None else (("cp-epoch", b"%d" % epoch),)
    return Record(0, offset, key, value, headers, 0)


def stored(offset: int, control: Control, *, claim: bool = False) -> Record:
    draft = order.claim_draft(0, control, b"n%d" % offset) if claim else order.control_draft(0, control)
    return Record(0, offset, draft.key, draft.value, draft.headers, 0)


def test_a_claim_is_above_every_epoch_seen_and_never_below_the_end() -> None:
    seen = order.Seen()
    assert order.claim_of(seen, "a", end=0, partitions=4).epoch == 1
    seen.take(rec(5, 40))
    assert order.claim_of(seen, "a", end=6, partitions=4).epoch == 41
    claim = order.claim_of(seen, "a", end=90, partitions=4)
    assert (claim.epoch, claim.owner, claim.partitions, claim.takeovers) == (90, "a", 4, 0)


def test_a_claim_counts_a_takeover_unless_the_owner_before_had_released() -> None:
    held = order.claim_of(order.Seen(), "a", end=0, partitions=4)
    seen = order.Seen()
    seen.take(stored(0, held, claim=True))
    assert order.claim_of(seen, "b", end=1, partitions=4).takeovers == 1
    seen.take(stored(1, order.released(held)))
    assert order.claim_of(seen, "b", end=2, partitions=4).takeovers == 0


def test_control_records_of_a_lower_epoch_say_nothing_and_cursors_never_move_back() -> None:
    one = new_control(4)._replace(epoch=7, owner="a", cursor={("in", 0): 9})
    seen = order.Seen(Known(3, 7, one))
    assert seen.upto == 3
    seen.take(stored(3, one._replace(epoch=6, owner="old", cursor={("in", 0): 50})))
    assert seen.control is one and seen.upto == 4
    seen.take(stored(4, one._replace(epoch=8, owner="b", cursor={("in", 0): 4}), claim=True))
    assert seen.epoch == 8 and seen.control is not None
    assert seen.control.owner == "b" and seen.control.cursor == {("in", 0): 9}
    mine = order.claim_of(order.Seen(), "c", end=20, partitions=4)
    assert order.owned(seen, mine).cursor == {("in", 0): 9} and order.owned(seen, mine).epoch == 20


@pytest.mark.parametrize(
    ("between", "error"),
    [
        ([rec(10, 4), rec(11, None)], None),
        ([rec(10, 4), rec(11, 9)], Fenced),
        ([rec(10, 4), rec(11, 30)], Fenced),
        ([rec(10, 4)], Indeterminate),
        ([], Indeterminate),
        ([rec(11, 9)], Fenced),
        ([rec(9, 99), rec(10, 4), rec(11, 4), rec(12, 99)], None),
    ],
)
def test_a_claim_read_back(between: list[Record], error: type[Exception] | None) -> None:
    if error is None:
        order.read_back(9, 10, 12, between)
        return
    with pytest.raises(error):
        order.read_back(9, 10, 12, between)


def test_a_commit_follows_or_has_a_gap_or_is_unclear() -> None:
    assert order.follows(5, [5, 6, 7])
    assert not order.follows(5, [6, 7, 8])
    assert not order.follows(5, [5, 7, 8])
    for offsets in ([-1, 6], [5, -1001], [5, 5], [6, 5], [4, 5]):
        with pytest.raises(Indeterminate):
            order.follows(5, offsets)


def test_what_others_wrote_in_a_gap_is_judged_by_its_epoch() -> None:
    claim = order.claim_of(order.Seen(), "late", end=7, partitions=1)
    found = [rec(5, 3), rec(6, 7, b"ours"), stored(7, claim, claim=True), rec(8, None, b"junk"), rec(9, 7)]
    losers = order.strangers(7, 5, 10, {6, 9}, found)
    assert [r.offset for r in losers] == [5, 8]
    foreign = order.strangers(7, 5, 10, {6}, found)
    assert [r.offset for r in foreign] == [5, 8, 9], "under our own epoch: the fold stops at it"
    with pytest.raises(Fenced) as fenced:
        order.strangers(6, 5, 10, {6}, found)
    assert (fenced.value.mine, fenced.value.theirs) == (6, 7)
    with pytest.raises(Indeterminate):
        order.strangers(7, 5, 11, {6, 9}, found)
    assert order.strangers(7, 5, 7, {5, 6}, []) == ()


def test_a_commit_s_control_record_keeps_epoch_owner_and_count_of_the_lease() -> None:
    held = order.claim_of(order.Seen(), "a", end=9, partitions=4)._replace(cursor={("in", 0): 5}, horizon=3)
    said = new_control(1)._replace(owner="x", cursor={("in", 0): 2, ("t", 1): 1}, relayed=7)
    next_one = order.committing(held, said)
    assert next_one == held._replace(
        serial=held.serial + 1, relayed=7, cursor={("in", 0): 5, ("t", 1): 1}, horizon=3
    )
    assert decode_control(order.control_draft(0, next_one).value or b"") == next_one
