"""The second seam: one database transaction over a service's own rows, its inbox and its outbox.

A `Store` begins transactions for deliveries (`Tx`) and shows its outbox to the relay (`Outbox`). Rules, held by
`contrapas.testing.exercise_store` for every store:

1. **One transaction.** What the handler wrote through `session`, the inbox row and the outbox rows commit together or
   not at all.
2. **Once.** `take` inserts the inbox row first; a second delivery of the same (ns, consumer, source, id) waits for the
   first to end, then finds its row.
   A row that holds a failure is taken again by a later attempt (`retake`), by one at a time.
3. **Undo wins.** `take(undoes=…)` marks a step that never came as `undone`; a late step finds that and does nothing. Mark
   and step meet under one (ns, consumer, source): a step and its undo are handled by one service, or are local steps of
   one saga on one store. An undo that another service handles, or a command that takes a local step back, is not seen
   by what runs the step late: there only the order of one topic and key, or the rows themselves, can tell.
4. **Order.** The outbox gives rows by `seq`, and never one above a row that could still appear below it.
5. **Truth.** `advance` moves only under the epoch of the newest `claim`.

Errors: `Retriable` (nothing was written), `Indeterminate` (the commit was not answered; asking again finds out, the inbox
decides), `Fenced` (another relay), `Refused` (tables missing or old, database read-only). An exception of the handler
passes through unchanged, after the rollback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, NamedTuple, Protocol

from typing_extensions import TypeVar

from contrapas.author.event import Event
from contrapas.core.finding import Finding
from contrapas.errors import Fenced, Indeterminate, Refused, Retriable, StoreError
from contrapas.participant.rows import Outgoing, Row, draft_of, outgoing_of, written

__all__ = [
    "BEAT_MS",
    "FAILED",
    "PAGE_BYTES",
    "SILENT_MS",
    "Claim",
    "Event",
    "Fenced",
    "Finding",
    "Horizon",
    "Indeterminate",
    "Known",
    "Outbox",
    "Outgoing",
    "Receipt",
    "Refused",
    "Retriable",
    "Row",
    "Store",
    "StoreError",
    "StoreStatus",
    "Tx",
    "draft_of",
    "outgoing_of",
    "written",
]

S_co = TypeVar("S_co", covariant=True, default=Any)
S = TypeVar("S", default=Any)


BEAT_MS: Final = 2_000
"""How often a relay says that it lives."""
SILENT_MS: Final = 10_000
"""After so long another relay may take its outbox over; the epoch fences the silent one."""
PAGE_BYTES: Final = 8 << 20
"""A page of an outbox ends with the row by which its payloads reach so many bytes."""


FAILED: Final = "!failed"
"""`reply_type` of an inbox row whose reply says how a local step failed: its effects were rolled back."""


class Receipt(NamedTuple):
    """What makes a delivery the same delivery: the inbox's key, and the digest of its bytes."""

    ns: str
    consumer: str
    """The service, `payments`; for local steps `steps`."""
    source: str
    """CloudEvents source."""
    id: str
    """CloudEvents id; of a command its idempotency key."""
    digest: bytes
    """SHA-256 of type, content type and value (`rows.digest`)."""


class Known(NamedTuple):
    """What an inbox row says."""

    outcome: Literal["done", "undone"]
    digest: bytes
    """Empty for a step that was marked undone before it came."""
    reply: bytes | None
    """The stored answer, a JSON text of `runtime`, None when there is none."""
    reply_type: str


class Tx(Protocol[S_co]):
    """One open transaction. Leaving its block commits; an exception rolls everything back."""

    @property
    def session(self) -> S_co:
        """What the handler writes its rows with."""
        ...

    async def take(self, receipt: Receipt, *, undoes: str = "") -> Known | None:
        """Insert the inbox row; None: it is new, run the handler. Else what the earlier delivery left.

        Waits while another transaction holds the same row. undoes: the idempotency key of a step that this delivery
        takes back; its row (same ns, consumer, source) is marked `undone` unless it is there, waiting likewise.
        """
        ...

    async def retake(self, receipt: Receipt, known: Known) -> Known | None:
        """Take a row again that holds a failure (`FAILED`); `known` is what `take` gave. None: it is ours now, without a
        reply, and waits for `finish`. Else what it says meanwhile: another transaction took it first, and was waited for.
        """
        ...

    async def happened(self, receipt: Receipt, undoes: str) -> bool:
        """Whether the step `undoes` was done here before its undo was taken; asked after `take`."""
        ...

    async def finish(
        self, receipt: Receipt, *, reply: bytes | None, reply_type: str, rows: Sequence[Outgoing]
    ) -> None:
        """Store the reply with the inbox row, and the outbox rows, in one round trip; the last call of a handler's end.

        Without a reply and its type the inbox row stays as it is: so a repeat is answered by the reply's row once more,
        through the same table, whose JSON column may write it otherwise than it was given.
        """
        ...


