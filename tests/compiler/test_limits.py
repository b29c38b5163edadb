"""`within=` where it has no meaning yet is refused before anything runs."""

from __future__ import annotations

import pytest

from contrapas.author.saga import Saga, SagaDef, saga
from contrapas.author.step import step
from tests.compiler.driver import refusals_of


@step(undo=None)
def num(x: int) -> int:
    return x


@saga
async def called(s: Saga, n: int) -> int:
    return await num(n)


@saga
async def limits_a_frame(s: Saga, n: int) -> int:
    return await s.step(called(s, n), within="1h")


@saga
async def limits_a_step(s: Saga, n: int) -> int:
    return await s.step(num(n), within="1h")


@saga
async def limits_all(s: Saga, n: int) -> None:
    await s.step(s.all(num(1), num(2)), within="1h")


@pytest.mark.parametrize("sg", [limits_a_frame, limits_all])
def test_a_limit_on_a_called_saga_or_a_join_is_a_scope_around_it(sg: SagaDef[..., object]) -> None:
    assert refusals_of(sg) == []


def test_a_limit_on_a_step_is_not() -> None:
    assert [r for r in refusals_of(limits_a_step) if r.code == "CP850"] == []
