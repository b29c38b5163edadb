"""Planted bugs: patches that break one promise each, and that the simulation must find within a number of seeds.

A patch names a place (`module:attribute`) and makes the wrong function from the right one. One at a time.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

from contrapas.core.fold import Verdict
from contrapas.core.lane import Commit, Record
from contrapas.errors import Fenced, Indeterminate
from contrapas.testing.simulation import planted_more as more
from contrapas.testing.simulation.planted_fence import (
    looked_away,
    none_lost,
    not_compared,
    not_read_back,
    tie,
)

Wrongly = Callable[[Any], Any]
_INHERITED = object()
RUNTIME = "contrapas.runtime"
CORE = "contrapas.core"
HERE = "contrapas.testing.simulation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One planted bug."""

    name: str
    what: str
    places: Mapping[str, Wrongly]
    """`module:attribute` -> the wrong one, made from the right one."""
    seeds: int = 40
    """Within so many seeds it must be found."""
    loads: tuple[str, ...] = ()
    """Kinds of worlds in which it can show; empty: all."""
    fence: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    """Worlds must have these sizes: `instances`, `workers`, `partitions`, `batch`, and others of `Options`."""
    rates: Mapping[str, float] = field(default_factory=dict[str, float])
    """Faults that are more frequent than usual: those that the bug needs."""

    @contextmanager
    def planted(self) -> Generator[None]:
        """For as long as the block lasts."""
        before: list[tuple[Any, str, Any]] = []
        for place, wrongly in self.places.items():
            module, _, path = place.partition(":")
            where: Any = import_module(module)
            *parts, name = path.split(".")
            for part in parts:
                where = getattr(where, part)
            own = where.__dict__.get(name, _INHERITED)
            right = getattr(where, name) if own is _INHERITED else own
            before.append((where, name, own))
            setattr(where, name, wrongly(right))
        try:
            yield
        finally:
            for where, name, own in reversed(before):
                if own is _INHERITED:
                    delattr(where, name)
                else:
                    setattr(where, name, own)


# ---- acknowledgement and commit


def _early(what: str) -> Wrongly:
    """Duties of a batch are done before it is written."""

    def wrongly(right: Any) -> Any:
        async def write(s: Any, log: Any, out: Any, control: Any) -> Any:
            batch = s.partition.inflight
            for call in batch.steps if what == "steps" and batch is not None else ():
                s.runner.start(s.number, s.partition.epoch, call)
            for answer in batch.answers if what == "answers" and batch is not None else ():
                s.ears.answered(answer)
            return await right(s, log, out, control)

        return write

    return wrongly


def _say(right: Any) -> Any:
    def say(self: Any, draft: Any, acknowledged: Any = None) -> None:
        if acknowledged is not None:
            acknowledged()
        try:
            self.store.publish([draft])
        except Exception:  # noqa: BLE001  it lies in the buffer, that will do
            return

    return say


def _repeats(right: Any) -> Any:
    def commit(self: Any, hold: Any, log: Any, out: Any, control: Any) -> Any:
        try:
            return right(self, hold, log, out, control)
        except Indeterminate:
            return right(self, hold, log, out, control)

    return commit


def _goes_on(right: Any) -> Any:
    async def commit(s: Any, batch: Any) -> None:
        try:
            await right(s, batch)
        except Indeterminate:
            return

    return commit


def _keeps_changes(right: Any) -> Any:
    def abort(self: Any, batch: Any) -> None:
        batch.undo.clear()
        right(self, batch)

    return abort


def _believed(right: Any) -> Any:
    """Whatever became of it, the commit is said to count."""

    def commit(self: Any, hold: Any, log: Any, out: Any, control: Any) -> Any:
        try:
            return right(self, hold, log, out, control)
        except Indeterminate:
            end = self.lanes["log"][hold.partition].end
            hold.expected = end
            return Commit(max(0, end - 1), max(0, end - 1), self.clock(), True)

    return commit


# ---- fence and fold


def _stale_tail(right: Any) -> Any:
    """The tail is read before the fence."""

    def want(self: Any, number: int, delay_ms: int) -> None:
        found = self.store.latest(number)

        async def latest(partition: int, *, after: int = 0, upto: Any = None) -> Any:
            yield found if partition == number else self.store.latest(partition, after, upto)

        self.log.latest = latest
        right(self, number, delay_ms)

    return want


