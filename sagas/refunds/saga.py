"""A refund that people approve: each has nine hours, then the next one is asked; a signed link answers for one person."""

from __future__ import annotations

from typing import assert_never

from contrapas import App, Event, Saga, Timeout, saga, step


class RefundRequested(Event, topic="refunds.events", key="refund_id"):
    refund_id: str
    cents: int
    approvers: tuple[str, ...]


class Approved(Event, topic="refunds.events", key="refund_id"):
    refund_id: str
    by: str


class Rejected(Event, topic="refunds.events", key="refund_id"):
    refund_id: str
    by: str
    why: str


class RefundDecided(Event, topic="refunds.events", key="refund_id"):
    refund_id: str
    granted: bool
    decided_by: str


@step(undo=None)  # a letter cannot be taken back
async def ask_by_mail(to: str, yes_url: str) -> None:
    """Send the link. A real one would go through the mail service."""


@saga(deadline="5d")
async def approve_refund(s: Saga, req: RefundRequested) -> RefundDecided:
    for person in req.approvers:  # the escalation ladder
        yes = s.link(Approved(refund_id=req.refund_id, by=person))  # signed, opens a confirm page
        await ask_by_mail(person, yes.url)
        answer = await s.wait(
            Approved, Rejected, within="9h"
        )  # allow CP727: whoever was asked may still decide
        match answer:
            case Approved(by=who):
                return RefundDecided(refund_id=req.refund_id, granted=True, decided_by=who)
            case Rejected(by=who):
                return RefundDecided(refund_id=req.refund_id, granted=False, decided_by=who)
            case Timeout():
                continue  # nobody answered: next person
            case _:
                assert_never(answer)  # both checkers prove we saw all
    return RefundDecided(refund_id=req.refund_id, granted=False, decided_by="nobody")


app = App("refunds")
app.orchestrate(approve_refund)
