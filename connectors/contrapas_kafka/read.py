"""`Log.read` on Kafka: checked positions, waiting, and whole ranges of the log lane."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from contrapas.errors import LogError, Retriable
from contrapas.log import Record
from contrapas.log.checks import check_position
from contrapas_kafka.asking import Asking
from contrapas_kafka.calls import Calls
from contrapas_kafka.explain import MISSING, explain, is_position
from contrapas_kafka.streams import Hub, Spot, Stream

START_S: Final = 1.0
"""How old the start of a partition may be that `bounds` tells: it only moves forward."""


class Reader:
    """Reads partitions of one isolation: stable records only, or (the log lane) records as they stand."""

    def __init__(self, calls: Calls, admin: Asking, namespace: str, *, stable: bool) -> None:
        self.calls = calls
        self.admin = admin
        self.namespace = namespace
        self.stable = stable
        group = f"{namespace}.readers"  # a name is asked for; nobody joins it
        settings = calls.cluster.reader(group, committed=stable)
        # nobody stays at the end of the log lane: what is asked for there is to come at once
        self.hub = Hub(calls, settings, idle_s=10.0 if stable else 0.5, wait_ms=100 if stable else 10)
        self._starts: dict[Spot, tuple[float, int]] = {}

    async def bounds(self, spot: Spot) -> tuple[int, int]:
        """[start, end) of a partition."""
        known = self._starts.get(spot)
        if known is not None and known[0] > time.monotonic() - START_S:
            return known[1], await self.end(spot)
        start, end = await asyncio.gather(self.admin.start(*spot), self.end(spot))
        self._starts[spot] = (time.monotonic(), start)
        return start, end

    async def end(self, spot: Spot) -> int:
        """The end of a partition. Retriable: the cluster does not answer."""
        return await self.admin.end(*spot, stable=self.stable)

    async def read(
        self, lane: str, spot: Spot, offset: int, max_records: int, max_bytes: int, wait_ms: int
    ) -> tuple[Sequence[Record], int]:
        """As `Log.read`. lane: as an error names it."""
        stream = self.hub.standing(spot, offset)
        must = False
        if stream is None:
            start, end = await self.bounds(spot)
            check_position(self.namespace, lane, spot[1], offset, start, end)
            if offset == end and wait_ms <= 0:
                return [], end
            must = offset < end
            stream = await self.hub.stream(spot, offset)
        try:
            if wait_ms <= 0 and not stream.buffer and not must:
                end = await self.end(spot)
                if stream.next >= end:
                    return [], stream.next
                must = True
            within = max(wait_ms / 1000, self.calls.call_s if must and wait_ms <= 0 else 0.0)
            records = await self._taken(stream, max_records, max_bytes, within)
            if stream.error is not None and not records:
                await self._failed(lane, stream)
            if not records and stream.next == offset and must and wait_ms <= 0:
                self.hub.drop(stream)
                raise Retriable("Kafka does not answer: what is there is not read in time", place=spot[0])
            return records, stream.next
        finally:
            self.hub.rest(stream)

    async def _taken(self, stream: Stream, max_records: int, max_bytes: int, within: float) -> list[Record]:
        """What is there, or comes in time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        while True:
            before = stream.next
            # a record that comes between this and the look at the buffer answers the future, and nobody waits
            stream.waiter = waiter = loop.create_future()
            records = stream.take(max_records, max_bytes)
            left = until - loop.time()
            if records or stream.next != before or stream.error is not None or left <= 0:
                stream.waiter = None
                return records
            timer = loop.call_later(left, _answer, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                stream.waiter = None

    async def _failed(self, lane: str, stream: Stream) -> None:
        """The consumer gave a partition up: say why, so that the next read begins anew."""
        error, stream.error = stream.error, None
        assert error is not None
        self.hub.drop(stream)
        self._starts.pop(stream.spot, None)
        if is_position(error):
            start, end = await self.bounds(stream.spot)
            check_position(self.namespace, lane, stream.spot[1], stream.next, start, end)
            raise Retriable(f"Kafka lost a position for a moment: {error.str()}", place=stream.spot[0])
        if error.code() in MISSING:
            fix = f"contrapas topic create {lane}"
            raise LogError("CP505", f"topic {lane} does not exist", fix=fix, place=lane)
        raise explain(error, self.calls.cluster, sent=False, resource=stream.spot[0], operation="Read")

    async def span(
        self, lane: str, spot: Spot, first: int, upto: int, *, max_records: int = 10_000
    ) -> AsyncIterator[Sequence[Record]]:
        """Every record with first <= offset < upto, in batches. The stream is let go at the end."""
        at = first
        while at < upto:
            records, after = await self.read(lane, spot, at, max_records, 16 << 20, 0)
            if records and records[-1].offset >= upto:
                records = [r for r in records if r.offset < upto]
            if records:
                yield records
            ended = after >= upto or after == at
            if ended and (stream := self.hub.standing(spot, after)) is not None:
                self.hub.rest(stream)
                self.hub.drop(stream)
            if after == at:
                raise Retriable(f"nothing is read from {at} on", place=spot[0])
            at = after

    async def close(self) -> None:
        """Let go of the consumers."""
        await self.hub.close()


def _answer(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
