"""Where an event meets the instances that wait for its key: `$wait/<event type>/<value>`, a fenced record like any other.

An event whose key is no live instance's is kept here until an instance binds its wait, or is started and collects it, or
its time ends. Whichever comes second triggers the delivery. All messages travel over `<ns>.in` with the JSON bodies below,
are sent again (1 s doubling to 1 min) until acknowledged, and are idempotent at both ends by wait id and event id:

| `cp-kind` | to (record key) | body or headers |
|---|---|---|
| `bind`, `unbind` | rendezvous (`value`) | `{"type", "value", "wait_id", "instance"}` |
| `bound` | instance (its key), `cp-to` | `{"type", "value", "wait_id", "outcome": "ok"|"refused"|"gone", "reason"}` |
| `deliver` | instance (its key), `cp-to` | the event as received, plus `cp-wait: <wait id>`, `cp-value: <value>` |
| `delivered` | rendezvous (`value`) | `{"type", "value", "wait_id", "event", "outcome": "applied"|"refused"}` |

Policy `one`: a second waiting instance is refused at `bind` (CP848). A refused delivery makes the event early again, its
time running on. What had come is remembered for a day after the record is empty, so that an input read twice is not
taken for a new event.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from contrapas.core.empty import empty
from contrapas.core.envelope import Cause
from contrapas.core.order import Order, heard, remember

EARLY_TTL_MS = 24 * 3600 * 1000
EARLY_MAX = 100
EARLY_BYTES_MAX = 256_000
SEEN_MAX = 64
_FIRST_RESEND_MS = 1_000
_LAST_RESEND_MS = 60_000


@dataclass(slots=True, kw_only=True)
class Bind:
    """One wait of one instance."""

    wait_id: str
    instance: str
    since: int
    event: str = ""
    """Id of the event under delivery, empty: none."""
    tries: int = 0
    next: int = 0
    passed: list[str] = field(default_factory=empty(list[str]))
    """Ids of events that were there before a wait for what is new: they stay for others."""


@dataclass(slots=True, kw_only=True)
class Early:
    """An event that nobody waited for yet, or that is under delivery."""

    id: str
    until: int
    cause: Cause


@dataclass(slots=True, kw_only=True)
class Rendezvous:
    """The record's body."""

    type: str
    value: str
    version: int = 0
    epoch: int = 0
    writer: str = ""
    at: int = 0
    until: int = 0
    binds: list[Bind] = field(default_factory=empty(list[Bind]))
    early: list[Early] = field(default_factory=empty(list[Early]))
    positions: dict[str, int] = field(default_factory=empty(dict[str, int]))
    seen: list[bytes] = field(default_factory=empty(list[bytes]))

    @property
    def key(self) -> str:
        """The record key."""
        return wait_key(self.type, self.value)

    @property
    def empty(self) -> bool:
        """Nobody waits and nothing is kept."""
        return not self.binds and not self.early


@dataclass(frozen=True, slots=True)
class Deliver:
    """A duty: hand an event to an instance."""

    instance: str
    wait_id: str
    event: Early


@dataclass(frozen=True, slots=True)
class Bound:
    """A duty: answer a `bind` or `unbind`."""

    instance: str
    wait_id: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Meeting:
    """What became of one message at a rendezvous."""

    changed: bool
    """Write the record."""
    verdict: str
    """`parked`, `delivering`, `duplicate`, `dead`, `bound`, `done`."""
    duties: tuple[Deliver | Bound, ...] = ()
    dead: tuple[Cause, ...] = ()
    """Events whose time or room ended (CP414)."""
    code: str = ""
    reason: str = ""


def wait_key(type_name: str, value: str) -> str:
    """The record key of a rendezvous; its partition comes from `value`."""
    return f"$wait/{type_name}/{value}"


def parse_wait_key(key: str) -> tuple[str, str]:
    """(type, value) of a record key."""
    _, type_name, value = key.split("/", 2)
    return type_name, value


def digest_of(source: str, event_id: str, value: bytes) -> bytes:
    """16 bytes: the identity of an event, and of its bytes."""
    head = hashlib.sha256(f"{source}\0{event_id}".encode()).digest()[:8]
    return head + hashlib.sha256(value).digest()[:8]


def hashes(now: bytes, before: bytes) -> str:
    """The values of two digests, for people."""
    return f"sha-256 {now[8:].hex()}, before {before[8:].hex()}"


def event_arrives(
    r: Rendezvous,
    cause: Cause,
    *,
    identity: str,
    position: str,
    at: int,
    until: int | None = None,
    order: Order | None = None,
) -> Meeting:
    """Keep an event, and deliver it if somebody waits. identity: `source\\0id`; position: `source/partition`, or empty
    for what comes a second way (a redrive), which only the id judges; order: its sender's number, if it has one."""
    if position and r.positions.get(position, -1) >= cause.offset:
        return Meeting(False, "duplicate")
    source, _, event_id = identity.partition("\0")
    digest = digest_of(source, event_id, cause.value)
    for known in r.seen:
        if known[:8] == digest[:8]:
            if known == digest:
                return Meeting(False, "duplicate")
            words = f"the id {event_id[:80]!r} came with other bytes: {hashes(digest, known)}"
            return Meeting(False, "dead", dead=(cause,), code="CP412", reason=words)
    if order is not None and heard(r.positions, order):
        return Meeting(False, "duplicate")
    if len(r.early) >= EARLY_MAX or _size(r) + cause.size > EARLY_BYTES_MAX:
        words = f"{len(r.early)} events wait for somebody there, there is no room for more"
        return Meeting(False, "dead", dead=(cause,), code="CP414", reason=words)
    r.seen.append(digest)
    del r.seen[:-SEEN_MAX]
    remember(r.positions, position, cause.offset, order)
    r.early.append(Early(id=digest.hex(), until=_until(at, until), cause=cause))
    duties = _match(r, at)
    _touch(r, at)
    return Meeting(True, "delivering" if duties else "parked", duties=duties)


