"""`contrapas dlq` beside a running worker: an event that came too soon is redriven and taken; one that is wrong comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contrapas import App, Event, Saga, saga
from contrapas.cli.main import main
from contrapas.core.lane import Draft
from contrapas.log.sqlite import SqliteLog
from contrapas.runtime.build import build
from contrapas.runtime.client import Client
from contrapas.runtime.worker import Worker


class Placed(Event, topic="dl.orders", key="id"):
    id: str
    cents: int = 1


class Shipped(Event, topic="dl.events", key="id"):
    id: str


class Over(Event, topic="dl.ends", key="id"):
    id: str


@saga
async def order(s: Saga, placed: Placed) -> Over:
    await s.wait(Shipped)
    return Over(id=s.key)


def event(kind: str, key: str, body: bytes, *more: tuple[str, bytes]) -> Draft:
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{kind}-{key}".encode()),
        ("ce_source", b"/theirs"),
        ("ce_type", kind.encode()),
        ("content-type", b"application/json"),
        *more,
    )
    topic = "dl.orders" if kind == "Placed" else "dl.events"
    return Draft(topic, -1, key.encode(), body, headers)


async def test_beside_a_worker(here: Path, capsys: Any) -> None:
    app = App("dl")
    app.orchestrate(order)
    definition = app.definition()
    (here / ".contrapas").mkdir()
    log = SqliteLog(here / ".contrapas" / "dl.db", "dl", 2)
    worker = Worker(log, definition, build(definition))
    task = asyncio.create_task(worker.run())
    await worker.ready.wait()
    client = Client(log, worker.setting, worker=worker)

    async def cli(*args: str) -> tuple[int, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(main, list(args))
        return code, capsys.readouterr().out

    async def until(true: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.01)

    try:
        # a reply for an instance that is not there, and an event that does not fit
        await log.publish(
            [
                event("Shipped", "o-1", b'{"id":"o-1"}', ("cp-to", b"order/o-1")),
                event("Placed", "o-2", b'{"id":"o-2","cents":"many"}'),
            ]
        )
        await until(lambda: worker.counts().dead == 2)
        _, out = await cli("dlq", "list", "-o", "json")
        causes = {row["source"]: row["causes"][0]["code"] for row in json.loads(out)}
        assert causes == {"dl.events": "CP414", "dl.orders": "CP403"}
        await log.publish([event("Placed", "o-1", b'{"id":"o-1"}')])
        await until(lambda: worker.counts().applied >= 1)
        code, out = await cli("dlq", "redrive", "dl.events", "dl.orders", "--yes")
        assert code == 0 and "2 records redriven" in out
        await until(lambda: worker.counts().dead == 3)
        assert (await client.wait("order/o-1", timeout_ms=10_000)).status == "done"
        _, out = await cli("dlq", "list")
        assert "CP403 ×1" in out and "1 of them came back after a redrive" in out and "CP414" not in out
    finally:
        await client.close()
        await worker.stop(500)
        await asyncio.gather(task, return_exceptions=True)
        await log.close()
