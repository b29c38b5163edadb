"""The stores behind MODULE:STORE or MODULE:APP, asked from the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from contrapas.cli.program import prepare
from contrapas.cli.verbs.relay import found
from contrapas.core.finding import Finding
from contrapas.errors import ContrapasError, Refused
from contrapas.participant import Store
from contrapas.runtime import find
from contrapas.runtime.memories import check_memory
from contrapas.runtime.settings import Settings
from contrapas.runtime.stores import is_store, stores_of

T = TypeVar("T")


def with_store(target: str, call: Callable[[Store], Awaitable[T]]) -> T:
    """Ask the store that MODULE:STORE names, and close it. Refused CP809: there is none."""

    async def asked() -> T:
        store, _ = found(target)
        try:
            return await call(store)
        finally:
            await store.close()

    return asyncio.run(asked())


def examined(target: str, settings: Settings) -> list[tuple[str, Sequence[Finding]]]:
    """Name and findings of each store: of the one named, or of the app's."""

    async def asked() -> list[tuple[str, Sequence[Finding]]]:
        stores, short = _stores(target, settings)
        found = [(store.name, await _examined(store)) for store in stores]
        return [*found, *(("", [one]) for one in short)]

    return asyncio.run(asked())


def _stores(target: str, settings: Settings) -> tuple[Sequence[Store], list[Finding]]:
    """The stores, and CP805 for each service or step whose inbox forgets too soon."""
    module, name = find.load(target, default="app")
    named: Any = getattr(module, name, None)
    if is_store(named) or not callable(getattr(named, "definition", None)):
        return [found(target)[0]], []
    ready = prepare(target, settings)
    users = [(f"service {s.name}", s.store) for s in ready.definition.services]
    users += [(f"@step {s.name}", s.store) for s in ready.world.types.steps.values()]
    short: list[Finding] = []
    for who, store in users:
        if store is not None:
            try:
                check_memory(store, who, ready.definition.outage_ms)
            except Refused as why:
                short.append(Finding(True, why.code, why.text, why.fix))
    return stores_of(ready.definition, ready.world), short


async def _examined(store: Store) -> Sequence[Finding]:
    try:
        return await store.examine()
    except ContrapasError as error:
        return [Finding(True, error.code, error.text, error.fix, error.place)]
    finally:
        await store.close()