def _until(at: int, until: int | None) -> int:
    """A day, or as long as who sent it waits for an answer."""
    return at + EARLY_TTL_MS if until is None else max(at, min(until, at + EARLY_TTL_MS))


def bind(r: Rendezvous, *, wait_id: str, instance: str, at: int, fresh: bool = False) -> Meeting:
    """An instance waits here. The same wait again gets the same answer."""
    for known in r.binds:
        if known.wait_id == wait_id:
            return Meeting(False, "bound", duties=(Bound(instance, wait_id, "ok"),))
    for known in r.binds:
        if known.instance != instance:
            reason = f"{known.instance} waits for {r.type} {r.value!r} already"
            return Meeting(
                False, "refused", duties=(Bound(instance, wait_id, "refused", reason),), code="CP848"
            )
    passed = [e.id for e in r.early] if fresh else []
    r.binds.append(Bind(wait_id=wait_id, instance=instance, since=at, passed=passed))
    duties: tuple[Deliver | Bound, ...] = (Bound(instance, wait_id, "ok"), *_match(r, at))
    _touch(r, at)
    return Meeting(True, "bound", duties=duties)


def unbind(r: Rendezvous, *, wait_id: str, instance: str, at: int) -> Meeting:
    """A wait ended without its event: what is under delivery to it is early again."""
    gone = Bound(instance, wait_id, "gone")
    rest = [b for b in r.binds if b.wait_id != wait_id]
    if len(rest) == len(r.binds):
        return Meeting(False, "done", duties=(gone,))
    r.binds = rest
    duties: tuple[Deliver | Bound, ...] = (gone, *_match(r, at))
    _touch(r, at)
    return Meeting(True, "done", duties=duties)


def delivered(r: Rendezvous, *, wait_id: str, outcome: str, at: int, event: str = "") -> Meeting:
    """An instance answered a delivery: the wait is over; an event it refused is early again. event: the digest of the one
    it means, if it says so. An old answer that comes again may find its wait bound again, and another event handed to it:
    that one is early again too."""
    met = [b for b in r.binds if b.wait_id == wait_id and b.event]
    if not met:
        return Meeting(False, "done")
    handed = met[0].event
    r.binds = [b for b in r.binds if b is not met[0]]
    if outcome == "applied" and event[:16] in ("", handed[:16]):
        r.early = [e for e in r.early if e.id != handed]
    duties = _match(r, at)
    _touch(r, at)
    return Meeting(True, "done", duties=duties)


def collect(r: Rendezvous, taken: frozenset[str] | set[str], *, at: int) -> bool:
    """A start took these events (by `Early.id`); says whether anything changed."""
    rest = [e for e in r.early if e.id not in taken]
    if len(rest) == len(r.early):
        return False
    r.early = rest
    _touch(r, at)
    return True


def let_go(r: Rendezvous) -> int:
    """Of a transient type: what is not under delivery is not kept. Gives how many."""
    there = waiting(r)
    r.early = [e for e in r.early if e not in there]
    return len(there)


def waiting(r: Rendezvous) -> list[Early]:
    """Early events that are not under delivery, oldest first."""
    busy = {b.event for b in r.binds if b.event}
    return [e for e in r.early if e.id not in busy]


def next_deadline(r: Rendezvous) -> int:
    """When something is to be done here next."""
    times = [e.until for e in r.early]
    times += [b.next for b in r.binds if b.event]
    if not times and not r.binds:
        return r.until
    return min(times) if times else 1 << 62


def timer(r: Rendezvous, *, at: int) -> Meeting:
    """Send again what is unacknowledged; let go what was kept long enough."""
    busy = {b.event for b in r.binds if b.event}
    dead = [e for e in r.early if e.until <= at and e.id not in busy]
    duties: list[Deliver | Bound] = []
    by_id = {e.id: e for e in r.early}
    for b in r.binds:
        if b.event and b.next <= at:
            b.tries += 1
            b.next = at + min(_FIRST_RESEND_MS << min(b.tries, 6), _LAST_RESEND_MS)
            duties.append(Deliver(b.instance, b.wait_id, by_id[b.event]))
    if dead:
        gone = {e.id for e in dead}
        r.early = [e for e in r.early if e.id not in gone]
        _touch(r, at)
    changed = bool(dead or duties)
    return Meeting(changed, "done", duties=tuple(duties), dead=tuple(e.cause for e in dead), code="CP414")


def _match(r: Rendezvous, at: int) -> tuple[Deliver, ...]:
    free = [b for b in r.binds if not b.event]
    there = waiting(r)
    out: list[Deliver] = []
    for b in free:
        e = next((e for e in there if e.id not in b.passed), None)
        if e is None:
            continue
        there.remove(e)
        b.event, b.tries, b.next = e.id, 0, at + _FIRST_RESEND_MS
        out.append(Deliver(b.instance, b.wait_id, e))
    return tuple(out)


def _touch(r: Rendezvous, at: int) -> None:
    r.at = at
    r.until = at + EARLY_TTL_MS


def _size(r: Rendezvous) -> int:
    return sum(e.cause.size for e in r.early)
