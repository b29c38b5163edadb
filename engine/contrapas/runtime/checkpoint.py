"""A checkpoint: what the fold of one partition's log lane is up to an offset, in a SQLite file on this machine.

A cache and nothing more: a worker that has it reads the lane from that offset on, a worker that has none reads it from
zero. It holds the newest record that counts of each key, as it stands on the lane, the heals owed, and what the fold knows:
the highest epoch, the control record, the offset. It is written in one transaction without fsync; what a power cut or a bad
disk leaves half written is found by a checksum over all rows, and the file is thrown away, as is one of another namespace,
topic or count. Deleting it costs time only.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from contrapas.core.control import decode_control, encode_control
from contrapas.core.fold import Fold
from contrapas.core.lane import Control, Known, Record
from contrapas.errors import ContrapasError, Damaged
from contrapas.log.sqlite_rows import pack_headers, unpack_headers

FORM: Final = "contrapas checkpoint 1"
BYTES_MAX: Final = 64 << 30
"""A file above this is not begun, not gone on with, and not read."""
VALUE_MAX: Final = 2 << 20
_MODULO: Final = 1 << 62
Field = bytes | str | int | None
_TABLES: Final = """
create table entry(key blob primary key, o integer not null, ts integer not null, sum integer not null,
                   headers blob not null, value blob not null);
create table owed(key blob primary key, version integer not null);
create table head(form text not null, namespace text not null, topic text not null, partitions integer not null,
                  partition integer not null, upto integer not null, epoch integer not null, control blob,
                  at_ms integer not null, count integer not null, sum integer not null, own integer not null);
"""
_HEAD: Final = "form, namespace, topic, partitions, partition, upto, epoch, control, at_ms, count, sum"
_logger = logging.getLogger("contrapas.runtime")


class Identity(NamedTuple):
    """Which lane a checkpoint is of."""

    namespace: str
    topic: str
    """Id of the log lane: another one after it was deleted and made again."""
    partitions: int
    partition: int


class State(NamedTuple):
    """What a fold knows besides the records."""

    upto: int
    """It is true for every record below this offset."""
    epoch: int
    control: Control | None
    owed: Mapping[bytes, int]
    at_ms: int
    """Newest log time below `upto`."""

    @property
    def known(self) -> Known:
        """For `Log.acquire`."""
        return Known(self.upto, self.epoch, self.control)

    def fold(self, name: str, floor: int) -> Fold:
        """A fold that goes on from here, over the newest record of each key: versions before it do not bind it."""
        judge = Fold(name, floor=floor, epoch=self.epoch)
        judge.control = self.control
        judge.owed = dict(self.owed)
        return judge


EMPTY: Final = State(0, 0, None, {}, 0)


class _Foreign(ValueError):
    """The file is whole, and another lane's."""


