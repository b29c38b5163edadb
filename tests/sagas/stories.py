"""What happens to each worked saga in its recorded run: told once, tested in both forms, with crashes, and kept as golden."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from contrapas import StepFailed
from contrapas.testing import Run, Sagas
from sagas.bank import saga as bank
from sagas.billing import saga as billing
from sagas.checkout import saga as checkout
from sagas.claim import saga as claim
from sagas.clearing import saga as clearing
from sagas.index import saga as index
from sagas.refunds import saga as refunds
from sagas.subscription import saga as subscription
from sagas.travel import saga as travel

Story = Callable[[Sagas], Awaitable[None]]


async def everything_is_booked(sagas: Sagas) -> None:
    run = await trip(sagas, "t-1")
    await flight(run, "LIS1", "f-1")
    await hotel(run)
    await flight(run, "LIS2", "f-2")
    await (await run.expect(travel.ReserveCar)).reply(travel.CarReserved(trip_id=run.key, booking="c-1"))
    await (await run.expect(travel.InsureCar)).reply(travel.CarInsured(trip_id=run.key, policy="p-1"))
    await (await run.expect(travel.ChargeTrip)).reply(travel.TripPaid(trip_id=run.key))
    assert run.status == "done"
    assert run.outcome == travel.TripBooked(trip_id="t-1", flights=("f-1", "f-2"), hotel="h-1", car="c-1")


async def a_trip_without_a_car(sagas: Sagas) -> None:
    """The car cannot be insured: the car is given back, the flights and the hotel stay."""
    run = await trip(sagas, "t-2")
    await hotel(run)
    await flight(run, "LIS1", "f-1")
    await flight(run, "LIS2", "f-2")
    await (await run.expect(travel.ReserveCar)).reply(travel.CarReserved(trip_id=run.key, booking="c-1"))
    await (await run.expect(travel.InsureCar)).reply(travel.CarNotInsured(trip_id=run.key))
    await (await run.expect(travel.ReleaseCar)).reply(travel.CarReleased(trip_id=run.key))
    await (await run.expect(travel.ChargeTrip)).reply(travel.TripPaid(trip_id=run.key))
    assert run.status == "done"
    assert run.outcome == travel.TripBooked(trip_id="t-2", flights=("f-1", "f-2"), hotel="h-1", car=None)


async def the_way_back_is_full(sagas: Sagas) -> None:
    """One leg fails while the other has succeeded: both are taken back, at the same time."""
    run = await trip(sagas, "t-3")
    await flight(run, "LIS1", "f-1")
    await hotel(run)
    back = await run.expect(travel.BookFlight)
    await back.reply(travel.FlightFull(trip_id=run.key, flight="LIS2"))
    room = await run.expect(travel.CancelHotel)
    there = await run.expect(travel.CancelFlight)
    assert (room.command.booking, there.command.flight) == ("h-1", "LIS1")
    await there.reply(travel.FlightCancelled(trip_id=run.key, flight="LIS1"))
    await room.reply(travel.HotelCancelled(trip_id=run.key))
    assert run.status == "compensated"
    assert run.outcome == travel.TripRefused(trip_id="t-3", reason="the flight is full")


async def trip(sagas: Sagas, key: str) -> Run[travel.TripBooked | travel.TripRefused]:
    asked = travel.TripRequested(
        trip_id=key, traveller="ada", outbound="LIS1", homebound="LIS2", hotel="Central", nights=3
    )
    return await sagas.start(travel.book_trip, asked)


async def flight(run: Run[Any], name: str, booking: str) -> None:
    seen = await run.expect(travel.BookFlight)
    assert seen.command.flight == name
    await seen.reply(travel.FlightBooked(trip_id=run.key, flight=name, booking=booking))


async def hotel(run: Run[Any]) -> None:
    seen = await run.expect(travel.BookHotel)
    await seen.reply(travel.HotelBooked(trip_id=run.key, booking="h-1"))


async def three_months_and_out(sagas: Sagas) -> None:
    """A month, a better plan, a missed payment that is made up for, and the end."""
    run = await subscribed(sagas, "ada")
    await sagas.skip("30d")
    assert await billed(run) == 900
    await run.send(subscription.PlanChanged(customer="ada", plan="better", cents=1900))
    await sagas.skip("30d")
    assert await billed(run, paid=False) == 1900
    await sagas.skip("5d")
    assert await billed(run) == 1900
    await run.send(subscription.Unsubscribed(customer="ada"))
    assert run.outcome == subscription.SubscriptionEnded(customer="ada", months=2, reason="unsubscribed")


async def nobody_pays(sagas: Sagas) -> None:
    """Three payments are missed, one of them without any answer."""
    run = await subscribed(sagas, "bob")
    await sagas.skip("30d")
    await billed(run, paid=False)
    await sagas.skip("5d")
    await run.expect(subscription.ChargeMonth)
    await sagas.skip("2d")
    await sagas.skip("5d")
    assert await billed(run, paid=False) == 900
    assert run.outcome == subscription.SubscriptionEnded(customer="bob", months=0, reason="not paid")
    assert [m.times for m in sagas.published(subscription.PaymentMissed)] == [1, 2, 3]


async def subscribed(sagas: Sagas, customer: str) -> Run[subscription.SubscriptionEnded]:
    return await sagas.start(
        subscription.subscription, subscription.Subscribed(customer=customer, plan="basic", cents=900)
    )


async def billed(run: Run[Any], *, paid: bool = True) -> int:
    """Answer the newest bill; what it was about."""
    seen = await run.expect(subscription.ChargeMonth)
    while seen.command.month and run.status == "waiting":
        try:
            seen = await run.expect(subscription.ChargeMonth)
        except AssertionError:
            break
    month = seen.command.month
    answer = (
        subscription.MonthPaid(customer=run.key, month=month)
        if paid
        else subscription.MonthNotPaid(customer=run.key, month=month, reason="expired")
    )
    await seen.reply(answer)
    return seen.command.cents


async def the_report_was_there_first(sagas: Sagas) -> None:
    """The police were faster than the customer, and the first adjuster is on holiday."""
    sagas.orchestrate(claim.handle_claim)
    await sagas.send(claim.PoliceReport(report_no="R-7", at_fault=False))
    run = await claimed(sagas, "c-1", "R-7")
    await (await run.expect(claim.HoldFunds)).reply(claim.FundsHeld(claim_id="c-1", hold="h-1"))
    assert run.state == "wait(Approved|Denied)"
    await sagas.skip("10d")
    await run.send(claim.Approved(claim_id="c-1", by="head of claims", cents=70_000))
    await (await run.expect(claim.PayFunds)).reply(claim.FundsPaid(claim_id="c-1"))
    assert run.outcome == claim.ClaimPaid(claim_id="c-1", cents=70_000)


async def the_report_comes_too_late(sagas: Sagas) -> None:
    """After thirty days the money is given back; the report that comes then changes nothing."""
    run = await claimed(sagas, "c-2", "R-8")
    await (await run.expect(claim.HoldFunds)).reply(claim.FundsHeld(claim_id="c-2", hold="h-2"))
    await sagas.skip("30d")
    await (await run.expect(claim.ReleaseFunds)).reply(claim.FundsReleased(claim_id="c-2"))
    assert run.outcome == claim.ClaimDenied(claim_id="c-2", reason="no police report")
    await sagas.send(claim.PoliceReport(report_no="R-8", at_fault=False))
    assert run.status == "compensated"


async def the_ledger_answers_a_week_late(sagas: Sagas) -> None:
    """Nobody knows whether the money is held: the claim is refused, and settles when the answer comes."""
    run = await claimed(sagas, "c-3", "R-9")
    hold = await run.expect(claim.HoldFunds)
    await sagas.skip("1d")
    assert isinstance(run.outcome, claim.ClaimDenied)
    assert run.status == "settling"
    await sagas.skip("6d")
    await hold.reply(claim.FundsHeld(claim_id="c-3", hold="h-3"))
    release = await run.expect(claim.ReleaseFunds)
    assert release.command.hold == "h-3"
    await release.reply(claim.FundsReleased(claim_id="c-3"))
    assert run.status == "compensated"


async def claimed(sagas: Sagas, key: str, report: str) -> Run[claim.ClaimPaid | claim.ClaimDenied]:
    filed = claim.ClaimFiled(claim_id=key, policy="P-1", cents=80_000, report_no=report)
    return await sagas.start(claim.handle_claim, filed)


async def money_moves(sagas: Sagas) -> None:
    """Held, taken, given, confirmed."""
    done = [sagas.stub(step) for step in (bank.hold, bank.debit, bank.credit, bank.confirm)]
    run = await sagas.start(
        bank.transfer, bank.TransferAsked(transfer_id="x-1", source="a", target="b", cents=5)
    )
    assert run.outcome == bank.TransferDone(transfer_id="x-1")
    assert all(calls for calls in done)


async def the_target_is_closed(sagas: Sagas) -> None:
    """What was held and taken goes back, in reverse."""
    sagas.stub(bank.hold)
    sagas.stub(bank.debit)
    sagas.stub(bank.credit, raises=StepFailed("account b is closed"))
    undone = sagas.stub(bank.take_back)
    run = await sagas.start(
        bank.transfer, bank.TransferAsked(transfer_id="x-2", source="a", target="b", cents=5)
    )
    assert run.status == "compensated"
    assert run.outcome == bank.TransferRefused(transfer_id="x-2", reason="account b is closed")
    assert list(dict.fromkeys(undone)) == [("x-2", "debit"), ("x-2", "hold")]


async def some_cannot_be_read(sagas: Sagas) -> None:
    """Six documents, two of them broken: what can be indexed is, and the rest is named."""
    broken = ("b/2", "b/5")

    def embed(doc: index.Doc) -> int:
        if doc.url in broken:
            raise StepFailed(f"{doc.url} cannot be read")
        return len(doc.url)

    sagas.stub(index.list_docs, returns=[index.Doc(url=f"b/{n}") for n in range(6)])
    sagas.stub(index.embed, calls=embed)
    run = await sagas.start(index.index_bucket, index.IndexRequested(job_id="j-1", bucket="b"))
    await sagas.skip("1m")
    assert run.outcome == index.IndexFinished(
        job_id="j-1", indexed=4, failed=("b/2 cannot be read", "b/5 cannot be read")
    )


async def the_second_approver_decides(sagas: Sagas) -> None:
    """Nine hours pass without an answer; the next one is asked, and says yes."""
    letters = sagas.stub(refunds.ask_by_mail)
    run = await asked(sagas, "r-1")
    await sagas.skip("9h")
    await run.send(refunds.Approved(refund_id="r-1", by="second@example.com"))
    assert run.outcome == refunds.RefundDecided(
        refund_id="r-1", granted=True, decided_by="second@example.com"
    )
    assert list(dict.fromkeys(person for person, _ in letters)) == ["first@example.com", "second@example.com"]


async def nobody_answers(sagas: Sagas) -> None:
    """Everybody was asked and nobody answered."""
    sagas.stub(refunds.ask_by_mail)
    run = await asked(sagas, "r-2")
    await sagas.skip("18h")
    assert run.outcome == refunds.RefundDecided(refund_id="r-2", granted=False, decided_by="nobody")


async def asked(sagas: Sagas, key: str) -> Run[refunds.RefundDecided]:
    people = ("first@example.com", "second@example.com")
    return await sagas.start(
        refunds.approve_refund, refunds.RefundRequested(refund_id=key, cents=9900, approvers=people)
    )


async def the_parcel_is_sent(sagas: Sagas) -> None:
    """The card is charged, the parcel goes out."""
    run = await ordered(sagas, "o-1", "mug")
    charge = await run.expect(checkout.ChargeCard)
    await charge.reply(checkout.CardCharged(order_id="o-1", charge_id="ch_o-1"))
    await (await run.expect(checkout.SendParcel)).reply(checkout.ParcelSent(order_id="o-1", tracking="T-1"))
    assert run.outcome == checkout.OrderConfirmed(order_id="o-1", tracking="T-1")


async def nothing_is_left_to_send(sagas: Sagas) -> None:
    """The charge is taken back."""
    run = await ordered(sagas, "o-2", "unicorn")
    charge = await run.expect(checkout.ChargeCard)
    await charge.reply(checkout.CardCharged(order_id="o-2", charge_id="ch_o-2"))
    parcel = await run.expect(checkout.SendParcel)
    await parcel.reply(checkout.NothingLeft(order_id="o-2", reason="sold out"))
    await (await run.expect(checkout.RefundCard)).reply(checkout.CardRefunded(order_id="o-2"))
    assert run.outcome == checkout.OrderRejected(order_id="o-2", reason="sold out")


async def ordered(sagas: Sagas, key: str, sku: str) -> Run[checkout.OrderConfirmed | checkout.OrderRejected]:
    placed = checkout.OrderPlaced(order_id=key, sku=sku, cents=900)
    return await sagas.start(checkout.place_order, placed)


async def both_banks_agree(sagas: Sagas) -> None:
    """Taken, given, booked."""
    run = await sent(sagas, "t-1")
    await (await run.expect(clearing.Withdraw)).reply(clearing.Withdrawn(transfer_id="t-1"))
    await (await run.expect(clearing.Deposit)).reply(clearing.Deposited(transfer_id="t-1"))
    await (await run.expect(clearing.Book)).reply(clearing.Booked(transfer_id="t-1"))
    assert run.outcome == clearing.TransferDone(transfer_id="t-1")


async def the_other_bank_is_silent(sagas: Sagas) -> None:
    """The deposit may have happened: it is recalled as if it had, then the withdrawal is returned."""
    run = await sent(sagas, "t-2")
    await (await run.expect(clearing.Withdraw)).reply(clearing.Withdrawn(transfer_id="t-2"))
    await run.expect(clearing.Deposit)
    await sagas.skip("20s")
    await (await run.expect(clearing.Recall)).reply(clearing.Recalled(transfer_id="t-2"))
    await (await run.expect(clearing.Return)).reply(clearing.Returned(transfer_id="t-2"))
    assert run.status == "compensated"


async def sent(sagas: Sagas, key: str) -> Run[clearing.TransferDone | clearing.TransferRefused]:
    asked = clearing.TransferAsked(transfer_id=key, payer="ada", payee="bob", cents=700)
    return await sagas.start(clearing.transfer, asked)


async def the_order_is_billed_and_sent(sagas: Sagas) -> None:
    run = await sagas.start(billing.fulfil, billing.OrderCreated(number="A-1", cents=4200))
    await (await run.expect(billing.Bill)).reply(billing.Billed(number="A-1", invoice="i-1"))
    await (await run.expect(billing.Deliver)).reply(billing.Delivered(number="A-1"))
    assert run.outcome == billing.OrderFulfilled(number="A-1", invoice="i-1")


async def nobody_lives_there(sagas: Sagas) -> None:
    run = await sagas.start(billing.fulfil, billing.OrderCreated(number="X-2", cents=900))
    await (await run.expect(billing.Bill)).reply(billing.Billed(number="X-2", invoice="i-2"))
    await (await run.expect(billing.Deliver)).reply(billing.AddressUnknown(number="X-2"))
    undo = await run.expect(billing.CancelBill)
    assert undo.command == billing.CancelBill(number="X-2", invoice="i-2")
    await undo.reply(billing.BillCancelled(number="X-2"))
    assert run.status == "compensated"
    assert run.outcome == billing.OrderGivenUp(number="X-2", reason="AddressUnknown")


async def it_is_not_billed(sagas: Sagas) -> None:
    run = await sagas.start(billing.fulfil, billing.OrderCreated(number="A-3", cents=500_000))
    await (await run.expect(billing.Bill)).reply(billing.BillRefused(number="A-3", reason="limit"))
    assert run.status == "compensated"
    assert run.outcome == billing.OrderGivenUp(number="A-3", reason="limit")


STORIES: dict[str, tuple[Story, ...]] = {
    "billing": (the_order_is_billed_and_sent, nobody_lives_there, it_is_not_billed),
    "bank": (money_moves, the_target_is_closed),
    "checkout": (the_parcel_is_sent, nothing_is_left_to_send),
    "claim": (the_report_was_there_first, the_report_comes_too_late, the_ledger_answers_a_week_late),
    "clearing": (both_banks_agree, the_other_bank_is_silent),
    "index": (some_cannot_be_read,),
    "refunds": (the_second_approver_decides, nobody_answers),
    "subscription": (three_months_and_out, nobody_pays),
    "travel": (everything_is_booked, a_trip_without_a_car, the_way_back_is_full),
}
"""By folder under `sagas/`."""
