# mypy: ignore-errors
# type: ignore
"""Entities in the source: what their handlers are compiled to, and what is refused."""

# ruff: noqa
from __future__ import annotations

from typing import Any

import pytest

from contrapas.app import App
from contrapas.author.entity import Entity, handler, query
from contrapas.author.event import Event
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.errors import CompileError, ContrapasError
from contrapas.runtime.build import compiled


@step(undo=None)
async def num(x: int) -> int:
    return x


def build(*classes: Any, sagas: tuple[Any, ...] = ()) -> Any:
    app = App("t")
    app.serve(*classes)
    app.orchestrate(*sagas)
    return compiled(app.definition()).world


def codes(*classes: Any, sagas: tuple[Any, ...] = ()) -> list[str]:
    try:
        build(*classes, sagas=sagas)
    except CompileError as why:
        return [r.code for r in why.refusals]
    except ContrapasError as why:
        return [why.code]
    return []


class Good(Entity, key="id"):
    count: int = 0
    names: list[str] = []

    @handler
    async def up(self, by: int = 1) -> int:
        if by < 0:
            return self.count
        for _ in range(by):
            self.count += await num(1)
        return self.count

    @handler
    async def name(self, s: Saga, *, text: str) -> None:
        self.names.append(f"{self.key} {text} {s.key}")

    @query
    def shown(self) -> list[str]:
        return self.names


def test_a_handler_is_a_machine_and_the_entity_one_around_them() -> None:
    world = build(Good)
    machine = world.machines["Good.up"]
    assert list(machine.states) == ["num"] and [p.name for p in machine.params] == ["self", "by"]
    assert machine.slots["self"].type_text == "Good" and "self" in machine.states["num"].slots
    around = world.machines["Good"]
    assert list(around.states) == ["idle", "Good.up", "Good.name", "unwind"]
    assert around.starts == ("Good.up", "Good.name", "Good.shown") and around.queue == 1000
    assert world.types.messages["Good.up"].replies == ("Good.up.Returned", "Good.Failed")


class Mangled(Entity, key="id"):
    count: int = 0

    @handler
    async def up(self) -> int:
        return await num(self.__count)


class Super(Entity, key="id"):
    @handler
    async def up(self) -> int:
        super()
        return await num(1)


class Pivots(Entity, key="id"):
    @handler
    async def up(self, s: Saga) -> int:
        s.point_of_no_return()
        return await num(1)


class Rebinds(Entity, key="id"):
    @handler
    async def up(self) -> int:
        self = Rebinds()
        return await num(1)


class Bare(Entity, key="id"):
    @handler
    async def up(self, x) -> int:
        return await num(1)


class NoResult(Entity, key="id"):
    @handler
    async def up(self):
        await num(1)


class Several(Entity, key="id"):
    @handler
    async def up(self, *xs: int) -> int:
        return await num(1)


class Demands(Entity, key="id"):
    count: int

    @handler
    async def up(self) -> int:
        return self.count


class Empty(Entity, key="id"):
    count: int = 0


class Holds(Entity, key="id"):
    model_config = {"arbitrary_types_allowed": True}
    thing: type = int

    @handler
    async def up(self) -> int:
        return 1


class Calls(Entity, key="id"):
    @handler
    async def up(self) -> int:
        return await self.down()

    @handler
    async def down(self) -> int:
        return 1


class Waits(Entity, key="id"):
    @handler
    async def up(self) -> int:
        import asyncio

        await asyncio.sleep(1)
        return 1


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (Mangled, "CP122"), (Super, "CP122"), (Pivots, "CP119"), (Rebinds, "CP122"), (Bare, "CP124"),
        (NoResult, "CP124"), (Several, "CP124"), (Demands, "CP124"), (Empty, "CP124"), (Holds, "CP205"),
        (Calls, "CP101"), (Waits, "CP101"),
    ],
)  # fmt: skip
def test_what_is_no_entity_is_refused(one: Any, code: str) -> None:
    assert code in codes(one)


class Begin(Event, key="id"):
    id: str


@saga(name="Good")
async def twin(s: Saga, e: Begin) -> None:
    await num(1)


def test_a_saga_and_an_entity_of_one_name_are_refused() -> None:
    assert codes(Good, sagas=(twin,)) == ["CP143"]


@saga
async def caller(s: Saga, e: Begin) -> None:
    await Good.at(e.id).nothing()


@saga
async def forgetful(s: Saga, e: Begin) -> None:
    Good.at(e.id).up()


@saga
async def calling(s: Saga, e: Begin) -> None:
    n = await Good.at(e.id).up(by=2)
    names = await s.step(Good.at(e.id).shown(), within="1m")
    await s.sleep("1s")
    print(n, names)


def test_a_call_is_typed_by_its_handler() -> None:
    machine = build(Good, sagas=(calling,)).machines["calling"]
    assert list(machine.states) == ["Good.up", "Good.shown", "sleep"]
    assert machine.slots["n"].type_text == "int" and machine.slots["names"].type_text == "list[str]"


@saga
async def calls_with_an_await(s: Saga, e: Begin) -> int:
    return await Good.at(e.id[: await num(3)]).up(by=await num(2) if e.id else await num(1))


def test_an_awaiting_argument_holds_the_key_of_the_call() -> None:
    machine = build(Good, sagas=(calls_with_an_await,)).machines["calls_with_an_await"]
    assert list(machine.states) == ["num", "num#2", "num#3", "Good.up"]
    assert "str" in {machine.slots[name].type_text for name in machine.states["num#3"].slots}


@pytest.mark.parametrize(("one", "code"), [(caller, "CP101"), (forgetful, "CP117")])
def test_a_call_that_is_none_is_refused(one: Any, code: str) -> None:
    assert code in codes(Good, sagas=(one,))


def test_a_handler_that_is_no_coroutine_and_a_query_that_is_one_are_refused() -> None:
    with pytest.raises(ContrapasError) as caught:

        @handler
        def plain(self) -> int:
            return 1

    assert caught.value.code == "CP124"
    with pytest.raises(ContrapasError) as caught:

        @query
        async def looks(self) -> int:
            return 1

    assert caught.value.code == "CP124"
