"""A disk that is really full under a service's tables: it is named, deliveries and steps wait, and go on when there is space."""

from __future__ import annotations

import os
import pwd
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contrapas.errors import Retriable
from contrapas.testing.conformance_store import deliver, message, puts, receipt
from deploy.postgres.server import NEWEST, Missing, Server
from tests.connectors.postgres_store_bench import PostgresBench, SqlBench, make
from tests.connectors.test_postgres_services_faults import (
    COUNT,
    STORE,
    all_once,
    answered,
    commands,
    running,
    serving,
)
from tests.installed import missing
from tests.postgres import Database, execute
from tests.runtime.stores import Effects, letters, quiet, until


class Disk:
    """A file system of two megabytes, as a tablespace."""

    def __init__(self, place: Path, server: Server) -> None:
        self.place = place
        self.server = server
        self.name = f"t_{secrets.token_hex(6)}"
        execute(server.url(), f"create database {self.name}")

    @property
    def space(self) -> str:
        """The tablespace."""
        return self.place.name.replace("-", "_")

    @property
    def database(self) -> Database:
        """Whose tables may lie here."""
        return Database(self.server.url(self.name), self.name, self.server)

    def fill(self) -> None:
        """Until there is no room for one more page."""
        with open(self.place / "ballast", "wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError:
                return

    def free(self) -> None:
        """What an operator does."""
        (self.place / "ballast").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    try:
        with Server(NEWEST) as made:
            yield made.start()
    except Missing as why:
        missing(str(why))


@pytest.fixture
def disk(server: Server) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    place = server.folder / f"small-{secrets.token_hex(4)}"
    place.mkdir()
    owner = pwd.getpwuid(server.folder.stat().st_uid)
    options = f"size=2m,mode=700,uid={owner.pw_uid},gid={owner.pw_gid}"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small disk: {done.stderr.decode().strip()}")
    inner = place / "space"
    inner.mkdir()
    os.chown(inner, owner.pw_uid, owner.pw_gid)
    made = Disk(place, server)
    execute(server.url(), f"create tablespace {made.space} location '{inner}'")
    try:
        yield made
    finally:
        made.free()
        execute(server.url(), f"drop database {made.name} with (force)", f"drop tablespace {made.space}")
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("kind", [PostgresBench, SqlBench], ids=["asyncpg", "sqlalchemy"])
@pytest.mark.parametrize("table", ["business", "contrapas_inbox", "contrapas_outbox"])
async def test_deliveries_wait_for_space_whichever_table_has_none_and_none_is_dead(
    disk: Disk, table: str, kind: Any
) -> None:
    async with make(kind, disk.database)() as bench:
        STORE.inner = await bench.open()
        effects = Effects(bench)
        places = [table]
        if table == "contrapas_outbox":
            rows = await bench.sql(
                "select inhrelid::regclass::text from pg_inherits where inhparent = 'contrapas_outbox'::regclass"
            )
            places = [row[0] for row in rows]
        for one in places:
            await bench.sql(f"alter table {one} set tablespace {disk.space}")
        disk.fill()
        async with running(serving(effects)) as rig:
            worker = rig.workers[-1]
            await rig.log.publish(commands())
            await until(rig, lambda: len(worker.services[0].troubles) == COUNT, seconds=20)
            await quiet(rig, ms=30_000)
            words = "its disk is full (53100)"  # between two attempts: in one it is not known yet
            await until(rig, lambda: any(words in r for r in worker.health().reasons), ms=5, seconds=20)
            assert letters(rig) == [] and answered(rig) == set()
            disk.free()
            await until(rig, lambda: len(answered(rig)) == COUNT or bool(letters(rig)), ms=5, seconds=30)
            assert letters(rig) == []
            await until(rig, lambda: worker.health().colour == "green", ms=5)
            await all_once(effects)
    STORE.inner = None


@pytest.mark.parametrize("table", ["business", "contrapas_inbox"])
async def test_the_error_names_the_disk_and_says_that_nothing_was_written(disk: Disk, table: str) -> None:
    async with make(PostgresBench, disk.database)() as bench:
        store = await bench.open()
        await bench.sql(f"alter table {table} set tablespace {disk.space}")
        disk.fill()
        with pytest.raises(Retriable, match=r"its disk is full \(53100\); nothing was written, free space"):
            await deliver(store, receipt(), puts(bench, "a", "1"), rows=[message("m1")])
        disk.free()
        assert await deliver(store, receipt(), puts(bench, "a", "1"), rows=[message("m1")]) is None
        assert (await bench.get("a"), (await store.status()).outbox) == ("1", 1)
