"""`exercise_store`: what every participant's store must do, one suite for all databases.

    @pytest.mark.parametrize("case", exercise_store(make_bench, "parallel"), ids=str)
    async def test_my_store(case):
        await case()

A bench gives the suite an empty database with the tables of contrapas, a way to write a business row, and as far as the
database allows levers to pull. Cases that need what a bench does not have are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol

from contrapas.author.event import Event
from contrapas.errors import ContrapasError
from contrapas.participant import Known, Receipt, Store, Tx
from contrapas.participant.rows import Outgoing, Row, derived_id, digest

StoreFeature = Literal["parallel", "clock", "faults", "kill", "bare"]
"""Several transactions at once; age can be made; calls can fail; a process can die; a database without our tables."""


class StoreBench(Protocol):
    """One empty database under test."""

    async def open(self) -> Store[Any]:
        """A store of its own, as another process would have; closed with the bench. Its tables are there."""
        ...

    def transaction(self, store: Store[Any]) -> AbstractAsyncContextManager[Any]:
        """A transaction as business code would begin it; what it gives is what `store.publish` takes."""
        ...

    async def put(self, session: Any, key: str, value: str) -> None:
        """Write a business row in a transaction, holding it until that ends."""
        ...

    async def get(self, key: str) -> str | None:
        """The business row as everybody sees it."""
        ...

    async def depose(self, store: Store[Any]) -> None:
        """Let its outbox be claimed although its relay lives, without the store noticing: end its session, let time pass."""
        ...

    async def age(self, ms: int) -> None:
        """Make everything that is stored so much older (feature `clock`)."""
        ...

    def fault(self, call: str, kind: str) -> None:
        """Make the next call end so (feature `faults`).

        Calls: `begin take finish commit`. Kinds: `retriable`, nothing was written; `lost-before`, not written and not
        answered; `lost-after`, written and not answered; `refused`, the database is read-only.
        """
        ...

    async def kill(self, store: Store[Any]) -> None:
        """The process of this store dies, with what it has open (feature `kill`)."""
        ...

    async def bare(self) -> Store[Any]:
        """A store over a database without our tables (feature `bare`)."""
        ...


MakeStoreBench = Callable[[], AbstractAsyncContextManager[StoreBench]]
Body = Callable[[StoreBench], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StoreCase:
    """One thing a store must do."""

    group: str
    name: str
    needs: frozenset[StoreFeature]
    body: Body
    make: MakeStoreBench | None = None

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"

    async def __call__(self) -> None:
        assert self.make is not None
        async with self.make() as bench:
            await self.body(bench)


CASES: list[StoreCase] = []


def case(group: str, *needs: StoreFeature) -> Callable[[Body], Body]:
    """Add a case to a group; the function's name is the sentence."""

    def add(body: Body) -> Body:
        name = getattr(body, "__name__", "").replace("_", " ")
        CASES.append(StoreCase(group, name, frozenset(needs), body))
        return body

    return add


def exercise_store(make: MakeStoreBench, *features: StoreFeature) -> list[StoreCase]:
    """The cases that a bench with these features runs, in the order of the groups."""
    for part in ("handler", "failure", "undo", "outbox", "keeping"):
        import_module(f"contrapas.testing.conformance_store_{part}")
    have = frozenset(features)
    return [StoreCase(c.group, c.name, c.needs, c.body, make) for c in CASES if c.needs <= have]


# ---- what the cases are written with


class Noted(Event, topic="store.notes", key="key"):
    """What business code publishes here."""

    key: str
    n: int = 0


class Broke(Exception):
    """What a handler raises here."""


def receipt(id: str = "c-1", value: bytes = b"{}", **other: str) -> Receipt:
    """Of a delivery to `payments`."""
    found = Receipt("shop", "payments", "/contrapas/shop/place_order", id, digest("Charge", "json", value))
    return found._replace(**other)  # type: ignore[arg-type]


def message(name: str, key: str = "k", payload: bytes = b'{"a":1}') -> Outgoing:
    """A row to write."""
    return Outgoing(derived_id(name), "store.notes", key, "Noted", payload, "/services/shop/payments")


Handler = Callable[[Tx[Any]], Awaitable[None]]


async def deliver(
    store: Store[Any],
    r: Receipt,
    handle: Handler | None = None,
    *,
    undoes: str = "",
    reply: bytes | None = b'{"ok":1}',
    rows: Sequence[Outgoing] = (),
) -> Known | None:
    """One attempt of a delivery, as the runtime makes it."""
    async with store.begin(r, undoes=undoes) as tx:
        known = await tx.take(r, undoes=undoes)
        if known is not None:
            return known
        if handle is not None:
            await handle(tx)
        await tx.finish(r, reply=reply, reply_type="Charged", rows=rows)
    return None


def puts(bench: StoreBench, key: str, value: str) -> Handler:
    """A handler that writes one business row."""

    async def handle(tx: Tx[Any]) -> None:
        await bench.put(tx.session, key, value)

    return handle


async def relayed(store: Store[Any], last: int = 0, *, limit: int = 7) -> list[Row]:
    """All that the outbox shows now, with small pages."""
    upto = await store.outbox.upto(last, wait_ms=150)
    found: list[Row] = []
    while last < upto:
        rows = await store.outbox.page(last, upto, limit)
        found += rows
        last = rows[-1].seq if len(rows) == limit else upto
    return found


async def held_back(store: Store[Any], last: int = 0) -> list[Row]:
    """The same without waiting."""
    upto = await store.outbox.upto(last, wait_ms=0)
    return list(await store.outbox.page(last, upto, 1000)) if upto > last else []


async def seen(store: Store[Any]) -> list[Row]:
    """What a page gives that heeds no barrier."""
    return list(await store.outbox.page(0, 1 << 60, 1000))


async def waits(task: asyncio.Task[Any]) -> None:
    """A task must still be waiting after a moment."""
    for _ in range(20):
        await asyncio.sleep(0.005)
        assert not task.done(), f"it did not wait: {task.result()!r}"


async def raises(kind: type[BaseException], call: Awaitable[object], *codes: str) -> BaseException:
    """Await a call that must raise; gives the error."""
    try:
        got = await call
    except kind as error:
        assert not codes or (isinstance(error, ContrapasError) and error.code in codes), repr(error)
        return error
    except Exception as other:
        raise AssertionError(f"{other!r} instead of {kind.__name__}") from other
    raise AssertionError(f"{got!r} instead of {kind.__name__}")
