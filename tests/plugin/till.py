"""An entity whose handlers use much of the language, and sagas that call it."""

from __future__ import annotations

from contrapas import Command, Entity, Event, Saga, StepFailed, Telling, Timeout, handler, query, saga, step

RAN: list[str] = []


class Opened(Event, key="id"):
    id: str
    n: int = 1


class Closed(Event, key="id"):
    id: str
    text: str


class Checked(Event, key="id"):
    id: str
    good: bool


class Check(Command[Checked], key="id"):
    id: str


@step(undo=None)
async def put_back(size: int) -> None:
    RAN.append(f"back {size}")


@step(undo=lambda size: put_back(size), retry=None)
async def weigh(what: str) -> int:
    RAN.append(what)
    if what.startswith("bad"):
        raise StepFailed("no such thing")
    return len(what)


class Drawer(Entity, key="till"):
    lines: dict[str, int] = {}
    flushed: int = 0
    timer: Telling | None = None

    def _named(self, what: str) -> str:
        return f"{self.key}:{what}"

    @handler
    async def add(self, s: Saga, whats: list[str], *, extra: int = 0) -> int:
        """Steps in a loop, a handled failure, a timer that is put off, a method that asks for the key."""
        for what in whats:
            try:
                self.lines[self._named(what)] = await weigh(what) + extra
            except StepFailed as why:
                self.lines[self.key] = -1
                if why.reason != "no such thing":
                    raise
        if self.timer is not None:
            s.untell(self.timer)
        self.timer = s.tell(Drawer.at(self.key).flush(), after="10s")
        return len(self.lines)

    @handler
    async def flush(self) -> None:
        self.flushed += len(self.lines)
        self.lines.clear()

    @handler
    async def swap(self, s: Saga, a: str, b: str) -> str:
        """Both at once, a command to a service, a failure that leaves the fields as they were."""
        first, second = await s.all(weigh(a), weigh(b))
        self.lines[a], self.lines[b] = second, first
        got = await s.ask(Check(id=s.key), within="1m", undo=None)
        if isinstance(got, Timeout) or not got.good:
            raise StepFailed(f"{self.key} is not in order")
        return f"{first}/{second}"

    @query
    def total(self) -> int:
        return sum(self.lines.values())


@saga
async def fills(s: Saga, e: Opened) -> Closed:
    n = await Drawer.at(e.id).add(["mug", "bad", "cup"][: e.n])
    n += await Drawer.at(e.id).add(["pan"], extra=10)
    return Closed(id=e.id, text=f"{n} {await Drawer.at(e.id).total()}")


@saga
async def swaps(s: Saga, e: Opened) -> Closed:
    await Drawer.at(e.id).add(["mug"])
    try:
        got = await Drawer.at(e.id).swap("a", "bcd")
    except StepFailed as why:
        got = why.reason
    return Closed(id=e.id, text=f"{got} {await Drawer.at(e.id).total()}")
