"""Who saw every record of a lane before the cleaner did and knows its writer, and what all effects are held against.

A record names the claim that its writer had made (`racing.WRITER`). The first claim above the ruling one's epoch rules;
what was written under another claim is void. No epoch but a claim's is looked at, so that the fold by epochs is judged by
something that is not the fold by epochs. Beside it stands a plain consumer with the one line of the wire format.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from contrapas.core.envelope import ENDED
from contrapas.core.envelope_avro import decode
from contrapas.core.fold import fold
from contrapas.core.lane import Record
from contrapas.errors import ContrapasError
from tests.scenarios.racing import WRITER
from tests.scenarios.referee import Follower, states
from tests.scenarios.telling import Line

CLAIM: Final = b"$claim/"
SHOWN: Final = 5


@dataclass(slots=True)
class Plain:
    """A reader in any language: keep the highest `cp-epoch` seen, in every record; ignore a record below it."""

    epoch: int = 0
    states: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])

    def see(self, record: Record) -> None:
        """The next record."""
        said = dict(record.headers).get("cp-epoch", b"")
        epoch = int(said) if said.isdigit() else -1
        if epoch < self.epoch:
            return
        self.epoch = epoch
        keep(self.states, record)


@dataclass(slots=True)
class Witness:
    """One partition."""

    next: int = 0
    missed: int = 0
    """Offsets that were never seen."""
    ruler: bytes = b""
    epoch: int = -1
    former: set[bytes] = field(default_factory=set[bytes])
    states: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    """Digest of what counts, by key."""
    plain: Plain = field(default_factory=Plain)
    counted: bytearray = field(default_factory=bytearray)
    """By offset."""
    saw: Counter[str] = field(default_factory=Counter[str])
    issued: set[str] = field(default_factory=set[str])
    """Idempotency keys of local steps that records which count issued."""
    sent: set[str] = field(default_factory=set[str])
    """Ids of messages that they send."""
    ended: dict[str, str] = field(default_factory=dict[str, str])
    """Outcome of each instance that has ended."""

    def see(self, record: Record) -> None:
        """The next record."""
        self.missed += record.offset - self.next
        self.counted += b"\0" * (record.offset + 1 - len(self.counted))
        self.next = record.offset + 1
        self.saw["records"] += 1
        self.plain.see(record)
        headers = dict(record.headers)
        writer = headers.get(WRITER, b"")
        if record.key.startswith(CLAIM) and record.value is not None:
            self._claim(record, writer, int(headers["cp-epoch"]))
        if writer != self.ruler:
            self.saw["late" if writer in self.former else "void"] += 1
            return
        self.counted[record.offset] = 1
        self.saw["heals"] += headers.get("cp-cause") == b"heal"
        self.saw["tombstones"] += record.value is None
        keep(self.states, record)
        if record.value is not None and headers.get("cp-kind") == b"instance":
            body = decode(record.value)
            self.issued |= {p.key for p in body.operations() if p.kind == "local"}
            self.sent |= {m.id for m in (*body.unsent, *body.out)}
            if body.status in ENDED:
                self.ended[body.instance] = body.outcome

    def _claim(self, record: Record, writer: bytes, epoch: int) -> None:
        self.saw["claims"] += 1
        if epoch > self.epoch:
            self.former.add(self.ruler)
            self.epoch, self.ruler = epoch, writer
        elif epoch == self.epoch:
            self.saw["equal"] += 1


def keep(found: dict[bytes, bytes], record: Record) -> None:
    """The state of a key; control records and claims aside."""
    if record.value is None:
        found.pop(record.key, None)
    elif not record.key.startswith((b"$part", CLAIM)):
        found[record.key] = digest(record.value)


def digest(value: bytes) -> bytes:
    """Enough of it."""
    return hashlib.blake2b(value, digest_size=12).digest()


class Witnesses(Follower):
    """A witness for each partition of a lane."""

    def __init__(self, address: str, topic: str, partitions: int) -> None:
        super().__init__(address, topic, partitions)
        self.of = [Witness() for _ in range(partitions)]

    def see(self, record: Record) -> None:
        self.of[record.partition].see(record)

    def count(self, what: str) -> int:
        """How often it was seen, everywhere."""
        return sum(w.saw[what] for w in self.of)

    def ended(self) -> dict[str, str]:
        """Outcome of each instance that has ended."""
        return {key: outcome for w in self.of for key, outcome in list(w.ended.items())}

    def level(self, ends: Sequence[int], seconds: float = 30) -> bool:
        """Wait until it has seen what stands before these offsets."""
        until = time.monotonic() + seconds
        while not all(w.next >= end for w, end in zip(self.of, ends, strict=True)):
            if time.monotonic() > until or self.trouble:
                return False
            time.sleep(0.05)
        return True


@dataclass(slots=True)
class Effects:
    """What left, wherever it went."""

    committed: list[Line] = field(default_factory=list[Line])
    """What leases said is committed."""
    steps: set[str] = field(default_factory=set[str])
    """Idempotency keys of the steps that were started."""
    messages: set[str] = field(default_factory=set[str])
    """Ids on the users' topics."""


def equal(witnesses: Sequence[Witness], left: Sequence[Sequence[Record]]) -> list[str]:
    """What is left folds to what counted, by our fold and by the plain rule; so does the plain rule over all there was."""
    bad: list[str] = []
    for n, (w, records) in enumerate(zip(witnesses, left, strict=True)):
        if w.missed:
            bad.append(f"partition {n}: {w.missed} offsets were not seen")
        if different(w.plain.states, w.states):
            bad.append(f"partition {n}: a plain consumer differs in {different(w.plain.states, w.states)}")
        plain = {key: digest(value) for key, value in states(list(records)).items()}
        if different(plain, w.states):
            bad.append(
                f"partition {n}: of what is left a plain consumer makes another {different(plain, w.states)}"
            )
        try:
            judge, found = fold(records, floor=w.next)
        except ContrapasError as why:
            bad.append(f"partition {n}: the fold of what is left stops: {why}")
            continue
        ours = {key: digest(r.value or b"") for key, r in found.items()}
        if different(ours, w.states):
            bad.append(f"partition {n}: what is left folds to another {different(ours, w.states)}")
        if judge.owed:
            bad.append(f"partition {n}: heals of {sorted(judge.owed)[:SHOWN]} are owed")
    return bad


def different(found: dict[bytes, bytes], wanted: dict[bytes, bytes]) -> list[bytes]:
    """Some keys."""
    return sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))[:SHOWN]


def missing(witnesses: Sequence[Witness], effects: Effects) -> list[str]:
    """Effects without a record that counts."""
    bad = [
        f"partition {line.partition}: {line.more[0]}..{line.more[1]} was acknowledged and does not count"
        for line in effects.committed
        if not all(counts(witnesses[line.partition], offset) for offset in line.more[:2])
    ]
    bad += _without("step", effects.steps, (w.issued for w in witnesses))
    bad += _without("message", effects.messages, (w.sent for w in witnesses))
    return bad


def counts(w: Witness, offset: int) -> bool:
    """Whether the record there does."""
    return offset < len(w.counted) and w.counted[offset] == 1


def _without(what: str, found: set[str], said: Iterable[set[str]]) -> list[str]:
    return [f"{what} {one} left, no record that counts has it" for one in sorted(found.difference(*said))]
