"""Who has a transaction open on a partition: the one question that the client library has no call for, asked on a socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Final, NamedTuple

from contrapas_kafka.options import Cluster

DESCRIBE_PRODUCERS: Final = 61
_DEADLINE_S: Final = 3.0
_LIMIT: Final = 1 << 20


class Transaction(NamedTuple):
    """An open one."""

    producer: int
    start: int
    """First offset."""
    last_ms: int
    """When its producer wrote last."""


async def open_transactions(cluster: Cluster, topic: str, partition: int) -> list[Transaction]:
    """Open transactions of a partition, as its leader tells. Empty where that cannot be asked: over TLS or SASL, or of a
    broker that does not lead the partition."""
    if cluster.protocol != "plaintext":
        return []
    for host, port in cluster.hosts:
        try:
            found = await asyncio.to_thread(_ask, host, port, topic, partition)
        except (OSError, ValueError, struct.error):
            continue
        if found:
            return found
    return []


def _ask(host: str, port: int, topic: str, partition: int) -> list[Transaction]:
    name = topic.encode()
    body = b"\x02" + _uvarint(len(name) + 1) + name + b"\x02" + struct.pack(">i", partition) + b"\0\0"
    head = struct.pack(">hhih", DESCRIBE_PRODUCERS, 0, 1, 9) + b"contrapas" + b"\0"
    with socket.create_connection((host, port), timeout=_DEADLINE_S) as link:
        link.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        (size,) = struct.unpack(">i", _exactly(link, 4))
        if not 0 < size <= _LIMIT:
            raise ValueError(size)
        return _read(_exactly(link, size))


def _exactly(link: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = link.recv(count - len(data))
        if not more:
            raise ValueError("the broker hung up")
        data += more
    return data


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def fixed(self, form: str) -> Any:
        """A number."""
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def uvarint(self) -> int:
        """A length."""
        value = shift = 0
        while True:
            byte: int = self.fixed("B")
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 35:
                raise ValueError("no length")

    def skip(self) -> None:
        """A compact string, null included."""
        length = self.uvarint() - 1
        self.at += max(0, length)

    def tags(self) -> None:
        """Fields of a later version."""
        for _ in range(self.uvarint()):
            self.uvarint()
            length = self.uvarint()
            self.at += length


def _read(data: bytes) -> list[Transaction]:
    """Of the answer (version 0) what is an open transaction."""
    r = _Reader(data)
    r.fixed("i")  # correlation id
    r.tags()
    r.fixed("i")  # throttle
    found: list[Transaction] = []
    for _ in range(r.uvarint() - 1):
        r.skip()
        for _ in range(r.uvarint() - 1):
            r.fixed("i")
            if r.fixed("h"):
                return []
            r.skip()
            for _ in range(r.uvarint() - 1):
                producer, _, _, last, _, start = (r.fixed(form) for form in ("q", "i", "i", "q", "i", "q"))
                r.tags()
                if start >= 0:
                    found.append(Transaction(producer, start, last))
            r.tags()
        r.tags()
    return found


def _uvarint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
