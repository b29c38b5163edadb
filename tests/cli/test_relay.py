"""`contrapas relay`: what it relays, what it says, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from contrapas import Event
from contrapas.log.sqlite import SqliteLog
from contrapas.participant.sqlite import SqliteStore
from tests.cli.conftest import Ran

MODULE = """
from contrapas import App, Service
from contrapas.participant.sqlite import SqliteStore

store = SqliteStore("desk.db")
desk = Service("desk", store=store)
app = App("{name}")
app.serve(desk)
"""


class Ordered(Event, topic="orders", key="order_id"):
    order_id: str


@pytest.fixture
def desk(here: Path, request: pytest.FixtureRequest) -> str:
    """A module of its own name, since modules are imported once."""
    name = f"desk_{abs(hash(request.node.nodeid)) % 10**9}"
    (here / f"{name}.py").write_text(MODULE.format(name="bureau"))
    return name


async def make(here: Path, rows: int = 0, *, tables: bool = True) -> None:
    (here / ".contrapas").mkdir()
    log = SqliteLog(str(here / ".contrapas" / "bureau.db"), "bureau", 2)
    await log.create_topics({"orders": 2})
    await log.close()
    store = SqliteStore(here / "desk.db")
    if tables:
        await store.prepare()
        for n in range(rows):
            async with store.transaction() as con:
                await store.publish(con, Ordered(order_id=f"o-{n}"))
    await store.close()


async def came(here: Path) -> list[str]:
    log = SqliteLog(str(here / ".contrapas" / "bureau.db"), "bureau", 2)
    found = [r.key.decode() for p in range(2) for r in (await log.read("orders", p, 0))[0]]
    await log.close()
    return sorted(found)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_relays_until_it_is_told_to_stop_and_says_how_far(
    here: Path, desk: str, end: signal.Signals
) -> None:
    asyncio.run(make(here, 3))
    words = here / "words"
    with open(words, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "contrapas", "relay", f"{desk}:store"], cwd=here, stderr=out, stdout=out
        )
    until = time.monotonic() + 30
    while "relaying" not in words.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(end)  # the rows may not have left: they do before it ends
    assert process.wait(20) == 0, words.read_text()
    assert words.read_text().splitlines() == [
        "outbox desk   to sqlite:///.contrapas/bureau.db   namespace bureau",
        "relaying   outbox desk from seq 1, epoch 1",
        "released   3 rows sent, up to seq 3",
    ]
    assert asyncio.run(came(here)) == ["o-0", "o-1", "o-2"]


def test_a_service_stands_for_its_store_and_what_is_none_is_refused(
    here: Path, desk: str, cli: Callable[..., Ran]
) -> None:
    missing = cli("relay", f"{desk}:stor")
    assert missing.code == 3 and "CP809" in missing.err and f"{desk}:store" in missing.err
    from contrapas.cli.verbs.relay import found, namespace_of

    store, module = found(f"{desk}:desk")
    assert store is module.store and namespace_of(module, store) == "bureau"


def test_without_a_log_or_tables_it_says_what_is_missing(
    here: Path, desk: str, cli: Callable[..., Ran]
) -> None:
    no_log = cli("relay", f"{desk}:store")
    assert no_log.code in (3, 5) and ".contrapas/bureau.db" in no_log.err
    assert not os.path.exists(here / ".contrapas" / "bureau.db"), "a relay makes no log"
    asyncio.run(make(here, tables=False))
    no_tables = cli("relay", f"{desk}:store")
    assert no_tables.code == 6 and "store.prepare()" in no_tables.err


def test_a_module_without_an_app_needs_the_namespace(here: Path, cli: Callable[..., Ran]) -> None:
    (here / "alone_store.py").write_text(
        'from contrapas.participant.sqlite import SqliteStore\nstore = SqliteStore("desk.db")\n'
    )
    ran = cli("relay", "alone_store")
    assert ran.code == 2 and "--namespace" in ran.err
