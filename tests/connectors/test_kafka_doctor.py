"""What `doctor` says of a Kafka cluster: each row set wrong on a real broker, and seen with the command that mends it."""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer

from contrapas.cli.kept import checkpoint_findings
from contrapas.log import Finding
from contrapas.log.control import encode_control, new_control
from contrapas.runtime.clock import RealClock
from contrapas.runtime.keeper import Keepers
from contrapas_kafka import connector
from contrapas_kafka.explain import forbidden
from contrapas_kafka.inquiry import Inquiry
from contrapas_kafka.options import Cluster
from tests.connectors.kafka_running import gone
from tests.connectors.test_kafka_topics import client, delete, dev, library, made, make, produce, set_wrong
from tests.kafka import Broker, StartKafka


async def rows(broker: Broker, code: str = "", *, url: str = "") -> list[Finding]:
    found = await connector.examine(url or dev(broker), broker.name)
    return [one for one in found if (one.code == code if code else one.refused)]


async def test_a_healthy_log_has_nothing_refused(kafka: Broker) -> None:
    await made(kafka)
    assert await rows(kafka) == []


async def test_b66_a_cluster_that_does_not_answer_is_the_only_finding() -> None:
    found = await connector.examine("kafka://127.0.0.1:1", "shop")
    assert [one.code for one in found] == ["CP501"]


async def test_b61_topics_that_are_missing_are_named_with_the_command(kafka: Broker) -> None:
    (one,) = [r for r in await rows(kafka) if r.code == "CP505"]
    assert f"there is no topic {kafka.name}.log" in one.text
    assert f"contrapas topic create --log '{dev(kafka)}' --namespace {kafka.name} --apply" in one.fix


async def test_b59_one_replica_and_one_in_sync_are_refused_and_worth_a_look_in_development(
    kafka: Broker,
) -> None:
    await made(kafka)
    found = await connector.examine(kafka.url, kafka.name)
    assert {one.place for one in found if one.code == "CP502" and one.refused} == {
        f"{kafka.name}.{lane}" for lane in ("in", "log", "dlq")
    }
    found = await connector.examine(kafka.url, kafka.name, dev=True)
    assert [one.refused for one in found if one.code == "CP502"] == [False] * 3


@contextmanager
def open_transaction(broker: Broker, topic: str) -> Generator[None]:
    producer = Producer(
        {
            "bootstrap.servers": broker.address,
            "transactional.id": f"{broker.name}-x",
            "transaction.timeout.ms": 60_000,
        }
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic, b"v", b"k", partition=0)
    producer.flush(10)
    yield
    producer.abort_transaction(20)


@pytest.mark.parametrize("topic", ["in", "orders"])
async def test_b67_an_open_transaction_is_named_with_its_producer_its_age_and_how_to_end_it(
    kafka: Broker, topic: str
) -> None:
    await made(kafka)
    name = f"{kafka.name}.{topic}"
    if topic == "orders":
        make(kafka, name, 1, {})
    with open_transaction(kafka, name):
        produce(kafka, name, b"k", b"waits behind it")
        mine = [r for r in await rows(kafka, "CP511") if r.place.startswith(name)]
        assert len(mine) == 1 and not mine[0].refused
        assert f"is open at {name}/0@0 (producer " in mine[0].text
        assert " s): 2 records behind it wait" in mine[0].text
        assert f"kafka-transactions.sh --bootstrap-server {kafka.address} abort --topic {name}" in mine[0].fix
        assert "--partition 0 --start-offset 0" in mine[0].fix
    for _ in range(50):
        if not [r for r in await rows(kafka, "CP511") if r.place.startswith(name)]:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it is over, and still named")


async def identity(broker: Broker, topic: str) -> str:
    """Of a topic."""
    async with Inquiry(Cluster(dev(broker))) as asked:
        return (await asked.describe([topic]))[topic].id


def remade(broker: Broker, topic: str, partitions: int) -> None:
    """Delete it and make it again, as somebody does who wants it empty."""
    delete(broker, topic)
    gone(broker, [topic])
    for _ in range(50):
        try:
            return make(broker, topic, partitions, {})
        except KafkaException:  # it is still on its way out
            time.sleep(0.1)
    raise AssertionError(f"{topic} cannot be made again")


