"""WCP-28 to WCP-32: going on when the first of several threads is there, or so many of them."""

from __future__ import annotations

from contrapas import Event, Pending, Saga, saga
from contrapas.testing import Sagas
from tests.scenarios.patterns.desk import (
    AskQuote,
    Inspect,
    Inspected,
    NoQuote,
    OrderClosed,
    OrderPlaced,
    Quoted,
    ShipGoods,
    Shipped,
)
from tests.scenarios.patterns.pattern import answer, pattern, traced


class SmokeSeen(Event, topic="desk.alarms", key="order"):
    order: str = "o-1"


class HeatFelt(Event, topic="desk.alarms", key="order"):
    order: str = "o-1"


class ButtonPressed(Event, topic="desk.alarms", key="order"):
    order: str = "o-1"


@saga(deadline="30d")
async def blocking_discriminator(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Of two alarms the first one sends somebody to look. A second smoke waits until the heat of this round has come."""
    for _ in range(2):
        smoke, heat = s.begin(s.wait(SmokeSeen)), s.begin(s.wait(HeatFelt))
        await s.next(smoke, heat)
        await s.step(Inspect(order=e.order))
        await smoke
        await heat
    return OrderClosed(order=e.order)


@pattern(
    28,
    "Blocking Discriminator",
    "`await s.next(a, b)`, the task, then `await a`, `await b`; events of the next round are kept",
)
async def wcp28_blocking_discriminator(sagas: Sagas) -> None:
    run = await sagas.start(blocking_discriminator, OrderPlaced())
    await run.send(SmokeSeen())
    await run.send(SmokeSeen())
    await answer(run, Inspect, Inspected())
    await run.send(HeatFelt())
    await answer(run, Inspect, Inspected())
    await run.send(HeatFelt())
    traced(
        run,
        """
        OrderPlaced → next, begin(wait(SmokeSeen)), begin(wait(HeatFelt))
        SmokeSeen → Inspect, begin(wait(HeatFelt))
        SmokeSeen (kept) → Inspect, begin(wait(HeatFelt))
        Inspected → result#2, begin(wait(HeatFelt))
        HeatFelt → Inspect, begin(wait(HeatFelt))
        Inspected → result#2, begin(wait(HeatFelt))
        HeatFelt → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def cancelling_discriminator(s: Saga, e: OrderPlaced) -> OrderClosed:
    """The first carrier to answer gets the parcel; the others need not answer any more."""
    quote = await s.first(
        s.step(AskQuote(order=e.order, carrier="bear"), undo=None),
        s.step(AskQuote(order=e.order, carrier="wolf"), undo=None),
    )
    await s.step(ShipGoods(order=e.order, by=quote.carrier))
    return OrderClosed(order=e.order, word=quote.carrier)


@pattern(
    29, "Cancelling Discriminator", "`await s.first(a, b)`, or `s.some(1, a, b)` where a failure is no answer"
)
async def wcp29_cancelling_discriminator(sagas: Sagas) -> None:
    run = await sagas.start(cancelling_discriminator, OrderPlaced())
    bear, wolf = await run.expect(AskQuote), await run.expect(AskQuote)
    await wolf.reply(Quoted(carrier="wolf"))
    await bear.reply(Quoted(carrier="bear"))
    await answer(run, ShipGoods, Shipped())
    assert run.outcome.word == "wolf"
    traced(
        run,
        """
        OrderPlaced → AskQuote ×2
        Quoted → ShipGoods
        Quoted (no-op: late reply) → ShipGoods
        Shipped → done OrderClosed
        """,
    )


CARRIERS = ("bear", "wolf", "hare")


@saga(deadline="30d")
async def structured_partial_join(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Two quotes of three are enough to choose the cheaper; the third one comes and moves nothing."""
    asked = [s.step(AskQuote(order=e.order, carrier=c), undo=None) for c in CARRIERS]
    quotes = await s.some(2, *asked, rest="ignore")
    best = min([quote.cents for _, quote in quotes])
    await s.step(ShipGoods(order=e.order))
    return OrderClosed(order=e.order, word=str(best))


@pattern(30, "Structured Partial Join", '`await s.some(2, *ops, rest="ignore")`')
async def wcp30_structured_partial_join(sagas: Sagas) -> None:
    run = await sagas.start(structured_partial_join, OrderPlaced())
    bear, wolf, hare = [await run.expect(AskQuote) for _ in CARRIERS]
    await hare.reply(Quoted(carrier="hare", cents=400))
    await bear.reply(Quoted(carrier="bear", cents=300))
    await wolf.reply(Quoted(carrier="wolf", cents=200))
    await answer(run, ShipGoods, Shipped())
    assert run.outcome.word == "300"
    traced(
        run,
        """
        OrderPlaced → AskQuote ×3
        Quoted → AskQuote ×2
        Quoted → ShipGoods, AskQuote
        Quoted → ShipGoods
        Shipped → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def blocking_partial_join(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Two alarms of three send somebody to look, once a round; the round is over when the third one has come too."""
    for _ in range(2):
        alarms: list[Pending[SmokeSeen | HeatFelt | ButtonPressed]] = [
            s.begin(s.wait(SmokeSeen)),
            s.begin(s.wait(HeatFelt)),
            s.begin(s.wait(ButtonPressed)),
        ]
        for count in range(3):
            alarm = await s.next(*alarms)
            alarms.remove(alarm)
            await alarm
            if count == 1:
                await s.step(Inspect(order=e.order), undo=None)
    return OrderClosed(order=e.order)


@pattern(
    31,
    "Blocking Partial Join",
    "`s.next` over the handles: the task after the second, the next round after the last",
)
async def wcp31_blocking_partial_join(sagas: Sagas) -> None:
    run = await sagas.start(blocking_partial_join, OrderPlaced())
    await run.send(SmokeSeen())
    await run.send(SmokeSeen())
    await run.send(HeatFelt())
    await answer(run, Inspect, Inspected())
    await run.send(HeatFelt())
    await run.send(ButtonPressed())
    await answer(run, Inspect, Inspected())
    await run.send(ButtonPressed())
    traced(
        run,
        """
        OrderPlaced → next, begin(wait(SmokeSeen)), begin(wait(HeatFelt)), begin(wait(ButtonPressed))
        SmokeSeen → next, begin(wait(HeatFelt)), begin(wait(ButtonPressed))
        SmokeSeen (kept) → next, begin(wait(HeatFelt)), begin(wait(ButtonPressed))
        HeatFelt → Inspect, begin(wait(ButtonPressed))
        Inspected → next, begin(wait(ButtonPressed))
        HeatFelt (kept) → next, begin(wait(ButtonPressed))
        ButtonPressed → Inspect, begin(wait(ButtonPressed))
        Inspected → next, begin(wait(ButtonPressed))
        ButtonPressed → done OrderClosed
        """,
    )


@saga(deadline="30d")
async def cancelling_partial_join(s: Saga, e: OrderPlaced) -> OrderClosed:
    """Two quotes of three are enough; a refusal is none, and whoever is late is not asked any more."""
    asked = [s.step(AskQuote(order=e.order, carrier=c), undo=None) for c in CARRIERS]
    quotes = await s.some(2, *asked)
    await s.step(ShipGoods(order=e.order))
    return OrderClosed(order=e.order, word=" ".join([CARRIERS[at] for at, _ in quotes]))


@pattern(32, "Cancelling Partial Join", "`await s.some(2, *ops)`")
async def wcp32_cancelling_partial_join(sagas: Sagas) -> None:
    run = await sagas.start(cancelling_partial_join, OrderPlaced(order="o-1"))
    bear, wolf, hare = [await run.expect(AskQuote) for _ in CARRIERS]
    await hare.reply(Quoted(carrier="hare"))
    await bear.reply(Quoted(carrier="bear"))
    await wolf.reply(Quoted(carrier="wolf"))
    await answer(run, ShipGoods, Shipped())
    assert run.outcome.word == "hare bear"
    traced(
        run,
        """
        OrderPlaced → AskQuote ×3
        Quoted → AskQuote ×2
        Quoted → ShipGoods
        Quoted (no-op: late reply) → ShipGoods
        Shipped → done OrderClosed
        """,
    )
    poor = await sagas.start(cancelling_partial_join, OrderPlaced(order="o-2"))
    no = NoQuote(order="o-2")
    await answer(poor, AskQuote, no, no)
    traced(
        poor,
        """
        OrderPlaced → AskQuote ×3
        NoQuote → AskQuote ×2
        NoQuote → failed
        """,
    )
