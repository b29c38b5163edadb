"""Travel: seats, rooms and cars booked beside each other, trips called from trips. `# CPnnn` marks a mistake."""

from __future__ import annotations

import time

from contrapas import FOREVER, Command, Event, Retry, Saga, StepFailed, Timeout, saga, step


class TripAsked(Event, topic="trips.requests", key="trip_id"):
    trip_id: str
    stops: tuple[str, ...] = ()
    cities: frozenset[str] = frozenset()
    vip: bool = False


class TripBooked(Event, topic="trips.events", key="trip_id"):
    trip_id: str


class TripFailed(Event, topic="trips.events", key="trip_id"):
    trip_id: str


class SeatBooked(Event, topic="air.events", key="trip_id"):
    trip_id: str


class NoSeat(Event, topic="air.events", key="trip_id"):
    trip_id: str


class SeatFreed(Event, topic="air.events", key="trip_id"):
    trip_id: str


class BookSeat(Command[SeatBooked, NoSeat], topic="air.commands", key="trip_id"):
    trip_id: str


class FreeSeat(Command[SeatFreed], topic="air.commands", key="trip_id"):
    trip_id: str


class RoomBooked(Event, topic="hotels.events", key="trip_id"):
    trip_id: str


class NoRoom(Event, topic="hotels.events", key="trip_id"):
    trip_id: str


class RoomFreed(Event, topic="hotels.events", key="trip_id"):
    trip_id: str


class BookRoom(Command[RoomBooked, NoRoom], topic="hotels.commands", key="trip_id"):
    trip_id: str
    city: str = ""


class FreeRoom(Command[RoomFreed], topic="hotels.commands", key="trip_id"):
    trip_id: str
    city: str = ""


class WeatherTurned(Event, topic="weather.events", key="trip_id"):
    trip_id: str


class TravellerCame(Event, topic="trips.events", key="trip_id"):
    trip_id: str


@step
async def hold_car(trip_id: str) -> str:
    return trip_id


@step(undo=None)
async def free_car(trip_id: str) -> None: ...


@step(undo=None, retry=Retry(1))
async def free_car_once(trip_id: str) -> None: ...


@step(undo=None)
async def free_car_by_number(number: str) -> None: ...


@step(undo=None)
async def print_papers(trip_id: str) -> None: ...


# -- right ------------------------------------------------------------------------------------------------------------


@saga
async def books_beside_each_other(s: Saga, e: TripAsked) -> TripBooked | TripFailed:
    try:
        await s.all(
            s.step(BookSeat(trip_id=e.trip_id), undo=FreeSeat(trip_id=e.trip_id), within="1m"),
            s.step(BookRoom(trip_id=e.trip_id), undo=FreeRoom(trip_id=e.trip_id), within="1m"),
            s.step(hold_car(e.trip_id), undo=free_car(e.trip_id)),
        )
    except StepFailed:
        await s.compensate()
        return TripFailed(trip_id=e.trip_id)
    return TripBooked(trip_id=e.trip_id)


@saga
async def takes_whoever_is_first(s: Saga, e: TripAsked) -> TripBooked:
    await s.first(
        s.step(BookSeat(trip_id=e.trip_id), undo=FreeSeat(trip_id=e.trip_id), within="1m"),
        s.step(hold_car(e.trip_id), undo=free_car(e.trip_id)),
    )
    return TripBooked(trip_id=e.trip_id)


@saga
async def gives_up_the_leg_alone(s: Saga, e: TripAsked) -> TripBooked:
    await s.step(BookSeat(trip_id=e.trip_id), undo=FreeSeat(trip_id=e.trip_id), within="1m")
    try:
        async with s.scope():
            await s.step(BookRoom(trip_id=e.trip_id), undo=FreeRoom(trip_id=e.trip_id), within="1m")
            await s.step(hold_car(e.trip_id), undo=free_car(e.trip_id))
    except StepFailed:
        s.log.info("without a room")
    return TripBooked(trip_id=e.trip_id)


@saga
async def stay(s: Saga, e: TripAsked, city: str) -> None:
    await s.step(
        BookRoom(trip_id=e.trip_id, city=city), undo=FreeRoom(trip_id=e.trip_id, city=city), within="1m"
    )
    await s.step(hold_car(e.trip_id), undo=free_car(e.trip_id))


@saga
async def calls_a_trip_for_each_stop(s: Saga, e: TripAsked) -> TripBooked | TripFailed:
    try:
        for stop in e.stops:
            await stay(s, e, stop)
    except StepFailed:
        await s.compensate()
        return TripFailed(trip_id=e.trip_id)
    return TripBooked(trip_id=e.trip_id)


@saga
async def cleans_up_whatever_happens(s: Saga, e: TripAsked) -> TripBooked:
    try:
        await s.step(BookSeat(trip_id=e.trip_id), undo=FreeSeat(trip_id=e.trip_id), within="1m")
    finally:
        await print_papers(e.trip_id)
    return TripBooked(trip_id=e.trip_id)


