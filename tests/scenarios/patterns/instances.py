"""WCP-12 to WCP-15, WCP-34 to WCP-36: the same task for many things."""

from __future__ import annotations

from contrapas import Event, Pending, Saga, StepFailed, saga, step
from contrapas.testing import Sagas
from tests.scenarios.patterns.desk import (
    AskQuote,
    Inspect,
    Inspected,
    ItemAdded,
    NoMore,
    NoQuote,
    OrderClosed,
    OrderPlaced,
    Packed,
    PackGoods,
    Quoted,
    ShipGoods,
    Shipped,
)
from tests.scenarios.patterns.pattern import answer, pattern, traced


class ItemOrdered(Event, topic="desk.items", key="item"):
    item: str


class ItemSeen(Event, topic="desk.items", key="item"):
    item: str


@step(undo=None)
def look_up(item: str) -> int:
    """What an item weighs."""
    return len(item) * 100


@saga
async def handle_item(s: Saga, e: ItemOrdered) -> ItemSeen:
    """An instance of its own for each item."""
    await look_up(e.item)
    return ItemSeen(item=e.item)


@saga(deadline="30d")
async def instances_without_synchronization(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Each item goes its own way; nobody waits for any of them."""
    for item in e.items:
        s.emit(ItemOrdered(item=item))
    await s.step(ShipGoods(order=e.order))
    return OrderClosed(order=e.order)


@pattern(
    12,
    "Multiple Instances without Synchronization",
    "`s.emit(event)` for each: it starts a saga of its own; inside of one saga `s.begin(op)`",
)
async def wcp12_multiple_instances_without_synchronization(sagas: Sagas) -> None:
    sagas.orchestrate(handle_item)
    run = await sagas.start(instances_without_synchronization, OrderPlaced(items=("lamp", "desk")))
    await answer(run, ShipGoods, Shipped())
    assert sagas.published(ItemSeen) == [ItemSeen(item="lamp"), ItemSeen(item="desk")]
    traced(
        run,
        """
        OrderPlaced → ShipGoods
        Shipped → done OrderClosed
        """,
    )
    traced(
        sagas.run(handle_item, "lamp"),
        """
        ItemOrdered → look_up
        look_up returned → done ItemSeen
        """,
    )


@saga(deadline="30d")
async def instances_known_when_written(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Three inspectors look at every order, no more and no less."""
    seen = await s.all(
        s.step(Inspect(order=e.order, item="colour")),
        s.step(Inspect(order=e.order, item="weight")),
        s.step(Inspect(order=e.order, item="label")),
    )
    return OrderClosed(order=e.order, word=f"{sum([one.fine for one in seen])} of 3 are fine")


@pattern(13, "Multiple Instances with a Priori Design-Time Knowledge", "`await s.all(a, b, c)`")
async def wcp13_multiple_instances_with_a_priori_design_time_knowledge(sagas: Sagas) -> None:
    run = await sagas.start(instances_known_when_written, OrderPlaced())
    await answer(run, Inspect, Inspected(), Inspected(fine=False), Inspected())
    assert run.outcome.word == "2 of 3 are fine"
    traced(
        run,
        """
        OrderPlaced → Inspect ×3
        Inspected → Inspect ×2
        Inspected → Inspect
        Inspected → done OrderClosed
        """,
    )


@saga
async def instances_known_when_begun(s: Saga, e: OrderPlaced) -> OrderClosed:
    """As many look-ups as the order has items, two at a time."""
    weights = await s.map(look_up, e.items, concurrency=2)
    return OrderClosed(order=e.order, word=str(sum(weights)))


@pattern(
    14,
    "Multiple Instances with a Priori Run-Time Knowledge",
    "`await s.map(step, items)`; of commands `s.all(*[s.step(…) for …])`",
)
async def wcp14_multiple_instances_with_a_priori_run_time_knowledge(sagas: Sagas) -> None:
    run = await sagas.start(instances_known_when_begun, OrderPlaced(items=("lamp", "desk", "chair")))
    assert run.outcome.word == "1300"
    traced(
        run,
        """
        OrderPlaced → map(look_up)
        map(look_up) returned → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def instances_not_known_before(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Items are added while others are being packed; shipped when no more come and all are packed."""
    packing = [s.begin(PackGoods(order=e.order, item=i), undo=None) for i in e.items]
    while isinstance(more := await s.wait(ItemAdded, NoMore), ItemAdded):
        packing.append(s.begin(PackGoods(order=e.order, item=more.item), undo=None))
    for one in packing:
        await one
    await s.step(ShipGoods(order=e.order), undo=None)
    return OrderClosed(order=e.order, word=str(len(packing)))


@pattern(
    15,
    "Multiple Instances without a Priori Run-Time Knowledge",
    "`s.begin(op)` whenever another one comes, into a list that is awaited",
)
async def wcp15_multiple_instances_without_a_priori_run_time_knowledge(sagas: Sagas) -> None:
    run = await sagas.start(instances_not_known_before, OrderPlaced(items=("lamp",)))
    await answer(run, PackGoods, Packed())
    await run.send(ItemAdded(item="desk"))
    await run.send(ItemAdded(item="chair"))
    await answer(run, PackGoods, Packed())
    await run.send(NoMore())
    await answer(run, PackGoods, Packed())
    await answer(run, ShipGoods, Shipped())
    assert run.outcome.word == "3"
    traced(
        run,
        """
        OrderPlaced → wait(ItemAdded|NoMore), begin(PackGoods)
        Packed → wait(ItemAdded|NoMore)
        ItemAdded → wait(ItemAdded|NoMore), begin(PackGoods)#2
        ItemAdded → wait(ItemAdded|NoMore), begin(PackGoods)#2 ×2
        Packed → wait(ItemAdded|NoMore), begin(PackGoods)#2
        NoMore → result, begin(PackGoods)#2
        Packed → ShipGoods
        Shipped → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def static_partial_join(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Of all inspections of an order two decide; the others are made to the end, for the files."""
    made = [s.step(Inspect(order=e.order, item=i)) for i in e.items]
    await s.some(2, *made, rest="ignore")
    await s.step(ShipGoods(order=e.order))
    return OrderClosed(order=e.order)


@pattern(34, "Static Partial Join for Multiple Instances", '`await s.some(k, *[op for …], rest="ignore")`')
async def wcp34_static_partial_join_for_multiple_instances(sagas: Sagas) -> None:
    run = await sagas.start(static_partial_join, OrderPlaced(items=("lamp", "desk", "chair")))
    await answer(run, Inspect, Inspected(), Inspected())
    await answer(run, ShipGoods, Shipped())
    assert run.status == "waiting"
    await answer(run, Inspect, Inspected())
    traced(
        run,
        """
        OrderPlaced → Inspect ×3
        Inspected → Inspect ×2
        Inspected → ShipGoods, Inspect
        Shipped → join, Inspect
        Inspected → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def cancelling_partial_join_of_instances(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Of all inspections of an order two decide; the others are called off."""
    await s.some(2, *[s.step(Inspect(order=e.order, item=i)) for i in e.items])
    await s.step(ShipGoods(order=e.order))
    return OrderClosed(order=e.order)


@pattern(35, "Cancelling Partial Join for Multiple Instances", "`await s.some(k, *[op for …])`")
async def wcp35_cancelling_partial_join_for_multiple_instances(sagas: Sagas) -> None:
    run = await sagas.start(
        cancelling_partial_join_of_instances, OrderPlaced(items=("lamp", "desk", "chair"))
    )
    await answer(run, Inspect, Inspected(), Inspected())
    await answer(run, ShipGoods, Shipped())
    assert run.status == "done"
    traced(
        run,
        """
        OrderPlaced → Inspect ×3
        Inspected → Inspect ×2
        Inspected → ShipGoods
        Shipped → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def dynamic_partial_join(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Carriers are asked, more of them when one says no, until there are two quotes; how many were needed shows then."""
    others = ["hare", "lynx"]
    asked: list[Pending[Quoted]] = [
        s.begin(AskQuote(order=e.order, carrier=c), undo=None) for c in ("bear", "wolf")
    ]
    quotes: list[str] = []
    while len(quotes) < 2 and asked:
        done = await s.next(*asked)
        asked.remove(done)
        try:
            quotes.append((await done).carrier)
        except StepFailed:
            if others:
                asked.append(s.begin(AskQuote(order=e.order, carrier=others.pop(0)), undo=None))
    return OrderClosed(order=e.order, word=" ".join(quotes))


@pattern(
    36,
    "Dynamic Partial Join for Multiple Instances",
    "`s.begin` and `s.next` in a loop whose condition looks at what has come",
)
async def wcp36_dynamic_partial_join_for_multiple_instances(sagas: Sagas) -> None:
    run = await sagas.start(dynamic_partial_join, OrderPlaced())
    await answer(run, AskQuote, NoQuote(), Quoted(carrier="wolf"), NoQuote(), Quoted(carrier="lynx"))
    assert run.outcome.word == "wolf lynx"
    traced(
        run,
        """
        OrderPlaced → next, begin(AskQuote) ×2
        NoQuote → next, begin(AskQuote), begin(AskQuote)#2
        Quoted → next, begin(AskQuote)#2
        NoQuote → next, begin(AskQuote)#2
        Quoted → done OrderClosed
        """,
    )
