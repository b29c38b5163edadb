"""A process that writes outbox rows in jittered transactions until it is killed: `python -m … URL NAME`."""

from __future__ import annotations

import asyncio
import random
import sys

from contrapas.testing.conformance_store import message, receipt
from contrapas_postgres.store import PostgresStore

KEYS = 4


async def main(url: str, name: str) -> None:
    """Six writers; the row of a key is locked first, and its count goes into the message."""
    store = PostgresStore(url)
    chance = random.Random(name)

    async def writes(writer: int) -> None:
        for n in range(100_000):
            k = chance.randrange(KEYS)
            async with store.begin() as tx:
                await asyncio.sleep(chance.random() * 0.004)
                row = await tx.session.fetchrow(
                    "update business set value = (value::int + 1)::text where key = $1 returning value",
                    f"k{k}",
                )
                assert row is not None
                id = f"{name}/{writer}/{n}"
                r = receipt(id)
                await tx.take(r)
                out = message(id, f"k{k}", b'{"n":%d}' % int(row[0]))
                await tx.finish(r, reply=None, reply_type="", rows=[out])
                await asyncio.sleep(chance.random() * 0.006)

    print("writing", flush=True)
    await asyncio.gather(*(writes(n) for n in range(6)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
