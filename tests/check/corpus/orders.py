"""Orders: charging, reserving, shipping, refunding. What ends in `# CPnnn` is a mistake, all else is right."""

from __future__ import annotations

from contrapas import FOREVER, Command, Event, Retry, Saga, StepFailed, Timeout, saga, step


class Placed(Event, topic="orders.events", key="order_id"):
    order_id: str
    cents: int
    skus: tuple[str, ...] = ()
    express: bool = False


class Confirmed(Event, topic="orders.events", key="order_id"):
    order_id: str


class Rejected(Event, topic="orders.events", key="order_id"):
    order_id: str
    reason: str = ""


class Cancelled(Event, topic="orders.events", key="order_id"):
    order_id: str


class Charged(Event, topic="payments.events", key="order_id"):
    order_id: str
    charge_id: str


class Declined(Event, topic="payments.events", key="order_id"):
    order_id: str


class Refunded(Event, topic="payments.events", key="order_id"):
    order_id: str


class RefundRefused(Event, topic="payments.events", key="order_id"):
    order_id: str


class Charge(Command[Charged, Declined], topic="payments.commands", key="order_id"):
    order_id: str
    cents: int


class Refund(Command[Refunded], topic="payments.commands", key="order_id"):
    order_id: str


class RefundById(Command[Refunded], topic="payments.commands", key="order_id"):
    order_id: str
    charge_id: str


class AskRefund(Command[Refunded, RefundRefused], topic="payments.commands", key="order_id"):
    order_id: str


class Reserved(Event, topic="stock.events", key="order_id"):
    order_id: str


class SoldOut(Event, topic="stock.events", key="order_id"):
    order_id: str


class Released(Event, topic="stock.events", key="order_id"):
    order_id: str


class Reserve(Command[Reserved, SoldOut], topic="stock.commands", key="order_id"):
    order_id: str
    sku: str = ""


class Release(Command[Released], topic="stock.commands", key="order_id"):
    order_id: str


class Shipped(Event, topic="shipping.events", key="order_id"):
    order_id: str


class Undeliverable(Event, topic="shipping.events", key="order_id"):
    order_id: str


class Ship(Command[Shipped, Undeliverable], topic="shipping.commands", key="order_id"):
    order_id: str


class ShipByRail(Command[Shipped, Undeliverable], topic="rail.commands", key="order_id"):
    order_id: str


class Recalled(Event, topic="shipping.events", key="order_id"):
    order_id: str


class Recall(Command[Recalled], topic="shipping.commands", key="order_id"):
    order_id: str


class Told(Event, topic="mail.events", key="order_id"):
    order_id: str


class Bounced(Event, topic="mail.events", key="order_id"):
    order_id: str


class Tell(Command[Told, Bounced], topic="mail.commands", key="order_id"):
    order_id: str


@step(undo=None)
async def price_of(sku: str) -> int:
    return 100


# -- right ------------------------------------------------------------------------------------------------------------


@saga
async def sells(s: Saga, e: Placed) -> Confirmed | Rejected:
    try:
        await s.step(
            Charge(order_id=e.order_id, cents=e.cents),
            undo=lambda ok: RefundById(order_id=e.order_id, charge_id=ok.charge_id),
            within="30s",
        )
        await s.step(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="1m")
        s.point_of_no_return()
        await s.step(Ship(order_id=e.order_id), retry=FOREVER)
    except StepFailed as why:
        await s.compensate()
        return Rejected(order_id=e.order_id, reason=why.reason)
    return Confirmed(order_id=e.order_id)


