"""A transfer between two accounts: hold, debit, credit, confirm, each with its undo. Tests kill the workers in between."""

from __future__ import annotations

import os

from contrapas import App, Event, Retry, Saga, StepFailed, saga, step
from sagas.bank.ledger import Books, Refusal

AGAIN = Retry(20, backoff="50ms..1s")


class TransferAsked(Event, topic="bank.requests", key="transfer_id"):
    transfer_id: str
    source: str
    target: str
    cents: int


class TransferDone(Event, topic="bank.events", key="transfer_id"):
    transfer_id: str


class TransferRefused(Event, topic="bank.events", key="transfer_id"):
    transfer_id: str
    reason: str


def books() -> Books:
    """The books that the environment names."""
    return Books(os.environ["BANK_DB"])


def _do(transfer_id: str, operation: str, account: str, cents: int) -> None:
    try:
        books().do(transfer_id, operation, account, cents)
    except Refusal as why:
        raise StepFailed(str(why)) from why


@step(undo=None, retry=AGAIN)
def take_back(transfer_id: str, operation: str) -> None:
    books().undo(transfer_id, operation)


@step(retry=AGAIN)
def hold(transfer_id: str, account: str, cents: int) -> None:
    _do(transfer_id, "hold", account, cents)


@step(retry=AGAIN)
def debit(transfer_id: str, account: str, cents: int) -> None:
    _do(transfer_id, "debit", account, cents)


@step(retry=AGAIN)
def credit(transfer_id: str, account: str, cents: int) -> None:
    _do(transfer_id, "credit", account, cents)


@step(retry=AGAIN)
def confirm(transfer_id: str, account: str, cents: int) -> None:
    _do(transfer_id, "confirm", account, cents)


@saga
async def transfer(s: Saga, t: TransferAsked) -> TransferDone | TransferRefused:
    try:
        await s.step(hold(t.transfer_id, t.source, t.cents), undo=take_back(t.transfer_id, "hold"))
        await s.step(debit(t.transfer_id, t.source, t.cents), undo=take_back(t.transfer_id, "debit"))
        await s.step(credit(t.transfer_id, t.target, t.cents), undo=take_back(t.transfer_id, "credit"))
        await s.step(confirm(t.transfer_id, t.source, t.cents), undo=take_back(t.transfer_id, "confirm"))
    except StepFailed as why:
        await s.compensate()
        return TransferRefused(transfer_id=t.transfer_id, reason=why.reason)
    return TransferDone(transfer_id=t.transfer_id)


app = App("bank")
app.orchestrate(transfer)
