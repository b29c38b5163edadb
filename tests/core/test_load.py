"""Already applied, by position or by id."""

from __future__ import annotations

import hashlib

from contrapas.core.decode import Arrival
from contrapas.core.envelope import Cause, InstanceRecord, Node
from contrapas.core.lane import Record
from contrapas.core.load import CONFLICT, DUPLICATE, FRESH, judge, judge_start
from contrapas.core.rendezvous import digest_of


def _record() -> InstanceRecord:
    return InstanceRecord(
        instance="s/k",
        saga="s",
        key="k",
        version=1,
        epoch=1,
        writer="",
        run="",
        mode="orchestrate",
        status="waiting",
        root=Node(),
        cause=Cause(kind="start", type="X"),
        at=0,
        started_at=0,
        start_digest=hashlib.sha256(b"start").digest(),
        positions={"t@7/2": 5},
        seen=[digest_of("/x", "1", b"v")],
    )


def _arrival(offset: int, ident: str, value: bytes = b"v", *, delivery: str = "") -> Arrival:
    record = Record(0, offset, b"k", value, (), 0)
    a = Arrival("event", record, "t@7", 2, offset, "k", {}, id=ident, event_source="/x", value=value)
    a.delivery = delivery
    return a


def test_what_lies_at_or_below_the_last_position_was_applied() -> None:
    assert judge(_record(), _arrival(5, "2")) == DUPLICATE
    assert judge(_record(), _arrival(6, "2")) == FRESH


def test_the_same_id_is_a_repeat_and_with_other_bytes_a_conflict() -> None:
    assert judge(_record(), _arrival(6, "1")) == DUPLICATE
    assert judge(_record(), _arrival(6, "1", b"w")) == CONFLICT


def test_a_redriven_event_is_not_judged_by_its_old_position() -> None:
    assert judge(_record(), _arrival(3, "2", delivery="d")) == FRESH


def test_a_start_of_an_existing_instance_is_judged_by_its_payload() -> None:
    assert judge_start(_record(), _arrival(9, "7", b"start")) == DUPLICATE
    assert judge_start(_record(), _arrival(9, "7", b"other")) == CONFLICT


def test_an_arrival_works_its_digest_out_once_and_it_is_that_of_its_id_and_bytes() -> None:
    arrival = _arrival(6, "2", b"w")
    assert arrival.digest == digest_of(arrival.event_source, "2", b"w")
    assert arrival.digest is arrival.digest
    assert arrival == _arrival(6, "2", b"w")
