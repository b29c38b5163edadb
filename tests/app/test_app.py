from __future__ import annotations

from typing import Any

import pytest

from contrapas import App, Event, Saga, Service, saga, step
from contrapas.errors import DataError, Refused


class Opened(Event, topic="shop.events", key="id"):
    id: str


@saga
async def one(s: Saga, e: Opened) -> None: ...


@saga(name="one")
async def another_one(s: Saga, e: Opened) -> None: ...


@step
async def measure(url: str) -> int:
    return len(url)


class Clock:
    pass


@pytest.mark.parametrize("name", ["", "Shop", "a.b", "-shop", "x" * 41, "shop_eu", "süd", 7, None])
def test_a_namespace_that_could_not_stand_in_a_topic_is_refused(name: Any) -> None:
    with pytest.raises(DataError) as refused:
        App(name)
    assert refused.value.code == "CP850"


@pytest.mark.parametrize("name", ["shop", "7", "shop-eu-1", "x" * 40])
def test_a_namespace_has_lower_case_letters_digits_and_dashes(name: str) -> None:
    assert App(name).namespace == name


def test_the_definition_is_plain_values() -> None:
    app, pay = App("shop"), Service("pay")
    app.orchestrate(one)
    app.serve(pay)
    app.provide(Clock, Clock)
    found = app.definition()
    assert found.namespace == "shop"
    assert [(use.saga, use.mode, use.on_late) for use in found.sagas] == [(one, "orchestrate", "alert")]
    assert found.services == (pay,)
    assert found.provided == {Clock: Clock}
    assert found.file == __file__


def test_observing_says_how_lateness_is_answered() -> None:
    app = App("shop")
    app.observe(one, on_late="compensate")
    (use,) = app.definition().sagas
    assert (use.mode, use.on_late) == ("observe", "compensate")
    with pytest.raises(DataError, match="CP850"):
        App("shop").observe(one, on_late="shrug")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_saga_has_one_mode() -> None:
    app = App("shop")
    app.orchestrate(one)
    app.orchestrate(one)
    with pytest.raises(Refused, match="declared twice: orchestrate, then observe"):
        app.observe(one)
    other = App("shop")
    other.observe(one)
    with pytest.raises(Refused):
        other.observe(one, on_late="compensate")


def test_two_sagas_or_services_of_one_name_are_refused() -> None:
    app = App("shop")
    app.orchestrate(one)
    with pytest.raises(Refused, match="CP143"):
        app.orchestrate(another_one)
    app.serve(Service("pay"))
    with pytest.raises(Refused, match="CP143"):
        app.serve(Service("pay"))


def test_a_type_has_one_provider() -> None:
    app = App("shop")
    app.provide(Clock, Clock)
    with pytest.raises(Refused, match="CP143"):
        app.provide(Clock, Clock)


def test_what_is_no_saga_is_refused_by_name() -> None:
    wrong: Any = measure
    with pytest.raises(DataError, match="no saga"):
        App("shop").orchestrate(wrong)


async def test_starting_what_is_no_saga_is_refused() -> None:
    wrong: Any = measure
    with pytest.raises((DataError, Refused)):
        await App("shop").start(wrong, Opened(id="1"))
