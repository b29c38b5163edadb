"""The shop through a restart of its worker, in this process, on whatever log it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from contrapas.log import Log
from contrapas.runtime.client import Client
from contrapas.runtime.definition import Definition
from contrapas.runtime.worker import Worker
from sagas.order.saga import OrderPlaced
from tests.runtime.shop import build


def order(key: str) -> OrderPlaced:
    """An order that nothing is wrong with."""
    return OrderPlaced(order_id=key, sku="mug", cents=4200)


async def goes_on(
    opened: Callable[[], AbstractAsyncContextManager[Log]], definition: Definition, *, slow: int = 1
) -> None:
    """Two orders, one before and one after: both are done, and the first is known as a repeat after it. slow: how many times
    as long everything may take."""
    world = build(definition)
    for number in range(2):
        async with opened() as log:
            worker = Worker(log, definition, world)
            running = asyncio.create_task(worker.run())
            await asyncio.wait_for(worker.ready.wait(), 10 * slow)
            client = Client(log, worker.setting, worker=worker)
            told = await client.start("place_order", order(f"o-{number}"), timeout_ms=5_000 * slow)
            assert told.verdict == "applied"
            found = await client.wait(f"place_order/o-{number}", timeout_ms=10_000 * slow)
            assert found.status == "done"
            assert (await client.state("place_order/o-0")).status == "done"
            again = await client.start("place_order", order("o-0"), timeout_ms=5_000 * slow)
            assert (again.verdict, again.outcome) == ("duplicate", "OrderConfirmed")
            await client.close()
            await worker.stop()
            await running
