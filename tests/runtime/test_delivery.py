"""A step's `Delivery`: what our workers fill in, so that the step can hand its idempotency key on."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas import Delivery, Event, Retry, Saga, saga, step
from contrapas.errors import CompileError, DataError
from contrapas.runtime.build import build
from contrapas.runtime.definition import Definition, SagaUse
from tests.runtime.rig import rig_of


class Began(Event, topic="d.events", key="id"):
    id: str


SEEN: list[tuple[str, Delivery]] = []


@step(undo=None, retry=Retry(2, backoff="1s"))
async def pay(amount: int, *, by: str = "card", d: Delivery = Delivery()) -> str:  # noqa: B008
    SEEN.append((f"{amount} {by}", d))
    if d.attempt == 1:
        raise OSError("once more")
    return d.idempotency_key


@step(undo=None)
def book(d: Delivery = Delivery()) -> str:  # noqa: B008
    return d.key


@saga
async def paying(s: Saga, began: Began) -> None:
    await pay(3, by="cash")
    s.note(await book())


def app(*sagas: Any) -> Definition:
    return Definition(namespace="d", sagas=tuple(SagaUse(saga=s, mode="orchestrate") for s in sagas))


async def test_every_attempt_sees_the_same_idempotency_key_and_its_own_number() -> None:
    SEEN.clear()
    what = app(paying)
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        await rig.client().start("paying", Began(id="k"))
        await rig.until(lambda: rig.status("paying/k") == "done", ms=50)
        assert [(text, d.attempt, d.key) for text, d in SEEN] == [("3 cash", 1, "k"), ("3 cash", 2, "k")]
        keys = {d.idempotency_key for _, d in SEEN}
        assert len(keys) == 1 and keys.pop().startswith("paying/k/")
        assert (await rig.client().state("paying/k")).note == "k"


async def test_the_function_itself_runs_without_one() -> None:
    assert book.native() == ""


def test_a_delivery_before_another_parameter_is_refused() -> None:
    @step(undo=None)
    async def mixed(d: Delivery, amount: int) -> int:
        return amount

    @saga
    async def mixing(s: Saga, began: Began) -> None:
        await mixed(3)  # type: ignore

    with pytest.raises((CompileError, DataError)) as why:
        build(app(mixing))
    assert "CP205" in str(why.value)
