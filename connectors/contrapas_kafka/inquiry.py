"""Questions to a cluster about itself: synchronous calls of the client in threads, each with a deadline of its own."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

from confluent_kafka import ConsumerGroupState, KafkaError, TopicCollection
from confluent_kafka import admin as _untyped

from contrapas.errors import ContrapasError, Refused, Retriable
from contrapas_kafka.explain import (
    FAILURES,
    code_of,
    explain,
    explain_connecting,
    needs_tls,
    refusing,
    untrusted,
    without_tls,
)
from contrapas_kafka.handshake import speaks_tls, why_untrusted
from contrapas_kafka.hanging import Open, open_in
from contrapas_kafka.ids import id_of
from contrapas_kafka.offsets import offsets_of
from contrapas_kafka.options import Cluster

T = TypeVar("T")

library: Any = _untyped
"""The client's module, whose names are not marked as exported."""

CONNECT_S: Final = 2.0
LOOK_S: Final = 0.5
"""How long one question for the brokers may take, until what the client reported meanwhile is looked at."""
CALL_S: Final = 10.0
_MISSING: Final = frozenset(
    [KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION]
)


class Facts(NamedTuple):
    """What the cluster says of a topic."""

    id: str
    partitions: int
    copies: int
    """Replicas of the partition that has fewest."""
    rights: frozenset[str] | None = None
    """Operations that we may do on it, in capitals; None where nobody asked or the broker does not tell."""


class Group(NamedTuple):
    """A consumer group as its coordinator sees it."""

    state: str
    members: int
    assigned: frozenset[tuple[str, int]]


