"""Hand-written sagas with `s.map` for the differential runner."""
# mypy: ignore-errors

from __future__ import annotations

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


MANY = [(mapped, ()), (mapped_apart, ())]
