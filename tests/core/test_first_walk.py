"""The straight line: start, command, reply, local step, result, outcome."""

from __future__ import annotations

import hashlib

from contrapas.author.op import Op
from tests.core.lines import Await, machine
from tests.core.shop import (
    REGISTRY,
    CardCharged,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    price,
)
from tests.core.stage import Stage

ORDER = machine(
    "place_order",
    [
        Await(
            label="ChargeCard",
            op=lambda env, s: s.step(
                ChargeCard(order_id=env["order"].order_id, cents=env["order"].cents), undo=None
            ),
            into="ok",
        ),
        Await(label="price", kind="local", op=lambda env, s: price(env["order"].order_id), into="n"),
    ],
    REGISTRY,
    slots={"order": OrderPlaced, "ok": CardCharged, "n": int},
    result=lambda env, s: OrderConfirmed(
        order_id=env["order"].order_id, note=f"{env['ok'].charge_id} {env['n']}"
    ),
    outcomes=("OrderConfirmed",),
)


def test_a_saga_goes_from_start_to_its_outcome_over_a_command_and_a_local_step() -> None:
    stage = Stage(ORDER)
    stage.start()
    assert stage.status == "waiting" and stage.record.state == "ChargeCard"
    command = stage.took("ChargeCard")[0]
    headers = dict(command.headers)
    run = hashlib.sha256(b"in/0@1").hexdigest()[:8]
    assert command.id == f"place_order/o-9/{run}/ChargeCard/1" == headers["ce_id"].decode()
    assert (command.to, command.key, headers["cp-reply-to"]) == (
        "payments.commands",
        b"o-9",
        b"payments.events",
    )
    assert headers["ce_source"] == b"/contrapas/shop/place_order"
    assert (headers["cp-run"], headers["cp-attempt"], headers["cp-kind"]) == (run.encode(), b"1", b"command")
    assert headers["ce_time"] == b"1970-01-01T00:16:40.000Z"

    stage.reply(CardCharged(order_id="o-9", charge_id="ch-1"))
    assert stage.status == "running"
    assert [(c.step, c.attempt, c.key) for c in stage.calls] == [
        ("price", 1, f"place_order/o-9/{run}/price/2")
    ]

    stage.result(7)
    assert stage.status == "done"
    assert stage.record.outcome == "OrderConfirmed"
    outcome = stage.took("OrderConfirmed")[0]
    assert (outcome.to, outcome.id) == ("orders.events", f"place_order/o-9@{run}.3#0")
    assert b'"ch-1 7"' in outcome.value


def test_operations_are_data_until_they_are_awaited() -> None:
    assert isinstance(price("x"), Op)
