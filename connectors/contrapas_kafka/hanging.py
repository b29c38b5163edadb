"""Whose open transaction holds a partition back: producer id, since when, and how it is ended.

The client library knows no `DescribeProducers`, so this one question is asked by hand of the partition's leader, over the
same kind of connection where that is plain, TLS or SASL PLAIN. Elsewhere the partition and the age are said, and the
command that names the producer.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaException

from contrapas_kafka.options import Cluster

Spot = tuple[str, int]
DESCRIBE_PRODUCERS: Final = 61
_HANDSHAKE, _AUTHENTICATE = 17, 36
ANSWER_MAX: Final = 4 << 20
SECONDS: Final = 5.0


class Open(NamedTuple):
    """An open transaction that readers of a partition wait for."""

    topic: str
    partition: int
    offset: int
    """Where it begins: nothing from there on is shown."""
    producer: int
    """Producer id, -1 where it could not be asked."""
    epoch: int
    age_ms: int
    """Since its last record, by our clock; -1: not known."""

    def words(self, servers: str) -> str:
        """For health and doctor."""
        who = (
            f"producer {self.producer} (epoch {self.epoch})"
            if self.producer >= 0
            else "a producer not known here"
        )
        age = f"{self.age_ms // 1000} s" if self.age_ms >= 0 else "some time"
        place = f"{self.topic}/{self.partition}@{self.offset}"
        return (
            f"CP511 {place}: a transaction of {who} is open, its last record is {age} old; what comes after waits. "
            f"{self.command(servers)}"
        )

    def command(self, servers: str) -> str:
        """How it is ended by force."""
        return (
            f"kafka-transactions.sh --bootstrap-server {servers} abort --topic {self.topic} "
            f"--partition {self.partition} --start-offset {self.offset}"
        )


def open_in(cluster: Cluster, admin: Any, held: Mapping[Spot, int]) -> list[Open]:
    """The open transactions of partitions whose stable end stands at an offset. Blocks; raises nothing that an answer
    could not be had for."""
    leaders = _leaders(admin, held)
    found: list[Open] = []
    for address in set(leaders.values()):
        mine = [spot for spot, at in leaders.items() if at == address]
        try:
            answers = _asked(cluster, address, mine)
        except (OSError, ValueError, struct.error, KeyError, IndexError):
            answers = {}
        for spot in mine:
            found.append(_first(spot, held[spot], answers.get(spot, ())))
    found += [Open(*spot, held[spot], -1, -1, -1) for spot in held if spot not in leaders]
    return sorted(found)


class Producer(NamedTuple):
    """One that has written to a partition."""

    id: int
    epoch: int
    last_ms: int
    begins: int
    """Offset where its open transaction begins, -1: none."""


def _first(spot: Spot, offset: int, producers: Sequence[Producer]) -> Open:
    """Who holds the partition there: the transaction that begins first."""
    open_ones = [p for p in producers if p.begins >= 0]
    if not open_ones:
        return Open(*spot, offset, -1, -1, -1)
    p = min(open_ones, key=lambda one: one.begins)
    return Open(*spot, p.begins, p.id, p.epoch, max(0, time.time_ns() // 1_000_000 - p.last_ms))


def _leaders(admin: Any, spots: Mapping[Spot, int]) -> dict[Spot, tuple[str, int]]:
    found: dict[Spot, tuple[str, int]] = {}
    try:
        for topic in {topic for topic, _ in spots}:
            data = admin.list_topics(topic, timeout=SECONDS)
            for name, number in spots:
                part = data.topics[topic].partitions.get(number) if name == topic else None
                broker = data.brokers.get(part.leader) if part is not None else None
                if broker is not None:
                    found[name, number] = (str(broker.host), int(broker.port))
    except (KafkaException, KeyError):
        return found
    return found


# ---- the question by hand


def _asked(cluster: Cluster, address: tuple[str, int], spots: Sequence[Spot]) -> dict[Spot, list[Producer]]:
    with _connected(cluster, address) as wire:
        return _read(_call(wire, DESCRIBE_PRODUCERS, 0, _question(spots), flexible=True))


def _connected(cluster: Cluster, address: tuple[str, int]) -> socket.socket:
    settings = cluster.settings()
    protocol = cluster.protocol
    wire: socket.socket = socket.create_connection(address, timeout=SECONDS)
    try:
        if protocol in ("ssl", "sasl_ssl"):
            context = ssl.create_default_context(cafile=settings.get("ssl.ca.location") or None)
            if settings.get("enable.ssl.certificate.verification") == "false":
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if certificate := settings.get("ssl.certificate.location"):
                context.load_cert_chain(
                    certificate, settings.get("ssl.key.location"), settings.get("ssl.key.password")
                )
            wire = context.wrap_socket(wire, server_hostname=address[0])
        if protocol.startswith("sasl"):
            _authenticate(wire, settings)
    except BaseException:
        wire.close()
        raise
    return wire


def _authenticate(wire: socket.socket, settings: Mapping[str, Any]) -> None:
    mechanism = str(settings.get("sasl.mechanism") or settings.get("sasl.mechanisms") or "")
    if mechanism != "PLAIN":
        raise ValueError(f"{mechanism} is not spoken here")
    name = mechanism.encode()
    said = _call(wire, _HANDSHAKE, 1, struct.pack(">h", len(name)) + name)
    token = f"\0{settings.get('sasl.username', '')}\0{settings.get('sasl.password', '')}".encode()
    if struct.unpack_from(">h", said)[0] == 0:
        said = _call(wire, _AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
    if struct.unpack_from(">h", said)[0] != 0:
        raise ValueError("the broker does not let us in")


def _call(wire: socket.socket, key: int, version: int, body: bytes, *, flexible: bool = False) -> bytes:
    client = b"contrapas"
    head = struct.pack(">hhih", key, version, 1, len(client)) + client + (b"\0" if flexible else b"")
    wire.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
    (size,) = struct.unpack(">i", _exactly(wire, 4))
    if not 4 <= size <= ANSWER_MAX:
        raise ValueError("no answer of a broker")
    return _exactly(wire, size)[5 if flexible else 4 :]


def _exactly(wire: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        some = wire.recv(min(size - len(found), 65_536))
        if not some:
            raise OSError("the connection ended")
        found += some
    return bytes(found)


def _question(spots: Sequence[Spot]) -> bytes:
    topics: dict[str, list[int]] = {}
    for topic, number in spots:
        topics.setdefault(topic, []).append(number)
    made = _varint(len(topics) + 1)
    for topic, numbers in topics.items():
        name = topic.encode()
        made += _varint(len(name) + 1) + name + _varint(len(numbers) + 1)
        made += b"".join(struct.pack(">i", n) for n in numbers) + b"\0"
    return made + b"\0"


def _read(data: bytes) -> dict[Spot, list[Producer]]:
    r = _Reader(data)
    r.number(">i")  # throttle
    found: dict[Spot, list[Producer]] = {}
    for _ in range(r.varint() - 1):
        topic = r.text()
        for _ in range(r.varint() - 1):
            number, error = r.number(">i"), r.number(">h")
            r.text()
            producers: list[Producer] = []
            for _ in range(r.varint() - 1):
                ident, epoch, _, last = r.number(">q"), r.number(">i"), r.number(">i"), r.number(">q")
                r.number(">i")
                producers.append(Producer(ident, epoch, last, r.number(">q")))
                r.tags()
            r.tags()
            if error == 0:
                found[topic, number] = producers
        r.tags()
    return found


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, form: str) -> int:
        (found,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return int(found)

    def varint(self) -> int:
        shift = found = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            if shift > 35:
                raise ValueError("no length")
            found |= (byte & 0x7F) << shift
            if byte < 128:
                return found
            shift += 7

    def text(self) -> str:
        size = self.varint() - 1
        if size < 0:
            return ""
        found = self.data[self.at : self.at + size]
        self.at += size
        return found.decode(errors="replace")

    def tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            self.at += self.varint()


def _varint(n: int) -> bytes:
    made = bytearray()
    while n > 127:
        made.append(n & 127 | 128)
        n >>= 7
    made.append(n)
    return bytes(made)
