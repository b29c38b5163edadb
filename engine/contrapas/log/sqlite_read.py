"""Reading the SQLite file: synchronous, without locks, also while others write; light enough for a command line."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from contrapas.core.control import decode_control
from contrapas.core.lane import Control, Lane, Record, Source, Topic
from contrapas.errors import Damaged, LogError
from contrapas.log.checks import check_position
from contrapas.log.collector import uncollected
from contrapas.log.sqlite_file import ROTTEN, check_marks, check_wal, connect, explain, has_wal, marks
from contrapas.log.sqlite_rows import LOW, SHIFT, unpack_headers

Row = tuple[int, bytes, bytes | None, bytes, int]
_tuple = tuple[object, ...].__new__
"""A named tuple called by its name takes a detour through Python."""
SPARSE = 20
"""`latest` picks records one by one where at most one in so many is a key's newest, else it walks over all."""


class PartRow(NamedTuple):
    """One partition as `log describe` shows it."""

    partition: int
    epoch: int
    owner: str
    log_end: int
    in_start: int
    in_end: int
    horizon: int
    relayed: int
    timestamp_ms: int
    control: Control


class SqliteReader:
    """An open file for reading only. Every method reads what is committed, nothing else."""

    def __init__(self, path: str, namespace: str | None = None, partitions: int | None = None) -> None:
        if not os.path.exists(path):
            raise LogError(
                "CP505",
                f"{path} does not exist",
                fix="contrapas dev, or contrapas topic create --apply",
                place=path,
            )
        self.path = path
        had_wal = has_wal(path)
        self.conn = connect(path, read_only=True)
        try:
            found = marks(self.conn, path)
            check_marks(found, path, namespace, partitions)
            check_wal(self.conn, path, found, had_wal)
        except BaseException:
            self.conn.close()
            raise
        self.marks: Mapping[str, str] = found
        self.namespace = found.get("namespace", "")
        with self.errors():
            self.partitions = int(found["partitions"])
            self.id = found["id"]
        self._topics: dict[Lane, tuple[int, int]] = {}

    def close(self) -> None:
        """Close."""
        self.conn.close()

    @contextmanager
    def errors(self) -> Generator[None]:
        """Errors of SQLite as ours."""
        try:
            yield
        except ROTTEN as error:
            raise explain(error, self.path) from error

    @contextmanager
    def moment(self) -> Generator[None]:
        """Let several reads see one moment."""
        with self.errors():
            self.conn.execute("begin")
            try:
                yield
            finally:
                self.conn.execute("commit")

    def version(self) -> int:
        """A number that changes when another connection commits."""
        with self.errors():
            return int(self.conn.execute("pragma data_version").fetchone()[0])

    def name_of(self, lane: Lane) -> Lane:
        """`<ns>.in` and `<ns>.log` are `in` and `log`."""
        if lane == f"{self.namespace}.in":
            return "in"
        return "log" if lane == f"{self.namespace}.log" else lane

    def place(self, lane: Lane, partition: int, offset: int) -> str:
        """As a message names it: `shop.log/13@41207`."""
        return (
            f"{self.namespace}.{lane}/{partition}@{offset}"
            if lane in ("in", "log")
            else f"{lane}/{partition}@{offset}"
        )

    # ---- what there is

    def topics(self) -> dict[str, Topic]:
        """Every topic by name."""
        with self.errors():
            rows = self.conn.execute("select name, t, partitions from topic order by name").fetchall()
            return {str(name): Topic(f"{self.id}-{t}", int(count)) for name, t, count in rows}

    def topic(self, lane: Lane) -> Topic | None:
        """Id and count; None when it does not exist."""
        name = self.name_of(lane)
        if name in ("in", "log"):
            return Topic(f"{self.id}-{name}", self.partitions)
        with self.errors():
            row = self.conn.execute("select t, partitions from topic where name=?", (name,)).fetchone()
        return None if row is None else Topic(f"{self.id}-{row[0]}", row[1])

    def parts(self) -> list[PartRow]:
        """Every partition's owner, epoch, ends and control."""
        with self.errors():
            rows = self.conn.execute(
                "select p, epoch, owner, log_head, in_start, in_head, horizon, relayed, ts, control from part order by p"
            ).fetchall()
            return [
                PartRow._make([*row[:9], decode_control(row[9], place=f"{self.namespace}.part/{row[0]}")])
                for row in rows
            ]

    def epochs(self) -> dict[int, int]:
        """Epoch of each partition."""
        with self.errors():
            return dict(self.conn.execute("select p, epoch from part"))

    def number(self, lane: Lane, partition: int) -> int:
        """Number of a topic, -1 for a lane; LogError CP505 when lane or partition do not exist."""
        if lane in ("in", "log"):
            t, count = -1, self.partitions
        else:
            if (found := self._topics.get(lane)) is None:
                with self.errors():
                    row = self.conn.execute(
                        "select t, partitions from topic where name=?", (lane,)
                    ).fetchone()
                if row is None:
                    fix = f"contrapas topic create {lane}"
                    raise LogError("CP505", f"topic {lane} does not exist", fix=fix, place=lane)
                found = self._topics[lane] = (row[0], row[1])
            t, count = found
        if not 0 <= partition < count:
            raise LogError("CP505", f"{lane} has no partition {partition}", place=f"{lane}/{partition}")
        return t

    # ---- records

    def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        """[start, stable end)."""
        lane = self.name_of(lane)
        t = self.number(lane, partition)
        with self.errors():
            if lane == "log":
                row = self.conn.execute("select 0, log_head from part where p=?", (partition,)).fetchone()
            elif lane == "in":
                row = self.conn.execute(
                    "select in_start, in_head from part where p=?", (partition,)
                ).fetchone()
            else:
                row = self.conn.execute(
                    "select start, head from topic_part where t=? and p=?", (t, partition)
                ).fetchone()
        if row is None:
            self._topics.pop(lane, None)
            raise LogError("CP505", f"topic {lane} was deleted", place=f"{lane}/{partition}")
        with self.errors():
            return operator.index(row[0]), operator.index(row[1])

    def ends(self, places: Iterable[tuple[Lane, int]]) -> dict[tuple[Lane, int], int]:
        """Stable ends of several partitions at once."""
        found: dict[tuple[Lane, int], int] = {}
        with self.errors():
            for p, log_head, in_head in self.conn.execute("select p, log_head, in_head from part"):
                found["log", p], found["in", p] = log_head, in_head
        return {place: found[place] if place in found else self.bounds(*place)[1] for place in places}

    def read(
        self, lane: Lane, partition: int, offset: int, max_records: int = 1000, max_bytes: int = 4 << 20
    ) -> tuple[list[Record], int]:
        """As `Log.read`, without waiting."""
        lane = self.name_of(lane)
        start, end = self.bounds(lane, partition)
        check_position(self.namespace, lane, partition, offset, start, end)
        if offset == end:
            return [], end
        taken: list[Record] = []
        size = 0
        for record in self.scan(lane, partition, offset, end, max_records):
            size += len(record.key) + len(record.value or b"")
            if taken and size > max_bytes:
                return taken, taken[-1].offset + 1
            taken.append(record)
        if len(taken) < max_records:
            return taken, end
        return taken, taken[-1].offset + 1

    def scan(self, lane: Lane, partition: int, first: int, last: int, limit: int = -1) -> Iterator[Record]:
        """Records with first <= offset < last, in order. Damaged CP520 where the headers of one lie."""
        with self.errors():
            if lane in ("in", "log"):
                base = partition << SHIFT
                rows = self.conn.execute(
                    f"select i & {LOW}, key, value, headers, ts from lane_{lane} where i>=? and i<? order by i limit ?",
                    (base + first, base + last, limit),
                )
            else:
                rows = self.conn.execute(
                    "select o, key, value, headers, ts from lane_topic where t=? and p=? and o>=? and o<? order by o limit ?",
                    (self.number(lane, partition), partition, first, last, limit),
                )
            for row in rows:
                yield self._record(lane, partition, row)

    def _record(self, lane: Lane, partition: int, row: Row) -> Record:
        offset, key, value, headers, ts = row
        try:
            if key.__class__ is not bytes or (value is not None and value.__class__ is not bytes):
                raise TypeError("key and value are no bytes")
            return Record(partition, offset, key, value, unpack_headers(headers), ts)
        except (ValueError, TypeError) as bad:
            place = self.place(lane, partition, offset)
            raise Damaged("CP520", f"a record is damaged: {bad}", got=str(bad), place=place) from None

    def _records(self, lane: Lane, partition: int, rows: Iterable[Row], tombstones: bool) -> list[Record]:
        """`_record` of each, in one go: a takeover reads millions."""
        records: list[Record] = []
        for row in rows:
            offset, key, value, headers, ts = row
            if value is None and not tombstones:
                continue
            if key.__class__ is bytes and (value is None or value.__class__ is bytes):
                try:
                    records.append(
                        _tuple(Record, (partition, offset, key, value, unpack_headers(headers), ts))
                    )
                    continue
                except (ValueError, TypeError):
                    pass  # `_record` says it with the place
            records.append(self._record(lane, partition, row))
        return records

    def latest(
        self, partition: int, after: int = 0, upto: int | None = None, step: int = 1000
    ) -> Iterator[list[Record]]:
        """As `Log.latest`, in batches, some of them empty; between two batches others may write."""
        self.number("log", partition)
        end = self.bounds("log", partition)[1] if upto is None else upto
        kept = self._overtaken(partition, after, end)
        with self.errors():
            live = self.conn.execute("select count(*) from latest where p=?", (partition,)).fetchone()[0]
            base = partition << SHIFT
            (wanted,) = self.conn.execute(
                "select count(*) from latest where p=? and i>=? and i<?",
                (partition, base + after, base + end),
            ).fetchone()
        if live * SPARSE < end - after:
            rows = self._picked(partition, after, end, kept, step)
        else:
            rows = self._swept(partition, after, end, kept, step * 2)
        found = 0
        while True:
            with uncollected():
                if (batch := next(rows, None)) is None:
                    break
                found += sum([row[0] not in kept for row in batch]) if kept else len(batch)
                records = self._records("log", partition, batch, after > 0)
            yield records
        if found < wanted and self.bounds("log", partition)[1] == end:
            place = f"{self.namespace}.log/{partition}"
            text = f"{found} of {wanted} newest records are there"
            raise Damaged("CP520", f"records of {place} are lost: {text}", got=text, place=place)

    def _swept(self, partition: int, after: int, end: int, kept: set[int], step: int) -> Iterator[list[Row]]:
        """Walk over the lane, a window at a time, and leave out what is superseded."""
        base = partition << SHIFT
        others = ", a.i" if kept else ""
        sql = (
            f"select l.i & {LOW}, l.key, l.value, l.headers, l.ts{others} from lane_log l cross join latest a "
            f"on a.p=? and a.key=l.key where l.i>=? and l.i<? and {'(a.i=l.i or a.i>=?)' if kept else 'a.i=l.i'} order by l.i"
        )
        for at in range(after, end, step):
            with self.errors():
                window = (partition, base + at, base + min(at + step, end))
                rows = self.conn.execute(sql, (*window, base + end) if kept else window).fetchall()
            yield [row[:5] for row in rows if row[5] == base + row[0] or row[0] in kept] if kept else rows

    def _picked(self, partition: int, after: int, end: int, kept: set[int], step: int) -> Iterator[list[Row]]:
        """Fetch each newest record by its offset: where nearly all of the lane is superseded."""
        base = partition << SHIFT
        with self.errors():
            found = self.conn.execute(
                "select i from latest where p=? and i>=? and i<?", (partition, base + after, base + end)
            ).fetchall()
        wanted = sorted({row[0] for row in found} | {base + offset for offset in kept})
        for at in range(0, len(wanted), step):
            some = wanted[at : at + step]
            marks = ",".join("?" * len(some))
            sql = (
                f"select l.i & {LOW}, l.key, l.value, l.headers, l.ts, a.i from lane_log l left join latest a "
                f"on a.p=? and a.key=l.key where l.i in ({marks}) order by l.i"
            )
            with self.errors():
                rows = self.conn.execute(sql, (partition, *some)).fetchall()
            yield [row[:5] for row in rows if row[5] == base + row[0] or row[0] in kept]

    def _overtaken(self, partition: int, after: int, end: int) -> set[int]:
        """Offsets of records that were the newest of their key before `end`, where a later one is at or above it."""
        base = partition << SHIFT
        sql = (
            f"select max(l.i) & {LOW} from lane_log l cross join latest a on a.p=? and a.key=l.key "
            "where a.i>=? and l.i>=? and l.i<? group by l.key"
        )
        with self.errors():
            head = self.conn.execute("select log_head from part where p=?", (partition,)).fetchone()[0]
            if head <= end:
                return set()
            return {
                row[0] for row in self.conn.execute(sql, (partition, base + end, base + after, base + end))
            }

    def newest(self, partition: int, key: bytes) -> Record | None:
        """The newest record of one key on the log lane; None when there is none or it is a tombstone."""
        sql = (
            f"select l.i & {LOW}, l.key, l.value, l.headers, l.ts from latest a join lane_log l on l.i=a.i "
            "where a.p=? and a.key=?"
        )
        with self.errors():
            row = self.conn.execute(sql, (partition, key)).fetchone()
        return None if row is None or row[2] is None else self._record("log", partition, row)

    def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        """First offset with a timestamp at or after the given one, else the end: bisection, timestamps never fall."""
        lane = self.name_of(lane)
        low, high = self.bounds(lane, partition)
        end = high
        look = self._looker(lane, partition)
        with self.errors():
            while low < high:
                middle = (low + high) // 2
                row = look(middle)
                if row is None or row[0] >= high or row[1] >= timestamp_ms:
                    high = middle
                else:
                    low = row[0] + 1
            row = look(low)
        return end if row is None or row[0] >= end else int(row[0])

    def _looker(self, lane: Lane, partition: int) -> Callable[[int], tuple[int, int] | None]:
        if lane in ("in", "log"):
            base, top = partition << SHIFT, (partition + 1) << SHIFT
            sql = f"select i & {LOW}, ts from lane_{lane} where i>=? and i<? order by i limit 1"
            return lambda offset: self.conn.execute(sql, (base + offset, top)).fetchone()
        t = self.number(lane, partition)
        sql = "select o, ts from lane_topic where t=? and p=? and o>=? order by o limit 1"
        return lambda offset: self.conn.execute(sql, (t, partition, offset)).fetchone()

    def positions(self, group: str) -> dict[Source, int]:
        """Stored positions; a source is `<topic>@<topic id>`."""
        with self.errors():
            rows = self.conn.execute(
                "select coalesce(topic.name, 'in'), position.t, p, o from position left join topic using(t) where grp=?",
                (group,),
            ).fetchall()
        return {(f"{name}@{self.id}-{t if t >= 0 else 'in'}", p): o for name, t, p, o in rows}

    def pages(self) -> tuple[int, int, int]:
        """(page size, pages, free pages)."""
        with self.errors():
            one = [
                self.conn.execute(f"pragma {name}").fetchone()[0]
                for name in ("page_size", "page_count", "freelist_count")
            ]
        return one[0], one[1], one[2]


def frames(path: str) -> int:
    """Room of the WAL in pages, filled or not; 0 without one."""
    try:
        with open(f"{path}-wal", "rb") as file:
            head = file.read(32)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return 0
    if len(head) < 32:
        return 0
    page = int.from_bytes(head[8:12], "big")
    return (size - 32) // (page + 24)
