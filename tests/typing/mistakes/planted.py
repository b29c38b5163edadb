"""Mistakes. A comment names who must report the line: both checkers, or the one of them that sees it."""

from __future__ import annotations

from typing import assert_never

from contrapas import App, Command, Entity, Pending, Saga, Service, Timeout, handler, saga, step
from contrapas.testing import Sagas
from sagas.order.saga import (
    CardCharged,
    CardDeclined,
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
    CartOpened,
    CheckedOut,
    CheckedOutAck,
    CheckOut,
    cart,
)


@step
async def measure(url: str) -> int:
    return len(url)


@step(timeout="3s")
def count(url: str) -> int:
    return len(url)


@saga
async def inner(s: Saga, url: str) -> int:
    return await measure(url)


@saga
async def wrong_arguments(s: Saga, order: OrderPlaced) -> None:
    await s.step(ChargeCard(order_id=order.order_id, cents="42"))  # error: both
    await s.step(ChargeCard(order_id=order.order_id))  # error: both
    await s.step(ChargeCard(order_id=order.order_id, cents=1, currency="EUR"))  # error: both
    await s.step(ChargeCard(order.order_id, 42))  # error: both
    await measure(42)  # error: both
    await count(url=b"u")  # error: both
    await s.step(OrderPlaced(order_id="1", sku="mug", cents=1))  # error: both
    await s.ask(measure("u"))  # error: both
    await s.wait(ChargeCard(order_id="1", cents=1))  # error: both
    await s.step(ShipOrder(order_id="1"), within=30)  # error: both
    await s.step(ShipOrder(order_id="1"), retry=3)  # error: both
    await s.sleep(5)  # error: both
    s.emit("something happened")  # error: both


@saga
async def wrong_undo(s: Saga, order: OrderPlaced) -> None:
    card = ChargeCard(order_id=order.order_id, cents=order.cents)
    await s.step(card, undo=lambda ok: RefundCard(order_id=ok.order_id, charge_id=ok.nonsense))  # error: both
    await s.step(card, undo=lambda ok: ok.charge_id)  # error: both
    await s.step(card, undo="refund")  # error: both
    await s.step(measure("u"), undo=lambda n: count(n))  # error: both


@saga
async def wrong_results(s: Saga, order: OrderPlaced) -> None:
    card = ChargeCard(order_id=order.order_id, cents=order.cents)
    stock = ReserveStock(order_id=order.order_id, sku=order.sku)
    charged, reserved = await s.all(s.step(card), s.step(stock))
    print(charged.charge_id, reserved.charge_id)  # error: both
    size: str = await measure("u")  # error: both
    answer: CardCharged = await s.ask(card)  # error: both
    late: CardCharged | CardDeclined = await s.ask(card, within="1s")  # error: both
    shipped: Shipped = await s.wait(Shipped, within="1h")  # error: both
    sizes: list[str] = await s.all(*[measure(u) for u in ("a", "b")])  # error: both
    who: Shipped = await s.first(s.wait(Shipped), s.wait(OutOfStock))  # error: both
    kept: OrderConfirmed = await place_order(s, order)  # error: both
    print(size, answer, late, shipped, sizes, who, kept)


@saga
async def forgot_the_timeout(s: Saga, order: OrderPlaced) -> None:
    answer = await s.wait(Shipped, OutOfStock, within="1h")
    match answer:
        case Shipped():
            return
        case OutOfStock():
            return
        case _:
            assert_never(answer)  # error: both


@saga
async def forgot_a_reply(s: Saga, order: OrderPlaced) -> None:
    answer = await s.ask(ChargeCard(order_id="1", cents=1), within="1h")
    match answer:
        case CardCharged() | Timeout():
            return
        case _:
            assert_never(answer)  # error: both


@saga
async def wrong_outcome(s: Saga, order: OrderPlaced) -> OrderConfirmed:
    return OrderRejected(order_id=order.order_id, reason="no")  # error: both


@saga
async def wrong_call(s: Saga, order: OrderPlaced) -> None:
    await place_order(s, Shipped(order_id="1", tracking="t"))  # error: both
    await place_order(order)  # error: both
    await place_order.nonsense  # error: both


@saga  # error: both
async def no_saga_argument(order: OrderPlaced) -> None: ...


@saga  # error: both
def no_coroutine(s: Saga, order: OrderPlaced) -> None: ...


class NoReplies(Command, key="id"):  # error: both
    id: str


class NoEvents(Command[int, str], key="id"):  # error: both
    id: str


payments = Service("payments")


class Chat(Entity, key="session_id"):
    @handler
    async def message(self, text: str) -> str:
        return text


@saga
async def chatting(s: Saga, order: OrderPlaced) -> None:
    await Chat.at(1).message("hi")  # error: both
    await Chat.at("1").message(3)  # error: both
    await Chat.at("1").nothing()  # error: both
    print(len(await Chat.at("1").message("hi")) + await Chat.at("1").message("hi"))  # error: both


