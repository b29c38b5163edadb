"""A dead letter keeps the original bit for bit, and can always be written."""

from __future__ import annotations

import hashlib

from contrapas.core.deadletter import dead_letter, restore
from contrapas.core.lane import Headers, Record

HEADERS: Headers = (("a", b"\x00\xff"), ("a", b"again"), ("ce_id", b"1"))


def _dead(record: Record) -> Record:
    d = dead_letter(record, namespace="t", code="CP403", error="x" * 5000, at=9, instance="s/k")
    return Record(0, 0, d.key, d.value, d.headers, 9)


def test_key_value_and_headers_are_kept_and_the_context_appended() -> None:
    record = Record(3, 17, b"k\xff", b"\x00value", (*HEADERS, ("cp-source", b"orders@7/2@5")), 4)
    letter = _dead(record)
    assert (letter.key, letter.value, letter.headers[:3]) == (b"k\xff", b"\x00value", HEADERS)
    said = dict(letter.headers)
    assert (said["cp-dlq-topic"], said["cp-dlq-partition"], said["cp-dlq-offset"]) == (b"orders", b"2", b"5")
    assert said["cp-dlq-sha256"].decode() == hashlib.sha256(b"\x00value").hexdigest()
    assert len(said["cp-dlq-error"]) == 1000


def test_a_redrive_restores_exactly_the_original_and_adds_one_header() -> None:
    record = Record(3, 17, b"k", b"v", HEADERS, 4)
    topic, again = restore(_dead(record), delivery="d1")
    assert topic == "t.in"
    assert (again.key, again.value, again.headers) == (b"k", b"v", (*HEADERS, ("cp-delivery", b"d1")))


def test_the_key_that_ingress_replaced_is_put_back() -> None:
    record = Record(3, 17, b"saga-key", b"v", (("cp-source", b"t@7/2@5"), ("cp-source-key", b"theirs")), 4)
    assert _dead(record).key == b"theirs"


def test_what_is_too_large_to_copy_becomes_a_reference() -> None:
    letter = _dead(Record(3, 17, b"k", b"v" * 10_000_000, HEADERS, 4))
    said = dict(letter.headers)
    assert letter.value == b"" and said["cp-dlq-ref"] == b"1"
    assert said["cp-dlq-sha256"].decode() == hashlib.sha256(b"v" * 10_000_000).hexdigest()


def test_two_copies_of_one_dead_letter_have_one_id() -> None:
    record = Record(3, 17, b"k", b"v", HEADERS, 4)
    one, two = (dead_letter(record, namespace="t", code="CP403", error="", at=at) for at in (1, 2))
    assert one.message_id == two.message_id
