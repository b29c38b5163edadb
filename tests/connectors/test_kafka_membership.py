"""Members of a group on a real broker, in both protocols: who comes, leaves, is killed, stopped, cut off, or does not poll."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contrapas.log import Control
from contrapas.log.control import new_control
from contrapas_kafka.inquiry import Inquiry
from contrapas_kafka.membership import KafkaMembership
from contrapas_kafka.options import Cluster
from tests.connectors.kafka_member import Place
from tests.connectors.test_kafka_topics import client, library, make
from tests.kafka import Broker, StartKafka
from tests.proxy import Proxy

ROOT = Path(__file__).parents[2]
SESSION_MS = 3_000
PROTOCOLS = ("classic", "consumer")


def url_of(address: str, protocol: str, *, session_ms: int = SESSION_MS, poll_ms: int = 60_000) -> str:
    return (
        f"kafka://{address}?group.protocol={protocol}&session.timeout.ms={session_ms}"
        f"&heartbeat.interval.ms=300&max.poll.interval.ms={poll_ms}"
    )


def group_session(broker: Broker, group: str, ms: int) -> None:
    """The session of a group under KIP-848, which is the broker's to say."""
    entry = library.ConfigEntry(
        "consumer.session.timeout.ms", str(ms), incremental_operation=library.AlterConfigOpType.SET
    )
    resource = library.ConfigResource(library.ResourceType.GROUP, group, incremental_configs=[entry])
    for done in client(broker).incremental_alter_configs([resource]).values():
        done.result(10)
    asked = library.ConfigResource(library.ResourceType.GROUP, group)
    for _ in range(100):  # known at the broker a moment later
        found = client(broker).describe_configs([asked])[asked].result(10)
        if found["consumer.session.timeout.ms"].value == str(ms):
            return
        time.sleep(0.05)


class Watched:
    """A member, and what it was given last."""

    def __init__(self, place: Place, group: str, lanes: tuple[str, ...] = ("in",)) -> None:
        self.place = place
        self.member = KafkaMembership(place, group, lanes)
        self.share: frozenset[tuple[str, int]] | None = None
        self.shares: list[frozenset[tuple[str, int]]] = []
        self.task = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        async for share in self.member.assignments():
            self.share = share
            self.shares.append(share)

    async def end(self) -> None:
        self.task.cancel()
        await self.member.leave()
        await self.member.leave()


