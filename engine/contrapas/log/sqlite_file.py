"""The SQLite file itself: locks, settings, schema, marker, and what its errors mean to us."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import contrapas_schemas
from contrapas.core.control import encode_control, new_control
from contrapas.errors import ContrapasError, Damaged, DataError, LogError, Refused, Retriable, Unreachable

SCHEMA = 1
BUSY_MS = 10_000
PARTITIONER = "murmur2"
_NETWORK = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb2",
        "smb3",
        "smbfs",
        "ncpfs",
        "afs",
        "9p",
        "ceph",
        "lustre",
        "beegfs",
        "gfs2",
        "ocfs2",
        "glusterfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "fuse.s3fs",
        "fuse.rclone",
    ]
)


class FileLock:
    """One `flock`; gives way to other processes, and to other objects of this one."""

    def __init__(self, path: str, *, make: bool = True) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600)

    def take(self, *, wait: bool = True, shared: bool = False) -> bool:
        """Lock; False when another holds it and `wait` is off."""
        try:
            fcntl.flock(
                self.fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
            )
        except OSError as no:
            if no.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        return True

    def take_soon(self, seconds: float) -> bool:
        """Lock, waiting for a moment only; False when another holds it for longer."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            time.sleep(0.00005)
            if self.take(wait=False):
                return True
        return False

    def give(self) -> None:
        """Unlock."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def rename(self, path: str) -> None:
        """Show the file under another name, locked as it is."""
        os.rename(self.path, path)
        self.path = path

    def current(self) -> bool:
        """Whether the path still leads to the file we hold: false after it was broken."""
        try:
            return os.stat(self.path).st_ino == os.fstat(self.fd).st_ino
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Unlock and forget."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


ROTTEN = (sqlite3.Error, TypeError, ValueError, LookupError, OverflowError)
"""What reading a damaged file raises: errors of SQLite, and those of values that are not of the kind that was written."""


def explain(error: Exception, path: str) -> ContrapasError:
    """What an error of SQLite, or of what it gave, means: Retriable, stop (CP516), damage (CP520)."""
    if isinstance(error, ContrapasError):
        return error
    if not isinstance(error, sqlite3.Error):
        return rotten(path, f"{type(error).__name__}: {error}")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_INTERRUPT):
        return Retriable(f"{path} is busy ({error})", place=path)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return rotten(path, str(error))
    if code == sqlite3.SQLITE_FULL:
        return Unreachable(
            "CP516", f"no space for {path}: {error}", again=True, fix="free some space", place=path
        )
    if code == sqlite3.SQLITE_TOOBIG:
        return DataError("CP409", f"a value is larger than SQLite takes: {error}")
    fix = (
        "check the disk, then start again: what was acknowledged is there"
        if code == sqlite3.SQLITE_IOERR
        else ""
    )
    return Unreachable("CP516", f"{path} cannot be used: {error}", again=False, fix=fix, place=path)


def rotten(path: str, why: str) -> Damaged:
    """CP520 of a file whose pages are not what was written."""
    return Damaged(
        "CP520",
        f"{path} is damaged: {why}"[:300],
        expected="a SQLite file",
        got=why[:200],
        fix="restore a backup, then contrapas log verify",
        place=path,
    )


def connect(path: str, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection as every one of ours is; usable from any thread, one at a time."""
    uri = f"file:{quote(os.path.abspath(path))}?mode={'ro' if read_only else 'rw'}"
    try:
        conn = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        conn.execute(f"pragma busy_timeout={BUSY_MS}")
        if not read_only:
            conn.execute("pragma synchronous=full")
            conn.execute("pragma wal_autocheckpoint=0")
            conn.execute("pragma cache_size=-4000")
    except ROTTEN as error:
        raise explain(error, path) from error
    return conn


def mount_type(path: str) -> str:
    """Type of the file system that a path lies on, empty where the system does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    real = os.path.realpath(path)
    best, found = -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, found = len(point), right.split()[0]
    return found


def check_disk(path: str) -> None:
    """Refused CP804 on a network file system: its locks and shared memory do not hold."""
    kind = mount_type(os.path.dirname(os.path.abspath(path)) or "/")
    if kind in _NETWORK:
        raise Refused(
            "CP804",
            f"{path} lies on a network file system ({kind}), where locks do not hold",
            fix="put the file on a local disk, or use kafka://, nats:// or postgresql://",
            place=path,
        )


def create(path: str, namespace: str, partitions: int, format_: int = 1) -> None:
    """Make the file with its schema and marker; nothing when it has them. The caller holds `<file>.open`."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    conn = connect(path)
    try:
        conn.execute("pragma journal_mode=wal")
        conn.execute("begin immediate")
        if conn.execute("select count(*) from sqlite_master").fetchone()[0] == 0:
            _fill(conn, namespace, partitions, format_)
        conn.execute("commit")
    except ROTTEN as error:
        raise explain(error, path) from error
    finally:
        conn.close()