@saga
async def many_items(s: Saga, order: OrderPlaced) -> None:
    await s.map(measure, [order])  # error: both
    await s.child(place_order, Shipped(order_id="1", tracking="t"))  # error: both
    await s.child(place_order, order, undo=lambda ok: count(ok.nothing))  # error: both
    await s.map(measure, [order.sku], on_error="ignore")  # error: both
    print(sum(await s.map(measure, [order.sku], on_error="collect")))  # error: both
    await s.map(inner, [order])  # error: both
    names: list[str] = await s.map(inner, [order.sku])  # error: both
    await s.map(measure, [order.sku], undo=lambda ok: measure(ok))  # error: both
    await s.map(inner, [order.sku], undo=lambda ok: ok)  # error: both
    print(names, sum(await s.map(inner, [order.sku], on_error="collect")))  # error: both


@payments.on(ChargeCard)  # error: both
async def foreign_reply(cmd: ChargeCard) -> CardCharged | OutOfStock:
    return CardCharged(order_id=cmd.order_id, charge_id="c")


@payments.on(ShipOrder)  # error: both
def no_reply(cmd: ShipOrder) -> None:
    return None


@payments.on(ReserveStock)  # error: both
async def another_command(cmd: ChargeCard) -> StockReserved:
    return StockReserved(order_id=cmd.order_id)


@payments.on(OrderPlaced)  # error: both
async def emits_text(e: OrderPlaced) -> str:
    return e.order_id


@payments.on(OrderPlaced)  # error: both
async def another_event(e: Shipped) -> None:
    return None


app = App("shop")
app.orchestrate(measure)  # error: both
app.observe(place_order, on_late="shrug")  # error: both
app.serve("payments")  # error: both
app.provide(Service, lambda: "payments")  # error: mypy


async def from_outside() -> None:
    await app.start(place_order, OrderPlaced(order_id="1", sku="mug", cents=1))
    await app.start(place_order, Shipped(order_id="1", tracking="t"))  # error: both
    await app.start(measure, "u")  # error: both
    await app.signal(place_order, "1", "approved")  # error: both
    await app.signal(measure, "1", Shipped(order_id="1", tracking="t"))  # error: both


async def wrong_answers_in_a_test(sagas: Sagas) -> None:
    run = await sagas.start(place_order, OrderPlaced(order_id="o-1", sku="mug", cents=1))
    seen = await run.expect(ChargeCard)
    await seen.reply(Shipped(order_id="o-1", tracking="t"))  # error: both
    print(seen.command.currency)  # error: both
    print(run.outcome.parcel)  # error: both
    await sagas.start(place_order, Shipped(order_id="o-1", tracking="t"))  # error: both


@saga(again="twice")  # error: both
async def wrong_again(s: Saga, e: OrderPlaced) -> None:
    return None


@saga(show=int)  # error: both
async def wrong_talk(s: Saga, first: CartOpened | AddItem) -> CheckedOut:
    if isinstance(first, AddItem):
        s.reply(first, CheckedOutAck(cart_id=s.key))  # error: both
    got = await s.wait(AddItem, CheckOut, fresh="yes")  # error: both
    if isinstance(got, CheckOut):
        s.reply(got, CartChanged(cart_id=s.key, items=()))  # error: both
    s.reply(CartOpened(cart_id="1"), CheckedOutAck(cart_id="1"))  # error: both
    s.show("three")  # error: both
    s.note(3)  # error: both
    s.tell(CartOpened(cart_id="1"))  # error: both
    gone: str = await s.cancel(cart, s.key)  # error: both
    await s.cancel("cart", gone)  # error: both
    return CheckedOut(cart_id=s.key, items=())


async def wrong_questions() -> None:
    ack = await app.ask(CheckOut(cart_id="1"))
    print(ack.items)  # error: both
    changed: CartChanged = await app.ask(CheckOut(cart_id="1"))  # error: both
    await app.ask(CartOpened(cart_id=changed.cart_id))  # error: both


@saga
async def wrong_flights(s: Saga, e: OrderPlaced) -> None:
    pay = ChargeCard(order_id="1", cents=1)
    charge = s.begin(pay, undo=lambda ok: RefundCard(order_id="1", charge_id=ok.number))  # error: both
    wrong: Pending[Shipped] = charge  # error: both
    answer: Shipped = await charge  # error: both
    done = await s.next(charge, within="1h")
    await done  # error: both
    await s.next(answer)  # error: both
    await s.some("2", s.sleep("1s"))  # error: both
    await s.some(1, s.sleep("1s"), rest="drop")  # error: both
    got = await s.some(1, s.step(ShipOrder(order_id="1")))
    print(got[0].tracking)  # error: both
    charge.cancelled()  # error: both
    s.begin(OrderPlaced(order_id="1", sku="mug", cents=1))  # error: both
    async with s.scope("10m"):  # error: both
        print(wrong)
