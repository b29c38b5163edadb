"""The items of a map: what of it is done, in flight, to come. Progress is what item records exist (X11).

The instance's record says what the map is made of and does not change while it runs; `Progress` is worked out from that
and from the item records, by whoever owns the partition. Positions begin in order, so what is in flight after a takeover
is known: every position that has begun and has no record that ends it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from contrapas.author.op import MISSING, Op, UndoRef
from contrapas.author.timeout import Failed
from contrapas.codec.messages import StepType
from contrapas.core.copies import copy_undo
from contrapas.core.empty import empty
from contrapas.core.envelope import Cause, InstanceRecord, Pending, UndoEntry
from contrapas.core.envelope_item import ItemRecord
from contrapas.core.kin import ended, of_saga
from contrapas.core.outcomes import failed, keep_failed, keep_list, keep_step, load_kept, words_of
from contrapas.core.policies import policy_from
from contrapas.core.work import Work
from contrapas.core.world import UNREAD, Input, StepCall, World
from contrapas.errors import BugError, Damaged, StepFailed

ENDED: Final = frozenset({"done", "failed", "unknown"})
_DECODER: Final = json.JSONDecoder()
LATE_MS: Final = 20
"""A rate may be made up for so long, and is looked after no more often."""
_NAMED_MAX: Final = 10
"""So many further failures are named beside the first."""


class Item(NamedTuple):
    """What is known of one position that has a record."""

    status: str
    text: str
    reason: str
    attempt: int
    retry_at: int | None
    version: int
    live: Any = UNREAD
    """The result itself, if it is of a type whose values never change and come back exactly (R10)."""


@dataclass(slots=True)
class Progress:
    """One map in progress."""

    pending: Pending
    texts: list[str]
    """Arguments of each item, as JSON."""
    concurrency: int
    rate: tuple[int, int] | None
    collect: bool
    timeout_ms: int
    items: dict[int, Item] = field(default_factory=empty(dict[int, Item]))
    begun: int = 0
    """Positions below have begun."""
    ended: int = 0
    failures: int = 0
    retries: dict[int, int] = field(default_factory=empty(dict[int, int]))
    """Position -> ms of log time of its next attempt."""
    begins_at: int = 0
    """ms of log time before which the rate lets nothing begin."""
    head: bytes = b""
    look: Callable[[int], tuple[InstanceRecord, Mapping[str, Any] | None] | None] | None = None
    """Of a map over a saga: the record of an item, and the progress of maps of its own."""

    @property
    def nested(self) -> bool:
        """The items run sagas."""
        return of_saga(self.pending)

    @property
    def key(self) -> str:
        """Idempotency key of the map as a whole."""
        return self.pending.key

    @property
    def stopped(self) -> bool:
        """An item failed, or the map is given up, and nothing more begins."""
        return (self.failures > 0 and not self.collect) or (self.pending.error != "" and self.nested)

    @property
    def complete(self) -> bool:
        """Nothing is in flight, and nothing more will begin."""
        return self.ended == self.begun and (self.begun == len(self.texts) or self.stopped)

    def copy(self) -> Progress:
        """As it stands now."""
        return Progress(
            self.pending,
            self.texts,
            self.concurrency,
            self.rate,
            self.collect,
            self.timeout_ms,
            dict(self.items),
            self.begun,
            self.ended,
            self.failures,
            dict(self.retries),
            self.begins_at,
            self.head,
            self.look,
        )

    def to_begin(self, at: int) -> range:
        """The positions that begin now; they count as begun."""
        first = self.begun
        if self.stopped:
            return range(0)
        count = len(self.texts) - first
        if self.concurrency:
            count = min(count, self.concurrency - (first - self.ended))
        if self.rate is not None and count > 0:
            each, per = self.rate
            # What was not used is not saved up, but for what a late look at the clock left over.
            since = max(self.begins_at, at - LATE_MS) if self.begins_at else at
            allowed = 0 if since > at else (at - since) * each // per + 1
            count = min(count, allowed)
            if count > 0:
                self.begins_at = since + -(-count * per // each)
        if count <= 0:
            return range(0)
        self.begun = first + count
        return range(first, self.begun)

    def to_retry(self, at: int) -> list[int]:
        """The positions whose next attempt is due; it begins now."""
        due = [position for position, when in self.retries.items() if when <= at]
        for position in due:
            del self.retries[position]
        return sorted(due)

    def wake(self) -> int | None:
        """ms of log time at which something is due without any result; None: nothing is."""
        times = list(self.retries.values())
        room = not self.concurrency or self.begun - self.ended < self.concurrency
        if self.rate is not None and not self.stopped and self.begun < len(self.texts) and room:
            each, per = self.rate
            times.append(self.begins_at if per >= LATE_MS * each else self.begins_at + LATE_MS)
        return min(times) if times else None

    def in_flight(self) -> list[int]:
        """Begun, not ended, and not waiting for a next attempt."""
        return [p for p in range(self.begun) if not self._over(p) and p not in self.retries]

    def _over(self, position: int) -> bool:
        item = self.items.get(position)
        return item is not None and item.status in ENDED

    def call(self, instance: str, position: int, epoch: int) -> StepCall:
        """The duty to run one item's next attempt."""
        before = self.items.get(position)
        return StepCall(
            instance,
            item_key(self.pending.key, position),
            self.pending.name,
            1 if before is None else before.attempt + 1,
            self.texts[position],
            self.timeout_ms,
            f"{self.pending.label}[{position}]",
            epoch,
            UNREAD,
            self.pending.key,
            position,
        )

    def take(self, event: Input, world: World) -> Item | None:
        """The result of an attempt; None when it is none that counts. The item is part of the progress then."""
        position = event.item
        before = self.items.get(position)
        if position >= self.begun or (before is not None and before.status in ENDED):
            return None
        version = 1 if before is None else before.version + 1
        if event.outcome == "ok":
            self.retries.pop(position, None)
            made = Item("done", str(event.body), "", event.attempt, None, version, event.live)
        else:
            if position in self.retries or event.attempt != (1 if before is None else before.attempt + 1):
                return None
            made = self._failed(event, version, world)
        self.items[position] = made
        if made.retry_at is not None:
            self.retries[position] = made.retry_at
        else:
            self.ended += 1
            self.failures += made.status != "done"
        return made

    def _failed(self, event: Input, version: int, world: World) -> Item:
        why: BaseException = (
            world.types.load_exception(event.error)
            if event.error
            else TimeoutError(event.reason or "no result in time")
        )
        policy = policy_from(self.pending.policy) if self.pending.policy else None
        definite = isinstance(why, StepFailed) and not why.unknown
        again = policy is not None and (policy.forever if definite else policy.allows(event.attempt))
        label = f"{self.pending.label}[{event.item}]"
        if definite:
            assert isinstance(why, StepFailed)
            why.step = why.step or label
            thrown = why
        else:
            thrown = failed(label, words_of(why), unknown=True)
            thrown.__cause__ = why
        retry_at = event.at + policy.delay_ms(event.attempt) if again and policy is not None else None
        status = "retrying" if again else "failed" if definite else "unknown"
        text = world.types.dump_exception(thrown)
        return Item(status, text, thrown.reason, event.attempt, retry_at, version)

    def over(self, record: InstanceRecord, world: World) -> bool:
        """An item that runs a saga has ended; False: that is known."""
        position = record.item
        if position >= self.begun or self._over(position):
            return False
        item = self.items[position] = ended(world, f"{self.pending.label}[{position}]", record)
        self.ended += 1
        self.failures += item.status != "done"
        return True

    def restore(self, record: ItemRecord) -> None:
        """An item record, at a takeover; `settle_begun` follows the last one."""
        self.items[record.position] = Item(
            record.status, record.text, record.reason, record.attempt, record.retry_at, record.version
        )
        if record.status in ENDED:
            self.ended += 1
            self.failures += record.status != "done"
        elif record.retry_at is not None:
            self.retries[record.position] = record.retry_at
        self.begun = max(self.begun, record.position + 1)

    def settle_begun(self, records: list[ItemRecord]) -> None:
        """After the last of them: where an item failed, what had begun by then is what has begun at all."""
        if self.stopped and not self.nested:
            first = min(r.begun for r in records if r.status in ENDED and r.status != "done")
            self.begun = max(self.begun, first)


