"""Whoever watches a simulated world: every record as it is stored, every step as it starts, every acknowledgement.

Each look is at one invariant, by its number; a world in which one does not hold ends with `Wrong`. What is cheap is looked
at here, the rest when the world has come to rest (`final`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from contrapas.core.envelope_avro import decode, encode
from contrapas.core.lane import Control, Draft, Record
from contrapas.core.world import Input, StepCall
from contrapas.errors import ContrapasError, Damaged
from contrapas.log.memory_store import Hold
from contrapas.runtime.batch import Answer, Batch, Counts
from contrapas.runtime.restore import Takeover
from contrapas.testing.simulation.mailbox import Effect
from contrapas.testing.simulation.memo import Memo
from contrapas.testing.simulation.shadow import Counted, Shadow
from contrapas.testing.simulation.universe import Universe, Wrong

if TYPE_CHECKING:
    from contrapas.testing.simulation.station import SimStation
    from contrapas.testing.simulation.worker import SimWorker

ENDED = frozenset({b"done", b"compensated", b"failed"})
APPLIED_ONCE = frozenset({"event", "signal", "deliver"})
AT_WORK = frozenset({b"running", b"waiting", b"retrying"})
CHILD_START = ("cp-kind", b"start")
DEEP = 17
"""Every so many takeovers records are decoded and encoded again."""
DEEP_MAX = 32
"""So many of them."""


class Watch:
    """The watcher of one world."""

    def __init__(self, universe: Universe, order: bool) -> None:
        self.u = universe
        self.seen = universe.seen
        self.order = order
        self.shadows = [Shadow() for _ in range(universe.options.partitions)]
        self.offered: dict[int, tuple[SimStation, Batch | None]] = {}
        """Partition -> the commit that is being written now."""
        self.positions = [0] * universe.options.partitions
        """How far commits that count have come on the inbound lane."""
        self.issued: dict[str, int] = {}
        """Key of a local step that a commit that counts has issued -> attempt."""
        self.settled: dict[str, int] = {}
        """Key of a local step whose result a commit that counts has taken."""
        self.bodies: dict[str, tuple[str, str, str]] = {}
        """Key of a local step -> instance, step, arguments."""
        self.sent: set[str] = set()
        """Ids of messages of commits that count."""
        self.acked: dict[str, str] = {}
        """Id of an acknowledged start -> instance."""
        self.answers: dict[str, tuple[str, int]] = {}
        """Id that a door asked under -> first answer."""
        self.stopped: Callable[[SimWorker, int, ContrapasError], None] = lambda w, n, why: None
        self.wake: Callable[[int], None] = lambda n: None
        self.trimmed: Callable[[int], bool] = lambda n: False
        """Whether the inbound lane of a partition does not begin at 0 any more."""
        self.bury: Callable[[SimWorker], None] = lambda w: None
        self.damaged: dict[int, tuple[bytes, int]] = {}
        """Partition -> key and offset of a damaged record that stands there, and that nobody has met."""
        self.counts: Counter[str] = Counter()
        self.clock = 0
        """The newest timestamp that the log has given."""
        self._computed: dict[tuple[bytes, bytes], tuple[int, bytes]] = {}
        """(key, version) -> epoch under which it was first computed, and what came out."""
        self._attempts: set[tuple[str, int, int]] = set()
        self.first_unread: Callable[[int, int], int] = lambda number, at: 0
        """(partition, offset) -> timestamp of the first record of the inbound lane from there on, 0: none."""
        self.moved: Counter[str] = Counter()
        """Key of a step -> how often a new owner has issued it again."""
        self.observes = False
        """Whether sagas of this world only follow what others do."""
        self._takeovers = 0
        self.memo = Memo()
        self._census: list[Counts] = []
        self.excused: set[tuple[int, bytes]] = set()
        """(partition, key) of losers that a takeover found after the history under them was over."""
        self._heard: dict[tuple[str, str], set[tuple[str, str]]] = {}
        """(instance, run) -> events that were applied."""

    # ---- the log

    def stored(self, lane: str, record: Record) -> None:
        """Every record, as it is stored."""
        self.clock = max(self.clock, record.timestamp_ms)
        if lane != "log":
            return
        shadow = self.shadows[record.partition]
        judged = shadow.see(record)
        seen = self.seen
        seen["I-02"] += 1
        if judged.wrong:
            raise Wrong("I-02", judged.wrong)
        if not judged.counts:
            if not self.order:
                raise Wrong(
                    "I-11", f"a record under an old epoch got in at {record.partition}@{record.offset}"
                )
            seen["I-11"] += 1
            seen["I-07"] += 1
            self.u.sometimes["former owner's record void"] += 1
            return
        before, now = judged.before, judged.now
        if record.key[:1] == b"$":
            return
        if now is None:
            self._buried(record, before)
            return
        self.u.transitions += 1
        self._applied(record, before, now)
        if judged.cause == b"timer":
            seen["I-36"] += 1
            if before is not None and before.deadline > self.clock:
                raise Wrong(
                    "I-36",
                    f"a timer of {record.key.decode()} due at {before.deadline} fired at {self.clock}",
                )
            if before is not None and before.deadline:
                self._overtakes(record, before.deadline)
            if before is not None and before.epoch != now.epoch:
                self.u.sometimes["timer fired by the second owner"] += 1
        elif judged.cause == b"heal":
            self.u.sometimes["loser healed"] += 1
        if before is not None and before.status in (b"unwinding", b"settling") and before.epoch != now.epoch:
            self.u.sometimes["takeover in mid-unwind"] += 1

    def _applied(self, record: Record, before: Counted | None, now: Counted) -> None:
        """I-24: one event is applied once by an instance. I-28: a reply that comes too late moves nothing."""
        made = self.memo.known.get(now.value or b"")
        if made is None:
            return
        cause = made.cause
        if cause.kind == "reply" and cause.note.startswith("no-op"):
            self.u.sometimes["a reply was a no-op"] += 1
        elif cause.kind == "timer" and cause.type[:5] in ("bind:", "unbin", "deliv"):
            self.u.sometimes["a word of a rendezvous was sent again"] += 1
        if cause.kind in APPLIED_ONCE and cause.id and not cause.note.startswith("no-op"):
            self.seen["I-24"] += 1
            mine = self._heard.setdefault((made.instance, made.run), set())
            event = (cause.source if cause.kind != "deliver" else "", cause.id)
            if event in mine:
                raise Wrong("I-24", f"{made.instance} version {made.version} applies {cause.id} again")
            mine.add(event)
        if cause.note == "late reply" and before is not None and before.status in AT_WORK:
            self.seen["I-28"] += 1
            old = self.memo.known.get(before.value or b"")
            was = None if old is None else old.root.pending
            if was is not None and made.root.pending is not None and made.root.pending.key != was.key:
                raise Wrong("I-28", f"a late reply moves {made.instance} from {was.key} on")

    def _overtakes(self, record: Record, due: int) -> None:
        """I-36: what came before a timer was due is heard before it fires."""
        _, batch = self.offered.get(record.partition, (None, None))
        at = self.positions[record.partition] if batch is None else max(batch.position, 0)
        stamp = self.first_unread(record.partition, at)
        if stamp and stamp < due and batch is not None:
            raise Wrong(
                "I-36",
                f"a timer of {record.key.decode()} due at {due} fired over an input of {stamp}, unread @{at}",
            )

    def _buried(self, record: Record, before: Counted | None) -> None:
        """I-23: what ended is kept for its time."""
        self.seen["I-23"] += 1
        if before is not None and (before.status not in ENDED or before.deadline > self.clock):
            raise Wrong(
                "I-23",
                f"{record.key.decode()} was buried, it is {before.status.decode()} until {before.deadline}",
            )

    def controls(self, partition: int, control: Control) -> None:
        """I-06: a position never leads."""
        self.seen["I-06"] += 1
        at = control.cursor.get(("in", partition), 0)
        if at > self.positions[partition]:
            raise Wrong(
                "I-06",
                f"the cursor of partition {partition} says {at}, commits that count have come to "
                f"{self.positions[partition]}",
            )

    def cleaned(self, partition: int, before: list[Record]) -> None:
        """I-05: compaction changes nothing that counts."""
        self.seen["I-05"] += 1
        shadow = self.shadows[partition]
        found = {r.key: r.offset for r in before}
        for key, counted in shadow.keys.items():
            if key not in found:
                raise Wrong("I-05", f"{key.decode()} version {counted.version} was removed")

    # ---- commits

    def offers(self, s: SimStation, batch: Batch | None) -> None:
        """A commit is about to be written."""
        self.offered[s.number] = (s, batch)
        if self.u.options.load == "capricious" and batch is not None:
            for draft in batch.log:
                place = draft.key, dict(draft.headers)["cp-version"]
                now = draft.value or b""
                found = self._computed.setdefault(place, (s.hold.epoch, now))
                if found[0] != s.hold.epoch and len(found[1]) != len(now):
                    self.u.sometimes["a transition computed twice with different results"] += 1

    def stands(self, s: SimStation, first: int, last: int) -> None:
        """The log says that a commit counts: each of its records must."""
        self.seen["I-12"] += 1
        losers = self.shadows[s.number].losers
        for offset, epoch in losers.items():
            if first <= offset <= last and epoch == s.hold.epoch:
                raise Wrong(
                    "I-12", f"a commit of epoch {epoch} is told to count, its record @{offset} is void"
                )
        _, batch = self.offered.pop(s.number, (s, None))
        shadow = self.shadows[s.number]
        if batch is None:
            return
        for draft in {d.key: d for d in batch.log}.values():
            now = shadow.keys.get(draft.key)
            there = now is None if draft.value is None else now is not None and now.epoch == s.hold.epoch
            if not there:
                raise Wrong("I-12", f"a commit is told to count, {draft.key.decode()} of it is not there")
        self.accept(s.number, batch)

    def accept(self, partition: int, batch: Batch) -> None:
        """A batch counts: what it takes and issues is true."""
        self.positions[partition] = max(self.positions[partition], batch.position)
        for call in batch.steps:
            if call.attempt > 1 and call.key not in self.issued:
                raise Wrong("I-19", f"attempt {call.attempt} of {call.step} has the new key {call.key}")
            self.issued[call.key] = call.attempt
            if call.undoes:  # an undo that failed for good is tried again when an operator says so
                self.settled.pop(call.key, None)
        for work in batch.taken:
            if isinstance(work, Input) and work.in_reply_to and work.outcome in ("ok", "declined"):
                self.settled[work.in_reply_to] = work.attempt
        self.sent.update([d.message_id for d in batch.out])
        if self.observes:
            self._silent(batch)

    def _silent(self, batch: Batch) -> None:
        """I-33: who observes sends nothing but the words of a rendezvous, dead letters, and undos where its app says that
        what comes late is to be taken back."""
        self.seen["I-33"] += len(batch.log)
        for draft in batch.out:
            self.seen["I-33"] += 1
            headers = dict(draft.headers)
            kind = headers.get("cp-kind", b"event")
            ours = "cp-undoes" not in headers and not any(n.startswith("cp-dlq-") for n in headers)
            if kind in (b"command", b"event", b"start") and ours:
                raise Wrong("I-33", f"an observing saga sends {kind.decode()} {draft.message_id}")

    def passed(self, s: SimStation, batch: Batch) -> None:
        """What came was known."""
        self.accept(s.number, batch)

    def counted(self, s: SimStation, batch: Batch) -> None:
        """The runtime believes that a batch counts."""
        if len(batch.log) >= 500:
            self.u.sometimes["batch cut at 500"] += 1
        elif s.partition.inputs:
            self.u.sometimes["batch cut at 20 ms"] += 1

    def sends(self, s: SimStation, drafts: list[Draft]) -> None:
        """I-12, I-20: what is sent is of commits that count."""
        sent, seen = self.sent, self.seen
        for draft in drafts:
            if draft.message_id:
                seen["I-20"] += 1
                if draft.message_id not in sent:
                    raise Wrong("I-12", f"{draft.message_id} is sent, its commit does not count")

    # ---- ownership

    def acquired(self, worker: SimWorker, hold: Hold) -> None:
        """A partition has a new owner."""
        self.u.seen["takeovers"] += 1

    def taken(self, s: SimStation, taken: Takeover, saved: int, shadow: Shadow | None = None) -> None:
        """I-04, I-01: what was restored is what counts, to the byte. shadow: as it was when the tail was read, where others
        may have written since."""
        live = shadow is None
        shadow = shadow or self.shadows[s.number]
        if (
            shadow.stale
        ):  # it will be told so before it does anything; a cleaner may have been there meanwhile
            return
        self.seen["I-04"] += 1
        bad = self.damaged.get(s.number) if live else shadow.damaged
        if (
            bad is not None
            and bad[1] >= saved
            and bad[0] in shadow.keys
            and shadow.keys[bad[0]].offset == bad[1]
        ):
            raise Wrong("I-08", f"partition {s.number} was restored over a damaged record @{bad[1]}")
        entries = taken.partition.entries
        owed = taken.partition.heal.keys()
        self.u.sometimes["restored over a trimmed lane"] += self.trimmed(s.number)
        alive = 0
        for key, counted in shadow.keys.items():
            if key.startswith(b"$graph"):
                continue
            alive += 1
            entry = entries.get(key.decode())
            if key not in owed and (entry is None or entry.value != counted.value):
                raise Wrong("I-04", f"{key.decode()} version {counted.version} is not what was restored")
        if alive != len(entries):
            extra = [k for k in entries if k.encode() not in shadow.keys]
            raise Wrong("I-04", f"restored beyond what counts: {extra[:3]}")
        for key in sorted(shadow.topped):
            if key in owed:
                continue
            if key not in shadow.keys and shadow.topped[key] < taken.timestamp_ms - self.u.options.history_ms:
                self.excused.add(
                    (s.number, key)
                )  # nobody can tell any more whether an owner's record was there
                continue
            raise Wrong("I-05", f"{key.decode()} is owed a heal, its new owner has none for it")
        if owed:
            self.u.sometimes["loser met by the next owner"] += 1
        self._takeovers += 1
        if self._takeovers % DEEP == 0:
            self._deep(s)
        for call in taken.steps:
            self._moved(call)
            self.issued.setdefault(call.key, call.attempt)
        care = taken.partition.care
        if care is not None:
            self.u.sometimes["careful mode"] += 1
            for call in care.steps:
                self.issued.setdefault(call.key, call.attempt)
        self.sent.update([d.message_id for d in taken.out])
        if taken.out:
            self._sent_again(s, taken)

    def _sent_again(self, s: SimStation, taken: Takeover) -> None:
        """What was not known to have left is sent by the next owner."""
        some = self.u.sometimes
        some["messages published again at takeover"] += 1
        for draft in taken.out:
            some["a child's start was sent again"] += CHILD_START in draft.headers
        for owner in set(taken.owners.values()):
            entry = taken.partition.entries.get(owner)
            made = None if entry is None else self.memo.known.get(entry.value)
            some["a newer record carried what was unsent"] += made is not None and bool(made.unsent)

    def _moved(self, call: StepCall) -> None:
        """I-13: a step that a rebalance met in its middle goes on under its key, and has no result yet."""
        self.seen["I-13"] += 1
        if call.undoes:  # an operator may have let it be tried again, in a commit that nobody answered
            self.settled.pop(call.key, None)
        if call.key in self.settled:
            raise Wrong("I-13", f"{call.key} is issued again by a new owner, its result is recorded")
        self.u.sometimes["a step that had run was issued again"] += call.key in self.bodies
        self.moved[call.key] += 1
        if self.moved[call.key] == 2:
            self.u.sometimes["two rebalances inside one step"] += 1

    def _deep(self, s: SimStation) -> None:
        """I-03: bytes to a record and back are the same bytes."""
        for key, entry in islice(s.partition.entries.items(), DEEP_MAX):
            if not key.startswith("$"):
                self.seen["I-03"] += 1
                if encode(decode(entry.value)) != entry.value:
                    raise Wrong("I-03", f"{key} is not the same bytes again")

    def stops(self, worker: SimWorker, partition: int, why: ContrapasError) -> None:
        """A partition stopped with an error."""
        self.u.note(f"partition {partition} stops: {why}")
        if isinstance(why, Damaged) and why.code == "CP520":
            self.seen["I-08"] += 1
            if partition not in self.damaged:
                raise Wrong("I-08", f"{why}: nobody damaged it")
        elif isinstance(why, Damaged):
            raise Wrong("I-02", str(why))
        self.stopped(worker, partition, why)

    def retired(self, s: SimStation) -> None:
        """I-38: the census of a station that is gone comes out even."""
        self.census(s.partition.counts)
        self.memo.learn(s.partition)

    def census(self, c: Counts) -> None:
        """Every input became something."""
        self.seen["I-38"] += 1
        self.u.sometimes["early event parked"] += c.early > 0
        self.u.sometimes["parked event expired"] += c.expired > 0
        became = c.applied + c.kept + c.noop + c.duplicates + c.early + c.dead + c.ignored + c.parked
        if became != c.inputs + c.more:
            raise Wrong("I-38", f"{c.inputs} inputs and {c.more} more, {became} became something: {c}")

    def died(self, worker: SimWorker) -> None:
        """A process is gone: another comes."""
        self.bury(worker)

    # ---- steps

    def starts(self, worker: SimWorker, partition: int, epoch: int, call: StepCall) -> None:
        """I-12, I-14, I-17: what starts was issued by a commit that counts, and has no result."""
        self.seen["I-17"] += 1
        if call.key not in self.issued:
            raise Wrong("I-12", f"{call.key} starts, no commit that counts has issued it")
        if call.key in self.settled:
            raise Wrong("I-17", f"{call.key} starts again, its result is recorded")
        self.seen["I-14"] += 1
        if not any(s.number == partition and s.hold.epoch == epoch for s in worker.all):
            raise Wrong("I-14", f"{call.key} starts, partition {partition} is not owned under epoch {epoch}")
        self.seen["I-15"] += 1
        attempt = (call.key, call.attempt, epoch)
        if attempt in self._attempts:
            raise Wrong("I-15", f"attempt {call.attempt} of {call.key} starts twice under epoch {epoch}")
        self._attempts.add(attempt)

    def result(self, worker: SimWorker, partition: int, epoch: int, now: int) -> None:
        """I-15: a result counts only under the epoch that issued it."""
        self.seen["I-15"] += 1
        if epoch != now:
            raise Wrong("I-15", f"a result of epoch {epoch} is taken under epoch {now}")

    def runs(self, worker: SimWorker, call: StepCall) -> None:
        """I-19: every attempt of a step has the same key."""
        self.seen["I-19"] += 1
        mine = (call.instance, call.step, call.body)
        if self.bodies.setdefault(call.key, mine) != mine:
            raise Wrong("I-19", f"{call.key} names two things")
        if call.attempt > 1 and call.key not in self.issued:
            raise Wrong("I-19", f"attempt {call.attempt} of {call.step} has the new key {call.key}")

    def asked(self, effect: Effect, headers: Mapping[str, bytes], record: Record) -> None:
        """I-19, of a command: a further attempt comes under the key of the first."""
        self.seen["I-19"] += 1
        attempt = int(headers.get("cp-attempt", b"1"))
        place = f"{effect.instance}\0{effect.name}\0{(record.value or b'').decode()}"
        if attempt > 1 and effect.attempts == 1 and place in self.bodies:
            first = self.bodies[place][0]
            if first != effect.id and headers.get("cp-run", b"").decode() in first:
                raise Wrong(
                    "I-19", f"attempt {attempt} of {effect.name} comes as {effect.id}, the first as {first}"
                )
        self.bodies.setdefault(place, (effect.id, "", ""))

    # ---- doors

    def answered(self, worker: SimWorker, answer: Answer) -> None:
        """I-50, I-24: an answer follows what counts, and a repeat is told nothing else."""
        self.seen["I-50"] += 1
        partition = worker.store.partition_of(answer.instance)
        counted = self.shadows[partition].keys.get(answer.instance.encode())
        if answer.version and (counted is None or counted.version < answer.version):
            raise Wrong(
                "I-50", f"a door is told version {answer.version} of {answer.instance}, which does not count"
            )
