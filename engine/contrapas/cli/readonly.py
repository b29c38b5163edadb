"""`dev --read-only`: follow the topics of somebody's cluster with lanes of our own in a temporary file, and say what is seen.

Nothing is written where the topics are: what is opened there can only read (`log.overlay`), and every saga only observes.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from contrapas.cli import positions, records, screen, text
from contrapas.cli.exits import Usage
from contrapas.cli.mask import Masks
from contrapas.cli.teller import Teller, clock
from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.core.lane import Record, Topic
from contrapas.core.partition import partition as partition_of
from contrapas.errors import LogError
from contrapas.log.overlay import OverlayLog, Reading
from contrapas.runtime.open import connector_of, shown

if TYPE_CHECKING:
    from contrapas.cli.lanes import LogFile
    from contrapas.core.world import World
    from contrapas.runtime.batch import Setting
    from contrapas.runtime.worker import Worker

NOTE = "from.json"
"""In the temporary folder: where reading began, so that code which is read again goes on and does not begin anew."""
MOST = 40
EVERY_S = 5.0
SHOWN = 160
Place = tuple[str, int]


def checked(url: str, first: str) -> None:
    """Usage CP814 for a log whose topics cannot be followed, CP807 for a position that is none."""
    scheme = url.partition(":")[0]
    if scheme in ("", "sqlite", "memory"):
        what = (
            f"{shown(url)} is a file of our own"
            if url
            else "no log is named, and the built-in one is our own"
        )
        raise Usage(
            "CP814",
            f"--read-only follows the topics of a server: {what}",
            fix="contrapas dev MODULE:APP --log kafka://HOST:9092 --read-only",
        )
    if getattr(connector_of(url), "reading", None) is None:
        raise Usage(
            "CP814",
            f"--read-only does not know how to follow {scheme}:// alone",
            fix="--log kafka://HOST:9092",
        )
    if positions.parse(first, 0).partition is not None:
        raise Usage(
            "CP807", f"'{first[:60]}' names one partition, and every topic is followed", fix="--from -100"
        )


def reach(url: str) -> None:
    """See that the server answers. Unreachable CP501, and what else an address is refused for."""
    asyncio.run(connector_of(url).namespaces(url))


class Seen(NamedTuple):
    """A topic that the app names."""

    name: str
    topic: Topic | None
    bounds: tuple[tuple[int, int], ...] = ()


async def opened(
    url: str, folder: str, first: str, namespace: str, names: Collection[str], needed: Collection[str]
) -> tuple[OverlayLog, list[Seen]]:
    """The log to work on, and what was found of the topics `names`; read from `first` on, or where the folder says.

    needed: those of which at least one must be there, or nothing is ever seen: LogError CP505.
    """
    from contrapas.log.sqlite import SqliteLog

    reading: Reading = await connector_of(url).reading(url, namespace)
    try:
        found = list(await asyncio.gather(*(_seen(reading, name) for name in sorted({*names, *needed}))))
        if not any(one.topic for one in found if one.name in needed):
            missing = ", ".join(sorted(needed)) or "it names none"
            raise LogError(
                "CP505",
                f"none of the {len(needed)} topics that the app follows is there: {missing}",
                fix="correct --log, or topic= of the messages",
                place=reading.place,
            )
        floors = await _floors(reading, folder, first, [s for s in found if s.name in needed])
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lanes = SqliteLog(file_in(folder, namespace), namespace, None if _there(folder, namespace) else 8)
    except BaseException:
        await reading.close()
        raise
    return OverlayLog(lanes, reading, namespace, floors), found


def file_in(folder: str, namespace: str) -> str:
    """Where the lanes lie."""
    return os.path.join(folder, f"{namespace}.db")


def _there(folder: str, namespace: str) -> bool:
    return os.path.exists(file_in(folder, namespace))


async def _seen(reading: Reading, name: str) -> Seen:
    topic = await reading.topic(name)
    if topic is None:
        return Seen(name, None)
    bounds = await asyncio.gather(*(reading.bounds(name, p) for p in range(topic.partitions)))
    return Seen(name, topic, tuple(bounds))


async def _floors(reading: Reading, folder: str, first: str, found: Sequence[Seen]) -> dict[Place, int]:
    """Where each partition is read from: as noted by the process before, else by the position asked for."""
    path = os.path.join(folder, NOTE)
    noted = _noted(path)
    position = positions.parse(first, time.time_ns() // 1_000_000)
    floors: dict[Place, int] = {}
    for one in found:
        for p, (start, end) in enumerate(one.bounds):
            assert one.topic is not None
            name = f"{one.name}@{one.topic.id}/{p}"
            if name not in noted:
                timed = position.kind == "time"
                at = await reading.offset_at(one.name, p, position.value) if timed else None
                noted[name] = positions.resolve(position, start, end, at, f"{one.name}/{p}")
            floors[one.name, p] = noted[name]
    _note(path, noted)
    return floors


def begun(folder: str) -> bool:
    """A process before this one has begun to read, and said what is there."""
    return os.path.exists(os.path.join(folder, NOTE))


def _noted(path: str) -> dict[str, int]:
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        found: dict[str, int] = json.load(file)
    return found


def _note(path: str, noted: Mapping[str, int]) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(noted, file)


# ---- what is there


async def about(log: OverlayLog, found: Sequence[Seen], setting: Setting) -> list[str]:
    """A line for each topic, with its newest record as the app reads it."""
    from contrapas.runtime.ingress import topics_of

    followed = topics_of(setting)
    masks = masks_of(setting.world)
    width = max((len(one.name) for one in found), default=0)
    out: list[str] = []
    newest = await asyncio.gather(*(_last(log.topics, one) for one in found))
    for one, last in zip(found, newest, strict=True):
        name = text.escape(one.name).ljust(width)
        if one.topic is None:
            tail = ": nothing comes from it" if one.name in followed else ""
            out.append(f"  topic  {name}  is not there{tail}")
            continue
        count = sum(end - start for start, end in one.bounds)
        use = "followed" if one.name in followed else "not followed: no saga takes what is on it"
        out.append(
            f"  topic  {name}  {text.plural(one.topic.partitions, 'partition')}   {text.count(count)} records   {use}"
        )
        if last is not None:
            out.append(f"         {_told(last, one, setting, masks)}")
    return out


async def _last(reading: Reading, one: Seen) -> Record | None:
    """The newest record of a topic, as far as a look at the ends of its partitions shows."""

    async def end_of(number: int) -> Sequence[Record]:
        start, end = one.bounds[number]
        if end <= start:
            return ()
        return (await reading.read(one.name, number, max(start, end - 2), max_records=2))[0]

    ends = await asyncio.gather(*(end_of(p) for p in range(len(one.bounds))))
    return max((r for some in ends for r in some), key=lambda r: r.timestamp_ms, default=None)


def _told(record: Record, one: Seen, setting: Setting, masks: Masks) -> str:
    from contrapas.codec.schemas import Wanted
    from contrapas.core.decode import Rejected, decode

    assert one.topic is not None
    head = f"{record.partition}@{record.offset}  {clock(record.timestamp_ms)}  key {text.payload(record.key, cut=60)}"
    source = f"{one.name}@{one.topic.id}/{record.partition}@{record.offset}"
    at = partition_of(record.key, setting.doors.partitions)
    inbound = record._replace(partition=at, headers=(*record.headers, ("cp-source", source.encode())))
    try:
        read = decode(inbound, setting.doors)
    except Wanted:
        return f"{head}  {len(record.value or b'')} B in a schema of the registry"
    if isinstance(read, Rejected):
        return f"{head}  {read.code} {text.escape(read.text)}"
    if read.body is None:
        return f"{head}  {text.escape(read.type)}"
    raw = read.body.model_dump_json() if hasattr(read.body, "model_dump_json") else json.dumps(read.body)
    return f"{head}  {text.escape(read.type)}  {text.escape(masks.message(read.type, raw), cut=SHOWN)}"


def masks_of(world: World) -> Masks:
    """What may not be shown of an app's messages."""
    from contrapas.author.sensitive import sensitive_paths

    types = {m.name: sensitive_paths(m.cls) for m in world.types.messages.values() if m.cls is not None}
    names = {path.rpartition("/")[2] for paths in types.values() for path in paths} - {"*"}
    return Masks(types, names)


