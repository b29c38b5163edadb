"""A dead letter keeps the original bit for bit, and can always be written."""

from __future__ import annotations

import hashlib

from contrapas.core.deadletter import dead_letter, restore
from contrapas.core.lane import Headers, Record
from contrapas.core.letter import letter_of, settled

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


def test_a_letter_and_its_follow_up_tell_of_the_same_original() -> None:
    letter = _dead(Record(3, 17, b"k", b"v", (*HEADERS, ("ce_type", b"Placed"), ("cp-delivery", b"d0")), 4))
    read = letter_of(letter)
    assert read is not None
    assert (read.topic, read.partition, read.offset, read.code, read.disposition) == (
        "t.in",
        3,
        17,
        "CP403",
        "dead",
    )
    assert (read.type, read.event_id, read.delivery, read.by_reference) == ("Placed", "1", "d0", False)
    draft = settled(letter, to="t.dlq", disposition="redriven", at=12, delivery="d1")
    after = letter_of(Record(draft.partition, 1, draft.key, draft.value, draft.headers, 12))
    assert after is not None
    assert (after.id, after.disposition, after.at, after.delivery, after.sha256) == (
        read.id, "redriven", 12, "d1", read.sha256,
    )  # fmt: skip
    assert (draft.key, draft.value) == (letter.key, b"")


def test_originals_of_one_place_that_differ_are_two_and_what_has_no_context_is_none() -> None:
    ids = set[str]()
    for value, key_id in ((b"v", b"1"), (b"w", b"1"), (b"v", b"2")):
        read = letter_of(_dead(Record(3, 17, b"k", value, (("ce_id", key_id),), 4)))
        assert read is not None
        ids.add(read.id)
    assert len(ids) == 3
    assert letter_of(Record(0, 0, b"k", b"v", HEADERS, 4)) is None
    odd = (("cp-dlq-topic", b"t"), ("cp-dlq-sha256", b"00"), ("cp-dlq-offset", "\u0663".encode()))
    read = letter_of(Record(0, 0, b"k", b"v", odd, 4))
    assert read is not None and (read.offset, read.disposition) == (-1, "dead")
