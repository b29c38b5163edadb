"""Workers killed at every named place while all they can do is in flight; afterwards everything has happened once.

python tests/scenarios/busy.py                            # the short form: the places in chains on a few logs
python tests/scenarios/busy.py --long                     # 1,000 instances in flight at each place, a log for each
python tests/scenarios/busy.py --long --at relay.read     # at one place
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.errors import ContrapasError
from contrapas.runtime.engine import Engine
from tests.scenarios import busy_saga
from tests.scenarios.busy_saga import JobAsked, NoteAsked
from tests.scenarios.proof import Run, counting, doubled, history, lane_of, proof_of, runs_of
from tests.scenarios.supervisor import Supervisor, Worker, newest

TARGET = "tests/scenarios/busy_saga.py:app"
CHAINS: dict[str, tuple[str, ...]] = {
    "commits": ("commit.before", "commit.unread", "commit.undispatched", "read.fed", "park.before"),
    "the file": ("sqlite.commit.before", "sqlite.commit.begun", "sqlite.commit.accepted"),
    "steps": ("dispatch.steps", "step.started", "step.done", "timer.due"),
    "takeovers": ("takeover.fenced", "takeover.read", "sqlite.acquire.locked", "sqlite.acquire.fenced"),
    "messages": (
        "relay.read",
        "relay.published",
        "relay.marked",
        "service.handled",
        "service.published",
        "ingress.read",
        "ingress.published",
    ),
    "ends": ("tombstone.before", "tombstone.after", "cursor.before", "cursor.after"),
    "leaving": ("revoke", "release.before", "sqlite.release.before"),
    "room": ("sqlite.checkpoint.before", "sqlite.checkpoint.after", "sweep.before", "sqlite.compact.begun"),
}
"""Places that are visited one after another on the same log."""
VISITS = {"tombstone.before": 2, "tombstone.after": 2, "park.before": 1}
"""Which visit kills, where it is not the third."""
RELAY = "tests/connectors/test_relay_postgres.py::test_i20_i21_i22_twelve_writers_and_a_relay_that_is_killed_at_every_point"
DELIVERY = "tests/runtime/test_stored_services.py::test_i_20_a_crash_at_any_point_leaves_exactly_one_effect_and_one_reply"
STEP = "tests/runtime/test_stored_steps.py::test_i_17_i_18_a_step_killed_at_any_point_has_exactly_one_effect"
STEP_FAILS = "tests/runtime/test_stored_steps.py::test_i_18_killed_around_its_failure_a_step_fails_once_and_leaves_nothing"
CHECKPOINT = "tests/runtime/test_checkpoint.py::test_a_checkpoint_that_is_killed_is_as_it_was_before_or_whole"
ELSEWHERE: dict[str, str] = {
    **{f"delivery.{place}": DELIVERY for place in ("begun", "handled", "finished", "committed")},
    **{f"step.{place}": STEP for place in ("begun", "handled", "finished", "committed")},
    "step.refused": STEP_FAILS,
    **{f"checkpoint.{place}": CHECKPOINT for place in ("before", "after")},
    **{f"outbox.{place}": RELAY for place in ("claimed", "read", "sent", "noted", "release.before")},
}
"""Places that no worker on a SQLite file passes, with the test that holds each."""
LEAVING = frozenset(CHAINS["leaving"])
QUIET_S = 120.0
DIES_S = 30.0


def visit_of(place: str, partitions: int) -> int:
    """Which visit of a place kills: each partition's first cursor commit belongs to its takeover."""
    return partitions + 1 if place.startswith("cursor.") else VISITS.get(place, 3)


