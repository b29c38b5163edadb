"""`dev --read-only` on a cluster as others run it: their topics, their events, and nothing of ours left there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from tests.connectors.test_kafka_command_line import NEEDED, ROOT, contrapas
from tests.connectors.test_kafka_doctor import AUTHORIZER
from tests.connectors.test_kafka_topics import client, library, make
from tests.installed import connector_listed
from tests.kafka import Broker, StartKafka

MISSING = "shipping.commands"


def app(folder: Path, prefix: str = "") -> None:
    """The shop, with topics of this test's own."""
    code = (ROOT / "sagas/order/saga.py").read_text()
    for name in NEEDED:
        code = code.replace(f'"{name}"', f'"{prefix}{name}"')
    (folder / "shop.py").write_text(code)


class Shop:
    """Their services: they publish what happens to orders."""

    def __init__(self, broker: Broker, prefix: str = "") -> None:
        self.broker = broker
        self.prefix = prefix
        self.producer: Any = Producer({"bootstrap.servers": broker.address, "linger.ms": 0})
        for name in NEEDED:
            if name != MISSING:
                make(broker, prefix + name, 3, {})

    def put(self, topic: str, kind: str, key: str, value: str) -> None:
        headers = {
            "ce_specversion": "1.0",
            "ce_id": f"{kind}-{key}",
            "ce_source": "/shop",
            "ce_type": kind,
            "content-type": "application/json",
        }
        body = value.replace("ID", key)
        self.producer.produce(self.prefix + topic, body, key, headers=headers)

    def order(self, key: str, stock: bool) -> None:
        """One order from its beginning to its end, as the services among themselves play it."""
        self.put("orders.events", "OrderPlaced", key, '{"order_id":"ID","sku":"mug","cents":4200}')
        self.put("payments.commands", "ChargeCard", key, '{"order_id":"ID","cents":4200}')
        self.put("payments.events", "CardCharged", key, '{"order_id":"ID","charge_id":"c-ID"}')
        if stock:
            self.put("stock.events", "StockReserved", key, '{"order_id":"ID"}')
            self.put("shipping.events", "Shipped", key, '{"order_id":"ID","tracking":"t-ID"}')
        else:
            self.put("stock.events", "OutOfStock", key, '{"order_id":"ID","sku":"mug"}')
            self.put("payments.events", "CardRefunded", key, '{"order_id":"ID"}')
            self.put("stock.events", "StockReleased", key, '{"order_id":"ID"}')

    def orders(self, first: int, count: int) -> None:
        """Of five orders one finds no stock."""
        for n in range(first, first + count):
            self.order(f"o-{n}", n % 5 != 0)
        assert self.producer.flush(20) == 0


def left(broker: Broker) -> dict[str, Any]:
    """Everything that somebody who joins, makes or produces would leave on a cluster."""
    admin = client(broker)
    listed = admin.list_topics(timeout=10).topics
    parts = {
        TopicPartition(name, p): library.OffsetSpec.latest()
        for name, one in listed.items()
        if not name.startswith("__")
        for p in one.partitions
    }
    ends = {(tp.topic, tp.partition): f.result(10).offset for tp, f in admin.list_offsets(parts).items()}
    groups = {g.group_id: g.state for g in admin.list_consumer_groups().result(10).valid}
    return {"topics": set(listed), "ends": ends, "groups": groups}


class Following:
    """`contrapas dev --read-only` in its terminal."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process

    def said(self) -> str:
        return (self.folder / "out.txt").read_text()

    def until(self, words: str, seconds: float = 150) -> str:
        """Until it has said something."""
        until = time.monotonic() + seconds
        while not re.search(words, self.said()):
            assert self.process.poll() is None and time.monotonic() < until, self.said()
            time.sleep(0.05)
        return self.said()

    def end(self) -> str:
        """Ctrl-C; everything it said."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 130, self.said()
        return self.said()