class Checkpoint:
    """One partition's file. Not for two threads at once; every call may take as long as a disk does."""

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path = path
        self.identity = identity
        self._conn: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        """A reader that is cancelled closes the file while a thread may still be at it."""
        self._count = self._sum = 0

    # ---- reading

    def state(self) -> State:
        """What the file says, `EMPTY` where there is none. What is no checkpoint of this lane is thrown away."""
        if self._conn is None and not self.path.exists():
            return EMPTY
        try:
            with self._lock:
                return self._state(self._open())
        except _Foreign as why:  # nothing is wrong: a cluster for trying things out is made anew every day
            self.discard(f"{why}", logging.INFO)
            return EMPTY
        except (sqlite3.Error, Damaged, ValueError, TypeError, OSError, OverflowError) as why:
            self.discard(f"{why}")
            return EMPTY

    def _state(self, conn: sqlite3.Connection) -> State:
        found = conn.execute(f"select {_HEAD}, own from head limit 2").fetchall()
        if not found:
            return EMPTY
        *said, own = found[0]
        if len(found) != 1 or own != _crc(*said):
            raise ValueError("its head is damaged")
        form, *identity, upto, epoch, control, at_ms, count, total = said
        if form != FORM:
            raise ValueError(f"it is of form {form}, not of {FORM}")
        if tuple(identity) != self.identity:
            raise _Foreign("it is of another log, or of one that was made anew")
        owed = dict(conn.execute("select key, version from owed order by key").fetchall())
        self._count, self._sum = count, (total - _owed_sum(owed)) % _MODULO
        return State(upto, epoch, None if control is None else decode_control(control), owed, at_ms)

    def records(self, step: int = 1_000) -> Iterator[list[Record]]:
        """Every newest record, in no order. Damaged CP520 when a row, or the whole, is not what was written."""
        number = self.identity.partition
        count = whole = 0
        try:
            rows = self._open().execute("select key, o, ts, headers, value, sum from entry")
            while batch := rows.fetchmany(step):
                count += len(batch)
                for key, o, ts, h, value, total in batch:
                    if _row_crc(key, o, ts, h, value) != total:
                        raise ValueError("a row is damaged")
                    whole += total
                yield [
                    Record(number, o, key, value, unpack_headers(h), ts) for key, o, ts, h, value, _ in batch
                ]
        except (sqlite3.Error, ValueError, TypeError, ContrapasError) as why:
            raise Damaged("CP520", f"checkpoint {self.path} is damaged: {why}", place=str(self.path)) from why
        if count != self._count or whole % _MODULO != self._sum % _MODULO:
            words = f"checkpoint {self.path} does not hold the {self._count} records that it was sealed with"
            raise Damaged("CP520", words, place=str(self.path))

    async def batches(self) -> AsyncIterator[list[Record]]:
        """The same, read by threads."""
        found = self.records()
        while batch := await asyncio.to_thread(next, found, None):
            yield batch

    # ---- writing

    def begin(self) -> State:
        """Begin to write, and say what is there: nobody else writes until `seal` or `close`.

        BlockingIOError: another process is at it. OSError: the file is as large as it may be.
        """
        self.state()  # what cannot be gone on with is gone by now
        with self._lock:
            conn = self._open()
            try:
                conn.execute("begin immediate")
            except sqlite3.OperationalError as why:
                raise BlockingIOError(str(why)) from why
            state = self._state(conn)
        if self.path.stat().st_size > BYTES_MAX:
            self.discard(f"it has grown beyond {BYTES_MAX} bytes")
            raise OSError("the checkpoint is too large")
        return state

    def put(self, records: Iterable[Record], gone: Iterable[bytes] = ()) -> None:
        """Newer records, in the order of the lane, and keys that are no more."""
        newest = {r.key: r for r in records}
        gone = set(gone) - newest.keys()
        for key in (*newest, *gone):
            row = self._run("select sum from entry where key=?", (key,)).fetchone()
            if row is not None:
                self._count -= 1
                self._sum -= row[0]
        rows: list[tuple[bytes, int, int, bytes, bytes, int]] = []
        for r in newest.values():
            if r.value is None or len(r.value) > VALUE_MAX:
                raise ValueError(f"no record for a checkpoint: {r.key[:80]!r}")
            headers = pack_headers(r.headers)
            total = _row_crc(r.key, r.offset, r.timestamp_ms, headers, r.value)
            rows.append((r.key, r.offset, r.timestamp_ms, headers, r.value, total))
            self._sum += total
        self._count += len(rows)
        self._run_many(
            "insert or replace into entry(key, o, ts, headers, value, sum) values (?,?,?,?,?,?)", rows
        )
        self._run_many("delete from entry where key=?", [(key,) for key in gone])

    def seal(self, state: State) -> None:
        """What was put since `begin`, and this, is true from now on."""
        control = None if state.control is None else encode_control(state.control)
        total = (self._sum + _owed_sum(state.owed)) % _MODULO
        head = (FORM, *self.identity, state.upto, state.epoch, control, state.at_ms, self._count, total)
        self._run("delete from owed")
        self._run_many("insert into owed values (?,?)", list(state.owed.items()))
        self._run("delete from head")
        self._run(f"insert into head({_HEAD}, own) values ({','.join('?' * 12)})", (*head, _crc(*head)))
        self._run("commit")

    def discard(self, why: str, level: int = logging.WARNING) -> None:
        """Throw the file away, and say why."""
        _logger.log(level, "checkpoint %s is thrown away: %s", self.path, why)
        self.close()
        for end in ("", "-wal", "-shm"):
            Path(f"{self.path}{end}").unlink(missing_ok=True)

    def close(self) -> None:
        """What was not sealed is forgotten."""
        with self._lock:
            conn, self._conn = self._conn, None
            if conn is not None:
                conn.close()

    def _run(self, sql: str, fields: Sequence[Field] = ()) -> sqlite3.Cursor:
        with self._lock:
            return self._begun().execute(sql, fields)

    def _run_many(self, sql: str, rows: Sequence[Sequence[Field]]) -> None:
        with self._lock:
            self._begun().executemany(sql, rows)

    def _begun(self) -> sqlite3.Connection:
        if self._conn is None or not self._conn.in_transaction:
            raise OSError(f"checkpoint {self.path} was closed in between")
        return self._conn

    def _open(self) -> sqlite3.Connection:
        if self._conn is not None:
            return self._conn
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        conn = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=0.5)
        try:
            self.path.chmod(0o600)
            conn.execute("pragma journal_mode=wal")
            conn.execute("pragma synchronous=off")
            conn.execute("pragma trusted_schema=off")
            tables = {name for (name,) in conn.execute("select name from sqlite_master where type='table'")}
            if not tables:
                conn.executescript(f"begin immediate; {_TABLES} commit;")
        except BaseException:
            conn.close()
            raise
        self._conn = conn
        return conn


def _crc(*fields: Field) -> int:
    """CRC-32 over the fields of a row, each with its length."""
    total = 0
    for field in fields:
        data = field if isinstance(field, bytes) else str(field).encode()
        total = zlib.crc32(data, zlib.crc32(b"%d:" % len(data), total))
    return total


def _row_crc(key: bytes, offset: int, ts: int, headers: bytes, value: bytes) -> int:
    said = b"%d %d %d %d %d " % (offset, ts, len(key), len(headers), len(value))
    return zlib.crc32(value, zlib.crc32(headers, zlib.crc32(key, zlib.crc32(said))))


def _owed_sum(owed: Mapping[bytes, int]) -> int:
    return sum(_crc(b"owed", key, version) for key, version in owed.items())
