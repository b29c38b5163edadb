"""An owner on PostgreSQL is killed at every named place of the connector: what the next one finds is whole, and all there."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from contrapas import failpoints
from contrapas.testing.conformance import Owner, everything, folded
from contrapas_postgres import connector
from tests.postgres import Database, execute

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio, sys
import asyncpg
from contrapas.testing.conformance import Owner
from contrapas_postgres import connector

async def main(url):
    log = await connector.open(url, "shop")
    owner = Owner(log, await log.acquire(0, "first"))
    for n in range(3):
        done = await owner.write(owner.next("a", b"a%d" % n), owner.next("b", b"b%d" % n))
        print(f"written {n}", flush=True)
    con = await asyncpg.connect(url)
    async with owner.lease.joining(con) as commit:
        await con.execute("insert into business values ('joined')")
        await commit([owner.next("a", b"joined")], [], owner.lease.control)
    print("joined", flush=True)
    head = (await log.bounds("log", 0))[1]
    owner.control = owner.lease.control._replace(relayed=head)
    await owner.write(owner.next("b", b"last"))
    print("relayed", flush=True)
    await owner.lease.compact(head, budget_ms=5_000)
    print("compacted", flush=True)
    await owner.lease.release()
    print("released", flush=True)

asyncio.run(main(sys.argv[1]))
"""
SAID = ["written 0", "written 1", "written 2", "joined", "relayed", "compacted", "released"]
WHOLE = {b"a": b"joined", b"b": b"last"}
AT: dict[str, tuple[str, int, dict[bytes, bytes]]] = {
    "postgres.acquire.locked": ("kill", 0, {}),
    "postgres.acquire.fenced": ("kill", 0, {}),
    "postgres.commit.before": ("kill@2", 1, {b"a": b"a0", b"b": b"b0"}),
    "postgres.commit.accepted": ("kill@2", 1, {b"a": b"a1", b"b": b"b1"}),
    "postgres.joined.before": ("kill", 3, {b"a": b"a2", b"b": b"b2"}),
    "postgres.compact.begun": ("kill", 5, WHOLE),
    "postgres.release.before": ("kill", 6, WHOLE),
}
"""Place -> how it is armed, how much the owner had said by then, what stands."""


def run(url: str, armed: str) -> tuple[int, list[str]]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CONTRAPAS_FAILPOINTS": armed}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, url],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_every_place_of_the_connector_is_killed_here() -> None:
    assert set(AT) == {name for name in failpoints.NAMES if name.startswith("postgres.")}


@pytest.mark.parametrize("place", [*AT, ""])
async def test_what_an_owner_that_was_killed_leaves_is_whole_and_its_partition_free(
    postgres: Database, place: str
) -> None:
    how, said, states = AT.get(place, ("", len(SAID), WHOLE))
    execute(postgres.url, "create table business (name text)")
    log = await connector.open(postgres.url, "shop", partitions=1, make=True)
    try:
        code, lines = await asyncio.to_thread(run, postgres.url, f"{place}={how}" if place else "")
        assert code == (-signal.SIGKILL if place else 0) and lines == SAID[:said]
        async with asyncio.timeout(10):  # the server frees what the dead one held
            lease = await log.acquire(0, "heir")
        judge, found = await folded(log, floor=lease.control.horizon)
        assert found == states
        joined = states.get(b"a") == b"joined"
        assert await _business(postgres.url) == (["joined"] if joined else []), "half of a joined commit"
        heir = Owner(log, lease)
        heir.versions = {key.decode(): version for key, version in judge.known.items()}
        await heir.write(heir.next("a", b"heir"))
        if place == "postgres.compact.begun":  # what was begun is finished by the next one
            assert lease.control.horizon > 0
            await lease.compact((await log.bounds("log", 0))[1], budget_ms=5_000)
            assert len(await everything(log)) <= 4 and (await folded(log, floor=lease.control.horizon))[
                1
            ] == {
                **states,
                b"a": b"heir",
            }
    finally:
        await log.close()


async def _business(url: str) -> list[str]:
    import asyncpg

    con = await asyncpg.connect(url)
    try:
        return [row[0] for row in await con.fetch("select name from business")]
    finally:
        await con.close()