@dataclass(slots=True)
class Verdict:
    """What ledger and log say in the end."""

    killed: list[str] = field(default_factory=list[str])
    survived: list[str] = field(default_factory=list[str])
    """Places that were never visited."""
    in_flight: dict[str, int] = field(default_factory=dict[str, int])
    """Jobs that had been acknowledged and had not ended when the worker died."""
    jobs: int = 0
    faults: list[str] = field(default_factory=list[str])
    seconds: float = 0.0

    @property
    def exact(self) -> bool:
        """Every worker died where it should, and everything happened once."""
        return not self.faults and not self.survived


class Siege:
    """One log, and workers that die on it one after another."""

    def __init__(
        self,
        folder: Path,
        *,
        haste: bool,
        seed: int,
        under: Supervisor | None = None,
        leaving: frozenset[str] = LEAVING,
    ) -> None:
        """under: workers on a log elsewhere than in the folder. leaving: places that are passed on the way out."""
        self.leaving = leaving
        self.happened = folder / "happened"
        self.happened.touch()
        self.under = under or Supervisor(TARGET, folder)
        self.under.env |= {"HAPPENED": str(self.happened), **({"SCENARIO_HASTE": "1"} if haste else {})}
        self.haste = haste
        self.chance = random.Random(seed)
        self.numbers: dict[str, int] = {}
        """Job -> its number."""
        self.notes: list[str] = []
        self.verdict = Verdict()

    async def ask(self, engine: Engine, count: int) -> None:
        """New jobs, by the lane and by their topic, and some notes."""
        fresh = [
            JobAsked(job_id=f"j{len(self.numbers) + n}", number=len(self.numbers) + n) for n in range(count)
        ]
        self.numbers |= {j.job_id: j.number for j in fresh}
        await engine.client.start_many("job", fresh[::2])
        for job in fresh[1::2]:
            await engine.client.send(job)
        notes = [f"n{len(self.notes) + n}" for n in range(max(8, count // 8))]
        self.notes += notes
        await engine.client.start_many("note", [NoteAsked(note_id=n) for n in notes])

    async def begun(self, engine: Engine, count: int) -> None:
        """Wait until so many instances have a record."""
        until = time.monotonic() + DIES_S
        while len(await newest(engine.log)) < count and time.monotonic() < until:
            await asyncio.sleep(0.01)

    async def kill_at(self, engine: Engine, place: str, count: int) -> None:
        """A worker that dies at a place while it has plenty to do."""
        await self.ask(engine, count)
        armed = f"{place}=kill@{visit_of(place, engine.log.partitions)}"
        doomed = self.under.start(failpoint=armed, wait=place in self.leaving)
        asking = asyncio.ensure_future(self._questions(engine))
        try:
            if place in self.leaving:
                await asyncio.sleep(0.2)
                doomed.process.terminate()
            died = await asyncio.to_thread(_died, doomed)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            self.under.workers.remove(doomed)
        (self.verdict.killed if died else self.verdict.survived).append(place)
        if not died:
            doomed.stop()
        ended = sum(r.status in ENDED for i, r in (await newest(engine.log)).items() if i.startswith("job/"))
        self.verdict.in_flight[place] = len(self.numbers) - ended

    async def _questions(self, engine: Engine) -> None:
        """Somebody outside asks all the time: answers go over the lane."""
        while True:
            instance = f"job/{self.chance.choice(list(self.numbers))}"
            try:
                await engine.client.state(instance, timeout_ms=1_000)
            except ContrapasError:
                pass
            await asyncio.sleep(0.02)

    async def rest(self) -> None:
        """A worker that comes and leaves in order: nobody suspects an input that three in a row have died of."""
        self.under.start().stop()
        self.under.workers.pop()

    async def judge(self, engine: Engine) -> Verdict:
        """Wait until everything has ended and the notes are let go, then hold ledger, topics and log together."""
        self.under.start()
        records = await self._quiet(engine)
        v, runs = self.verdict, runs_of(self.happened.read_text())
        v.jobs = len(self.numbers)
        left = [i for i in self._jobs() if i not in records or records[i].status not in ENDED]
        v.faults += [f"{i}: {records[i].status if i in records else 'lost'}" for i in left[:5]]
        v.faults += list(self._outcomes(records))[:5]
        v.faults += list(effects(self.numbers, self.notes, runs))[:5]
        steps = [r for r in runs if r.what in ("book", "unbook", "close")]
        v.faults += (await proof_of(engine.log)).faults(steps, whole=not self.haste)[:5]
        if not self.haste:
            v.faults += doubled(await history(engine.log))[:5]
        v.faults += [f async for f in _tombstones(engine, self.notes, whole=not self.haste)][:5]
        v.faults += await self._published(engine)
        return v

    def _jobs(self) -> list[str]:
        return [f"job/{j}" for j in self.numbers]

    async def _quiet(self, engine: Engine) -> dict[str, InstanceRecord]:
        """Jobs that stand still over the bug are killed by hand, once everything else has ended."""
        until = time.monotonic() + QUIET_S
        asked: set[str] = set()
        records: dict[str, InstanceRecord] = {}
        while time.monotonic() < until:
            records = await newest(engine.log)
            live = [i for i in self._jobs() if i not in records or records[i].status not in ENDED]
            notes = [i for i in records if i.startswith("note/")]
            if not live and not notes:
                return records
            for i in live:
                why = records[i].parked if i in records else None
                if why is not None and why.code == "CP847" and i not in asked:
                    asked.add(i)
                    await engine.client.operate(i, "kill", reason="the bug stays")
            await asyncio.sleep(0.2)
        gone = await self._tombs(engine)
        self.verdict.faults += [f"note/{n} was never let go" for n in self.notes if f"note/{n}" not in gone][
            :5
        ]
        return records

    async def _tombs(self, engine: Engine) -> set[str]:
        return {r.key.decode() for p in range(engine.log.partitions)
                for r in counting(await lane_of(engine.log, "log", p)) if r.value is None}  # fmt: skip

    def _outcomes(self, records: dict[str, InstanceRecord]) -> Iterator[str]:
        """Each job ends as its number says."""
        for name, number in self.numbers.items():
            record = records.get(f"job/{name}")
            if record is None:
                continue
            expected = "JobDone"
            if busy_saga.declined(number):
                expected = "JobRefused"
            elif busy_saga.broken(number):
                expected = ""
            if record.outcome != expected:
                yield f"job/{name} ended as {record.outcome or record.status}, not as {expected or 'killed'}"
            elif expected == "JobDone" and f'"late":{str(busy_saga.silent(number)).lower()}' not in (
                record.outcome_body.replace(" ", "")
            ):
                yield f"job/{name} was approved wrongly: {record.outcome_body}"

    async def _published(self, engine: Engine) -> list[str]:
        """One outcome event of each job by its id; after a takeover a commit's messages may stand there again."""
        topic = await engine.log.topic("jobs.events")
        assert topic is not None
        ids: dict[str, set[bytes]] = {}
        for number in range(topic.partitions):
            for r in await lane_of(engine.log, "jobs.events", number):
                ids.setdefault(r.key.decode(), set()).add(dict(r.headers)["ce_id"])
        bad: list[str] = []
        for name, number in self.numbers.items():
            should = int(busy_saga.declined(number) or not busy_saga.broken(number))
            if len(found := ids.get(name, set())) != should:
                bad.append(f"{name} has {len(found)} outcome events, not {should}: {sorted(found)}")
        return bad[:5]


def effects(numbers: dict[str, int], notes: Sequence[str], runs: Sequence[Run]) -> Iterator[str]:
    """Everything has the effects it must have, each under one idempotency key."""
    keys: dict[str, dict[str, set[str]]] = {}
    for run in runs:
        keys.setdefault(run.subject, {}).setdefault(run.what, set()).add(run.key)
    expected = {note: {"close"} for note in notes}
    for name, number in numbers.items():
        if busy_saga.declined(number):
            expected[name] = {"book", "unbook"}
        elif busy_saga.broken(number):
            expected[name] = {"book", "charge", "close", "refund", "unbook"}
        else:
            expected[name] = {"book", "charge", "close"}
    for name, should in expected.items():
        did = keys.get(name, {})
        if set(did) != should:
            yield f"{name}: {sorted(did)} happened, not {sorted(should)}"
        for what, under in did.items():
            if len(under) != 1:
                yield f"{name}: {what} happened under {len(under)} keys: {sorted(under)}"


async def _tombstones(engine: Engine, notes: Sequence[str], *, whole: bool) -> AsyncIterator[str]:
    """A note has its tombstone once, after its last record."""
    values: dict[str, list[bool]] = {}
    for number in range(engine.log.partitions):
        for record in counting(await lane_of(engine.log, "log", number)):
            values.setdefault(record.key.decode(), []).append(record.value is not None)
    for name in notes:
        found = values.get(f"note/{name}", [])
        if not found or found[-1] or (whole and found.count(False) != 1):
            yield f"note/{name}: its records are {found}, True for one with a value"


def _died(worker: Worker) -> bool:
    """Whether a worker killed itself within the time."""
    until = time.monotonic() + DIES_S
    while time.monotonic() < until:
        if worker.process.poll() is not None:
            return worker.wait() == -9
        time.sleep(0.02)
    return False


async def siege(
    folder: Path,
    places: Sequence[str],
    *,
    instances: int,
    more: int,
    seed: int = 1,
    haste: bool = False,
    under: Supervisor | None = None,
    leaving: frozenset[str] = LEAVING,
) -> Verdict:
    """Kill a worker at each of these places, with `instances` in flight at the first and `more` new ones at each other."""
    began = time.monotonic()
    here = Siege(folder, haste=haste, seed=seed, under=under, leaving=leaving)
    try:
        here.under.start()  # makes the topics
        async with here.under.outside() as engine:
            await here.ask(engine, instances // 2)
            await here.begun(engine, instances // 4)
            here.under.workers.pop().stop()
            for number, place in enumerate(places):
                await here.kill_at(engine, place, more if number else instances - instances // 2)
                if number % 2 and number + 1 < len(places):
                    await here.rest()
            verdict = await here.judge(engine)
    finally:
        here.under.close()
    verdict.seconds = time.monotonic() - began
    return verdict


def pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of places that a worker in its usual work comes by."""
    places = [p for chain, some in CHAINS.items() if chain not in ("leaving", "room") for p in some]
    chance = random.Random(seed)
    return [(chance.choice(places), chance.choice(places)) for _ in range(count)]


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--long", action="store_true", help="a log of its own for each place, 1,000 in flight"
    )
    parser.add_argument("--at", default="", metavar="FAILPOINT")
    parser.add_argument(
        "--pairs", type=int, default=0, help="so many pairs of places, one worker after the other"
    )
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    bad = False
    for pair in pairs(args.pairs, args.seed):
        with tempfile.TemporaryDirectory() as folder:
            verdict = asyncio.run(siege(Path(folder), pair, instances=60, more=16, seed=args.seed))
        print(f"{'exact' if verdict.exact else 'WRONG'} {' then '.join(pair)}: {verdict}", flush=True)
        bad = bad or not verdict.exact
    for chain, places in CHAINS.items() if not args.pairs else ():
        chosen = [p for p in places if args.at in ("", p)]
        for some in ([p] for p in chosen) if args.long else [chosen]:
            if not some:
                continue
            count = args.instances if args.long else 60
            with tempfile.TemporaryDirectory() as folder:
                verdict = asyncio.run(
                    siege(Path(folder), some, instances=count, more=16, seed=args.seed, haste=chain == "room")
                )
            print(f"{'exact' if verdict.exact else 'WRONG'} {', '.join(some)}: {verdict}", flush=True)
            bad = bad or not verdict.exact
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
