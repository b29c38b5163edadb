"""Avro bytes to an instance record, read by hand in the schema's order; the other half of `envelope_avro`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from contrapas.core.envelope import (
    Begun,
    Cause,
    Frame,
    InstanceRecord,
    Join,
    Limit,
    Message,
    Node,
    Parked,
    Pending,
    UndoEntry,
    Unwinding,
)
from contrapas.core.envelope_talk import read_talk

T = TypeVar("T")
_DEPTH_MAX: Final = 200


class Reader:
    """A place in some bytes. IndexError or ValueError where they end too early or say nonsense."""

    __slots__ = ("at", "data", "depth")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at
        self.depth = 0

    def long(self) -> int:
        """A zigzag varint of at most 64 bits."""
        data = self.data
        at = self.at
        byte = data[at]
        at += 1
        if byte < 128:
            self.at = at
            return (byte >> 1) ^ -(byte & 1)
        value = byte & 127
        shift = 7
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 63:
                raise ValueError("a number has more than 64 bits")
        if shift == 63 and byte > 1:
            raise ValueError("a number has more than 64 bits")
        self.at = at
        return (value >> 1) ^ -(value & 1)

    def raw(self) -> bytes:
        """A length, then so many bytes."""
        size = self.long()
        at = self.at
        end = at + size
        if size < 0 or end > len(self.data):
            raise ValueError("a length points beyond the end")
        self.at = end
        return self.data[at:end]

    def text(self) -> str:
        """The same as UTF-8."""
        data = self.data
        at = self.at
        byte = data[at]
        if byte < 128 and not byte & 1:
            end = at + 1 + (byte >> 1)
            if end > len(data):
                raise ValueError("a length points beyond the end")
            self.at = end
            return data[at + 1 : end].decode()
        return self.raw().decode()

    def truth(self) -> bool:
        """One byte, 0 or 1."""
        byte = self.data[self.at]
        self.at += 1
        if byte > 1:
            raise ValueError("a truth value is neither 0 nor 1")
        return byte == 1

    def some(self) -> bool:
        """The branch of a union with null: is there something?"""
        byte = self.data[self.at]
        self.at += 1
        if byte not in (0, 2):
            raise ValueError("a union names a branch it does not have")
        return byte == 2

    def maybe(self) -> int | None:
        """A number or null."""
        return self.long() if self.some() else None

    def maybe_text(self) -> str | None:
        """A text or null."""
        return self.text() if self.some() else None

    def many(self, item: Callable[[], T]) -> list[T]:
        """An array, in however many blocks."""
        found: list[T] = []
        while (count := self._block()) > 0:
            for _ in range(count):
                found.append(item())
        return found

    def _block(self) -> int:
        count = self.long()
        if count < 0:
            self.long()
            count = -count
        if count > len(self.data):
            raise ValueError("a count is larger than the record")
        return count

    def texts(self) -> dict[str, str]:
        """A map of texts."""
        return dict(self.many(self._named_text))

    def longs(self) -> dict[str, int]:
        """A map of numbers."""
        return dict(self.many(self._named_long))

    def _named_text(self) -> tuple[str, str]:
        return self.text(), self.text()

    def _named_long(self) -> tuple[str, int]:
        return self.text(), self.long()

    def header(self) -> tuple[str, bytes]:
        """One header."""
        return self.text(), self.raw()


def read_instance(data: bytes, at: int) -> tuple[InstanceRecord, int]:
    """A record from `at` on, and where it ends."""
    r = Reader(data, at)
    instance, saga, key, run, mode, on_late = r.text(), r.text(), r.text(), r.text(), r.text(), r.text()
    started_at, start_id, start_digest, late = r.long(), r.text(), r.raw(), r.long()
    head = data[:at] + data[at : r.at]
    version, epoch, writer, status, now = r.long(), r.long(), r.text(), r.text(), r.long()
    record = InstanceRecord(
        instance=instance,
        saga=saga,
        key=key,
        run=run,
        mode=mode,
        on_late=on_late,
        started_at=started_at,
        start_id=start_id,
        start_digest=start_digest,
        late_replies_ms=late,
        version=version,
        epoch=epoch,
        writer=writer,
        status=status,
        at=now,
        root=_node(r),
        cause=_cause(r),
        positions=r.longs(),
        seen=r.many(r.raw),
        out=r.many(lambda: _message(r)),
        unsent=r.many(lambda: _message(r)),
        undo_count=r.long(),
        deadline=r.maybe(),
        pivoted=r.truth(),
        ended_at=r.maybe(),
        cancel=r.text(),
        outcome=r.text(),
        outcome_body=r.text(),
        error=r.text(),
        unwound=r.truth(),
        undone=r.truth(),
        paused=r.truth(),
        retain_until=r.maybe(),
        kept=r.many(lambda: _cause(r)),
        owed=r.many(lambda: _entry(r)),
        binds=r.many(lambda: _pending(r)),
        parked=_parked(r) if r.some() else None,
        talk=read_talk(r, lambda: _cause(r)) if r.some() else None,
        parent=r.text(),
        parent_ops=r.many(r.text),
        cancelled_at=r.maybe(),
        again=r.truth(),
    )
    record.head = head
    return record, r.at


def _node(r: Reader) -> Node:
    r.depth += 1
    if r.depth > _DEPTH_MAX:
        raise ValueError("joins are nested deeper than any saga nests them")
    node = Node(
        frames=r.many(lambda: _frame(r)),
        pending=_pending(r) if r.some() else None,
        undo=r.many(lambda: _entry(r)),
        join=_join(r) if r.some() else None,
        unwinding=_unwinding(r) if r.some() else None,
        result=r.maybe_text(),
        error=r.maybe_text(),
        cancel=r.text(),
        limit=_limit(r) if r.some() else None,
    )
    r.depth -= 1
    return node


def _frame(r: Reader) -> Frame:
    return Frame(
        saga=r.text(),
        graph=r.text(),
        label=r.text(),
        slots=r.texts(),
        scopes=r.many(r.long),
        undo=r.long(),
        begun=r.many(lambda: _begun(r)),
        limits=r.many(lambda: _limit(r)),
    )


def _begun(r: Reader) -> Begun:
    return Begun(
        label=r.text(),
        visit=r.text(),
        depth=r.long(),
        node=_node(r),
        suffix=r.text(),
        saga=r.text(),
        number=r.long(),
        ended=r.long(),
        given=r.text(),
        owed=r.truth(),
    )


def _limit(r: Reader) -> Limit:
    return Limit(depth=r.long(), key=r.text(), since=r.long(), deadline=r.maybe(), expired=r.truth())


def _pending(r: Reader) -> Pending:
    return Pending(
        key=r.text(),
        label=r.text(),
        visit=r.long(),
        kind=r.text(),
        name=r.text(),
        types=tuple(r.many(r.text)),
        attempt=r.long(),
        since=r.long(),
        policy=r.text(),
        body=r.text(),
        undo=r.long(),
        deadline=r.maybe(),
        target=r.text(),
        retry_at=r.maybe(),
        correlate=r.text(),
        wait_id=r.text(),
        error=r.text(),
        each_at=r.maybe(),
        undoes=r.text(),
    )


def _entry(r: Reader) -> UndoEntry:
    began = r.at
    r.depth += 1
    if r.depth > _DEPTH_MAX:
        raise ValueError("undo entries are nested deeper than any saga nests them")
    entry = UndoEntry(
        number=r.long(),
        label=r.text(),
        visit=r.long(),
        key=r.text(),
        status=r.text(),
        kind=r.text(),
        name=r.text(),
        body=r.text(),
        types=tuple(r.many(r.text)),
        step=r.text(),
        needs_reply=r.truth(),
        policy=r.text(),
        captures=r.texts(),
        saga=r.text(),
        graph=r.text(),
        reply=r.text(),
        within_ms=r.maybe(),
        branches=r.many(lambda: r.many(lambda: _entry(r))),
        unknown_at=r.maybe(),
        lost=r.truth(),
        owed_until=r.maybe(),
        pending=_pending(r) if r.some() else None,
        note=r.text(),
        undo_failed=r.truth(),
    )
    r.depth -= 1
    entry.raw = r.data[began : r.at]
    return entry


def _join(r: Reader) -> Join:
    return Join(
        kind=r.text(),
        label=r.text(),
        visit=r.long(),
        fail_fast=r.truth(),
        children=r.many(lambda: _node(r)),
        done_order=r.many(r.long),
        winner=r.long(),
        thrown=r.text(),
        listed=r.truth(),
        need=r.long(),
        ignore=r.truth(),
    )


def _unwinding(r: Reader) -> Unwinding:
    return Unwinding(floor=r.long(), then=r.text(), cause=r.text(), whole=r.truth())


def _cause(r: Reader) -> Cause:
    return Cause(
        kind=r.text(),
        type=r.text(),
        source=r.text(),
        id=r.text(),
        partition=r.long(),
        offset=r.long(),
        headers=tuple(r.many(r.header)),
        value=r.raw(),
        note=r.text(),
    )


def _message(r: Reader) -> Message:
    return Message(to=r.text(), key=r.raw(), value=r.raw(), headers=tuple(r.many(r.header)), id=r.text())


def _parked(r: Reader) -> Parked:
    return Parked(
        reason=r.text(),
        code=r.text(),
        error=r.text(),
        trace=r.text(),
        input=_cause(r) if r.some() else None,
        status=r.text(),
    )
