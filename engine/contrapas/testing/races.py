"""Racing owners: a seeded model of one partition whose order is its fence, over the product's own fold, claim, comparison,
restore, heal and checkpoint code.

Several processes claim the partition, commit, look, keep checkpoints, stop, are killed and come back, one small step of
one process at a time; what they send arrives at once, in pieces, late, as a prefix, or never; a cleaner takes what may be
taken. A referee sees every record as it arrives and knows its writer: the first claim above the ruling one rules, what
anybody else writes is void. A run is wrong when the fold of what is left differs from the referee's, when an effect was
let out for a commit that does not count, or when the fold stops. `races_broken` breaks each rule in turn.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Generator, Sequence
from typing import Any, cast

from contrapas.codec.registry import Registry
from contrapas.core.control import is_control
from contrapas.core.envelope import Cause, InstanceRecord, Node
from contrapas.core.envelope_avro import decode as decode_instance
from contrapas.core.envelope_rendezvous import decode as decode_rendezvous
from contrapas.core.fold import Fold, Verdict, fold
from contrapas.core.lane import Commit, Draft, Lane, Record, Topic
from contrapas.core.rendezvous import Rendezvous
from contrapas.core.world import World
from contrapas.errors import ContrapasError, Fenced, Indeterminate
from contrapas.log import Lease, Log, order
from contrapas.log.checks import epoch_of
from contrapas.log.memory_store import MemoryStore
from contrapas.runtime import heal, restore
from contrapas.runtime.batch import Batch, Setting
from contrapas.runtime.checkpoint import EMPTY, State
from contrapas.runtime.definition import Definition
from contrapas.runtime.partition import Partition
from contrapas.runtime.worker import setting_of
from contrapas.testing.bench import at_once

KEYS = 4
PROCESSES = 3
STEPS = 44
Life = Generator[None, None, None]


class Wrong(Exception):
    """Something that must hold does not."""


class Habits:
    """What processes and their world do right; a broken rule turns one of them off."""

    dispatch_first = False
    """Effects are let out before the offsets are compared."""
    goes_on = False
    """After an unclear commit the next one comes under the old epoch."""
    no_lag = False
    """The cleaner takes what it likes."""
    no_floor = False
    """Nobody asks where the history begins."""
    no_prefix = False
    """A later batch may be stored without the earlier."""


class Referee:
    """Sees every record as it arrives, and knows who wrote it."""

    def __init__(self) -> None:
        self.epoch = -1
        self.ruler = ""
        self.states: dict[bytes, Record] = {}
        self.counts: set[int] = set()
        self.tops: dict[bytes, int] = {}
        """Keys on which a void record lies, and where."""

    def see(self, record: Record, writer: str) -> None:
        """The next record."""
        if (
            record.key.startswith(order.CLAIM_PREFIX)
            and record.value is not None
            and (e := epoch_of(record)) > self.epoch
        ):
            self.epoch, self.ruler = e, writer
        if writer != self.ruler:
            if not is_control(record):
                self.tops[record.key] = record.offset
            return
        self.counts.add(record.offset)
        if is_control(record):
            return
        self.tops.pop(record.key, None)
        if record.value is None:
            if dict(record.headers).get("cp-cause") == b"heal" and record.key in self.states:
                raise Wrong(f"a heal buried {record.key!r}, which is there")
            self.states.pop(record.key, None)
            return
        if dict(record.headers).get("cp-cause") == b"heal":
            before = self.states.get(record.key)
            if before is None or token_of(before) != token_of(record):
                raise Wrong(f"a heal of {record.key!r} says something else than what counts")
        self.states[record.key] = record


class Race:
    """One run."""

    def __init__(self, seed: int, habits: type[Habits] = Habits) -> None:
        self.chance = random.Random(seed)
        self.habits = habits
        self.now = 1_000
        self.store = MemoryStore("races", 1, clock=lambda: self.now, fence="order")
        self.shelf = self.store.shelf("log", 0)
        self.referee = Referee()
        self.floor = 0
        """How far the cleaner has been."""
        self.safe = 0
        """What lies below had an owner that looked at it and has committed since: every heal is written."""
        self.effects: list[tuple[str, int]] = []
        self.late: list[list[tuple[Draft, str]]] = []
        """In flight: whole pieces, in order."""
        self.seen: Counter[str] = Counter()
        self.token = 0

    def run(self) -> Counter[str]:
        """To its end. Wrong when it is."""
        chance = self.chance
        processes = [Process(self, f"w{n}") for n in range(PROCESSES)]
        lives = [p.life() for p in processes]
        for _ in range(STEPS):
            self.now += 1
            roll = chance.random()
            if roll < 0.06 and self.late:
                self.land(chance.randrange(len(self.late)))
            elif roll < 0.16:
                self.clean()
            else:
                # one process moves for a while, then another: a pause is a turn that does not come
                which = chance.randrange(len(lives))
                for _ in range(chance.choice((1, 1, 2, 5, 12))):
                    next(lives[which])
        self.judge()
        return self.seen

    def append(self, draft: Draft, writer: str) -> int:
        """A record arrives."""
        record = self.store.append("log", 0, draft.key, draft.value, draft.headers)
        self.referee.see(record, writer)
        return record.offset

    def land(self, at: int) -> None:
        """What was in flight arrives, or some of it and the rest later."""
        rows = self.late.pop(at)
        count = self.chance.randint(1, len(rows))
        if self.habits.no_prefix and self.chance.random() < 0.3:
            rows, count = rows[1:], len(rows) - 1
        for draft, writer in rows[:count]:
            self.append(draft, writer)
        if rows[count:] and self.chance.random() < 0.8:
            self.late.append(rows[count:])
        self.seen["late batches"] += 1

    def clean(self) -> None:
        """The cleaner, and the end of tombstones."""
        below = self.shelf.end if self.habits.no_lag else self.safe
        chance = self.chance
        removed = self.store.clean(0, below, lambda r: chance.random() < 0.8)
        count = Counter(r.key for r in self.shelf.records)
        kept = [  # a tombstone outlives what it removes
            r
            for r in self.shelf.records
            if r.value is not None or r.offset >= below or count[r.key] > 1 or chance.random() < 0.5
        ]
        removed += len(self.shelf.records) - len(kept)
        self.shelf.records = kept
        self.floor = max(self.floor, below)
        self.seen["records removed"] += removed

    def judge(self) -> None:
        """The last look."""
        for key, offset in self.effects:
            if offset not in self.referee.counts:
                raise Wrong(f"an effect of {key} @{offset} was let out, its record does not count")
        try:
            _, states = fold(self.shelf.records, floor=self.floor)
        except ContrapasError as why:
            raise Wrong(f"the fold stops: {why}") from why
        mine = {k: token_of(r) for k, r in self.referee.states.items()}
        theirs = {k: token_of(r) for k, r in states.items()}
        if mine != theirs:
            raise Wrong(f"the fold of what is left says {theirs}, counted has {mine}")


def token_of(record: Record) -> int:
    """What a record says, whatever its version."""
    value = record.value or b""
    return decode_rendezvous(value).at if record.key.startswith(b"$wait") else decode_instance(value).at


class Lane_:
    """As much of a log as a restore asks for."""

    def __init__(self, race: Race) -> None:
        self.race = race
        self.caps = race.store.caps
        self.partitions = 1
        self.history_ms = 1 << 40  # every loser is healed in time: what is lost for good is not raced for

    async def bounds(self, lane: Lane, partition: int) -> tuple[int, int]:
        """As `Log.bounds`."""
        return self.race.store.bounds(lane, partition)

    async def latest(
        self, partition: int, *, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """As `Log.latest`."""
        yield self.race.store.latest(partition, after, upto)

    async def offset_at(self, lane: Lane, partition: int, timestamp_ms: int) -> int:
        """Where the history begins: asked for with the history's age."""
        return 0 if self.race.habits.no_floor else self.race.floor

    async def topic(self, lane: Lane) -> Topic | None:
        """As `Log.topic`."""
        return self.race.store.topic(lane)


