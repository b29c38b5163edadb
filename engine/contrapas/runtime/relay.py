"""The relay: one store's outbox onto one log, in the order of `seq`, each row noted only after the log has it.

A relay claims the outbox, or waits while another one holds it. Rows are read up to where nothing can appear any more,
a page ahead of what is being published; one publish is in flight at a time, so that a page that is repeated after a
failure repeats rows, under their ids, and never lets one overtake another of its key. A row that cannot be sent stays
where it is, and all behind it wait: what is skipped would be lost, or out of order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from contrapas.errors import BugError, ContrapasError, DataError, Fenced, Indeterminate, LogError, Retriable
from contrapas.failpoints import NAMES, failpoint
from contrapas.log import Draft, Log
from contrapas.participant import BEAT_MS, PAGE_BYTES, SILENT_MS, Claim, Horizon, Outbox, Row, Store
from contrapas.participant.rows import drafts_of
from contrapas.runtime.clock import Clock, RealClock, pause

NAMES["outbox.claimed"] = "a relay owns an outbox, nothing of it is read"
NAMES["outbox.read"] = "a page of an outbox is in hand, nothing of it is published"
NAMES["outbox.sent"] = "rows of an outbox are acknowledged by the log, nobody has noted it"
NAMES["outbox.noted"] = "the position of an outbox is written"
NAMES["outbox.release.before"] = "a relay is done with an outbox, it is not released"

ASK_MS: Final = 250
"""How long the store waits for rows before the relay looks whether it should end."""
PAGES: Final = 2
"""Read ahead of the one that is being published."""
PAGE_ROWS: Final = 4000
"""What a statement, a commit and a sync of the disk cost by themselves is shared by so many rows."""
AIM_BYTES: Final = 4 << 20
"""The number of rows of the next page follows from the size of this one's, so that the store need not cut it."""
CLAIM_MS: Final = 1_000
AGAIN_MS: Final = 20
AGAIN_MS_MAX: Final = 5_000
BLOCKED_MS: Final = 1_000
"""How often a row that could not be sent is tried again."""
LOOK_MS: Final = 1_000
HELD_MS: Final = 10_000
"""An outbox that is held back for longer is worth a warning (CP515)."""
RED_MS: Final = 30_000
WARN_MS: Final = 60_000
LET_GO_S: Final = 2
_logger = logging.getLogger("contrapas.runtime")


class RelayState(NamedTuple):
    """How a relay is, for health, metrics and people."""

    store: str
    holds: bool
    """False: another relay holds the outbox, or the store does not answer."""
    epoch: int
    last: int
    """Every row up to this `seq` is acknowledged by the log."""
    sent: int
    """Rows that this relay has had acknowledged since it began."""
    horizon: Horizon
    colour: str
    """`green`, `amber` or `red`."""
    reasons: tuple[str, ...]


class _Trouble(NamedTuple):
    text: str
    fix: str
    since_ms: float
    red: bool
    seq: int
    """Of the row that cannot be sent; 0: it is none."""


class _Page(NamedTuple):
    rows: Sequence[Row]
    drafts: list[Draft]
    """Fewer than rows where `bad` says why the next one is none."""
    at: int
    bad: DataError | None


