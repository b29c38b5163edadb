"""The cart of the language page: a running saga that is started or continued by commands, and answers them."""

from __future__ import annotations

from pydantic import BaseModel

from contrapas import Command, Event, Saga, Timeout, saga
from contrapas.runtime.definition import Definition, SagaUse


class CartChanged(Event, topic="cart.events", key="cart_id"):
    cart_id: str
    items: tuple[str, ...]


class CartClosed(Event, topic="cart.events", key="cart_id"):
    cart_id: str


class CheckedOutAck(Event, topic="cart.events", key="cart_id"):
    cart_id: str


class CartOpened(Event, topic="cart.events", key="cart_id"):
    cart_id: str


class CheckedOut(Event, topic="cart.events", key="cart_id"):
    cart_id: str
    items: tuple[str, ...]


class Abandoned(Event, topic="cart.events", key="cart_id"):
    cart_id: str


class AddItem(Command[CartChanged, CartClosed], key="cart_id"):  # no topic: it travels on <ns>.in
    cart_id: str
    sku: str


class CheckOut(Command[CheckedOutAck], key="cart_id"):
    cart_id: str


class CartView(BaseModel):
    items: int


@saga(again="deliver", show=CartView)
async def cart(s: Saga, first: CartOpened | AddItem) -> CheckedOut | Abandoned:
    items: list[str] = []
    msg: CartOpened | AddItem | CheckOut = first
    while True:
        match msg:
            case AddItem(sku=sku):
                items.append(sku)
                s.reply(msg, CartChanged(cart_id=s.key, items=tuple(items)))
            case CheckOut():
                s.reply(msg, CheckedOutAck(cart_id=s.key))
                return CheckedOut(cart_id=s.key, items=tuple(items))
            case CartOpened():
                pass
        s.show(CartView(items=len(items)))
        got = await s.wait(AddItem, CheckOut, within="30m")
        if isinstance(got, Timeout):
            return Abandoned(cart_id=s.key)
        msg = got


def definition(*more: SagaUse, mode: str = "orchestrate") -> Definition:
    """An app with the cart."""
    return Definition(namespace="shop", sagas=(SagaUse(saga=cart, mode=mode), *more))
