"""Topics in a database, to be read and nothing else: every transaction of these connections is one that cannot write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from contrapas.errors import LogError
from contrapas.log import Lane, Record, Topic
from contrapas_postgres import tables
from contrapas_postgres.connections import Connection, Server, close
from contrapas_postgres.explain import FAILURES, explain
from contrapas_postgres.log import PostgresLog

_SET: Final = "select set_config('default_transaction_read_only', 'on', false)"


class ReadingServer(Server):
    """A server whose connections refuse every write, whoever asks."""

    async def connect(self) -> Connection:
        conn = await super().connect()
        try:
            await conn.execute(_SET)
        except FAILURES as why:
            conn.terminate()
            raise explain(why, self.place, sent=False) from why
        return conn


class PostgresTopics:
    """The reading side of `PostgresLog` alone."""

    def __init__(self, log: PostgresLog) -> None:
        self._log = log
        self.place = log.place

    async def topic(self, lane: Lane) -> Topic | None:
        """Its id and partition count; None when it does not exist."""
        return await self._log.topic(lane)

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        """[start, end)."""
        return await self._log.bounds(lane, partition)

    async def read(
        self,
        lane: Lane,
        partition: int,
        offset: int,
        *,
        max_records: int = 1000,
        max_bytes: int = 4 << 20,
        wait_ms: int = 0,
    ) -> tuple[Sequence[Record], int]:
        """As `Log.read`."""
        return await self._log.read(
            lane, partition, offset, max_records=max_records, max_bytes=max_bytes, wait_ms=wait_ms
        )

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        """First offset with a time at or after the given one; the end if there is none."""
        return await self._log.offset_at(lane, partition, timestamp_ms)

    async def close(self) -> None:
        """Let the connections go."""
        await self._log.close()


async def reading(url: str, namespace: str) -> PostgresTopics:
    """Topics of a namespace. LogError CP505 without its tables; otherwise as the server refuses."""
    server = ReadingServer(url)
    conn = await server.connect()
    try:
        await tables.check_version(conn, server.place)
        found = await tables.marks(conn, namespace)
        if found is None:
            fix = f"contrapas topic create --log '{server.place}' --namespace {namespace} --apply"
            raise LogError(
                "CP505", f"there are no tables of namespace {namespace}", fix=fix, place=server.place
            )
        await tables.check_marks(conn, found, namespace, None, server.place)
    except FAILURES as why:
        raise explain(why, server.place, sent=False) from why
    finally:
        await close(conn)
    return PostgresTopics(PostgresLog(server, namespace, int(found["partitions"]), found["id"]))
