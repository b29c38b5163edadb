"""Topics of a namespace on a real broker: made on request only, recorded, compared at every start, mended by one command."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer, TopicCollection, admin

from contrapas.errors import ContrapasError, LogError, Refused, Unreachable
from contrapas.log import Plan
from contrapas_kafka import connector, marker
from contrapas_kafka.ids import id_of
from contrapas_kafka.options import Cluster
from contrapas_kafka.rules import IN, LOG
from tests.kafka import Broker

library: Any = admin


def dev(broker: Broker) -> str:
    return f"{broker.url}?contrapas.dev=true"


_clients: dict[str, Any] = {}


def client(broker: Broker) -> Any:
    if broker.address not in _clients:
        _clients[broker.address] = library.AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
    return _clients[broker.address]


def topics(broker: Broker) -> set[str]:
    return {t for t in client(broker).list_topics(timeout=10).topics if t.startswith(broker.name)}


def configured(broker: Broker, topic: str) -> dict[str, str]:
    resource = library.ConfigResource(library.ResourceType.TOPIC, topic)
    found = client(broker).describe_configs([resource])[resource].result(10)
    return {name: str(entry.value) for name, entry in found.items()}


def set_wrong(broker: Broker, topic: str, settings: Mapping[str, str]) -> None:
    entries = [
        library.ConfigEntry(n, v, incremental_operation=library.AlterConfigOpType.SET)
        for n, v in settings.items()
    ]
    resource = library.ConfigResource(library.ResourceType.TOPIC, topic, incremental_configs=entries)
    for done in client(broker).incremental_alter_configs([resource]).values():
        done.result(10)


def delete(broker: Broker, *names: str) -> None:
    for done in client(broker).delete_topics(list(names)).values():
        done.result(10)


def make(broker: Broker, name: str, partitions: int, settings: Mapping[str, str]) -> None:
    topic = library.NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(settings))
    client(broker).create_topics([topic])[name].result(10)
    for _ in range(100):  # known at the broker a moment later
        try:
            client(broker).describe_topics(TopicCollection([name]))[name].result(10)
            return
        except KafkaException:
            time.sleep(0.05)


def produce(broker: Broker, topic: str, key: bytes, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": broker.address})
    producer.produce(topic, value, key, partition=0)
    assert producer.flush(10) == 0


async def made(broker: Broker, partitions: int = 3) -> Plan:
    planned = await connector.plan(dev(broker), broker.name, partitions, {})
    await connector.apply(planned)
    return planned


async def refused(broker: Broker, partitions: int | None = None, namespace: str = "") -> ContrapasError:
    with pytest.raises(ContrapasError) as caught:
        await connector.open(dev(broker), namespace or broker.name, partitions=partitions)
    return caught.value


async def test_nothing_is_made_unasked(kafka: Broker) -> None:
    why = await refused(kafka)
    assert isinstance(why, LogError) and why.code == "CP505"
    assert f"contrapas topic create --log '{dev(kafka)}' --namespace {kafka.name} --apply" in why.fix
    planned = await connector.plan(dev(kafka), kafka.name, None, {f"{kafka.name}.orders": 3})
    assert planned.make and planned.partitions == 24
    await connector.namespaces(dev(kafka))
    await connector.examine(dev(kafka), kafka.name)
    assert topics(kafka) == set()


async def test_what_is_planned_is_shown_and_made_and_again_it_changes_nothing(kafka: Broker) -> None:
    orders = f"{kafka.name}.orders"
    planned = await connector.plan(dev(kafka), kafka.name, 3, {orders: 2})
    words = planned.words()
    assert f"topic {kafka.name}.log, 3 partitions, 1 replica" in words
    assert "   cleanup.policy=compact" in words
    await connector.apply(planned)
    assert topics(kafka) == {orders, *(f"{kafka.name}.{lane}" for lane in ("in", "log", "dlq"))}
    for name, wanted in ((f"{kafka.name}.log", LOG), (f"{kafka.name}.in", IN)):
        assert wanted.items() <= configured(kafka, name).items()
    again = await connector.plan(dev(kafka), kafka.name, 3, {orders: 2})
    assert again.words() == []
    await connector.apply(planned)
    assert kafka.name in await connector.namespaces(dev(kafka))
    log = await connector.open(dev(kafka), kafka.name)
    assert log.partitions == 3
    assert not log.durable, "one replica keeps nothing when its disk is lost"


async def test_what_ended_half_way_is_made_to_its_end(kafka: Broker) -> None:
    make(kafka, f"{kafka.name}.log", 3, LOG)
    why = await refused(kafka)
    assert why.code == "CP505" and "not made to the end" in why.text
    await made(kafka)
    assert (await connector.open(dev(kafka), kafka.name)).partitions == 3


async def test_one_broker_is_for_development_only(kafka: Broker) -> None:
    with pytest.raises(Refused) as caught:
        await connector.plan(kafka.url, kafka.name, 3, {})
    assert caught.value.code == "CP502"
    assert "--dev" in caught.value.fix
    await made(kafka)
    with pytest.raises(Refused) as caught:
        await connector.open(kafka.url, kafka.name)
    assert caught.value.code == "CP502"
    assert "one replica" in caught.value.text


async def test_b60_a_count_that_is_not_the_recorded_one_is_refused(kafka: Broker) -> None:
    await made(kafka)
    why = await refused(kafka, partitions=4)
    assert why.code == "CP504"
    assert "made with 3 partitions, 4 are configured" in why.text
    done = client(kafka).create_partitions([library.NewPartitions(f"{kafka.name}.in", 5)])
    done[f"{kafka.name}.in"].result(10)
    why = await refused(kafka)
    assert why.code == "CP504"
    assert f"{kafka.name}.in has 5 partitions, 3 are recorded" in why.text


async def test_b61_a_topic_of_somebody_else_is_refused(kafka: Broker) -> None:
    make(kafka, f"{kafka.name}.log", 3, {})
    make(kafka, f"{kafka.name}.in", 3, {})
    produce(kafka, f"{kafka.name}.log", b"k", b"v")
    why = await refused(kafka)
    assert why.code == "CP505"
    assert f"holds no marker of namespace {kafka.name}" in why.text
    with pytest.raises(LogError):
        await connector.plan(dev(kafka), kafka.name, 3, {})


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"[1]", b"\xff", b'{"namespace": 1, "partitions": "x"}', b"{" * 20_000]
)
async def test_b61_a_marker_that_is_none_is_somebody_elses(kafka: Broker, value: bytes) -> None:
    make(kafka, f"{kafka.name}.log", 3, {})
    make(kafka, f"{kafka.name}.in", 3, {})
    produce(kafka, f"{kafka.name}.log", marker.KEY, value)
    assert (await refused(kafka)).code == "CP505"


async def test_b62_a_topic_that_was_made_anew_is_refused(kafka: Broker) -> None:
    await made(kafka)
    delete(kafka, f"{kafka.name}.in")
    why = await refused(kafka)
    assert why.code == "CP506" and f"there is no topic {kafka.name}.in" in why.text
    make(kafka, f"{kafka.name}.in", 3, IN)
    why = await refused(kafka)
    assert why.code == "CP506"
    assert f"{kafka.name}.in is another topic than the recorded one" in why.text


async def test_b66_the_records_of_another_namespace_or_cluster_are_refused(kafka: Broker) -> None:
    await made(kafka)
    cluster = Cluster(dev(kafka))
    mark, _ = await marker.read(cluster, kafka.name)
    assert mark is not None
    for wrong, code in (
        ({"namespace": "bank"}, "CP505"),
        ({"cluster": "another"}, "CP521"),
        ({"format": 99}, "CP518"),
        ({"partitioner": "crc32"}, "CP504"),
    ):
        delete(kafka, f"{kafka.name}.log")
        make(kafka, f"{kafka.name}.log", 3, LOG)
        said = {**mark._asdict(), **wrong}
        described = (await _ids(kafka))[f"{kafka.name}.log"]
        produce(kafka, f"{kafka.name}.log", marker.KEY, json.dumps({**said, "log": described}).encode())
        assert (await refused(kafka)).code == code


async def _ids(kafka: Broker) -> dict[str, str]:
    from contrapas_kafka.inquiry import Inquiry

    async with Inquiry(Cluster(dev(kafka))) as asked:
        return {name: facts.id for name, facts in (await asked.describe([f"{kafka.name}.log"])).items()}


WRONG = (
    ("log", "cleanup.policy", "compact,delete", "CP503"),
    ("log", "cleanup.policy", "delete", "CP503"),
    ("log", "retention.ms", "86400000", "CP503"),
    ("log", "retention.bytes", "1000000", "CP503"),
    ("log", "min.compaction.lag.ms", "60000", "CP503"),
    ("log", "delete.retention.ms", "1000", "CP503"),
    ("log", "message.timestamp.type", "CreateTime", "CP503"),
    ("log", "unclean.leader.election.enable", "true", "CP502"),
    ("log", "max.message.bytes", "1000", "CP508"),
    ("in", "cleanup.policy", "compact", "CP503"),
    ("in", "retention.ms", "3600000", "CP503"),
    ("in", "retention.bytes", "1000000", "CP503"),
    ("in", "message.timestamp.type", "CreateTime", "CP503"),
    ("in", "max.message.bytes", "900000", "CP508"),
    ("dlq", "max.message.bytes", "1048588", "CP508"),
)


async def test_b58_b59_b64_a_wrong_setting_is_named_refused_and_mended_by_one_command(kafka: Broker) -> None:
    await made(kafka)
    command = f"contrapas topic create --log '{dev(kafka)}' --namespace {kafka.name} --apply"
    for lane, setting, value, code in WRONG:
        topic = f"{kafka.name}.{lane}"
        set_wrong(kafka, topic, {setting: value})
        rows = [one for one in await connector.examine(dev(kafka), kafka.name) if one.refused]
        assert [(one.code, one.place) for one in rows] == [(code, topic)]
        assert f"{topic}: {setting}={value}, required" in rows[0].text
        assert command in rows[0].fix
        if lane != "dlq":
            why = await refused(kafka)
            assert why.code == code and setting in why.text
        mending = await connector.plan(dev(kafka), kafka.name, None, {})
        assert f"topic {topic}, other settings" in mending.words()
        await connector.apply(mending)
    await connector.open(dev(kafka), kafka.name)
    assert not [one for one in await connector.examine(dev(kafka), kafka.name) if one.refused]


async def test_a_short_lag_is_worth_a_look(kafka: Broker) -> None:
    await made(kafka)
    set_wrong(kafka, f"{kafka.name}.log", {"min.compaction.lag.ms": "7200000"})
    assert (await connector.open(dev(kafka), kafka.name)).history_ms == 7_200_000
    rows = [one for one in await connector.examine(dev(kafka), kafka.name) if "below a day" in one.text]
    assert [one.refused for one in rows] == [False]


async def test_b66_a_broker_that_is_not_there_is_said_within_three_seconds() -> None:
    for url in ("kafka://127.0.0.1:1", "kafka://127.0.0.1:1,127.0.0.1:2"):
        with pytest.raises(Unreachable) as caught:
            await connector.open(url, "shop")
        assert caught.value.code == "CP501"
        assert "connection refused, 3 tries in" in caught.value.text


async def test_b54_a_broker_without_tls_is_no_broker_with_tls(kafka: Broker) -> None:
    with pytest.raises(ContrapasError) as caught:
        await connector.open(f"{kafka.url}?security.protocol=ssl", kafka.name)
    assert caught.value.code in ("CP501", "CP803")
    assert "TLS" in caught.value.text


def test_an_id_never_holds_the_sign_that_ends_a_sources_name() -> None:
    assert id_of("oeIF0PoFQv2GHYZ/aI+LlA") == "oeIF0PoFQv2GHYZ_aI-LlA"