class Held:
    """As much of a lease as a restore asks for."""

    def __init__(self, epoch: int, control: Any) -> None:
        self.partition = 0
        self.epoch = epoch
        self.control = control


class Kept:
    """A checkpoint in memory: the state, and the records it is true for."""

    def __init__(self, state: State, records: dict[bytes, Record]) -> None:
        self.state = state
        self.rows = records

    async def batches(self) -> AsyncIterator[list[Record]]:
        """As `Checkpoint.batches`."""
        yield list(self.rows.values())

    def grown(self, race: Race, end: int) -> Kept:
        """As `Keeper.catch_up`."""
        state = self.state
        if state.upto and state.upto < race.floor and not race.habits.no_floor:
            return Kept(EMPTY, {}).grown(race, end)
        judge: Fold = state.fold("log", end)
        rows = dict(self.rows)
        for record in race.store.latest(0, state.upto, end):
            verdict = judge.judge(record)
            if judge.error is not None:
                raise judge.error
            if verdict is Verdict.APPLIED:
                rows[record.key] = record
            elif verdict is Verdict.REMOVED:
                rows.pop(record.key, None)
        return Kept(State(end, judge.epoch, judge.control, dict(judge.owed), race.now), rows)


class Process:
    """One worker; each `yield` is a moment at which others may move."""

    def __init__(self, race: Race, name: str) -> None:
        self.race = race
        self.name = name
        self.chance = race.chance
        self.kept: Kept | None = None
        self.flight: list[tuple[Draft, str]] | None = None
        """What its producer still has: it lands before anything it sends later."""
        self.tenures = 0

    def life(self) -> Life:
        """For ever."""
        while True:
            yield
            try:
                yield from self.tenure()
            except Fenced:
                self.race.seen["fenced"] += 1
            except Indeterminate:
                self.race.seen["unclear"] += 1
            if self.chance.random() < 0.3:  # killed: what it had in flight is on its own
                self.flight = None
                self.race.seen["kills"] += 1

    def tenure(self) -> Life:
        """Claim, read back, restore, work."""
        race, chance = self.race, self.chance
        self.tenures += 1
        writer = f"{self.name}.{self.tenures}"
        kept = self.kept if chance.random() < 0.8 else None
        if kept is not None and kept.state.upto > race.shelf.end:
            kept = None
        seen = order.Seen(None if kept is None else kept.state.known)
        end = race.shelf.end
        for record in race.shelf.span(seen.upto, end):
            seen.take(record)
        control = order.claim_of(seen, self.name, end=end, partitions=1)
        draft = order.claim_draft(0, control, writer.encode())
        yield
        self.flush()
        fate = chance.random()
        if fate < 0.05:
            if fate < 0.03:
                race.late.append([(draft, writer)])
            raise Indeterminate("no answer")
        at = race.append(draft, writer)
        race.seen["claims"] += 1
        if fate > 0.97:
            raise Indeterminate("no answer")
        yield
        between = race.shelf.span(end, at)
        order.read_back(control.epoch, end, at, between)
        for record in between:
            seen.take(record)
        held = order.owned(seen, control)
        yield
        setting = setting_for(self.name)
        saved = None if kept is None else (kept.state, kept)
        lease = cast(Lease, Held(control.epoch, held))
        try:
            taken = at_once(restore.take_over(cast(Log, Lane_(race)), lease, setting, saved))
        except ContrapasError as why:
            if race.referee.ruler != writer:
                raise Fenced("somebody else's records were read") from why
            raise Wrong(f"the restore stops: {why}") from why
        owner = Owner(self, writer, taken.partition, held, at + 1)
        while True:
            yield
            roll = chance.random()
            if roll < 0.78:
                yield from owner.commit()
            elif roll < 0.90:
                owner.look()
            elif roll < 0.96:
                self.kept = (self.kept or Kept(EMPTY, {})).grown(race, race.shelf.end)
                race.seen["checkpoints"] += 1
            else:
                return

    def flush(self) -> None:
        """A producer sends in order: what was stuck lands first, or was lost."""
        rows, self.flight = self.flight, None
        if rows is None or rows not in self.race.late:
            return
        self.race.late.remove(rows)
        if self.chance.random() < 0.7:
            for draft, writer in rows:
                self.race.append(draft, writer)


