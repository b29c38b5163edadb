"""Stores with one rule broken each, and the cases that must notice: a suite that passes them would prove nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

from contrapas.errors import Indeterminate, Retriable
from contrapas.participant import FAILED, Claim, Event, Finding, Known, Receipt, StoreStatus, written
from contrapas.participant.memory import MemoryOutbox, MemorySession, MemoryStore, MemoryTx
from contrapas.participant.memory_database import InboxRow, RelayRow
from contrapas.participant.rows import Outgoing, Row


class Planted(MemoryStore):
    """What all of them share: the parts are named, so that each replaces only its own."""

    tx_kind: type[MemoryTx] = MemoryTx
    outbox_kind: type[MemoryOutbox] = MemoryOutbox

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._outbox = self.outbox_kind(self)

    def tx(self, session: MemorySession) -> MemoryTx:
        return self.tx_kind(session)


# ---- the inbox


class ForgetfulTx(MemoryTx):
    async def take(self, receipt: Receipt, *, undoes: str = "") -> Known | None:
        await super().take(receipt, undoes=undoes)
        self.session.inbox[receipt[:4]] = InboxRow("done", b"", None, "", 0)
        return None


class NoReplyTx(MemoryTx):
    async def finish(self, receipt: Receipt, *, reply: Any, reply_type: str, rows: Any) -> None:
        await super().finish(receipt, reply=None, reply_type=reply_type, rows=rows)


class ForgetsAtTheRepeatTx(MemoryTx):
    async def finish(self, receipt: Receipt, *, reply: Any, reply_type: str, rows: Any) -> None:
        await super().finish(receipt, reply=reply, reply_type=reply_type, rows=rows)
        if reply is None:
            self.database.inbox[receipt[:4]] = InboxRow("done", receipt.digest, None, "", 0)


class NewestDigestTx(MemoryTx):
    async def take(self, receipt: Receipt, *, undoes: str = "") -> Known | None:
        known = await super().take(receipt, undoes=undoes)
        return known and known._replace(digest=receipt.digest)


class EarlyTx(MemoryTx):
    async def finish(
        self, receipt: Receipt, *, reply: Any, reply_type: str, rows: Sequence[Outgoing]
    ) -> None:
        await super().finish(receipt, reply=reply, reply_type=reply_type, rows=rows)
        self.database.outbox.update(self.session.outbox)


class UnscopedTx(MemoryTx):
    async def _insert(
        self, receipt: Receipt, outcome: Literal["done", "undone"], digest: bytes
    ) -> Known | None:
        return await super()._insert(Receipt("", "", "", receipt.id, b""), outcome, digest)

    async def finish(self, receipt: Receipt, *, reply: Any, reply_type: str, rows: Any) -> None:
        await super().finish(
            Receipt("", "", "", receipt.id, b""), reply=reply, reply_type=reply_type, rows=rows
        )


class ImpatientTx(MemoryTx):
    async def _insert(
        self, receipt: Receipt, outcome: Literal["done", "undone"], digest: bytes
    ) -> Known | None:
        key = receipt[:4]
        self.database.held.pop(("inbox", key), None)
        return await super()._insert(receipt, outcome, digest)


class UndoesNothingTx(MemoryTx):
    async def take(self, receipt: Receipt, *, undoes: str = "") -> Known | None:
        return await super().take(receipt)


class OverwritesTx(MemoryTx):
    async def take(self, receipt: Receipt, *, undoes: str = "") -> Known | None:
        known = await super().take(receipt, undoes=undoes)
        if undoes:
            key = receipt._replace(id=undoes)[:4]
            self.session.inbox[key] = InboxRow("undone", b"", None, "", 0)
        return known


class NeverAgainTx(MemoryTx):
    async def retake(self, receipt: Receipt, known: Known) -> Known | None:
        return known


class RetakesBlindlyTx(MemoryTx):
    async def take(self, receipt: Receipt, *, undoes: str = "") -> Known | None:
        found = self.database.inbox.get(receipt[:4])
        if found is not None and found.reply_type == FAILED:  # seen without a lock, as a database reads
            return Known(found.outcome, found.digest, found.reply, found.reply_type)
        return await super().take(receipt, undoes=undoes)

    async def retake(self, receipt: Receipt, known: Known) -> Known | None:
        key = receipt[:4]
        self.session.inbox[key] = self.database.inbox[key]._replace(reply=None, reply_type="")
        return None


class RetakesAtOnceTx(MemoryTx):
    async def retake(self, receipt: Receipt, known: Known) -> Known | None:
        found = await super().retake(receipt, known)
        self.database.inbox.update(self.session.inbox)
        return found


class AlwaysHappenedTx(MemoryTx):
    async def happened(self, receipt: Receipt, undoes: str) -> bool:
        return True


# ---- transactions


class CommitsFailures(Planted):
    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemorySession]:
        async with super().transaction() as session:
            try:
                yield session
            except Exception:
                session.commit()
                raise

    def kill(self) -> None:
        for session in list(self._mine):
            session.commit()


class OneAtATime(Planted):
    @asynccontextmanager
    async def begin(self, receipt: Receipt | None = None, *, undoes: str = "") -> AsyncGenerator[MemoryTx]:
        lock: asyncio.Lock = self.database.__dict__.setdefault("only", asyncio.Lock())
        async with lock, super().begin(receipt, undoes=undoes) as tx:
            yield tx


class KeepsSession(Planted):
    @asynccontextmanager
    async def begin(self, receipt: Receipt | None = None, *, undoes: str = "") -> AsyncGenerator[MemoryTx]:
        async with super().begin(receipt, undoes=undoes) as tx:
            self._kept = tx.session
            yield tx

    def session(self) -> MemorySession:
        return getattr(self, "_kept", None) or super().session()


class PublishesAtOnce(Planted):
    async def publish(self, session: MemorySession, *events: Event) -> None:
        for event in events:
            seq = self.database.numbered()
            self.database.outbox[seq] = Row(seq, written(event, self.source, 1), 1)


class DenialOfDoubt(Planted):
    """Takes an unanswered commit for one that never was."""

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemorySession]:
        try:
            async with super().transaction() as session:
                yield session
        except Indeterminate:
            raise Retriable("not written") from None


class WritesAndFails(Planted):
    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemorySession]:
        async with super().transaction() as session:
            try:
                yield session
            except Retriable:
                session.commit()
                raise


# ---- the outbox


class BackwardsOutbox(MemoryOutbox):
    async def page(self, after: int, upto: int, limit: int) -> Sequence[Row]:
        return list(reversed(await super().page(after, upto, limit)))


class RestlessOutbox(MemoryOutbox):
    async def upto(self, last: int, *, wait_ms: int) -> int:
        return max(await super().upto(last, wait_ms=wait_ms), last + 1)


class BoundlessOutbox(MemoryOutbox):
    async def page(self, after: int, upto: int, limit: int) -> Sequence[Row]:
        return await super().page(after - 1, upto, 1000)


class SleepyOutbox(MemoryOutbox):
    async def upto(self, last: int, *, wait_ms: int) -> int:
        await asyncio.sleep(wait_ms / 1000)
        return await super().upto(last, wait_ms=0)


class GapFearingOutbox(MemoryOutbox):
    async def upto(self, last: int, *, wait_ms: int) -> int:
        upto = await super().upto(last, wait_ms=wait_ms)
        while last < upto and last + 1 in self.database.outbox:
            last += 1
        return last


class NaiveOutbox(MemoryOutbox):
    def _reached(self, last: int) -> int:
        return max([last, *self.database.outbox])


class OpenClaimOutbox(MemoryOutbox):
    async def claim(self, name: str, owner: str) -> Claim:
        if name in self.database.relays:
            self.database.relays[name].owner = ""
        return await super().claim(name, owner)


class UnfencedOutbox(MemoryOutbox):
    async def advance(self, name: str, epoch: int, seq: int) -> None:
        self.database.relays[name].last = seq


class MarksWhatItReads(MemoryOutbox):
    async def page(self, after: int, upto: int, limit: int) -> Sequence[Row]:
        found = await super().page(after, upto, limit)
        if found:
            self.database.relays.setdefault("shop", RelayRow()).last = found[-1].seq
        return found


class NumbersAtCommit(Planted):
    """Breaks no rule: numbers and commits agree, so that the naive cursor would do."""

    @asynccontextmanager
    async def begin(self, receipt: Receipt | None = None, *, undoes: str = "") -> AsyncGenerator[MemoryTx]:
        async with super().begin(receipt, undoes=undoes) as tx:
            yield tx
            rows, tx.session.outbox = list(tx.session.outbox.values()), {}
            for row in rows:
                tx.session.add(row.message)


# ---- keeping


class PrunesAll(Planted):
    async def prune(self, *, budget_ms: int) -> tuple[int, int]:
        self.database.inbox.clear()
        self.database.outbox.clear()
        return 0, 0


class CountsNothing(Planted):
    async def status(self) -> StoreStatus:
        return (await super().status())._replace(outbox=0, inbox=0)


class StartsAfresh(Planted):
    async def prepare(self) -> None:
        self.database.inbox.clear()


class MakesTables(Planted):
    async def examine(self) -> Sequence[Finding]:
        self.database.prepared = True
        return ()


def with_tx(kind: type[MemoryTx]) -> type[MemoryStore]:
    return type(kind.__name__, (Planted,), {"tx_kind": kind})


def with_outbox(kind: type[MemoryOutbox]) -> type[MemoryStore]:
    return type(kind.__name__, (Planted,), {"outbox_kind": kind})


PLANTS: dict[type[MemoryStore], tuple[str, ...]] = {
    with_tx(ForgetfulTx): (
        "a delivery is handled once however often it comes",
        "of two at once the second waits and finds what the first left",
        "a crash at any point leaves the delivery to the next",
    ),
    with_tx(NoReplyTx): ("the reply of the first time is given again",),
    with_tx(ForgetsAtTheRepeatTx): ("a repeat is answered by the same row written once more",),
    with_tx(NewestDigestTx): ("the same id with another payload is told by the first digest",),
    with_tx(EarlyTx): ("nothing is seen before the commit and all of it afterwards",),
    with_tx(UnscopedTx): (
        "ids are of one namespace consumer and source",
        "an undo marks steps of its own source only",
    ),
    with_tx(ImpatientTx): (
        "of two at once the second waits and finds what the first left",
        "where the first of two fails the second handles it",
        "a step in its transaction makes the undo wait",
        "a step waits for the undo that is in its transaction",
    ),
    with_tx(NeverAgainTx): ("a failure is found by who comes later and gives way to a later attempt",),
    with_tx(RetakesBlindlyTx): ("of two attempts at once one takes a failed key and the other waits",),
    with_tx(RetakesAtOnceTx): ("an attempt that breaks off leaves the failure as it was",),
    with_tx(UndoesNothingTx): ("an undo that overtakes its step wins",),
    with_tx(OverwritesTx): ("an undo after its step is told that it happened",),
    with_tx(AlwaysHappenedTx): ("an undo that overtakes its step wins",),
    CommitsFailures: (
        "a failure is rolled back whole and passes unchanged",
        "an undo that fails takes its mark back",
        "a crash at any point leaves the delivery to the next",
    ),
    OneAtATime: ("deliveries with different ids run at the same time",),
    KeepsSession: ("the session is the delivery s and there is none outside",),
    PublishesAtOnce: ("business code publishes in its own transaction",),
    DenialOfDoubt: ("a commit without an answer is decided by the inbox",),
    WritesAndFails: ("a call that fails has written nothing",),
    with_outbox(BackwardsOutbox): (
        "rows come back as they were written in the order of their numbers",
        "a page ends at its limit and goes on behind it",
    ),
    with_outbox(RestlessOutbox): ("nothing new gives the same number after the wait",),
    with_outbox(BoundlessOutbox): ("a page ends at its limit and goes on behind it",),
    with_outbox(SleepyOutbox): ("a commit wakes the relay that waits",),
    with_outbox(GapFearingOutbox): ("the hole of a rollback holds nobody up",),
    with_outbox(NaiveOutbox): (
        "a row that may still appear below holds back what is above it",
        "twelve jittered writers lose nothing and keep the order of their keys",
    ),
    NumbersAtCommit: ("the naive cursor loses rows under the same writers",),
    with_outbox(OpenClaimOutbox): ("a claim keeps others out until it is given up",),
    with_outbox(UnfencedOutbox): ("a relay that was deposed moves nothing any more",),
    with_outbox(MarksWhatItReads): ("a relay killed at any point delivers all in order",),
    PrunesAll: (
        "what is younger than the inbox remembers is never pruned",
        "a row that was not acknowledged is never pruned",
    ),
    CountsNothing: ("the status counts what waits and what is remembered",),
    StartsAfresh: ("preparing again and examining change nothing",),
    MakesTables: ("a database without our tables is refused and not changed",),
}
