"""A join of a thousand: what one branch's end costs does not grow with the branches that wait or have ended."""

from __future__ import annotations

import sys
from typing import Any

from contrapas.author.op import Op
from contrapas.core.envelope import Cause, InstanceRecord
from contrapas.core.envelope_avro import decode, encode
from contrapas.core.headers import headers_of
from contrapas.core.transition import transition
from contrapas.core.world import Input
from tests.core import shop
from tests.core.general import written_in_general
from tests.core.lines import Await, machine
from tests.core.shop import REGISTRY, OrderPlaced
from tests.core.stage import Stage


def fan(branches: int) -> Stage:
    """A saga that waits for so many local steps at once, and went on as a worker does: from memory."""

    def op(env: Any, s: Any) -> Op[Any]:
        made: Op[Any] = s.all(*[shop.price(f"sku-{n}") for n in range(branches)])
        return made

    first = Await(label="join", kind="all", op=op, into="got")
    stage = Stage(machine("place_order", [first], REGISTRY, slots={"order": OrderPlaced, "got": Any}))
    stage.start()
    return stage


def ended(stage: Stage, record: InstanceRecord, position: int) -> tuple[InstanceRecord, int]:
    """The record after one more branch, and how many of our functions were called on the way to its bytes."""
    pending = next(p for p in record.operations() if p.key.endswith(f"[{position}]/1"))
    cause = Cause(kind="result", type=pending.name, source="local", id=pending.key)
    event = Input(cause=cause, instance=stage.instance, at=stage.now, epoch=1, writer="w")
    event.in_reply_to, event.body = pending.key, "7"
    calls = 0

    def count(frame: Any, what: str, arg: Any) -> None:
        nonlocal calls
        calls += what == "call"

    sys.setprofile(count)
    try:
        change = transition(record, event, stage.world)
        assert change.record is not None
        value = change.value or encode(change.record)
        headers_of(change.record, value)
    finally:
        sys.setprofile(None)
    return change.record, calls


def cost(branches: int) -> int:
    """Calls for the end of a branch in the middle, half of the others being through."""
    stage = fan(branches)
    assert stage.warm is not None
    record = stage.warm
    calls = 0
    for position in range(branches // 2):
        record, calls = ended(stage, record, position)
    value = encode(record)
    assert value == written_in_general(record) and decode(value) == record
    return calls


def test_the_end_of_a_branch_costs_the_same_beside_forty_others_and_beside_four_hundred() -> None:
    few, many = cost(40), cost(400)
    assert many <= few + 5, f"{few} calls beside 40 branches, {many} beside 400"


def test_a_record_that_a_later_one_shares_its_branches_with_stays_as_it_was() -> None:
    stage = fan(10)
    assert stage.warm is not None
    records = [stage.warm]
    values = [encode(stage.warm)]
    for position in (3, 9, 0, 5):
        records.append(ended(stage, records[-1], position)[0])
        values.append(encode(records[-1]))
    assert [written_in_general(r) for r in records] == values
