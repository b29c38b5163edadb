"""Sagas that keep operations in flight, for the tests of the core: compiled, on its stage."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from contrapas.author.flight import Pending
from contrapas.author.saga import Saga, SagaDef, saga
from contrapas.author.step import step
from contrapas.author.timeout import Timeout
from contrapas.codec.registry import build_registry
from contrapas.compiler import compile_all
from contrapas.errors import Cancelled, StepFailed
from tests.core import shop
from tests.core.shop import (
    Approved,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    RefundCard,
    Rejected,
    ReleaseStock,
    ReserveStock,
    ShipOrder,
    price,
    take_seat,
)
from tests.core.stage import Stage

K = "o-9"


@step
def joined(names: list[str]) -> str:
    """Its arguments, as they were when it was begun."""
    return "".join(names)


@step(undo=None)
def forget(text: str) -> None:
    """An undo."""


@saga
async def one(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    charge = s.begin(
        ChargeCard(order_id=order.order_id),
        undo=lambda ok: RefundCard(order_id=order.order_id, charge_id=ok.charge_id),
        within="10m",
    )
    await s.step(ReserveStock(order_id=order.order_id), undo=ReleaseStock(order_id=order.order_id))
    note = "none"
    try:
        note = (await charge).charge_id
    except StepFailed as why:
        note = f"{why.reason}/{why.unknown}"
    await s.step(ShipOrder(order_id=order.order_id), undo=None)
    return OrderConfirmed(order_id=order.order_id, note=note)


@saga
async def work(s: Saga, order: OrderPlaced) -> int:
    """Two steps, the first with an undo; it cleans up when it is cancelled."""
    try:
        seat = await take_seat(order.order_id)
        return len(seat) + await price(order.order_id)
    except Cancelled:
        await price("clean")
        raise


@saga
async def quotes(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """The loop of the page: whoever answers, in the order of the answers."""
    flying: list[Pending[str]] = [s.begin(take_seat(c), within="10m") for c in ("a", "b", "c")]
    got: list[str] = []
    while flying:
        done = await s.next(*flying, within="1h")
        if isinstance(done, Timeout):
            for q in flying:
                q.cancel()
            break
        flying.remove(done)
        try:
            got.append(await done)
        except StepFailed as why:
            got.append(why.reason)
    return OrderConfirmed(order_id=order.order_id, note=",".join(got))


@saga
async def impatient(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """Nobody waits as long as the steps may take: what still flies is given up."""
    flying: list[Pending[str]] = [s.begin(take_seat(c), within="3h") for c in ("a", "b", "c")]
    got: list[str] = []
    while flying:
        done = await s.next(*flying, within="1h")
        if isinstance(done, Timeout):
            for q in flying:
                q.cancel()
            break
        flying.remove(done)
        got.append(await done)
    return OrderConfirmed(order_id=order.order_id, note=",".join(got))


@saga
async def pausing(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """A saga that reacts to messages while it works."""
    job, inbox = s.begin(work(s, order)), s.begin(s.wait(Approved, Rejected))
    heard = 0
    while await s.next(job, inbox) == inbox:
        heard += 1
        if isinstance(await inbox, Rejected):
            job.cancel()
        inbox = s.begin(s.wait(Approved, Rejected))
    try:
        note = str(await job)
    except StepFailed as why:
        note = f"{why.reason}/{why.unknown}"
    return OrderConfirmed(order_id=order.order_id, note=f"{heard}:{note}")


@saga
async def scoped(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """A scope that is left in many ways, as `cents` says."""
    note = "ended"
    await s.step(ChargeCard(order_id=order.order_id), undo=RefundCard(order_id=order.order_id))
    for _ in range(1):
        try:
            async with s.scope():
                s.begin(work(s, order))
                s.begin(s.wait(Approved))
                s.begin(s.sleep("9h"))
                if order.cents == 1:
                    return OrderConfirmed(order_id=order.order_id, note="returned")
                if order.cents == 2:
                    break
                if order.cents == 3:
                    continue
                if order.cents == 4:
                    await s.step(ShipOrder(order_id=order.order_id), undo=None)
                if order.cents == 5:
                    raise ValueError("a bug")
        except (StepFailed, ValueError) as why:
            note = f"failed: {type(why).__name__} {why}"
    await s.step(ReserveStock(order_id=order.order_id), undo=None)
    if order.cents == 5:
        await s.compensate()
    return OrderConfirmed(order_id=order.order_id, note=note)


@saga
async def most(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """Two of three; `cents` odd: the rest goes on."""
    try:
        if order.cents % 2:
            got = await s.some(2, work(s, order), take_seat("b"), take_seat("c"), rest="ignore")
        else:
            got = await s.some(2, take_seat("a"), take_seat("b"), take_seat("c"))
        note = ",".join([f"{place}={value}" for place, value in got])
    except StepFailed as why:
        note = f"failed {why.reason}"
    await s.step(ShipOrder(order_id=order.order_id), undo=None)
    return OrderConfirmed(order_id=order.order_id, note=note)


@saga
async def limited(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """A block of ten minutes; `cents` 1: the body swallows, 2: within a limit of twenty around a called saga."""
    length = timedelta(minutes=10)
    note = "in time"
    await s.step(ChargeCard(order_id=order.order_id), undo=RefundCard(order_id=order.order_id))
    try:
        async with s.scope(within=length):
            await s.step(ReserveStock(order_id=order.order_id), undo=ReleaseStock(order_id=order.order_id))
            try:
                await s.wait(Approved)
            except Cancelled:
                if order.cents != 1:
                    raise
    except StepFailed as why:
        note = f"{why.reason}/{why.unknown}"
    await s.step(ShipOrder(order_id=order.order_id), undo=None)
    return OrderConfirmed(order_id=order.order_id, note=note)


@saga
async def framed(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """Limits around called sagas: awaited, begun, in a join, and of a join."""
    notes: list[str] = []
    try:
        await s.step(work(s, order), within="10m")
    except StepFailed as why:
        notes.append(f"{why.reason}/{why.unknown}")
    job = s.begin(work(s, order), within="20m")
    try:
        notes.append(str(await job))
    except StepFailed as why:
        notes.append(f"{why.reason}/{why.unknown}")
    try:
        await s.step(s.all(take_seat("x"), s.step(work(s, order), within="1m")), within="30m")
    except StepFailed as why:
        notes.append(f"{why.reason}/{why.unknown}")
    await s.step(ShipOrder(order_id=order.order_id), undo=None)
    return OrderConfirmed(order_id=order.order_id, note=" ".join(notes))


@saga
async def owing(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """A charge that never answers in time."""
    note = "in time"
    try:
        async with s.scope(within="10m"):
            await s.step(
                ChargeCard(order_id=order.order_id),
                undo=lambda ok: RefundCard(order_id=order.order_id, charge_id=ok.charge_id),
            )
    except StepFailed as why:
        note = f"{why.reason}/{why.unknown}"
    await s.step(ShipOrder(order_id=order.order_id), undo=None)
    return OrderConfirmed(order_id=order.order_id, note=note)


@saga
async def nested(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """A limit of five minutes within one of ten; the body cleans up."""
    note = "in time"
    try:
        async with s.scope(within="10m"):
            try:
                async with s.scope(within="5m"):
                    if order.cents:
                        await s.step(
                            ReserveStock(order_id=order.order_id), undo=ReleaseStock(order_id=order.order_id)
                        )
                    try:
                        await s.sleep("9h")
                    finally:
                        await price("clean")
            except StepFailed as why:
                note = f"inner {why.reason}"
    except StepFailed as why:
        note = f"outer {why.reason}"
    await s.step(ShipOrder(order_id=order.order_id), undo=None)
    return OrderConfirmed(order_id=order.order_id, note=note)


@saga
async def pivoting(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    async with s.scope(within="10m"):
        s.point_of_no_return()
        await s.step(ShipOrder(order_id=order.order_id))
    return OrderConfirmed(order_id=order.order_id)


@saga
async def stubborn(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """It swallows two cancels."""
    try:
        await s.sleep("9h")
    except Cancelled:
        try:
            await s.wait(Approved)
        except Cancelled:
            await s.wait(Rejected)
    return OrderConfirmed(order_id=order.order_id)


@saga
async def copies(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """What is begun sees its arguments and captures as they were."""
    names = ["a"]
    job = s.begin(joined(names), undo=lambda text: forget(f"{text}{len(names)}"))
    names.append("b")
    await s.step(ReserveStock(order_id=order.order_id), undo=None)
    return OrderConfirmed(order_id=order.order_id, note=await job)


@saga
async def crowd(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """As many as `cents` says."""
    several = [s.begin(s.wait(Approved)) for _ in range(order.cents)]
    await s.step(ReserveStock(order_id=order.order_id), undo=None)
    return OrderConfirmed(order_id=order.order_id, note=str(len(several)))


@saga
async def resetting(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """A timer that is set anew with every message, for ever."""
    heard = 0
    while True:
        timer, inbox = s.begin(s.sleep("1h")), s.begin(s.wait(Approved, Rejected))
        if await s.next(timer, inbox) == timer:
            return OrderConfirmed(order_id=order.order_id, note=str(heard))
        timer.cancel()
        await inbox
        heard += 1


@saga
async def until(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    """Moments instead of lengths, and a deadline that is moved."""
    s.deadline("1h")
    when = datetime(1970, 1, 1, 1, tzinfo=UTC)
    job = s.begin(s.wait(Approved), until=when)
    s.deadline("9h")
    notes = [type(await job).__name__]
    try:
        async with s.scope(until=when + timedelta(hours=1)):
            await s.sleep("8h")
    except StepFailed as why:
        notes.append(why.reason)
    s.deadline("1m")
    await s.wait(Approved)
    return OrderConfirmed(order_id=order.order_id, note=" ".join(notes))


def stage(fn: SagaDef[[OrderPlaced], Any], cents: int = 0, **more: str) -> Stage:
    """The saga has started."""
    registry = build_registry(
        steps=(shop.price, shop.take_seat, shop.free_seat, shop.look, joined, forget),
        events=shop.EVENTS,
        exceptions=(shop.SeatTaken, ValueError, KeyError),
    )
    compiled = compile_all([fn, work], registry=registry)
    assert not compiled.refusals, compiled.refusals
    machines = [compiled.machines[fn.name], *(m for n, m in compiled.machines.items() if n != fn.name)]
    made = Stage(*machines, registry=registry, **more)
    made.start(OrderPlaced(order_id=K, cents=cents))
    return made


def note(st: Stage) -> str:
    """What the saga says at its end."""
    return str(json.loads(st.record.outcome_body)["note"])


def run_on(st: Stage) -> None:
    """Local steps succeed, commands get their success, until nothing is left to answer."""
    values = {"take_seat": "seat", "price": 1, "free_seat": None}
    replies = {
        "RefundCard": shop.CardRefunded(order_id=K),
        "ReleaseStock": shop.StockReleased(order_id=K),
        "ReserveStock": shop.StockReserved(order_id=K),
        "ShipOrder": shop.Shipped(order_id=K),
        "ChargeCard": shop.CardCharged(order_id=K, charge_id="ch-1"),
    }
    for _ in range(30):
        found = next((p for p in st.record.operations() if p.name in values or p.name in replies), None)
        if found is None or st.record.parked is not None:
            return
        if found.name in replies:
            st.reply(replies[found.name], key=found.key)
        else:
            st.answer(found, values[found.name])
