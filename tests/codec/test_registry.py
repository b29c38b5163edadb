"""The closed registry: filled from annotations, one type per name, nothing else can be named by a record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from contrapas.author.event import Command, Event
from contrapas.author.saga import Saga, saga
from contrapas.author.service import Service
from contrapas.author.step import step
from contrapas.codec.registry import Registry, build_registry
from contrapas.errors import DataError


class Paid(Event, key="k"):
    k: str


class Refused(Event, key="k", name="payment_refused"):
    k: str


class Pay(Command[Paid, Refused], key="k", topic="payments"):
    k: str


class Ordered(Event, key="k"):
    k: str


class Item(BaseModel):
    sku: str


class Thing:
    """Nothing that could be stored."""


@step
async def weigh(item: Item, *more: Item, scale: float = 1.0) -> dict[str, float]:
    return {item.sku: scale}


@saga
async def order(s: Saga, ordered: Ordered) -> Paid | Refused:
    return Paid(k=ordered.k)


shop = Service("shop")


@shop.on(Ordered)
async def charge(e: Ordered) -> list[Paid]:
    return [Paid(k=e.k)]


def test_what_annotations_reach_is_registered() -> None:
    registry = build_registry([order], [shop], [weigh], events=[Pay])
    assert set(registry.messages) == {"Paid", "payment_refused", "Pay", "Ordered"}
    pay = registry.message_of(Pay)
    assert (pay.replies, pay.command, pay.topic, pay.key) == (
        ("Paid", "payment_refused"),
        True,
        "payments",
        "k",
    )
    assert registry.name_of(Item) == "Item"
    assert set(registry.steps) == {"weigh"}


def test_a_class_outside_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        Registry().message_of(Pay)
    assert caught.value.code == "CP402"


def test_arguments_of_a_step_come_back_as_values_of_their_own() -> None:
    codec = build_registry(steps=[weigh]).steps["weigh"].args
    item = Item(sku="a")
    args, kwargs = codec.load(codec.dump(((item, item), {"scale": 2.5})))
    assert (args, kwargs) == ((item, item), {"scale": 2.5})
    assert args[0] is not item
    with pytest.raises(DataError) as caught:
        codec.dump(((item, 5), {}))
    assert (caught.value.code, caught.value.path) == ("CP205", "/1")


def test_a_step_with_an_argument_that_cannot_travel_is_refused() -> None:
    @step
    async def use(thing: Thing) -> None: ...

    with pytest.raises(DataError) as caught:
        build_registry(steps=[use])
    assert caught.value.code == "CP205"


def test_a_result_that_does_not_fit_says_so() -> None:
    def rows() -> Iterator[int]:
        yield 1

    @step
    async def several(n: int) -> list[int]:
        return [n]

    result: Any = build_registry(steps=[several]).steps["several"].result
    for bad in (rows(), open, [1, rows()]):
        with pytest.raises(DataError) as caught:
            result.dump(bad)
        assert caught.value.code == "CP843"


def test_a_step_of_the_same_name_is_refused() -> None:
    @step(name="weigh")
    async def other(n: int) -> int:
        return n

    with pytest.raises(DataError) as caught:
        build_registry(steps=[weigh, other])
    assert caught.value.code == "CP208"


def test_names_of_events_decide_not_names_of_classes() -> None:
    registry = build_registry(events=[Refused])
    codec = registry.codec(Paid | Refused)
    assert codec.dump(Refused(k="a")) == '{"$type":"payment_refused","k":"a"}'
    with pytest.raises(DataError):
        codec.load('{"$type":"Refused","k":"a"}')
