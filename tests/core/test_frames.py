"""Called sagas: frames of the same instance (X4), exceptions through them, recursion."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from contrapas.author.op import Op, UndoRef
from contrapas.errors import StepFailed
from contrapas.machine import AWAIT, DONE, Machine, Slot, State
from tests.core import shop
from tests.core.lines import Await, machine, undo_of
from tests.core.shop import (
    REGISTRY,
    CardCharged,
    CardDeclined,
    CardRefunded,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    OutOfStock,
    RefundCard,
    ShipOrder,
    StockReleased,
)
from tests.core.stage import Stage

K = "o-9"


def call(name: str, *args: Any, **kwargs: Any) -> Op[Any]:
    return Op("frame", name, (args, kwargs))


PAY = machine(
    "pay",
    [
        Await(
            label="ChargeCard",
            op=lambda e, s: s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K)),
            into="ok",
        )
    ],
    REGISTRY,
    slots={"order": OrderPlaced, "ok": CardCharged},
    result=lambda e, s: e["ok"],
    result_type=CardCharged,
    graph="p1",
)


def caller(*more: Await, catch: tuple[type[BaseException], ...] = (), **options: Any) -> Machine:
    return machine(
        "place_order",
        [
            Await(
                label="pay",
                kind="frame",
                op=lambda e, s: call("pay", e["order"]),
                into="got",
                catch=catch,
                handler=1,
            ),
            *more,
        ],
        REGISTRY,
        slots={"order": OrderPlaced, "got": Any, "why": Any},
        result=lambda e, s: OrderConfirmed(
            order_id=K,
            note=e["got"].charge_id if "got" in e else type(e["why"]).__name__ + ":" + str(e["why"]),
        ),
        **options,
    )


def note(stage: Stage) -> str:
    return str(json.loads(stage.record.outcome_body)["note"])


def test_a_called_saga_is_a_frame_with_states_and_fingerprint_of_its_own() -> None:
    """X4."""
    stage = Stage(caller(), PAY)
    stage.start()
    assert [(f.saga, f.graph, f.label) for f in stage.record.root.frames] == [
        ("place_order", "g1", "pay"),
        ("pay", "p1", "ChargeCard"),
    ]
    assert stage.record.state == "ChargeCard"
    stage.reply(CardCharged(order_id=K, charge_id="ch-1"))
    assert stage.status == "done" and note(stage) == "ch-1"


def test_a_called_saga_shares_its_callers_undo_stack() -> None:
    """X4."""
    stage = Stage(
        caller(Await(label="ShipOrder", op=lambda e, s: s.step(ShipOrder(order_id=K), undo=None))), PAY
    )
    stage.start()
    stage.reply(CardCharged(order_id=K, charge_id="ch-1"))
    assert [e.label for e in stage.record.root.undo] == ["ChargeCard"]
    stage.reply(OutOfStock(order_id=K))
    assert stage.labels() == ["undo(ChargeCard)"]


def test_a_failure_goes_through_the_frame_to_the_callers_handler() -> None:
    """X4, case 60."""
    stage = Stage(caller(catch=(StepFailed,)), PAY)
    stage.start()
    stage.reply(CardDeclined(order_id=K, reason="limit"))
    assert stage.status == "done" and note(stage) == "StepFailed:ChargeCard: limit"


@pytest.mark.case(61, "wrong argument count")
def test_wrong_arguments_raise_type_error_at_the_call() -> None:
    """X4, case 61."""
    saga = machine(
        "place_order",
        [Await(label="pay", kind="frame", op=lambda e, s: call("pay"), catch=(TypeError,), handler=1)],
        REGISTRY,
        slots={"order": OrderPlaced, "why": Any},
        result=lambda e, s: OrderConfirmed(order_id=K, note=str(e["why"])),
    )
    stage = Stage(saga, PAY)
    stage.start()
    assert stage.status == "done" and note(stage).startswith("pay()")


@pytest.mark.case(59, "recursion depth 3")
def test_a_saga_may_call_itself() -> None:
    """X4, case 59: depth 3."""

    def down(pc: int, value: Any, thrown: Any, given: Any, s: Any) -> tuple[Any, ...]:
        env = dict(given)
        if thrown is not None:
            raise thrown
        if pc == 0 and env["n"] > 0:
            return (AWAIT, 1, call("down", env["n"] - 1), env)
        if pc == 0:
            return (AWAIT, 2, shop.price(K), env)
        return (DONE, value + env["n"])

    codec = REGISTRY.codec(int)
    slot = Slot(name="n", codec=codec, frozen=True)
    states = {
        label: State(label=label, kind=kind, index=i, operation=label, slots=("n",), touches=frozenset({"n"}))
        for i, (label, kind) in enumerate([("down", "frame"), ("price", "local")], 1)
    }
    recursive = Machine(
        name="down", graph="d", params=(slot,), slots={"n": slot}, states=states, result=codec, function=down
    )
    root = machine(
        "place_order",
        [Await(label="down", kind="frame", op=lambda e, s: call("down", 3), into="n")],
        REGISTRY,
        slots={"order": OrderPlaced, "n": int},
        result=lambda e, s: OrderConfirmed(order_id=K, note=str(e["n"])),
    )
    stage = Stage(root, recursive)
    stage.start()
    assert [f.label for f in stage.record.root.frames] == ["down", "down", "down", "down", "price"]
    stage.result(10)
    assert stage.status == "done" and note(stage) == "16"


def test_a_called_saga_sees_the_exception_its_caller_is_handling() -> None:
    """X4, case 23: also after the record went to bytes and back."""
    seen: list[str] = []

    def peek(pc: int, value: Any, thrown: Any, given: Any, s: Any) -> tuple[Any, ...]:
        seen.append(repr(sys.exc_info()[1]))
        if pc == 0:
            return (AWAIT, 1, shop.price(K), dict(given))
        raise ValueError("inside")

    inner = Machine(
        name="peek",
        graph="k",
        params=(),
        states={"price": State(label="price", kind="local", index=1, operation="price")},
        function=peek,
    )
    root = machine(
        "place_order",
        [
            Await(
                label="ChargeCard",
                op=lambda e, s: s.step(ChargeCard(order_id=K)),
                catch=(StepFailed,),
                handler=1,
            ),
            Await(
                label="peek",
                kind="frame",
                op=lambda e, s: call("peek"),
                handling=("why",),
                catch=(ValueError,),
                handler=2,
            ),
        ],
        REGISTRY,
        slots={"order": OrderPlaced, "why": Any},
        result=lambda e, s: OrderConfirmed(order_id=K, note=f"{e['why']!r} after {e['why'].__context__!r}"),
    )
    stage = Stage(root, inner)
    stage.start()
    stage.reply(CardDeclined(order_id=K, reason="limit"))
    stage.result(1)
    assert set(seen) == {"StepFailed('limit')"} and len(seen) >= 2
    assert stage.status == "done" and note(stage) == "ValueError('inside') after StepFailed('limit')"


def test_a_called_saga_can_be_taken_back_as_a_whole() -> None:
    """Section 2: `s.step(op, ...)` gives its options to any operation."""
    whole = undo_of("pay", lambda env, ok, s: RefundCard(order_id=K, charge_id=ok.charge_id))

    def op(env: Any, s: Any) -> Op[Any]:
        made = call("pay", env["order"])
        made.undo = UndoRef("undo(pay)", {})
        return made

    bare = machine(
        "pay",
        [Await(label="ChargeCard", op=lambda e, s: s.step(ChargeCard(order_id=K), undo=None), into="ok")],
        REGISTRY,
        slots={"order": OrderPlaced, "ok": CardCharged},
        result=lambda e, s: e["ok"],
        result_type=CardCharged,
    )
    root = machine(
        "place_order",
        [
            Await(label="pay", kind="frame", op=op),
            Await(label="ShipOrder", op=lambda e, s: s.step(ShipOrder(order_id=K), undo=None)),
        ],
        REGISTRY,
        slots={"order": OrderPlaced},
        undos={"undo(pay)": whole},
    )
    stage = Stage(root, bare)
    stage.start()
    stage.reply(CardCharged(order_id=K, charge_id="ch-5"))
    assert stage.undo("pay").status == "done"
    stage.reply(OutOfStock(order_id=K))
    assert b"ch-5" in stage.took("RefundCard")[0].value
    stage.reply(CardRefunded(order_id=K))
    assert stage.status == "compensated"
    assert StockReleased is not None
