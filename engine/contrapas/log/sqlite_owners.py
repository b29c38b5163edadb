"""Who owns which partition of a SQLite log on this machine: lock files that the kernel frees when a process dies."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from contrapas.core.lane import Lane
from contrapas.log.beat import next_beat
from contrapas.log.sharing import Slot, share
from contrapas.log.sqlite_file import FileLock
from contrapas.log.steady import Steady, boot_id

SILENT_MS = 30_000
"""An owner beats every second; after this long without a beat it is named."""
JUMP_MS = 1_000
"""A jump of the machine's clock that the next owner is told of."""


class Holder(NamedTuple):
    """Who holds a partition's lock, by its own account."""

    partition: int
    owner: str
    host: str
    pid: int
    silent_ms: int
    """Since its last beat."""


class PartitionLock(FileLock):
    """`<file>.p<p>`: held while the partition is ours; its time is the beat."""

    def __init__(self, path: str, partition: int, clock: Steady | None = None) -> None:
        super().__init__(f"{path}.p{partition}")
        self.partition = partition
        self._clock = clock
        self._owner = ""
        self._noted = 0

    def claim(self, owner: str) -> bool:
        """Take it and sign; False when another lives."""
        if not self.take(wait=False) or not self.current():
            return False
        if self._clock is not None and (ahead := _ahead(os.pread(self.fd, 4096, 0))) is not None:
            self._clock.knew(ahead)
        self._owner = owner
        self._sign()
        return True

    def _sign(self) -> None:
        note: dict[str, object] = {"owner": self._owner, "host": socket.gethostname(), "pid": os.getpid()}
        if self._clock is not None:
            self._noted = self._clock.ahead
            note |= {"boot": boot_id(), "ahead_ms": self._noted}
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, json.dumps(note).encode(), 0)

    def beat(self) -> bool:
        """Say that we live; False when the lock was broken. Where the log's time has jumped, the next owner is told: an
        idle partition has no stamp that tells."""
        if self._clock is not None and self._clock.ahead - self._noted >= JUMP_MS:
            self._sign()
        os.utime(self.fd)
        return self.current()


def holder(path: str, partition: int) -> Holder | None:
    """Who holds a partition now; None when nobody does."""
    name = f"{path}.p{partition}"
    if not os.path.exists(name):
        return None
    lock = FileLock(name)
    try:
        if lock.take(wait=False, shared=True):
            return None
        silent = int((time.time() - os.fstat(lock.fd).st_mtime) * 1000)
        note = _note(os.pread(lock.fd, 4096, 0))
    finally:
        lock.close()
    return Holder(partition, *note, silent)


def _note(data: bytes) -> tuple[str, str, int]:
    """(owner, host, pid) as signed; empty where the signature is not yet whole."""
    try:
        note: object = json.loads(data)
    except ValueError:
        return "", "", 0
    match note:
        case {"owner": str(owner), "host": str(host), "pid": int(pid)}:
            return owner, host, pid
        case _:
            return "", "", 0


def stalled(path: str, partitions: int, after_ms: int = SILENT_MS) -> list[Holder]:
    """Holders that have not beaten for so long: stopped, not dead. Health turns red and names them."""
    found = [holder(path, p) for p in range(partitions)]
    return [h for h in found if h is not None and h.silent_ms >= after_ms]


def break_lock(path: str, partition: int) -> Holder | None:
    """Replace a partition's lock file, so that another may own it; gives who held it.

    Safe: whoever held the old file is fenced by the epoch. Only a process stopped inside a commit must be killed
    instead, for it holds `<file>.lock`.
    """
    was = holder(path, partition)
    fresh = f"{path}.p{partition}.{os.getpid()}"
    os.close(os.open(fresh, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    os.replace(fresh, f"{path}.p{partition}")
    return was


def break_membership(path: str, member: str) -> bool:
    """Take a stopped member's file away, so that the others share what was its; it joins again when it goes on. Says
    whether there was one."""
    base = Path(os.path.abspath(path))
    mine = [f for f in base.parent.iterdir() if f.name.startswith(f"{base.name}.m.")]
    found = [f for f in mine if f.name.endswith(f".{member}")]
    for file in found:
        file.unlink(missing_ok=True)
    return bool(found)


def _ahead(data: bytes) -> int | None:
    """What the former owner, of this boot of the machine, reckoned with."""
    try:
        note: object = json.loads(data)
    except ValueError:
        return None
    match note:
        case {"boot": str(boot), "ahead_ms": int(ahead)} if boot and boot == boot_id():
            return ahead
        case _:
            return None


class SqliteMembership:
    """One member of a group: a lock file of its own says that it lives, rendezvous hashing says what is its share."""

    def __init__(
        self,
        path: str,
        group: str,
        lanes: Sequence[Lane],
        slots: Callable[[Sequence[Lane]], list[Slot]],
        look_s: float = 0.1,
    ) -> None:
        self.group = group
        self.lanes = tuple(lanes)
        self._slots = slots
        self._folder = Path(os.path.abspath(path)).parent
        self._prefix = f"{os.path.basename(path)}.m.{group}."
        self.member = os.urandom(8).hex()
        self._look_s = look_s
        self._left = False
        self._pause: asyncio.Future[None] | None = None
        self._lock = self._join()

    def _join(self) -> FileLock:
        lock = FileLock(str(self._folder / f".{self.member}.new"))
        lock.take()
        lock.rename(str(self._folder / (self._prefix + self.member)))
        return lock

    def living(self) -> list[str]:
        """Members whose lock is held; files of dead ones are removed. Where ours was taken away while this process was
        stopped, it joins again."""
        names: list[str] = []
        for entry in os.listdir(self._folder):
            if not entry.startswith(self._prefix):
                continue
            name = entry[len(self._prefix) :]
            if name == self.member or self._alive(entry):
                names.append(name)
        if self.member not in names and not self._left:
            self._lock.close()
            self._lock = self._join()
            names.append(self.member)
        return names

    def _alive(self, entry: str) -> bool:
        try:
            lock = FileLock(str(self._folder / entry), make=False)
        except FileNotFoundError:
            return False
        try:
            if not lock.take(wait=False):
                return True
            os.unlink(lock.path)
        except FileNotFoundError:
            pass
        finally:
            lock.close()
        return False

    def assigned(self) -> frozenset[Slot]:
        """What is ours with the members that live now."""
        return share(self.living(), self._slots(self.lanes)).get(self.member, frozenset())

    async def assignments(self) -> AsyncIterator[frozenset[Slot]]:
        """Yield the share at first and at each change; a member that dies is noticed within 0.1 s."""
        seen: list[str] = []
        last: frozenset[Slot] | None = None
        while not self._left:
            living = sorted(self.living())
            if living != seen:
                seen = living
                now = self.assigned()
                if now != last:
                    last = now
                    yield now
                    continue
            loop = asyncio.get_running_loop()
            self._pause = loop.create_future()
            timer = loop.call_at(next_beat(loop, self._look_s), _wake, self._pause)
            try:
                await self._pause
            finally:
                timer.cancel()

    async def leave(self) -> None:
        """Leave; the others share what was ours."""
        self._left = True
        if self._pause is not None:
            _wake(self._pause)
        if self._lock.fd >= 0:
            try:
                os.unlink(self._lock.path)
            except FileNotFoundError:
                pass
            self._lock.close()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
