"""Approvals: people who answer, do not answer, and answer twice. `# CPnnn` marks a mistake."""

# pyright: reportMatchNotExhaustive=false, reportPossiblyUnboundVariable=false
from __future__ import annotations

from typing import Annotated, assert_never

from contrapas import Event, Saga, Sensitive, Timeout, saga, step


class Requested(Event, topic="refunds.events", key="refund_id"):
    refund_id: str
    approvers: tuple[str, ...] = ()
    iban: Annotated[str, Sensitive] = ""


class Approved(Event, topic="refunds.events", key="refund_id"):
    refund_id: str
    by: str


class Refused(Event, topic="refunds.events", key="refund_id"):
    refund_id: str
    by: str


class Withdrawn(Event, topic="customers.events", key="refund_id"):
    refund_id: str


class Reminded(Event, topic="refunds.events", key="refund_id"):
    refund_id: str


class Ticket(Event, topic="tickets.events", key="ticket_id"):
    ticket_id: str
    refund_id: str


class Granted(Event, topic="refunds.events", key="refund_id"):
    refund_id: str


class Denied(Event, topic="refunds.events", key="refund_id"):
    refund_id: str


@step(undo=None)
async def ask_by_mail(to: str, refund_id: str) -> None: ...


@step(undo=None)
async def ticket_of(refund_id: str) -> str:
    return refund_id


# -- right ------------------------------------------------------------------------------------------------------------


@saga(deadline="5d")
async def climbs_a_ladder(s: Saga, e: Requested) -> Granted | Denied:
    for person in e.approvers:
        await ask_by_mail(person, e.refund_id)
        answer = await s.wait(Approved, Refused, within="9h", fresh=True)
        match answer:
            case Approved():
                return Granted(refund_id=e.refund_id)
            case Refused():
                return Denied(refund_id=e.refund_id)
            case Timeout():
                continue
            case _:
                assert_never(answer)
    return Denied(refund_id=e.refund_id)


@saga
async def needs_two_different_people(s: Saga, e: Requested) -> Granted | Denied:
    first = await s.wait(Approved, within="2d")
    if isinstance(first, Timeout):
        return Denied(refund_id=e.refund_id)
    while True:
        second = await s.wait(Approved, within="2d")
        if isinstance(second, Timeout):
            return Denied(refund_id=e.refund_id)
        if second.by != first.by:
            return Granted(refund_id=e.refund_id)


@saga
async def reminds_every_day_for_a_week(s: Saga, e: Requested) -> Granted | Denied:
    for _ in range(7):
        answer = await s.wait(Approved, Refused, within="1d")
        if isinstance(answer, Approved):
            return Granted(refund_id=e.refund_id)
        if isinstance(answer, Refused):
            return Denied(refund_id=e.refund_id)
        s.emit(Reminded(refund_id=e.refund_id))
    return Denied(refund_id=e.refund_id)


@saga
async def follows_its_ticket(s: Saga, e: Requested) -> Granted | Denied:
    ticket = await ticket_of(e.refund_id)
    got = await s.wait(Ticket, correlate=ticket, within="3d")
    if isinstance(got, Timeout):
        return Denied(refund_id=e.refund_id)
    return Granted(refund_id=got.refund_id)


@saga
async def takes_a_late_withdrawal_too(s: Saga, e: Requested) -> Granted | Denied:
    answer = await s.wait(Approved, Withdrawn, within="3d")
    if not isinstance(answer, Approved):
        return Denied(refund_id=e.refund_id)
    later = await s.wait(Withdrawn, within="1h")
    if isinstance(later, Timeout):
        return Granted(refund_id=e.refund_id)
    return Denied(refund_id=e.refund_id)


@saga
async def logs_what_may_be_seen(s: Saga, e: Requested) -> Granted:
    s.log.info("refund %s of %d approvers", e.refund_id, len(e.approvers))
    await ticket_of(e.refund_id)
    return Granted(refund_id=e.refund_id)


# -- wrong ------------------------------------------------------------------------------------------------------------


@saga
async def waits_for_nobody_in_particular(s: Saga, e: Requested) -> Granted | Denied:
    answer = await s.wait(Approved, Refused)  # CP712
    if isinstance(answer, Approved):
        return Granted(refund_id=e.refund_id)
    return Denied(refund_id=e.refund_id)


@saga
async def forgets_that_nobody_may_answer(s: Saga, e: Requested) -> Granted | Denied:
    granted = True
    answer = await s.wait(Approved, Refused, within="2d")
    match answer:  # CP705
        case Approved():
            await ask_by_mail(answer.by, e.refund_id)
        case Refused():
            granted = False
    return Granted(refund_id=e.refund_id) if granted else Denied(refund_id=e.refund_id)


@saga
async def takes_one_approval_for_two(s: Saga, e: Requested) -> Granted | Denied:
    first = await s.wait(Approved, within="2d")
    if isinstance(first, Timeout):
        return Denied(refund_id=e.refund_id)
    second = await s.wait(Approved, within="2d")  # CP711
    if isinstance(second, Timeout):
        return Denied(refund_id=e.refund_id)
    return Granted(refund_id=e.refund_id)


@saga
async def counts_to_two(s: Saga, e: Requested) -> Granted | Denied:
    votes = 0
    while votes < 2:
        answer = await s.wait(Approved, within="2d")  # CP711
        if isinstance(answer, Timeout):
            return Denied(refund_id=e.refund_id)
        votes += 1
    return Granted(refund_id=e.refund_id)


@saga
async def tests_for_a_timeout_that_cannot_be(s: Saga, e: Requested) -> Granted | Denied:
    s.deadline("5d")
    answer = await s.wait(Approved, Refused)
    if isinstance(answer, Timeout):  # CP714
        return Denied(refund_id=e.refund_id)
    return Granted(refund_id=e.refund_id)


@saga
async def leaves_it_to_who_comes_first(s: Saga, e: Requested) -> Granted | Denied:
    answer = await s.wait(Approved, Withdrawn, within="3d")  # CP717
    if isinstance(answer, Approved):
        return Granted(refund_id=e.refund_id)
    return Denied(refund_id=e.refund_id)


@saga
async def waits_for_a_ticket_that_never_arrives(s: Saga, e: Requested) -> Granted | Denied:
    got = await s.wait(Ticket, within="3d")  # CP719
    if isinstance(got, Timeout):
        return Denied(refund_id=e.refund_id)
    return Granted(refund_id=e.refund_id)


@saga
async def correlates_with_what_it_may_not_have(s: Saga, e: Requested) -> Granted | Denied:
    if e.approvers:
        ticket = await ticket_of(e.refund_id)
    got = await s.wait(Ticket, correlate=ticket, within="3d")  # CP719
    if isinstance(got, Timeout):
        return Denied(refund_id=e.refund_id)
    return Granted(refund_id=e.refund_id)


@saga
async def logs_an_account(s: Saga, e: Requested) -> Granted:
    s.log.info("refund to %s", e.iban)  # CP722
    await ticket_of(e.refund_id)
    return Granted(refund_id=e.refund_id)


@saga
async def collects_without_an_end(s: Saga, e: Requested) -> Denied:
    voices: list[str] = []
    while True:
        got = await s.wait(Approved, Refused, within="30d")
        if isinstance(got, Timeout):
            return Denied(refund_id=e.refund_id)
        voices.append(got.by)  # CP720


@saga
async def may_begin_with_either_but_takes_one(s: Saga, e: Requested | Withdrawn) -> Denied:  # CP715
    await ticket_of(e.refund_id)
    await s.wait(Requested, within="1d")
    return Denied(refund_id=e.refund_id)
