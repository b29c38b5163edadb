"""A trip: two flights and a hotel at the same time, a car if there is one, then payment; a failure takes back its own part."""

from __future__ import annotations

from contrapas import FOREVER, App, Command, Event, Saga, StepFailed, saga


class TripRequested(Event, topic="trips.events", key="trip_id"):
    trip_id: str
    traveller: str
    outbound: str
    homebound: str
    hotel: str
    nights: int
    car: bool = True


class TripBooked(Event, topic="trips.events", key="trip_id"):
    trip_id: str
    flights: tuple[str, str]
    hotel: str
    car: str | None


class TripRefused(Event, topic="trips.events", key="trip_id"):
    trip_id: str
    reason: str


class FlightBooked(Event, topic="flights.events", key="trip_id"):
    trip_id: str
    flight: str
    booking: str


class FlightFull(Event, topic="flights.events", key="trip_id"):
    trip_id: str
    flight: str
    reason: str = "the flight is full"


class BookFlight(Command[FlightBooked, FlightFull], topic="flights.commands", key="trip_id"):
    trip_id: str
    flight: str


class FlightCancelled(Event, topic="flights.events", key="trip_id"):
    trip_id: str
    flight: str


class CancelFlight(Command[FlightCancelled], topic="flights.commands", key="trip_id"):
    trip_id: str
    flight: str


class HotelBooked(Event, topic="hotels.events", key="trip_id"):
    trip_id: str
    booking: str


class HotelFull(Event, topic="hotels.events", key="trip_id"):
    trip_id: str
    reason: str = "the hotel is full"


class BookHotel(Command[HotelBooked, HotelFull], topic="hotels.commands", key="trip_id"):
    trip_id: str
    hotel: str
    nights: int


class HotelCancelled(Event, topic="hotels.events", key="trip_id"):
    trip_id: str


class CancelHotel(Command[HotelCancelled], topic="hotels.commands", key="trip_id"):
    trip_id: str
    booking: str


class CarReserved(Event, topic="cars.events", key="trip_id"):
    trip_id: str
    booking: str


class NoCar(Event, topic="cars.events", key="trip_id"):
    trip_id: str
    reason: str = "no car is left"


class ReserveCar(Command[CarReserved, NoCar], topic="cars.commands", key="trip_id"):
    trip_id: str


class CarReleased(Event, topic="cars.events", key="trip_id"):
    trip_id: str


class ReleaseCar(Command[CarReleased], topic="cars.commands", key="trip_id"):
    trip_id: str


class CarInsured(Event, topic="cars.events", key="trip_id"):
    trip_id: str
    policy: str


class CarNotInsured(Event, topic="cars.events", key="trip_id"):
    trip_id: str
    reason: str = "the driver is too young"


class InsureCar(Command[CarInsured, CarNotInsured], topic="cars.commands", key="trip_id"):
    trip_id: str
    driver: str


class InsuranceEnded(Event, topic="cars.events", key="trip_id"):
    trip_id: str


class EndInsurance(Command[InsuranceEnded], topic="cars.commands", key="trip_id"):
    trip_id: str


class TripPaid(Event, topic="payments.events", key="trip_id"):
    trip_id: str


class ChargeTrip(Command[TripPaid], topic="payments.commands", key="trip_id"):
    trip_id: str
    traveller: str


@saga
async def book_flights(s: Saga, trip: TripRequested) -> tuple[str, str]:
    """One leg of the trip: there and back again, one after the other."""
    there = await s.step(
        BookFlight(trip_id=trip.trip_id, flight=trip.outbound),
        undo=CancelFlight(trip_id=trip.trip_id, flight=trip.outbound),
        within="15m",
    )
    back = await s.step(
        BookFlight(trip_id=trip.trip_id, flight=trip.homebound),
        undo=CancelFlight(trip_id=trip.trip_id, flight=trip.homebound),
        within="15m",
    )
    return there.booking, back.booking


@saga
async def book_trip(s: Saga, trip: TripRequested) -> TripBooked | TripRefused:
    try:
        flights, hotel = await s.all(
            book_flights(s, trip),
            s.step(
                BookHotel(trip_id=trip.trip_id, hotel=trip.hotel, nights=trip.nights),
                undo=lambda ok: CancelHotel(trip_id=trip.trip_id, booking=ok.booking),
                within="1h",
            ),
        )
        car: str | None = None
        if trip.car:
            try:
                async with s.scope():  # without a car it is still a trip: only the car's part is taken back
                    reserved = await s.step(
                        ReserveCar(trip_id=trip.trip_id),
                        undo=ReleaseCar(trip_id=trip.trip_id),
                        within="15m",
                    )
                    await s.step(
                        InsureCar(trip_id=trip.trip_id, driver=trip.traveller),
                        undo=EndInsurance(trip_id=trip.trip_id),
                        within="15m",
                    )
                    car = reserved.booking
            except StepFailed as why:
                s.log.info("without a car: %s", why.reason)
        s.point_of_no_return()
        await s.step(ChargeTrip(trip_id=trip.trip_id, traveller=trip.traveller), retry=FOREVER)
    except StepFailed as why:
        await s.compensate()
        return TripRefused(trip_id=trip.trip_id, reason=why.reason)
    return TripBooked(trip_id=trip.trip_id, flights=flights, hotel=hotel.booking, car=car)


app = App("trips")
app.orchestrate(book_trip)
