"""One process in a race of owners: it claims, reads back, restores, commits, looks, keeps checkpoints, over the product's own code.

Each `yield` is a moment at which others may move.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Sequence
from typing import TYPE_CHECKING, Any, cast

from contrapas.codec.registry import Registry
from contrapas.core.envelope import Cause, InstanceRecord, Node
from contrapas.core.fold import Fold, Verdict
from contrapas.core.lane import Commit, Draft, Lane, Record, Topic
from contrapas.core.rendezvous import Rendezvous
from contrapas.core.world import World
from contrapas.errors import ContrapasError, Fenced, Indeterminate
from contrapas.log import Lease, Log, order
from contrapas.log.memory_store import MemoryStore
from contrapas.runtime import heal, restore
from contrapas.runtime.batch import Batch, Setting
from contrapas.runtime.checkpoint import EMPTY, State
from contrapas.runtime.definition import Definition
from contrapas.runtime.partition import Partition
from contrapas.runtime.worker import setting_of
from contrapas.testing.bench import at_once
from contrapas.testing.races_referee import Wrong, key_of

if TYPE_CHECKING:
    from contrapas.testing.races import Race

Life = Generator[None, None, None]


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
        self.race.blind |= after > 0
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
        race.blind |= state.upto > 0
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
        self.asleep = 0
        """Stopped until then."""

    def stand(self) -> Life:
        """One of the worst places to be stopped at."""
        race = self.race
        if self.chance.random() < race.weather.stops:
            self.asleep = race.now + self.chance.randint(2, race.weather.steps // 2)
            race.seen["stops"] += 1
            yield
        elif self.chance.random() < 0.5:
            yield

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
        yield from self.stand()
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
        yield from self.stand()
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
        race.referee.takes_over(writer)
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
        late = race.weather.late
        if fate < late:  # late, whole or the end of it, or never
            stop = chance.randrange(len(rows))
        yield from self.process.stand()
        for row in rows[:stop]:
            offsets.append(race.append(*row))
            if chance.random() < 0.15:
                yield
        if self.race.habits.dispatch_first:
            race.effects += [(d.key.decode(), o) for (d, _), o in zip(rows, offsets, strict=False)]
        if stop < len(rows):
            rest = rows[stop:]
            if race.habits.no_prefix and len(rest) > 1:
                for row in rest[1:]:
                    race.append(*row)
            elif fate < late * 0.8:
                race.late.append(rest)
                self.process.flight = rest
            if not race.habits.goes_on:
                raise Indeterminate("no answer")
            self.expected = race.shelf.end
            p.abort(batch)
            return
        if fate > 0.97:
            raise Indeterminate("no answer")
        yield from self.process.stand()
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
        for _ in range(chance.randrange(4)):
            self.move(batch, chance.randrange(race.weather.keys))
        if not p.heal and chance.random() < race.weather.burials:
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
            key = key_of(number)
            meeting = p.load_wait(key)
            if meeting is not None and chance.random() < 0.12:
                p.bury(batch, key)
                return
            meeting = meeting or Rendezvous(type="Go", value=f"k{number}")
            meeting.at = token
            p.write_wait(batch, meeting)
            return
        instance = key_of(number)
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
