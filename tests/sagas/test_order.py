"""The worked example runs in both of its modes, and both pass the same states with the same locals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from contrapas import App, Service
from contrapas.core.envelope import InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.draw.edges import graph_of
from contrapas.draw.svg import svg
from contrapas.draw.text import text
from contrapas.runtime import find
from contrapas.runtime.build import build
from contrapas.runtime.engine import Engine

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def saga() -> Any:
    return find.load("sagas/order/saga.py:app")[0]


@pytest.fixture
def observed() -> Any:
    return find.load("sagas/order/observed.py:app")[0]


def commanded(saga: Any, *, ships: bool = True) -> App:
    """The same three services, asked instead of reacting, and saying the same."""
    app, payments, stock, shipping = App("shop"), Service("payments"), Service("stock"), Service("shipping")

    async def charge(c: Any) -> Any:
        if c.cents > 500_00:
            return saga.CardDeclined(order_id=c.order_id, reason="limit")
        return saga.CardCharged(order_id=c.order_id, charge_id=f"ch_{c.order_id}")

    async def reserve(c: Any) -> Any:
        if c.sku == "none":
            return saga.OutOfStock(order_id=c.order_id, sku=c.sku)
        return saga.StockReserved(order_id=c.order_id)

    async def ship(c: Any) -> Any:
        return saga.Shipped(order_id=c.order_id, tracking=f"T-{c.order_id}")

    async def refund(c: Any) -> Any:
        return saga.CardRefunded(order_id=c.order_id)

    async def release(c: Any) -> Any:
        return saga.StockReleased(order_id=c.order_id)

    for service, message, fn, replies in (
        (payments, saga.ChargeCard, charge, saga.CardCharged | saga.CardDeclined),
        (stock, saga.ReserveStock, reserve, saga.StockReserved | saga.OutOfStock),
        (shipping, saga.ShipOrder, ship, saga.Shipped),
        (payments, saga.RefundCard, refund, saga.CardRefunded),
        (stock, saga.ReleaseStock, release, saga.StockReleased),
    ):
        fn.__annotations__ = {"c": message, "return": replies}
        service.on(message)(fn)
    app.orchestrate(saga.place_order)
    app.serve(payments, stock, shipping)
    return app


@asynccontextmanager
async def running(app: App) -> AsyncGenerator[Engine]:
    async with Engine.opened(app.definition(), "memory:") as engine, engine.working(0):
        yield engine


async def history(engine: Engine, key: str) -> list[InstanceRecord]:
    found: list[InstanceRecord] = []
    for number in range(engine.log.partitions):
        records, _ = await engine.log.read("log", number, 0)
        found += [
            decode(r.value)
            for r in records
            if r.key == f"place_order/{key}".encode()
            and r.value
            and dict(r.headers).get("cp-kind") == b"instance"
        ]
    return sorted(found, key=lambda record: record.version)


def walked(records: list[InstanceRecord]) -> list[tuple[str, dict[str, Any]]]:
    """State and locals after every transition."""
    return [
        (
            r.state,
            {name: json.loads(text) for name, text in r.root.frames[-1].slots.items()}
            if r.root.frames
            else {},
        )
        for r in records
    ]


async def run(app: App, placed: Any) -> list[InstanceRecord]:
    async with running(app) as engine:
        await engine.client.send(placed)
        end = await engine.client.wait(f"place_order/{placed.order_id}", timeout_ms=10_000)
        assert end.ended, end
        await asyncio.sleep(0)
        return await history(engine, placed.order_id)


@pytest.mark.parametrize(
    ("cents", "outcome", "states"),
    [
        (4200, "OrderConfirmed", ["ChargeCard", "ReserveStock", "ShipOrder"]),
        (900_00, "OrderRejected", ["ChargeCard"]),
    ],
)
async def test_both_modes_pass_the_same_states_with_the_same_locals(
    saga: Any, observed: Any, cents: int, outcome: str, states: list[str]
) -> None:
    placed = saga.OrderPlaced(order_id="o-1", sku="mug", cents=cents)
    asked = await run(commanded(saga), placed)
    watched = await run(observed.app, placed)
    assert walked(asked) == walked(watched)
    assert asked[-1].outcome == watched[-1].outcome == outcome
    assert [state for state, _ in walked(asked)][: len(states)] == states


async def test_what_was_done_is_taken_back_when_the_stock_is_out(saga: Any) -> None:
    records = await run(commanded(saga), saga.OrderPlaced(order_id="o-2", sku="none", cents=4200))
    assert records[-1].outcome == "OrderRejected"
    assert json.loads(records[-1].outcome_body) == {"order_id": "o-2", "reason": "OutOfStock"}
    assert records[-1].status == "compensated"
    assert [r.state for r in records if r.status == "unwinding"] == ["undo(ChargeCard)"]


async def test_an_observer_publishes_nothing_but_undos(saga: Any, observed: Any) -> None:
    records = await run(observed.app, saga.OrderPlaced(order_id="o-3", sku="mug", cents=4200))
    assert [message.to for record in records for message in record.out] == []


def golden(request: pytest.FixtureRequest, name: str, text: str) -> None:
    file = ROOT / "sagas" / "order" / name
    if request.config.getoption("--rewrite"):
        file.write_text(text)
    assert file.read_text() == text, f"{name} differs: pytest --rewrite, then read the diff"


def test_the_compiled_form_is_the_committed_one(saga: Any, request: pytest.FixtureRequest) -> None:
    world = build(saga.app.definition())
    golden(request, "machine.txt", text(graph_of(world.machines["place_order"])).rstrip("\n") + "\n")
    golden(request, "machine.svg", svg(graph_of(world.machines["place_order"])))


def without_ids(value: Any) -> Any:
    """An exception has an id of its own in every run."""
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        mine = "$type" in items and "args" in items
        return {k: without_ids(v) for k, v in items.items() if not (mine and k == "id")}
    return value


async def test_a_run_is_recorded_as_in_the_committed_history(
    saga: Any, request: pytest.FixtureRequest
) -> None:
    lines: list[str] = []
    for key, sku in (("o-1", "mug"), ("o-2", "none")):
        records = await run(commanded(saga), saga.OrderPlaced(order_id=key, sku=sku, cents=4200))
        for record, (state, locals_) in zip(records, walked(records), strict=True):
            sent = [dict(m.headers)["ce_type"].decode() for m in record.out]
            line = {
                "instance": record.instance,
                "version": record.version,
                "cause": f"{record.cause.kind} {record.cause.type}",
                "status": record.status,
                "state": state,
                "locals": without_ids(locals_),
                "sent": sent,
                "outcome": record.outcome,
            }
            lines.append(json.dumps(line))
    golden(request, "history.jsonl", "\n".join(lines) + "\n")
