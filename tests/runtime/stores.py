"""Services and steps on a store, for tests: the benches that they run over, and what the tests ask of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from contrapas.core.lane import Draft
from contrapas.runtime.worker import Worker
from contrapas.testing.conformance_store import MakeStoreBench, StoreBench
from tests.participant import benches
from tests.runtime.rig import Rig

STORES: dict[str, MakeStoreBench] = {"memory": benches.memory(), "sqlite": benches.sqlite}
"""Every store that the tests named after the invariants run over."""


class Held:
    """A store that stands in annotations of a module, and is another one in each test."""

    def __init__(self) -> None:
        self.inner: Any = None

    def session(self) -> Any:
        return self.inner.session()

    def begin(self, *args: Any, **named: Any) -> Any:
        return self.inner.begin(*args, **named)

    @property
    def source(self) -> str:
        return str(self.inner.source)

    @source.setter
    def source(self, value: str) -> None:
        if self.inner is not None:
            self.inner.source = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Effects:
    """Business rows, one for each time that a handler ran to its end: how many are there tells how often it took effect."""

    def __init__(self, bench: StoreBench) -> None:
        self.bench = bench
        self.tried: list[str] = []

    async def add(self, session: Any, name: str) -> None:
        self.tried.append(name)
        await self.bench.put(session, f"{name}#{len(self.tried)}", "1")

    async def count(self, name: str) -> int:
        found = [await self.bench.get(f"{one}#{n}") for n, one in enumerate(self.tried, 1) if one == name]
        return sum(value is not None for value in found)


async def until(rig: Rig, true: Callable[[], bool], *, seconds: float = 10, ms: float = 1) -> None:
    """Let virtual time pass, slowly enough for a database in a thread."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    turns = 0
    while not true():
        assert loop.time() < end, "it did not come about"
        await rig.turn(ms)
        turns += 1
        await asyncio.sleep(0.0005 if turns % 5 == 0 else 0)


async def started(rig: Rig) -> Worker:
    """A worker that works, or has ended: its databases are asked first."""
    worker = await rig.worker()
    await until(rig, lambda: worker.ready.is_set() or rig.tasks[-1].done(), ms=0)
    return worker


async def quiet(rig: Rig, *, ms: float = 400) -> None:
    """Let that much pass."""
    for _ in range(40):
        await rig.turn(ms / 40)
        await asyncio.sleep(0.001)


async def dead(rig: Rig, worker: int = -1) -> None:
    """Wait until an armed failpoint has killed a worker."""
    await until(rig, lambda: rig.tasks[worker].done())
    await rig.killed(worker)


def command(
    ident: str,
    key: str = "a",
    value: bytes = b'{"id":"a"}',
    *,
    type_name: str = "Pay",
    topic: str = "pay.commands",
    **headers: str,
) -> Draft:
    """A command as a saga sends it."""
    known = {
        "ce_id": ident,
        "ce_source": "/contrapas/t/pay",
        "ce_specversion": "1.0",
        "ce_type": type_name,
        "cp-kind": "command",
        "cp-run": "r1",
        "ce_correlationid": "pay/a",
        "content-type": "application/json",
        **{name.replace("_", "-") if name.startswith("cp_") else name: v for name, v in headers.items()},
    }
    return Draft(topic, -1, key.encode(), value, tuple((n, v.encode()) for n, v in known.items()), ident)


def heads(rig: Rig, topic: str) -> list[dict[str, bytes]]:
    """Headers of everything on a topic."""
    return [dict(r.headers) for r in rig.records(topic)]


def letters(rig: Rig, topic: str = "pay.commands") -> list[dict[str, bytes]]:
    """Headers of the dead letters of a topic."""
    return [h for h in heads(rig, "t.dlq") if h["cp-dlq-topic"] == topic.encode()]