async def until(true: Callable[[], bool], seconds: float = 20) -> float:
    """Wait for it; gives how long that took."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, "it did not come to that"
        await asyncio.sleep(0.02)
    return time.monotonic() - begun


@asynccontextmanager
async def members(
    broker: Broker, protocol: str, count: int = 2, **times: int
) -> AsyncGenerator[list[Watched]]:
    make(broker, f"{broker.name}.in", 6, {})
    group = f"{broker.name}.workers"
    if protocol == "consumer":
        group_session(broker, group, SESSION_MS)
    found = [
        Watched(Place(url_of(broker.address, protocol, **times), broker.name), group) for _ in range(count)
    ]
    try:
        yield found
    finally:
        for one in found:
            await one.end()


def whole(found: list[Watched], count: int = 6) -> bool:
    """Everything is given, each partition to one."""
    shares = [one.share or frozenset() for one in found]
    return len({slot for share in shares for slot in share}) == count == sum(len(share) for share in shares)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_members_share_evenly_and_one_that_leaves_is_replaced_at_once(
    kafka: Broker, protocol: str
) -> None:
    async with members(kafka, protocol) as found:
        await until(lambda: whole(found) and all(len(one.share or ()) == 3 for one in found))
        assert all(one.member.classic is (protocol == "classic") for one in found)
        await found[0].end()
        took = await until(lambda: whole(found[1:]))
        assert took < SESSION_MS / 1000, "nobody had to wait for the end of a session"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_who_is_left_in_peace_keeps_what_was_given(kafka: Broker, protocol: str) -> None:
    async with members(kafka, protocol) as found:
        await until(lambda: whole(found) and all(len(one.share or ()) == 3 for one in found))
        before = [len(one.shares) for one in found]
        heard = found[0].member.heard
        await asyncio.sleep(2 * SESSION_MS / 1000)
        assert [len(one.shares) for one in found] == before, "nothing was given up"
        assert found[0].member.heard >= heard + SESSION_MS / 1000, (
            "the coordinator was asked, and has answered"
        )


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_is_taken_away_is_released_before_the_next_gets_it(kafka: Broker, protocol: str) -> None:
    async with members(kafka, protocol, 1) as found:
        first = found[0]
        await until(lambda: whole(found))

        class Lease:
            control: Control = new_control(6)

        first.place.leases.update({p: Lease() for p in range(6)})
        first.member.release_s = 10.0
        second = Watched(first.place, f"{kafka.name}.workers")
        second.place = Place(url_of(kafka.address, protocol), kafka.name)
        found.append(second)
        await until(lambda: len(first.share or ()) == 3)
        await asyncio.sleep(0.5)
        assert not second.share, "they were given away while they were held"
        for p in range(6):
            if ("in", p) not in (first.share or ()):
                del first.place.leases[p]
        await until(lambda: whole(found))
        first.place.leases.clear()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_who_leaves_with_partitions_in_hand_keeps_them_until_they_are_released(
    kafka: Broker, protocol: str
) -> None:
    async with members(kafka, protocol) as found:
        await until(lambda: whole(found) and all(len(one.share or ()) == 3 for one in found))
        first, second = found

        class Lease:
            control: Control = new_control(6)

        held = {p: Lease() for _, p in first.share or ()}
        first.place.leases.update(held)
        await first.member.leave()
        await asyncio.sleep(1)
        assert len(second.share or ()) == 3, "running steps were to end first"
        first.place.leases.clear()
        await until(lambda: whole([second]))


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(url: str, group: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "tests.connectors.kafka_member", url, group, "in"]
        started.append(subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def told(one: subprocess.Popen[str]) -> tuple[float, list[int]]:
    """The next assignment of a process."""
    assert one.stdout is not None
    at, share = json.loads(one.stdout.readline())
    return at, share


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_a_killed_member_had_is_given_away_when_its_session_ends(
    kafka: Broker, protocol: str, process: Callable[..., subprocess.Popen[str]]
) -> None:
    async with members(kafka, protocol, 1) as found:
        await until(lambda: whole(found))
        other = process(url_of(kafka.address, protocol), f"{kafka.name}.workers")
        await until(lambda: len(found[0].share or ()) == 3)
        other.kill()
        took = await until(lambda: whole(found))
        assert SESSION_MS / 1000 - 1 < took < SESSION_MS / 1000 + 4


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_stopped_process_believes_in_nothing_of_its_own_when_it_goes_on(
    kafka: Broker, protocol: str, process: Callable[..., subprocess.Popen[str]]
) -> None:
    make(kafka, f"{kafka.name}.in", 6, {})
    group_session(kafka, f"{kafka.name}.workers", SESSION_MS)
    one = process(url_of(kafka.address, protocol), f"{kafka.name}.workers")
    while not (share := (await asyncio.to_thread(told, one))[1]):
        pass
    assert share == [0, 1, 2, 3, 4, 5]
    one.send_signal(signal.SIGSTOP)
    await asyncio.sleep(SESSION_MS / 1000 + 1.5)
    going = time.monotonic()
    one.send_signal(signal.SIGCONT)
    at, share = await asyncio.to_thread(told, one)
    assert share == []
    assert at - going < 1.5
    while not (await asyncio.to_thread(told, one))[1]:  # and joins again
        pass


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_who_is_cut_off_from_the_coordinator_gives_everything_up_and_gets_it_back(
    own_kafka: StartKafka, protocol: str
) -> None:
    server = own_kafka()
    node = server.nodes[0]
    proxy = Proxy("127.0.0.1", node.behind, node.front)
    await proxy.start()
    broker = Broker(server.address, "cut", server)
    make(broker, "cut.in", 6, {})
    if protocol == "consumer":
        group_session(broker, "cut.workers", SESSION_MS)
    one = Watched(Place(url_of(server.proxied, protocol), "cut"), "cut.workers")
    try:
        await until(lambda: whole([one]))
        proxy.cut = {"up", "down"}
        took = await until(lambda: one.share == frozenset())
        assert took < SESSION_MS / 1000 + 1.5
        await asyncio.sleep(1)
        proxy.cut = set()
        proxy.reset()
        await until(lambda: whole([one]), 40)
    finally:
        await one.end()
        await proxy.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_member_that_does_not_poll_gives_everything_up(
    kafka: Broker, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with members(kafka, protocol, 1, poll_ms=SESSION_MS) as found:
        await until(lambda: whole(found))
        stuck = {"s": SESSION_MS / 1000 + 2}

        def sleep(_: object, now: float) -> None:
            time.sleep(stuck.pop("s", 0))

        monkeypatch.setattr(KafkaMembership, "_commit", sleep)
        took = await until(lambda: found[0].share == frozenset())
        assert took < SESSION_MS / 1000 + 1.5
        await until(lambda: whole(found))


async def test_kip_848_is_chosen_where_its_session_is_short_and_classic_elsewhere(kafka: Broker) -> None:
    make(kafka, f"{kafka.name}.in", 2, {})
    for number, (session, classic) in enumerate(((6_000, False), (45_000, True), (0, True))):
        group = f"{kafka.name}.service.s{number}"
        if session:
            group_session(kafka, group, session)
        one = Watched(Place(f"kafka://{kafka.address}", kafka.name), group)
        await until(partial(whole, [one], 2))
        assert one.member.classic is classic
        assert one.member.session_s == (session / 1000 if not classic else 10.0)
        await one.end()


async def test_positions_are_committed_for_tools_that_show_lag(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contrapas_kafka.membership.LAZY_S", 0.2)
    async with members(kafka, "classic", 1) as found:
        await until(lambda: whole(found))

        class Lease:
            control: Control = new_control(6)._replace(cursor={("in@1", 2): 17, ("orders@2", 2): 4})

        found[0].place.leases[2] = Lease()
        cluster = Cluster(f"kafka://{kafka.address}")
        async with Inquiry(cluster) as asked:
            at: dict[tuple[str, int], int] = {}
            for _ in range(100):
                at = await asked.group_offsets(f"{kafka.name}.workers")
                if at:
                    break
                await asyncio.sleep(0.1)
            assert at == {(f"{kafka.name}.in", 2): 17}
            group = await asked.group(f"{kafka.name}.workers")
        assert group.members == 1
        assert group.assigned == {(f"{kafka.name}.in", p) for p in range(6)}
        found[0].place.leases.clear()


async def test_a_topic_that_is_gone_is_said_and_not_waited_for(kafka: Broker) -> None:
    one = Watched(Place(url_of(kafka.address, "classic"), kafka.name), f"{kafka.name}.workers")
    one.member.missing_s = 2.0
    with pytest.raises(Exception, match="CP505"):
        await asyncio.wait_for(asyncio.shield(one.task), 20)
    await one.member.leave()


def test_a_member_is_never_static_and_never_reads_a_position() -> None:
    made: dict[str, Any] = Cluster("kafka://localhost").member("g", classic=True)
    assert "group.instance.id" not in made
    assert made["enable.auto.commit"] is made["enable.auto.offset.store"] is False


async def test_a_member_at_rest_stays_in_contact_for_longer_than_a_session(kafka: Broker) -> None:
    for protocol in PROTOCOLS:
        make(kafka, f"{kafka.name}-{protocol}.in", 2, {})
        group = f"{kafka.name}-{protocol}.workers"
        group_session(kafka, group, SESSION_MS)
        one = Watched(Place(url_of(kafka.address, protocol), f"{kafka.name}-{protocol}"), group)
        await until(partial(whole, [one], 2))
        await asyncio.sleep(2 * SESSION_MS / 1000)
        assert len(one.shares) == 1, "nothing was given up, and nothing given again"
        await one.end()
