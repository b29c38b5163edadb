"""WCP-16 to WCP-18, WCP-39, WCP-40: what may happen depends on where a case stands, not on data."""

from __future__ import annotations

import pytest

from contrapas import Command, Event, Saga, Timeout, saga
from contrapas.testing import Sagas
from tests.scenarios.patterns.desk import (
    CheckCredit,
    Confirmed,
    CreditGranted,
    Inspect,
    Inspected,
    OrderClosed,
    OrderPlaced,
    Packed,
    PackGoods,
    ShipGoods,
    Shipped,
    Withdrawn,
    WrapGift,
    Wrapped,
)
from tests.scenarios.patterns.pattern import answer, pattern, traced


@saga(deadline="30d")
async def deferred_choice(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Confirmed or withdrawn by the customer, or let go of after a week: what comes first decides."""
    match await s.wait(Confirmed, Withdrawn, within="7d"):
        case Confirmed():
            await s.step(ShipGoods(order=e.order))
            return OrderClosed(order=e.order, word="shipped")
        case Withdrawn():
            return OrderClosed(order=e.order, word="withdrawn")
        case Timeout():
            return OrderClosed(order=e.order, word="forgotten")


@pattern(16, "Deferred Choice", "`await s.wait(A, B, within=…)`")
async def wcp16_deferred_choice(sagas: Sagas) -> None:
    sure = await sagas.start(deferred_choice, OrderPlaced(order="o-1"))
    await sure.send(Confirmed(order="o-1"))
    await sure.send(Withdrawn(order="o-1"))
    await answer(sure, ShipGoods, Shipped(order="o-1"))
    assert sure.outcome.word == "shipped"
    slow = await sagas.start(deferred_choice, OrderPlaced(order="o-2"))
    await sagas.skip("7d")
    assert slow.outcome.word == "forgotten"
    traced(
        sure,
        """
        OrderPlaced → wait(Confirmed|Withdrawn)
        Confirmed → ShipGoods
        Withdrawn (no-op: not awaited) → ShipGoods
        Shipped → done OrderClosed
        """,
    )
    traced(
        slow,
        """
        OrderPlaced → wait(Confirmed|Withdrawn)
        timer → done OrderClosed
        """,
    )


class Picked(Event, topic="desk.packers", key="order"):
    """A packer takes up one of the tasks that are left."""

    order: str = "o-1"
    task: str


@saga(deadline="30d")
async def interleaved_parallel_routing(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Inspect, wrap, pack: in any order that people choose, one at a time, but packing after inspecting."""
    left, done = {"inspect", "wrap", "pack"}, list[str]()
    while left:
        task = (await s.wait(Picked)).task
        if task not in left or (task == "pack" and "inspect" in left):
            continue
        left.remove(task)
        done.append(task)
        match task:
            case "inspect":
                await s.step(Inspect(order=e.order), undo=None)
            case "wrap":
                await s.step(WrapGift(order=e.order), undo=None)
            case _:
                await s.step(PackGoods(order=e.order), undo=None)
    return OrderClosed(order=e.order, word=" ".join(done))


@pattern(
    17,
    "Interleaved Parallel Routing",
    "a loop over the tasks that are left: choose one whose predecessors are done, await it",
)
async def wcp17_interleaved_parallel_routing(sagas: Sagas) -> None:
    run = await sagas.start(interleaved_parallel_routing, OrderPlaced())
    await run.send(Picked(task="pack"))
    await run.send(Picked(task="wrap"))
    await run.send(Picked(task="inspect"))
    await answer(run, WrapGift, Wrapped())
    await answer(run, Inspect, Inspected())
    await run.send(Picked(task="pack"))
    await answer(run, PackGoods, Packed())
    assert run.outcome.word == "wrap inspect pack"
    traced(
        run,
        """
        OrderPlaced → wait(Picked)
        Picked → wait(Picked)
        Picked → WrapGift
        Picked (kept) → WrapGift
        Wrapped → Inspect
        Inspected → wait(Picked)
        Picked → PackGoods
        Packed → done OrderClosed
        """,
    )


class NewAddress(Event, topic="desk.customers", key="order", transient=True):
    order: str = "o-1"
    street: str


@saga(deadline="30d")
async def milestone(s: Saga, e: OrderPlaced) -> OrderClosed:
    """The address may be changed as often as the customer likes, until the parcel is packed."""
    street = "at home"
    packing, changes = s.begin(PackGoods(order=e.order), undo=None), s.begin(s.wait(NewAddress))
    while await s.next(packing, changes) == changes:
        street = (await changes).street
        changes = s.begin(s.wait(NewAddress))
    changes.cancel()
    await s.step(ShipGoods(order=e.order), undo=None)
    return OrderClosed(order=e.order, word=street)


@pattern(
    18,
    "Milestone",
    "a wait begun beside what ends the milestone, `s.next(job, inbox)`; afterwards nothing waits for the event",
)
async def wcp18_milestone(sagas: Sagas) -> None:
    run = await sagas.start(milestone, OrderPlaced())
    await run.send(NewAddress(street="3 Mill Lane"))
    await answer(run, PackGoods, Packed())
    await run.send(NewAddress(street="too late"))
    await answer(run, ShipGoods, Shipped())
    assert run.outcome.word == "3 Mill Lane"
    traced(
        run,
        """
        OrderPlaced → next, begin(PackGoods), begin(wait(NewAddress))
        NewAddress → next, begin(PackGoods), begin(wait(NewAddress))#2
        Packed → ShipGoods
        NewAddress (no-op: nobody waits) → ShipGoods
        Shipped → done OrderClosed
        """,
    )


class DockOpened(Event, topic="desk.docks", key="dock"):
    dock: str


class DockFree(Event, key="dock"):
    dock: str


class DockGiven(Event, key="dock"):
    dock: str


class DockClosed(Event, topic="desk.docks", key="dock"):
    dock: str


class TakeDock(Command[DockGiven], key="dock"):
    dock: str


class LeaveDock(Command[DockFree], key="dock"):
    dock: str


@saga(again="deliver")
async def dock(s: Saga, first: DockOpened | TakeDock) -> DockClosed:
    """The loading dock: given to one at a time, in order of arrival; closed when nobody comes for an hour."""
    asked: DockOpened | TakeDock | Timeout = first
    while not isinstance(asked, Timeout):
        if isinstance(asked, TakeDock):
            s.reply(asked, DockGiven(dock=s.key))
            s.reply(await s.wait(LeaveDock), DockFree(dock=s.key))  # allow CP712: who has it gives it back
        asked = await s.wait(TakeDock, within="1h")
    return DockClosed(dock=s.key)


@saga
async def at_the_dock(s: Saga, order: str, by: str) -> None:
    """Critical: two parcels are never loaded at the same time."""
    await s.step(TakeDock(dock="d-1"), undo=LeaveDock(dock="d-1"))
    await s.step(ShipGoods(order=order, by=by))
    await s.step(LeaveDock(dock="d-1"), undo=None)


@saga(deadline="30d")
async def critical_section(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Two parcels go out by two carriers; whoever loads first has the dock for itself."""
    await s.all(at_the_dock(s, e.order, "bear"), at_the_dock(s, e.order, "wolf"))
    return OrderClosed(order=e.order)


@pattern(
    39,
    "Critical Section",
    "a saga of its own holds the lock and answers `TakeDock` one at a time (`s.lock` comes later)",
)
async def wcp39_critical_section(sagas: Sagas) -> None:
    sagas.orchestrate(dock)
    run = await sagas.start(critical_section, OrderPlaced())
    bear = await run.expect(ShipGoods)
    assert bear.command.by == "bear"
    with pytest.raises(AssertionError, match="has not sent ShipGoods"):
        await run.expect(ShipGoods)
    await bear.reply(Shipped())
    await answer(run, ShipGoods, Shipped())
    await sagas.skip("1h")
    traced(
        run,
        """
        OrderPlaced → TakeDock ×2
        DockGiven → ShipGoods, TakeDock
        Shipped → LeaveDock, TakeDock
        DockFree → TakeDock
        DockGiven → ShipGoods
        Shipped → LeaveDock
        DockFree → done OrderClosed
        """,
    )
    traced(
        sagas.run(dock, "d-1"),
        """
        TakeDock → wait(LeaveDock)
        TakeDock (kept) → wait(LeaveDock)
        LeaveDock → wait(LeaveDock)
        LeaveDock → wait(TakeDock)
        timer → done DockClosed
        """,
    )


@saga(deadline="30d")
async def interleaved_routing(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Credit check, inspection and wrapping: each once, one at a time, in the order in which somebody is free for it."""
    left = {"credit", "inspect", "wrap"}
    while left:
        task = (await s.wait(Picked)).task
        if task not in left:
            continue
        left.remove(task)
        match task:
            case "credit":
                await s.step(CheckCredit(order=e.order), undo=None)
            case "inspect":
                await s.step(Inspect(order=e.order), undo=None)
            case _:
                await s.step(WrapGift(order=e.order), undo=None)
    return OrderClosed(order=e.order)


@pattern(40, "Interleaved Routing", "a loop over the tasks that are left: choose one, await it")
async def wcp40_interleaved_routing(sagas: Sagas) -> None:
    run = await sagas.start(interleaved_routing, OrderPlaced())
    for task in ("wrap", "credit", "inspect"):
        await run.send(Picked(task=task))
    await answer(run, WrapGift, Wrapped())
    await answer(run, CheckCredit, CreditGranted())
    await answer(run, Inspect, Inspected())
    traced(
        run,
        """
        OrderPlaced → wait(Picked)
        Picked → WrapGift
        Picked (kept) → WrapGift
        Picked (kept) → WrapGift
        Wrapped → CheckCredit
        CreditGranted → Inspect
        Inspected → done OrderClosed
        """,
    )
