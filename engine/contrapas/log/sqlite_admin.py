"""Looking after a SQLite log: what would be created, what `doctor` finds, whether every byte is as it was written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping

from contrapas.core.fold import Fold, Verdict, damage
from contrapas.core.lane import Lane, Record
from contrapas.errors import ContrapasError, Damaged
from contrapas.log import Finding, Plan
from contrapas.log.memory_store import wall_ms
from contrapas.log.sqlite_file import check_disk
from contrapas.log.sqlite_owners import stalled
from contrapas.log.sqlite_read import PartRow, SqliteReader
from contrapas.log.sqlite_store import SqliteStore

_GIB = 1 << 30


def plan(path: str, namespace: str, partitions: int, topics: Mapping[str, int]) -> Plan:
    """What is missing of a log and its topics. Raises what opening it would."""
    if not os.path.exists(path):
        return Plan(f"sqlite:///{path}", namespace, partitions, True, dict(topics))
    reader = SqliteReader(path, namespace, partitions)
    try:
        there = reader.topics()
    finally:
        reader.close()
    return Plan(
        f"sqlite:///{path}", namespace, partitions, False, {n: c for n, c in topics.items() if n not in there}
    )


def apply(made: Plan, *, clock: Callable[[], int] = wall_ms) -> None:
    """Create what a plan lists; again it changes nothing."""
    path = made.url.removeprefix("sqlite:///")
    store = SqliteStore(path, made.namespace, made.partitions, clock=clock)
    try:
        store.create_topics(made.topics)
    finally:
        store.close()


def examine(path: str, namespace: str | None = None, partitions: int | None = None) -> list[Finding]:
    """What `doctor` says about a file: first what refuses a start, then what deserves a look."""
    found: list[Finding] = []
    try:
        check_disk(path)
        reader = SqliteReader(path, namespace, partitions)
    except ContrapasError as no:
        return [_finding(no)]
    try:
        mode = reader.conn.execute("pragma journal_mode").fetchone()[0]
        if mode != "wal":
            text = f"{path} is in journal mode {mode!r}, not in WAL"
            found.append(Finding(True, "CP516", text, "PRAGMA journal_mode=WAL", path))
        for part in reader.parts():
            found.extend(_positions(reader, part))
        found.extend(_lock_holders(path, reader.partitions))
    except ContrapasError as no:
        found.append(_finding(no))
    except sqlite3.Error as error:
        found.append(Finding(True, "CP520", f"{path}: {error}", "contrapas log verify", path))
    finally:
        reader.close()
    return [*found, *_surroundings(path)]


def _positions(reader: SqliteReader, part: PartRow) -> Iterator[Finding]:
    for (source, p), at in part.control.cursor.items():
        if p != part.partition or source.partition("@")[0] not in ("in", f"{reader.namespace}.in"):
            continue
        place = reader.place("in", p, at)
        if at > part.in_end:
            yield Finding(True, "CP506", f"position {at} lies beyond the end, {part.in_end}", place=place)
        elif at < part.in_start:
            yield Finding(
                True, "CP519", f"position {at} lies below the first record, {part.in_start}", place=place
            )
        elif at < part.in_end:
            records, _ = reader.read("in", p, at, max_records=1)
            if records and (late := time.time_ns() // 1_000_000 - records[0].timestamp_ms) > 60_000:
                text = f"{part.in_end - at} records wait, the oldest for {late // 1000} s"
                yield Finding(False, "CP523", text, "start a worker: contrapas worker", place)


def _lock_holders(path: str, partitions: int) -> Iterator[Finding]:
    for who in stalled(path, partitions):
        text = f"pid {who.pid} on {who.host} holds partition {who.partition} and is silent for {who.silent_ms // 1000} s"
        yield Finding(
            False, "CP804", text, f"continue or kill it: kill -9 {who.pid}", f"{path}.p{who.partition}"
        )


def _surroundings(path: str) -> Iterator[Finding]:
    version = sqlite3.sqlite_version_info
    if (3, 7, 0) <= version < (3, 51, 3):
        text = f"SQLite {sqlite3.sqlite_version} can damage a file that two programs write and checkpoint at once"
        yield Finding(False, "CP516", text, "let no other program write to the file", path)
    free = shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
    if free < _GIB:
        yield Finding(
            False, "CP516", f"{free >> 20} MiB are free on the disk of {path}", "free some space", path
        )
    if os.stat(path).st_mode & 0o077:
        yield Finding(False, "CP516", f"others may read {path}", f"chmod 600 {path}", path)


def _finding(error: ContrapasError) -> Finding:
    return Finding(True, error.code, error.text, error.fix, error.place)


def verify(path: str, namespace: str | None = None) -> Iterator[Finding]:
    """Read everything: pages, checksums, headers, versions and epochs. Yields what is not as it was written."""
    reader = SqliteReader(path, namespace)
    try:
        yield from _pages(reader)
        for partition in range(reader.partitions):
            yield from _lane(reader, partition)
        lanes: dict[Lane, int] = {"in": reader.partitions}
        lanes |= {name: topic.partitions for name, topic in reader.topics().items()}
        for lane, count in lanes.items():
            for partition in range(count):
                for step in _walk(reader, lane, partition):
                    if isinstance(step, Finding):
                        yield step
    finally:
        reader.close()


def _pages(reader: SqliteReader) -> Iterator[Finding]:
    try:
        for (said,) in reader.conn.execute("pragma quick_check"):
            if said != "ok":
                yield Finding(True, "CP520", f"SQLite finds: {said}", "restore a backup", reader.path)
    except sqlite3.Error as error:
        yield Finding(True, "CP520", f"SQLite finds: {error}", "restore a backup", reader.path)


def _lane(reader: SqliteReader, partition: int) -> Iterator[Finding]:
    """Checksums and the fold of one partition of the log lane."""
    try:
        horizon = reader.parts()[partition].horizon
    except ContrapasError as no:
        yield _finding(no)
        return
    name = f"{reader.namespace}.log"
    judge = Fold(name, floor=horizon)
    for step in _walk(reader, "log", partition):
        if isinstance(step, Finding):
            yield step
            continue
        if (bad := damage(step, name)) is not None:
            yield Finding(
                True, bad.code, f"{bad.text}: stored {bad.expected}, computed {bad.got}", bad.fix, bad.place
            )
        match judge.judge(step):
            case Verdict.LOSER:
                text = f"{step.key[:200].decode(errors='replace')} was written without the owner's epoch"
                yield Finding(True, "CP509", text, place=reader.place("log", partition, step.offset))
            case Verdict.STOP if judge.error is not None:
                yield _finding(judge.error)
                judge.error = None
            case _:
                pass


def _walk(reader: SqliteReader, lane: Lane, partition: int) -> Iterator[Record | Finding]:
    """Every record of a lane; a finding in place of one that does not read."""
    try:
        at, end = reader.bounds(lane, partition)
        while at < end:
            try:
                for record in reader.scan(lane, partition, at, end):
                    yield record
                    at = record.offset + 1
                return
            except Damaged as bad:
                yield _finding(bad)
                at = int(bad.place.rpartition("@")[2]) + 1 if "@" in bad.place else end
    except ContrapasError as no:
        yield _finding(no)
