"""Parameters that our workers supply: callers leave them out, they do not travel, and what cannot be supplied is refused."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import Depends as FastDepends

from contrapas import SUPPLIED, Delivery, Depends, Service, step
from contrapas.author.service import mark_of, store_of
from contrapas.codec.registry import Registry
from contrapas.errors import DataError
from contrapas.participant.memory import MemorySession, MemoryStore
from contrapas.runtime.reaction import Handler
from tests.runtime.machines import Done, Pay, Refused

ONE, TWO = MemoryStore("one"), MemoryStore("two")
Db = Annotated[MemorySession, Depends(ONE.session)]
Int = Annotated[int, Depends(int)]
Other = Annotated[MemorySession, Depends(TWO.session)]


GIVEN = Delivery()


@step(undo=None)
async def fine(n: int, d: Delivery = GIVEN, db: Db = SUPPLIED, x: Int = SUPPLIED) -> int:
    return n


@step(undo=None)
async def no_default(n: int, db: Db) -> int:
    return n


@step(undo=None)
async def not_last(db: Db = SUPPLIED, n: int = 1) -> int:
    return n


@step(undo=None)
async def two_stores(db: Db = SUPPLIED, other: Other = SUPPLIED) -> int:
    return 1


def test_supplied_parameters_are_no_arguments() -> None:
    entry = Registry().add_step(fine)
    assert (entry.delivery, [name for name, _ in entry.supplied], entry.store) == ("d", ["db", "x"], ONE)
    assert entry.args.load(entry.args.dump(((7,), {}))) == ((7,), {})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (no_default, "has no default"),
        (not_last, "stands before another parameter"),
        (two_stores, "sessions of two stores"),
    ],
)
def test_a_step_whose_supplied_parameters_make_no_sense_is_refused(wrong: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as said:
        Registry().add_step(wrong)
    assert said.value.code == "CP205" and said.value.fix


def test_what_was_not_supplied_says_so_when_it_is_used() -> None:
    with pytest.raises(DataError, match=r"\.put was asked of it") as said:
        SUPPLIED.put("a", 1)
    assert said.value.code == "CP850" and repr(SUPPLIED) == "SUPPLIED"


def test_fastapi_s_depends_is_understood() -> None:
    mark = mark_of(Annotated[MemorySession, FastDepends(ONE.session)])
    assert mark is not None and store_of(mark) is ONE
    mark = mark_of(Annotated[int, FastDepends()])
    assert mark is not None and mark.dependency() == 0


async def waits() -> int:
    return 1


def yields() -> Any:
    yield 1


@pytest.mark.parametrize("fn", [waits, yields])
def test_a_dependency_that_waits_or_yields_is_refused(fn: Any) -> None:
    service = Service("bank")
    Wrong = Annotated[int, Depends(fn)]

    async def pay(c: Pay, n: Any) -> Done | Refused:
        return Done(id=c.id)

    pay.__annotations__["n"] = Wrong
    service.on(Pay)(pay)
    registry = Registry()
    registry.add_message(Pay)
    with pytest.raises(DataError, match="waits or yields") as said:
        Handler(service.reactions[Pay], registry.message_of(Pay), {})
    assert said.value.code == "CP850"
