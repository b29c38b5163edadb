"""A delivery to a service without a store: the reaction runs until it succeeds, or has failed often enough.

A command that comes again is answered with the reply of the first time, as far back as a bounded memory goes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from contrapas.core.deadletter import dead_letter
from contrapas.core.decode import VALUE_MAX
from contrapas.core.lane import Draft, Record
from contrapas.core.rendezvous import digest_of, hashes
from contrapas.errors import DataError
from contrapas.runtime.clock import pause
from contrapas.runtime.reaction import Delivered, Handler, Unfit

if TYPE_CHECKING:
    from contrapas.runtime.services import Runner

ANSWERS_MAX = 10_000
ANSWERS_BYTES_MAX = 32 << 20
ATTEMPTS = 5
BACKOFF_MS = 100.0


class Attempts:
    """The attempts of one service's deliveries."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.answers: OrderedDict[tuple[str, str], tuple[bytes, list[Draft]]] = OrderedDict()
        self.answers_bytes = 0

    async def handled(self, handler: Handler, record: Record, lane: str, source: str) -> list[Draft]:
        """Handle one delivery to its end; what is still to be published."""
        r = self.runner
        try:
            delivered = await r.fetching(
                lambda: handler.decode(record, lane=lane, source=source, doors=r.doors)
            )
        except DataError as why:
            return [self.dead(record, lane, why.code, why.text, 1)]
        return await self.tried(handler, delivered, record)

    async def tried(self, handler: Handler, delivered: Delivered, record: Record) -> list[Draft]:
        """The same, decoded."""
        identity = (delivered.event_source, delivered.id)
        digest = digest_of(delivered.event_source, delivered.id, record.value or b"")
        known = self.answers.get(identity)
        if known is not None:
            if known[0] == digest:
                return known[1]
            return [self.other_bytes(delivered, digest, known[0])]
        drafts, answered = await self._answered(handler, delivered)
        if answered:
            self.remember(identity, digest, drafts)
        return drafts

    async def _answered(self, handler: Handler, delivered: Delivered) -> tuple[list[Draft], bool]:
        """What it emits, and whether that is an answer. Giving up is none: who sends it again wants another try."""
        said = ""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self.drafts(handler, await handler.call(delivered, attempt), delivered), True
            except Unfit as why:
                return self.gave_up(handler, delivered, "CP604", str(why), attempt), False
            except TooLarge as why:
                return self.gave_up(handler, delivered, "CP409", str(why), attempt), False
            except (Exception, SystemExit) as why:  # noqa: BLE001  whatever a reaction raises is an attempt that failed
                said = words(why)
                if attempt < ATTEMPTS:
                    await self.back_off(attempt)
        return self.gave_up(handler, delivered, "CP841", said, ATTEMPTS), False

    def drafts(self, handler: Handler, events: list[object], delivered: Delivered) -> list[Draft]:
        """What a reaction returned, as messages. TooLarge."""
        r = self.runner
        count = r.worker.setting.doors.partitions
        drafts = handler.drafts(events, delivered, r.types, r.namespace, r.name, count)
        for draft in drafts:
            if len(draft.value or b"") > VALUE_MAX:
                raise TooLarge(f"it returned {len(draft.value or b'')} bytes, {VALUE_MAX} are allowed")
        return drafts

    async def back_off(self, attempt: int) -> None:
        """The pause after a failed attempt."""
        r = self.runner
        await pause(r.worker.clock, BACKOFF_MS * 2 ** (attempt - 1) * (0.5 + r.worker.chance()))

    def gave_up(self, handler: Handler, d: Delivered, code: str, said: str, attempts: int) -> list[Draft]:
        """The dead letter, and the answer to a command: its outcome is unknown."""
        r = self.runner
        count = r.worker.setting.doors.partitions
        dead = self.dead(d.record, d.lane, code, f"{handler.name}: {said}", attempts)
        return [dead, *handler.gave_up(d, said, r.types, r.namespace, r.name, count)]

    def other_bytes(self, d: Delivered, digest: bytes, known: bytes) -> Draft:
        """The dead letter of an id that came with another payload."""
        text = f"the id {d.id[:80]!r} came with other bytes: {hashes(digest, known)}"
        return self.dead(d.record, d.lane, "CP412", text, 1)

    def dead(self, record: Record, lane: str, code: str, text: str, attempts: int) -> Draft:
        """A dead letter."""
        return dead_letter(
            record,
            namespace=self.runner.namespace,
            code=code,
            error=text,
            at=record.timestamp_ms,
            instance="",
            lane=lane,
            attempts=attempts,
        )

    def remember(self, key: tuple[str, str], digest: bytes, drafts: list[Draft]) -> None:
        """What a delivery was answered with."""
        self.answers[key] = (digest, drafts)
        self.answers_bytes += _size(drafts)
        while len(self.answers) > ANSWERS_MAX or self.answers_bytes > ANSWERS_BYTES_MAX:
            _, (_, forgotten) = self.answers.popitem(last=False)
            self.answers_bytes -= _size(forgotten)


class TooLarge(Exception):
    """A reaction returned more than a message may hold (CP409)."""


def words(why: BaseException) -> str:
    """What was raised, for people."""
    return f"{type(why).__name__}: {why}"[:1000]


def _size(drafts: list[Draft]) -> int:
    return sum(len(d.value or b"") for d in drafts)
