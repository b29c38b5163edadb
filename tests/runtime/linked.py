"""A saga that waits for a person, who answers by link; an entity that calls itself later."""

from __future__ import annotations

from contrapas.app import App
from contrapas.author.entity import Entity, handler
from contrapas.author.event import Event
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.author.telling import Telling

SENT: list[str] = []


class Requested(Event, key="id"):
    id: str


class Approved(Event, key="id"):
    id: str
    by: str


class Rejected(Event, key="id"):
    id: str


class Refunded(Event, key="id"):
    id: str
    by: str


@step(undo=None)
async def mail(yes: str, no: str) -> None:
    SENT[:] = [yes, no]


@saga(again="restart")
async def refund(s: Saga, e: Requested) -> Refunded:
    yes = s.link(Approved(id=e.id, by="ü"), within="2d")
    no = s.link(Rejected(id=e.id))
    await mail(yes.token, no.url)
    got = await s.wait(Approved, Rejected, within="30d")
    await s.sleep("1s")
    return Refunded(id=e.id, by=got.by if isinstance(got, Approved) else f"{yes.token == SENT[0]}")


class Batch(Entity, key="id"):
    waiting: list[str] = []
    flushed: int = 0
    timer: Telling | None = None

    @handler
    async def put(self, s: Saga, what: str) -> int:
        self.waiting.append(what)
        s.tell(Batch.at("other").flush())
        s.tell(Batch.at(self.key).flush(), after="10s")
        return len(self.waiting)

    @handler
    async def put_last(self, s: Saga, what: str) -> int:
        """What comes meanwhile puts the timer off."""
        self.waiting.append(what)
        if self.timer is not None:
            s.untell(self.timer)
        self.timer = s.tell(Batch.at(self.key).flush(), after="10s")
        return len(self.waiting)

    @handler
    async def flush(self) -> None:
        self.flushed += len(self.waiting)
        self.waiting.clear()


app = App("link")
app.orchestrate(refund)
app.serve(Batch)