class Claim(NamedTuple):
    """The relay's ownership of an outbox."""

    epoch: int
    last: int
    """Every row with `seq` at or below it has been acknowledged."""


class Horizon(NamedTuple):
    """What holds the outbox back."""

    age_ms: int
    """Age of the oldest transaction that could still write a row below the newest; 0: nothing does."""
    pid: int
    query: str
    """The first 200 characters of its last statement."""


class Outbox(Protocol):
    """The relay's view of a store.

    A relay reads (`upto`, `page`) in one task, notes (`advance`) in a second and looks (`horizon`) in a third, at once.
    """

    async def claim(self, name: str, owner: str) -> Claim:
        """Fence the relay before, then own the outbox. Fenced: another one holds it and lives.

        name: the relay's row, the store's own name. owner: of one relay object; its own earlier claim is no other one's.
        A relay lives while its session does, where the database knows that, and unless it was silent for `SILENT_MS`.
        """
        ...

    async def upto(self, last: int, *, wait_ms: int) -> int:
        """The highest `seq` below which nothing can appear any more; `last` when nothing new is there.

        Waits at most `wait_ms` for a hint, a new row, or the transactions that hold the barrier.
        """
        ...

    async def page(self, after: int, upto: int, limit: int) -> Sequence[Row]:
        """Rows with after < seq <= upto, by seq: `limit` of them, or up to the one that fills `PAGE_BYTES`, or all."""
        ...

    async def advance(self, name: str, epoch: int, seq: int) -> None:
        """All rows up to `seq` are acknowledged. Fenced: a newer claim exists; the position never goes back.

        Also the sign of life of an idle relay, which calls it every `BEAT_MS` with the position that stands.
        """
        ...

    async def horizon(self) -> Horizon:
        """What holds the barrier, for metrics and CP515."""
        ...

    async def release(self, name: str, epoch: int) -> None:
        """Give the outbox up, so that another relay need not wait."""
        ...


class StoreStatus(NamedTuple):
    """`contrapas store status`."""

    version: int
    """Of the tables; 0: there are none."""
    outbox: int
    """Rows that are not yet known to be acknowledged, an estimate above 100,000."""
    oldest_ms: int
    """Age of the oldest of them."""
    inbox: int
    """Rows, an estimate above 100,000."""
    inbox_oldest_ms: int
    relays: Mapping[str, Claim]


class Store(Protocol[S]):
    """A service's database, as far as contrapas needs it."""

    name: str
    """For people, and the relay's row: `shop` of `postgresql://…/shop`; no secrets."""
    source: str
    """CloudEvents source of events that business code publishes: `/services/<name>` once a `Service` has it."""
    inbox_ms: int
    """How long the inbox remembers; 30 days unless told. Duplicates older than this are refused at start-up (CP805)."""
    prune_ms: int
    """How often who works with the store prunes it, an hour unless told; 0: nobody does unasked."""
    sender: Literal["relay", "debezium"]
    """Who sends what the outbox holds."""

    def begin(
        self, receipt: Receipt | None = None, *, undoes: str = ""
    ) -> AbstractAsyncContextManager[Tx[S]]:
        """A transaction for one delivery. receipt, undoes: what `take` will be asked with first, which is asked all the
        same: a store may do both in one round trip, and raise here what `take` would."""
        ...

    def session(self) -> S:
        """The session of the delivery in hand, for `Depends(store.session)`. Refused CP850 outside of one."""
        ...

    async def publish(self, session: S, *events: Event) -> None:
        """Write events as outbox rows in the caller's own transaction; sent once that has committed."""
        ...

    @property
    def outbox(self) -> Outbox:
        """For the relay."""
        ...

    async def prepare(self) -> None:
        """Create the tables where there are none: `dev` and tests only."""
        ...

    async def examine(self) -> Sequence[Finding]:
        """What `doctor` says of the database and its tables; a `refused` one keeps a worker from starting."""
        ...

    async def status(self) -> StoreStatus:
        """Figures for people."""
        ...

    async def prune(self, *, budget_ms: int) -> tuple[int, int]:
        """Drop acknowledged outbox days and inbox rows older than `inbox_ms`; (outbox rows or days, inbox rows). May be
        called by several at once."""
        ...

    async def close(self) -> None:
        """Release what this object opened itself; never the user's pool or engine."""
        ...
