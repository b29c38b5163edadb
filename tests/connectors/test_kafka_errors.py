"""What comes back from a commit, and what it becomes: the rows of the table, over a client that answers as told."""

from __future__ import annotations

import asyncio
import queue
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from contrapas.errors import DataError, Fenced, Indeterminate, Refused, Retriable
from contrapas.log import Draft, Headers, Record
from contrapas.log.checks import epoch_of
from contrapas.log.order import CLAIM_PREFIX
from contrapas_kafka.asking import Asking
from contrapas_kafka.lease import KafkaLease
from contrapas_kafka.log import KafkaLog
from contrapas_kafka.options import Cluster
from contrapas_kafka.producer import Report
from contrapas_kafka.read import Reader

EPOCH = 40


class Told:
    """A delivery report's message."""

    def __init__(self, offset: int | None) -> None:
        self._offset = offset

    def offset(self) -> int | None:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return (2, 1_000)


class Lane:
    """One partition of a broker, and what it does to the next records."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.end = 0
        self.script: deque[str] = deque()
        """For the reports to come: `error:CODE`, `nowhere`, `silent`, ``."""
        self.silent = False
        """Nobody answers a question about the end."""
        self.most = 1_048_588

    async def largest(self, topic: str) -> int:
        """`max.message.bytes`."""
        return self.most

    async def close(self) -> None:
        """As a client's."""

    def append(self, key: bytes, value: bytes | None, headers: Headers, *, hole: int = 0) -> int:
        self.end += hole
        self.records.append(Record(0, self.end, key, value, headers, 1_000 + self.end))
        self.end += 1
        return self.end - 1

    def foreign(self, key: bytes, epoch: int, version: int = 1, *, hole: int = 0) -> None:
        """A record of somebody else."""
        headers = (("cp-version", b"%d" % version), ("cp-epoch", b"%d" % epoch))
        self.append(key, b"theirs", headers, hole=hole)


class Client:
    """A producer of the client's interface."""

    made = 0

    def __init__(self, lane: Lane, settings: dict[str, Any]) -> None:
        Client.made += 1
        self.lane = lane
        self.trouble: Callable[[KafkaError], None] = settings["error_cb"]
        self.reports: queue.SimpleQueue[tuple[Report, KafkaError | None, Told]] = queue.SimpleQueue()
        self.before: deque[BaseException | None] = deque()
        """Raised by the next calls of `produce`."""

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        *,
        on_delivery: Report | None = None,
        headers: list[tuple[str, bytes | None]],
    ) -> None:
        if self.before and (why := self.before.popleft()) is not None:
            raise why
        offset = self.lane.append(key or b"", value, cast("Headers", tuple(headers)))
        if on_delivery is None:
            return
        kind = self.lane.script.popleft() if self.lane.script else ""
        if kind.startswith("error:"):
            number = int(kind.partition(":")[2])
            self.reports.put((on_delivery, KafkaError(number), Told(7)))  # its place in the batch
        elif kind == "nowhere":
            self.reports.put((on_delivery, None, Told(-1001)))
        elif kind != "silent":
            self.reports.put((on_delivery, None, Told(offset)))

    def poll(self, timeout: float) -> int:
        try:
            report, error, told = self.reports.get(timeout=min(timeout, 0.02))
        except queue.Empty:
            return 0
        if error is not None and error.code() == KafkaError._FATAL:
            self.trouble(error)
        report(error, cast("Any", told))
        return 1


