"""A log at a server, seen by commands that only look: the seam behind the methods of `lanes.LogFile`, without a loop of theirs.

The connector's client runs in a thread with a loop of its own, so that these commands stay plain functions. What a
connector can tell beyond the seam (owners, topics, one key's records by an index) it offers as further methods.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from contrapas.cli.lanes import CHUNK, LogFile, Part, TopicInfo
from contrapas.core.lane import Record
from contrapas.core.partition import partition as partition_of
from contrapas.errors import Refused
from contrapas.runtime.open import connector_of, shown

T = TypeVar("T")


class FarLog(LogFile):
    """An open log at a server; every method reads what is committed when it is called."""

    def __init__(self, url: str, namespace: str = "") -> None:
        """Unreachable CP501, Refused CP510 without its connector, CP817 when the namespace must be said."""
        connector = connector_of(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="contrapas-log", daemon=True)
        self._thread.start()
        self.path = self.address = shown(url)
        try:
            if not namespace:
                namespace = self._only(self._run(connector.namespaces(url)))
            look: Any = getattr(connector, "look", None)
            opening = look(url, namespace) if look else connector.open(url, namespace, make=False)
            self._log: Any = self._run(opening)
        except BaseException:
            self._end()
            raise
        self.namespace = namespace
        self.partitions = int(self._log.partitions)
        self.marks = {"id": str(self._log.id), "namespace": namespace, "partitioner": "murmur2"}

    def _only(self, found: list[str]) -> str:
        if len(found) == 1:
            return found[0]
        if not found:
            raise Refused(
                "CP817",
                f"{self.path} holds no log",
                fix=f"contrapas topic create --log '{self.path}' --namespace NS --apply",
            )
        raise Refused(
            "CP817", f"{self.path} holds several logs: {', '.join(found)}", fix=f"--namespace {found[0]}"
        )

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def close(self) -> None:
        """Close the connection."""
        if not self._loop.is_closed():
            self._run(self._log.close())
            self._end()

    # ---- the methods of `LogFile`

    def version(self) -> int:
        """A number that grows when something was written."""
        quick: Any = getattr(self._log, "version", None)
        if quick is not None:
            return int(self._run(quick()))
        return sum(part.log_head + part.in_head for part in self.parts())

    def newest(self) -> Iterator[Record]:
        """The newest record of every key on the log lane."""
        self._all_at_once()
        for partition in range(self.partitions):
            yield from self._latest(partition)

    def _all_at_once(self) -> None:
        """Where partitions are read over the network, all of them together."""
        whole: Any = getattr(self._log, "catch_up", None)
        if whole is not None:
            self._run(whole())

    def _latest(self, partition: int) -> list[Record]:
        async def whole() -> list[Record]:
            return [record async for batch in self._log.latest(partition) for record in batch]

        return self._run(whole())

    def newest_of(self, key: bytes, partition: int) -> Record | None:
        """The newest record of one key."""
        found: Record | None = self._run(self._log.newest(partition, key))
        return found

    def graphs(self) -> Iterator[Record]:
        """Machine graphs, of every partition: one version may stand there several times."""
        self._all_at_once()
        for partition in range(self.partitions):
            found: list[Record] = self._run(self._log.between(partition, b"$graph/", b"$graph0"))
            yield from found

    def instances(self, key: str) -> list[Record]:
        """Newest records of the instances of a key (`o-9`) or of one instance (`place_order/o-9`)."""
        _, slash, rest = key.partition("/")
        if slash:
            one = self.newest_of(key.encode(), partition_of(rest.encode(), self.partitions))
            if one is not None:
                return [one]
        wanted = key.encode()
        newest = self._latest(partition_of(wanted, self.partitions))
        return [one for one in newest if one.key[:1] != b"$" and one.key.partition(b"/")[2] == wanted]

    def history(self, key: bytes, partition: int) -> list[Record]:
        """Every record of a key that is still there, oldest first."""
        found: list[Record] = self._run(self._log.history(partition, key))
        return found

    def parts(self) -> list[Part]:
        """Every partition of the lanes."""
        now = time.time_ns() // 1_000_000
        found: list[Part] = []
        for one in self._run(self._log.parts()):
            beat = None if one.silent_ms is None else now - one.silent_ms
            found.append(
                Part(
                    partition=one.partition,
                    epoch=one.epoch,
                    owner=one.owner if beat is not None else "",
                    log_head=one.log_end,
                    in_head=one.in_end,
                    in_start=one.in_start,
                    horizon=one.horizon,
                    relayed=one.relayed,
                    control=one.control,
                    beat_ms=beat,
                )
            )
        return found

    def topics(self) -> list[TopicInfo]:
        """Every topic, by name."""
        found = {name: topic.partitions for name, topic in self._run(self._log.topics()).items()}
        return self._infos(found)

    def _info(self, name: str, partitions: int) -> TopicInfo:
        return self._infos({name: partitions})[0]

    def _infos(self, topics: dict[str, int]) -> list[TopicInfo]:
        places = [(name, p) for name, count in topics.items() for p in range(count)]
        whole: Any = getattr(self._log, "whole", None)
        if whole is not None:
            ends = self._run(whole(places))
        else:
            ends = {place: self._run(self._log.bounds(*place)) for place in places}
        return [
            TopicInfo(
                0,
                name,
                count,
                tuple(ends[name, p][0] for p in range(count)),
                tuple(ends[name, p][1] for p in range(count)),
            )
            for name, count in topics.items()
        ]

    def _lane(self, name: str) -> TopicInfo:
        return self._info(name, self.partitions)

    def groups(self, name: str) -> dict[str, int]:
        """Groups with a stored position on a topic, and how far behind they are, in records."""
        found: dict[str, int] = self._run(self._log.lag(name))
        return found

    def topic_settings(self, name: str) -> dict[str, str]:
        """Settings of a topic, where the connector tells them."""
        asked: Any = getattr(self._log, "topic_settings", None)
        found: dict[str, str] = {} if asked is None else self._run(asked(name))
        return found

    def size(self, topic: TopicInfo) -> int | None:
        """Nobody adds up a server's records for this."""
        return None

    def _chunk(self, topic: TopicInfo, partition: int, first: int, last: int) -> list[Record]:
        start, _ = self._run(self._log.bounds(topic.name, partition))
        records, _ = self._run(
            self._log.read(topic.name, partition, max(first, start), max_records=min(CHUNK, last - first))
        )
        return [record for record in records if record.offset < last]

    def at_time(self, topic: TopicInfo, partition: int, ms: int) -> int | None:
        """First offset with a time at or after `ms`; None if there is none."""
        _, end = self._run(self._log.bounds(topic.name, partition))
        found: int = self._run(self._log.offset_at(topic.name, partition, ms))
        return None if found >= end else found


def examine(url: str, namespace: str | None, *, dev: bool = False) -> list[Any]:
    """What a connector finds about a server that may not even open. dev: as `--dev`."""
    return list(asyncio.run(connector_of(url).examine(url, namespace, dev=dev)))