class Inquiry:
    """One admin client; `connect` first. Every question raises what `explain` makes of the client's error."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.cluster_id = ""
        self.brokers: tuple[int, ...] = ()
        self.topics: Mapping[str, int] = {}
        """Every topic that we may see, and its partitions, as of `connect` or `refresh`."""
        self._client: Any = None
        self._said: list[KafkaError] = []

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Reach the cluster within about two seconds. Unreachable CP501, Refused CP803, CP821."""
        await asyncio.to_thread(self._connect)

    def _connect(self) -> None:
        tries = knock(self.cluster)
        settings: dict[str, Any] = self.cluster.admin() | {"error_cb": self._said.append}
        try:
            self._client = library.AdminClient(settings)
            self._first()
        except FAILURES as why:
            raise self._unconnected(explain_connecting(why, self._said, self.cluster, tries)) from why
        except ValueError as why:
            raise explain(why, self.cluster, sent=False) from None

    def _first(self) -> None:
        """The first answer; sooner an error where the client has said meanwhile what will not change by waiting."""
        until = time.monotonic() + CONNECT_S
        while True:
            left = until - time.monotonic()
            try:
                return self._refresh(min(LOOK_S, max(0.1, left)))
            except FAILURES:
                self._client.poll(0)
                if left <= LOOK_S or refusing(self._said):
                    raise

    def _unconnected(self, found: ContrapasError) -> ContrapasError:
        """The same in clearer words, where a handshake of our own finds them."""
        cluster = self.cluster
        if found.code == "CP501":
            where = speaks_tls(cluster)
            if cluster.protocol in ("plaintext", "sasl_plaintext"):
                return needs_tls(cluster, where) if where else found
            return found if where else without_tls(cluster)
        if found.code == "CP803" and "verif" in found.text and (why := why_untrusted(cluster)):
            return untrusted(cluster, why)
        return found

    async def refresh(self) -> None:
        """Look at brokers and topics anew."""
        await self._call(lambda: self._refresh(CALL_S))

    def _refresh(self, seconds: float) -> None:
        found: Any = self._client.list_topics(timeout=seconds)
        self.cluster_id = str(found.cluster_id or "")
        self.brokers = tuple(sorted(found.brokers))
        self.topics = {name: len(one.partitions) for name, one in found.topics.items() if one.error is None}

    async def open_transactions(self, held: Mapping[tuple[str, int], int]) -> list[Open]:
        """Whose transactions hold partitions back whose stable end stands at these offsets."""
        return await self._call(lambda: open_in(self.cluster, self._client, held)) if held else []

    async def close(self) -> None:
        """Let the client go; it ends in the background."""
        self._client = None

    async def _call(
        self, work: Callable[[], T], *, sent: bool = False, resource: str = "", operation: str = ""
    ) -> T:
        try:
            return await asyncio.to_thread(work)
        except ContrapasError:
            raise
        except FAILURES as why:
            raise explain(why, self.cluster, sent=sent, resource=resource, operation=operation) from why

    # ---- topics

    async def describe(self, names: Iterable[str], *, rights: bool = False) -> dict[str, Facts]:
        """Facts of those topics that exist. Refused CP822."""
        wanted = list(names)
        if not wanted:
            return {}

        def work() -> dict[str, Facts]:
            asked: dict[str, Future[Any]] = self._client.describe_topics(
                TopicCollection(wanted), include_authorized_operations=rights, request_timeout=CALL_S
            )
            found: dict[str, Facts] = {}
            for name, future in asked.items():
                try:
                    one = future.result(CALL_S)
                except FAILURES as why:
                    if code_of(why) in _MISSING:
                        continue
                    raise explain(why, self.cluster, sent=False, resource=name, operation="Describe") from why
                allowed = (
                    None
                    if one.authorized_operations is None
                    else frozenset(o.name for o in one.authorized_operations)
                )
                copies = min((len(p.replicas) for p in one.partitions), default=0)
                found[name] = Facts(id_of(one.topic_id), len(one.partitions), copies, allowed)
            return found

        return await self._call(work)

    async def settings(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Settings of topics in force, the cluster's defaults included."""
        return await self._settings(library.ResourceType.TOPIC, names, "DescribeConfigs")

    async def broker_settings(self) -> dict[str, str]:
        """Settings of one broker; empty where we may not see them."""
        name = str(self.brokers[0]) if self.brokers else ""
        try:
            return (await self._settings(library.ResourceType.BROKER, [name], "DescribeConfigs")).get(
                name, {}
            )
        except Refused:
            return {}

    async def group_settings(self, group: str) -> dict[str, str]:
        """Settings of a group (Kafka 4); empty where the broker knows none or we may not see them."""
        try:
            return (await self._settings(library.ResourceType.GROUP, [group], "DescribeConfigs")).get(
                group, {}
            )
        except ContrapasError:
            return {}

    async def _settings(self, kind: Any, names: Iterable[str], operation: str) -> dict[str, dict[str, str]]:
        asked = [library.ConfigResource(kind, name) for name in names]
        if not asked:
            return {}

        def work() -> dict[str, dict[str, str]]:
            futures: dict[Any, Future[Any]] = self._client.describe_configs(asked, request_timeout=CALL_S)
            found: dict[str, dict[str, str]] = {}
            for resource, future in futures.items():
                try:
                    entries: Mapping[str, Any] = future.result(CALL_S)
                except FAILURES as why:
                    where = resource.name
                    raise explain(why, self.cluster, sent=False, resource=where, operation=operation) from why
                found[resource.name] = {name: str(entry.value) for name, entry in entries.items()}
            return found

        return await self._call(work)

    async def create(self, name: str, partitions: int, copies: int, settings: Mapping[str, str]) -> bool:
        """Make a topic; False when it is there already. Refused CP822; CP503 for what the broker does not allow."""

        def work() -> bool:
            asked = library.NewTopic(
                name, num_partitions=partitions, replication_factor=copies, config=dict(settings)
            )
            future: Future[Any] = self._client.create_topics(
                [asked], request_timeout=CALL_S, operation_timeout=CALL_S
            )[name]
            try:
                future.result(CALL_S + 1)
            except FAILURES as why:
                if code_of(why) == KafkaError.TOPIC_ALREADY_EXISTS:
                    return False
                raise self._unmade(why, name) from why
            return True

        return await self._call(work, sent=True)

    def _unmade(self, why: Exception, name: str) -> ContrapasError:
        code = code_of(why)
        words = self.cluster.scrub(str(why.args[0].str()) if code is not None else str(why))
        if code in (KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG, KafkaError.INVALID_PARTITIONS):
            return Refused(
                "CP503", f"the broker does not allow it: {words}", fix="ask who runs the cluster", place=name
            )
        if code == KafkaError.INVALID_REPLICATION_FACTOR:
            return Refused(
                "CP502", f"the cluster has too few brokers: {words}", fix="start the missing ones", place=name
            )
        if code == KafkaError.TOPIC_EXCEPTION:
            return Refused(
                "CP505", f"{name[:80]!r} is no name for a topic: {words}", fix="take another name", place=name
            )
        return explain(why, self.cluster, sent=True, resource=name, operation="Create")

    async def alter(self, name: str, settings: Mapping[str, str]) -> None:
        """Change settings of a topic, leaving the others."""

        def work() -> None:
            entries = [
                library.ConfigEntry(n, v, incremental_operation=library.AlterConfigOpType.SET)
                for n, v in settings.items()
            ]
            resource = library.ConfigResource(library.ResourceType.TOPIC, name, incremental_configs=entries)
            for future in self._client.incremental_alter_configs([resource], request_timeout=CALL_S).values():
                try:
                    future.result(CALL_S + 1)
                except FAILURES as why:
                    raise self._unmade(why, name) from why

        await self._call(work, sent=True, resource=name, operation="AlterConfigs")

    # ---- offsets

    async def starts(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """First offsets."""
        return await self._offsets(
            {place: library.OffsetSpec.earliest() for place in places}, committed=False
        )

    async def ends(self, places: Iterable[tuple[str, int]], *, committed: bool) -> dict[tuple[str, int], int]:
        """Ends: what is next, or (committed) where the first open transaction begins."""
        return await self._offsets(
            {place: library.OffsetSpec.latest() for place in places}, committed=committed
        )

    async def at_time(self, places: Iterable[tuple[str, int]], ms: int) -> dict[tuple[str, int], int]:
        """First offsets with a time at or after `ms`, -1 where there is none."""
        return await self._offsets(
            {place: library.OffsetSpec.for_timestamp(ms) for place in places}, committed=False
        )

    async def _offsets(
        self, asked: Mapping[tuple[str, int], Any], *, committed: bool
    ) -> dict[tuple[str, int], int]:
        if not asked:
            return {}
        answers = await self._call(
            lambda: offsets_of(self._client, asked, committed=committed, seconds=CALL_S)
        )
        found: dict[tuple[str, int], int] = {}
        for place, answer in answers.items():
            if not isinstance(answer, int):
                raise explain(
                    answer, self.cluster, sent=False, resource=place[0], operation="Describe"
                ) from answer
            found[place] = answer
        return found

    # ---- groups

    async def groups(self) -> list[str]:
        """Names of the consumer groups that we may see."""

        def work() -> list[str]:
            result = self._client.list_consumer_groups(request_timeout=CALL_S).result(CALL_S + 1)
            return sorted(one.group_id for one in result.valid)

        return await self._call(work, resource="", operation="Describe")

    async def group(self, name: str) -> Group:
        """A group's members and what is assigned to them; nobody when there is no such group."""

        def work() -> Group:
            future: Future[Any] = self._client.describe_consumer_groups([name], request_timeout=CALL_S)[name]
            try:
                found = future.result(CALL_S + 1)
            except FAILURES as why:
                if code_of(why) == KafkaError.GROUP_ID_NOT_FOUND:
                    return Group("DEAD", 0, frozenset())
                raise explain(why, self.cluster, sent=False, resource=name) from why
            slots = {
                (place.topic, place.partition)
                for member in found.members
                if member.assignment is not None
                for place in member.assignment.topic_partitions
            }
            state = found.state.name if isinstance(found.state, ConsumerGroupState) else str(found.state)
            return Group(state, len(found.members), frozenset(slots))

        return await self._call(work, resource=name, operation="Describe")

    async def group_offsets(self, name: str) -> dict[tuple[str, int], int]:
        """Positions that a group has committed on the broker."""
        from confluent_kafka import ConsumerGroupTopicPartitions

        def work() -> dict[tuple[str, int], int]:
            asked = [ConsumerGroupTopicPartitions(name)]
            future: Future[Any] = self._client.list_consumer_group_offsets(asked, request_timeout=CALL_S)[
                name
            ]
            try:
                found = future.result(CALL_S + 1).topic_partitions
            except FAILURES as why:
                raise explain(why, self.cluster, sent=False, resource=name) from why
            return {(p.topic, p.partition): p.offset for p in found or () if p.offset >= 0}

        return await self._call(work, resource=name, operation="Describe")


async def patiently(work: Callable[[], Awaitable[T]], seconds: float = CALL_S) -> T:
    """Do it again while the cluster cannot do it just now: a topic just made has no leader yet, say."""
    end = time.monotonic() + seconds
    pause = 0.05
    while True:
        try:
            return await work()
        except Retriable:
            if time.monotonic() + pause > end:
                raise
            await asyncio.sleep(pause)
            pause = min(0.5, pause * 2)


def knock(cluster: Cluster) -> str:
    """Try to connect to any of the brokers, three times in about two seconds. Unreachable CP501 when none listens.

    The client itself would not say why within that time.
    """
    begun = time.monotonic()
    last: OSError | None = None
    tries = 0
    while True:
        tries += 1
        for host, port in cluster.hosts:
            left = max(0.2, CONNECT_S - (time.monotonic() - begun))
            try:
                socket.create_connection((host, port), timeout=min(1.0, left)).close()
                return ""
            except OSError as why:
                last = why
        passed = time.monotonic() - begun
        if tries >= 3 or passed > CONNECT_S:
            raise explain_connecting(last, [], cluster, f"{tries} tries in {passed:.1f}s")
        time.sleep(min(0.8, max(0.0, CONNECT_S - passed)))


def places_of(topics: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    """Every partition of some topics."""
    return [(name, p) for name, count in topics.items() for p in range(count)]
