"""The relay onto every log: the same rows, killed on the way, arrive on topics and on the lane of their namespace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.core.partition import partition
from contrapas.log.memory import MemoryLog
from contrapas.log.sqlite import SqliteLog
from contrapas.participant import Outgoing
from contrapas.participant.memory import MemoryStore
from contrapas.runtime.relay import Relay
from contrapas_postgres import connector
from tests.postgres import Database


class Killed(BaseException):
    """Stands for kill -9."""


@asynccontextmanager
async def a_log(kind: str, folder: Path, request: pytest.FixtureRequest) -> AsyncGenerator[Any]:
    log: Any
    if kind == "memory":
        log = MemoryLog("shop", 4)
    elif kind == "sqlite":
        log = SqliteLog(str(folder / "shop.db"), "shop", 4)
    else:
        # The server's fixture runs a loop of its own, in a thread.
        database: Database = request.getfixturevalue("postgres")
        log = await connector.open(database.url, "shop", partitions=4, make=True)
    await log.create_topics({"events": 3})
    yield log
    await log.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgresql"])
async def test_rows_reach_topics_and_the_lane_of_every_log_in_order_though_the_relay_is_killed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = MemoryStore("shop")
    made: list[Outgoing] = []
    async with store.transaction() as session:
        for n in range(2000):
            key = f"ö-{n % 7}"
            row = Outgoing(
                f"id-{n}", "shop.in" if n % 5 == 0 else "events", key, "Made", b'{"n":%d}' % n, "/services/shop",
                headers={"cp-kind": "event", "ce_subject": key},
            )  # fmt: skip
            session.add(row)
            made.append(row)
    async with a_log(kind, tmp_path, request) as log:

        def killed() -> None:
            raise Killed

        for point in ("outbox.read", "outbox.sent", "outbox.noted"):
            failpoints.arm(point, killed)
            try:
                with pytest.raises(Killed):
                    await Relay(store, log, "shop").run()
            finally:
                failpoints.disarm()
            store.kill()
            for claim in store.database.relays.values():
                claim.owner = ""
        relay = Relay(store, log, "shop")
        work = asyncio.create_task(relay.run())
        await until(lambda: relay.last == 2000)
        await relay.stop()
        await work
        for lane, count in (("in", 4), ("events", 3)):
            for p in range(count):
                records: list[Any] = []
                at = 0
                while more := (found := await log.read(lane, p, at, max_records=5000))[0]:
                    records += more
                    at = found[1]
                wanted = [m for m in made if partition(m.key.encode(), count) == p]
                wanted = [m for m in wanted if (m.topic == "shop.in") == (lane == "in")]
                seen = {dict(r.headers)["ce_id"].decode(): r for r in records}
                assert list(seen) == [m.id for m in wanted], "first deliveries in order, nothing lost"
                for m, r in zip(wanted, seen.values(), strict=True):
                    assert (r.key, r.value) == (m.key.encode(), m.payload)
                    assert dict(r.headers)["cp-kind"] == b"event"