# ---- what happens


class Follower(Teller):
    """A teller that counts, and names what an orchestrating app would have sent."""

    def __init__(self, log: LogFile, world: World) -> None:
        super().__init__(log)
        self.world = world
        self.instances: dict[str, str] = {h.instance: h.status for h in records.heads(log)}
        """Instance -> status; those that ended are counted and let go."""
        self.begun = len(self.instances)
        self.ended: Counter[str] = Counter(s for s in self.instances.values() if s in ENDED)
        self.instances = {i: s for i, s in self.instances.items() if s not in ENDED}
        self.sent: dict[str, frozenset[str]] = {}
        """Instance -> keys of the commands that it waits for, those that would have been sent by now."""
        self.would: list[str] = []

    def look(self) -> list[tuple[str, InstanceRecord, Record]]:
        """As `Teller`, counted."""
        found = super().look()
        for instance, body, _ in found:
            self.begun += body.version == 1
            if (instance, body.version) in self.after:
                continue
            self._would(instance, body)
            if body.status in ENDED:
                self.ended[body.status] += 1
                self.instances.pop(instance, None)
                self.sent.pop(instance, None)
            else:
                self.instances[instance] = body.status
        return found

    def _would(self, instance: str, body: InstanceRecord) -> None:
        now = {p.key: p for p in body.operations() if p.kind == "command"}
        before = self.sent.get(instance, frozenset[str]())
        self.sent[instance] = frozenset(now)
        for key, pending in now.items():
            if key not in before:
                found = self.world.types.messages.get(pending.name)
                to = f" to {found.topic}" if found is not None and found.topic else ""
                self.would.append(
                    f"{clock(body.at)}  {text.escape(body.key)}  would send {text.escape(pending.name)}{to}"
                )

    def sending(self) -> list[str]:
        """What would have been sent since the last time, one line each up to a limit."""
        found, self.would = self.would, []
        if len(found) > MOST:
            return [*found[:MOST], f"… and {text.count(len(found) - MOST)} more would be sent"]
        return found

    def census(self, came: Mapping[str, int], dead: int) -> str:
        """How much came, begun and ended, in one line."""
        ended = " · ".join(f"{status} {text.count(n)}" for status, n in sorted(self.ended.items()))
        parked = sum(status == "parked" for status in self.instances.values())
        parts = [
            f"{text.count(sum(came.values()))} events of {text.plural(len(came), 'topic')}",
            f"{text.count(self.begun)} begun",
            f"{text.count(sum(self.ended.values()))} ended" + (f" ({ended})" if ended else ""),
            f"{text.count(len(self.instances) - parked)} going on",
        ]
        parts += [f"{text.count(parked)} parked"] if parked else []
        where = f"contrapas dlq list --log {self.log.address}"
        parts += [f"{text.plural(dead, 'dead letter')}: {where}"] if dead else []
        return "   ".join(parts)


async def follow(
    path: str, worker: Worker, log: OverlayLog, world: World, watch: Any, look: screen.Look
) -> None:
    """Tell what happens until cancelled; the census every few seconds when it changed, and at the end."""
    from contrapas.cli import teller
    from contrapas.cli.lanes import LogFile

    with LogFile(path) as file:
        following = Follower(file, world)
        said, at = "", time.monotonic()
        try:
            while True:
                lines = teller.told(following, watch.failures, time.time_ns() // 1_000_000)
                if shown_now := [*following.sending(), *lines]:
                    teller.show(look, shown_now)
                if time.monotonic() - at >= EVERY_S:
                    at = time.monotonic()
                    now = following.census(log.came, worker.counts().dead)
                    if now != said:
                        said = now
                        teller.show(look, [f"{clock(time.time_ns() // 1_000_000)}  {now}"])
                await asyncio.sleep(0.05)
        finally:
            lines = teller.told(following, watch.failures, time.time_ns() // 1_000_000)
            last = f"  seen   {following.census(log.came, worker.counts().dead)}"
            teller.show(look, [*following.sending(), *lines, last])
