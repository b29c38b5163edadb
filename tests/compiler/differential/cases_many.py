"""Hand-written sagas with `s.map` for the differential runner."""
# mypy: ignore-errors

from __future__ import annotations

from contrapas.author.event import Event
from contrapas.author.saga import Saga, saga
from contrapas.author.timeout import Failed
from contrapas.errors import StepFailed
from contrapas.testing.differential_prelude import Go, num, nums, word
from contrapas.testing.native import log


@saga
async def mapped(s: Saga, go: Go) -> list[int]:
    try:
        found = await s.map(num, range(go.n))
        log("found", found)
        tag = go.n
        await s.map(word, [tag], on_error="collect", undo=lambda ok: num(len(ok) + tag))
        tag += 1
    except StepFailed as why:
        log("failed", why)
        found = []
    finally:
        more = await s.map(word, [], concurrency=2)
        log("none", more)
    return found


@saga
async def mapped_apart(s: Saga, go: Go) -> int:
    shared = [1]
    seen: list[int | Failed] = []
    for turn in range(go.n):
        seen += await s.map(num, [turn, *shared, len(seen)], on_error="collect", concurrency=2, rate="10/s")
        shared.append(turn)
    log("seen", seen, shared)
    good, lists = await s.all(
        s.map(num, [await num(1), 2], on_error="collect"), s.map(nums, [x for x in shared if x])
    )
    log("both", good, lists)
    first = await s.first(s.map(num, [1, 2]), s.step(s.map(num, [3]), within="1m", retry=None))
    return sum(first) + len([x for x in seen if isinstance(x, Failed)])


class Leg(Event, key="k"):
    k: str
    n: int


@saga
async def leg(s: Saga, e: Leg) -> Go:
    return Go(k=e.k, n=e.n)


@saga
async def begun(s: Saga, go: Go) -> int:
    total = 0
    link = s.link(Leg(k="link", n=go.n), within="1d")
    for n in range(go.n):
        try:
            got = await s.child(
                leg, Leg(k=f"{go.k}{n}", n=await num(n)), undo=lambda ok: num(ok.n), within="1m"
            )
            total += got.n
        except StepFailed as why:
            log("no leg", why)
    both = await s.all(s.child(leg, Leg(k="a", n=1)), s.step(s.child(leg, Leg(k="b", n=total)), undo=None))
    log("link", link, link.url)
    return total + both[1].n


@saga
async def item(s: Saga, n: int) -> int:
    total = 0
    try:
        for turn in range(n + 1):
            total += await num(turn)
        log("item", n, total)
    except StepFailed as why:
        log("item failed", n, why)
        if n % 2:
            raise
        return -n
    finally:
        log("item over", await word(n))
    if total > 40:
        raise StepFailed(f"{n} is too much")
    return total


@saga
async def listing(s: Saga, xs: list[int]) -> list[int]:
    xs.append(await num(len(xs)))
    return [x + y for x, y in zip(xs, await s.map(item, xs, concurrency=1))]


@saga
async def mapped_sagas(s: Saga, go: Go) -> int:
    shared = [1, 2]
    try:
        found = await s.map(item, range(go.n), concurrency=2, undo=lambda ok: num(ok + go.n))
        log("found", found)
    except StepFailed as why:
        log("failed", why)
        found = []
    apart = await s.map(listing, [shared, shared, [go.n]], on_error="collect")
    log("apart", apart, shared)
    return len(found) + sum(not isinstance(x, Failed) for x in apart)


@saga
async def mapped_sagas_beside(s: Saga, go: Go) -> int:
    many = s.begin(s.map(item, [1, 2, 3]), within="1m")
    left, right = await s.all(s.map(item, [go.n]), s.map(item, [], on_error="collect"))
    log("both", left, right)
    try:
        limited = await s.step(s.map(item, [await num(n) % 5 for n in left]), within="1m")
        log("limited", limited)
    except StepFailed as why:
        log("too late", why)
        many.cancel()
    try:
        won = await s.first(s.map(item, [4]), num(3))
        log("won", won)
        return len(await many)
    except StepFailed as why:
        log("gone", why)
    return 0


MANY = [
    (mapped_sagas, (item, listing)),
    (mapped_sagas_beside, (item,)),
    (begun, (leg,)),
    (mapped, ()),
    (mapped_apart, ()),
]
