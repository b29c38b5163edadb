"""Three services with three databases under fire: transfers keep coming while workers, services with their relays, and
PostgreSQL itself are killed at random. In the end the money is all there, and every transfer done once or fully undone.

Beside the relay in each service runs one as a process of its own, and is killed as well.

python tests/scenarios/clearing.py --seconds 600                    # the long form
python tests/scenarios/clearing.py --seconds 600 --log postgres     # the same server holds the log, too
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import asyncpg

from contrapas.errors import Indeterminate, Retriable
from contrapas.runtime.engine import Engine
from contrapas_postgres import PostgresStore, connector
from deploy.postgres.server import Server
from sagas.clearing.saga import TransferAsked
from tests.scenarios.supervisor import ROOT, Supervisor, newest, unfinished

SAGA = "sagas/clearing/saga.py:app"
RELAY = "relay"
PLACES = ("north", "south", "office")
TABLES = ROOT / "sagas/clearing/tables.sql"
ACCOUNTS, CENTS = 30, 20_000
QUIET_S = 180.0
ROUNDS = 6
"""At least, however slow the machine is."""
DATABASE = "postgresql"
"""What is killed when PostgreSQL's turn comes."""


@dataclass(slots=True)
class Verdict:
    """What the databases and the log say in the end."""

    started: int
    done: int
    refused: int
    faults: list[str]
    kills: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0

    @property
    def exact(self) -> bool:
        """Nothing lost, nothing twice, nothing half."""
        return not self.faults and self.done + self.refused == self.started


class Clearing:
    """A server with the three databases, two workers for the saga, for each service a process and a relay besides."""

    def __init__(self, folder: Path, server: Server, log: str = "sqlite") -> None:
        """log: `sqlite`, a file in the folder; `postgres`, the server itself."""
        self.server = server
        self.folder = folder
        self.url = {place: server.url(place) for place in PLACES}
        self.env = {f"{place.upper()}_DB": url for place, url in self.url.items()}
        self.workers = Supervisor(SAGA, folder, self.env)
        self.services = {
            place: Supervisor(f"sagas/clearing/services.py:{place}_app", folder, self.env) for place in PLACES
        }
        self.relays: dict[str, subprocess.Popen[bytes]] = {}
        self.on_server = log == "postgres"
        if self.on_server:
            for under in (self.workers, *self.services.values()):
                under.url = server.url()

    async def prepare(self) -> None:
        """Databases, tables, accounts; every tenth of the south is closed."""
        if self.on_server:
            await (await connector.open(self.server.url(), "giro", partitions=8, make=True)).close()
        root = await asyncpg.connect(self.server.url())
        for place in PLACES:
            await root.execute(f"create database {place}")
        await root.close()
        for place in PLACES:
            con = await asyncpg.connect(self.url[place])
            await con.execute(TABLES.read_text(encoding="utf-8"))
            await con.executemany(
                "insert into account values ($1, $2, $3)",
                [(f"a{n}", CENTS, place != "south" or n % 10 != 9) for n in range(ACCOUNTS)],
            )
            await con.close()
            store = PostgresStore(self.url[place], name=place)
            await store.prepare()
            await store.close()

    def begin(self) -> None:
        """Start all of them; returns once workers and services are ready."""
        started = [self.workers.start(wait=False) for _ in range(2)]
        started += [service.start(wait=False) for service in self.services.values()]
        for worker in started:
            worker.ready()
        for place in PLACES:
            self.relay(place)

    def relay(self, place: str) -> None:
        """Start a place's relay by the command; one that runs is killed first."""
        if (old := self.relays.get(place)) is not None:
            old.kill()
            old.wait()
        words = ("relay", f"sagas/clearing/services.py:{place}_store", "--log", self.workers.url)
        with open(self.folder / "relays.log", "ab") as said:
            self.relays[place] = subprocess.Popen(
                [sys.executable, "-m", "contrapas", *words, "--namespace", "giro"],
                cwd=ROOT,
                env={**os.environ, **self.env},
                stdout=said,
                stderr=said,
            )

    def close(self) -> None:
        """End them all."""
        for process in self.relays.values():
            process.kill()
            process.wait()
        for under in (self.workers, *self.services.values()):
            under.close()

    def strike(self, chance: random.Random) -> list[str]:
        """Kill up to three of them at the same time, and start them again; what they were."""
        said: list[str] = []
        for victim in chance.sample([SAGA, SAGA, *PLACES, RELAY, DATABASE], chance.choice((1, 1, 2, 3))):
            if victim == DATABASE:
                self.server.kill()
                time.sleep(chance.uniform(0, 0.5))
                self.server.start()
            elif victim == RELAY:
                self.relay(chance.choice(PLACES))
            else:
                _replace(self.workers if victim == SAGA else self.services[victim], chance)
            said.append("worker" if victim == SAGA else victim)
        self.revive()
        return said

    def revive(self) -> None:
        """Start again what found no database at its start, and has ended."""
        for place, process in self.relays.items():
            if process.poll() is not None:
                self.relay(place)
        for under, count in ((self.workers, 2), *((service, 1) for service in self.services.values())):
            _bury(under)
            for _ in range(count - len(under.workers)):
                under.start(wait=False)