@contextmanager
def following(folder: Path, url: str, *words: str) -> Generator[Following]:
    connector_listed("kafka")
    env = {name: value for name, value in os.environ.items() if not name.startswith("CONTRAPAS_")}
    command = [sys.executable, "-m", "contrapas", "dev", "shop.py:app", "--log", url, "--read-only"]
    with open(folder / "out.txt", "wb") as out:
        process = subprocess.Popen(
            [*command, "--port", "0", *words],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Following(folder, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_a_production_is_followed_and_nothing_of_ours_is_left_there(tmp_path: Path, kafka: Broker) -> None:
    prefix = f"{kafka.name}."
    app(tmp_path, prefix)
    shop = Shop(kafka, prefix)
    shop.orders(0, 10)
    with following(tmp_path, kafka.url) as dev:
        dev.until("ready")
        before = left(kafka)
        shop.orders(100, 200)
        produced = {name: n for name, n in _sums(left(kafka)).items() if name.startswith(prefix)}
        during = dev.until(r"200 ended \(compensated 40 · done 160\)   0 going on")
        looked = contrapas(
            tmp_path, "ls", "--log", f"sqlite:///{next(tmp_path.glob('.contrapas/read-only-*/*.db'))}"
        )
        assert "200 of 200" in looked.stdout or "done 160" in looked.stdout, looked.stdout + looked.stderr
        said = dev.end()
        after = left(kafka)
    assert f"{prefix}{MISSING}" in said and "is not there" in said
    assert re.search(rf"{re.escape(prefix)}orders\.events +3 partitions +10 records +followed", said)
    assert 'OrderPlaced  {"order_id":"o-' in said
    assert "would send ChargeCard" in during or "more would be sent" in during
    assert "200 begun" in said and "o-3 " not in said, "what lay there before is not read"
    # The broker may still forget groups and topics of other tests meanwhile; nothing may come.
    assert after["groups"].keys() <= before["groups"].keys()
    assert {name for name in after["groups"] if kafka.name in name} == set()
    assert after["topics"] <= before["topics"]
    sums = {name: n for name, n in {**_sums(before), **produced}.items() if name in after["topics"]}
    assert _sums(after) == sums, "somebody else than the shop has written"
    assert sum(produced.values()) == 10 * 5 + 2 * 1 + 200 * 5 + 40 * 1
    assert list((tmp_path / ".contrapas").glob("read-only-*")) == [], "their data stays here"


def _sums(found: dict[str, Any]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for (name, _), end in found["ends"].items():
        sums[name] = sums.get(name, 0) + end
    return sums


READ = ("READ", "DESCRIBE")


def test_who_may_read_the_topics_and_nothing_else_can_follow_them(
    tmp_path: Path, own_kafka: StartKafka
) -> None:
    """The broker refuses each write and each group; and it makes a topic for whoever asks for one in the wrong way. (Its
    own rights on the cluster are those of the same nameless user, so they stay.)"""
    server = own_kafka(settings={**AUTHORIZER, "auto.create.topics.enable": "true"})
    broker = Broker(server.address, "shop", server)
    app(tmp_path)
    shop = Shop(broker)
    shop.orders(0, 20)
    client(broker).list_consumer_groups().result(10)
    before = left(broker)
    allowed = [_acl("TOPIC", name, "User:ANONYMOUS", op) for name in NEEDED for op in READ]
    others = [_acl(kind, name, "User:nobody", "ALL") for kind, name in (("TOPIC", "*"), ("GROUP", "*"))]
    for done in client(broker).create_acls([*allowed, *others]).values():
        done.result(10)
    _until_refused(broker)
    with following(tmp_path, broker.url, "--from", "start") as dev:
        dev.until(r"20 begun +20 ended \(compensated 4 · done 16\)")
        said = dev.end()
    assert "CP822" not in said and "uthoriz" not in said, said
    assert f"{MISSING}" in said and "is not there" in said
    after = set(client(broker).list_topics(timeout=10).topics)
    assert after == {t for t in before["topics"] if not t.startswith("__")} | {
        t for t in after if t.startswith("__")
    }
    consumer: Any = Consumer({"bootstrap.servers": broker.address, "group.id": "unused"})
    try:
        ends = {
            (name, p): consumer.get_watermark_offsets(TopicPartition(name, p), timeout=10)[1]
            for name, p in before["ends"]
        }
    finally:
        consumer.close()
    assert ends == before["ends"]


def _acl(kind: str, name: str, who: str, operation: str) -> Any:
    return library.AclBinding(
        library.ResourceType[kind],
        name,
        library.ResourcePatternType.LITERAL,
        who,
        "*",
        library.AclOperation[operation],
        library.AclPermissionType.ALLOW,
    )


def _until_refused(broker: Broker) -> None:
    """Until the broker takes nothing any more."""
    producer: Any = Producer({"bootstrap.servers": broker.address})
    for _ in range(100):
        refused: list[Any] = []

        def answered(why: Any, message: Any, to: list[Any] = refused) -> None:
            to.append(why)

        producer.produce("unknown.topic", b"{}", b"k", on_delivery=answered)
        producer.flush(10)
        if refused and refused[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return
        time.sleep(0.1)
    raise AssertionError("the rights do not come into force")


def test_a_cluster_that_cannot_be_followed_is_said_in_a_few_lines(tmp_path: Path, kafka: Broker) -> None:
    app(tmp_path, f"{kafka.name}.")
    begun = time.monotonic()
    gone = contrapas(
        tmp_path, "dev", "shop.py:app", "--log", "kafka://127.0.0.1:1", "--read-only", "--port", "0"
    )
    took = time.monotonic() - begun
    assert gone.returncode == 5 and len(gone.stderr.splitlines()) <= 6, gone.stderr
    assert "CP501  cannot reach Kafka at 127.0.0.1:1" in gone.stderr
    assert took < 20, f"{took:.1f} s; under three where nothing else runs"
    empty = contrapas(tmp_path, "dev", "shop.py:app", "--log", kafka.url, "--read-only", "--port", "0")
    assert empty.returncode == 5
    assert "CP505  none of the 4 topics that the app follows is there" in empty.stderr
    assert f"{kafka.name}.orders.events" in empty.stderr
    make(kafka, f"{kafka.name}.orders.events", 2, {})
    words = ("dev", "shop.py:app", "--log", kafka.url, "--read-only", "--port", "0", "--from", "1041")
    beyond = contrapas(tmp_path, *words)
    assert beyond.returncode == 6 and "CP807" in beyond.stderr and "floor 0, end 0" in beyond.stderr
