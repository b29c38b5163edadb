"""The stores of an app: those of its services, and those whose session a step or a reaction takes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from contrapas.author.annotations import annotations_of
from contrapas.author.service import mark_of, store_of
from contrapas.core.world import World
from contrapas.errors import Indeterminate, Refused, Retriable, Unreachable
from contrapas.participant import Store
from contrapas.runtime.definition import Definition

_logger = logging.getLogger("contrapas.runtime")
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


async def examine(stores: Iterable[Store]) -> None:
    """Refused, with what keeps a worker from starting on a store. A database that is away is no such thing: what needs it
    waits for it."""
    for store in stores:
        try:
            findings = await store.examine()
        except (Retriable, Indeterminate, Unreachable, OSError) as why:
            _logger.warning("store %s cannot be examined yet: %s", store.name, why)
            continue
        for one in findings:
            if one.refused and one.code not in ("CP501", "CP805"):  # of CP805 the worker's own sum decides
                raise Refused(one.code, one.text, fix=one.fix, place=one.place)
            _logger.warning("store %s: %s %s", store.name, one.code, one.text)


def _asked(fn: Callable[..., Any]) -> Iterator[Any]:
    """Whose session the parameters of a function depend on."""
    try:
        kinds = annotations_of(fn)
    except NameError:
        return  # said by whoever needs the annotation
    for kind in kinds.values():
        if (mark := mark_of(kind)) is not None:
            yield store_of(mark)
