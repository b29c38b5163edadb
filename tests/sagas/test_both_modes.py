"""An observed run passes the same states as the orchestrated one of the same events, with the same locals, and sends nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from contrapas import Command, Event
from contrapas.testing import Run, Sagas
from sagas.claim import saga as claim
from sagas.order import saga as order
from sagas.travel import saga as travel

Walk = list[tuple[str, str, dict[str, str]]]


class Reply(NamedTuple):
    """What a participant publishes: the answer to a command, or the event an observer sees."""

    command: type[Command[Any, Any]]
    event: Event


Line = Event | Reply
"""An event from elsewhere, or a reply."""


K: dict[str, Any] = {"order_id": "o-1"}
T: dict[str, Any] = {"trip_id": "t-1"}
C: dict[str, Any] = {"claim_id": "c-1"}
CHARGED = Reply(order.ChargeCard, order.CardCharged(charge_id="ch-1", **K))
RESERVED = Reply(order.ReserveStock, order.StockReserved(**K))
THERE = Reply(travel.BookFlight, travel.FlightBooked(flight="LIS1", booking="f-1", **T))
BACK = Reply(travel.BookFlight, travel.FlightBooked(flight="LIS2", booking="f-2", **T))
HOTEL = Reply(travel.BookHotel, travel.HotelBooked(booking="h-1", **T))
CAR = Reply(travel.ReserveCar, travel.CarReserved(booking="c-1", **T))
PAID = Reply(travel.ChargeTrip, travel.TripPaid(**T))
HELD = Reply(claim.HoldFunds, claim.FundsHeld(hold="h-1", **C))
RELEASED = Reply(claim.ReleaseFunds, claim.FundsReleased(**C))

PLACED = order.OrderPlaced(sku="cup", cents=1900, **K)
ASKED = travel.TripRequested(
    traveller="ada", outbound="LIS1", homebound="LIS2", hotel="Central", nights=3, **T
)
FILED = claim.ClaimFiled(policy="P-1", cents=80_000, report_no="R-1", **C)

STORIES: dict[str, tuple[Any, Event, list[Line]]] = {
    "order confirmed": (
        order.place_order, PLACED,
        [CHARGED, RESERVED, Reply(order.ShipOrder, order.Shipped(tracking="T-1", **K))],
    ),
    "order out of stock": (
        order.place_order, PLACED,
        [CHARGED, Reply(order.ReserveStock, order.OutOfStock(sku="cup", **K)),
         Reply(order.RefundCard, order.CardRefunded(**K))],
    ),
    "order declined": (
        order.place_order, PLACED, [Reply(order.ChargeCard, order.CardDeclined(reason="no cover", **K))],
    ),
    "trip booked": (
        travel.book_trip, ASKED,
        [THERE, HOTEL, BACK, CAR, Reply(travel.InsureCar, travel.CarInsured(policy="p-1", **T)), PAID],
    ),
    "trip without a car": (
        travel.book_trip, ASKED,
        [HOTEL, THERE, BACK, CAR, Reply(travel.InsureCar, travel.CarNotInsured(**T)),
         Reply(travel.ReleaseCar, travel.CarReleased(**T)), PAID],
    ),
    "claim refused": (
        claim.handle_claim, FILED,
        [HELD, claim.PoliceReport(report_no="R-1", at_fault=True), RELEASED],
    ),
    "claim not covered": (
        claim.handle_claim, FILED, [Reply(claim.HoldFunds, claim.NotCovered(reason="theft", **C))],
    ),
}  # fmt: skip


async def walk(sagas: Sagas, story: str, *, observed: bool) -> tuple[Run[Any], Walk]:
    """The states and locals behind every line of a story."""
    saga, start, lines = STORIES[story]
    (sagas.observe if observed else sagas.orchestrate)(saga)
    run: Run[Any] = await sagas.start(saga, start)
    seen: Walk = [(run.status, run.state, run.locals)]
    for line in lines:
        if isinstance(line, Event):
            await run.send(line)
        elif observed:
            await run.send(line.event)
        else:
            await (await run.expect(line.command)).reply(line.event)
        await sagas.settle()
        seen.append((run.status, run.state, run.locals))
    return run, seen


@pytest.mark.parametrize("story", STORIES)
async def test_an_observed_run_passes_the_states_of_the_orchestrated_one_with_the_same_locals(
    story: str,
) -> None:
    sent, watched = Sagas(), Sagas()
    leads, orchestrated = await walk(sent, story, observed=False)
    follows, observed = await walk(watched, story, observed=True)
    assert observed == orchestrated
    assert follows.outcome == leads.outcome
    commands = {line.command for line in STORIES[story][2] if isinstance(line, Reply)}
    for command in commands:
        with pytest.raises(AssertionError, match="has not sent"):
            await follows.expect(command)
    sent.close()
    watched.close()
