"""The two sagas of the language page that keep operations in flight: quotes of several carriers, work that can be paused."""

from __future__ import annotations

from contrapas import App, Command, Event, Pending, Saga, Service, StepFailed, Timeout, saga, step
from contrapas.runtime.build import build
from contrapas.runtime.definition import Definition


class Ordered(Event, topic="haul.events", key="id"):
    id: str
    carriers: tuple[str, ...] = ()


class Quoted(Event, topic="quotes.events", key="id"):
    id: str
    carrier: str
    cents: int


class NoQuote(Event, topic="quotes.events", key="id"):
    id: str
    reason: str


class AskQuote(Command[Quoted, NoQuote], topic="quotes.commands", key="id"):
    id: str
    carrier: str


class Chosen(Event, topic="haul.events", key="id"):
    id: str
    cents: int
    heard: int


class Pause(Event, topic="haul.events", key="id"):
    id: str


class Faster(Event, topic="haul.events", key="id"):
    id: str


class Hauled(Event, topic="haul.events", key="id"):
    id: str
    note: str


@saga
async def choose(s: Saga, order: Ordered) -> Chosen:
    quotes = [s.begin(AskQuote(carrier=c, id=order.id), within="10m", undo=None) for c in order.carriers]
    best, heard = 0, 0
    while quotes:
        done = await s.next(*quotes, within="1h")  # the first to end, in log order
        if isinstance(done, Timeout):
            for q in quotes:
                q.cancel()  # else the end of the saga waits for them
            break
        quotes.remove(done)
        try:
            price = await done
        except StepFailed:
            continue
        heard += 1
        best = price.cents if heard == 1 else min(best, price.cents)
    return Chosen(id=order.id, cents=best, heard=heard)


@step(undo=None)
async def load(id: str, part: int) -> int:
    return part


@saga
async def work(s: Saga, id: str, parts: int) -> int:
    """A branch with locals of its own."""
    done = 0
    for part in range(parts):
        done += await load(id, part)
        await s.sleep("1m")
    return done


@saga
async def haul(s: Saga, order: Ordered) -> Hauled:
    job: Pending[int] = s.begin(work(s, order.id, 5))
    inbox = s.begin(s.wait(Pause, Faster))
    heard = 0
    while await s.next(job, inbox) == inbox:
        heard += 1
        if isinstance(await inbox, Pause):
            job.cancel()
        inbox = s.begin(s.wait(Pause, Faster))
    try:
        result = str(await job)
    except StepFailed as why:
        result = why.reason
    return Hauled(id=order.id, note=f"{result} after {heard}")


carriers = Service("carriers")


@carriers.on(AskQuote)
async def quote(c: AskQuote) -> Quoted | NoQuote:
    if c.carrier.startswith("no"):
        return NoQuote(id=c.id, reason="full")
    return Quoted(id=c.id, carrier=c.carrier, cents=len(c.carrier) * 100)


def definition() -> Definition:
    app = App("haul")
    app.orchestrate(choose, haul)
    app.serve(carriers)
    return app.definition()


__all__ = ["build", "choose", "definition", "haul"]
