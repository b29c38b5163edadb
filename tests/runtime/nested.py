"""Sagas that map sagas, and services that note what they did and took back."""

from __future__ import annotations

from typing import Any

from contrapas.app import App
from contrapas.author.event import Command, Event
from contrapas.author.retry import Retry
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.author.timeout import Failed
from contrapas.errors import Cancelled, StepFailed


class Order(Event, topic="order.events", key="id"):
    id: str
    parts: list[int]


class Done(Event, topic="order.events", key="id"):
    id: str
    prices: list[int]
    failed: list[str] = []


class Go(Event, topic="order.events", key="id"):
    id: str


class Held(Event, topic="hold.events", key="name"):
    name: str


class Denied(Event, topic="hold.events", key="name"):
    name: str
    reason: str


class Freed(Event, topic="hold.events", key="name"):
    name: str


class Hold(Command[Held, Denied], topic="hold.commands", key="name"):
    name: str


class Free(Command[Freed], topic="hold.commands", key="name"):
    name: str


class Answer(Event, topic="answer.events", key="name"):
    name: str
    price: int


DID: list[str] = []
"""What happened, in order."""
BROKEN: dict[int, list[BaseException]] = {}
"""What the next attempts of `price` raise, by part."""
SECOND: dict[int, list[BaseException]] = {}


def reset() -> None:
    """Before each test."""
    DID.clear()
    BROKEN.clear()
    SECOND.clear()
    RUDE.add(1)


@step(undo=None, retry=Retry(3, backoff="1s"))
async def drop(part: int) -> None:
    DID.append(f"drop {part}")


@step(undo=lambda made: drop(made), retry=None)
async def book(part: int) -> int:
    DID.append(f"book {part}")
    if BROKEN.get(part):
        raise BROKEN[part].pop(0)
    return part


@step(undo=None, retry=None)
async def price(part: int) -> int:
    DID.append(f"price {part}")
    if SECOND.get(part):
        raise SECOND[part].pop(0)
    return 10 * part


@step(undo=None)
async def tidy(part: int) -> None:
    DID.append(f"tidy {part}")


@saga
async def one(s: Saga, part: int) -> int:
    await book(part)
    return await price(part)


@saga
async def slow(s: Saga, part: int) -> int:
    await book(part)
    try:
        await s.sleep("1m")
    except Cancelled:
        await tidy(part)
        raise
    return await price(part)


@saga
async def held(s: Saga, part: int) -> str:
    ok = await s.step(Hold(name=f"{s.key}-{part}"), undo=lambda ok: Free(name=ok.name), within="10s")
    return ok.name


@saga
async def asking(s: Saga, part: int) -> int:
    got = await s.wait(Answer, correlate=f"{s.key}:{part}", within="1h")
    return got.price if isinstance(got, Answer) else -1


RUDE: set[int] = {1}


@saga
async def rude(s: Saga, part: int) -> int:
    if part in RUDE:
        raise ValueError(part)
    return part


@saga
async def ruder(s: Saga, part: int) -> int:
    await s.wait(Answer, correlate=s.key)
    return part


@saga
async def rudely(s: Saga, e: Order) -> Done:
    return Done(id=e.id, prices=await s.map(rude, e.parts))


@saga
async def rudest(s: Saga, e: Order) -> Done:
    return Done(id=e.id, prices=await s.map(ruder, e.parts))


@saga
async def deep(s: Saga, part: int) -> int:
    return sum(await s.map(one, range(part)))


@saga
async def each(s: Saga, e: Order) -> Done:
    return Done(id=e.id, prices=await s.map(one, e.parts))


@saga
async def few(s: Saga, e: Order) -> Done:
    return Done(id=e.id, prices=await s.map(slow, e.parts, concurrency=2))


@saga
async def rated(s: Saga, e: Order) -> Done:
    return Done(id=e.id, prices=await s.map(one, e.parts, rate="1/s"))


@saga
async def gathered(s: Saga, e: Order) -> Done:
    found = await s.map(one, e.parts, on_error="collect")
    good = [f for f in found if not isinstance(f, Failed)]
    bad = [f"{at}: {f.reason} {f.unknown}" for at, f in enumerate(found) if isinstance(f, Failed)]
    return Done(id=e.id, prices=good, failed=bad)


@saga
async def then_waits(s: Saga, e: Order) -> Done:
    prices = await s.map(one, e.parts)
    await s.wait(Go)
    raise StepFailed(f"no good: {prices}")


@saga
async def holds(s: Saga, e: Order) -> Done:
    names = await s.map(held, e.parts)
    go = await s.wait(Go, within="1h")
    if isinstance(go, Go):
        raise StepFailed("gone")
    return Done(id=e.id, prices=[], failed=names)


@saga
async def asks(s: Saga, e: Order) -> Done:
    return Done(id=e.id, prices=await s.map(asking, e.parts))


@saga
async def limited(s: Saga, e: Order) -> Done:
    try:
        prices = await s.step(s.map(slow, e.parts), within="10s")
    except StepFailed as why:
        return Done(id=e.id, prices=[], failed=[why.reason])
    return Done(id=e.id, prices=prices)


@saga
async def beside(s: Saga, e: Order) -> Done:
    many = s.begin(s.map(slow, e.parts))
    go = s.begin(s.wait(Go))
    if await s.next(many, go) == go:
        many.cancel()
        try:
            await many
        except StepFailed as why:
            return Done(id=e.id, prices=[], failed=[why.reason])
    return Done(id=e.id, prices=await many)


@saga
async def nests(s: Saga, e: Order) -> Done:
    prices = await s.map(deep, e.parts)
    await s.wait(Go, within="1h")
    if len(prices) > 1:
        raise StepFailed("enough")
    return Done(id=e.id, prices=prices)


@saga
async def tidied(s: Saga, e: Order) -> Done:
    prices = await s.map(one, e.parts, on_error="collect", undo=lambda cents: tidy(cents))
    raise StepFailed(f"{len(prices)}")


@saga
async def slowly(s: Saga, part: int) -> int:
    return sum(await s.map(slow, range(part)))


@saga
async def nests_slowly(s: Saga, e: Order) -> Done:
    return Done(id=e.id, prices=await s.map(slowly, e.parts))


ALL: list[Any] = [
    tidied,
    rudely, rudest,
    nests_slowly, each, few, rated, gathered, then_waits, holds, asks, limited, beside, nests,
]  # fmt: skip
app = App("n")
app.orchestrate(*ALL)