def _replace(under: Supervisor, chance: random.Random) -> None:
    _bury(under)
    if under.workers:
        chance.choice(under.workers).kill()
        _bury(under)
    under.start(wait=False)


def _bury(under: Supervisor) -> None:
    for worker in [w for w in under.workers if w.process.poll() is not None]:
        under.workers.remove(worker)
        if worker.process.stdout is not None and not worker.process.stdout.closed:
            worker.wait()


async def start_all(engine: Engine, fresh: list[TransferAsked]) -> None:
    """Until the log has acknowledged them: what is asked for again is the same transfer."""
    while True:
        try:
            await engine.client.start_many("transfer", fresh)
            return
        except (Retriable, Indeterminate):
            await asyncio.sleep(0.1)


def transfers(chance: random.Random, count: int, prefix: str) -> list[TransferAsked]:
    """Random transfers; some ask for too much, some go to closed accounts."""
    return [
        TransferAsked(
            transfer_id=f"{prefix}{number}",
            payer=f"a{chance.randrange(ACCOUNTS)}",
            payee=f"a{chance.randrange(ACCOUNTS)}",
            cents=chance.randrange(1, 4_000),
        )
        for number in range(count)
    ]


async def under_fire(
    folder: Path, server: Server, *, seconds: float, seed: int, log: str = "sqlite"
) -> Verdict:
    """Transfers for so long, one kill after the other meanwhile; then quiet, then the audit."""
    chance = random.Random(seed)
    here = Clearing(folder, server, log)
    began = time.monotonic()
    asked: list[TransferAsked] = []
    kills: Counter[str] = Counter()
    try:
        await here.prepare()
        here.begin()
        async with here.workers.outside() as engine:
            number = 0
            while time.monotonic() < began + seconds or number < ROUNDS:
                fresh = transfers(chance, 8, f"t{number}-")
                await start_all(engine, fresh)
                asked += fresh
                number += 1
                await asyncio.sleep(chance.uniform(0.1, 1.0))
                kills.update(await asyncio.to_thread(here.strike, chance))
            verdict = await judge(here, engine, asked)
    finally:
        here.close()
    verdict.kills, verdict.seconds = kills, time.monotonic() - began
    return verdict


