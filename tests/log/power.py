"""Every state of SQLite's files that a power loss can leave: what was synced, and any part of what was not.

A child writes while a recorder stands between SQLite and the disk. Of the writes since a file's last sync a crash may keep
any: none, all, a prefix, some, the last of them torn at a sector. Each such state is opened as a log.

python -m tests.log.power --states 20000
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from contrapas.core.fold import fold
from contrapas.errors import ContrapasError
from contrapas.log.sqlite import SqliteLog
from contrapas.log.sqlite_admin import verify
from contrapas.log.sqlite_read import SqliteReader
from tests.log.processes import run

SECTOR = 512


class Act(NamedTuple):
    """One thing that happened: `w` write, `t` cut, `u` removal, `s` sync, `d` sync of the folder, `a` said."""

    kind: str
    name: str
    offset: int
    data: bytes


@dataclass(slots=True)
class File:
    """One file: what a power loss leaves for certain, and what came since."""

    durable: bytes = b""
    since: list[Act] = field(default_factory=list[Act])


def recorder(folder: Path) -> str | None:
    """The layer that records; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    made = folder / "recorder.so"
    source = Path(__file__).with_name("recorder.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return str(made)


def recorded(shim: str, folder: Path, commits: int) -> list[Act]:
    """What a child did that commits, checkpoints, compacts and releases; empty where SQLite is linked in."""
    note = folder / "record"
    code, said = run(
        "write", folder / "log.db", str(commits), LD_PRELOAD=shim, RECORD=str(note), WAL_PAGES="8"
    )
    assert code == 0, said
    return list(acts(note.read_bytes())) if note.exists() else []


def acts(data: bytes) -> Iterator[Act]:
    """The record, read back."""
    at = 0
    while at < len(data):
        kind, length, offset, size = struct.unpack_from("<4q", data, at)
        at += 32
        name = data[at : at + length].decode()
        at += length
        body = b"" if chr(kind) in "tusd" else data[at : at + size]
        at += len(body)
        yield Act(chr(kind), Path(name).name, offset, body)


def applied(content: bytes, done: Sequence[Act]) -> bytes:
    """A file's content after these writes and cuts."""
    out = bytearray(content)
    for one in done:
        if one.kind == "t":
            del out[one.offset :]
            out.extend(bytes(one.offset - len(out)))
        else:
            out.extend(bytes(max(0, one.offset - len(out))))
            out[one.offset : one.offset + len(one.data)] = one.data
    return bytes(out)


def choices(since: list[Act], chance: random.Random, some: int) -> Iterator[list[Act]]:
    """Which of the writes that were not synced reached the disk."""
    yield []
    yield since
    for _ in range(some):
        match chance.randrange(3):
            case 0:
                yield since[: chance.randrange(len(since) + 1)]
            case 1:
                yield [one for one in since if chance.random() < 0.5]
            case _ if since and since[-1].data:
                last = since[-1]
                cut = chance.randrange(0, len(last.data) + 1, SECTOR)
                yield [*since[:-1], last._replace(data=last.data[:cut])]
            case _:
                yield since


class Loss(NamedTuple):
    """A state that a power loss left, and what had been acknowledged by then."""

    files: dict[str, bytes]
    acked: int
    at: int


def losses(done: Sequence[Act], chance: random.Random, limit: int) -> Iterator[Loss]:
    """So many states, spread over everything that happened."""
    files: dict[str, File] = {}
    ghosts: dict[str, bytes] = {}
    """Files that were removed, and may be there again: their folder was not synced since."""
    acked = made = 0
    each = max(1, limit // max(1, len(done)))
    for number, one in enumerate(done):
        if one.kind == "a":
            if one.data.startswith(b"ack "):
                acked = int(one.data.split()[1])
            continue
        if one.kind == "d":  # what was removed before stays so
            ghosts.clear()
            continue
        if one.kind == "u":
            ghosts[one.name] = files.pop(one.name, File()).durable
            continue
        file = files.setdefault(one.name, File())
        if one.kind == "s":
            file.durable, file.since = applied(file.durable, file.since), []
        else:
            file.since.append(one)
        if made * len(done) > limit * number:
            continue
        for chosen in choices(file.since, chance, each):
            rest = {n: list(choices(f.since, chance, 1))[-1] for n, f in files.items() if f is not file}
            state = {n: applied(f.durable, chosen if f is file else rest[n]) for n, f in files.items()}
            back = {n: content for n, content in ghosts.items() if n not in state and chance.random() < 0.5}
            made += 1
            yield Loss({**back, **state}, acked, number)


async def _taken_over(path: str) -> None:
    log = SqliteLog(path, "shop", 4)
    try:
        await log.acquire(0, "heir")
    finally:
        await log.close()


def fault(loss: Loss, folder: Path) -> str:
    """What is wrong with a state, once it is opened: acknowledged work that is gone, half a commit, damage; else empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in loss.files.items():
        (folder / name).write_bytes(content)
    path = str(folder / "log.db")
    if loss.acked == 0:
        return ""
    try:
        asyncio.run(_taken_over(path))
        reader = SqliteReader(path)
    except ContrapasError as why:
        return f"it does not open: {why}"
    try:
        horizon = reader.parts()[0].horizon
        judge, _ = fold(reader.scan("log", 0, 0, 1 << 40), floor=horizon)
        found = {judge.known.get(key, 0) for key in (b"a", b"b", b"c")}
        told = [r.value for r in reader.scan("in", 1, 0, 1 << 40)]
    except ContrapasError as why:
        return f"it does not read: {why}"
    finally:
        reader.close()
    if len(found) != 1:
        return f"half a commit: {found}"
    (version,) = found
    if version < loss.acked:
        return f"{loss.acked} was acknowledged, {version} is there"
    if told != [b"%d" % n for n in range(1, version + 1)]:
        return f"the inbound lane of version {version} holds {told}"
    return next((f"{f.code} {f.text}" for f in verify(path)), "")


def searched(shim: str, *, commits: int, states: int, seed: int) -> tuple[int, list[str]]:
    """(states opened, what was wrong); (0, []) where nothing can be recorded."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = recorded(shim, folder, commits)
        if not any(one.kind == "s" for one in done):
            return 0, []
        opened, wrong = 0, list[str]()
        for loss in losses(done, random.Random(seed), states):
            opened += 1
            if bad := fault(loss, folder / "after"):
                wrong.append(f"at act {loss.at} of {len(done)}: {bad}")
        return opened, wrong


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--states", type=int, default=20_000)
    parser.add_argument("--commits", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shim = recorder(Path(folder))
        if shim is None:
            print("there is no C compiler")
            return 1
        opened, wrong = searched(shim, commits=args.commits, states=args.states, seed=args.seed)
    print(f"{opened} states, {len(wrong)} wrong", *wrong[:20], sep="\n")
    return int(bool(wrong) or not opened)


if __name__ == "__main__":
    sys.exit(main())
