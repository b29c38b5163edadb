"""`s.map` over a saga: every item is a record of its own, with all that a saga can do, and takes part in the caller's end."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.core.envelope_avro import decode
from contrapas.core.kin import home_of
from contrapas.errors import StepFailed
from contrapas.runtime.build import build
from contrapas.runtime.client import Client
from tests.runtime import nested
from tests.runtime.nested import BROKEN, DID, SECOND, Answer, Go, Order
from tests.runtime.rig import Rig, kill_at, rig_of

DEFINITION = nested.app.definition()
WORLD = build(DEFINITION)


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    nested.reset()
    yield
    failpoints.disarm()


@asynccontextmanager
async def stage(*, partitions: int = 1) -> AsyncGenerator[tuple[Rig, Client]]:
    async with rig_of(DEFINITION, WORLD, partitions=partitions) as rig:
        await rig.worker()
        yield rig, rig.client()


def newest(rig: Rig, instance: str) -> Any:
    return decode([r for r in rig.records() if r.key == instance.encode()][-1].value)


def outcome(rig: Rig, instance: str) -> Any:
    return json.loads(newest(rig, instance).outcome_body)


def items(rig: Rig) -> dict[str, Any]:
    """Item records still there, the newest of each."""
    found: dict[str, Any] = {}
    for r in rig.records():
        key = r.key.decode()
        if "↳" in key:
            found[key] = None if r.value is None else decode(r.value)
    return {key: r for key, r in found.items() if r is not None}


async def ended(rig: Rig, instance: str, status: str = "done") -> None:
    await rig.until(lambda: rig.status(instance) == status)


@pytest.mark.parametrize("count", [0, 1, 30])
async def test_each_item_runs_a_saga_and_gives_its_result_by_position(count: int) -> None:
    async with stage() as (rig, client):
        await client.start("each", Order(id="a", parts=list(range(count))))
        await ended(rig, "each/a")
        assert outcome(rig, "each/a")["prices"] == [10 * x for x in range(count)]
        assert rig.versions("each/a") == ([1, 2] if count else [1])
        assert sorted(DID) == sorted([f"{w} {x}" for x in range(count) for w in ("book", "price")])
        await rig.turn(1, 50)
        assert items(rig) == {}


async def test_items_live_where_their_instance_does() -> None:
    async with stage(partitions=4) as (rig, client):
        for key in "abcdefgh":
            await client.start("few", Order(id=key, parts=[1, 2]))
        await rig.until(lambda: len(items(rig)) == 16)
        where = {r.key.decode(): r.partition for r in rig.records()}
        assert all(where[name] == where[home_of(name)] for name in items(rig))
        assert len({where[name] for name in items(rig)}) > 1
