"""Small sagas, one per form of the language, and a bench on which a cancel, kill, deadline or crash comes after a given
transition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from contrapas import FOREVER, Command, Entity, Event, Saga, Service, StepFailed, Timeout, handler, saga, step
from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.core.lane import Draft
from contrapas.errors import Cancelled
from contrapas.runtime.batch import Duties
from contrapas.runtime.doors import plain_draft
from contrapas.testing import Sagas
from contrapas.testing.bench import Bench

Act = Literal["cancel", "kill", "deadline", "again"]
"""`again`: everything that came so far comes once more, under the same ids."""
Strike = tuple[int, Act]
"""(number of a commit, what comes right after it)."""
DEADLINE_MS: Final = 60_000
SLOW_MS: Final = 5_000
"""How long `slowly` takes."""


@dataclass
class Ledger:
    """What happened outside, of one test."""

    took: list[str] = field(default_factory=list[str])
    back: list[str] = field(default_factory=list[str])
    said: list[str] = field(default_factory=list[str])
    broken: bool = True
    """The bug of `parks` is there."""

    def clear(self) -> None:
        """Before each run."""
        self.took, self.back, self.said, self.broken = [], [], [], True


LEDGER: Final = Ledger()


class Begin(Event, topic="struck.events", key="k"):
    k: str


class Ended(Event, topic="struck.events", key="k"):
    k: str
    text: str = ""


class Nudge(Event, topic="struck.events", key="k"):
    k: str


class LegBegun(Event, topic="struck.events", key="k"):
    k: str


class LegEnded(Event, topic="struck.events", key="k"):
    k: str


class Paid(Event, topic="pay.events", key="k"):
    k: str
    what: str


class Refused(Event, topic="pay.events", key="k"):
    k: str


class Repaid(Event, topic="pay.events", key="k"):
    k: str


class Pay(Command[Paid, Refused], topic="pay.commands", key="k"):
    k: str
    what: str


class Repay(Command[Repaid], topic="pay.commands", key="k"):
    k: str
    what: str


class Heard(Event, topic="struck.events", key="k"):
    k: str


class Asked(Command[Heard], key="k"):
    k: str


@step(undo=None)
async def give(what: str) -> None:
    LEDGER.back.append(what)


@step(undo=lambda got: give(got), retry=None)
async def take(what: str) -> str:
    LEDGER.took.append(what)
    if what.startswith("bad"):
        raise StepFailed(f"no {what}")
    return what


@step(undo=None)
async def look(what: str) -> str:
    return what


payments = Service("payments")


@payments.on(Pay)
async def pay(c: Pay) -> Paid:
    LEDGER.took.append(c.what)
    return Paid(k=c.k, what=c.what)


@payments.on(Repay)
async def repay(c: Repay) -> Repaid:
    LEDGER.back.append(c.what)
    return Repaid(k=c.k)


class Shelf(Entity, key="id"):
    held: list[str] = []

    @handler
    async def put(self, what: str) -> int:
        self.held.append(await look(what))
        return len(self.held)


@saga(deadline="1m")
async def begins(s: Saga, e: Begin) -> Ended:
    """begin, next, some, cancel of one in flight."""
    a, b = s.begin(take("a")), s.begin(take("b"))
    first = await s.next(a, b)
    text = await first
    got = await s.some(1, take("c"), take("d"))
    c = s.begin(take("e"))
    await look("between")
    c.cancel()
    rest = await s.next(b, s.begin(look("f"))) if first == a else None
    return Ended(k=e.k, text=f"{text} {len(got)} {rest is None}")


@saga(deadline="1m")
async def joins(s: Saga, e: Begin) -> Ended:
    """all with a branch that fails, first."""
    await take("a")
    try:
        await s.all(take("b"), legs(s, "c"), take("bad"))
    except StepFailed:
        await look("handled")
    won = await s.first(look("d"), s.wait(Nudge))
    return Ended(k=e.k, text=str(won))


@saga
async def legs(s: Saga, what: str) -> str:
    """A called saga that cleans up."""
    try:
        return await take(what) + await look("leg")
    except Cancelled:
        LEDGER.said.append(f"clean {what}")
        await look("clean")
        raise


@saga(deadline="1m")
async def blocks(s: Saga, e: Begin) -> Ended:
    """A limited block that is left, and one that is in time."""
    await take("a")
    try:
        async with s.scope(within="20s"):
            await take("b")
            await s.sleep("40s")
    except StepFailed as why:
        LEDGER.said.append(why.reason)
    async with s.scope(within="20s"):
        await take("c")
    await look("last")
    return Ended(k=e.k)


@saga(deadline="1m")
async def maps(s: Saga, e: Begin) -> Ended:
    """A map with undos, and one whose failures are values."""
    got = await s.map(take, ["a", "b", "c"], concurrency=2)
    more = await s.map(look, ["x", "y"], on_error="collect")
    await take("d")
    return Ended(k=e.k, text=f"{got} {more}")


@saga(deadline="1m")
async def parents(s: Saga, e: Begin) -> Ended:
    """A child with steps of its own."""
    await take("a")
    await s.child(child, LegBegun(k=f"{e.k}-leg"), undo=give("child"))
    await take("b")
    return Ended(k=e.k)


@saga
async def child(s: Saga, e: LegBegun) -> LegEnded:
    """Of `parents`."""
    await take("child")
    await look("child")
    return LegEnded(k=e.k)


@saga(deadline="1m")
async def links(s: Saga, e: Begin) -> Ended:
    """A signed answer, and the wait for it."""
    link = s.link(Nudge(k=e.k))
    await take("a")
    got = await s.wait(Nudge, within="1h")
    await take("b")
    return Ended(k=e.k, text=f"{link.url} {isinstance(got, Timeout)}")


@saga(deadline="1m")
async def calls(s: Saga, e: Begin) -> Ended:
    """Entities, one way too."""
    await take("a")
    n = await Shelf.at(e.k).put("x")
    s.tell(Shelf.at(e.k).put("y"), after="1s")
    n += await Shelf.at(e.k).put("z")
    await take("b")
    return Ended(k=e.k, text=str(n))


@saga(deadline="1m")
async def asks(s: Saga, e: Begin) -> Ended:
    """A command as a step and as a question."""
    await s.step(Pay(k=e.k, what="a"), undo=Repay(k=e.k, what="a"))
    got = await s.ask(Pay(k=e.k, what="b"), within="1h", undo=Repay(k=e.k, what="b"))
    await take("c")
    return Ended(k=e.k, text=type(got).__name__)


@saga(deadline="1m")
async def answers(s: Saga, e: Begin) -> Ended:
    """A command that is answered, and one that is not."""
    await take("a")
    first = await s.wait(Asked)
    await take("b")
    s.reply(first, Heard(k=e.k))
    await s.wait(Asked)
    return Ended(k=e.k)


@saga(deadline="1m", again="deliver")
async def delivers(s: Saga, e: Begin) -> Ended:
    """Its start event once more."""
    await take("a")
    await s.wait(Begin)
    await take("b")
    return Ended(k=e.k)


@saga(deadline="1m", again="restart")
async def restarts(s: Saga, e: Begin) -> Ended:
    """Its start event once more begins a new run."""
    await take(f"a{len(LEDGER.took)}")
    await s.wait(Nudge)
    return Ended(k=e.k)


@saga(deadline="1m")
async def compensates(s: Saga, e: Begin) -> Ended:
    """Takes back by itself, then goes on."""
    await take("a")
    await take("b")
    async with s.scope():
        await take("c")
        await s.compensate()
    await s.compensate()
    await look("after")
    return Ended(k=e.k)


@saga(deadline="1m")
async def handles(s: Saga, e: Begin) -> Ended:
    """Handlers and a `finally` that await."""
    await take("a")
    try:
        await take("bad")
    except StepFailed:
        await take("b")
    finally:
        await look("finally")
    try:
        await s.wait(Nudge)
    except Cancelled:
        await take("c")
        raise
    return Ended(k=e.k)


@saga(deadline="1m")
async def settles(s: Saga, e: Begin) -> Ended:
    """A step whose reply comes late: its undo is owed."""
    await take("a")
    try:
        await s.step(slowly(e.k), within="2s", undo=lambda got: give(got))
    except StepFailed:
        await s.compensate()
        return Ended(k=e.k, text="late")
    return Ended(k=e.k)


@step(undo=lambda got: give(got), retry=None)
async def slowly(what: str) -> str:
    return what


@saga(deadline="1m")
async def parks(s: Saga, e: Begin) -> Ended:
    """A bug, until it is mended."""
    await take("a")
    if LEDGER.broken:
        raise ValueError("a bug")
    await take("b")
    return Ended(k=e.k)


@saga(deadline="1m")
async def pivots(s: Saga, e: Begin) -> Ended:
    """Only forward from its middle on."""
    await take("a")
    await take("b")
    s.point_of_no_return()
    await s.step(look("c"), retry=FOREVER)
    await s.sleep("1s")
    return Ended(k=e.k)


class Struck(Bench):
    """After its `strike`-th commit, before anything of it is dispatched, something happens to the instance."""

    strikes: list[Strike]
    target: str = ""
    held: list[tuple[int, Any]]

    def _result(self, partition: int, epoch: int, event: Any) -> None:
        """Steps take a while: what comes by the lane in between is first."""
        if epoch == self.p.epoch:
            late = SLOW_MS if "/slowly/" in event.in_reply_to else 0
            self.held.append((self.clock() + late, event))

    def _decide(self) -> bool:
        if super()._decide():
            return True
        due = next((i for i, (at, _) in enumerate(self.held) if at <= self.clock()), None)
        if due is None:
            return False
        self.p.results.append(self.held.pop(due)[1])
        return super()._decide()

    def take_over(self) -> None:
        """What was on its way is lost."""
        self.held = []
        super().take_over()

    def _do(self, duties: Duties) -> None:
        while self.strikes and self.commits >= self.strikes[0][0]:
            _, act = self.strikes.pop(0)
            if act == "deadline":
                self.clock.advance(DEADLINE_MS)
            elif act == "again":
                records, _ = self.log.store.read("in", 0, 0)
                drafts = [
                    Draft("in", 0, r.key, r.value, r.headers, f"again{self.commits}.{n}")
                    for n, r in enumerate(records)
                ]
                self.log.store.publish(drafts)
            else:
                body = {"verb": act, "reason": "the test says so"}
                ident = f"strike{len(self.strikes)}"
                draft = plain_draft(self.setting, "operate", self.target, body, event_id=ident)
                self.log.store.publish([draft])
        super()._do(duties)


class Strikes(Sagas):
    """The fixture on that bench."""

    def __init__(self, target: str, strikes: tuple[Strike, ...], crash: tuple[int, str] | None) -> None:
        super().__init__(mode="both", crash=crash)
        self.target, self.strikes = target, strikes

    @property
    def bench(self) -> Bench:
        """Ours."""
        if self._bench is None:
            Struck.strikes = []
            made = Struck(*self._world(), crash=self._crash)
            made.target, made.strikes = self.target, list(self.strikes)
            self._bench = made
        return self._bench


@dataclass(slots=True)
class End:
    """How a run went."""

    record: InstanceRecord
    commits: int
    history: list[InstanceRecord]
    took: set[str]
    back: set[str]
    said: list[str]
    others: dict[str, str]
    """Status of each other instance."""

    @property
    def letter(self) -> str:
        """The first of its status."""
        return self.record.status[0]


WANTED: Final[dict[str, Callable[[], Any]]] = {
    "Nudge": lambda: Nudge(k="k"),
    "Asked": lambda: Asked(k="k"),
    "Begin": lambda: Begin(k="k"),
}
ROUNDS: Final = 25


async def walked(one: Any, *strikes: Strike, crash: tuple[int, str] | None = None) -> End:
    """A saga from its start to its end, what it waits for given in order; something happens after some commits."""
    LEDGER.clear()
    sagas = Strikes(f"{one.name}/k", strikes, crash)
    try:
        sagas.orchestrate(one, *([child] if one is parents else []))
        sagas.serve(payments, Shelf)
        run = await sagas.start(one, Begin(k="k"))
        if one is restarts:
            await run.send(Begin(k="k"))
        for _ in range(ROUNDS):
            if run.status in ENDED:
                break
            wanted = [t for p in run.record.operations() if p.kind == "wait" for t in p.types]
            if run.status == "parked":
                LEDGER.broken = False
                await run.retry()
            elif wanted:
                await run.send(WANTED[wanted[0]]())
            else:
                await sagas.skip("5s")
        mine = [r for r in sagas.history if r.instance == run.instance]
        others = {r.instance: r.status for r in sagas.history if r.instance != run.instance}
        took = set(LEDGER.took) - {"bad"}
        return End(run.record, sagas.bench.commits, mine, took, set(LEDGER.back), list(LEDGER.said), others)
    finally:
        sagas.close()


FORMS: Final = (
    begins, joins, blocks, maps, parents, links, calls, asks, answers, delivers, restarts, compensates, handles, settles,
    parks, pivots,
)  # fmt: skip
