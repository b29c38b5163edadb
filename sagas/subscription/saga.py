"""A subscription: charged every month for years, dunned when a card fails, ended when the customer says so."""

from __future__ import annotations

from contrapas import App, Command, Event, Retry, Saga, Timeout, saga


class Subscribed(Event, topic="subscriptions.events", key="customer"):
    customer: str
    plan: str
    cents: int


class PlanChanged(Event, topic="subscriptions.events", key="customer"):
    customer: str
    plan: str
    cents: int


class Unsubscribed(Event, topic="subscriptions.events", key="customer"):
    customer: str


class SubscriptionEnded(Event, topic="subscriptions.events", key="customer"):
    customer: str
    months: int
    reason: str


class PaymentMissed(Event, topic="subscriptions.events", key="customer"):
    customer: str
    month: int
    times: int


class MonthPaid(Event, topic="billing.events", key="customer"):
    customer: str
    month: int


class MonthNotPaid(Event, topic="billing.events", key="customer"):
    customer: str
    month: int
    reason: str


class ChargeMonth(Command[MonthPaid, MonthNotPaid], topic="billing.commands", key="customer"):
    customer: str
    month: int
    cents: int


GRACE = 3
"""Missed payments in a row, after which it ends."""


@saga
async def subscription(s: Saga, start: Subscribed) -> SubscriptionEnded:
    cents = start.cents
    months = 0
    missed = 0
    while missed < GRACE:
        change = await s.wait(PlanChanged, Unsubscribed, within="30d" if missed == 0 else "5d")
        match change:
            case Unsubscribed():
                return SubscriptionEnded(customer=start.customer, months=months, reason="unsubscribed")
            case PlanChanged():
                cents = change.cents
            case Timeout():
                bill = await s.ask(
                    ChargeMonth(customer=start.customer, month=months + 1, cents=cents),
                    undo=None,  # a month that was paid for was delivered
                    within="2d",
                    retry=Retry(4, backoff="10m..1h", each="6h"),
                )
                if isinstance(bill, MonthPaid):
                    months += 1
                    missed = 0
                else:
                    missed += 1
                    s.emit(PaymentMissed(customer=start.customer, month=months + 1, times=missed))
    return SubscriptionEnded(customer=start.customer, months=months, reason="not paid")


app = App("subscriptions")
app.orchestrate(subscription)
