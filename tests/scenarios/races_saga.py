"""The bank's transfers with a short retention, for races that take an hour: what has ended leaves the lane."""

from __future__ import annotations

from contrapas import App, Saga, StepFailed, saga
from sagas.bank.saga import (
    TransferAsked,
    TransferDone,
    TransferRefused,
    confirm,
    credit,
    debit,
    hold,
    take_back,
)


@saga(retention="40s")
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
