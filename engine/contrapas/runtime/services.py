"""Services in our workers: each reads its topics in its own group, per key in order, different keys at the same time.

A position moves only behind the oldest delivery that is still unfinished, and a delivery is finished when what it emits
is known to be published, or lies committed in its store's outbox; so it runs at least once, and everything it emits has an
id derived from the delivery. `attempts.py` says what one is without a store, `transactions.py` with one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from contrapas.codec.schemas import Wanted
from contrapas.core.lane import Draft
from contrapas.errors import Fenced, Indeterminate, Retriable
from contrapas.failpoints import NAMES, failpoint
from contrapas.runtime.attempts import Attempts
from contrapas.runtime.clock import pause
from contrapas.runtime.deliveries import Reader
from contrapas.runtime.egress import Sender
from contrapas.runtime.reaction import Handler
from contrapas.runtime.transactions import StoredAttempts

if TYPE_CHECKING:
    from contrapas.participant import Store
    from contrapas.runtime.worker import Worker

T = TypeVar("T")
NAMES["service.handled"] = "a reaction has run, nothing it emits is published"
NAMES["service.published"] = "what a reaction emits is published, its position is not saved"
CONCURRENT = 128
SAVE_MS = 200
LET_GO_S = 2


class Runner:
    """One service in one worker."""

    def __init__(self, worker: Worker, service: Any) -> None:
        self.worker = worker
        self.log = worker.log
        self.name: str = service.name
        self.namespace = worker.setting.namespace
        self.group = f"{self.namespace}.service.{service.name}"
        types = worker.setting.world.types
        self.handlers: dict[str, Handler] = {}
        for cls, reaction in service.reactions.items():
            message = types.message_of(cls)
            self.handlers[message.name] = Handler(
                reaction, message, worker.definition.provided, service.store
            )
        self.types = types
        self.doors = worker.setting.doors
        self.store: Store | None = service.store
        self.attempts: Attempts = Attempts(self) if self.store is None else StoredAttempts(self, self.store)
        self.troubles: dict[object, str] = {}
        """Of deliveries that wait for their database: what it said."""
        self.slots = asyncio.Semaphore(CONCURRENT)
        self.outgoing: deque[tuple[list[Draft], Callable[[], None]]] = deque()
        self.send = asyncio.Event()
        self.positions: dict[tuple[str, int], int] = {}
        self.unsaved: dict[tuple[str, int], int] = {}
        self.egress = Sender(self.log, self.namespace, worker.clock, worker.chance)
        self.closing = False
        """Nothing new is read; what is in work ends."""
        self.tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.readers: set[Reader] = set()

    async def run(self) -> None:
        """Follow the group's assignments until cancelled."""
        lanes = tuple(sorted({h.message.topic or "in" for h in self.handlers.values()}))
        if not lanes:
            return
        membership = self.log.membership(self.group, lanes)
        readers = self.tasks
        besides = [self.worker.spawn(self._publish()), self.worker.spawn(self._save())]
        try:
            async for slots in membership.assignments():
                if self.closing:
                    continue
                for slot in [s for s in readers if s not in slots]:
                    task = readers.pop(slot)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                await self._save_now()
                self.positions = dict(await self.patient(lambda: self.log.positions(self.group)))
                for slot in sorted(slots):
                    if slot not in readers:
                        readers[slot] = self.worker.spawn(Reader(self, *slot).run())
        finally:
            for task in (*readers.values(), *besides):
                task.cancel()
            await asyncio.gather(*readers.values(), *besides, return_exceptions=True)
            await membership.leave()

    async def drain(self, drain_ms: float) -> None:
        """Read nothing more, let what is in work end for a while, and save how far that was. What has not ended by then is
        given up as by a crash: it comes again to whoever reads next."""
        self.closing = True
        for task in self.tasks.values():
            task.cancel()
        until = self.worker.clock.ms() + drain_ms
        while any(r.open for r in self.readers) and self.worker.clock.ms() < until:
            await pause(self.worker.clock, 10)
        if late := [task for reader in self.readers for task in reader.tasks]:
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=LET_GO_S)
        await self._save_now()

    def emit(self, drafts: list[Draft], then: Callable[[], None]) -> None:
        """Have drafts published, then call back."""
        if not drafts:
            then()
            return
        self.outgoing.append((drafts, then))
        self.send.set()

    async def _publish(self) -> None:
        while True:
            self.send.clear()
            if not self.outgoing:
                await self.send.wait()
                continue
            batch = list(self.outgoing)
            self.outgoing.clear()
            drafts = [d for some, _ in batch for d in some]
            failpoint("service.handled")
            if refused := await self.egress.send(drafts):
                letters = self.egress.letters(refused, self.worker.log_ms())
                await self.egress.send(letters)
            failpoint("service.published")
            for _, then in batch:
                then()

    async def _save(self) -> None:
        while True:
            await pause(self.worker.clock, SAVE_MS)
            await self._save_now()

    async def _save_now(self) -> None:
        if self.unsaved:
            at, self.unsaved = self.unsaved, {}
            try:
                await self.log.save_positions(self.group, at)
            except (Retriable, Indeterminate, Fenced):
                self.unsaved = {**at, **self.unsaved}

    async def fetching(self, read: Callable[[], T]) -> T:
        """Read a message, after its schema has been fetched if it is not known yet."""
        while True:
            try:
                return read()
            except Wanted as why:
                await self.worker.desk.want(why.ref, lambda: False)

    async def patient(self, look: Callable[[], Awaitable[T]]) -> T:
        """Look something up on the log, as often as it takes until it answers."""
        while True:
            try:
                return await look()
            except Retriable:
                await pause(self.worker.clock, 50 + 100 * self.worker.chance())
