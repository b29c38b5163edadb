"""Reading a log without the user's module: newest records, histories, topics, positions, straight from the file.

A SQLite file is read here, synchronously and read-only: a command that only looks must not pay for an event loop. A log
at a server is read through its connector (`afar`).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

from contrapas.cli import text
from contrapas.core.control import decode_control
from contrapas.core.lane import Control, Headers, Record
from contrapas.core.partition import partition as partition_of
from contrapas.errors import Refused, Unreachable
from contrapas.log.sqlite_rows import LOW, SHIFT, unpack_headers
from contrapas.runtime import settings as config

CHUNK = 2000
SCHEMA = 1
"""As `log.sqlite_file.SCHEMA`, which takes longer to import than a list may; a test compares."""


class TopicInfo(NamedTuple):
    """A topic and how much of it is there."""

    number: int
    name: str
    partitions: int
    starts: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def records(self) -> int:
        """Upper bound of the records that can be read."""
        return sum(head - start for head, start in zip(self.heads, self.starts, strict=True))


class Part(NamedTuple):
    """One partition of the lanes."""

    partition: int
    epoch: int
    owner: str
    """Who holds it now, empty: nobody."""
    log_head: int
    in_head: int
    in_start: int
    horizon: int
    relayed: int
    control: Control
    beat_ms: int | None
    """When its owner last said that it lives, as the lock file tells."""


def url_of(settings: config.Settings) -> str:
    """The log that flags and configuration name, or the only file in `.contrapas`."""
    named = settings.get("log")
    if named:
        return str(named)
    namespace = settings.get("namespace")
    if namespace:
        return f"sqlite:///.contrapas/{namespace}.db"
    found = _logs_here()
    if len(found) == 1:
        return f"sqlite:///{found[0]}"
    if found:
        names = ", ".join(os.path.basename(path) for path in found)
        raise Refused("CP817", f"there are several logs here: {names}", fix=f"--log sqlite:///{found[0]}")
    raise Refused(
        "CP817",
        "no log is named, and there is none in .contrapas",
        fix="contrapas dev MODULE:APP, or --log sqlite:///PATH",
    )


def _logs_here() -> list[str]:
    try:
        return sorted(
            os.path.join(".contrapas", name) for name in os.listdir(".contrapas") if name.endswith(".db")
        )
    except OSError:
        return []


def file_of(url: str) -> str:
    """Path of a `sqlite:///` URL; Refused CP510 for other schemes, which need their connector."""
    scheme, colon, rest = url.partition("://")
    if not colon:
        raise Refused("CP817", f"'{text.escape(url)}' is no log URL", fix=f"sqlite:///{text.escape(url)}")
    if scheme != "sqlite":
        raise Refused(
            "CP510",
            f"{text.escape(scheme)}:// needs its connector",
            fix=f"pip install 'contrapas[{text.escape(scheme)}]'",
        )
    path = rest.partition("?")[0].removeprefix("/")
    if not path:
        raise Refused("CP817", f"'{text.escape(url)}' names no file", fix="sqlite:///.contrapas/shop.db")
    return path


def open_file(settings: config.Settings) -> LogFile:
    """The log of this command line, read-only; CP501 when there is none, CP505 when it is no log of ours."""
    url = url_of(settings)
    if is_far(url):
        return far(url, str(settings.get("namespace") or ""))
    path = file_of(url)
    if not os.path.exists(path):
        raise Unreachable(
            "CP501", f"there is no log at {path}", fix="contrapas dev MODULE:APP makes one, or correct --log"
        )
    if not os.access(path, os.R_OK) or os.path.isdir(path):
        raise Unreachable("CP501", f"{path} cannot be read", fix="check its owner and mode", again=True)
    found = LogFile(path)
    wanted = settings.get("namespace")
    if wanted and wanted != found.namespace:
        found.close()
        raise Refused(
            "CP505",
            f"{path} belongs to namespace '{found.namespace}', not to '{text.escape(wanted)}'",
            fix="correct --log or --namespace",
        )
    return found


def is_far(url: str) -> bool:
    """Whether a log lies at a server, which needs its connector."""
    return "://" in url and not url.startswith(("sqlite:", "memory:"))


def far(url: str, namespace: str = "") -> LogFile:
    """A log at a server, read-only, through its connector."""
    from contrapas.cli.afar import FarLog

    return FarLog(url, namespace)


class LogFile:
    """An open log file; every method reads what is committed when it is called."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.address = f"sqlite:///{path}"
        try:
            self.conn = sqlite3.connect(
                f"file:{_quoted(os.path.abspath(path))}?mode=ro", uri=True, isolation_level=None
            )
        except sqlite3.Error as error:
            raise _explained(error, path) from error
        self.marks = self._marks()
        self._whole()
        self.namespace = self.marks["namespace"]
        self.partitions = int(self.marks["partitions"])

    def _marks(self) -> dict[str, str]:
        """The marker that every log of ours has; Refused CP505 for another file, CP516 for a newer one."""
        try:
            self.conn.execute("pragma busy_timeout=10000")
            version: int = self.conn.execute("pragma user_version").fetchone()[0]
            tables = {
                row[0] for row in self.conn.execute("select name from sqlite_master where type='table'")
            }
            if not {"meta", "part", "lane_log"} <= tables:
                raise Refused(
                    "CP505", f"{self.path} is not a contrapas log", fix="name another file", place=self.path
                )
            if version > SCHEMA:
                raise Refused(
                    "CP516",
                    f"{self.path} was written by a newer contrapas (schema {version})",
                    fix="upgrade contrapas",
                )
            return dict(self.conn.execute("select name, value from meta"))
        except sqlite3.Error as error:
            self.conn.close()
            raise _explained(error, self.path) from error
        except Refused:
            self.conn.close()
            raise

    def _whole(self) -> None:
        """Refused CP516 when the newest commits are missing: the file was copied without its `-wal`.

        `log.sqlite_file.check_wal` decides; it is asked only where the number beside the file gives a reason to.
        """
        try:
            with open(f"{self.path}.lock", "rb") as file:
                data = file.read(8)
            noted = int.from_bytes(data, "little", signed=True) if len(data) == 8 else 0
            lanes = self._all("select coalesce(sum(log_head + in_head + epoch), 0) from part", ())[0][0]
            doubt = noted > lanes + self._all("select coalesce(sum(head), 0) from topic_part", ())[0][0]
        except FileNotFoundError:
            doubt = self.marks.get("wal") == "1"
        if doubt:
            from contrapas.log.sqlite_file import check_wal, has_wal

            try:
                check_wal(self.conn, self.path, self.marks, has_wal(self.path))
            except BaseException:
                self.conn.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.conn.close()

    def version(self) -> int:
        """A number that changes when another connection has committed."""
        return int(self._all("pragma data_version", ())[0][0])

    def newest(self) -> Iterator[Record]:
        """The newest record of every key on the log lane."""
        sql = "select l.i, l.key, l.value, l.headers, l.ts from latest n join lane_log l on l.i = n.i where n.p = ? order by l.i"
        for partition in range(self.partitions):
            for row in self._all(sql, (partition,)):
                yield _lane_record(row)

    def newest_of(self, key: bytes, partition: int) -> Record | None:
        """The newest record of one key."""
        sql = "select l.i, l.key, l.value, l.headers, l.ts from latest n join lane_log l on l.i = n.i where n.p = ? and n.key = ?"
        rows = self._all(sql, (partition, key))
        return _lane_record(rows[0]) if rows else None

    def graphs(self) -> Iterator[Record]:
        """Machine graphs, of every partition: one version may stand there several times."""
        sql = "select l.i, l.key, l.value, l.headers, l.ts from latest n join lane_log l on l.i = n.i where n.p = ?"
        sql += " and n.key > ? and n.key < ? order by l.i"
        for partition in range(self.partitions):
            for row in self._all(sql, (partition, b"$graph/", b"$graph0")):
                yield _lane_record(row)

    def instances(self, key: str) -> list[Record]:
        """Newest records of the instances of a key (`o-9`) or of one instance (`place_order/o-9`)."""
        _, slash, rest = key.partition("/")
        if (
            slash
            and (found := self.newest_of(key.encode(), partition_of(rest.encode(), self.partitions)))
            is not None
        ):
            return [found]
        partition = partition_of(key.encode(), self.partitions)
        sql = "select l.i, l.key, l.value, l.headers, l.ts from latest n join lane_log l on l.i = n.i where n.p = ?"
        wanted = key.encode()
        newest = (_lane_record(row) for row in self._all(sql, (partition,)))
        return [one for one in newest if one.key[:1] != b"$" and one.key.partition(b"/")[2] == wanted]

    def history(self, key: bytes, partition: int) -> list[Record]:
        """Every record of a key that is still there, oldest first."""
        low, high = partition << SHIFT, (partition + 1) << SHIFT
        sql = "select i, key, value, headers, ts from lane_log where i >= ? and i < ? and key = ? order by i"
        return [_lane_record(row) for row in self._all(sql, (low, high, key))]

    def parts(self) -> list[Part]:
        """Every partition of the lanes."""
        sql = "select p, epoch, owner, log_head, in_head, in_start, horizon, relayed, control from part order by p"
        found: list[Part] = []
        for p, epoch, owner, log_head, in_head, in_start, horizon, relayed, control in self._all(sql, ()):
            beat = _beat(f"{self.path}.p{p}")
            place = f"{self.namespace}.log/{p}"
            found.append(
                Part(
                    partition=p,
                    epoch=epoch,
                    owner=owner if beat is not None else "",
                    log_head=log_head,
                    in_head=in_head,
                    in_start=in_start,
                    horizon=horizon,
                    relayed=relayed,
                    control=decode_control(control, place=place),
                    beat_ms=beat,
                )
            )
        return found

    def topics(self) -> list[TopicInfo]:
        """Every topic, by name."""
        heads: dict[int, list[tuple[int, int]]] = {}
        for t, start, head in self._all("select t, start, head from topic_part order by t, p", ()):
            heads.setdefault(t, []).append((start, head))
        return [
            TopicInfo(
                t, name, count, tuple(s for s, _ in heads.get(t, [])), tuple(h for _, h in heads.get(t, []))
            )
            for t, name, count in self._all("select t, name, partitions from topic order by name", ())
        ]

    def groups(self, name: str) -> dict[str, int]:
        """Groups with a stored position on a topic, and how far behind they are, in records."""
        sql = "select grp, sum(h.head - p.o) from position p join topic t on t.t = p.t "
        sql += "join topic_part h on h.t = p.t and h.p = p.p where t.name = ? group by grp"
        return {group: max(0, lag) for group, lag in self._all(sql, (name,))}

    def topic_settings(self, name: str) -> dict[str, str]:
        """Settings of a topic, where the log has any; also when they are not ours to see, none."""
        return {}

    def size(self, topic: TopicInfo) -> int | None:
        """Bytes of a topic's keys, values and headers; None where the log does not know."""
        columns = " + ".join(f"coalesce(length({name}), 0)" for name in ("key", "value", "headers"))
        if topic.number >= 0:
            rows = self._all(f"select sum({columns}) from lane_topic where t = ?", (topic.number,))
        else:
            rows = self._all(
                f"select sum({columns}) from {'lane_in' if topic.number == -1 else 'lane_log'}", ()
            )
        return int(rows[0][0] or 0)

    def topic(self, name: str) -> TopicInfo:
        """One topic; `<ns>.in` and `<ns>.log` are the lanes. Refused CP813 names the nearest."""
        if name in (f"{self.namespace}.in", f"{self.namespace}.log"):
            return self._lane(name)
        found = {one.name: one for one in self.topics()}
        if name not in found:
            near = text.nearest(name, [*found, f"{self.namespace}.in", f"{self.namespace}.log"])
            raise Refused(
                "CP813",
                f"there is no topic '{text.escape(name)}'" + (f", the nearest is '{near}'" if near else ""),
                fix="contrapas topic list",
            )
        return found[name]

    def _lane(self, name: str) -> TopicInfo:
        table = "lane_in" if name.endswith(".in") else "lane_log"
        starts: list[int] = []
        heads: list[int] = []
        for part in self.parts():
            low, high = part.partition << SHIFT, (part.partition + 1) << SHIFT
            first = self._all(f"select min(i) from {table} where i >= ? and i < ?", (low, high))[0][0]
            head = part.in_head if table == "lane_in" else part.log_head
            starts.append(head if first is None else first & LOW)
            heads.append(head)
        return TopicInfo(-1 if table == "lane_in" else -2, name, self.partitions, tuple(starts), tuple(heads))

    def read(self, topic: TopicInfo, partition: int, first: int, last: int) -> Iterator[Record]:
        """Records with first <= offset < last, in order."""
        while first < last:
            rows = self._chunk(topic, partition, first, last)
            if not rows:
                return
            yield from rows
            first = rows[-1].offset + 1

    def _chunk(self, topic: TopicInfo, partition: int, first: int, last: int) -> list[Record]:
        if topic.number < 0:
            table = "lane_in" if topic.number == -1 else "lane_log"
            low = partition << SHIFT
            sql = f"select i, key, value, headers, ts from {table} where i >= ? and i < ? order by i limit {CHUNK}"
            return [_lane_record(row) for row in self._all(sql, (low + first, low + last))]
        sql = f"select o, key, value, headers, ts from lane_topic where t = ? and p = ? and o >= ? and o < ? order by o limit {CHUNK}"
        rows = self._all(sql, (topic.number, partition, first, last))
        return [
            Record(partition, row[0], bytes(row[1] or b""), row[2], _headers(row[3]), row[4]) for row in rows
        ]

    def at_time(self, topic: TopicInfo, partition: int, ms: int) -> int | None:
        """First offset with a time at or after `ms`; None if there is none."""
        if topic.number < 0:
            table = "lane_in" if topic.number == -1 else "lane_log"
            low = partition << SHIFT
            sql = f"select i from {table} where i >= ? and i < ? and ts >= ? order by i limit 1"
            rows = self._all(sql, (low, low + (1 << SHIFT), ms))
            return rows[0][0] & LOW if rows else None
        rows = self._all(
            "select o from lane_topic where t = ? and p = ? and ts >= ? order by o limit 1",
            (topic.number, partition, ms),
        )
        return int(rows[0][0]) if rows else None

    def _all(self, sql: str, args: tuple[object, ...]) -> list[Any]:
        try:
            return self.conn.execute(sql, args).fetchall()
        except sqlite3.Error as error:
            raise _explained(error, self.path) from error


def _quoted(path: str) -> str:
    """A path inside of a `file:` URI."""
    return "".join(
        ch
        if ch.isalnum() and ch.isascii() or ch in "/._-~"
        else "".join(f"%{b:02X}" for b in os.fsencode(ch))
        for ch in path
    )


def _explained(error: sqlite3.Error, path: str) -> Exception:
    from contrapas.log import sqlite_file

    return sqlite_file.explain(error, path)


def _lane_record(row: Any) -> Record:
    place, key, value, headers, ts = row
    return Record(place >> SHIFT, place & LOW, bytes(key), value, _headers(headers), ts)


def _headers(data: bytes) -> Headers:
    try:
        return unpack_headers(data)
    except (ValueError, IndexError):
        return (("cp-damaged", b"headers"),)


def _beat(path: str) -> int | None:
    """When the holder of a partition's lock file last said that it lives, in ms; None when nobody holds it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.fstat(fd).st_mtime_ns // 1_000_000
    finally:
        os.close(fd)
    return None
