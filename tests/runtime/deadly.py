"""An app with a step that ends its process, each time anew, beside one that does its work."""

from __future__ import annotations

import asyncio
import os
import sys

from contrapas.app import App
from contrapas.author.event import Event
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.log.sqlite import SqliteLog
from contrapas.runtime.build import build
from contrapas.runtime.worker import Worker


class Asked(Event, topic="deadly.events", key="id"):
    id: str
    how: str


@step(undo=None)
async def ends(how: str) -> None:
    if how == "os":
        os._exit(3)
    if how == "sys":
        sys.exit(3)


@step(undo=None)
def ends_in_a_thread(how: str) -> None:
    if how == "os-thread":
        os._exit(3)
    if how == "sys-thread":
        sys.exit(3)


@saga
async def deadly(s: Saga, asked: Asked) -> None:
    await ends(asked.how)
    await ends_in_a_thread(asked.how)


APP = App("deadly")
APP.orchestrate(deadly)


async def main(path: str) -> None:
    """Work until something ends the process."""
    definition = APP.definition()
    worker = Worker(SqliteLog(path, "deadly", 1), definition, build(definition))
    running = asyncio.create_task(worker.run())
    await worker.ready.wait()
    await running


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
