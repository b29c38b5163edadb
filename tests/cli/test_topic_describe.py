import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran

Cli = Callable[..., Ran]


def test_a_topic_is_described_with_its_partitions_and_size(shop: Path, cli: Cli) -> None:
    ran = cli("topic", "describe", "payments.commands")
    assert ran.code == 0, ran.err
    head, *rest = ran.out.splitlines()
    assert head.startswith("payments.commands   2 partitions   2 records   ") and " B   last " in head
    assert "  types     ChargeCard" in rest
    assert "  used by   (no saga reads or writes it)" in rest
    assert next(line.split() for line in rest[-3:]) == ["PART", "FROM", "TO", "RECORDS"]
    found = json.loads(cli("topic", "describe", "payments.commands", "-o", "json").out)
    assert sum(p["records"] for p in found["partitions"]) == found["records"] == 2
    assert found["bytes"] > 0 and found["settings"] == {} and found["groups"] == []


def test_an_unknown_topic_is_not_found_with_the_nearest(shop: Path, cli: Cli) -> None:
    ran = cli("topic", "describe", "payments.command")
    assert ran.code == 3 and "the nearest is 'payments.commands'" in ran.err


def test_who_uses_it_is_what_a_worker_noted(here: Path, cli: Cli) -> None:
    from contrapas.log.sqlite import SqliteLog
    from contrapas.runtime.build import build
    from contrapas.runtime.worker import Worker
    from sagas.order.saga import app

    (here / ".contrapas").mkdir()

    async def work() -> None:
        log = SqliteLog(here / ".contrapas" / "shop.db", "shop", 2)
        worker = Worker(log, app.definition(), build(app.definition()))
        task = asyncio.create_task(worker.run())
        await worker.ready.wait()
        await worker.stop(100)
        await asyncio.gather(task, return_exceptions=True)
        await log.close()

    asyncio.run(work())
    commands = cli("topic", "describe", "payments.commands").out
    assert "place_order sends ChargeCard" in commands and "place_order sends RefundCard" in commands
    assert "ChargeCard (key order_id)" in commands
    orders = json.loads(cli("topic", "describe", "orders.events", "-o", "json").out)
    assert {(u["how"], u["type"]) for u in orders["used_by"]} == {
        ("starts", "OrderPlaced"),
        ("ends", "OrderConfirmed"),
        ("ends", "OrderRejected"),
    }
    assert "place_order waits for CardCharged" in cli("topic", "describe", "payments.events").out


@pytest.mark.parametrize("form", ["jsonl", "id", "wide"])
def test_every_form_prints(shop: Path, cli: Cli, form: str) -> None:
    ran = cli("topic", "describe", "shop.in", "-o", form)
    assert ran.code == 0 and "shop.in" in ran.out
