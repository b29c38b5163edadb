# mypy: ignore-errors
# type: ignore
"""`STEPS[name](…)`: one label, each step by its own name in the record, everything else refused."""

# ruff: noqa
from __future__ import annotations

from typing import Any, Final

import pytest

from contrapas.author.event import Event
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.codec.registry import Registry
from contrapas.compiler import compile_saga
from contrapas.machine import Machine
from contrapas.testing.differential import compare, pair_of
from contrapas.testing.differential_prelude import EXCEPTIONS, Go
from contrapas.testing.native import log
from tests.compiler.driver import refusals_of


@step(undo=None)
async def grow(x: int) -> int:
    return x + 1


@step(undo=None)
async def shrink(x: int) -> int:
    return x - 1


@step(undo=None)
async def spell(x: int) -> str:
    return str(x)


STEPS: Final = {"grow": grow, "shrink": shrink}
TYPED: Final[dict[str, Any]] = {"grow": grow}
LOOSE = {"grow": grow}
MIXED: Final = {"grow": grow, "spell": spell}
OTHERS: Final = {"grow": len}
NUMBERS: Final = {1: grow}
EMPTY: Final = {}
MADE: Final = dict(grow=grow)
CHANGED: Final = {"grow": grow}
CHANGED["shrink"] = shrink


@saga
async def chosen(s: Saga, go: Go) -> int:
    n = go.n
    for name in ("grow", "shrink", "grow"):
        n = await STEPS[name](n)
        log(name, n)
    n += await s.step(STEPS["shrink"](n), within="5m")
    a, b = await s.all(STEPS["grow"](1), TYPED["grow"](x=2))
    return n + a + b


def test_the_label_names_the_mapping_and_the_state_every_step() -> None:
    machine = compile_saga(chosen, registry=Registry())
    assert isinstance(machine, Machine)
    assert list(machine.states) == ["STEPS[]", "STEPS[]#2", "all(STEPS[],TYPED[])"]
    assert machine.states["STEPS[]"].steps == ("grow", "shrink")
    assert machine.slots["n"].type_text == "int"


def test_both_forms_do_the_same() -> None:
    pair = pair_of(chosen, exceptions=EXCEPTIONS)
    compare(pair, lambda: (Go(k="k", n=4),), range(40), fails=0.1)


@saga
async def loose(s: Saga, n: int) -> None:
    await LOOSE["grow"](n)


@saga
async def mixed(s: Saga, n: int) -> None:
    await MIXED["grow"](n)


@saga
async def others(s: Saga, n: int) -> None:
    await OTHERS["grow"](n)


@saga
async def numbers(s: Saga, n: int) -> None:
    await NUMBERS[1](n)


@saga
async def empty(s: Saga, n: int) -> None:
    await EMPTY["x"](n)


@saga
async def made(s: Saga, n: int) -> None:
    await MADE["grow"](n)


@saga
async def changed(s: Saga, n: int) -> None:
    await CHANGED["grow"](n)


@pytest.mark.parametrize("one", [loose, mixed, others, numbers, empty, made, changed])
def test_any_other_mapping_is_refused(one: Any) -> None:
    assert [r.code for r in refusals_of(one)] == ["CP121"]


@saga
async def local(s: Saga, n: int) -> None:
    own = {"grow": grow}
    await own["grow"](n)


def test_a_mapping_of_the_function_s_own_is_no_operation() -> None:
    assert "CP101" in [r.code for r in refusals_of(local)]
