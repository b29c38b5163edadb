from __future__ import annotations

from typing import Annotated, Any

import pytest

from contrapas import Command, Delivery, Depends, Event, Service
from contrapas.errors import DataError


class Opened(Event, topic="shop.events", key="id"):
    id: str


class Paid(Event, topic="pay.events", key="id"):
    id: str


class Declined(Event, topic="pay.events", key="id"):
    id: str


class Pay(Command[Paid, Declined], topic="pay.commands", key="id"):
    id: str


def book() -> dict[str, int]:
    return {}


pay = Service("pay")


@pay.on(Pay)
async def charge(c: Pay, book: Annotated[dict[str, int], Depends(book)], d: Delivery) -> Paid | Declined:
    return Paid(id=c.id)


@pay.on(Opened)
def welcome(e: Opened) -> list[Later | Paid] | None:
    return None


@pay.on(Paid)
async def nothing(e: Paid) -> None: ...


class Later(Event, topic="pay.events", key="id"):
    id: str


def test_the_return_annotation_is_the_list_of_what_is_emitted() -> None:
    assert pay.reactions[Pay].emits == (Paid, Declined)
    assert pay.reactions[Opened].emits == (Later, Paid)
    assert pay.reactions[Opened].many
    assert pay.reactions[Paid].emits == ()
    assert not pay.reactions[Paid].many


def test_the_decorated_function_stays_a_function() -> None:
    assert welcome(Opened(id="1")) is None
    assert pay.reactions[Opened].name == "pay.welcome"


def test_the_other_parameters_are_known_by_type() -> None:
    hints = pay.reactions[Pay].hints
    assert hints["d"] is Delivery
    assert hints["book"].__metadata__ == (Depends(book),)


def test_a_return_annotation_that_names_no_event_is_refused() -> None:
    other = Service("other")
    on: Any = other.on

    def text(e: Opened) -> str:
        return e.id

    on(Opened)(text)
    on(Paid)(lambda _: None)  # pyright: ignore[reportUnknownLambdaType]
    for message in (Opened, Paid):
        with pytest.raises(DataError, match="CP124") as refused:
            _ = other.reactions[message].emits
        assert __file__ in refused.value.place


def test_a_service_has_one_function_for_each_message() -> None:
    with pytest.raises(DataError, match="CP143"):
        pay.on(Pay)


@pytest.mark.parametrize("name", ["", "Pay", "a b", "-x", "x" * 41, "a.b", 3, None])
def test_a_name_that_could_not_stand_in_a_topic_is_refused(name: Any) -> None:
    with pytest.raises(DataError, match="CP850"):
        Service(name)
