"""Numbers on what instances send, so that a repeat is known for ever, however many other messages came in between.

Every message that a record sends carries `cp-order: <lane or topic>/<sender's partition>@<epoch>.<number>`: how many
messages that owner had sent under that epoch. An owner sends in the order of these numbers, and a new one, before
anything of its own, sends again in the same order whatever its predecessors may not have sent. Therefore, on one
lane or topic, no message of a partition ever comes for the first time after one with a higher number, and whoever has
heard a higher one has had the lower one before. That holds for one way only: between two topics nothing is ordered, so
numbers are remembered for each way by itself. What is sent once more under its old id (a retry, an operator's word)
has a new number, and is judged by its id.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from contrapas.core.envelope import InstanceRecord, Message

HEADER: Final = "cp-order"
POSITIONS_MAX: Final = 16
"""Sources that a record remembers a position of."""
ORDERS_MAX: Final = 64
"""Senders' partitions that a record remembers a number of, for each way they came."""
NUMBERED: Final = frozenset({"event", "command", "start", "signal", "operate"})
"""What is numbered. Replies and the words of a rendezvous name what they are for, and may come as often as they like."""
_UNNUMBERED: Final = frozenset({b"reply", b"bind", b"unbind", b"delivered", b"bound", b"deliver"})
_TEXT: Final = re.compile(r"([^/]{1,300})/([0-9]{1,9})@([0-9]{1,18})\.([0-9]{1,18})")


class Order(NamedTuple):
    """The place of a message among those of its sender's partition, on the way it came."""

    way: str
    """`in/2<5`: from partition 5, by partition 2 of the inbound lane."""
    epoch: int
    number: int


def numbered(record: InstanceRecord, sender: tuple[int, int] | None, namespace: str) -> None:
    """Number what a record sends. sender: its partition and the next number; None: nobody counts."""
    if sender is None:
        return
    partition, number = sender
    own = f"{namespace}.in"
    out = record.out
    for at, m in enumerate(out):
        headers = m.headers
        if (
            headers and headers[-1][0] == HEADER
        ):  # it left before, or does before what comes now: that is its place
            continue
        if not _free(headers):
            to = "in" if m.to == own else m.to
            said = f"{to}/{partition}@{record.epoch}.{number + at}".encode()
            out[at] = Message(to=m.to, key=m.key, value=m.value, headers=(*headers, (HEADER, said)), id=m.id)


def _free(headers: tuple[tuple[str, bytes], ...]) -> bool:
    return any(name == "cp-kind" and value in _UNNUMBERED for name, value in headers)


def refused(m: Message) -> Message:
    """A message that its destination refused, without its number: it has never been there, and leaves after later ones."""
    if m.headers and m.headers[-1][0] == HEADER:
        return Message(to=m.to, key=m.key, value=m.value, headers=m.headers[:-1], id=m.id)
    return m


def was_refused(m: Message) -> bool:
    """Of an instance that keeps messages: does it keep this one because its destination refused it?"""
    return not _free(m.headers) and not (m.headers and m.headers[-1][0] == HEADER)


def place_of(headers: tuple[tuple[str, bytes], ...]) -> tuple[int, int] | None:
    """(epoch, number) of a message that is to be sent again; None: it has none."""
    if not headers or headers[-1][0] != HEADER:
        return None
    found = _TEXT.fullmatch(headers[-1][1].decode(errors="replace"))
    return None if found is None else (int(found[3]), int(found[4]))


def order_of(text: str, lane: str, position: str) -> Order | None:
    """The number of what came by a lane or topic, at a position; None: it was not sent there by its owner."""
    found = _TEXT.fullmatch(text)
    if found is None or found[1] != lane:
        return None
    return Order(f"{position}<{found[2]}", int(found[3]), int(found[4]))


def heard(positions: dict[str, int], order: Order) -> bool:
    """Is this a repeat: has one with the same or a higher number come by the same way?"""
    known = positions.get(f"{order.way}@{order.epoch}")
    if known is not None:
        return known >= order.number
    way = f"{order.way}@"
    return any(name.startswith(way) and int(name[len(way) :]) > order.epoch for name in positions)


def remember(positions: dict[str, int], position: str, offset: int, order: Order | None) -> None:
    """Keep where an event came from: its offset, its number; the least recently used leave."""
    if position:
        positions.pop(position, None)
        positions[position] = offset
    if order is not None:
        way = f"{order.way}@"
        for name in [n for n in positions if n.startswith(way)]:
            del positions[name]
        positions[f"{way}{order.epoch}"] = order.number
    if len(positions) > POSITIONS_MAX:
        _trim(positions, [n for n in positions if "<" not in n], POSITIONS_MAX)
        _trim(positions, [n for n in positions if "<" in n], ORDERS_MAX)


def _trim(positions: dict[str, int], names: list[str], most: int) -> None:
    for name in names[: max(0, len(names) - most)]:
        del positions[name]
