"""An existing HTTP service joins: example (f) of the documentation over SQLite, in FastAPI and in Starlette."""

from __future__ import annotations

import json
import os
import sqlite3
from typing import Annotated, Any

from fastapi import Depends as FastDepends
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from contrapas import SUPPLIED, App, Command, Delivery, Depends, Event, Saga, Service, StepFailed, saga, step
from contrapas.participant.sqlite import SqliteStore


class OrderPlaced(Event, topic="orders.events", key="order_id"):
    order_id: str
    cents: int


class CardCharged(Event, topic="payments.events", key="order_id"):
    order_id: str
    charge_id: str


class CardDeclined(Event, topic="payments.events", key="order_id"):
    order_id: str
    reason: str


class ChargeCard(Command[CardCharged, CardDeclined], topic="payments.commands", key="order_id"):
    order_id: str
    cents: int


class OrderConfirmed(Event, topic="orders.events", key="order_id"):
    order_id: str
    charge_id: str


class OrderRejected(Event, topic="orders.events", key="order_id"):
    order_id: str
    reason: str


store = SqliteStore(os.environ.get("SHOP_DB", "shop-service.db"))
Db = Annotated[sqlite3.Connection, Depends(store.session)]


@step(undo=None)
def note(order_id: str, db: Db = SUPPLIED) -> int:
    db.execute("insert into notes values (?)", (order_id,))
    return int(db.execute("select count(*) from notes").fetchone()[0])


@saga
async def place_order(s: Saga, order: OrderPlaced) -> OrderConfirmed | OrderRejected:
    await s.step(note(order.order_id))
    try:
        paid = await s.step(ChargeCard(order_id=order.order_id, cents=order.cents), undo=None, within="1m")
    except StepFailed as why:
        return OrderRejected(order_id=order.order_id, reason=why.reason)
    return OrderConfirmed(order_id=order.order_id, charge_id=paid.charge_id)


payments = Service("payments", store=store)
limit: Any = FastDepends(lambda: 500_00)
Limit = Annotated[int, limit]


@payments.on(ChargeCard)
async def charge(cmd: ChargeCard, db: Db, most: Limit, d: Delivery) -> CardCharged | CardDeclined:
    if cmd.cents > most:
        return CardDeclined(order_id=cmd.order_id, reason="limit")
    charge_id = f"ch_{cmd.order_id}"
    db.execute("insert into charges values (?, ?, ?)", (charge_id, cmd.cents, d.idempotency_key))
    return CardCharged(order_id=cmd.order_id, charge_id=charge_id)


bus = App("shop")
bus.orchestrate(place_order)
bus.serve(payments)


class NewOrder(BaseModel):
    id: str
    cents: int


async def ordered(body: NewOrder) -> dict[str, str]:
    async with store.transaction() as db:  # answered only after this has committed
        db.execute("insert into orders values (?, ?)", (body.id, body.cents))
        await store.publish(db, OrderPlaced(order_id=body.id, cents=body.cents))
    return {"id": body.id, "watch": f"/contrapas/sagas/place_order/{body.id}"}


api = FastAPI(lifespan=lambda _: bus.lifespan(drain="5s"))
api.mount("/contrapas", bus.asgi())
api.post("/orders", status_code=202)(ordered)


async def _ordered(request: Request) -> JSONResponse:
    return JSONResponse(await ordered(NewOrder(**json.loads(await request.body()))), 202)


star = Starlette(
    routes=[Route("/orders", _ordered, methods=["POST"]), Mount("/contrapas", bus.asgi())],
    lifespan=lambda _: bus.lifespan(drain="5s"),
)
