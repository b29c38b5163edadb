"""The stores behind MODULE:STORE or MODULE:APP, asked from the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from contrapas.cli.program import prepare
from contrapas.cli.verbs.relay import found
from contrapas.core.finding import Finding
from contrapas.errors import ContrapasError
from contrapas.participant import Store
from contrapas.runtime import find
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
        return [(store.name, await _examined(store)) for store in _stores(target, settings)]

    return asyncio.run(asked())


def _stores(target: str, settings: Settings) -> Sequence[Store]:
    module, name = find.load(target, default="app")
    named: Any = getattr(module, name, None)
    if is_store(named) or not callable(getattr(named, "definition", None)):
        return [found(target)[0]]
    ready = prepare(target, settings)
    return stores_of(ready.definition, ready.world)


async def _examined(store: Store) -> Sequence[Finding]:
    try:
        return await store.examine()
    except ContrapasError as error:
        return [Finding(True, error.code, error.text, error.fix, error.place)]
    finally:
        await store.close()
