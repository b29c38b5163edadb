"""The stores of an app: those of its services, and those whose session a step or a reaction takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from contrapas.author.annotations import annotations_of
from contrapas.author.service import Depends
from contrapas.core.world import World
from contrapas.participant import Store
from contrapas.runtime.definition import Definition

_SEAM: Final = ("name", "begin", "publish", "outbox", "examine", "close")


def stores_of(definition: Definition, world: World) -> tuple[Store, ...]:
    """Each of them once, in the order of services, reactions and steps."""
    found: dict[int, Store] = {}

    def take(store: Any) -> None:
        if is_store(store):
            found.setdefault(id(store), store)

    for service in definition.services:
        take(service.store)
        for reaction in service.reactions.values():
            for store in _asked(reaction.fn):
                take(store)
    for step in world.types.steps.values():
        for store in _asked(step.fn):
            take(store)
    return tuple(found.values())


def is_store(value: Any) -> bool:
    """It has what the seam asks for, and is no class."""
    return not isinstance(value, type) and all(hasattr(value, name) for name in _SEAM)


def _asked(fn: Callable[..., Any]) -> Iterator[Any]:
    """Whose session the parameters of a function depend on."""
    try:
        kinds = annotations_of(fn)
    except NameError:
        return  # said by whoever needs the annotation
    marks = [mark for kind in kinds.values() for mark in getattr(kind, "__metadata__", ())]
    marks += [p.default for p in inspect.signature(fn).parameters.values()]
    for mark in marks:
        if isinstance(mark, Depends):
            yield getattr(cast(Any, mark).dependency, "__self__", None)