def _fill(conn: sqlite3.Connection, namespace: str, partitions: int, format_: int) -> None:
    home = Path(contrapas_schemas.__file__).parent
    text = (home / "sql" / "sqlite" / "log.sql").read_text()
    bare = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    for statement in bare.split(";"):
        if statement.strip():
            conn.execute(statement)
    conn.execute(f"pragma user_version={SCHEMA}")
    marks = {
        "namespace": namespace,
        "partitions": str(partitions),
        "partitioner": PARTITIONER,
        "id": os.urandom(6).hex(),
        "created_ms": str(time.time_ns() // 1_000_000),
        "wal": "0",
    }
    conn.executemany("insert into meta values(?, ?)", marks.items())
    control = encode_control(new_control(partitions)._replace(format=format_))
    rows = [(p, control) for p in range(partitions)]
    conn.executemany("insert into part values(?, 0, '', 0, 0, 0, 0, 0, 0, ?)", rows)


def marks(conn: sqlite3.Connection, path: str) -> dict[str, str]:
    """The marker of a file; Refused when it is not ours or newer than we are."""
    try:
        version = conn.execute("pragma user_version").fetchone()[0]
        tables = {row[0] for row in conn.execute("select name from sqlite_master where type='table'")}
        if not {"meta", "part", "lane_log"} <= tables:
            raise LogError("CP505", f"{path} is not a contrapas log", fix="name another file", place=path)
        if version > SCHEMA:
            raise Refused(
                "CP516",
                f"{path} was written by a newer contrapas (schema {version}, this one knows {SCHEMA})",
                fix="upgrade contrapas",
                place=path,
            )
        return dict(conn.execute("select name, value from meta"))
    except ROTTEN as error:
        raise explain(error, path) from error


def check_marks(found: Mapping[str, str], path: str, namespace: str | None, partitions: int | None) -> None:
    """Refuse another namespace (CP505), partition count (CP504) or partitioner (CP504)."""
    if namespace is not None and found.get("namespace") != namespace:
        raise LogError(
            "CP505",
            f"{path} belongs to namespace {found.get('namespace')!r}, not to {namespace!r}",
            fix="one file per namespace: name another file",
            place=path,
        )
    if partitions is not None and found.get("partitions") != str(partitions):
        raise Refused(
            "CP504",
            f"{path} was made with {found.get('partitions')} partitions, {partitions} are configured",
            fix="keep the recorded number; a larger one needs a new namespace",
            place=path,
        )
    if found.get("partitioner") != PARTITIONER:
        raise Refused("CP504", f"{path} was made with partitioner {found.get('partitioner')!r}", place=path)


def total(conn: sqlite3.Connection) -> int:
    """A number that grows with every stored record and every epoch: tells a file that lost its newest part."""
    lanes = conn.execute("select coalesce(sum(log_head + in_head + epoch), 0) from part").fetchone()[0]
    topics = conn.execute("select coalesce(sum(head), 0) from topic_part").fetchone()[0]
    return int(lanes) + int(topics)


def noted_total(path: str) -> int:
    """The number as last noted in `<file>.lock`; -1 where there is no such file."""
    try:
        data = Path(f"{path}.lock").read_bytes()
    except FileNotFoundError:
        return -1
    return struct.unpack("<q", data[:8])[0] if len(data) >= 8 else 0


def has_wal(path: str) -> bool:
    """Whether a `-wal` with at least its header lies beside the file; a reader alone leaves an empty one."""
    try:
        return os.path.getsize(f"{path}-wal") >= 32
    except FileNotFoundError:
        return False


def check_wal(conn: sqlite3.Connection, path: str, found: Mapping[str, str], had_wal: bool) -> None:
    """Refused CP516 when the file was in use and its `-wal`, with the newest commits, is gone."""
    noted = noted_total(path)
    try:
        lost = noted > total(conn) if noted >= 0 else found.get("wal") == "1" and not had_wal
    except ROTTEN as error:
        raise explain(error, path) from error
    if lost:
        raise Refused(
            "CP516",
            f"{path} lacks its newest commits: {path}-wal is missing or belongs to another copy",
            fix=f"put {path}-wal back beside it, or restore a backup",
            place=path,
        )
