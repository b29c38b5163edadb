"""A saga with asserts, in a module that pytest does not rewrite."""

from __future__ import annotations

from contrapas.author.saga import Saga, saga
from contrapas.author.step import step


@step
def num(x: int = 0) -> int:
    return x


@saga
async def asserting(s: Saga, n: int) -> str:
    try:
        assert n > 1, f"m{await num(1)}"
        assert await num(n) > 2
        assert await num(n) > 3, "plain"
    except AssertionError as why:
        return f"assert {why}"
    return "fine"