def _no_check(right: Any) -> Any:
    def commit(self: Any, hold: Any, log: Any, out: Any, control: Any) -> Any:
        if self.fence == "refuse":
            part = self.parts[hold.partition]
            real, part.epoch, gone, hold.gone = part.epoch, hold.epoch, hold.gone, False
            try:
                return right(self, hold, log, out, control)
            finally:
                part.epoch, hold.gone = real, gone
        return right(self, hold, log, out, control)

    return commit


def _own_lost(right: Any) -> Any:
    def judge(self: Any, record: Record) -> Any:
        before = self.epoch
        verdict = right(self, record)
        return Verdict.LOSER if verdict is Verdict.APPLIED and before == self.epoch else verdict

    return judge


def _may_jump(how: str) -> Wrongly:
    def wrongly(right: Any) -> Any:
        def may(self: Any, record: Record, version: int, known: int, headers: Any) -> bool:
            if (how == "repeat" and version <= known) or (how == "gap" and version > known):
                return True
            return bool(right(self, record, version, known, headers))

        return may

    return wrongly


def _runs_on(right: Any) -> Any:
    def guarded(self: Any, number: int, act: Any) -> None:
        def patient() -> None:
            try:
                act()
            except Fenced:
                for s in self.all:
                    if s.number == number:
                        s.failure = None
                        s.soon()

        right(self, number, patient)

    return guarded


async def _no_heal_of(right: Any, *args: Any) -> Any:
    taken = await right(*args)
    taken.partition.heal.clear()
    return taken


async def _nothing_out(right: Any, *args: Any) -> Any:
    return (await right(*args))._replace(out=[])


async def _at_the_end(right: Any, *args: Any) -> Any:
    taken = await right(*args)
    taken.partition.position = taken.partition.fetched = taken.end
    return taken


def _wrapped(how: Any) -> Wrongly:
    return lambda right: partial(how, right)


# ---- positions


def _leads(right: Any) -> Any:
    def next_control(self: Any, batch: Any) -> Any:
        control = right(self, batch)
        if batch is None or not batch.taken:
            return control
        return control._replace(cursor={**control.cursor, self.source: batch.position})

    return next_control


def _by_crc(right: Any) -> Any:
    def partition(key: bytes, count: int) -> int:
        return zlib.crc32(key) % count

    return partition


# ---- compaction and data


def _no_epoch(right: Any) -> Any:
    def bury(self: Any, batch: Any, key: str) -> None:
        right(self, batch, key)
        last = batch.log[-1]
        batch.log[-1] = last._replace(headers=tuple(h for h in last.headers if h[0] != "cp-epoch"))

    return bury


def _soon_buried(right: Any) -> Any:
    def settled(work: Any, *args: Any) -> Any:
        done = right(work, *args)
        if work.record.retain_until is not None:
            work.record.retain_until = work.at + 1_000
        return done

    return settled


# ---- timers


def _wall(right: Any) -> Any:
    def now(self: Any) -> int:
        clock = self.__dict__["_clock"]
        return int(clock.wall_ms())

    return now


def _not_armed(right: Any) -> Any:
    def restore(self: Any, key: str, entry: Any) -> None:
        right(self, key, entry._replace(deadline=None))
        self.entries[key] = entry

    return restore


def _nothing(right: Any) -> Any:
    def nothing(*args: Any) -> None:
        return

    return nothing


def _never(right: Any) -> Any:
    def never(*args: Any) -> bool:
        return False

    return never


def _due(right: Any) -> Any:
    from contrapas.runtime.batch import Due

    def due(self: Any, now: int) -> Any:
        at = self.next_timer()
        return None if at is None or at > now else Due(at, self.entry_at(at))

    def entry_at(self: Any, at: int) -> str:
        return str(next(k for k, e in self.entries.items() if e.deadline == at))

    import_module(f"{RUNTIME}.partition").Partition.entry_at = entry_at
    return due


# ---- steps


def _attempt_in_key(right: Any) -> Any:
    def later(work: Any, pending: Any, policy: Any, words: str) -> Any:
        made = right(work, pending, policy, words)
        made.key = f"{pending.key}.{pending.attempt}"
        return made

    return later


def _epoch_in_key(right: Any) -> Any:
    def reissue(record: Any, epoch: int, world: Any) -> list[Any]:
        return [c._replace(key=f"{c.key}.{epoch}") for c in right(record, epoch, world)]

    return reissue


def _any_epoch(right: Any) -> Any:
    def result(self: Any, epoch: int, event: Any) -> None:
        if not self.gone:
            self.partition.results.append(event)
            self.worker.eyes.result(self.worker, self.number, epoch, self.partition.epoch)
            self.soon()

    return result


