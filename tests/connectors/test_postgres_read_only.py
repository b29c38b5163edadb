"""`dev --read-only` on a log in PostgreSQL: its topics are followed over connections that cannot write."""

from __future__ import annotations

from pathlib import Path

import pytest

from contrapas.errors import ContrapasError
from contrapas.log import Draft
from contrapas_postgres import connector
from tests.connectors.test_kafka_read_only import following
from tests.connectors.test_postgres_command_line import ROOT, contrapas
from tests.postgres import Database

HEADERS = (
    ("ce_specversion", b"1.0"),
    ("ce_source", b"/shop"),
    ("ce_type", b"OrderPlaced"),
    ("content-type", b"application/json"),
)


async def test_its_topics_are_followed_and_every_table_is_as_before(
    tmp_path: Path, postgres: Database
) -> None:
    (tmp_path / "shop.py").write_text((ROOT / "sagas/order/saga.py").read_text())
    log = await connector.open(postgres.url, "shop", partitions=2, make=True)
    await log.create_topics({"orders.events": 2})
    with following(tmp_path, postgres.url) as dev:
        dev.until("ready")
        body = b'{"order_id":"o-1","sku":"mug","cents":1}'
        await log.publish([Draft("orders.events", -1, b"o-1", body, (*HEADERS, ("ce_id", b"1")))])
        dev.until("o-1  would send ChargeCard to payments.commands")
        said = dev.end()
    assert "payments.events" in said and "is not there: nothing comes from it" in said
    assert "1 begun" in said
    assert [await log.bounds("orders.events", p) for p in range(2)].count((0, 1)) == 1
    assert [await log.bounds(lane, p) for lane in ("in", "log") for p in range(2)] == [(0, 0)] * 4
    assert await log.positions("shop.workers") == {}
    await log.close()


async def test_a_connection_of_the_reading_side_cannot_write(postgres: Database) -> None:
    log = await connector.open(postgres.url, "shop", partitions=2, make=True)
    await log.create_topics({"orders.events": 1})
    await log.close()
    reading = await connector.reading(postgres.url, "shop")
    inner = reading._log  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(ContrapasError, match="read-only"):
        await inner.publish([Draft("orders.events", 0, b"k", b"v")])
    assert await reading.bounds("orders.events", 0) == (0, 0)
    await reading.close()


def test_a_namespace_without_tables_and_a_server_that_is_gone(tmp_path: Path, postgres: Database) -> None:
    (tmp_path / "shop.py").write_text((ROOT / "sagas/order/saga.py").read_text())
    words = ("dev", "shop.py:app", "--read-only", "--port", "0", "--log")
    empty = contrapas(tmp_path, *words, postgres.url)
    assert empty.returncode == 5 and "CP505  there are no tables of namespace shop" in empty.stderr
    gone = contrapas(tmp_path, *words, "postgresql://127.0.0.1:1/none")
    assert gone.returncode == 5 and "CP501" in gone.stderr and len(gone.stderr.splitlines()) <= 6
