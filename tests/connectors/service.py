"""An existing FastAPI and SQLAlchemy service that joins: the page's example, word for word but for the database's address."""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from contrapas import App, Depends, Service
from contrapas_postgres.sqlalchemy import SqlStore
from sagas.order.saga import CardCharged, CardDeclined, ChargeCard, OrderPlaced, place_order


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[str] = mapped_column(primary_key=True)
    cents: Mapped[int]


class Charge(Base):
    __tablename__ = "charges"
    id: Mapped[str] = mapped_column(primary_key=True)
    cents: Mapped[int]


class NewOrder(BaseModel):
    id: str
    sku: str
    cents: int


engine = create_async_engine(os.environ.get("SHOP", "postgresql+asyncpg://localhost/shop"))
sessions = async_sessionmaker(engine)
store = SqlStore(sessions)  # the outbox and inbox tables of this database
payments = Service("payments", store=store)
Db = Annotated[AsyncSession, Depends(store.session)]  # the transaction of this delivery

bus = App("shop")
bus.serve(payments)
bus.orchestrate(place_order)
api = FastAPI(lifespan=lambda _: bus.lifespan())  # consumers and the outbox relay run inside
api.mount("/contrapas", bus.asgi())


@api.post("/orders", status_code=202)
async def create_order(body: NewOrder) -> dict[str, str]:
    async with sessions.begin() as db:  # answered only after this has committed
        db.add(Order(id=body.id, cents=body.cents))
        await store.publish(db, OrderPlaced(order_id=body.id, sku=body.sku, cents=body.cents))
    return {"id": body.id, "watch": f"/contrapas/sagas/place_order/{body.id}"}


@payments.on(ChargeCard)  # a redelivery is answered, not run again
async def charge(cmd: ChargeCard, db: Db) -> CardCharged | CardDeclined:
    if cmd.cents > 500_00:
        return CardDeclined(order_id=cmd.order_id, reason="limit")
    charge_id = f"ch_{cmd.order_id}"
    db.add(Charge(id=charge_id, cents=cmd.cents))
    return CardCharged(order_id=cmd.order_id, charge_id=charge_id)  # row, inbox id and reply: one commit
