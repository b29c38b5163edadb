"""What one partition sends is numbered: a repeat is known however late it comes, and a first delivery is never taken for one."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas.core.decode import Arrival, Doors, decode
from contrapas.core.envelope import Message
from contrapas.core.lane import Headers, Record
from contrapas.core.order import (
    ORDERS_MAX,
    Order,
    heard,
    numbered,
    order_of,
    place_of,
    refused,
    remember,
    was_refused,
)
from contrapas.core.partition import partition
from tests.runtime.machines import world_of

DOORS = Doors(types=world_of().types, partitions=8, namespace="shop")


class _Sends:
    """As much of a record as is numbered."""

    def __init__(self, *messages: Message) -> None:
        self.epoch = 17
        self.out = list(messages)


def _message(kind: bytes = b"command", to: str = "in", more: Headers = ()) -> Message:
    return Message(to=to, key=b"a", value=b"{}", headers=(("cp-kind", kind), *more), id="x")


def _sent(*messages: Message, sender: tuple[int, int] | None = (5, 40)) -> list[str]:
    record: Any = _Sends(*messages)
    numbered(record, sender, "shop")
    return [dict(m.headers).get("cp-order", b"").decode() for m in record.out]


def test_what_a_record_sends_is_numbered_on_from_what_its_owner_has_sent() -> None:
    messages = (
        _message(),
        _message(b"start"),
        _message(b"event", "shop.events"),
        _message(b"event", "shop.in"),
    )
    assert _sent(*messages) == ["in/5@17.40", "in/5@17.41", "shop.events/5@17.42", "in/5@17.43"]
    assert _sent(*messages, sender=None) == [""] * 4


def test_replies_and_the_words_of_a_rendezvous_have_no_number_and_leave_a_gap() -> None:
    assert _sent(_message(b"reply"), _message(b"bind"), _message()) == ["", "", "in/5@17.42"]


def test_what_may_have_left_keeps_its_number_and_what_was_refused_gets_a_new_one() -> None:
    message = _message(more=(("cp-order", b"in/5@3.1"),))
    assert _sent(message) == ["in/5@3.1"] and not was_refused(message)
    assert _sent(refused(message)) == ["in/5@17.40"] and was_refused(refused(message))


def _arrival(
    said: bytes, *, source: bytes = b"/contrapas/shop/sell", kind: bytes = b"event", **more: bytes
) -> Arrival:
    headers: Headers = (
        ("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", source), ("ce_type", b"Began"), ("cp-kind", kind),
        ("cp-order", said),
        *((name.replace("_", "-"), value) for name, value in more.items()),
    )  # fmt: skip
    found = decode(Record(partition(b"a", 8), 5, b"a", b'{"id":"a","n":1}', headers, 1), DOORS)
    assert isinstance(found, Arrival), found
    return found


def test_a_number_is_read_where_its_owner_sent_it() -> None:
    way = f"in/{partition(b'a', 8)}<5"
    assert _arrival(b"in/5@17.40").order == Order(way, 17, 40)
    on_topic = _arrival(b"seq.events/5@17.40", cp_source=b"seq.events@id/2@9")
    assert on_topic.order == Order("seq.events@id/2<5", 17, 40)


@pytest.mark.parametrize(
    "arrival",
    [
        _arrival(b"in/5@17"),
        _arrival(b"in/5@17.x"),
        _arrival(b"other.events/5@17.40"),
        _arrival(b"in/5@17.40", cp_source=b"seq.events@id/2@9"),
        _arrival(b"in/5@17.40", source=b"/contrapas/other/sell"),
        _arrival(b"in/5@17.40", source=b"/somebody"),
        _arrival(b"in/5@17.40", cp_delivery=b"d1"),
    ],
    ids=[
        "cut",
        "no number",
        "of another topic",
        "of the lane, on a topic",
        "another namespace",
        "a stranger's",
        "redriven",
    ],
)
def test_a_number_from_anywhere_else_counts_for_nothing(arrival: Arrival) -> None:
    assert arrival.order is None


def test_a_number_that_was_passed_is_a_repeat_and_so_is_one_of_an_owner_before() -> None:
    known: dict[str, int] = {}
    remember(known, "in/2", 7, Order("in/2<5", 17, 40))
    assert known == {"in/2": 7, "in/2<5@17": 40}
    assert heard(known, Order("in/2<5", 17, 40)) and heard(known, Order("in/2<5", 17, 3))
    assert heard(known, Order("in/2<5", 9, 900))
    assert not heard(known, Order("in/2<5", 17, 41)) and not heard(known, Order("in/2<5", 18, 0))
    remember(known, "in/2", 8, Order("in/2<5", 18, 0))
    assert known == {"in/2": 8, "in/2<5@18": 0}


def test_another_way_and_another_sender_are_never_compared() -> None:
    known: dict[str, int] = {}
    remember(known, "in/2", 7, Order("in/2<5", 17, 40))
    assert not heard(known, Order("in/2<50", 17, 1))
    assert not heard(known, Order("in/2<6", 17, 1))
    assert not heard(known, Order("orders@id/2<5", 17, 1))


def test_senders_do_not_push_out_sources_nor_sources_senders() -> None:
    known: dict[str, int] = {}
    remember(known, "in/2", 1, None)
    for sender in range(ORDERS_MAX + 9):
        remember(known, "", 0, Order(f"in/2<{sender}", 1, 1))
    assert "in/2" in known and len(known) == ORDERS_MAX + 1
    for topic in range(40):
        remember(known, f"t{topic}/0", 1, None)
    assert len([n for n in known if "<" in n]) == ORDERS_MAX and len(known) == ORDERS_MAX + 16
    assert "in/2<9@1" in known and "in/2<8@1" not in known


def test_a_message_to_be_sent_again_says_its_place() -> None:
    assert place_of(_message(more=(("cp-order", b"in/5@17.40"),)).headers) == (17, 40)
    assert place_of(_message().headers) is None and place_of(()) is None
    assert order_of("in/5@17.40", "in", "in/2") == Order("in/2<5", 17, 40)
