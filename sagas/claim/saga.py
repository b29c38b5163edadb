"""An insurance claim: papers that come before the claim or weeks after it, an adjuster who is a person, money held meanwhile."""

from __future__ import annotations

from contrapas import FOREVER, App, Command, Event, Retry, Saga, StepFailed, Timeout, saga, step


class ClaimFiled(Event, topic="claims.events", key="claim_id"):
    claim_id: str
    policy: str
    cents: int
    report_no: str
    """Number of the police report, which the police send under that number."""


class PoliceReport(Event, topic="police.reports", key="report_no"):
    report_no: str
    at_fault: bool


class Approved(Event, topic="claims.decisions", key="claim_id"):
    claim_id: str
    by: str
    cents: int


class Denied(Event, topic="claims.decisions", key="claim_id"):
    claim_id: str
    by: str
    why: str


class ClaimPaid(Event, topic="claims.events", key="claim_id"):
    claim_id: str
    cents: int


class ClaimDenied(Event, topic="claims.events", key="claim_id"):
    claim_id: str
    reason: str


class FundsHeld(Event, topic="ledger.events", key="claim_id"):
    claim_id: str
    hold: str


class NotCovered(Event, topic="ledger.events", key="claim_id"):
    claim_id: str
    reason: str


class HoldFunds(Command[FundsHeld, NotCovered], topic="ledger.commands", key="claim_id"):
    claim_id: str
    policy: str
    cents: int


class FundsReleased(Event, topic="ledger.events", key="claim_id"):
    claim_id: str


class ReleaseFunds(Command[FundsReleased], topic="ledger.commands", key="claim_id"):
    claim_id: str
    hold: str


class FundsPaid(Event, topic="ledger.events", key="claim_id"):
    claim_id: str


class PayFunds(Command[FundsPaid], topic="ledger.commands", key="claim_id"):
    claim_id: str
    hold: str
    cents: int


@step(undo=None, retry=Retry(5, backoff="1m..1h"))  # a letter cannot be taken back
async def write_to(person: str, text: str) -> None:
    """Send a letter. A real one would go through the mail service."""


@saga(deadline="90d", late_replies="7d")
async def handle_claim(s: Saga, claim: ClaimFiled) -> ClaimPaid | ClaimDenied:
    try:
        held = await s.step(
            HoldFunds(claim_id=claim.claim_id, policy=claim.policy, cents=claim.cents),
            undo=lambda ok: ReleaseFunds(claim_id=claim.claim_id, hold=ok.hold),
            within="1d",
        )
    except StepFailed as why:
        await s.compensate()
        return ClaimDenied(claim_id=claim.claim_id, reason=why.reason)
    report = await s.wait(PoliceReport, correlate=claim.report_no, within="30d")
    if isinstance(report, Timeout) or report.at_fault:
        await s.compensate()
        reason = "no police report" if isinstance(report, Timeout) else "the insured was at fault"
        return ClaimDenied(claim_id=claim.claim_id, reason=reason)
    for person in ("adjuster", "head of claims"):
        await write_to(person, f"claim {claim.claim_id} waits for your decision")
        decision = await s.wait(Approved, Denied, within="10d")
        match decision:
            case Approved(cents=cents):
                s.point_of_no_return()
                await s.step(PayFunds(claim_id=claim.claim_id, hold=held.hold, cents=cents), retry=FOREVER)
                return ClaimPaid(claim_id=claim.claim_id, cents=cents)
            case Denied(why=why_not):
                await s.compensate()
                return ClaimDenied(claim_id=claim.claim_id, reason=why_not)
            case Timeout():
                continue
    await s.compensate()
    return ClaimDenied(claim_id=claim.claim_id, reason="nobody decided")


app = App("claims")
app.orchestrate(handle_claim)
