"""Arrows of limits that are computed carry the expression as it was written; a map that fails has its arrow."""

from __future__ import annotations

import ast
from datetime import datetime, timedelta

from contrapas import Saga, StepFailed, saga, step
from contrapas.draw.native import written
from tests.check.compiled import graph
from tests.check.wrong import Answered, Asked, Booked


@step(undo=None)
async def look(id: str) -> int:
    return 1


@step(undo=None)
async def clean(id: str) -> int:
    return 1


@saga
async def patient(s: Saga, e: Asked) -> Answered:
    urgent = await look(e.id) > 3
    await s.wait(Booked, within="5d" if urgent else "30d")
    span = timedelta(days=await look(e.id))
    await s.wait(Booked, within=span)
    when = datetime.fromisoformat(e.id)
    job = s.begin(s.wait(Booked), until=when)
    async with s.scope(within=span):
        await look(e.id)
    await job
    return Answered(id=e.id)


@saga
async def maps(s: Saga, e: Asked) -> Answered:
    try:
        await s.map(look, [e.id])
    except StepFailed:
        await clean(e.id)
    return Answered(id=e.id)


def test_a_limit_that_is_computed_is_shown_as_it_was_written() -> None:
    causes = {edge.cause for edge in graph(patient).edges}
    assert {"after 5d | 30d", "after span", "after when"} <= causes
    assert "after within" not in causes


def test_a_long_expression_is_not_shown() -> None:
    assert written(ast.parse("timedelta(days=rules.longest_wait_of(order))", mode="eval").body) == "within"


def test_a_map_has_an_arrow_for_its_failure() -> None:
    ends = {(e.target, e.cause) for e in graph(maps).edges if e.source.startswith("map")}
    assert ("clean", "failed") in ends