def claimed(broker: Broker, cursor: dict[tuple[str, int], int], *, partition: int = 0) -> None:
    """A control record with positions."""
    control = new_control(3)._replace(epoch=5, cursor=cursor)
    headers: list[tuple[str, str | bytes | None]] = [("cp-kind", b"part"), ("cp-epoch", b"5")]
    producer = Producer({"bootstrap.servers": broker.address})
    producer.produce(
        f"{broker.name}.log", encode_control(control), b"$part", partition=partition, headers=headers
    )
    assert producer.flush(10) == 0


async def test_b62_a_position_beyond_the_end_is_refused(kafka: Broker) -> None:
    await made(kafka)
    claimed(kafka, {("in", 0): 7})
    (one,) = await rows(kafka)
    assert one.code == "CP506"
    assert one.text == "position 7 lies beyond the end, 0"
    assert one.place == f"{kafka.name}.in/0@7"


async def test_b63_input_that_was_removed_unread_is_refused_with_the_gap(kafka: Broker) -> None:
    await made(kafka)
    for _ in range(3):
        produce(kafka, f"{kafka.name}.in", b"k", b"v")
    from confluent_kafka import TopicPartition

    for done in client(kafka).delete_records([TopicPartition(f"{kafka.name}.in", 0, 2)]).values():
        done.result(10)
    claimed(kafka, {("in", 0): 1})
    (one,) = await rows(kafka)
    assert one.code == "CP519"
    assert "position 1 lies below the first record, 2" in one.text


async def test_b62_a_source_that_was_made_anew_is_worth_a_look(kafka: Broker) -> None:
    await made(kafka)
    make(kafka, f"{kafka.name}.orders", 1, {})
    claimed(kafka, {(f"{kafka.name}.orders@former", 0): 1})
    (one,) = await rows(kafka, "CP506")
    assert not one.refused
    assert f"{kafka.name}.orders was made anew (id former is recorded" in one.text


async def test_b62_a_topic_that_was_really_deleted_and_made_again_is_seen_by_its_id(kafka: Broker) -> None:
    await made(kafka)
    name = f"{kafka.name}.orders"
    make(kafka, name, 1, {})
    first = await identity(kafka, name)
    claimed(kafka, {(f"{name}@{first}", 0): 0})
    assert await rows(kafka, "CP506") == []
    remade(kafka, name, 1)
    (one,) = await rows(kafka, "CP506")
    assert not one.refused and one.fix == "contrapas explain CP506"
    assert f"{name} was made anew (id {first} is recorded, {await identity(kafka, name)} found)" in one.text


async def test_b62_a_lane_that_was_deleted_and_made_again_is_refused(kafka: Broker) -> None:
    await made(kafka)
    remade(kafka, f"{kafka.name}.in", 3)
    found = [one for one in await rows(kafka) if one.code == "CP506"]
    assert len(found) == 1 and f"{kafka.name}.in" in found[0].text + found[0].place
    assert found[0].fix


async def test_a_checkpoint_that_nobody_brings_up_any_more_is_worth_a_look(
    kafka: Broker, tmp_path: Path
) -> None:
    await made(kafka)
    log = await connector.open(dev(kafka), kafka.name, dev=True)
    try:
        keeper = await Keepers(
            log, kafka.name, tmp_path, standby=False, clock=RealClock(), chance=lambda: 0.5
        ).of(1)
        assert keeper is not None
        claimed(kafka, {}, partition=1)
        await keeper.catch_up()
        ends = {p: (await log.bounds("log", p))[1] for p in range(3)}
        assert list(checkpoint_findings(tmp_path, kafka.name, ends)) == []
        old = time.time() - 1500
        os.utime(keeper.file.path, (old, old))
        assert list(checkpoint_findings(tmp_path, kafka.name, ends)) == []  # nothing was written since
        claimed(kafka, {}, partition=1)
        ends[1] += 1
        (one,) = checkpoint_findings(tmp_path, kafka.name, ends)
        assert not one.refused
        assert one.text.startswith("the checkpoint of partition 1 is 25m00s old and 1 record behind")
        assert "--standby" in one.fix and f"rm '{tmp_path}/{kafka.name}'-*.checkpoint" in one.fix
    finally:
        await log.close()