class Relay:
    """Sends what a store's outbox holds for as long as `run` runs; any number may run, one of them sends."""

    def __init__(
        self,
        store: Store,
        log: Log,
        namespace: str,
        *,
        owner: str = "",
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.store = store
        self.name = store.name
        self.outbox: Outbox = store.outbox
        self.log = log
        self.namespace = namespace
        self.owner = f"{owner or f'{socket.gethostname()}:{os.getpid()}'}/{secrets.token_hex(4)}"
        self.clock = clock or RealClock()
        self.chance = chance
        self.claim: Claim | None = None
        self.sent = 0
        self.last = 0
        self.horizon = Horizon(0, 0, "")
        self.stopping = False
        self.trouble: _Trouble | None = None
        self.on_claim: Callable[[Claim], None] = lambda claim: None
        self.on_wait: Callable[[str], None] = lambda why: None
        self._stop = asyncio.Event()
        self._done = asyncio.Event()
        self._warned: dict[int, float] = {}

    async def run(self) -> None:
        """Own the outbox whenever no other relay does, until `stop`. What a bug raises passes through."""
        try:
            await self._work()
        except (Exception, asyncio.CancelledError):
            if self.claim is not None:  # the next relay need not wait, and the store gets its session back
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(LET_GO_S):
                        await self.outbox.release(self.name, self.claim.epoch)
            raise
        finally:
            self.claim = None
            self._done.set()

    async def _work(self) -> None:
        wait = float(AGAIN_MS)
        said = ""
        while not self.stopping:
            try:
                self.claim = await self.outbox.claim(self.name, self.owner)
                self.last = self.claim.last
                failpoint("outbox.claimed")
                wait, said = float(AGAIN_MS), ""
                self.ease()
                self.on_claim(self.claim)
                await self._tenure(self.claim)
            except Fenced as why:
                if why.text != said:
                    said = why.text
                    self.on_wait(said)
                await self.rest(CLAIM_MS)
            except BugError:
                raise
            except (ContrapasError, OSError) as why:
                self.fails(why)
                await self.rest(wait)
                wait = min(2 * wait, AGAIN_MS_MAX)
            self.claim = None

    async def stop(self, drain_ms: float = 30_000) -> None:
        """Send what is committed by now, for at most `drain_ms`, note it, and give the outbox up."""
        self.stopping = True
        self._stop.set()
        late = self.clock.call_later(drain_ms, self._done.set)
        try:
            await self._done.wait()
        finally:
            late.cancel()

    async def _tenure(self, claim: Claim) -> None:
        while True:
            tenure = _Tenure(self, claim)
            try:
                await tenure.run()
            except _Blocked:
                if not self.stopping:  # the row is read anew: it may be gone, or its topic there
                    claim = claim._replace(last=tenure.noted)
                    continue
            failpoint("outbox.release.before")
            await self.outbox.release(self.name, claim.epoch)
            return

    # ---- what tenures tell

    async def rest(self, ms: float) -> None:
        """Sleep for about so long; at once over when it is to stop."""
        loop = asyncio.get_running_loop()
        over = loop.create_task(self._stop.wait())
        slept = loop.create_task(pause(self.clock, ms * (0.5 + self.chance())))
        try:
            await asyncio.wait((over, slept), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            slept.cancel()

    def fails(self, why: BaseException, *, row: Row | None = None) -> None:
        """Something does not work that will be tried again: said once, and seen in health until it is over."""
        text = (str(why) or type(why).__name__)[:500]
        if row is not None:
            m = row.message
            code = f"{why.code} " if isinstance(why, ContrapasError) else ""
            text = why.text if isinstance(why, ContrapasError) else text
            text = f"{code}row {m.id} (seq {row.seq}) cannot be sent to {m.topic[:120]!r}: {text}; the rows behind it wait"
        fix = why.fix if isinstance(why, ContrapasError) else ""
        if row is not None:
            fix = f"{fix}, or delete the row" if fix else "make the topic, or delete the row"
        known = self.trouble
        if known is None or known.text != text:
            now = self.clock.ms()
            red = row is not None or (isinstance(why, ContrapasError) and not _passes(why))
            since = now if known is None else known.since_ms
            self.trouble = _Trouble(text, fix, since, red, 0 if row is None else row.seq)
            say = _logger.error if red else _logger.warning
            say("outbox %s: %s%s", self.name, text, f" (fix: {fix})" if fix else "")

    def ease(self) -> None:
        """What did not work does again; a row that could not be sent is remembered until it has left."""
        if self.trouble is not None and self.trouble.seq <= self.last:
            self.trouble = None

    def looked(self, horizon: Horizon) -> None:
        """The horizon as it is now; who holds it back for long is named."""
        self.horizon = horizon
        now = self.clock.ms()
        if horizon.age_ms > HELD_MS and now - self._warned.get(horizon.pid, -WARN_MS) >= WARN_MS:
            self._warned = {horizon.pid: now}
            _logger.warning("outbox %s: %s", self.name, held(horizon))

    def state(self) -> RelayState:
        """For health, metrics and people."""
        colour, reasons = "green", list[str]()
        if self.horizon.age_ms > HELD_MS:
            colour = "amber"
            reasons.append(held(self.horizon))
        if (t := self.trouble) is not None:
            colour = "red" if t.red or self.clock.ms() - t.since_ms > RED_MS else "amber"
            reasons.append(f"{t.text}{f' (fix: {t.fix})' if t.fix else ''}")
        claim = self.claim
        epoch = 0 if claim is None else claim.epoch
        return RelayState(
            self.name, claim is not None, epoch, self.last, self.sent, self.horizon, colour, tuple(reasons)
        )


def held(horizon: Horizon) -> str:
    """CP515 in words."""
    said = " ".join(horizon.query.split())[:200]
    query = f": {said}" if said else ""
    who = (
        f"the transaction of pid {horizon.pid}{query}"
        if horizon.pid
        else f"a transaction without a session{query}"
    )
    return f"CP515 held back for {horizon.age_ms / 1000:.0f} s by {who}"


class _Blocked(Exception):
    """A row cannot be sent now."""


class _Tenure:
    """One ownership, from its claim until it is fenced, fails or ends."""

    def __init__(self, relay: Relay, claim: Claim) -> None:
        self.relay = relay
        self.epoch = claim.epoch
        self.read = claim.last
        self.acknowledged = claim.last
        self.noted = claim.last
        self.beaten = relay.clock.ms()
        self.pages: asyncio.Queue[_Page | None] = asyncio.Queue(PAGES)
        self.more = asyncio.Event()
        self.lanes = frozenset(("", "in", "log", f"{relay.namespace}.log"))
        """What no row may be addressed to, though a log would know it."""

    async def run(self) -> None:
        """Until the end of the drain; Fenced, _Blocked (all that is acknowledged is noted), or the store's errors."""
        loop = asyncio.get_running_loop()
        pumps = [loop.create_task(self._read()), loop.create_task(self._send())]
        besides = [loop.create_task(self._note()), loop.create_task(self._look())]
        try:
            waiting = {*pumps, besides[0]}
            while not all(p.done() for p in pumps):
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if (why := task.exception()) is not None and not isinstance(why, _Blocked):
                        raise why
                if pumps[1].done():
                    break
        finally:
            for task in (*pumps, *besides):
                task.cancel()
            await asyncio.gather(*pumps, *besides, return_exceptions=True)
        if self.acknowledged > self.noted:
            await self._advance(self.acknowledged)
        pumps[1].result()

    # ---- read

    async def _read(self) -> None:
        relay, limit = self.relay, 100
        while True:
            last = relay.stopping
            top = await relay.outbox.upto(self.read, wait_ms=0 if last else ASK_MS)
            while self.read < top:
                rows = await relay.outbox.page(self.read, top, limit)
                size = sum([len(r.message.payload) for r in rows])
                at = rows[-1].seq if len(rows) >= limit or size >= PAGE_BYTES else top
                drafts, bad = self._encoded(rows)
                failpoint("outbox.read")
                await self.pages.put(_Page(rows, drafts, at, bad))
                self.read = at
                each = max(1, size // max(1, len(rows)))
                limit = max(1, min(PAGE_ROWS, 2 * limit, AIM_BYTES // each))
            if last:
                await self.pages.put(None)
                return

    def _encoded(self, rows: Sequence[Row]) -> tuple[list[Draft], DataError | None]:
        namespace = self.relay.namespace
        if self.lanes.isdisjoint([row.message.topic for row in rows]):
            with contextlib.suppress(TypeError, ValueError, AttributeError):  # which row it is, is seen below
                return drafts_of(rows, namespace), None
        drafts: list[Draft] = []
        try:
            for row in rows:
                if row.message.topic in self.lanes:
                    raise DataError(
                        "CP505",
                        "that is no topic, but the name of a lane",
                        fix=f"let its writer name a topic, or {namespace}.in",
                    )
                drafts += drafts_of((row,), namespace)
        except DataError as why:
            return drafts, why
        except (TypeError, ValueError, AttributeError) as why:
            return drafts, DataError("CP403", f"its columns cannot be read: {why}"[:300], fix="correct it")
        return drafts, None

    # ---- send

    async def _send(self) -> None:
        while (page := await self.pages.get()) is not None:
            await self._deliver(page)
            if page.bad is not None:
                await self._blocked(page.rows[len(page.drafts)], page.bad)
            self._has(page.at)

    async def _deliver(self, page: _Page) -> None:
        """Publish a page; where the log refuses it, by halves up to the row that it refuses."""
        drafts, start = page.drafts, 0
        trouble = self.relay.trouble
        step = len(drafts) if trouble is None or not trouble.seq else 1
        while start < len(drafts):
            part = drafts[start : start + step]
            try:
                await self._publish(part)
            except Fenced:
                raise
            except (LogError, DataError) as why:
                if len(part) == 1:
                    await self._blocked(page.rows[start], why)
                step = len(part) // 2
                continue
            start += len(part)
            step *= 2
            self.relay.sent += len(part)
            failpoint("outbox.sent")
            self._has(page.rows[start - 1].seq)

    async def _publish(self, part: list[Draft]) -> None:
        """Until it is acknowledged. LogError, DataError: it never will be."""
        relay, wait = self.relay, float(AGAIN_MS)
        while True:
            if relay.clock.ms() - self.beaten > SILENT_MS:  # this process stood still: is it still the owner?
                await self._advance(self.noted)
            try:
                await relay.log.publish(part)
                return
            except (Retriable, Indeterminate) as why:
                relay.fails(why)
                await pause(relay.clock, wait * (0.5 + relay.chance()))
                wait = min(2 * wait, AGAIN_MS_MAX)

    def _has(self, seq: int) -> None:
        self.acknowledged = self.relay.last = seq
        self.relay.ease()
        self.more.set()

    async def _blocked(self, row: Row, why: ContrapasError) -> None:
        self.relay.fails(why, row=row)
        await self.relay.rest(BLOCKED_MS)
        raise _Blocked

    # ---- note

    async def _note(self) -> None:
        """Write how far the log has acknowledged, as often as the store can; idle, say that this relay lives."""
        relay = self.relay
        while True:
            late = relay.clock.call_later(BEAT_MS, self.more.set)
            try:
                await self.more.wait()
            finally:
                late.cancel()
            self.more.clear()
            await self._advance(self.acknowledged)

    async def _advance(self, seq: int) -> None:
        relay, wait = self.relay, float(AGAIN_MS)
        while True:
            try:
                await relay.outbox.advance(relay.name, self.epoch, seq)
                break
            except (Retriable, Indeterminate) as why:
                relay.fails(why)
                await pause(relay.clock, wait * (0.5 + relay.chance()))
                wait = min(2 * wait, AGAIN_MS_MAX)
        if wait > AGAIN_MS:
            relay.ease()
        self.noted = max(self.noted, seq)
        self.beaten = relay.clock.ms()
        failpoint("outbox.noted")

    async def _look(self) -> None:
        relay = self.relay
        while True:
            try:
                relay.looked(await relay.outbox.horizon())
            except (ContrapasError, OSError) as why:  # the other calls meet it, too, and say it
                _logger.debug("outbox %s: its horizon is not known: %s", relay.name, why)
            await pause(relay.clock, LOOK_MS)


def _passes(why: ContrapasError) -> bool:
    """It may be over by itself: the database or log is busy or away."""
    return isinstance(why, Retriable | Indeterminate) or getattr(why, "again", False)
