"""A delivery to a service with a store: each attempt is one transaction over business rows, inbox row and outbox rows.

begin, take the delivery, run the reaction, write down its reply and what it emits, commit. What is committed is sent by the
relay. A failure of the reaction rolls back and is tried again, then ends as a dead letter; a failure of the database is
nobody's fault but its own: the delivery waits for it, and nothing is dead. An unanswered commit is asked for: the inbox knows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from contrapas.core.decode import time_of
from contrapas.core.lane import Draft, Record
from contrapas.errors import DataError, Indeterminate, LogError, Refused, StoreError
from contrapas.failpoints import NAMES, failpoint
from contrapas.participant import Known, Outgoing, Receipt, Store, outgoing_of
from contrapas.participant.rows import digest
from contrapas.runtime.attempts import ATTEMPTS, Attempts, TooLarge, words
from contrapas.runtime.clock import pause
from contrapas.runtime.reaction import Delivered, Handler, Unfit

if TYPE_CHECKING:
    from contrapas.runtime.services import Runner

NAMES["delivery.begun"] = "the transaction of a delivery is open, the delivery is not taken"
NAMES["delivery.handled"] = "a reaction has run in its transaction, its reply is not written"
NAMES["delivery.finished"] = "all rows of a delivery are written, nothing is committed"
NAMES["delivery.committed"] = "a delivery is committed, nobody knows it yet"
WAIT_MS = 50.0
WAIT_MAX_MS = 5_000.0
DATABASE = (LogError, StoreError, Refused)
"""What a store raises where the database is down, busy, read-only or without our tables."""


class Raised(Exception):
    """The reaction raised; the cause is what."""


class StoredAttempts(Attempts):
    """The attempts of one service's deliveries in its store."""

    def __init__(self, runner: Runner, store: Store[Any]) -> None:
        super().__init__(runner)
        self.store = store
        self.fresh: set[Receipt] = set()
        """Of those in work: what was handled here, not found."""

    async def tried(self, handler: Handler, delivered: Delivered, record: Record) -> list[Draft]:
        content_type = delivered.headers.get("content-type", b"").decode(errors="replace")
        sum_of = digest(handler.message.name, content_type, record.value or b"")
        receipt = Receipt(
            self.runner.namespace, self.runner.name, delivered.event_source, delivered.id, sum_of
        )
        try:
            return await self._until(handler, delivered, receipt)
        finally:
            self.runner.troubles.pop(receipt, None)
            self.fresh.discard(receipt)

    async def _until(self, handler: Handler, delivered: Delivered, receipt: Receipt) -> list[Draft]:
        failed = waited = 0
        unsure = False
        while True:
            try:
                return await self._once(handler, delivered, receipt, failed + 1, unsure)
            except Unfit as why:
                return self.gave_up(handler, delivered, "CP604", str(why), failed + 1)
            except TooLarge as why:
                return self.gave_up(handler, delivered, "CP409", str(why), failed + 1)
            except DataError as why:
                return self.gave_up(handler, delivered, why.code, why.text, failed + 1)
            except DATABASE as why:
                failed, waited = 0, waited + 1  # what failed before may have been the same trouble
                unsure = unsure or (isinstance(why, Indeterminate) and receipt in self.fresh)
                await self._wait(why, waited, receipt)
            except (Exception, SystemExit) as why:  # noqa: BLE001  of the reaction, or of a transaction that it broke
                failed, waited = failed + 1, 0
                if failed < ATTEMPTS:
                    await self.back_off(failed)
                elif await self._alive():
                    cause = why.__cause__ if isinstance(why, Raised) and why.__cause__ else why
                    return self.gave_up(handler, delivered, "CP841", words(cause), failed)

    async def _once(
        self, handler: Handler, d: Delivered, receipt: Receipt, attempt: int, unsure: bool
    ) -> list[Draft]:
        """One transaction; what is to be published besides. unsure: the commit of the attempt before was not answered, and
        its rows are there if its inbox row is."""
        async with self.store.begin(receipt, undoes=d.undoes) as tx:
            failpoint("delivery.begun")
            known = await tx.take(receipt, undoes=d.undoes)
            self.runner.troubles.pop(receipt, None)
            if known is not None:
                answer = self._again(d, receipt, known)
                if isinstance(answer, Draft):
                    return [answer]
                if answer is not None and not unsure:
                    await tx.finish(receipt, reply=None, reply_type="", rows=[answer])
                return []
            self.fresh.add(receipt)
            if (late := self._late(d)) is not None:
                raise late
            happened = await tx.happened(receipt, d.undoes) if d.undoes else None
            try:
                events = await handler.call(d, attempt, happened)
            except Unfit:
                raise
            except (Exception, SystemExit) as why:
                raise Raised from why
            failpoint("delivery.handled")
            rows = [outgoing_of(draft, self.runner.namespace) for draft in self.drafts(handler, events, d)]
            replies = handler.message.replies if handler.message.command else ()
            reply = next((row for row in rows if row.type in replies), None)
            await tx.finish(
                receipt,
                reply=None if reply is None else packed(reply),
                reply_type="" if reply is None else reply.type,
                rows=rows,
            )
            failpoint("delivery.finished")
        failpoint("delivery.committed")
        return []

    def _again(self, d: Delivered, receipt: Receipt, known: Known) -> Draft | Outgoing | None:
        """Of a delivery that was taken before: the dead letter of other bytes, or the row of the first reply, to be written
        once more. Through the outbox, because its JSON column may spell what it is given otherwise, and under one id there
        are one message's bytes. One that was undone before it came does nothing and answers nothing."""
        if known.outcome == "undone":
            return None
        if known.digest != receipt.digest:
            return self.other_bytes(d, receipt.digest, known.digest)
        return unpacked(known.reply) if known.reply else None

    def _late(self, d: Delivered) -> DataError | None:
        """What was made longer before it was sent than the inbox remembers may have been handled and forgotten (CP805). A time
        that is none must not hide that (CP415)."""
        text = d.headers.get("ce_time", b"").decode(errors="replace")
        if not text:
            return None
        mapping = self.runner.worker.setting.doors.mappings.get(d.lane)
        if mapping is not None and mapping.stale == "accept":
            return None
        try:
            made = time_of(text, d.record.timestamp_ms)
        except DataError as why:
            return why
        if made is None or (age := d.record.timestamp_ms - made) <= self.store.inbox_ms:
            return None
        return DataError(
            "CP805",
            f"it was made {age // 86_400_000} days before it was sent, and the inbox of {self.store.name} remembers "
            f"{self.store.inbox_ms // 86_400_000}: whether it was handled before is not known",
            fix='a longer inbox=, or stale = "accept" for its topic',
        )

    async def _wait(self, why: Exception, waited: int, receipt: Receipt) -> None:
        """Until the database may answer again; meanwhile health says what it said, and nothing more is read."""
        r = self.runner
        r.troubles[receipt] = f"{why}; the inbox is asked" if isinstance(why, Indeterminate) else str(why)
        wait = min(WAIT_MAX_MS, WAIT_MS * 2 ** min(waited - 1, 10))
        await pause(r.worker.clock, wait * (0.5 + r.worker.chance()))

    async def _alive(self) -> bool:
        """Whether the database answers: if not, the last failure was no fault of the delivery."""
        try:
            async with self.store.begin():
                return True
        except DATABASE:
            return False


def packed(row: Outgoing) -> bytes:
    """A reply as the inbox keeps it: JSON, so that people can read it."""
    text = {**row._asdict(), "payload": row.payload.decode(), "headers": dict(row.headers)}
    return json.dumps(text, ensure_ascii=False, separators=(",", ":")).encode()


def unpacked(text: bytes) -> Outgoing:
    """The same row."""
    found = json.loads(text)
    known = {name: found[name] for name in Outgoing._fields if name in found}
    return Outgoing(**{**known, "payload": found["payload"].encode()})