def item_key(key: str, position: int) -> str:
    """Idempotency key of one item: `[position]` behind the label (R2)."""
    head, _, visit = key.rpartition("/")
    return f"{head}[{position}]/{visit}"


def body_of(op: Op[Any], texts: list[str]) -> str:
    """What a record keeps of a map: its limits, then the items, each as it is handed to the step."""
    many = op.many
    said = {"concurrency": many.concurrency, "rate": many.rate, "collect": many.collect}
    return f'{json.dumps(said, separators=(",", ":"))[:-1]},"items":[{",".join(texts)}]}}'


def progress_of(pending: Pending, record: InstanceRecord, world: World) -> Progress:
    """A map of which nothing has begun yet. Damaged CP520 when its body is not what `body_of` wrote."""
    try:
        head, _, rest = pending.body.partition(',"items":')
        said: dict[str, Any] = json.loads(head + "}")
        texts = _split(rest)
        rate = said["rate"]
        step: StepType | None = world.types.steps.get(pending.name)
        return Progress(
            pending,
            texts,
            int(said["concurrency"]),
            None if rate is None else (int(rate[0]), int(rate[1])),
            bool(said["collect"]),
            step.timeout_ms if step is not None else 30_000,
        )
    except (ValueError, KeyError, TypeError, IndexError) as why:
        raise Damaged("CP520", f"the items of {pending.label} do not read: {why}"[:300]) from why


def _split(text: str) -> list[str]:
    """The members of the array that a text begins with, each as it stands there."""
    found: list[str] = []
    if text[:2] == "[]":
        return found
    at = 1
    while True:
        _, end = _DECODER.raw_decode(text, at)
        found.append(text[at:end])
        if text[end] == "]":
            return found
        at = end + 1