@saga
async def lets_the_failure_leave(s: Saga, e: Placed) -> Confirmed:
    await s.step(Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s")
    await s.step(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="30s")
    return Confirmed(order_id=e.order_id)


@saga
async def ships_by_rail_where_roads_are_closed(s: Saga, e: Placed) -> Confirmed:
    await s.step(Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s")
    try:
        await s.step(Ship(order_id=e.order_id), undo=Recall(order_id=e.order_id), within="2h")
    except StepFailed as why:
        if why.unknown:
            raise
        await s.step(ShipByRail(order_id=e.order_id), undo=Recall(order_id=e.order_id), within="2d")
    return Confirmed(order_id=e.order_id)


@saga
async def asks_and_looks_at_the_answer(s: Saga, e: Placed) -> Confirmed | Rejected:
    answer = await s.ask(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="1m")
    match answer:
        case Reserved():
            pass
        case SoldOut() | Timeout():
            await s.compensate()
            return Rejected(order_id=e.order_id)
    await s.step(Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s")
    return Confirmed(order_id=e.order_id)


@saga
async def reserves_each_line(s: Saga, e: Placed) -> Confirmed | Rejected:
    try:
        for sku in e.skus:
            await s.step(
                Reserve(order_id=e.order_id, sku=sku), undo=Release(order_id=e.order_id), within="1m"
            )
        await s.step(
            Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="1m"
        )
    except StepFailed:
        await s.compensate()
        return Rejected(order_id=e.order_id)
    return Confirmed(order_id=e.order_id)


@saga
async def tells_the_buyer_behind_the_pivot(s: Saga, e: Placed) -> Confirmed:
    await s.step(Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s")
    s.point_of_no_return()
    try:
        await s.step(Tell(order_id=e.order_id), within="1h")
    except StepFailed:
        s.log.info("the buyer was not told")
    return Confirmed(order_id=e.order_id)


@saga
async def adds_up_prices(s: Saga, e: Placed) -> Confirmed | Rejected:
    total = 0
    for sku in e.skus:
        total += await price_of(sku)
    if total != e.cents:
        return Rejected(order_id=e.order_id, reason="price")
    await s.step(Charge(order_id=e.order_id, cents=total), undo=Refund(order_id=e.order_id), within="30s")
    return Confirmed(order_id=e.order_id)


@saga
async def tries_three_times_under_one_key(s: Saga, e: Placed) -> Confirmed:
    await s.step(
        Charge(order_id=e.order_id, cents=e.cents),
        undo=Refund(order_id=e.order_id),
        retry=Retry(3, each="20s"),
        within="5m",
    )
    return Confirmed(order_id=e.order_id)


# -- wrong ------------------------------------------------------------------------------------------------------------


@saga
async def charges_without_a_refund(s: Saga, e: Placed) -> Confirmed | Rejected:
    try:
        await s.step(Charge(order_id=e.order_id, cents=e.cents), within="30s")  # CP703
        await s.step(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="1m")
    except StepFailed:
        await s.compensate()
        return Rejected(order_id=e.order_id)
    return Confirmed(order_id=e.order_id)


@saga
async def forgets_to_compensate(s: Saga, e: Placed) -> Confirmed | Rejected:
    try:
        await s.step(
            Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s"
        )
        await s.step(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="1m")
        await s.step(Tell(order_id=e.order_id), undo=None, within="30s")
    except StepFailed:
        return Rejected(order_id=e.order_id)  # CP707
    return Confirmed(order_id=e.order_id)


@saga
async def swallows_a_failed_shipment(s: Saga, e: Placed) -> Confirmed:
    await s.step(Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s")
    try:
        await s.step(Ship(order_id=e.order_id), undo=Recall(order_id=e.order_id), within="2d")
    except StepFailed as why:
        s.log.warning("no shipment: %s", why.reason)
    return Confirmed(order_id=e.order_id)  # CP707


@saga
async def keeps_the_charge_when_sold_out(s: Saga, e: Placed) -> Confirmed | Rejected:
    await s.step(Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s")
    answer = await s.ask(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="1m")
    if isinstance(answer, SoldOut):
        return Rejected(order_id=e.order_id, reason="sold out")  # CP707
    if isinstance(answer, Timeout):
        await s.compensate()
        return Rejected(order_id=e.order_id, reason="slow")
    return Confirmed(order_id=e.order_id)


@saga
async def charges_again_after_silence(s: Saga, e: Placed) -> Confirmed | Rejected:
    for _ in range(3):
        try:
            await s.step(  # CP710
                Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="10s"
            )
            return Confirmed(order_id=e.order_id)
        except StepFailed:
            await s.sleep("5s")
    await s.compensate()
    return Rejected(order_id=e.order_id)


@saga
async def ships_twice_when_the_first_is_slow(s: Saga, e: Placed) -> Confirmed:
    try:
        await s.step(Ship(order_id=e.order_id), undo=Recall(order_id=e.order_id), within="2h")
    except StepFailed:
        await s.step(ShipByRail(order_id=e.order_id), undo=Recall(order_id=e.order_id), within="2d")  # CP710
    return Confirmed(order_id=e.order_id)


@saga
async def can_fail_behind_the_pivot(s: Saga, e: Placed) -> Confirmed | Rejected:
    try:
        await s.step(
            Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s"
        )
        s.point_of_no_return()
        await s.step(Ship(order_id=e.order_id), within="2d")  # CP704
    except StepFailed:
        await s.compensate()
        return Rejected(order_id=e.order_id)
    return Confirmed(order_id=e.order_id)


@saga
async def has_two_pivots(s: Saga, e: Placed) -> Confirmed:
    await s.step(Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s")
    if e.express:
        s.point_of_no_return()
        await s.step(Ship(order_id=e.order_id), retry=FOREVER)
    s.point_of_no_return()  # CP704
    await s.step(Tell(order_id=e.order_id), retry=FOREVER)
    return Confirmed(order_id=e.order_id)


@saga
async def registers_an_undo_in_vain(s: Saga, e: Placed) -> Confirmed:
    await s.step(Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s")
    s.point_of_no_return()
    await s.step(Ship(order_id=e.order_id), undo=Recall(order_id=e.order_id), retry=FOREVER)  # CP704
    return Confirmed(order_id=e.order_id)


@saga
async def refunds_by_hand_and_by_rule(s: Saga, e: Placed) -> Confirmed | Rejected:
    try:
        await s.step(
            Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s"
        )
        await s.step(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="1m")
    except StepFailed:
        await s.step(Refund(order_id=e.order_id), undo=None, within="1m")  # CP706
        await s.compensate()
        return Rejected(order_id=e.order_id)
    return Confirmed(order_id=e.order_id)


@saga
async def forgets_one_of_two_by_hand(s: Saga, e: Placed) -> Confirmed | Rejected:
    try:
        await s.step(
            Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s"
        )
        await s.step(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="1m")
        await s.step(Tell(order_id=e.order_id), undo=None, within="30s")
    except StepFailed:
        await s.step(Release(order_id=e.order_id), undo=None, retry=FOREVER)
        return Rejected(order_id=e.order_id)  # CP706
    return Confirmed(order_id=e.order_id)


@saga
async def is_refunded_only_if_they_agree(s: Saga, e: Placed) -> Confirmed:
    await s.step(  # CP708
        Charge(order_id=e.order_id, cents=e.cents), undo=AskRefund(order_id=e.order_id), within="30s"
    )
    await s.step(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="30s")
    return Confirmed(order_id=e.order_id)


@saga
async def releases_what_it_charged(s: Saga, e: Placed) -> Confirmed:
    await s.step(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="30s")
    await s.step(  # CP728
        Charge(order_id=e.order_id, cents=e.cents), undo=Release(order_id=e.order_id), within="30s"
    )
    return Confirmed(order_id=e.order_id)


@saga
async def tells_the_outcome_twice(s: Saga, e: Placed) -> Confirmed:
    await s.step(Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="30s")
    s.emit(Confirmed(order_id=e.order_id))
    return Confirmed(order_id=e.order_id)  # CP726


@saga
async def says_nothing_when_it_fails(s: Saga, e: Placed) -> Confirmed | None:
    try:
        await s.step(Reserve(order_id=e.order_id), undo=None, within="30s")
    except StepFailed:
        return None  # CP705
    return Confirmed(order_id=e.order_id)


@saga(late_replies="1s")
async def will_not_wait_for_the_charge_id(s: Saga, e: Placed) -> Confirmed:
    await s.step(  # CP709
        Charge(order_id=e.order_id, cents=e.cents),
        undo=lambda ok: RefundById(order_id=e.order_id, charge_id=ok.charge_id),
        within="30s",
    )
    return Confirmed(order_id=e.order_id)