def _adopts_nothing(right: Any) -> Any:
    def start(self: Any, partition: int, epoch: int, call: Any) -> None:
        self.running.pop(call.key, None)
        right(self, partition, epoch, call)
        right(self, partition, epoch, call)

    return start


# ---- dedupe


def _short_memory(right: Any) -> Any:
    def remember(record: Any, event: Any) -> None:
        right(record, event)
        record.seen = record.seen[-1:]
        record.positions = {}
        record.memory = b""

    return remember


def _no_conflict(right: Any) -> Any:
    def judge(*args: Any) -> str:
        found = str(right(*args))
        return "duplicate" if found == "conflict" else found

    return judge


def _always_positioned(right: Any) -> Any:
    return property(lambda a: f"{a.source}/{a.partition}")


def _unbinds_nothing(right: Any) -> Any:
    from contrapas.core.rendezvous import Meeting

    def unbind(*args: Any, **more: Any) -> Meeting:
        return Meeting(False, "done")

    return unbind


# ---- sagas


def _settles(unknown: str) -> Wrongly:
    def wrongly(right: Any) -> Any:
        def settle(work: Any, number: int, status: str, **more: Any) -> None:
            right(work, number, "failed" if status == unknown else status, **more)

        return settle

    return wrongly


def _at_success(right: Any) -> Any:
    def register(work: Any, line: Any, op: Any, **more: Any) -> int:
        number = int(right(work, line, op, **more))
        if number >= 0:
            line.node.undo[-1].status = "failed"
        return number

    return register


def _forward(right: Any) -> Any:
    def visit(work: Any, entries: Any, floor: int) -> bool:
        turned = entries[floor:][::-1]
        entries[floor:] = turned
        try:
            return bool(right(work, entries, floor))
        finally:
            entries[floor:] = entries[floor:][::-1]

    return visit


def _stuck_is_through(right: Any) -> Any:
    def failed(work: Any, entry: Any, words: str) -> None:
        import_module(f"{CORE}.unwind").through(work, entry)

    return failed


def _reencoded(right: Any) -> Any:
    def letter(record: Record, **more: Any) -> Any:
        draft = right(record, **more)
        try:
            value = json.dumps(json.loads(draft.value or b"")).encode()
        except ValueError:
            value = (draft.value or b"").decode(errors="replace").encode()
        return draft._replace(value=value)

    return letter


def _dropped(right: Any) -> Any:
    def bury(p: Any, batch: Any, *args: Any, **more: Any) -> None:
        p.counts.dead += 1

    return bury


def _skips_failed(right: Any) -> Any:
    def publish(self: Any, drafts: Any) -> bool:
        right(self, drafts)
        return True

    return publish


def _bug(name: str, what: str, places: Mapping[str, Wrongly], **other: Any) -> Bug:
    return Bug(name=name, what=what, places=places, **other)