def maps_of(record: InstanceRecord) -> list[Pending]:
    """Every map that an instance waits for."""
    if record.ended_at is not None:
        return []
    return [p for p in record.operations() if p.kind == "map"]


def finished(progress: Progress, record: InstanceRecord) -> Input:
    """The event that a map has ended, for its instance."""
    pending = progress.pending
    cause = Cause(kind="result", type=pending.name, source="local", id=pending.key)
    return Input(
        cause=cause,
        instance=record.instance,
        at=0,
        type=pending.name,
        in_reply_to=pending.key,
        map=pending.key,
        maps={pending.key: progress},
    )


def progress_in(work: Work, pending_key: str) -> Progress | None:
    """What this transition was told of a map."""
    return work.event.maps.get(pending_key) if work.event.maps else None


def result(work: Work, pending: Pending, *, kept: bool) -> tuple[Any, BaseException | None]:
    """The value of a map that has ended, or what it raises. kept: as the text that a branch keeps."""
    progress = progress_in(work, pending.key)
    if progress is None:
        raise BugError("CP901", f"{pending.label} ended, and nobody says how")
    bad = sorted(p for p, item in progress.items.items() if item.status in ("failed", "unknown"))
    if bad and not progress.collect:
        first = work.types.load_exception(progress.items[bad[0]].text)
        for position in bad[1 : _NAMED_MAX + 1]:
            first.add_note(f"also failed: [{position}] {progress.items[position].reason}")
        if len(bad) > _NAMED_MAX + 1:
            first.add_note(f"and {len(bad) - _NAMED_MAX - 1} more")
        return None, first
    items = [progress.items[p] for p in range(len(progress.texts))]
    if kept:
        texts = [
            keep_step(pending.name, i.text)
            if i.status == "done" and not progress.nested
            else i.text
            if i.status == "done"
            else keep_failed(i.reason, unknown=i.status == "unknown")
            for i in items
        ]
        return keep_list(texts, listed=True), None
    if progress.nested:
        return [
            load_kept(work.world, i.text)
            if i.status == "done"
            else Failed(reason=i.reason, unknown=i.status == "unknown")
            for i in items
        ], None
    load = work.types.steps[pending.name].result.load
    return [
        Failed(reason=i.reason, unknown=i.status == "unknown")
        if i.status != "done"
        else load(i.text)
        if i.live is UNREAD
        else i.live
        for i in items
    ], None


def register(work: Work, stack: list[UndoEntry], op: Op[Any], pending: Pending) -> int:
    """Note that the items are taken back one by one, as the `@step` or `undo=` says, or by what their saga did; -1 where
    there is nothing to take back."""
    if op.undo.__class__ is not UndoRef:
        default = None if op.many.saga else work.types.steps[op.name].undo
        if not op.many.saga and (op.undo is not MISSING or default is None or default is MISSING):
            return -1
    return stand(work, stack, pending)


def stand(work: Work, stack: list[UndoEntry], pending: Pending) -> int:
    """The place of what the items do among the undo entries; -1 after the pivot."""
    record = work.record
    if record.pivoted:
        return -1
    number = record.undo_count
    record.undo_count = number + 1
    stack.append(
        UndoEntry(
            number=number,
            label=pending.label,
            visit=pending.visit,
            key=pending.key,
            status="issued",
            kind="map",
            name=pending.name,
            step=pending.name,
            needs_reply=True,
        )
    )
    return number


def spread(work: Work, entry: UndoEntry) -> None:
    """A map is over, however it ended: its entry becomes one branch per item that may have had an effect (U5). `entry`
    may be changed."""
    progress = progress_in(work, entry.key)
    one = copy_undo(entry)
    one.kind = "lambda" if entry.saga else "default"
    entry.kind, entry.status, entry.needs_reply, entry.name = "group", "done", False, ""
    entry.captures, entry.saga, entry.graph = {}, "", ""
    if progress is None:
        return
    if progress.nested:
        from contrapas.core.nested import gather

        entry.step = ""
        gather(work, progress, entry, one if one.saga else None)
        return
    each = one
    number = work.record.undo_count
    for position in range(progress.begun):
        item = progress.items.get(position)
        if item is not None and item.status == "failed":
            continue
        one = of_item(each, position)
        one.number = number
        number += 1
        if item is not None and item.status == "done":
            one.reply = keep_step(entry.step, item.text)
        else:
            one.status = "unknown"
            one.unknown_at = work.at
            one.lost = item is not None
        entry.branches.append([one])
    entry.step = ""
    work.record.undo_count = number


def of_item(each: UndoEntry, position: int) -> UndoEntry:
    """How one item is taken back, as the entry of its map says of each."""
    one = copy_undo(each)
    one.label = f"{each.label}[{position}]"
    one.key = item_key(each.key, position)
    one.status = "done"
    return one