class Owner:
    """One tenure at work."""

    def __init__(self, process: Process, writer: str, p: Partition, held: Any, expected: int) -> None:
        self.process = process
        self.race = process.race
        self.chance = process.chance
        self.writer = writer
        self.p = p
        self.held = held
        self.expected = expected
        self.checked = expected
        """Up to here everything that was written has been read."""

    def commit(self) -> Life:
        """One commit, from its decision to its effects."""
        race, p, chance = self.race, self.p, self.chance
        batch = self.batch()
        control = order.committing(self.held, p.next_control(batch))
        rows = [(d, self.writer) for d in (*batch.log, order.control_draft(0, control))]
        offsets: list[int] = []
        fate = chance.random()
        stop = len(rows)
        if fate < 0.10:  # late, whole or the end of it, or never
            stop = chance.randrange(len(rows))
        for row in rows[:stop]:
            offsets.append(race.append(*row))
            if chance.random() < 0.15:
                yield
        if self.race.habits.dispatch_first:
            race.effects += [(d.key.decode(), o) for (d, _), o in zip(rows, offsets, strict=False)]
        if stop < len(rows):
            if fate < 0.08:
                rest = rows[stop:]
                race.late.append(rest)
                self.process.flight = rest
            if not race.habits.goes_on:
                raise Indeterminate("no answer")
            self.expected = race.shelf.end
            p.abort(batch)
            return
        if fate > 0.97:
            raise Indeterminate("no answer")
        if chance.random() < 0.5:
            yield
        last = offsets[-1]
        losers: tuple[Record, ...] = ()
        if not order.follows(self.expected, offsets):
            found = race.shelf.span(self.expected, last + 1)
            losers = order.strangers(p.epoch, self.expected, last + 1, set(offsets), found)
        self.expected = last + 1
        self.held = control
        p.committed(batch, Commit(offsets[0], last, race.now, True, losers), control)
        self.stood(losers)
        race.effects += [(d.key.decode(), o) for (d, _), o in zip(rows, offsets, strict=True)]
        race.safe = max(race.safe, self.checked)
        self.checked = last + 1
        race.seen["commits"] += 1

    def look(self) -> None:
        """The idle look."""
        end = self.race.shelf.end
        self.stood(
            order.strangers(self.p.epoch, self.expected, end, (), self.race.shelf.span(self.expected, end))
        )
        self.expected = end
        self.race.seen["looks"] += 1

    def stood(self, losers: Sequence[Record]) -> None:
        self.race.seen["losers"] += len(losers)
        if losers:
            try:
                heal.lose(self.p, losers)
            except ContrapasError as why:
                raise Wrong(f"an owner stops: {why}") from why

    def batch(self) -> Batch:
        """Heals first; one to three transitions; now and then the end of a key, or of former owners' claims."""
        race, p, chance = self.race, self.p, self.chance
        batch = p.open(race.now)
        race.seen["heals"] += batch.healed
        for _ in range(chance.randrange(3)):
            self.move(batch, chance.randrange(KEYS))
        if not p.heal and chance.random() < 0.15:
            old = [
                r.key
                for r in race.shelf.span(0, race.safe)
                if r.key.startswith(order.CLAIM_PREFIX) and r.value
            ]
            headers = (("cp-kind", b"claim"), ("cp-epoch", b"%d" % p.epoch))
            batch.log += [Draft("", 0, key, None, headers) for key in old[:-1][:3]]
        return batch

    def move(self, batch: Batch, number: int) -> None:
        """A transition of one key."""
        p, chance = self.p, self.chance
        self.race.token += 1
        token = self.race.token
        if number % 2:
            key = f"$wait/Go/k{number}"
            meeting = p.load_wait(key)
            if meeting is not None and chance.random() < 0.12:
                p.bury(batch, key)
                return
            meeting = meeting or Rendezvous(type="Go", value=f"k{number}")
            meeting.at = token
            p.write_wait(batch, meeting)
            return
        instance = f"s/k{number}"
        before = p.load(instance)
        if before is not None and chance.random() < 0.12:
            p.bury(batch, instance)
            return
        version = 1 if before is None else before.version + 1
        p.write(batch, instance_of(instance, version, p.epoch, self.writer, token))


def instance_of(instance: str, version: int, epoch: int, writer: str, token: int) -> InstanceRecord:
    """A record that says little."""
    return InstanceRecord(
        instance=instance, saga="s", key=instance.partition("/")[2], version=version, epoch=epoch, writer=writer,
        run="00000000", mode="orchestrate", status="waiting", root=Node(), cause=Cause(kind="event", type="Go"),
        at=token, started_at=1,
    )  # fmt: skip


_settings: dict[str, Setting] = {}


def setting_for(name: str) -> Setting:
    """What partitions of a worker share; made once."""
    found = _settings.get(name)
    if found is None:
        world = World(namespace="races", machines={}, types=Registry(), modes={}, ambient=lambda machine: ())
        log: Any = MemoryStore("races", 1, fence="order")
        found = _settings[name] = setting_of(log, Definition(namespace="races"), world, writer=name)
    return found
