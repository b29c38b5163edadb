"""Ingress: messages of the users' topics that some saga takes, put on `<ns>.in` with the place they came from.

A source partition belongs to the owner of partition `murmur2("topic/partition") % count`, whose control record keeps its
cursor; that moves after the publish was acknowledged, so what is published twice carries the same place, and is known by
it. Nothing is decoded further than needed to choose the partition; the bytes stay as they were.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from contrapas.codec.framing import GUID_HEADER
from contrapas.codec.schemas import Wanted, unframed
from contrapas.core.cloudevents import binary, is_event, is_structured, present
from contrapas.core.deadletter import dead_letter
from contrapas.core.decode import mapped, mapped_type
from contrapas.core.lane import Draft, Headers, Record
from contrapas.core.partition import partition as partition_of
from contrapas.errors import DataError, LogError, Retriable
from contrapas.failpoints import NAMES, failpoint
from contrapas.log import Log
from contrapas.log.checks import size_of
from contrapas.runtime.batch import Setting
from contrapas.runtime.clock import pause
from contrapas.runtime.dispatch import send

if TYPE_CHECKING:
    from contrapas.runtime.partition import Partition
    from contrapas.runtime.station import Station
    from contrapas.runtime.worker import Worker

NAMES["ingress.read"] = "messages of a user's topic are read, not on the inbound lane"
NAMES["ingress.published"] = "messages are on the inbound lane, the cursor of their topic has not moved"
POLL_MS = 5_000
GROWN_MS = 60_000
"""About how often it is asked whether topics have grown."""
PUBLIC_KINDS = frozenset({b"start", b"event", b"reply", b"command", b"signal"})
"""What a message on a topic may say it is; the other kinds steer instances."""


class Source(NamedTuple):
    """One partition of a user's topic that this owner ingests."""

    topic: str
    id: str
    number: int

    @property
    def name(self) -> str:
        """As `positions` and the cursor have it: the topic with its id."""
        return f"{self.topic}@{self.id}"


def topics_of(setting: Setting) -> tuple[str, ...]:
    """The users' topics that carry something some saga takes."""
    routes = setting.routes
    found = {
        topic
        for topic, types in setting.doors.by_topic.items()
        if any(routes.mentions(name) for name in types)
    }
    return tuple(sorted(found | set(setting.doors.mappings)))


async def all_sources(log: Log, setting: Setting) -> list[tuple[int, Source]]:
    """All sources there are now, each behind the number of the partition whose owner reads it."""
    found: list[tuple[int, Source]] = []
    for name in topics_of(setting):
        topic = await log.topic(name)
        if topic is None:
            continue
        for number in range(topic.partitions):
            owner = partition_of(f"{name}/{number}".encode(), setting.doors.partitions)
            found.append((owner, Source(name, topic.id, number)))
    return found


async def sources_of(s: Station) -> list[Source]:
    """The sources that belong to this partition's owner."""
    return [source for owner, source in await all_sources(s.log, s.setting) if owner == s.number]


async def begin(s: Station) -> None:
    """Read what there is for this partition's owner, from the takeover on."""
    mine = await sources_of(s)
    s.behind = set(mine)
    for source in mine:
        _read(s, source)


async def follow_growth(w: Worker) -> None:
    """Topics of users grow: what lies in a new partition is read from its first message on, by whoever owns its reading."""
    while True:
        await pause(w.clock, GROWN_MS * (0.5 + w.chance()))
        try:
            found = await all_sources(w.log, w.setting) if w.stations else []
        except LogError:
            continue
        for owner, source in found:
            s = w.stations.get(owner)
            if s is not None and not s.stopping and (source.topic, source.number) not in s.reading:
                _read(s, source)


def _read(s: Station, source: Source) -> None:
    task = asyncio.get_running_loop().create_task(ingest(s, source))
    s.reading[source.topic, source.number] = task


async def ingest(s: Station, source: Source) -> None:
    """Follow one source for as long as the station lives; `s.behind` holds it until it met its end of the takeover."""
    try:
        start, end = await s.log.bounds(source.topic, source.number)
        place = (source.name, source.number)
        at = s.partition.settled.get(place, start)
        while not s.stopping:
            if at >= end and source in s.behind:
                s.caught_up(source)
            try:
                records, after = await s.log.read(source.topic, source.number, at, wait_ms=POLL_MS)
            except Retriable:
                await pause(s.clock, 50 + 100 * s.chance())
                continue
            drafts: list[Draft] = []
            for record in records:
                if (draft := await _inbound(s, source, record)) is not None:
                    drafts.append(draft)
            if s.stopping:  # perhaps while a schema was waited for: what was read is read again
                return
            s.partition.counts.skipped += len(records) - len(drafts)
            failpoint("ingress.read")
            if drafts:
                await send(s, drafts)
                failpoint("ingress.published")
            if after != at:
                at = after
                s.partition.settled[place] = at
                s.wake.set()
    except asyncio.CancelledError:
        raise
    except BaseException as why:  # noqa: BLE001  a failure here ends the station, whatever it is
        s.fail(why)


