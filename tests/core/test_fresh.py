"""What is made field by field is what the classes make, and what was written out quickly is what the general way gives."""

from __future__ import annotations

import random
from typing import Any

import pytest

from contrapas.codec.cursor import NameCursor, RangeCursor
from contrapas.codec.quick import dump_of, exact_codec, load_of
from contrapas.codec.registry import Registry
from contrapas.core.envelope import Cause, Pending
from contrapas.core.fresh import fresh_call, fresh_pending, fresh_result, fresh_transition
from contrapas.core.timers import next_deadline, timers
from contrapas.core.world import UNREAD, Input, StepCall, Transition
from contrapas.errors import DataError
from tests.core import shop
from tests.core.test_envelope import made, small


def test_nothing_is_forgotten_in_what_is_made_field_by_field() -> None:
    record = small()
    pending = Pending(key="k", label="charge", visit=3, kind="local", name="charge", since=7)
    assert fresh_pending("k", "charge", 3, "local", "charge", 7) == pending
    pending.body, pending.attempt = '{"args":[1]}', 2
    call = StepCall(
        instance=record.instance,
        key="k",
        step="charge",
        attempt=2,
        body='{"args":[1]}',
        timeout_ms=30,
        label="charge",
        epoch=record.epoch,
        live=((1,), {}),
    )
    assert fresh_call(record, pending, 30, ((1,), {})) == call
    made_one = fresh_transition(record, [call], "kept", b"value", [])
    assert made_one == Transition(record=record, steps=[call], verdict="kept", value=b"value")
    cause = Cause(kind="result", type="charge", source="local", id="k", value=b"3")
    result = Input(
        cause=cause,
        instance=record.instance,
        at=0,
        type="charge",
        body="3",
        live=3,
        in_reply_to="k",
        attempt=2,
    )
    assert fresh_result(call, "3", 3) == result


@pytest.mark.parametrize("seed", range(40))
def test_the_next_deadline_is_the_earliest_timer(seed: int) -> None:
    from contrapas.core.envelope import InstanceRecord

    record: InstanceRecord = made(InstanceRecord, random.Random(seed))
    assert next_deadline(record) == min((t.at for t in timers(record)), default=None)


@pytest.mark.parametrize(
    ("tp", "values"),
    [
        (int, [0, 7, -7, 10**18, 2**63, -(2**70), True]),
        (str, ["", "a", 'quo"te', "é\u2028", "\x00\n"]),
        (shop.OrderPlaced, [shop.OrderPlaced(order_id="o-9")]),
    ],
)
def test_quick_codecs_give_what_the_general_way_gives(tp: Any, values: list[Any]) -> None:
    codec = Registry().codec(tp)
    for value in values:
        text = codec.dump(value)
        assert dump_of(codec)(value) == text
        again = load_of(codec)(text)
        assert again == value and type(again) is type(codec.load(text))


def test_a_quick_number_is_as_strict_as_the_general_way() -> None:
    codec = Registry().codec(int)
    for text in ("07", "+7", " 7", "7.0", "１", "", "true", "[7]"):
        try:
            expected: Any = codec.load(text)
        except DataError as why:
            with pytest.raises(DataError, match=why.code):
                load_of(codec)(text)
        else:
            assert load_of(codec)(text) == expected


def test_only_what_comes_back_as_it_went_may_stand_for_its_text() -> None:
    registry = Registry()
    assert exact_codec(registry.codec(int)) and exact_codec(registry.codec(shop.OrderPlaced))
    assert not exact_codec(registry.codec(list[int])) and not exact_codec(registry.codec(dict[str, int]))


def test_cursors_are_written_and_read_as_before() -> None:
    from contrapas.codec.cursor import Cursor

    codec = Registry().codec(Cursor[range])
    for value in (RangeCursor(range(3, 9, 2)), RangeCursor(range(10**30)), NameCursor(4)):
        text = codec.dump(value)
        assert dump_of(codec)(value) == text
        again = load_of(codec)(text)
        assert type(again) is type(value) and codec.dump(again) == text
    with pytest.raises(DataError):
        load_of(codec)('{"range":["a"]}')
    assert UNREAD is not None
