"""Dead letters on a log of any kind, for the tests of `contrapas dlq`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from contrapas.core.deadletter import dead_letter
from contrapas.core.lane import Draft, Headers, Record
from contrapas.log import Log

Opening = Callable[[], Awaitable[Log]]
HEADERS: Headers = (
    ("ce_specversion", b"1.0"),
    ("ce_source", b"/their/shop"),
    ("ce_type", b"OrderPlaced"),
    ("n", b"one"),
    ("n", b"\xff\x00two"),
)


class Dead:
    """A namespace `ns` with a topic of somebody's and dead letters of what lies there."""

    def __init__(self, open_: Opening, url: str, namespace: str, topic: str) -> None:
        self.open = open_
        self.url = url
        self.namespace = namespace
        self.topic = topic

    @property
    def where(self) -> tuple[str, ...]:
        """Options of a command line."""
        return ("--log", self.url, "--namespace", self.namespace)

    async def lay(self, *values: tuple[bytes, bytes | None, str, str]) -> None:
        """Originals on the topic and their dead letters: (key, value, code, error) each."""
        log = await self.open()
        before = await self.ends(log, self.topic)
        drafts = [
            Draft(self.topic, -1, key, value, (*HEADERS, ("ce_id", b"%d-" % n + key)))
            for n, (key, value, _, _) in enumerate(values)
        ]
        await log.publish(drafts)
        stored = {record.headers: record for record in await self.records(log, self.topic, before)}
        for draft, (_, _, code, error) in zip(drafts, values, strict=True):
            await log.publish([self.letter(stored[draft.headers], code, error)])
        await log.close()

    def letter(self, record: Record, code: str, error: str, **more: Any) -> Draft:
        """As an owner writes it."""
        more = {"lane": self.topic, "at": record.timestamp_ms, **more}
        return dead_letter(record, namespace=self.namespace, code=code, error=error, **more)

    async def ends(self, log: Log, name: str) -> dict[int, int]:
        """Of a topic's partitions."""
        topic = await log.topic(name)
        assert topic is not None
        return {p: (await log.bounds(name, p))[1] for p in range(topic.partitions)}

    async def records(self, log: Log, name: str, after: dict[int, int] | None = None) -> list[Record]:
        """Of a topic, by partition and offset."""
        found: list[Record] = []
        for p, end in (await self.ends(log, name)).items():
            at = (after or {}).get(p, (await log.bounds(name, p))[0])
            while at < end:
                records, at = await log.read(name, p, at)
                found += records
        return found

    async def look(self, name: str) -> list[Record]:
        """The same, opened for it."""
        log = await self.open()
        try:
            return await self.records(log, name)
        finally:
            await log.close()
