"""WCP-37, 38, 41, 42: threads whose number is known only while they run, and how they come together again."""

from __future__ import annotations

from contrapas import Pending, Saga, StepFailed, saga
from contrapas.testing import Sagas
from tests.scenarios.patterns.desk import (
    CheckCredit,
    CreditGranted,
    CreditRefused,
    Inspect,
    Inspected,
    Invoiced,
    OrderClosed,
    OrderPlaced,
    Packed,
    PackGoods,
    SendInvoice,
    ShipGoods,
    Shipped,
    WrapGift,
    Wrapped,
)
from tests.scenarios.patterns.pattern import answer, pattern, traced


@saga(deadline="30d")
async def local_synchronizing_merge(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Whether there is a second thread to wait for is known from a local value, set where the threads part."""
    ready: list[Pending[Packed | Wrapped]] = [s.begin(PackGoods(order=e.order), undo=None)]
    try:
        await s.step(CheckCredit(order=e.order), undo=None)
        if e.gift:
            ready.append(s.begin(WrapGift(order=e.order), undo=None))
    except StepFailed:
        pass  # no credit: no paper either
    for one in ready:
        await one
    await s.step(ShipGoods(order=e.order), undo=None)
    return OrderClosed(order=e.order)


@pattern(
    37,
    "Local Synchronizing Merge",
    "a list of handles, filled where the threads part, awaited where they meet",
)
async def wcp37_local_synchronizing_merge(sagas: Sagas) -> None:
    good = await sagas.start(local_synchronizing_merge, OrderPlaced(order="o-1", gift=True))
    await answer(good, PackGoods, Packed(order="o-1"))
    await answer(good, CheckCredit, CreditGranted(order="o-1"))
    await answer(good, WrapGift, Wrapped(order="o-1"))
    await answer(good, ShipGoods, Shipped(order="o-1"))
    poor = await sagas.start(local_synchronizing_merge, OrderPlaced(order="o-2", gift=True))
    await answer(poor, CheckCredit, CreditRefused(order="o-2"))
    await answer(poor, PackGoods, Packed(order="o-2"))
    await answer(poor, ShipGoods, Shipped(order="o-2"))
    traced(
        good,
        """
        OrderPlaced → CheckCredit, begin(PackGoods)
        Packed → CheckCredit
        CreditGranted → result, begin(WrapGift)
        Wrapped → ShipGoods
        Shipped → done OrderClosed
        """,
    )
    traced(
        poor,
        """
        OrderPlaced → CheckCredit, begin(PackGoods)
        CreditRefused → result, begin(PackGoods)
        Packed → ShipGoods
        Shipped → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def general_synchronizing_merge(s: Saga, e: OrderPlaced) -> OrderClosed:
    """An inspection may send a part back, as often as it likes: shipped when no thread can arrive any more."""
    open_: list[Pending[Inspected]] = [s.begin(Inspect(order=e.order, item=i), undo=None) for i in e.items]
    while open_:
        done = await s.next(*open_)
        open_.remove(done)
        if not (await done).fine:
            open_.append(s.begin(Inspect(order=e.order, item="again"), undo=None))
    await s.step(ShipGoods(order=e.order))
    return OrderClosed(order=e.order)


@pattern(
    38,
    "General Synchronizing Merge",
    "`while handles: await s.next(*handles)`: a handle is what can still arrive",
)
async def wcp38_general_synchronizing_merge(sagas: Sagas) -> None:
    run = await sagas.start(general_synchronizing_merge, OrderPlaced(items=("lamp", "desk")))
    await answer(run, Inspect, Inspected(fine=False), Inspected(), Inspected())
    await answer(run, ShipGoods, Shipped())
    traced(
        run,
        """
        OrderPlaced → next, begin(Inspect) ×2
        Inspected → next, begin(Inspect), begin(Inspect)#2
        Inspected → next, begin(Inspect)#2
        Inspected → ShipGoods
        Shipped → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def thread_merge(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Two identical threads of one branch, two packers at work, become one: a single invoice."""
    packers = [s.begin(PackGoods(order=e.order, item=i), undo=None) for i in e.items]
    for _ in range(2):
        done = await s.next(*packers)
        packers.remove(done)
        await done
    await s.step(SendInvoice(order=e.order), undo=None)
    return OrderClosed(order=e.order)


@pattern(41, "Thread Merge", "`for _ in range(n): await s.next(*handles)`")
async def wcp41_thread_merge(sagas: Sagas) -> None:
    run = await sagas.start(thread_merge, OrderPlaced(items=("lamp", "desk")))
    await answer(run, PackGoods, Packed(), Packed())
    await answer(run, SendInvoice, Invoiced())
    traced(
        run,
        """
        OrderPlaced → next, begin(PackGoods) ×2
        Packed → next, begin(PackGoods)
        Packed → SendInvoice
        Invoiced → done OrderClosed
        """,
    )


@saga
async def one_of_two(s: Saga, order: str, item: str) -> str:
    await s.step(PackGoods(order=order, item=item))
    await s.step(Inspect(order=order, item=item))
    return item


@saga(deadline="30d")
async def thread_split(s: Saga, e: OrderPlaced) -> OrderClosed:
    """From here on one branch has two threads: each packs and inspects at its own pace."""
    threads = [s.begin(one_of_two(s, e.order, item)) for item in e.items]
    words = [await thread for thread in threads]
    return OrderClosed(order=e.order, word=" ".join(words))


@pattern(42, "Thread Split", "`[s.begin(work(s, x)) for x in …]`: each has frames of its own")
async def wcp42_thread_split(sagas: Sagas) -> None:
    run = await sagas.start(thread_split, OrderPlaced(items=("lamp", "desk")))
    lamp, desk = await run.expect(PackGoods), await run.expect(PackGoods)
    await desk.reply(Packed())
    await answer(run, Inspect, Inspected())
    await lamp.reply(Packed())
    await answer(run, Inspect, Inspected())
    assert run.outcome.word == "lamp desk"
    traced(
        run,
        """
        OrderPlaced → result, PackGoods ×2
        Packed → result, PackGoods, Inspect
        Inspected → result, PackGoods
        Packed → result, Inspect
        Inspected → done OrderClosed
        """,
    )