COMMIT, PART = f"{RUNTIME}.commit", f"{RUNTIME}.partition:Partition"
STORE, WORKER, STATION = f"{HERE}.store:SimStore", f"{HERE}.worker:SimWorker", f"{HERE}.station:SimStation"
MEMORY = "contrapas.log.memory_store:MemoryStore"
STEPS = ("bank", "capricious", "copies", "family")
_ALL: Sequence[Bug] = (
    _bug("M-01", "a door is told before the commit", {f"{COMMIT}:_write": _early("answers")}),
    _bug("M-02", "a client is told from the send buffer", {f"{HERE}.play:Play.say": _say}),
    _bug("M-03", "an unanswered commit is repeated", {f"{STORE}.commit": _repeats}),
    _bug("M-04", "unanswered is taken for failed", {f"{COMMIT}:commit": _goes_on}, fence="refuse"),
    _bug("M-05", "a refused batch leaves its changes", {f"{PART}.abort": _keeps_changes}),
    _bug("M-06", "a delivery report is ignored", {f"{STORE}.commit": _believed}, fence="order"),
    _bug("M-07", "the tail is read before the fence", {f"{WORKER}.want": _stale_tail}),
    _bug("M-08", "a claim is not read back", {f"{MEMORY}.check_claim": not_read_back}, fence="order"),
    _bug("M-09", "epochs compared with >=", {f"{CORE}.fold:Fold.judge": _own_lost}),
    _bug("M-10", "no look at the epoch", {f"{STORE}.commit": _no_check}, fence="refuse"),
    _bug("M-11", "a repeated version is taken", {f"{CORE}.fold:Fold._may_jump": _may_jump("repeat")}),
    _bug("M-12", "a gap above the floor is taken", {f"{CORE}.fold:Fold._may_jump": _may_jump("gap")}),
    _bug("M-13", "the loser of a fence runs on", {f"{WORKER}.guarded": _runs_on}, fence="refuse"),
    _bug("M-15", "a loser is not healed", {f"{HERE}.worker:take_over": _wrapped(_no_heal_of)}, fence="order"),
    _bug("M-15.gap", "a loser met by an owner at work is not healed", {f"{RUNTIME}.heal:lose": none_lost}, fence="order"),
    _bug("M-15.idle", "a loser found by a look is not healed", {f"{RUNTIME}.read:look": looked_away}, seeds=200, fence="order"),
    _bug("M-16", "the cursor leads its transitions", {f"{PART}.next_control": _leads}),
    _bug("M-18", "reading goes on before the seek", {f"{HERE}.worker:take_over": _wrapped(_at_the_end)}),
    _bug("M-21", "another hash chooses the partition", {f"{RUNTIME}.ingress:partition_of": _by_crc}),
    _bug("M-22", "unsent messages are compacted away", {f"{PART}.published": more.carries_nothing}, rates={"publish": 0.1, "crash": 0.05}, sizes={"atomic": 0}),
    _bug("M-23", "a tombstone without an epoch", {f"{PART}.bury": _no_epoch}),
    _bug("M-24", "a tombstone before the retention", {f"{CORE}.ends:settled": _soon_buried}),
    _bug("M-25", "checksums are not verified", {f"{RUNTIME}.restore:damage": _nothing}),
    _bug("M-29", "a worker's wall clock is believed", {f"{RUNTIME}.clock:LogClock.now": _wall}),
    _bug("M-30", "timers are not armed after a takeover", {f"{PART}.restore": _not_armed}),
    _bug("M-31", "a timer fires without a transition", {f"{RUNTIME}.apply:fire": _nothing}),
    _bug("M-32", "the attempt stands in the key", {f"{CORE}.settle:later": _attempt_in_key}),
    _bug("M-33", "the epoch stands in the key", {f"{RUNTIME}.restore:reissue": _epoch_in_key}, loads=STEPS),
    _bug("M-34", "a step starts before the commit", {f"{COMMIT}:_write": _early("steps")}, loads=STEPS, fence="refuse"),
    _bug("M-35", "a result of an older epoch counts", {f"{STATION}.result": _any_epoch}, loads=STEPS, seeds=200),
    _bug("M-36", "a step starts twice in one process", {f"{HERE}.steps:ScriptedRunner.start": _adopts_nothing}, loads=STEPS),
    _bug("M-38", "ids are forgotten early", {f"{CORE}.work:remember": _short_memory}, loads=("hot", "entity"), rates={"crash": 0.05}, seeds=80),
    _bug("M-39", "other bytes pass for a duplicate", {f"{RUNTIME}.apply:judge_start": _no_conflict, f"{RUNTIME}.apply:judge": _no_conflict}),
    _bug("M-45", "an undo is registered at success", {f"{CORE}.undo:register": _at_success, f"{CORE}.undo:settle": _settles("unknown")}),
    _bug("M-46", "unknown is skipped by unwinding", {f"{CORE}.undo:settle": _settles("unknown")}),
    _bug("M-47", "undos go forward", {f"{CORE}.unwind:_visit": _forward}),
    _bug("M-49", "a failed undo is reported as done", {f"{CORE}.settle:undo_failed": _stuck_is_through}, loads=("bank",), seeds=200),
    _bug("M-53", "a dead letter is encoded anew", {f"{RUNTIME}.apply:dead_letter": _reencoded}),
    _bug("M-54", "a rejection is dropped", {f"{RUNTIME}.apply:bury_input": _dropped}),
    _bug("M-55", "a timer overtakes an input unread", {f"{PART}._due": _due}, seeds=200),
    _bug("M-57", "what failed to be sent is passed over", {f"{STATION}._publish": _skips_failed}),
    _bug("M-59", "the cursor of a quiet partition stays behind", {f"{PART}.behind": _never}),
    _bug("M-61", "`unbind` is dropped", {f"{CORE}.rendezvous:unbind": _unbinds_nothing}, loads=("claim",), sizes={"instances": 30}),
    _bug("M-63", "messages are not sent again at takeover", {f"{HERE}.worker:take_over": _wrapped(_nothing_out)}, seeds=200),
    _bug("M-64", "a delivered event is judged by position", {f"{CORE}.decode:Arrival.position": _always_positioned}, loads=("patient",)),
    _bug("M-65", "offsets of a commit are not compared", {f"{MEMORY}._commit_in_order": not_compared}, fence="order"),
    _bug("M-66", "a tie of two claims is not broken", {f"{MEMORY}.check_claim": tie}, fence="order"),
    _bug("M-68", "the next commit comes under the old epoch", {f"{COMMIT}:commit": _goes_on}, fence="order"),
    _bug("M-69", "steps start before the offsets are compared", {f"{COMMIT}:_write": _early("steps")}, loads=STEPS, fence="order"),
    _bug("N-01", "what one sender sent is not numbered", {f"{CORE}.transition:numbered": _nothing}, loads=("hot",), sizes={"instances": 400, "workers": 4}, rates={"crash": 0.05}),
    _bug("N-02", "a takeover sends again out of order", {f"{RUNTIME}.restore:place_of": _nothing}, loads=("hot",), fence="order", seeds=200),
    _bug("M-50", "there is no point of no return", {f"{CORE}.frames:_pivot": _nothing}, loads=("order",)),
    _bug("M-51", "a late reply moves control", {f"{CORE}.settle:_late": more.moves}, loads=("stubborn",)),
    _bug("M-52", "keys of starts are compared without case", {f"{RUNTIME}.processor:correlate": more.lower}, loads=("order",)),
    _bug("M-56", "who leaves a wait forgets its events", {f"{CORE}.waits:leave": more.prunes}, loads=("claim",), rates={"duplicate": 0.1}),
    _bug("M-58", "a commit nobody answered is taken for done", {f"{COMMIT}:commit": more.passes_over}, fence="refuse"),
    _bug("M-62", "a checkpoint older than the tombstones that went is used", {f"{RUNTIME}.restore:history_of": more.forever}, loads=("index",), fence="order", sizes={"instances": 400, "history_ms": 1_000, "partitions": 1}, rates={"compact": 0.1, "checkpoint": 0.1, "rebalance": 0.05}),
    _bug("M-70", "a checkpoint forgets a heal owed", {f"{RUNTIME}.checkpoint:State.fold": more.owes_nothing}, fence="order", rates={"unknown": 0.03, "checkpoint": 0.1}),
    _bug("M-72", "who cannot read what others wrote goes on", {f"{STORE}._judge_gap": more.unread}, fence="order"),
    _bug("R-01", "a healed rendezvous has its old version", {f"{RUNTIME}.heal:_wait": more.same_version}, loads=("claim",), fence="order", rates={"unknown": 0.03}),
    _bug("R-02", "a careful owner wakes for every timer", {f"{PART}.wakes_at": more.spins}, loads=("bank",), sizes={"partitions": 1, "instances": 40, "spread_ms": 20_000}, rates={"crash": 0.3, "step": 0.4}),
    _bug("R-03", "an answer without a type is read as its topic's", {f"{CORE}.decode:_gave_up": _never}, loads=("order",), rates={"step": 0.15}),
    _bug("R-04", "what was refused once is judged by number", {f"{RUNTIME}.restore:keeps_messages": _never, f"{CORE}.transition:numbered": more.keeps_numbers}, loads=("till",), rates={"refuses": 0.02, "crash": 0.04}, seeds=200),
    _bug("R-05", "a retry lets go of what was delivered", {f"{CORE}.parking:_again": more.lets_go}, loads=("patient",), sizes={"partitions": 1, "batch": 1}, rates={"crash": 0.2}, seeds=80),
    _bug("M-71", "a later batch without the earlier", {f"{STORE}.commit": _believed}, fence="refuse"),
)  # fmt: skip
BUGS: Mapping[str, Bug] = {bug.name: bug for bug in _ALL}
NOT_PLANTED: Mapping[str, str] = {
    "M-14": "an answer of NATS",
    "M-17": "positions are absolute: the next record passes over it, and a repeat is known",
    "M-19": "a new epoch is a new object: there is nothing to keep",
    "M-20": "no callback: membership is asked",
    "M-26": "caught by the trace on two hash seeds, a test",
    "M-27": "no record kinds beyond this release",
    "M-28": "labels: tests of the lock file",
    "M-37": "one namespace to a world",
    "M-40": "the participants' store",
    "M-41": "the participants' store",
    "M-42": "the participants' store",
    "M-43": "the participants' store",
    "M-44": "the participants' store",
    "M-48": "an undo is a step with a key: M-33",
    "M-60": "the participants' store",
    "M-67": "holes under the order fence are not simulated",
}
