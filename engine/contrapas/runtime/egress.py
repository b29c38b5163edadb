"""Messages on their way out, on a log that does not store them with the commit: sent until it is known, in order per key.

A destination that does not answer is asked again for ever. One that refuses for good (there is no such topic, it is
forbidden, a message is too large for it) holds up nobody else: what it refused is told to the caller, the rest has left.
A dead letter has no other place to go: it waits for its topic.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from contrapas.core.deadletter import dead_letter
from contrapas.core.envelope import Cause, InstanceRecord, Parked
from contrapas.core.lane import Draft, Record
from contrapas.core.order import refused as refused_once
from contrapas.core.parking import UNDELIVERABLE, fitting
from contrapas.core.work import next_record
from contrapas.core.world import Input, Transition
from contrapas.errors import ContrapasError, Indeterminate, Retriable
from contrapas.log import Log
from contrapas.runtime.clock import Clock, pause

FOR_GOOD = frozenset({"CP409", "CP413", "CP505", "CP822"})
"""What a destination says that it will say again: too large, not taken so, not there, not allowed."""
WHOLE = frozenset({"CP505", "CP822"})
"""Of these: what it says of every message."""
REFUSED = "refused"
_logger = logging.getLogger("contrapas.runtime")


class Refusal(NamedTuple):
    """A message that its destination does not take."""

    draft: Draft
    why: ContrapasError


class Sender:
    """How one partition, or one service, sends."""

    def __init__(self, log: Log, namespace: str, clock: Clock, chance: Callable[[], float]) -> None:
        self.log = log
        self.namespace = namespace
        self.clock = clock
        self.chance = chance
        self.trouble = ""
        """What a destination said that does not take anything now; empty: all is well."""

    async def send(self, drafts: Sequence[Draft]) -> list[Refusal]:
        """Publish until it is known to be done; a repeat carries the same ids. Gives what was refused for good."""
        if not await self._tried(drafts):
            return []
        by_topic: dict[str, list[Draft]] = {}
        for draft in drafts:
            by_topic.setdefault(draft.to, []).append(draft)
        found: list[Refusal] = []
        for group in by_topic.values():
            why = await self._tried(group)
            if why is not None and (why.code in WHOLE or len(group) == 1):
                found += [Refusal(draft, why) for draft in group]
            elif why is not None:
                found += await self._one_by_one(group)
        return found

    async def _one_by_one(self, group: Sequence[Draft]) -> list[Refusal]:
        found: list[Refusal] = []
        for draft in group:
            if (why := await self._tried([draft])) is not None:
                found.append(Refusal(draft, why))
        return found

    async def _tried(self, drafts: Sequence[Draft]) -> ContrapasError | None:
        """None: they have left. Else why one of them never will."""
        wait = 20.0
        while True:
            try:
                await self.log.publish(drafts)
                self.trouble = ""
                return None
            except (Retriable, Indeterminate) as why:
                if wait > 2_000:
                    self.trouble = str(why)
            except ContrapasError as why:
                if why.code not in FOR_GOOD:
                    raise
                if any(draft.to != f"{self.namespace}.dlq" for draft in drafts):
                    return why
                self.trouble = f"dead letters wait: {why}"
            await pause(self.clock, wait * (0.5 + self.chance()))
            wait = min(wait * 2, 5_000.0)

    def letters(self, refused: Sequence[Refusal], at: int) -> list[Draft]:
        """Dead letters of messages that no record holds. Redriven, they go where they should have gone."""
        found: list[Draft] = []
        for draft, why in refused:
            _logger.warning("a message for %s is refused: %s", draft.to, why)
            record = Record(
                draft.partition, -1, draft.key, draft.value, draft.headers, at
            )  # it was never there
            letter = dead_letter(
                record, namespace=self.namespace, code=why.code, error=str(why), at=at, lane=draft.to
            )
            found.append(letter._replace(message_id=f"dlq:{draft.to}:{draft.message_id}"))
        return found


def refused_input(instance: str, refused: Sequence[Refusal]) -> Input:
    """What an instance is told whose messages were refused: it stands still with them."""
    why = refused[0].why
    ids = "\n".join(r.draft.message_id for r in refused)
    cause = Cause(
        kind="operate", type=REFUSED, source="local", id=f"{why.code}:{refused[0].draft.message_id}"
    )
    event = Input(cause=cause, instance=instance, at=0, outcome=REFUSED, reason=f"{why.code} {why}")
    event.value = ids
    return event


def stopped(record: InstanceRecord, event: Input) -> Transition:
    """The instance with the refused messages kept, standing still until `retry` sends them."""
    ids = frozenset(event.value.split("\n"))
    held = [*record.unsent, *record.out]
    kept = [m for m in held if m.id in ids]
    code, _, words = event.reason.partition(" ")
    if not kept:  # it has them no more: they left after all
        return Transition(record=None, verdict="duplicate", code=code)
    new = next_record(record, event)
    new.out = []
    new.unsent = [refused_once(m) if m.id in ids else m for m in (kept if event.published else held)]
    before = record.parked
    new.parked = Parked(
        reason=UNDELIVERABLE,
        code=code,
        error=words[:8000],
        input=before.input if before is not None else None,
        status=before.status if before is not None else record.status,
    )
    new.status = "parked"
    return Transition(record=fitting(new), verdict="parked", code=code, reason=words)