@saga
async def waits_for_the_traveller(s: Saga, e: TripAsked) -> TripBooked | TripFailed:
    await s.step(BookSeat(trip_id=e.trip_id), undo=FreeSeat(trip_id=e.trip_id), within="1m")
    came = await s.wait(TravellerCame, within="2h")
    if isinstance(came, Timeout):
        await s.compensate()
        return TripFailed(trip_id=e.trip_id)
    return TripBooked(trip_id=e.trip_id)


@saga
async def books_in_an_order_of_its_own(s: Saga, e: TripAsked) -> TripBooked:
    for city in sorted(e.cities):
        await s.step(
            BookRoom(trip_id=e.trip_id, city=city), undo=FreeRoom(trip_id=e.trip_id, city=city), within="1m"
        )
    return TripBooked(trip_id=e.trip_id)


@saga
async def asks_for_weather_beside_people(s: Saga, e: TripAsked) -> TripBooked:
    await s.all(s.wait(WeatherTurned, within="1d"), s.wait(TravellerCame, within="1d"))
    return TripBooked(trip_id=e.trip_id)


# -- wrong ------------------------------------------------------------------------------------------------------------


@saga
async def forgets_the_car_beside_the_rest(s: Saga, e: TripAsked) -> TripBooked | TripFailed:
    try:
        await s.all(
            s.step(BookSeat(trip_id=e.trip_id), undo=FreeSeat(trip_id=e.trip_id), within="1m"),
            hold_car(e.trip_id),  # CP703
        )
    except StepFailed:
        await s.compensate()
        return TripFailed(trip_id=e.trip_id)
    return TripBooked(trip_id=e.trip_id)


@saga
async def frees_the_car_by_a_number_it_may_not_have(s: Saga, e: TripAsked) -> TripBooked:
    await s.step(hold_car(e.trip_id), undo=lambda number: free_car_by_number(number))  # CP709
    await s.step(BookSeat(trip_id=e.trip_id), undo=FreeSeat(trip_id=e.trip_id), within="1m")
    return TripBooked(trip_id=e.trip_id)


@saga
async def frees_the_car_if_it_works_at_once(s: Saga, e: TripAsked) -> TripBooked:
    await s.step(hold_car(e.trip_id), undo=free_car_once(e.trip_id))  # CP708
    await s.step(BookSeat(trip_id=e.trip_id), undo=FreeSeat(trip_id=e.trip_id), within="1m")
    return TripBooked(trip_id=e.trip_id)


@saga
async def books_in_the_order_of_a_set(s: Saga, e: TripAsked) -> TripBooked:
    for city in e.cities:  # CP728
        await s.step(
            BookRoom(trip_id=e.trip_id, city=city), undo=FreeRoom(trip_id=e.trip_id, city=city), within="1m"
        )
    return TripBooked(trip_id=e.trip_id)


@saga
async def lets_two_branches_wait_for_one(s: Saga, e: TripAsked) -> TripBooked:
    await s.all(  # CP716
        s.wait(TravellerCame, within="1d"), s.wait(WeatherTurned, TravellerCame, within="1d")
    )
    return TripBooked(trip_id=e.trip_id)


@saga
async def handles_what_cannot_fail(s: Saga, e: TripAsked) -> TripBooked | TripFailed:
    try:
        await s.wait(TravellerCame, within="1d")
    except StepFailed:  # CP714
        return TripFailed(trip_id=e.trip_id)
    return TripBooked(trip_id=e.trip_id)


@saga
async def waits_for_ever_once_cancelled(s: Saga, e: TripAsked) -> TripBooked:
    try:
        await s.step(BookSeat(trip_id=e.trip_id), undo=FreeSeat(trip_id=e.trip_id), within="1m")
    finally:
        await s.step(hold_car(e.trip_id), undo=None, retry=FOREVER)  # CP718
    return TripBooked(trip_id=e.trip_id)


@saga
async def watches_the_clock(s: Saga, e: TripAsked) -> TripBooked:
    began = time.monotonic()
    await print_papers(e.trip_id)
    while time.monotonic() < began + 5:  # CP702
        pass
    return TripBooked(trip_id=e.trip_id)


@saga
async def asks_until_there_is_a_seat(s: Saga, e: TripAsked) -> TripBooked:
    while True:
        answer = await s.ask(BookSeat(trip_id=e.trip_id), undo=None, within="1m")  # CP713
        if isinstance(answer, SeatBooked):
            return TripBooked(trip_id=e.trip_id)


@saga
async def keeps_the_seat_of_who_never_came(s: Saga, e: TripAsked) -> TripBooked | TripFailed:
    await s.step(BookSeat(trip_id=e.trip_id), undo=FreeSeat(trip_id=e.trip_id), within="1m")
    came = await s.wait(TravellerCame, within="2h")
    if isinstance(came, Timeout):
        return TripFailed(trip_id=e.trip_id)  # CP707
    return TripBooked(trip_id=e.trip_id)


@saga
async def watches_with_hands(s: Saga, e: TripAsked) -> TripBooked:
    await s.step(BookSeat(trip_id=e.trip_id), undo=FreeSeat(trip_id=e.trip_id), within="1m")
    await print_papers(e.trip_id)  # CP721
    return TripBooked(trip_id=e.trip_id)