class Eyes:
    """A reader of that partition."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    async def end(self, spot: object) -> int:
        if self.lane.silent:
            raise Retriable("Kafka does not answer")
        return self.lane.end

    async def bounds(self, spot: object) -> tuple[int, int]:
        return 0, await self.end(spot)

    async def span(self, lane: str, spot: object, first: int, upto: int) -> AsyncIterator[Sequence[Record]]:
        if self.lane.silent:
            raise Retriable("Kafka does not answer")
        yield [r for r in self.lane.records if first <= r.offset < upto]

    async def close(self) -> None:
        return


class Setup:
    """A log whose cluster is `lane`."""

    def __init__(self, lane: Lane, log: KafkaLog, lease: KafkaLease) -> None:
        self.lane = lane
        self.log = log
        self.lease = lease

    @property
    def client(self) -> Client:
        return cast("Client", self.lease.sender.client)

    async def commit(self, *keys: str) -> Any:
        headers = (("cp-version", b"1"), ("cp-epoch", b"%d" % self.lease.epoch))
        drafts = [Draft("", 0, key.encode(), b"mine", headers) for key in keys]
        return await self.lease.commit(drafts, [], self.lease.control)


@asynccontextmanager
async def owning(lane: Lane | None = None) -> AsyncGenerator[Setup]:
    """An owner of an empty partition that begins at 40."""
    if lane is None:
        lane = Lane()
        lane.foreign(b"old", 3, hole=EPOCH - 1)
    log = KafkaLog(Cluster("kafka://nowhere:9092"), "shop", 2)
    log.commit_s = 0.3
    log.lanes.make = partial(Client, lane)
    log.raw = cast("Reader", Eyes(lane))
    log.admin = cast("Asking", lane)
    try:
        yield Setup(lane, log, await log.acquire(0, "me"))
    finally:
        await log.close()


async def test_all_good_and_without_a_gap_it_counts() -> None:
    async with owning() as s:
        assert s.lease.epoch == EPOCH and s.lease.expected == EPOCH + 1
        done = await s.commit("a", "b")
        assert (done.first, done.last, done.losers) == (41, 43, ())
        assert (await s.commit()).first == 44


async def test_a_higher_epoch_in_the_gap_is_fenced() -> None:
    async with owning() as s:
        s.lane.foreign(CLAIM_PREFIX + b"theirs", 99)
        with pytest.raises(Fenced) as why:
            await s.commit("a")
        assert (why.value.mine, why.value.theirs) == (EPOCH, 99)
        await asyncio.wait_for(s.lease.lost(), 1)
        with pytest.raises(Fenced):
            await s.commit("b")


async def test_a_hole_in_the_gap_is_indeterminate() -> None:
    async with owning() as s:
        s.lane.end += 1
        with pytest.raises(Indeterminate, match="missing"):
            await s.commit("a")
        assert s.lease.gone


async def test_lower_epochs_junk_and_a_later_equal_claim_are_void_and_the_commit_counts() -> None:
    async with owning() as s:
        s.lane.foreign(b"late", EPOCH - 1, version=9)
        s.lane.foreign(CLAIM_PREFIX + b"equal", EPOCH)
        s.lane.append(b"junk", b"x", ())
        done = await s.commit("a")
        assert (done.first, done.last) == (44, 45)
        assert [(r.key, epoch_of(r)) for r in done.losers] == [(b"late", EPOCH - 1), (b"junk", -1)]
        assert (await s.commit("b")).losers == ()


async def test_what_stands_between_our_own_records_is_seen_too() -> None:
    async with owning() as s:
        produce = s.client.produce

        def intruded(*args: Any, **said: Any) -> None:
            produce(*args, **said)
            if said.get("on_delivery") is None:
                s.lane.foreign(b"between", 5)

        s.client.produce = intruded  # type: ignore[method-assign]
        done = await s.commit("a")
        assert (done.first, done.last, [r.key for r in done.losers]) == (41, 43, [b"between"])


async def test_a_gap_that_cannot_be_read_is_indeterminate() -> None:
    async with owning() as s:
        s.lane.foreign(b"late", 1)
        s.lane.silent = True
        with pytest.raises(Indeterminate):
            await s.commit("a")
        assert s.lease.gone


@pytest.mark.parametrize(
    "kind",
    ["silent", "nowhere", f"error:{KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND}", f"error:{KafkaError._TRANSPORT}",
     f"error:{KafkaError.NOT_ENOUGH_REPLICAS}", f"error:{KafkaError.UNKNOWN_MEMBER_ID}"],
)  # fmt: skip
async def test_a_report_that_is_missing_failed_or_without_a_place_is_indeterminate(kind: str) -> None:
    async with owning() as s:
        s.lane.script.append(kind)
        with pytest.raises(Indeterminate):
            await s.commit("a")
        assert s.lease.gone
        again = await s.log.acquire(0, "me")
        assert again.epoch > EPOCH and again.sender is s.lease.sender  # what was stuck lands before the claim


@pytest.mark.parametrize("fatal", [KafkaError._FATAL, KafkaError._GAPLESS_GUARANTEE])
async def test_a_fatal_report_ends_the_producer_for_every_partition(fatal: int) -> None:
    async with owning() as s:
        other = await s.log.acquire(1, "me")
        s.lane.script.append(f"error:{fatal}")
        with pytest.raises(Indeterminate):
            await s.commit("a")
        with pytest.raises(Indeterminate):
            await other.commit([], [], other.control)
        made = Client.made
        again = await s.log.acquire(0, "me")
        assert Client.made == made + 1 and again.sender is not s.lease.sender
        await again.commit([], [], again.control)


@pytest.mark.parametrize(
    "why", [KafkaException(KafkaError(KafkaError._FATAL)), SystemError("a report was pending")]
)
async def test_a_fatal_error_of_produce_ends_the_producer_too(why: Exception) -> None:
    async with owning() as s:
        s.client.before.append(why)
        with pytest.raises(Indeterminate):
            await s.commit("a")
        assert s.lease.sender.dead is not None


async def test_a_full_queue_before_the_first_record_means_that_nothing_was_written() -> None:
    async with owning() as s:
        s.client.before.append(BufferError())
        with pytest.raises(Retriable):
            await s.commit("a")
        assert not s.lease.gone and s.lane.end == 41
        assert (await s.commit("a")).first == 41


async def test_a_full_queue_after_the_first_record_is_waited_for() -> None:
    async with owning() as s:
        s.client.before.extend([None, BufferError(), BufferError()])
        done = await s.commit("a", "b")
        assert (done.first, done.last) == (41, 43)


async def test_a_record_above_the_limit_is_refused_before_anything_is_handed_over() -> None:
    async with owning() as s:
        limit = s.log.caps.max_record_bytes
        with pytest.raises(DataError, match="above"):
            await s.lease.commit([Draft("", 0, b"k", b"x" * limit)], [], s.lease.control)
        assert s.lane.end == 41 and not s.lease.gone


@pytest.mark.parametrize(
    "code", [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_RECORD]
)
async def test_a_record_that_the_topic_refuses_is_said_aloud_and_its_index_is_no_offset(code: int) -> None:
    async with owning() as s:
        s.lane.script.append(f"error:{code}")
        with pytest.raises(DataError):
            await s.commit("a")
        assert s.lease.gone and s.lease.expected == 41


async def test_a_lane_that_takes_less_than_it_did_is_unclear_once_and_then_known() -> None:
    async with owning() as s:
        s.lane.most = 100_000
        s.lane.script.append(f"error:{KafkaError.MSG_SIZE_TOO_LARGE}")
        with pytest.raises(Indeterminate):
            await s.commit("a")
        assert s.lease.gone and s.log.caps.max_record_bytes == 99_000
        assert s.log.lanes.settings["batch.size"] == 99_000
        s.lease = await s.log.acquire(0, "me")
        s.lane.script.append(f"error:{KafkaError.MSG_SIZE_TOO_LARGE}")
        with pytest.raises(DataError):
            await s.commit("a")


async def test_a_missing_right_stops_and_names_principal_resource_and_operation() -> None:
    async with owning() as s:
        s.lane.script.append(f"error:{KafkaError.TOPIC_AUTHORIZATION_FAILED}")
        with pytest.raises(Refused) as why:
            await s.commit("a")
        assert why.value.code == "CP822"
        for word in ("ANONYMOUS", "Write", "shop.log"):
            assert word in f"{why.value.text} {why.value.fix}"


async def test_a_claim_without_an_answer_is_made_anew_behind_what_was_stuck() -> None:
    async with owning() as s:
        s.lane.script.append("silent")
        with pytest.raises(Indeterminate):
            await s.log.acquire(0, "me")
        again = await s.log.acquire(0, "me")
        assert again.epoch > EPOCH + 1


async def test_an_idle_look_finds_losers_and_what_it_gave_once_it_gives_no_more() -> None:
    async with owning() as s:
        assert await s.lease.look() == ()
        s.lane.foreign(b"late", 7, version=4)
        assert [r.key for r in await s.lease.look()] == [b"late"]
        assert await s.lease.look() == ()
        assert (await s.commit("a")).losers == ()


async def test_an_idle_look_learns_of_another_owner() -> None:
    async with owning() as s:
        s.lane.foreign(CLAIM_PREFIX + b"theirs", 99)
        with pytest.raises(Fenced):
            await s.lease.look()
        assert s.lease.gone


async def test_an_owner_that_cannot_look_for_thirty_seconds_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with owning() as s:
        s.lane.silent = True
        now = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        with pytest.raises(Retriable):
            await s.lease.look()
        assert not s.lease.gone
        now[0] += 30.1
        with pytest.raises(Retriable):
            await s.lease.look()
        assert s.lease.gone


async def test_former_claims_get_tombstones_when_they_are_old_and_nothing_is_owed() -> None:
    async with owning() as s:
        s.lane.foreign(b"late", 7)
        await s.commit("a")
        heir = await s.log.acquire(0, "heir")
        before = s.lane.end
        await heir.commit([], [], heir.control)  # a loser lies on top: nothing is removed
        assert s.lane.end == before + 1
        heal = (("cp-version", b"2"), ("cp-epoch", b"%d" % heir.epoch), ("cp-cause", b"heal"))
        await heir.commit([Draft("", 0, b"late", b"x", heal)], [], heir.control)
        await heir.commit([], [], heir.control)
        gone = [r for r in s.lane.records if r.key.startswith(CLAIM_PREFIX) and r.value is None]
        assert len(gone) == 1 and epoch_of(gone[0]) == heir.epoch
        await heir.commit([], [], heir.control)
        assert sum(r.value is None for r in s.lane.records) == 1


async def test_a_claim_that_came_too_late_owes_no_heal_and_is_removed_as_the_others_are() -> None:
    async with owning() as s:
        s.lane.foreign(CLAIM_PREFIX + b"late", 7)
        await s.commit("a")
        heir = await s.log.acquire(0, "heir")
        await heir.commit([], [], heir.control)
        gone = {r.key for r in s.lane.records if r.value is None}
        assert len(gone) == 2 and CLAIM_PREFIX + b"late" in gone


async def test_a_release_says_that_nobody_owns_the_partition() -> None:
    async with owning() as s:
        await s.commit("a")
        await s.lease.release()
        heir = await s.log.acquire(0, "heir")
        assert heir.control.takeovers == 0
        await s.log.acquire(0, "next")
        third = await s.log.acquire(0, "third")
        assert third.control.takeovers == 2


async def test_a_look_while_a_commit_is_on_its_way_leaves_the_commit_alone() -> None:
    async with owning() as s:
        committing = asyncio.ensure_future(s.commit("a", "b"))
        while s.lane.end == 41:
            await asyncio.sleep(0)
        assert await s.lease.look() == ()
        done = await committing
        assert (done.first, done.last, done.losers) == (41, 43, ())
        assert await s.lease.look() == ()
