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


MANY = [(begun, (leg,)), (mapped, ()), (mapped_apart, ())]
