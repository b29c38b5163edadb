"""Sending dead letters back to where they came from, and settling them: the original first, acknowledged, then the note of it.

Stopped in between, an original is sent once more by the next run, under the same delivery id and event id: whoever
remembers ids takes it once. None is lost, because a letter counts as dead until its follow-up is on the log.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from contrapas.cli import screen, text
from contrapas.cli.letters import Entry
from contrapas.core.deadletter import restore
from contrapas.core.lane import Draft, Record
from contrapas.core.letter import settled
from contrapas.core.partition import partition as partition_of
from contrapas.errors import ContrapasError, Indeterminate, Refused, Retriable
from contrapas.log import Log

BATCH = 100
TRIES = 6


class Unfit(NamedTuple):
    """A dead letter that cannot be sent, and why."""

    entry: Entry
    code: str
    why: str


class Redrive:
    """One run over some dead letters of a namespace."""

    def __init__(self, log: Log, namespace: str, now_ms: int) -> None:
        self.log = log
        self.namespace = namespace
        self.now_ms = now_ms
        self.counts: dict[str, int] = {}
        self.done = 0

    async def unfit(self, entries: Sequence[Entry]) -> list[Unfit]:
        """Those whose destination is not there."""
        for name in {e.letter.topic for e in entries}:
            found = await self.log.topic(self._lane(name))
            self.counts[name] = 0 if found is None else found.partitions
        words = "is not there: contrapas topic create"
        return [
            Unfit(e, "CP505", f"{e.letter.topic} {words}") for e in entries if not self.counts[e.letter.topic]
        ]

    def _lane(self, name: str) -> str:
        return "in" if name == f"{self.namespace}.in" else name

    async def send(self, entries: Sequence[Entry], pause_s: float = 0.0) -> list[Unfit]:
        """Send, note, go on. pause_s: between two of them; 0: as fast as they are taken. Gives those that were not sent,
        which stay dead. Indeterminate when nobody can say whether the last ones arrived: again is safe."""
        left: list[Unfit] = []
        progress = screen.Progress("redrive", len(entries))
        size = 1 if pause_s else BATCH
        for at in range(0, len(entries), size):
            originals: list[Draft] = []
            notes: list[Draft] = []
            for entry in entries[at : at + size]:
                try:
                    letter, draft = await self._draft(entry)
                except Refused as why:
                    left.append(Unfit(entry, why.code, why.text))
                    continue
                originals.append(draft)
                notes.append(self._note(letter, "redriven", delivery=draft.message_id))
            await published(self.log, originals)
            await published(self.log, notes)
            self.done += len(originals)
            progress.at(at + size)
            if pause_s and at + size < len(entries):
                await asyncio.sleep(pause_s)
        return left

    async def drop(self, entries: Sequence[Entry], words: str) -> None:
        """Note them as dropped; their bytes stay where they are for as long as the topic keeps them."""
        for at in range(0, len(entries), BATCH):
            some = entries[at : at + BATCH]
            notes = [self._note(await self._letter(e), "dropped", words=words) for e in some]
            await published(self.log, notes)
            self.done += len(notes)

    def _note(self, letter: Record, disposition: str, *, words: str = "", delivery: str = "") -> Draft:
        return settled(
            letter,
            to=f"{self.namespace}.dlq",
            disposition=disposition,
            at=self.now_ms,
            words=words,
            delivery=delivery,
        )

    async def _draft(self, entry: Entry) -> tuple[Record, Draft]:
        """The letter, and the original as it goes out: bit for bit, one header added. Refused when it is not what was
        noted, or not to be had."""
        letter = await self._letter(entry)
        delivery = f"{entry.letter.id}-{entry.redrives + 1}"
        if entry.letter.by_reference:
            original = await self._original(entry)
            again = original._replace(headers=(*original.headers, ("cp-delivery", delivery.encode())))
        else:
            _, again = restore(letter, delivery=delivery)
        if hashlib.sha256(again.value or b"").hexdigest() != entry.letter.sha256:
            raise Refused("CP520", "its value is not the one that was noted: sha-256 differs")
        to, count = self._lane(entry.letter.topic), self.counts[entry.letter.topic]
        at = entry.letter.partition
        if to == "in":  # where its key belongs, whoever wrote it
            at = partition_of(again.key, count)
        return letter, Draft(
            to, at if 0 <= at < count else -1, again.key, again.value, again.headers, delivery
        )

    async def _letter(self, entry: Entry) -> Record:
        found = await self._at(f"{self.namespace}.dlq", entry.partition, entry.offset)
        if found is None:
            raise Refused("CP813", "it is no longer kept")
        return found

    async def _original(self, entry: Entry) -> Record:
        """What a reference names, read where it lies."""
        one = entry.letter
        found = await self._at(self._lane(one.topic), one.partition, one.offset) if one.offset >= 0 else None
        if found is None:
            place = f"{one.topic}/{one.partition}@{one.offset}"
            raise Refused("CP813", f"it was too large to copy, and its original at {place} is gone")
        return found

    async def _at(self, lane: str, partition: int, offset: int) -> Record | None:
        try:
            start, end = await self.log.bounds(lane, partition)
            if not start <= offset < end:
                return None
            records, _ = await self.log.read(lane, partition, offset, max_records=1)
        except (Retriable, Indeterminate):
            raise
        except ContrapasError as why:
            raise Refused("CP813", f"it cannot be read: {text.escape(why.text)}") from why
        return records[0] if records and records[0].offset == offset else None


async def published(log: Log, drafts: Sequence[Draft]) -> None:
    """Publish until it is acknowledged; a repeat carries the same ids. Raises the last error after a few tries."""
    if not drafts:
        return
    for attempt in range(TRIES):
        try:
            await log.publish(drafts)
            return
        except (Retriable, Indeterminate):
            if attempt == TRIES - 1:
                raise
            await asyncio.sleep(0.05 * 2**attempt)
