"""Events with parts: called sagas beside each other, and one for each item. `# CPnnn` marks a mistake."""

from __future__ import annotations

from contrapas import Command, Event, Saga, StepFailed, Timeout, saga, step
from contrapas.author.timeout import Failed


class FairAsked(Event, topic="fairs.requests", key="fair_id"):
    fair_id: str
    stands: tuple[str, ...] = ()


class FairSet(Event, topic="fairs.events", key="fair_id"):
    fair_id: str


class FairDropped(Event, topic="fairs.events", key="fair_id"):
    fair_id: str


class StandRented(Event, topic="halls.events", key="fair_id"):
    fair_id: str


class NoStand(Event, topic="halls.events", key="fair_id"):
    fair_id: str


class StandFreed(Event, topic="halls.events", key="fair_id"):
    fair_id: str


class RentStand(Command[StandRented, NoStand], topic="halls.commands", key="fair_id"):
    fair_id: str


class FreeStand(Command[StandFreed], topic="halls.commands", key="fair_id"):
    fair_id: str


class Permitted(Event, topic="town.events", key="fair_id"):
    fair_id: str


class Forbidden(Event, topic="town.events", key="fair_id"):
    fair_id: str


class AskTown(Command[Permitted, Forbidden], topic="town.commands", key="fair_id"):
    fair_id: str


class TownAnswered(Event, topic="town.letters", key="letter"):
    letter: str


@step(undo=None)
async def look_up(fair_id: str) -> int:
    return 1


@saga
async def _stand(s: Saga, fair_id: str) -> int:
    await s.step(RentStand(fair_id=fair_id), undo=FreeStand(fair_id=fair_id), within="1h")
    return await look_up(fair_id)


@saga
async def _letter(s: Saga, fair_id: str) -> int:
    got = await s.wait(TownAnswered, correlate=f"letter-{fair_id}", within="2d")
    return 0 if isinstance(got, Timeout) else 1


@saga
async def rents_beside(s: Saga, e: FairAsked) -> FairSet | FairDropped:
    try:
        await s.all(_stand(s, e.fair_id), _letter(s, e.fair_id))
        await s.step(AskTown(fair_id=e.fair_id), undo=None, within="1d")
    except StepFailed:
        return FairDropped(fair_id=e.fair_id)  # CP707
    return FairSet(fair_id=e.fair_id)


@saga
async def rents_each(s: Saga, e: FairAsked) -> FairSet | FairDropped:
    await s.map(_stand, e.stands)
    try:
        await s.step(AskTown(fair_id=e.fair_id), undo=None, within="1d")
    except StepFailed:
        return FairDropped(fair_id=e.fair_id)  # CP707
    return FairSet(fair_id=e.fair_id)


@saga
async def rents_meanwhile(s: Saga, e: FairAsked) -> FairSet | FairDropped:
    renting = s.begin(_stand(s, e.fair_id))
    try:
        await s.step(AskTown(fair_id=e.fair_id), undo=None, within="1d")
    except StepFailed:
        await renting
        return FairDropped(fair_id=e.fair_id)  # CP707
    await renting
    return FairSet(fair_id=e.fair_id)


@saga
async def rents_beside_and_takes_back(s: Saga, e: FairAsked) -> FairSet | FairDropped:
    try:
        await s.all(_stand(s, e.fair_id), _letter(s, e.fair_id))
        await s.step(AskTown(fair_id=e.fair_id), undo=None, within="1d")
    except StepFailed:
        await s.compensate()
        return FairDropped(fair_id=e.fair_id)
    return FairSet(fair_id=e.fair_id)


@saga
async def waits_beside(s: Saga, e: FairAsked) -> FairSet | FairDropped:
    try:
        await s.all(look_up(e.fair_id), _letter(s, e.fair_id))
        await s.step(AskTown(fair_id=e.fair_id), undo=None, within="1d")
    except StepFailed:
        return FairDropped(fair_id=e.fair_id)
    return FairSet(fair_id=e.fair_id)


@saga
async def rents_what_it_can(s: Saga, e: FairAsked) -> FairSet | FairDropped:
    stands = await s.map(_stand, e.stands, on_error="collect", concurrency=3)
    if all(isinstance(stand, Failed) for stand in stands):
        return FairDropped(fair_id=e.fair_id)
    return FairSet(fair_id=e.fair_id)


@saga
async def rents_each_or_fails(s: Saga, e: FairAsked) -> FairSet:
    await s.map(_stand, e.stands)
    await s.step(AskTown(fair_id=e.fair_id), undo=None, within="1d")
    return FairSet(fair_id=e.fair_id)
