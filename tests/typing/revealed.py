"""What both checkers must see: the type of every form an author writes. It is checked, never run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, assert_never, assert_type

from contrapas import (
    FOREVER,
    App,
    Command,
    Delivery,
    Depends,
    Entity,
    Event,
    Failed,
    Op,
    Pending,
    Retry,
    Saga,
    Sensitive,
    Service,
    StepFailed,
    Telling,
    Timeout,
    handler,
    query,
    saga,
    step,
)
from sagas.order.saga import (
    CardCharged,
    CardDeclined,
    CardRefunded,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    OrderRejected,
    OutOfStock,
    RefundCard,
    ReserveStock,
    ShipOrder,
    Shipped,
    StockReserved,
    place_order,
)
from tests.runtime.cart import (
    AddItem,
    CartChanged,
    CartClosed,
    CartOpened,
    CartView,
    CheckedOutAck,
    CheckOut,
    cart,
)


class Marked(Event, topic="people.events", key="id", name="people.marked"):
    id: str
    mail: Annotated[str, Sensitive]


@step
async def measure(url: str) -> int:
    return len(url)


@step(retry=Retry(5, backoff="1s..1m"), timeout="30s", undo=None)
def count(url: str, *, twice: bool = False) -> float:
    return len(url) * (2.0 if twice else 1.0)


@step(retry=FOREVER, undo=lambda done: RefundCard(order_id=done, charge_id=done))
async def note(order_id: str) -> str:
    return order_id


@saga(deadline="5d", late_replies="24h", retention=timedelta(days=3), name="inner")
async def inner(s: Saga, url: str, times: int = 1) -> int:
    return await measure(url) * times


@saga
async def every_form(s: Saga, order: OrderPlaced) -> OrderConfirmed | None:
    charge = ChargeCard(order_id=order.order_id, cents=order.cents)
    reserve = ReserveStock(order_id=order.order_id, sku=order.sku)

    assert_type(await s.step(charge), CardCharged)
    assert_type(await s.step(charge, within="30s", retry=FOREVER, undo=None), CardCharged)
    assert_type(await s.ask(charge), CardCharged | CardDeclined)
    assert_type(await s.ask(charge, within="30s"), CardCharged | CardDeclined | Timeout)
    assert_type(await s.ask(ShipOrder(order_id="1")), Shipped)
    assert_type(await s.step(ShipOrder(order_id="1")), Shipped)

    assert_type(await measure("u"), int)
    assert_type(await count("u", twice=True), float)
    assert_type(await s.step(measure("u"), undo=lambda n: note(str(n + 1))), int)
    assert_type(await s.step(count("u"), undo=note("u"), within=timedelta(seconds=9)), float)
    assert_type(measure("u"), Op[int])
    original = measure.native("u")
    assert_type(await original, int)
    assert_type(count.native("u"), float)

    assert_type(await s.wait(CardCharged), CardCharged)
    assert_type(await s.wait(CardCharged, within="1h"), CardCharged | Timeout)
    assert_type(await s.wait(CardCharged, CardDeclined), CardCharged | CardDeclined)
    assert_type(await s.wait(CardCharged, CardDeclined, within="1h"), CardCharged | CardDeclined | Timeout)
    assert_type(
        await s.wait(
            CardCharged, CardDeclined, Shipped, OutOfStock, StockReserved, OrderPlaced, correlate="x"
        ),
        CardCharged | CardDeclined | Shipped | OutOfStock | StockReserved | OrderPlaced,
    )
    assert_type(
        await s.wait(CardCharged, CardDeclined, Shipped, OutOfStock, StockReserved, OrderPlaced, within="1h"),
        CardCharged | CardDeclined | Shipped | OutOfStock | StockReserved | OrderPlaced | Timeout,
    )

    assert_type(await s.sleep("2h"), None)
    assert_type(await s.sleep(until=datetime.now(UTC)), None)
    assert_type(await s.all(s.step(charge), measure("u")), tuple[CardCharged, int])
    assert_type(
        await s.all(s.step(charge), measure("u"), s.sleep("1s"), count("u"), s.wait(Shipped), inner(s, "u")),
        tuple[CardCharged, int, None, float, Shipped, int],
    )
    assert_type(await s.all(*[measure(u) for u in ("a", "b")]), list[int])
    assert_type(await s.first(s.step(charge), s.step(reserve)), CardCharged | StockReserved)
    assert_type(await s.first(measure("u"), s.sleep("1h")), int | None)
    assert_type(await inner(s, "u", times=2), int)
    assert_type(await place_order(s, order), OrderConfirmed | OrderRejected)
    assert_type(await s.compensate(), None)
    async with s.scope():
        await s.step(reserve, undo=lambda ok: RefundCard(order_id=ok.order_id, charge_id="c"))
    s.emit(Marked(id="1", mail="m"))
    s.point_of_no_return()
    s.deadline("2d")
    s.deadline(until=datetime.now(UTC))
    assert_type(s.key, str)
    s.log.info("still here")

    answer = await s.wait(Shipped, OutOfStock, within="1h")
    match answer:
        case Shipped(tracking=number):
            return OrderConfirmed(order_id=s.key, tracking=number)
        case OutOfStock(sku=sku):
            s.log.info("none of %s", sku)
        case Timeout():
            pass
        case _:
            assert_never(answer)
    try:
        await s.step(reserve)
    except StepFailed as why:
        assert_type(why.reason, str)
        assert_type(why.unknown, bool)
    return None


@step
async def measured(sku: str, scale: float = 1.0) -> int:
    return len(sku)


@saga
async def many_items(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    assert_type(await s.map(measured, [order.sku]), list[int])
    assert_type(
        await s.map(measured, {"a"}, on_error="collect", concurrency=5, rate="5/s"), list[int | Failed]
    )
    assert_type(await s.step(s.map(measured, [order.sku]), within="1m", undo=None), list[int])
    assert_type(await s.map(inner, [order.sku], concurrency=2), list[int])
    assert_type(await s.map(inner, [order.sku], undo=lambda n: measured(str(n + 1))), list[int])
    assert_type(
        await s.map(measured, ["a"], undo=lambda n: measured(str(n + 1)), on_error="collect"),
        list[int | Failed],
    )
    assert_type(await s.map(inner, [order.sku], on_error="collect"), list[int | Failed])
    assert_type(await s.step(s.map(inner, [order.sku]), within="1m"), list[int])
    assert_type(await s.child(place_order, order, undo=None), OrderConfirmed | OrderRejected)
    assert_type(
        await s.child(
            place_order, order, undo=lambda ok: RefundCard(order_id=ok.order_id, charge_id="c"), within="1m"
        ),
        OrderConfirmed | OrderRejected,
    )
    return OrderConfirmed(order_id=order.order_id, tracking="t")


class Chat(Entity, key="session_id", idle="30m", expires="30d"):
    turns: list[str] = []

    @handler
    async def message(self, text: str, *, loud: bool = False) -> str:
        self.turns.append(text)
        return await carry(text)

    @handler
    async def close(self, s: Saga, why: str) -> None:
        s.log.info("%s %s", self.key, why)

    @query
    def transcript(self, last: int = 1) -> list[str]:
        return self.turns[-last:]


@step
async def carry(text: str) -> str:
    return text


@saga
async def chatting(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    assert_type(await Chat.at(order.order_id).message("hi", loud=True), str)
    await Chat.at(order.order_id).close("late")
    assert_type(await s.step(Chat.at("x").transcript(), within="1m", undo=None), list[str])
    assert_type(await s.all(Chat.at("x").transcript(last=2), carry("x")), tuple[list[str], str])
    return OrderConfirmed(order_id=order.order_id, tracking="t")


class Cheques:
    """Something an app provides."""


def cheques() -> Cheques:
    return Cheques()


Book = Annotated[Cheques, Depends(cheques)]
payments = Service("payments")


@payments.on(ChargeCard)
async def charge(cmd: ChargeCard, book: Book, delivery: Delivery) -> CardCharged | CardDeclined:
    return CardCharged(order_id=cmd.order_id, charge_id=delivery.idempotency_key)


@payments.on(RefundCard)
def refund(cmd: RefundCard) -> CardRefunded:
    return CardRefunded(order_id=cmd.order_id)


@payments.on(OrderPlaced)
async def several(e: OrderPlaced) -> list[CardCharged | CardDeclined]:
    return []


@payments.on(CardDeclined)
def nothing(e: CardDeclined) -> None:
    return None


@payments.on(OutOfStock)
async def one_or_none(e: OutOfStock) -> CardDeclined | None:
    return None


class Rejects(Command[CardCharged, CardDeclined | OutOfStock], key="order_id"):
    order_id: str


@payments.on(Rejects)
async def one_of_three(c: Rejects) -> CardCharged | CardDeclined | OutOfStock:
    return OutOfStock(order_id=c.order_id, sku="")


app = App("shop")
app.orchestrate(place_order, every_form)
app.observe(place_order, on_late="alert")
app.serve(payments, Chat)
app.provide(Cheques, cheques)


@saga(again="deliver", show=CartView)
async def talks(s: Saga, first: CartOpened | AddItem) -> None:
    if isinstance(first, AddItem):
        s.reply(first, CartChanged(cart_id=s.key, items=()))
        s.reply(first, CartClosed(cart_id=s.key))
    assert_type(await s.wait(AddItem, CheckOut, within="30m", fresh=True), AddItem | CheckOut | Timeout)
    assert_type(await s.cancel(cart, "1", reason="no more"), str | None)
    s.show(CartView(items=1))
    s.note("one line")
    told = s.tell(RefundCard(order_id="1", charge_id="2"), after="10m")
    assert_type(told, Telling)
    s.untell(told)
    assert_type(s.tell(RefundCard(order_id="1", charge_id="2")), None)
    await s.step(RefundCard(order_id="1", charge_id="2"), undo=None, undo_failed=True)


async def asks(app: App) -> None:
    assert_type(await app.ask(AddItem(cart_id="1", sku="mug"), timeout="5s"), CartChanged | CartClosed)
    assert_type(await app.ask(CheckOut(cart_id="1")), CheckedOutAck)


@saga
async def flies(s: Saga, e: OrderPlaced) -> None:
    charge = s.begin(
        ChargeCard(order_id="1", cents=1), undo=lambda ok: RefundCard(order_id="1", charge_id=ok.charge_id)
    )
    assert_type(charge, Pending[CardCharged])
    paper: Pending[CardCharged | Shipped] = charge  # a handle is covariant
    answer = s.begin(s.wait(CardCharged, CardDeclined, until=datetime(2030, 1, 1, tzinfo=UTC)))
    assert_type(await answer, CardCharged | CardDeclined | Timeout)
    assert_type(await charge, CardCharged)
    both = await s.next(charge, answer)
    assert_type(both, Pending[CardCharged] | Pending[CardCharged | CardDeclined | Timeout])
    assert_type(await s.next(charge, within="1h"), Pending[CardCharged] | Timeout)
    assert_type(await s.next(*[charge, charge]), Pending[CardCharged])
    assert_type(await s.some(1, s.sleep("1s"), s.sleep("2s"), rest="ignore"), list[tuple[int, None]])
    assert_type(len({paper, charge}), int)
    async with s.scope(within=timedelta(minutes=10)):
        assert_type(charge.cancel(), None)
    async with s.scope(until=datetime(2030, 1, 1, tzinfo=UTC)):
        await s.step(ChargeCard(order_id="1", cents=1), undo=None, until=datetime(2030, 1, 1, tzinfo=UTC))
