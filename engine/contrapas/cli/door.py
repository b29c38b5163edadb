"""The doors of a namespace for the command line: as `runtime.client`, without the user's module.

What is sent is not checked here; the owner of the partition checks it and says so in its answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from contrapas.cli.lanes import open_file, url_of
from contrapas.core.correlate import routes_of
from contrapas.core.decode import Doors
from contrapas.core.world import MessageType, StepType, World
from contrapas.errors import BugError, DataError
from contrapas.log import Log
from contrapas.runtime.batch import Setting
from contrapas.runtime.client import Client, Told
from contrapas.runtime.open import open_log
from contrapas.runtime.settings import Settings


class NoTypes:
    """A registry without types: nothing is decoded on this side of the door."""

    messages: Mapping[str, MessageType] = {}
    steps: Mapping[str, StepType] = {}

    def message_of(self, cls: type, /) -> MessageType:
        """There is none."""
        raise DataError("CP402", f"{cls.__name__} is not known here")

    def dump_exception(self, exc: BaseException, /) -> str:
        """Never asked for."""
        raise BugError("CP901", "the command line keeps no exceptions")

    def load_exception(self, text: str, /) -> BaseException:
        """Never asked for."""
        raise BugError("CP901", "the command line keeps no exceptions")


class Door(Client):
    """A client that sends bytes under the name of a type."""

    async def tell(
        self,
        instance: str,
        type_name: str,
        value: bytes,
        kind: str,
        *,
        event_id: str = "",
        timeout_ms: int = 0,
    ) -> Told:
        """Send a start or signal; with a time-out, wait for the owner's answer."""
        message = MessageType(name=type_name, cls=None, topic="", key="")
        return await self._tell(instance, message, value, kind, event_id, timeout_ms)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[Door]:
    """A door to the log of this command line; the log must exist."""
    async with seam(settings) as (log, namespace):
        world = World(namespace=namespace, machines={}, types=NoTypes(), modes={}, ambient=_nothing)
        doors = Doors(types=world.types, partitions=log.partitions)
        setting = Setting(
            namespace=namespace,
            world=world,
            routes=routes_of(world),
            doors=doors,
            caps=log.caps,
            writer="cli",
        )
        door = Door(log, setting)
        try:
            yield door
        finally:
            await door.close()


@asynccontextmanager
async def seam(settings: Settings) -> AsyncGenerator[tuple[Log, str]]:
    """The log itself, for writing, and its namespace."""
    with open_file(settings) as file:
        namespace = file.namespace
    log = await open_log(url_of(settings), namespace, make=False)
    try:
        yield log, namespace
    finally:
        await log.close()


def _nothing(machine: Any) -> tuple[Any, ...]:
    return ()