async def _inbound(s: Station, source: Source, record: Record) -> Draft | None:
    """The same, once the schema of the message is known; a source waits for it alone."""
    while True:
        try:
            return inbound(s.partition, source, record)
        except Wanted as why:
            await s.wanted(why.ref)
            if s.stopping or s.failure is not None:
                return None


def inbound(p: Partition, source: Source, record: Record) -> Draft | None:
    """The message as it goes on the inbound lane; None: no saga mentions its type, or it is a deletion. `Wanted`: its
    schema must be fetched first."""
    setting = p.setting
    if not record.value:
        return None
    headers = present(record.headers)
    type_name, key, headers = _type_and_key(setting, source.topic, record, headers)
    mapping = setting.doors.mappings.get(source.topic)
    keep = mapping is not None and mapping.unknown == "dead"
    if type_name and not keep and not setting.routes.mentions(type_name):
        return None
    if ("cp-in-reply-to" in headers or "ce_inreplyto" in headers) and (to := headers.get("ce_correlationid")):
        key = to.partition(b"/")[2]
    own: Headers = (("cp-source", f"{source.name}/{source.number}@{record.offset}".encode()),)
    if key != record.key or "cp-source-key" in headers:
        own = (*own, ("cp-source-key", record.key))
    at = partition_of(key, setting.doors.partitions)
    draft = Draft("in", at, key, record.value, (*record.headers, *own))
    code, words = _unfit(draft, headers, setting.caps.max_record_bytes)
    if not code:
        return draft
    p.counts.inputs += 1
    p.counts.dead += 1
    return dead_letter(
        record._replace(headers=draft.headers),
        namespace=setting.namespace,
        code=code,
        error=words,
        at=record.timestamp_ms,
        lane=source.topic,
    )


def _unfit(draft: Draft, headers: dict[str, bytes], most: int) -> tuple[str, str]:
    """Why a message may not pass: too large, or it speaks as the engine does among its own. Who may write to a topic
    of the users has a say in what happened there, not in which instances are cancelled, bound or answered."""
    kind = headers.get("cp-kind")
    if kind is not None and kind not in PUBLIC_KINDS:
        return "CP419", f"cp-kind {kind[:40]!r} is taken on the namespace's own lane only, not on a topic"
    size = size_of(draft)
    return (
        ("CP409", f"the message has {size} bytes with its headers, {most} are allowed")
        if size > most
        else ("", "")
    )


def _type_and_key(
    setting: Setting, topic: str, record: Record, headers: dict[str, bytes]
) -> tuple[str, bytes, dict[str, bytes]]:
    """Type, key and headers (of a structured event its attributes too) as far as they can be told cheaply; an empty type
    leaves the judgement to the decoder."""
    mapping = setting.doors.mappings.get(topic)
    value, named = record.value or b"", ""
    try:
        if is_structured(headers):
            headers, value = binary(headers, value)
        event = is_event(headers)
        if event and not setting.routes.mentions(type_name := headers["ce_type"].decode(errors="replace")):
            return type_name, record.key, headers
        found = None
        if value[:1] not in (b"{", b"[") or GUID_HEADER in headers:
            found = unframed(headers, value, setting.doors.schemas)
        if found is not None:
            named, value = found[0].name, found[0].as_json(found[1], base64=True)
    except (DataError, ValueError, RecursionError):
        return "", record.key, headers
    type_name = headers["ce_type"].decode(errors="replace") if event else ""
    if event and (mapping is None or not mapping.key):
        return type_name, record.key, headers
    if mapping is None:
        return mapped_type(headers, {}, topic, None, setting.doors, named), record.key, headers
    try:
        fields: object = json.loads(value)
    except (ValueError, RecursionError):
        return type_name, record.key, headers
    if not isinstance(fields, dict):
        return type_name, record.key, headers
    body = cast("dict[str, Any]", fields)
    type_name = type_name or mapped_type(headers, body, topic, mapping, setting.doors, named)
    if not mapping.key:
        return type_name, record.key, headers
    try:
        return type_name, mapped(mapping.key, headers, body).encode(), headers
    except UnicodeEncodeError:  # the decoder says what is wrong with its text
        return type_name, record.key, headers
