"""The quick way to write a record, and the straight path, step aside for every field that is set: those to come, too."""

from __future__ import annotations

import types
import typing
from copy import deepcopy
from dataclasses import MISSING, fields, is_dataclass
from typing import Any
from unittest.mock import patch

import pytest

from contrapas.core import envelope
from contrapas.core.envelope import Cause, Frame, InstanceRecord, Node, Pending
from contrapas.core.envelope_avro import encode
from contrapas.core.straight import straight
from contrapas.core.world import Input
from tests.core import shop
from tests.core.general import written_in_general
from tests.core.lines import Await, machine
from tests.core.stage import Stage

CLASSES: tuple[Any, ...] = (InstanceRecord, Node, Frame, Pending, Cause)
INNER = {"head", "memory"}
NAMES = dict(vars(envelope))


def made(tp: Any, depth: int = 0) -> Any:
    """A value of a type that is no default."""
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if origin in (typing.Union, types.UnionType):
        return made(next(a for a in args if a is not type(None)), depth)
    if origin is list:
        return [] if depth > 2 else [made(args[0], depth + 1)]
    if origin is dict:
        return {made(args[0], depth): made(args[1], depth)}
    if origin is tuple:
        inner = args[:1] if args[1:] == (...,) else args
        return tuple(made(a, depth) for a in inner)
    if is_dataclass(tp) and isinstance(tp, type):
        hints = typing.get_type_hints(tp, NAMES)
        needed = [f for f in fields(tp) if f.default is MISSING and f.default_factory is MISSING]
        return tp(**{f.name: made(hints[f.name], depth + 1) for f in needed})
    simple: dict[Any, Any] = {str: "x", int: 3, bool: True, bytes: b"0123456789abcdef"}
    return simple[tp]


def plain() -> Stage:
    stage = Stage(
        machine(
            "place_order",
            [Await(label=f"a{n}", op=lambda env, s: shop.price("x")) for n in range(4)],
            shop.REGISTRY,
            slots={"order": shop.OrderPlaced},
        )
    )
    stage.start(shop.OrderPlaced(order_id="o-9", cents=1))
    stage.result(5)
    return stage


def places(record: InstanceRecord) -> dict[Any, Any]:
    return {
        InstanceRecord: record, Node: record.root, Frame: record.root.frames[0], Pending: record.root.pending,
        Cause: record.cause,
    }  # fmt: skip


FIELDS = [(cls, f.name) for cls in CLASSES for f in fields(cls) if f.name not in INNER]


@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=[f"{c.__name__}.{n}" for c, n in FIELDS])
def test_whatever_field_is_set_both_ways_write_the_same(cls: Any, name: str) -> None:
    record = plain().record
    hints = typing.get_type_hints(cls, NAMES)
    setattr(places(record)[cls], name, made(hints[name]))
    general = written_in_general(deepcopy(record))
    record.head = record.memory = b""
    assert encode(record) == general


def test_the_quick_way_is_the_one_that_is_used() -> None:
    record = plain().record
    with patch("contrapas.core.envelope_avro._node", side_effect=AssertionError):
        encode(record)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (c, n)
        for c, n in FIELDS
        if c in (InstanceRecord, Node, Frame, Pending) and n in ("talk", "began", "limit")
    ],
)
def test_the_straight_path_is_not_walked_with_a_field_it_does_not_know(cls: Any, name: str) -> None:
    stage = plain()
    record = stage.record
    hints = typing.get_type_hints(cls, NAMES)
    setattr(places(record)[cls], name, made(hints[name]))
    pending = stage.pending()
    event = Input(
        cause=Cause(kind="result", type="price"),
        instance=record.instance,
        at=stage.now,
        body="3",
        in_reply_to=pending.key,
    )
    assert straight(record, event, stage.world) is None
