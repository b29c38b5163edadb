"""Awaits inside expressions stand under the `try` around them too."""

from __future__ import annotations

from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.errors import StepFailed
from tests.compiler.driver import echo, every, log, same


@step
def num(x: int = 0) -> int:
    return x


@saga
async def in_comprehension(s: Saga, n: int) -> list[int]:
    try:
        return [await num(i) for i in range(n)]
    except StepFailed:
        return [await num(99)]
    finally:
        log(await num(50))


def test_awaits_of_expressions_are_guarded_too() -> None:
    for fails in every(4):
        same(in_comprehension, echo(*fails), 3)