async def test_b64_dead_letters_must_hold_the_largest_source(kafka: Broker) -> None:
    await made(kafka)
    make(kafka, f"{kafka.name}.orders", 1, {"max.message.bytes": "5000000"})
    claimed(kafka, {(f"{kafka.name}.orders@former", 0): 1})
    (one,) = await rows(kafka)
    assert one.code == "CP508"
    assert "required >= 5065536" in one.text
    assert f"--entity-name {kafka.name}.dlq --add-config max.message.bytes=5065536" in one.fix
    set_wrong(kafka, f"{kafka.name}.dlq", {"max.message.bytes": "5065536"})
    assert await rows(kafka) == []


async def test_a_long_session_is_worth_a_look_in_either_protocol(kafka: Broker) -> None:
    await made(kafka)
    (one,) = await rows(kafka, "CP806", url=f"{dev(kafka)}&session.timeout.ms=45000")
    assert not one.refused and "session.timeout.ms=45000" in one.text
    (one,) = await rows(kafka, "CP806", url=f"{dev(kafka)}&group.protocol=consumer")
    assert not one.refused and f"--entity-name {kafka.name}.workers" in one.fix


async def test_topics_that_make_themselves_and_positions_that_are_soon_forgotten_are_worth_a_look(
    own_kafka: StartKafka,
) -> None:
    server = own_kafka(settings={"auto.create.topics.enable": "true", "offsets.retention.minutes": "60"})
    broker = Broker(server.address, "shop", server)
    await made(broker)
    found = [one for one in await rows(broker, "CP505") if "auto.create.topics.enable" in one.text]
    assert [one.refused for one in found] == [False]
    (kept,) = [one for one in await rows(broker, "CP503") if not one.refused]
    assert "offsets.retention.minutes=60: a service that stands still for longer" in kept.text
    assert "offsets.retention.minutes=10080 in the configuration of every broker" in kept.fix
    before = set(client(broker).list_topics(timeout=10).topics)
    log: Any = await connector.open(dev(broker), "shop")
    try:
        assert await log.topic("no.such.topic") is None
    finally:
        await log.close()
    assert set(client(broker).list_topics(timeout=10).topics) == before, "asking made a topic"


AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:nobody",
    "allow.everyone.if.no.acl.found": "true",
}


async def test_b65_a_missing_right_is_named_with_principal_resource_operation_and_command(
    own_kafka: StartKafka,
) -> None:
    server = own_kafka(settings=AUTHORIZER)
    broker = Broker(server.address, "shop", server)
    await made(broker)
    allowed = ("READ", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS")
    acls = [
        library.AclBinding(
            library.ResourceType.TOPIC,
            "shop.log",
            library.ResourcePatternType.LITERAL,
            "User:ANONYMOUS",
            "*",
            library.AclOperation[operation],
            library.AclPermissionType.ALLOW,
        )
        for operation in allowed
    ]
    for done in client(broker).create_acls(acls).values():
        done.result(10)
    found: list[Finding] = []
    for _ in range(50):
        found = [one for one in await rows(broker) if one.code == "CP822"]
        if found and "Write" in found[0].text:
            break
        await asyncio.sleep(0.1)
    assert [one.text for one in found] == ["User:ANONYMOUS may not Write topic shop.log"]
    assert "kafka-acls.sh --bootstrap-server" in found[0].fix
    assert "--operation Write --topic 'shop.log'" in found[0].fix


def test_b65_every_kind_of_right_has_a_command() -> None:
    cluster = Cluster("kafka://localhost")
    for kind, operation in (("topic", "Read"), ("group", "Read"), ("cluster", "Describe")):
        assert f"--operation {operation}" in forbidden(cluster, kind, "shop.in", operation).fix


def test_what_a_broker_says_of_producers_is_read_to_the_byte() -> None:
    from contrapas_kafka import hanging

    read: Any = getattr(hanging, "_read")  # noqa: B009
    name = b"orders"
    one = struct.pack(">qiiqiq", 7, 0, 3, 1_700_000_000_000, 0, 42) + b"\0"
    none = struct.pack(">qiiqiq", 8, 0, 3, 1_700_000_000_000, 0, -1) + b"\0"
    part = struct.pack(">ih", 0, 0) + b"\0" + b"\x03" + one + none + b"\0"
    data = struct.pack(">i", 0) + b"\x02" + bytes([len(name) + 1]) + name
    data += b"\x02" + part + b"\0" + b"\0"
    assert read(data) == {("orders", 0): [(7, 0, 1_700_000_000_000, 42), (8, 0, 1_700_000_000_000, -1)]}
    for cut in range(len(data) - 3):
        with pytest.raises((struct.error, ValueError, IndexError)):
            read(data[:cut])