async def judge(here: Clearing, engine: Engine, asked: list[TransferAsked]) -> Verdict:
    """Wait until every acknowledged start has ended and every outbox is empty, then read the databases and the log."""
    expected = {f"transfer/{t.transfer_id}" for t in asked}
    until = time.monotonic() + QUIET_S
    left = expected
    while left and time.monotonic() < until:
        await asyncio.to_thread(here.revive)
        before, left = left, await unfinished(engine.log, left)
        if len(left) < len(before):  # a slow machine is no fault, standing still is
            until = time.monotonic() + QUIET_S
        await asyncio.sleep(0.3 if left else 0)
    records = await newest(engine.log)
    faults = [
        f"{i} has not ended: {records[i].status if i in records else 'absent'}" for i in sorted(left)[:5]
    ]
    await asyncio.sleep(1)  # what the last answers left in an outbox goes out
    done = {r.key for r in records.values() if r.outcome == "TransferDone"}
    refused = {r.key for r in records.values() if r.outcome == "TransferRefused"}
    faults += await audit(here, {t.transfer_id: t.cents for t in asked}, done)
    return Verdict(started=len(expected), done=len(done), refused=len(refused), faults=faults)


async def audit(here: Clearing, asked: dict[str, int], done: set[str]) -> list[str]:
    """What must not be; empty when all is well."""
    rows: dict[str, dict[str, list[Any]]] = {}
    bad: list[str] = []
    for place in PLACES:
        con = await asyncpg.connect(here.url[place])
        rows[place] = {
            table: await con.fetch(f"select * from {table}")
            for table in ("account", "entry", "booking", "contrapas_inbox")
        }
        last = await con.fetchval("select coalesce(max(last_seq), 0) from contrapas_relay")
        waiting = await con.fetchval("select count(*) from contrapas_outbox where seq > $1", last)
        if waiting:
            bad.append(f"{waiting} rows of {place}'s outbox were never acknowledged")
        await con.close()
    held = sum(a["cents"] for place in ("north", "south") for a in rows[place]["account"])
    if held != 2 * ACCOUNTS * CENTS:
        bad.append(f"the banks hold {held}, they began with {2 * ACCOUNTS * CENTS}")
    count: Counter[tuple[str, str]] = Counter()
    for place in ("north", "south"):
        for entry in rows[place]["entry"]:
            count[entry["what"], entry["transfer"]] += 1
    count.update(("book", b["transfer"]) for b in rows["office"]["booking"])
    for ident in asked:
        took, back, gave, recalled, booked = (
            count[what, ident] for what in ("withdraw", "return", "deposit", "recall", "book")
        )
        right = (1, 0, 1, 0, 1) if ident in done else (took, took, gave, gave, 0)
        if (took, back, gave, recalled, booked) != right or max(took, gave) > 1:
            bad.append(
                f"{ident}: withdrawn {took}, returned {back}, deposited {gave}, recalled {recalled}, booked {booked}"
            )
    if strangers := {t for _, t in count} - set(asked):
        bad.append(f"entries of transfers that nobody asked for: {sorted(strangers)[:5]}")
    return bad + _orphans(rows, count)


def _orphans(rows: dict[str, dict[str, list[Any]]], count: Counter[tuple[str, str]]) -> list[str]:
    """Inbox rows that say something was done, without what was done; and the other way round."""
    words = {"Withdraw": "withdraw", "Deposit": "deposit", "Book": "book"}
    replies = {"withdraw": "Withdrawn", "deposit": "Deposited", "book": "Booked"}
    said: Counter[tuple[str, str]] = Counter()
    for place in PLACES:
        for row in rows[place]["contrapas_inbox"]:
            _, transfer, _, step, _ = row["id"].split("/")
            what = words.get(step.partition("#")[0], "")
            if what and row["outcome"] == "done" and row["reply_type"] == replies[what]:
                said[what, transfer] += 1
    effects = Counter({k: n for k, n in count.items() if k[0] in replies})
    return [
        f"{what} of {transfer}: in one of inbox and books alone"
        for what, transfer in (said - effects) + (effects - said)
    ]


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", choices=("sqlite", "postgres"), default="sqlite")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server() as server:
        verdict = asyncio.run(
            under_fire(Path(folder), server.start(), seconds=args.seconds, seed=args.seed, log=args.log)
        )
    print(f"three databases under fire, log {args.log}, seed {args.seed}: {verdict}")
    return int(not verdict.exact)


if __name__ == "__main__":
    sys.exit(main())
