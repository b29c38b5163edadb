"""What is asked of the cluster beside producing and consuming: ends of partitions, topics by id, positions of groups."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec

from contrapas.errors import LogError, Retriable
from contrapas.log import Source, Topic
from contrapas_kafka.calls import ASK_S, Calls
from contrapas_kafka.explain import MISSING, code_of, explain
from contrapas_kafka.ids import id_of
from contrapas_kafka.offsets import Spot, offsets_of

AGAIN_S: Final = 3.0
"""How long a question is asked again that the broker cannot answer now."""


class Asking:
    """One client for all questions; those for ends that come while one is on its way go together with the next."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.cluster = calls.cluster
        self._client: AdminClient | None = None
        self._making = threading.Lock()
        self._wanted: dict[tuple[str, bool], dict[Spot, asyncio.Future[int]]] = {}
        self._asking: dict[tuple[str, bool], asyncio.Task[None]] = {}

    def client(self) -> Any:
        """The client, whose stubs do not say what its futures give; made when it is first needed, in a thread."""
        with self._making:
            if self._client is None:
                self._client = AdminClient(self.cluster.admin())
            return self._client

    # ---- offsets

    async def end(self, topic: str, partition: int, *, stable: bool) -> int:
        """The end of a partition. stable: below any open transaction."""
        return await self._offset("end", (topic, partition), stable)

    async def start(self, topic: str, partition: int) -> int:
        """The first offset that is still there."""
        return await self._offset("start", (topic, partition), False)

    async def _offset(self, which: str, spot: Spot, stable: bool) -> int:
        kind = (which, stable)
        wanted = self._wanted.setdefault(kind, {})
        found = wanted.get(spot)
        if found is None:
            found = wanted[spot] = asyncio.get_running_loop().create_future()
        if (task := self._asking.get(kind)) is None or task.done():
            self._asking[kind] = asyncio.get_running_loop().create_task(self._ask(kind))
        return await asyncio.shield(found)

    async def _ask(self, kind: tuple[str, bool]) -> None:
        """Everything that is wanted, one question after the other, until nobody asks."""
        which, stable = kind
        specs: Any = OffsetSpec
        spec = specs.latest() if which == "end" else specs.earliest()
        until = time.monotonic() + AGAIN_S
        while wanted := self._wanted.pop(kind, None):
            try:
                answers = await self.offsets({spot: spec for spot in wanted}, stable=stable)
            except BaseException as why:
                for future in wanted.values():
                    _fail(future, why)
                if not isinstance(why, Exception):
                    raise
                continue
            again: dict[Spot, asyncio.Future[int]] = {}
            for spot, future in wanted.items():
                answer = answers[spot]
                if isinstance(answer, int):
                    if not future.done():
                        future.set_result(answer)
                    continue
                failed = explain(answer, self.cluster, sent=False, resource=spot[0])
                if isinstance(failed, Retriable) and time.monotonic() < until and not future.done():
                    again[spot] = future  # a leader is being elected, or the client has not heard of it
                else:
                    _fail(future, failed)
            if again:
                await asyncio.sleep(AGAIN_S / 50)
                self._wanted[kind] = {**again, **self._merged(kind, again)}

    def _merged(
        self, kind: tuple[str, bool], again: Mapping[Spot, asyncio.Future[int]]
    ) -> dict[Spot, asyncio.Future[int]]:
        """What was asked for meanwhile; who asks for the same gets the same answer."""
        since = self._wanted.get(kind, {})
        for spot, future in since.items():
            if spot in again:
                again[spot].add_done_callback(_passing(future))
        return {spot: future for spot, future in since.items() if spot not in again}

    async def offsets(self, wanted: Mapping[Spot, Any], *, stable: bool) -> dict[Spot, int | Exception]:
        """Offsets by spec; -1 where there is none. Retriable: no answer."""
        return await self.calls.run(
            lambda: offsets_of(self.client(), wanted, committed=stable, seconds=ASK_S)
        )

    async def offset_at(self, topic: str, partition: int, timestamp_ms: int, *, stable: bool) -> int:
        """First offset with a timestamp at or after the given one; -1 when there is none."""
        spot = (topic, partition)
        spec = OffsetSpec.for_timestamp(max(0, timestamp_ms))
        answer = (await self.offsets({spot: spec}, stable=stable))[spot]
        if isinstance(answer, int):
            return answer
        raise explain(answer, self.cluster, sent=False, resource=topic) from answer

    # ---- topics

    async def topic(self, name: str) -> Topic | None:
        """A topic's id and partition count; None when it does not exist. It is never created by asking."""

        def ask() -> Topic | None:
            futures = self.client().describe_topics(TopicCollection([name]), request_timeout=ASK_S)
            try:
                found = futures[name].result(ASK_S)
            except KafkaException as why:
                if code_of(why) in MISSING:
                    return None
                raise
            return Topic(id_of(found.topic_id), len(found.partitions))

        return await self.calls.run(ask, resource=name)

    async def largest(self, topic: str) -> int:
        """How large a batch may be that a topic takes, in bytes (`max.message.bytes`). Refused CP822."""

        def ask() -> int:
            place = ConfigResource(ConfigResource.Type.TOPIC, topic)
            found = self.client().describe_configs([place], request_timeout=ASK_S)[place].result(ASK_S)
            return int(found["max.message.bytes"].value)

        return await self.calls.run(ask, resource=topic, operation="DescribeConfigs")

    # ---- positions of groups, which nobody ever joins

    async def positions(self, group: str) -> dict[Source, int]:
        """What was stored, by source."""

        def ask() -> dict[Source, int]:
            futures = self.client().list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=ASK_S
            )
            parts = futures[group].result(ASK_S).topic_partitions or ()
            return {
                (str(part.metadata), part.partition): part.offset
                for part in parts
                if part.offset >= 0 and part.metadata
            }

        return await self.calls.run(ask, resource=group)

    async def save_positions(self, group: str, at: Mapping[tuple[str, Source], int]) -> None:
        """Store them: (topic, source) -> offset; the source, which holds the topic's id, goes beside as metadata."""

        def ask() -> None:
            parts = [
                TopicPartition(topic, partition, offset, metadata=source)
                for (topic, (source, partition)), offset in at.items()
            ]
            futures = self.client().alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, parts)], request_timeout=ASK_S
            )
            for part in futures[group].result(ASK_S).topic_partitions:
                if part.error is not None:
                    raise KafkaException(part.error)

        await self.calls.run(ask, sent=True, resource=group)

    async def close(self) -> None:
        """Let go."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

        def end() -> None:
            self._client = None

        try:
            await self.calls.run(end)
        except LogError:
            return


def _passing(to: asyncio.Future[int]) -> Callable[[asyncio.Future[int]], None]:
    def passed(done: asyncio.Future[int]) -> None:
        if to.done() or done.cancelled():
            return
        if (why := done.exception()) is not None:
            _fail(to, why)
        else:
            to.set_result(done.result())

    return passed


def _fail(future: asyncio.Future[int], why: BaseException) -> None:
    if not future.done():
        future.set_exception(why)
        future.exception()  # whoever asked may be gone
