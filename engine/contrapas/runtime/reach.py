"""What the functions of an app can reach by name: called sagas, steps, messages and exceptions, for the registry.

Only names that the code mentions are looked up, in the function's own module and closure; nothing is called.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from contrapas.author.entity import Entity, spec_of
from contrapas.author.event import Command, Event
from contrapas.author.saga import SagaDef
from contrapas.author.step import StepDef


@dataclass(slots=True)
class Reach:
    """Everything found, in the order of the first mention."""

    sagas: list[Any] = field(default_factory=list[Any])
    steps: list[Any] = field(default_factory=list[Any])
    events: list[type[Event]] = field(default_factory=list[type[Event]])
    entities: list[type[Entity]] = field(default_factory=list[type[Entity]])
    exceptions: list[type[BaseException]] = field(default_factory=list[type[BaseException]])


def reach(sagas: Iterable[Any], entities: Iterable[type[Entity]] = ()) -> Reach:
    """From these sagas and entities on."""
    found = Reach()
    for entity in entities:
        _take(found, entity)
    for saga in sagas:
        _take(found, saga)
    return found


def _take(found: Reach, thing: Any) -> None:
    if isinstance(thing, SagaDef):
        if thing not in found.sagas:
            found.sagas.append(thing)
            _look(found, thing.fn)
    elif isinstance(thing, StepDef):
        if thing not in found.steps:
            found.steps.append(thing)
            _look(found, thing.fn)
            if callable(thing.undo):
                _look(found, thing.undo)
    elif isinstance(thing, type):
        if issubclass(thing, Entity):
            if thing not in found.entities and thing is not Entity:
                found.entities.append(thing)
                for call in spec_of(thing).calls.values():
                    _look(found, call.definition.fn)
        elif issubclass(thing, Event):
            if thing not in found.events and thing not in (Event, Command) and thing.__contrapas_key__:
                found.events.append(thing)
        elif (
            issubclass(thing, Exception) and thing.__module__ != "builtins" and thing not in found.exceptions
        ):
            found.exceptions.append(thing)
    elif isinstance(thing, dict | list | tuple):
        for part in _parts(thing):
            if isinstance(part, SagaDef | StepDef):
                _take(found, cast(Any, part))


def _parts(thing: Any) -> Iterable[Any]:
    return thing.values() if isinstance(thing, dict) else thing  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType]


def _look(found: Reach, fn: Any) -> None:
    code = getattr(fn, "__code__", None)
    if not isinstance(code, types.CodeType):
        return
    names = {name for inner in _codes(code) for name in (*inner.co_names, *inner.co_freevars)}
    cells = {
        name: cell.cell_contents
        for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=False)
        if _filled(cell)
    }
    scope: dict[str, Any] = fn.__globals__
    for name in sorted(names):
        thing: Any = cells.get(name, scope.get(name))
        if type(thing) is types.ModuleType:
            for attribute in sorted(names):
                _take(found, vars(thing).get(attribute))
        elif thing is not None:
            _take(found, thing)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
