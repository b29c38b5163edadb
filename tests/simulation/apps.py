"""Sagas written for the simulation: a capricious one, a family, an entity and who calls it, a copier."""

from __future__ import annotations

from collections.abc import Callable

from contrapas import App, Command, Entity, Event, Retry, Saga, StepFailed, handler, query, saga, step

DRAWS: list[Callable[[], float]] = []
"""Where capricious code draws from: another number at every attempt."""
AGAIN = Retry(20, backoff="50ms..1s")


def whim() -> int:
    """What nobody can foresee, nor draw again."""
    return int(DRAWS[-1]() * 1_000_000)


class Wished(Event, topic="whim.events", key="id"):
    id: str


class Granted(Event, topic="whim.events", key="id"):
    id: str
    sums: tuple[int, ...]


@step(undo=None, retry=AGAIN)
def give_back(id: str, number: int, amount: int) -> None: ...


@step(retry=AGAIN)
def give(id: str, number: int, amount: int) -> int:
    return amount


@saga
async def capricious(s: Saga, e: Wished) -> Granted:
    sums: list[int] = []
    for number in range(1 + whim() % 4):
        amount = whim()
        got = await s.step(give(e.id, number, amount), undo=give_back(e.id, number, amount), label="give")
        sums.append(got)
    if whim() % 5 == 0:
        raise StepFailed("a whim")
    return Granted(id=e.id, sums=tuple(sums))


whims = App("whims")
whims.orchestrate(capricious)


class Trip(Event, topic="trip.events", key="id"):
    id: str
    back: bool


class Booked(Event, topic="trip.events", key="id"):
    id: str
    what: str


class Stay(Event, topic="stay.events", key="hotel"):
    hotel: str


class Stayed(Event, topic="stay.events", key="hotel"):
    hotel: str
    nights: int


class Full(Event, topic="stay.events", key="hotel"):
    hotel: str


class Left(Event, topic="leave.events", key="hotel"):
    hotel: str


class Leave(Command[Left], topic="leave.commands", key="hotel"):
    hotel: str


@step(undo=None, retry=AGAIN)
def unpack(hotel: str) -> None: ...


@step(undo=lambda hotel: unpack(hotel), retry=AGAIN)
def pack(hotel: str) -> str:
    return hotel


@saga
async def stay(s: Saga, e: Stay) -> Stayed | Full:
    await pack(e.hotel)
    if e.hotel.endswith("7"):
        return Full(hotel=e.hotel)
    if e.hotel.endswith("3"):
        raise StepFailed("it burns")
    return Stayed(hotel=e.hotel, nights=3)


@saga
async def trip(s: Saga, e: Trip) -> Booked:
    try:
        got = await s.child(stay, Stay(hotel=f"h{e.id}"), undo=lambda ok: Leave(hotel=ok.hotel))
    except StepFailed as why:
        return Booked(id=e.id, what=why.reason)
    if e.back:
        raise StepFailed("back home")
    return Booked(id=e.id, what=type(got).__name__)


family = App("kin")
family.orchestrate(trip, stay)


class Tally(Entity, key="id"):
    count: int = 0
    by: dict[str, int] = {}

    @handler
    async def add(self, who: str, n: int) -> int:
        self.count += n
        self.by[who] = self.by.get(who, 0) + n
        return self.count

    @query
    def total(self) -> int:
        return self.count


class Sale(Event, topic="sale.events", key="id"):
    id: str
    shelf: str
    n: int


class Sold(Event, topic="sale.events", key="id"):
    id: str
    total: int


@saga
async def sell(s: Saga, e: Sale) -> Sold:
    total = await s.step(Tally.at(e.shelf).add(e.id, e.n), undo=None, retry=AGAIN)
    return Sold(id=e.id, total=total)


tallies = App("tally")
tallies.serve(Tally)
tallies.orchestrate(sell)


class Visit(Event, topic="visit.events", key="id"):
    id: str
    rooms: int


class Visited(Event, topic="visit.events", key="id"):
    id: str
    open: int


class Opened(Event, topic="room.events", key="id"):
    id: str
    room: int


class Closed(Event, topic="room.events", key="id"):
    id: str
    room: int


class Shut(Command[Closed], topic="room.commands", key="id"):
    id: str
    room: int


class Open(Command[Opened], topic="room.commands", key="id"):
    id: str
    room: int


@saga
async def stubborn(s: Saga, e: Visit) -> Visited:
    """Whoever does not answer in time is passed over, and may answer while the next one is asked."""
    count = 0
    for room in range(e.rooms):
        try:
            await s.step(Open(id=e.id, room=room), undo=Shut(id=e.id, room=room), within="20s", label="open")
            count += 1
        except StepFailed:
            pass
    if count < e.rooms - 2:
        raise StepFailed("too few rooms")
    return Visited(id=e.id, open=count)


visits = App("visits")
visits.orchestrate(stubborn)


class Case(Event, topic="case.events", key="id"):
    id: str
    clue: str


class Solved(Event, topic="case.events", key="id"):
    id: str
    by: str


class Clue(Event, topic="clue.events", key="clue"):
    clue: str
    by: str


@saga
async def patient(s: Saga, e: Case) -> Solved:
    """It waits again and again, twice as long each time: what comes as it stops waiting is there for the next time."""
    for n in range(12):
        found = await s.wait(Clue, correlate=e.clue, within=f"{2 << n}s")
        if isinstance(found, Clue):
            return Solved(id=e.id, by=found.by)
    return Solved(id=e.id, by="")


cases = App("cases")
cases.orchestrate(patient)


class Numbered(Event, topic="copy.in", key="id"):
    id: str
    number: int


class Copied(Event, topic="copy.out", key="id"):
    id: str
    number: int


@step(undo=None, retry=AGAIN)
def copy(number: int) -> int:
    return number


@saga
async def copier(s: Saga, e: Numbered) -> Copied:
    return Copied(id=e.id, number=await copy(e.number))


copies = App("copies")
copies.orchestrate(copier)


class Ring(Event, topic="till.events", key="id"):
    id: str
    till: str
    n: int


class Rung(Event, topic="till.rung", key="till"):
    till: str
    n: int


class TillClosed(Event, topic="till.closed", key="till"):
    till: str
    total: int


@saga
async def ring(s: Saga, e: Ring) -> Rung:
    return Rung(till=e.till, n=e.n)


@saga(again="deliver")
async def till(s: Saga, e: Rung) -> TillClosed:
    """It hears of everybody over a topic: what a destination refused once comes after what others said later."""
    total = e.n
    while True:
        heard = await s.wait(Rung, within="2d")
        if not isinstance(heard, Rung):
            return TillClosed(till=e.till, total=total)
        total += heard.n


tills = App("tills")
tills.orchestrate(ring, till)
