"""Who should own what: a member of a consumer group that never fetches, polled by a thread of its own, with a beat of our own.

The coordinator says what is ours; the fence, and nobody here, says what counts. Two things the client does not do: under
KIP-848 it keeps its partitions while the coordinator cannot be reached, and a process that was stopped believes in its
own the moment it goes on. Hence the beat: who has not heard from the coordinator, or has not come round to polling, for a
session, gives everything up, whatever the client says.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from contrapas.errors import ContrapasError
from contrapas.log import Control, Lane
from contrapas_kafka.explain import FAILURES, explain, is_fatal
from contrapas_kafka.inquiry import Inquiry
from contrapas_kafka.options import Cluster

Slot = tuple[Lane, int]

POLL_S: Final = 0.1
TURN_S: Final = 0.02
"""Pause between polls: the client lets one thread in at a time, and a loop of polls alone would keep the beat out for ever."""
LOOK_S: Final = 0.2
"""How often the loop looks whether the member is still in contact."""
RELEASE_S: Final = 1.0
"""How long a partition that is taken away may finish its commit and be released, before the next owner gets it."""
LAZY_S: Final = 5.0
"""How often positions are committed to the group, for tools that show lag; nobody here reads them."""
QUICK_MS: Final = 10_000
"""KIP-848 is chosen by itself where its session is at most so long."""
CLOSE_S: Final = 5.0
MISSING_S: Final = 30.0
"""How long a topic may be unknown: one just made is not known everywhere at once."""
_QUIET: Final = frozenset(
    [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._MAX_POLL_EXCEEDED]
)
_NO_FETCH: Final[dict[str, Any]] = {
    "max.partition.fetch.bytes": 1_024,
    "topic.metadata.refresh.interval.ms": 30_000,
}
"""A request may be on its way before a partition is paused."""
_logger = logging.getLogger("contrapas.kafka")


class Owned(Protocol):
    """A lease, as far as a member looks at it."""

    control: Control


class Home(Protocol):
    """The log that a member belongs to."""

    cluster: Cluster
    namespace: str

    def topic_of(self, lane: Lane) -> str:
        """As the cluster calls it."""
        ...

    def held(self) -> Mapping[int, Owned]:
        """Leases that are held now, by partition."""
        ...


class KafkaMembership:
    """One member of a group over the partitions of some topics."""

    def __init__(self, home: Home, group: str, lanes: Sequence[Lane]) -> None:
        """Within a running loop. It joins at once."""
        self.home = home
        self.group = group
        self.lanes = tuple(lanes)
        self.classic = True
        self.session_s = home.cluster.group.session_ms / 1000
        self.release_s = RELEASE_S
        self.missing_s = MISSING_S
        self._loop = asyncio.get_running_loop()
        self._names = {home.topic_of(lane): lane for lane in lanes}
        self._owns = group == f"{home.namespace}.workers"
        """The partitions of this group are those that leases are of."""
        self._given: frozenset[Slot] | None = None
        """As the coordinator said last; None before it said anything."""
        self._error: ContrapasError | None = None
        self._news = asyncio.Event()
        self._heard = self._polled = time.monotonic()
        self._leaving = threading.Event()
        self._left = asyncio.Event()
        self._noted: dict[tuple[str, int], int] = {}
        self._told: dict[tuple[str, int], int] = {}
        self._lazy = 0.0
        self._consumer: Any = None
        self._missed = 0.0
        """Since when a topic is unknown."""
        self._thread: threading.Thread | None = None
        self._joining = asyncio.ensure_future(self._join())
        self._closing: asyncio.Future[None] | None = None

    # ---- the group

    async def _join(self) -> None:
        """Choose the protocol, then join; again until it works or cannot."""
        wait = 0.1
        while not self._leaving.is_set():
            try:
                await self._choose()
                break
            except ContrapasError as why:
                if why.code not in ("CP501", "CP523"):
                    self._fail(why)
                    return
                await asyncio.sleep(wait)
                wait = min(2.0, wait * 2)
        if self._leaving.is_set():
            return
        self._thread = threading.Thread(target=self._poll, name="contrapas-group", daemon=True)
        self._thread.start()

    async def _choose(self) -> None:
        """Classic with our session, or KIP-848 where the group's own is as short."""
        said = self.home.cluster.group.protocol
        if said == "classic":
            return
        async with Inquiry(self.home.cluster) as asked:
            found = await asked.group_settings(self.group)
        session = found.get("consumer.session.timeout.ms", "")
        session_ms = int(session) if session.isdigit() else 0
        if said == "consumer" or 0 < session_ms <= QUICK_MS:
            self.classic = False
            self.session_s = (session_ms or 45_000) / 1000

    def _made(self) -> Any:
        beat = {"statistics.interval.ms": int(max(200, min(1_000, self.session_s * 1000 / 6)))}
        settings = self.home.cluster.member(self.group, classic=self.classic)
        consumer = Consumer(settings | _NO_FETCH | beat | {"stats_cb": self._measured})
        consumer.subscribe(
            sorted(self._names), on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose
        )
        return consumer

    def _poll(self) -> None:
        """The thread that the client calls back in."""
        try:
            while not self._leaving.is_set():
                if self._consumer is None:
                    self._consumer = self._made()
                message = self._consumer.poll(POLL_S)
                now = time.monotonic()
                if now - self._polled > self.session_s:  # we were stopped: what was ours may be another's
                    self._tell(self._given, stale=True)
                self._polled = now
                if message is not None and (error := message.error()) is not None:
                    self._said(error)
                self._commit(now)
                self._leaving.wait(TURN_S)
        except Exception as why:  # noqa: BLE001  whoever follows the assignments hears it
            self._stopped(why)
        finally:
            self._close()

    def _said(self, error: KafkaError) -> None:
        """An error that polling brought: most are the client's to mend."""
        if is_fatal(error):
            _logger.warning("the client of group %s begins anew: %s", self.group, error.str())
            self._close()
            self._tell(frozenset())
            return
        if error.code() in _QUIET:
            return
        found = explain(error, self.home.cluster, sent=False, resource=self.group)
        _logger.debug("group %s: %s", self.group, found)
        if found.code == "CP505":
            now = time.monotonic()
            self._missed = self._missed or now
            if now - self._missed < self.missing_s:
                self._close()  # this one would look again in minutes
                self._leaving.wait(0.5)
                return
        if found.code in ("CP505", "CP506", "CP518", "CP803", "CP821", "CP822"):
            raise found

    def _stopped(self, why: Exception) -> None:
        found = explain(why, self.home.cluster, sent=False, resource=self.group)
        self._call(lambda: self._fail(found))

    def _close(self) -> None:
        """Leave the group: the others need not wait for the end of our session."""
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            consumer.close()
        except (*FAILURES, RuntimeError) as why:
            _logger.info("group %s: %s", self.group, why)

    # ---- what the client calls, in the polling thread

    def _assign(self, consumer: Any, parts: list[TopicPartition]) -> None:
        """They are taken at any position and paused: nothing is ever fetched here."""
        own = [TopicPartition(part.topic, part.partition, 0) for part in parts]
        consumer.incremental_assign(own)
        if own:
            consumer.pause(own)
        self._heard = time.monotonic()
        self._missed = 0.0
        self._tell((self._given or frozenset()) | self._slots(parts))

    def _revoke(self, consumer: Any, parts: list[TopicPartition]) -> None:
        """Taken away in order: who owns them gets a moment to finish and to release."""
        self._tell((self._given or frozenset()) - self._slots(parts))
        if self._owns:
            end = time.monotonic() + self.release_s
            mine = {part.partition for part in parts}
            while mine & self.home.held().keys() and time.monotonic() < end:
                time.sleep(0.01)
        consumer.incremental_unassign(parts)

    def _lose(self, consumer: Any, parts: list[TopicPartition]) -> None:
        """Another may have them by now."""
        self._tell((self._given or frozenset()) - self._slots(parts))
        consumer.incremental_unassign(parts)

    def _slots(self, parts: Sequence[TopicPartition]) -> frozenset[Slot]:
        return frozenset(
            (self._names[part.topic], part.partition) for part in parts if part.topic in self._names
        )

    def _tell(self, given: frozenset[Slot] | None, *, stale: bool = False) -> None:
        self._given = given
        if stale:
            self._heard = 0.0
        self._call(self._news.set)

    def _call(self, act: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(act)
        except RuntimeError:  # the loop is closed
            self._leaving.set()

    # ---- the beat

    def _measured(self, told: str) -> None:
        """What the client tells of itself now and then: how long ago the coordinator said anything. A question of our own
        beside the polling would hang: the client answers one thread at a time."""
        found: dict[str, Any] = json.loads(told).get("brokers", {})
        for name, broker in found.items():
            if "GroupCoordinator" in name and broker.get("rxidle", -1) >= 0:
                self._heard = max(self._heard, time.monotonic() - broker["rxidle"] / 1e6)

    @property
    def heard(self) -> float:
        """When the coordinator was last asked something that it answered, on the monotonic clock."""
        return self._heard

    @property
    def in_contact(self) -> bool:
        """Whether the coordinator has answered, and we have polled, within a session."""
        now = time.monotonic()
        poll_s = max(self.session_s, self.home.cluster.group.poll_ms / 1000)
        return now - self._heard <= self.session_s and now - self._polled <= poll_s

    # ---- positions for tools

    def note(self, at: Mapping[tuple[str, int], int]) -> None:
        """Positions of a service, by topic: committed to the group when there is time."""
        self._noted.update(at)

    def _commit(self, now: float) -> None:
        if now - self._lazy < LAZY_S:
            return
        self._lazy = now
        at = dict(self._noted)
        if self._owns:
            at |= {
                (self.home.topic_of("in"), p): offset
                for p, lease in list(self.home.held().items())
                for (source, q), offset in lease.control.cursor.items()
                if q == p and source.partition("@")[0] == "in"
            }
        given = {(self.home.topic_of(lane), p) for lane, p in self._given or ()}
        offsets = [
            TopicPartition(t, p, o)
            for (t, p), o in at.items()
            if (t, p) in given and self._told.get((t, p)) != o
        ]
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as why:
            _logger.debug("group %s: %s", self.group, why)
        else:
            self._told.update({(o.topic, o.partition): o.offset for o in offsets})

    # ---- the seam

    def _fail(self, why: ContrapasError) -> None:
        self._error = why
        self._news.set()

    async def assignments(self) -> AsyncIterator[frozenset[Slot]]:
        """Yield the share at first and at each change; nothing while the coordinator cannot be reached for a session."""
        last: frozenset[Slot] | None = None
        while not self._left.is_set():
            self._news.clear()
            if self._error is not None:
                raise self._error
            now = self._given
            if now and not self.in_contact:
                now = frozenset[Slot]()
            if now is not None and now != last:
                last = now
                yield now
                continue
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def leave(self) -> None:
        """Leave the group. While partitions are still held it is done when they are released: until then nobody else gets
        them, so that running steps may end. The second call does not wait for that."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._end())
            if not (self._owns and self._mine()):
                await asyncio.shield(self._closing)
            return
        self._left.set()
        await asyncio.shield(self._closing)

    def _mine(self) -> bool:
        return any(p in self.home.held() for _, p in self._given or ())

    async def _end(self) -> None:
        while self._owns and self._mine() and not self._left.is_set():
            await asyncio.sleep(0.02)
        self._left.set()
        self._leaving.set()
        self._news.set()
        self._joining.cancel()
        await asyncio.gather(self._joining, return_exceptions=True)
        end = time.monotonic() + CLOSE_S
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < end:
            await asyncio.sleep(0.01)
