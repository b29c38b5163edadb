"""Entities of the runtime's tests, and sagas that call them."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from contrapas.app import App
from contrapas.author.entity import Entity, handler, query
from contrapas.author.event import Event
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.errors import StepFailed

RAN: list[str] = []
GATES: dict[str, asyncio.Event] = {}
BROKEN: list[BaseException] = []


class CartLine(BaseModel):
    what: str
    cents: int = 0


@step(undo=None)
async def take_back(what: str) -> None:
    RAN.append(f"back {what}")


@step(undo=lambda what: take_back(what), retry=None)
async def fetch(what: str) -> str:
    RAN.append(what)
    if what in GATES:
        await GATES[what].wait()
    if what.startswith("bad"):
        raise StepFailed("no such thing")
    return what


class Poked(Event, topic="cart.events", key="id"):
    id: str


class Cart(Entity, key="cart_id"):
    lines: list[CartLine] = []
    log: dict[str, int] = {}
    open: bool = True

    @handler
    async def add(self, what: str, cents: int = 1) -> int:
        self.lines.append(CartLine(what=await fetch(what), cents=cents))
        self.log[self.key] = len(self.lines)
        return len(self.lines)

    @handler
    async def checked(self, s: Saga, what: str) -> str:
        self.lines.append(CartLine(what=what))
        await fetch(f"{what} of {self.key}")
        if BROKEN:
            raise BROKEN[0]
        try:
            await fetch(f"bad {what}")
        except StepFailed as why:
            if what == "mild":
                return why.reason
            raise
        return "fine"

    @handler
    async def wait(self, s: Saga, first: str) -> str | None:
        got = await s.wait(Poked, within="1h")
        if isinstance(got, Poked):
            self.open = False
            return first
        return None

    @handler
    async def close(self) -> None:
        self.open = False

    @query
    def total(self, more: int = 0) -> int:
        return sum(line.cents for line in self.lines) + more

    @query
    def whole(self) -> list[CartLine]:
        return self.lines


class Brief(Entity, key="id", expires="1h"):
    count: int = 0

    @handler
    async def up(self, by: int = 1) -> int:
        self.count += by
        return self.count


class Bought(Event, topic="shop.events", key="id"):
    id: str
    what: str


class Sold(Event, topic="shop.events", key="id"):
    id: str
    n: int


@saga
async def buy(s: Saga, e: Bought) -> Sold:
    await s.step(Cart.at(e.id).add("box"), undo=lambda n: take_back(f"box {n}"), within="1h")
    left, right = await s.all(Cart.at(e.id).add(e.what, cents=3), Brief.at(e.id).up(by=2))
    total = await Cart.at(e.id).total(more=right)
    if e.what == "too much":
        raise StepFailed("too much")
    return Sold(id=e.id, n=100 * left + total)


app = App("ent")
app.serve(Cart, Brief)
app.orchestrate(buy)
ALL: list[Any] = [Cart, Brief, buy]
