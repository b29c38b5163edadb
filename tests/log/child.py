"""A process of its own for the SQLite tests: writes, races, shares; says on standard output what was acknowledged."""

from __future__ import annotations

import asyncio
import os
import sys
import zlib

from contrapas.core.fold import Fold
from contrapas.core.lane import Draft
from contrapas.errors import ContrapasError, Fenced
from contrapas.log import sqlite_store
from contrapas.log.sqlite import SqliteLog


def say(text: str) -> None:
    os.write(1, (text + "\n").encode())


def record(key: str, version: int, epoch: int, value: bytes) -> Draft:
    headers = (
        ("cp-kind", b"instance"),
        ("cp-version", b"%d" % version),
        ("cp-epoch", b"%d" % epoch),
        ("cp-sum", b"%08x" % zlib.crc32(value)),
    )
    return Draft("", 0, key.encode(), value, headers)


async def write(path: str, count: int) -> None:
    """Commit triples with one value; afterwards compact and release."""
    log = SqliteLog(path, "shop", 4)
    lease = await log.acquire(0, "child")
    say(f"own {lease.epoch}")
    start = await versions(log)
    for n in range(1, count + 1):
        drafts = [
            record(k, start.get(k.encode(), 0) + n, lease.epoch, b"%d" % n * 50) for k in ("a", "b", "c")
        ]
        done = await lease.commit(drafts, [Draft("in", 1, b"x", b"%d" % n)], lease.control)
        say(f"ack {n} {done.first} {done.last} {done.durable}")
    end = (await log.bounds("log", 0))[1]
    await lease.commit([], [], lease.control._replace(relayed=end))
    say(f"compacted {await lease.compact(end, budget_ms=1000)}")
    await lease.release()
    await log.close()
    say("closed")


async def versions(log: SqliteLog) -> dict[bytes, int]:
    judge = Fold(floor=1 << 40)
    async for batch in log.latest(0):
        for found in batch:
            judge.judge(found)
    return judge.known


async def write_on(path: str, count: int) -> None:
    """Commit until told to stop or fenced or out of order, and say what each error was."""
    try:
        log = SqliteLog(path, "shop", 4)
        lease = await log.acquire(0, "child")
        start = await versions(log)
    except ContrapasError as error:
        say(f"error {error.code}")
        return
    version = max(start.values(), default=0)
    for n in range(1, count + 1):
        try:
            drafts = [record(k, version + 1, lease.epoch, b"%d" % n * 50) for k in ("a", "b", "c")]
            await lease.commit(drafts, [], lease.control)
            version += 1
            say(f"ack {version}")
        except ContrapasError as error:
            say(f"error {error.code} {getattr(error, 'again', '')}")


async def race(path: str, turns: int) -> None:
    """Take the partition from whoever has it, read the tail, write a few, until fenced; so many times."""
    log = SqliteLog(path, "shop", 4)
    for _ in range(turns):
        while True:
            log.break_lock(0)
            try:
                lease = await log.acquire(0, f"racer-{os.getpid()}")
                break
            except Fenced:
                continue
        version = (await versions(log)).get(b"counter", 0)
        try:
            for _ in range(5):
                version += 1
                await lease.commit([record("counter", version, lease.epoch, b"x")], [], lease.control)
                say(f"ack {version} {lease.epoch}")
        except Fenced:
            say("fenced")
    await log.close()


async def hold(path: str) -> None:
    """Own a partition; commit once per line on standard input."""
    log = SqliteLog(path, "shop", 4)
    lease = await log.acquire(0, "holder")
    say("own")
    loop = asyncio.get_running_loop()
    version = 0
    while await loop.run_in_executor(None, sys.stdin.readline):
        try:
            version += 1
            await lease.commit([record("k", version, lease.epoch, b"v")], [], lease.control)
            say("ack")
        except Fenced:
            say("fenced")


async def share(path: str) -> None:
    """Join the group and say what is assigned."""
    log = SqliteLog(path, "shop", 4)
    async for slots in log.membership("shop.workers", ("in",)).assignments():
        say("assigned " + " ".join(str(p) for _, p in sorted(slots)))


def main() -> None:
    what, path, *rest = sys.argv[1:]
    if pages := os.environ.get("WAL_PAGES"):
        sqlite_store.WAL_PAGES = int(pages)
    match what:
        case "write":
            asyncio.run(write(path, int(rest[0])))
        case "write-on":
            asyncio.run(write_on(path, int(rest[0])))
        case "race":
            asyncio.run(race(path, int(rest[0])))
        case "hold":
            asyncio.run(hold(path))
        case "share":
            asyncio.run(share(path))
        case _:
            raise SystemExit(f"unknown: {what}")


if __name__ == "__main__":
    main()
