from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ValidationError

from contrapas import Command, Event, Sensitive
from contrapas.author.event import message_spec
from contrapas.author.sensitive import MASK, masked, sensitive_paths
from contrapas.errors import DataError


class Paid(Event, topic="pay.events", key="order_id"):
    order_id: str
    cents: int


class Declined(Event, topic="pay.events", key="order_id", name="pay.declined"):
    order_id: str


class Broken(Event, topic="pay.events", key="order_id"):
    order_id: str


class Pay(Command[Paid, Declined], topic="pay.commands", key="order_id"):
    order_id: str
    cents: int


class Refund(Command[Paid], key="order_id"):
    order_id: str


class Several(Command[Paid, Declined | Broken], key="order_id"):
    order_id: str


class Shop(Event, topic="shop.events", key="id"):
    id: str


class Opened(Shop):
    pass


class Person(BaseModel):
    name: str
    mail: Annotated[str, Sensitive]
    friends: list[Person] = []


class Met(Event, key="id"):
    id: str
    first: Person
    others: list[Person] = []
    notes: dict[str, Annotated[str, Sensitive]] = {}
    secret: Annotated[str | None, Sensitive] = None


def test_a_class_knows_its_name_topic_key_and_replies() -> None:
    spec = message_spec(Pay)
    assert (spec.name, spec.topic, spec.key, spec.command) == ("Pay", "pay.commands", "order_id", True)
    assert spec.replies == (Paid, Declined)
    assert message_spec(Refund).replies == (Paid,)
    assert message_spec(Several).replies == (Paid, Declined, Broken)
    assert message_spec(Declined).name == "pay.declined"
    assert message_spec(Refund).topic == ""
    assert message_spec(Pay) is spec


def test_topic_and_key_are_inherited_and_a_name_is_not() -> None:
    spec = message_spec(Opened)
    assert (spec.name, spec.topic, spec.key) == ("Opened", "shop.events", "id")


def test_messages_are_frozen_built_with_keywords_and_ignore_what_they_do_not_know() -> None:
    paid = Paid(order_id="1", cents=5)
    with pytest.raises(ValidationError):
        paid.cents = 6
    with pytest.raises(TypeError):
        Paid("1", 5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert Paid.model_validate({"order_id": "1", "cents": 5, "new": True}) == paid


def test_a_key_that_is_no_field_is_refused_where_the_class_is_written() -> None:
    with pytest.raises(DataError) as refused:

        class Wrong(Event, key="nope"):  # pyright: ignore[reportUnusedClass]
            id: str

    assert refused.value.code == "CP144"
    assert "'nope'" in refused.value.text


def test_a_class_without_a_key_is_refused_when_it_is_used() -> None:
    class Loose(Event):
        id: str

    with pytest.raises(DataError, match="has no key"):
        message_spec(Loose)


def test_a_command_without_event_replies_is_refused_when_it_is_used() -> None:
    base: Any = Command

    class Either(Command[Paid | Broken, Declined], key="id"):
        id: str

    mute = type(base)("Mute", (Command,), {"__annotations__": {"id": str}}, key="id")
    odd = type(base)("Odd", (base[int],), {"__annotations__": {"id": str}}, key="id")
    for cls in (Either, mute, odd):
        with pytest.raises(DataError, match="CP144"):
            message_spec(cls)


@pytest.mark.parametrize("topic", ["", "  ", "a\nb", "x" * 300, 7])
def test_a_topic_that_is_no_name_is_refused(topic: object) -> None:
    base: Any = Event
    with pytest.raises(DataError, match="topic="):
        type(base)("Wrong", (Event,), {"__annotations__": {"id": str}}, topic=topic, key="id")


def test_an_unknown_class_keyword_is_refused() -> None:
    base: Any = Event
    with pytest.raises(TypeError):
        type(base)("Wrong", (Event,), {"__annotations__": {"id": str}}, key="id", partition=3)


def test_sensitive_fields_are_found_at_every_depth_and_once_per_cycle() -> None:
    assert sensitive_paths(Met) == ("/first/mail", "/others/*/mail", "/notes/*", "/secret")
    assert message_spec(Met).sensitive
    assert not message_spec(Paid).sensitive


def test_masking_hides_what_is_marked_and_keeps_the_original() -> None:
    value: dict[str, Any] = {
        "id": "1",
        "first": {"name": "a", "mail": "a@example.com"},
        "others": [{"name": "b", "mail": "b@example.com"}, 3],
        "notes": {"x": "y"},
        "secret": None,
    }
    shown: Any = masked(value, sensitive_paths(Met))
    assert shown["first"] == {"name": "a", "mail": MASK}
    assert shown["others"] == [{"name": "b", "mail": MASK}, 3]
    assert shown["notes"] == {"x": MASK}
    assert shown["secret"] is None
    assert value["first"]["mail"] == "a@example.com"
