# mypy: ignore-errors
# type: ignore
"""All that is wrong with a saga is said in one run, as far as it does not hang on what is wrong with something else."""

# ruff: noqa
from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from contrapas.author.event import Event
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.codec.registry import Registry
from contrapas.compiler import compile_all


class Go(Event, key="k"):
    k: str
    n: int = 0


@step(undo=None)
async def num(x: int = 0) -> int:
    return x


def untyped():
    return 1


@saga
async def two_sorts(s: Saga, go: Go) -> int:
    await asyncio.sleep(1)
    handle = open("x")
    await num(1)
    handle.close()
    thing = untyped()
    await num(2)
    return thing


@saga
async def hangs_on_it(s: Saga, go: Go) -> int:
    got = await asyncio.sleep(1)
    more = [got]
    more.append(1)
    for one in more:
        log = one
        await num(1)
    return more, log


@saga
async def no_annotation(s: Saga, go) -> int:
    handle = open("x")
    await num(go.n)
    handle.close()
    return go.n


@saga
async def inside_heads(s: Saga, go: Go) -> int:
    if await asyncio.sleep(1):
        await asyncio.sleep(2)
    with open("x"):
        await num(1)
    thing = lambda: untyped()
    other = untyped()
    await num(1)
    return thing, other


@saga
async def below(s: Saga, n: int) -> int:
    thing = untyped()
    await num(n)
    return thing


@saga
async def above(s: Saga, go: Go) -> int:
    await asyncio.sleep(1)
    return await below(s, 1)


def found(*sagas: Any) -> list[tuple[str, str]]:
    """Code and source line, by place."""
    refused = sorted(compile_all(sagas, registry=Registry()).refusals, key=lambda r: r.line)
    return [(r.code, r.source.strip()) for r in refused]


def test_what_is_found_before_lowering_and_after_it_is_said_together() -> None:
    assert found(two_sorts) == [
        ("CP101", "await asyncio.sleep(1)"),
        ("CP201", 'handle = open("x")'),
        ("CP201", "thing = untyped()"),
    ]


def test_nothing_is_said_of_a_name_that_hangs_on_what_was_refused() -> None:
    assert found(hangs_on_it) == [("CP101", "got = await asyncio.sleep(1)")]


def test_a_missing_annotation_hides_no_other_problem() -> None:
    assert found(no_annotation) == [
        ("CP124", "async def no_annotation(s: Saga, go) -> int:"),
        ("CP201", 'handle = open("x")'),
    ]


def test_heads_and_bodies_are_told_apart() -> None:
    assert [code for code, _ in found(inside_heads)] == ["CP101", "CP101", "CP109", "CP201"]


def test_a_called_saga_is_looked_at_though_its_caller_is_refused() -> None:
    assert ("CP201", "thing = untyped()") in found(above)
