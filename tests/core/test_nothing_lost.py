"""Corners where an input, an undo or a wait could be lost without a word: a second mistake, a repeat, a large header."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from contrapas.core import rendezvous as rv
from contrapas.core.decode import Doors, Rejected, decode
from contrapas.core.envelope import Cause
from contrapas.core.envelope_avro import encode
from contrapas.core.lane import Headers, Record
from contrapas.core.outcomes import dump_body
from contrapas.core.partition import partition
from contrapas.core.rendezvous import Rendezvous
from contrapas.core.size import LIMIT
from contrapas.machine import Machine
from tests.core import shop
from tests.core.lines import Await, Env, machine
from tests.core.shop import (
    REGISTRY,
    Approved,
    CardCharged,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    RefundCard,
)
from tests.core.stage import Stage
from tests.runtime.machines import world_of

K = "o-9"
CHARGED = CardCharged(order_id=K, charge_id="ch-1")
CHARGE = Await(
    label="ChargeCard", op=lambda e, s: s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K))
)
DOORS = Doors(types=world_of().types, partitions=8)


class Fault:
    """Code that fails until it is repaired."""

    def __init__(self) -> None:
        self.why: BaseException | None = None

    def __call__(self, env: Any, s: Any) -> Any:
        if self.why is not None:
            raise type(self.why)(*self.why.args)
        return shop.price(K)


def order(*awaits: Await, **more: Any) -> Machine:
    result: Callable[[Env, Any], Any] = lambda e, s: OrderConfirmed(order_id=K)
    slots: dict[str, Any] = {"order": OrderPlaced, "got": Any, "why": Any}
    return machine("place_order", list(awaits), REGISTRY, slots=slots, result=result, **more)


def wait(**options: Any) -> Await:
    return Await(label="wait", kind="wait", op=lambda e, s: s.wait(Approved, **options), into="got")


def bound(stage: Stage, wait_id: str, outcome: str) -> None:
    stage.feed(stage._input("bound", type="Approved", wait_id=wait_id, outcome=outcome))  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_a_retry_that_fails_again_keeps_the_parked_input(verb: str) -> None:
    fault = Fault()
    fault.why = KeyError("sku")
    stage = Stage(order(CHARGE, Await(label="price", kind="local", op=fault)))
    stage.start()
    stage.reply(CHARGED)
    stage.operate("retry")
    stage.operate("retry")
    parked = stage.record.parked
    assert parked is not None and parked.input is not None and parked.input.type == "CardCharged"
    fault.why = None
    stage.operate("retry")
    assert stage.status == "running" and stage.undo("ChargeCard").status == "done"


def test_a_kept_event_that_cannot_be_applied_parks_as_the_input_and_the_others_stay() -> None:
    fault = Fault()
    fault.why = KeyError("sku")
    saga = order(wait(), Await(label="price", kind="local", op=fault))
    stage = Stage(saga)
    stage.start()
    stage.operate("pause")
    stage.event(Approved(order_id=K, by="ann"))
    stage.event(Approved(order_id=K, by="bob"))
    stage.operate("resume")
    record = stage.record
    assert record.parked is not None and record.parked.input is not None
    assert b"ann" in record.parked.input.value and len(record.kept) == 1
    stage.operate("skip", "ann has left")
    assert stage.status == "parked" and stage.record.kept == []
    fault.why = None
    stage.operate("retry")
    assert stage.status == "running"


def test_killing_an_instance_with_an_exhausted_undo_tries_that_undo_under_its_own_key() -> None:
    stage = Stage(
        order(CHARGE, Await(label="ReserveStock", op=lambda e, s: s.step(ChargeCard(order_id=K), undo=None)))
    )
    stage.start()
    stage.reply(CHARGED)
    stage.operate("cancel")
    key = stage.pending("undo(ChargeCard)").key
    while stage.status != "parked":
        stage.gave_up("undo(ChargeCard)")
        stage.later(3_600_000)
    stage.operate("kill")
    assert stage.pending("undo(ChargeCard)").key == key and stage.sent[-1].id == key
    stage.reply(shop.CardRefunded(order_id=K), "undo(ChargeCard)")
    assert stage.status in ("compensated", "failed") and not stage.record.root.undo


def test_retrying_a_refused_wait_asks_its_rendezvous_again() -> None:
    stage = Stage(order(wait(correlate="ticket-3")))
    stage.start()
    bound(stage, stage.pending().wait_id, "refused")
    assert stage.status == "parked"
    stage.operate("retry")
    assert stage.status == "waiting" and [b.kind for b in stage.record.binds] == ["bind"]
    assert json.loads(stage.record.out[-1].value)["wait_id"] == stage.pending().wait_id


def test_a_step_cancelled_between_two_attempts_sends_no_late_result_and_parks_at_once() -> None:
    """CP709: who waits for a reply that cannot come waits for nothing."""
    stage = Stage(order(Await(label="take_seat", kind="local", op=lambda e, s: shop.take_seat(K))))
    stage.start()
    stage.fails(ValueError("busy"))
    assert stage.status == "retrying"
    stage.operate("cancel")
    parked = stage.record.parked
    assert parked is not None and parked.code == "CP709"


def test_a_resumed_instance_has_its_pending_step_issued_again() -> None:
    """The worker that ran it may be gone; one that still runs it adopts its own copy."""
    stage = Stage(order(Await(label="price", kind="local", op=lambda e, s: shop.price(K)), CHARGE))
    stage.start()
    (call,) = stage.calls
    stage.operate("pause")
    stage.operate("resume")
    assert [c.key for c in stage.last.steps] == [call.key]


def test_the_result_of_a_step_finds_room_in_a_held_instance_that_is_full() -> None:
    stage = Stage(order(Await(label="price", kind="local", op=lambda e, s: shop.price(K)), wait()))
    stage.start()
    stage.operate("pause")
    for _ in range(100):
        assert stage.event(Approved(order_id=K)).verdict == "kept"
    assert stage.result(7).verdict == "kept"
    stage.operate("resume")
    assert stage.record.root.pending is None or stage.record.root.pending.label != "price"


def test_headers_count_in_what_an_instance_keeps() -> None:
    stage = Stage(order(CHARGE, wait(), later={"ChargeCard": frozenset({"Approved"})}))
    stage.start()
    verdicts: set[str] = set()
    for _ in range(40):
        event = stage._input(  # pyright: ignore[reportPrivateUsage]
            "event",
            type="Approved",
            body=Approved(order_id=K),
            data=dump_body(Approved(order_id=K)).encode(),
        )
        event.cause.headers = (*event.cause.headers, ("note", b"x" * 60_000))
        verdicts.add(stage.feed(event).verdict)
    assert verdicts == {"kept", "dead"}
    assert len(encode(stage.record)) < LIMIT


def test_headers_count_in_what_a_rendezvous_keeps() -> None:
    r = Rendezvous(type="Go", value="v")
    verdicts: list[str] = []
    for n in range(10):
        cause = Cause(
            kind="event", type="Go", source="in", id=str(n), offset=n, headers=(("note", b"x" * 60_000),)
        )
        verdicts.append(rv.event_arrives(r, cause, identity=f"/x\0{n}", position="in/0", at=0).verdict)
    assert verdicts[0] == "parked" and verdicts[-1] == "dead"


def test_an_old_acknowledgement_does_not_take_the_next_event_with_it() -> None:
    """A takeover sends `bind` and `delivered` of a wait again that is over; meanwhile another event has come."""
    r = Rendezvous(type="Go", value="v")

    def event(n: int) -> str:
        cause = Cause(kind="event", type="Go", source="in", id=str(n), offset=n, value=b"{}")
        rv.event_arrives(r, cause, identity=f"/x\0{n}", position="in/0", at=0)
        return r.early[-1].id

    rv.bind(r, wait_id="w1", instance="s/a", at=0)
    first = event(1)
    rv.delivered(r, wait_id="w1", outcome="applied", event=first, at=0)
    second = event(2)
    rv.bind(r, wait_id="w1", instance="s/a", at=0)
    rv.delivered(r, wait_id="w1", outcome="applied", event=first, at=0)
    assert [e.id for e in rv.waiting(r)] == [second] and not r.binds


def test_an_early_event_that_a_start_collected_is_known_when_it_comes_again() -> None:
    stage = Stage(order(CHARGE, wait(), later={"START": frozenset({"Approved"})}))
    body = dump_body(Approved(order_id=K)).encode()
    digest = rv.digest_of("/x", "a-1", body)
    early = Cause(kind="event", type="Approved", id=digest.hex(), value=body)
    stage.start(early=(early,), early_digests=(digest,))
    assert digest in stage.record.seen


@pytest.mark.parametrize("kind", ["operate", "bind", "unbind", "bound", "delivered"])
@pytest.mark.parametrize(
    "value",
    [
        b"[]",
        b"1",
        b"{}",
        b'{"type":1,"verb":[],"wait_id":{},"outcome":null,"instance":"x"}',
        b'{"type":"Go","wait_id":"w","instance":"no-key","outcome":"ok"}',
        b'{"type":"Nobody","wait_id":"w","instance":"s/a","outcome":"ok"}',
        b'{"type":"Go","wait_id":"' + b"w" * 5_000 + b'","instance":"s/a","outcome":"ok"}',
    ],
)
def test_our_own_messages_with_another_body_are_refused_at_the_door(kind: str, value: bytes) -> None:
    headers: Headers = (("cp-kind", kind.encode()), ("ce_id", b"1"), ("cp-to", b"seq/a"))
    found = decode(Record(partition(b"a", 8), 5, b"a", value, headers, 0), DOORS)
    if isinstance(found, Rejected):
        assert found.code in ("CP402", "CP403", "CP413", "CP419")
    else:
        body: Any = found.body
        assert kind in ("operate", "bound") or (kind, body["type"]) == ("delivered", "Go")
