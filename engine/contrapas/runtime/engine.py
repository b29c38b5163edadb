"""`Engine`: one app on one log in this process: what `app.lifespan()`, `app.start()` and the worker's command share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from contrapas.author.duration import duration_ms
from contrapas.compiler.lock import load
from contrapas.core.world import World
from contrapas.log import Log
from contrapas.runtime import settings
from contrapas.runtime.build import build, lock_path
from contrapas.runtime.client import Client
from contrapas.runtime.definition import Definition
from contrapas.runtime.open import open_log
from contrapas.runtime.worker import Worker

_logger = logging.getLogger("contrapas.runtime")


def log_url(definition: Definition, url: str | None, configured: settings.Settings) -> str:
    """The log's address: as given, as configured, else the file of the namespace."""
    return url or configured.get("log") or f"sqlite:///.contrapas/{definition.namespace}.db"


class Engine:
    """Log, world, worker and client of one app. The worker works only inside `working()`."""

    def __init__(self, definition: Definition, log: Log, world: World) -> None:
        self.definition = definition
        self.log = log
        self.world = world
        self.worker = Worker(log, definition, world)
        self.client = Client(log, self.worker.setting, worker=self.worker)

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, definition: Definition, url: str | None = None, *, lock: Any = None
    ) -> AsyncGenerator[Engine]:
        """Compile the app, under the lock file beside it, and open its log.

        CompileError with every refusal; DataError CP321 for a lock file that cannot be read; CP801, CP501, CP510.
        """
        configured = settings.load()
        if not definition.topics:
            definition = replace(definition, topics=settings.topic_mappings(configured))
        if definition.registry is None:
            definition = replace(definition, registry=settings.registry_address(configured))
        if (outage := configured.get("outage")) is not None:
            definition = replace(definition, outage_ms=duration_ms(outage, what="outage"))
        if lock is None and (path := lock_path(definition)) is not None:
            lock = load(path)
        world = build(definition, lock=lock)
        log = await open_log(
            log_url(definition, url, configured), definition.namespace, partitions=definition.partitions
        )
        engine = cls(definition, log, world)
        try:
            yield engine
        finally:
            await engine.client.close()
            await log.close()

    @asynccontextmanager
    async def working(self, drain_ms: int = 30_000) -> AsyncGenerator[Worker]:
        """Run the worker for as long as the block lasts. What ended it before is logged then, and raised at the end."""
        work = asyncio.ensure_future(self.worker.run())
        work.add_done_callback(self._ended)
        ready = asyncio.ensure_future(self.worker.ready.wait())
        try:
            await asyncio.wait((work, ready), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            yield self.worker
        finally:
            ready.cancel()
            await self.worker.stop(drain_ms)
            await work

    def _ended(self, work: asyncio.Future[None]) -> None:
        if not work.cancelled() and (why := work.exception()) is not None:
            _logger.error("the worker of %s has ended: %s", self.definition.namespace, why)
