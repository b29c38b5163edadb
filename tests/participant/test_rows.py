"""A message as an outbox row and back."""

from __future__ import annotations

import pytest

from contrapas import Event
from contrapas.core.lane import Draft
from contrapas.errors import DataError
from contrapas.participant import Row, draft_of, outgoing_of, written
from contrapas.participant.rows import derived_id, digest


class Placed(Event, topic="orders", key="order_id"):
    order_id: str
    cents: int


class Untold(Event, key="order_id"):
    order_id: str


def test_an_event_becomes_a_row_with_debeziums_columns_and_leaves_with_its_cloudevents_headers() -> None:
    row = written(Placed(order_id="ö-1", cents=7), "/services/shop", 1_700_000_000_123)
    assert (row.topic, row.key, row.type) == ("orders", "ö-1", "Placed")
    assert row.payload == '{"order_id":"ö-1","cents":7}'.encode()
    sent = draft_of(Row(1, row, 0), "shop")
    assert (sent.to, sent.partition, sent.key, sent.value) == ("orders", -1, "ö-1".encode(), row.payload)
    assert sent.message_id == row.id
    headers = dict(sent.headers)
    assert headers["ce_id"] == row.id.encode()
    assert headers["ce_source"] == b"/services/shop"
    assert headers["ce_time"] == b"2023-11-14T22:13:20.123Z"
    assert headers["ce_subject"] == "ö-1".encode()


def test_what_the_runtime_encoded_keeps_every_header_and_gets_a_derived_id() -> None:
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"payments/place_order/o-1/ab/Charge/1#0"),
        ("ce_source", b"/services/shop/payments"),
        ("ce_type", b"Charged"),
        ("content-type", b"application/json"),
        ("cp-kind", b"reply"),
        ("cp-to", b"place_order/o-1"),
        ("traceparent", b"00-1-2-01"),
    )
    draft = Draft("in", 3, b"o-1", b"{}", headers, "payments/place_order/o-1/ab/Charge/1#0")
    row = outgoing_of(draft, "shop")
    assert row == outgoing_of(draft, "shop")
    assert row.id == derived_id(draft.message_id)
    assert row.topic == "shop.in"
    back = draft_of(Row(9, row, 0), "shop")
    assert back.to == "in"
    assert dict(back.headers) == {**dict(headers), "ce_id": row.id.encode()}


def test_a_row_that_does_not_fit_is_refused_before_it_is_written() -> None:
    with pytest.raises(DataError, match="CP413"):
        written(Placed(order_id="x" * 256, cents=1), "/s", 0)
    with pytest.raises(DataError, match="CP144"):
        written(Untold(order_id="1"), "/s", 0)


def test_a_digest_tells_type_content_type_and_value_apart() -> None:
    assert len(digest("A", "b", b"c")) == 32
    assert (
        len({digest("A", "b", b"c"), digest("Ab", "", b"c"), digest("A", "", b"bc"), digest("", "Ab", b"c")})
        == 4
    )
