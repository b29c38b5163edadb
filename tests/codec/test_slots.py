"""Slots that share an object keep sharing it; all others are encoded one by one."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas.codec.cursor import (
    Backward,
    Cursor,
    Enumerated,
    NameCursor,
    SequenceCursor,
    Zipped,
    cursor,
)
from contrapas.codec.registry import Registry
from contrapas.codec.slots import closed, dump_slots, load_slots
from contrapas.machine import Slot


def slots(**types: Any) -> dict[str, Slot]:
    registry = Registry()
    return {n: Slot(name=n, codec=None if t is None else registry.codec(t)) for n, t in types.items()}


def test_one_list_in_two_slots_stays_one() -> None:
    made = slots(a=list[int], b=dict[str, list[int]], c=int)
    shared = [1]
    groups = (("a", "b"),)
    texts = dump_slots({"a": shared, "b": {"x": shared}, "c": 3}, made, groups)
    assert texts == {"a": '{"$id":1,"$value":[1]}', "b": '{"x":{"$ref":1}}', "c": "3"}
    back = load_slots(texts, made, groups)
    back["a"].append(2)
    assert back == {"a": [1, 2], "b": {"x": [1, 2]}, "c": 3}


def test_a_group_that_shares_nothing_has_the_text_of_single_slots() -> None:
    made = slots(a=list[int], b=list[int])
    values = {"a": [1], "b": [1]}
    texts = dump_slots(values, made, (("a", "b"),))
    assert texts == dump_slots(values, made, ())
    back = load_slots(texts, made, (("a", "b"),))
    assert back["a"] is not back["b"]


def test_the_exception_of_a_handler_and_its_name_stay_one() -> None:
    made = slots(why=ValueError, exc=BaseException)
    error = ValueError("x")
    groups = (("why", "exc"),)
    back = load_slots(dump_slots({"why": error, "exc": error}, made, groups), made, groups)
    assert back["why"] is back["exc"]


def test_a_cursor_and_the_local_it_goes_over_stay_one() -> None:
    made = slots(xs=list[int], it=Cursor[list[int]])
    xs = [1, 2]
    it = cursor(xs)
    assert it.more() and it.take() == 1
    groups = (("xs", "it"),)
    back = load_slots(dump_slots({"xs": xs, "it": it}, made, groups), made, groups)
    back["xs"].append(3)
    assert drain(back["it"]) == [2, 3]


def test_a_slot_without_codec_is_left_out_and_groups_close_what_is_touched() -> None:
    made = slots(a=int, b=None)
    assert dump_slots({"a": 1, "b": open}, made, ()) == {"a": "1"}
    assert closed({"a"}, (("a", "c"), ("d", "e"))) == {"a", "c"}


def drain(it: Cursor[Any]) -> list[Any]:
    found: list[Any] = []
    while it.more():
        found.append(it.take())
    return found


LOOPS: list[tuple[Any, Any, Any]] = [
    (list[int], lambda: cursor([1, 2, 3]), [1, 2, 3]),
    (tuple[int, ...], lambda: cursor((1, 2)), [1, 2]),
    (str, lambda: cursor("abc"), list("abc")),
    (range, lambda: cursor(range(9, 0, -4)), list(range(9, 0, -4))),
    (dict[str, int], lambda: cursor({"a": 1, "b": 2}), ["a", "b"]),
    (set[int], lambda: cursor({5}), [5]),
    (Enumerated[list[str]], lambda: cursor(enumerate(["x", "y"], 5)), [(5, "x"), (6, "y")]),
    (Backward[list[int]], lambda: cursor(reversed([1, 2, 3])), [3, 2, 1]),
    (Backward[range], lambda: cursor(reversed(range(3))), [2, 1, 0]),
    (Zipped[tuple[list[int], str]], lambda: cursor(zip([1, 2, 3], "ab")), [(1, "a"), (2, "b")]),
    (
        Enumerated[Zipped[tuple[range, Backward[list[int]]]]],
        lambda: cursor(enumerate(zip(range(2), reversed([7, 8])))),
        [(0, (0, 8)), (1, (1, 7))],
    ),
]


@pytest.mark.parametrize(("tp", "make", "items"), LOOPS, ids=[str(x[0]) for x in LOOPS])
def test_a_loop_goes_on_where_it_was(tp: Any, make: Any, items: list[Any]) -> None:
    codec = Registry().codec(Cursor[tp])
    it = make()
    seen: list[Any] = []
    while True:
        text = codec.dump(it)
        it = codec.load(text)
        assert codec.dump(it) == text
        if not it.more():
            break
        it = codec.load(codec.dump(it))
        assert it.more()
        seen.append(it.take())
    assert seen == items


def test_views_are_copied_when_the_loop_begins() -> None:
    names = {"a": 1}
    it = cursor(names.items())
    names["b"] = 2
    assert drain(it) == [("a", 1)]


def test_zip_strict_speaks_as_python_does() -> None:
    for lengths in ([1, 2], [2, 1], [2, 2, 1], [1, 1, 2]):
        parts = [list(range(n)) for n in lengths]
        with pytest.raises(ValueError, match="zip") as expected:
            list(zip(*parts, strict=True))
        with pytest.raises(ValueError, match="zip") as got:
            drain(cursor(zip(*parts, strict=True)))
        assert str(got.value) == str(expected.value)


def test_a_loop_by_name_keeps_only_its_position() -> None:
    xs = [1, 2]
    it = NameCursor()
    assert it.more(xs)
    assert it.take(xs) == 1
    codec = Registry().codec(Cursor[list[int]])
    assert codec.dump(it) == '{"at":1}'
    it = codec.load('{"at":1}')
    xs.append(3)
    assert [it.take(xs) for _ in range(2)] == [2, 3]
    assert not it.more(xs)


def test_a_started_iterator_and_a_number_are_type_errors() -> None:
    for bad in ((x for x in [1]), map(str, [1]), 5, None):
        with pytest.raises(TypeError):
            cursor(bad)
    assert isinstance(cursor([1]), SequenceCursor)
