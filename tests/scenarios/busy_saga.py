"""An app that passes every place of a worker: services, topics in and out, timers, a rendezvous, a bug, short retention.

What really happened is written to a file, a line at its beginning: time, instance or job, what, idempotency key.
"""

from __future__ import annotations

import os
import time

from contrapas import App, Command, Delivery, Event, Retry, Saga, Service, StepFailed, Timeout, saga, step
from contrapas.runtime.steps import idempotency_key

AGAIN = Retry(20, backoff="20ms..200ms")


class JobAsked(Event, topic="jobs.requests", key="job_id"):
    job_id: str
    number: int


class Charged(Event, topic="jobs.replies", key="job_id"):
    job_id: str


class Declined(Event, topic="jobs.replies", key="job_id"):
    job_id: str
    reason: str


class Charge(Command[Charged, Declined], topic="jobs.commands", key="job_id"):
    job_id: str
    number: int


class Refunded(Event, topic="jobs.replies", key="job_id"):
    job_id: str


class Refund(Command[Refunded], topic="jobs.commands", key="job_id"):
    job_id: str


class Booked(Event, topic="jobs.booked", key="job_id"):
    job_id: str
    slip_id: str


class Approved(Event, topic="jobs.approved", key="slip_id"):
    slip_id: str


class JobDone(Event, topic="jobs.events", key="job_id"):
    job_id: str
    late: bool


class JobRefused(Event, topic="jobs.events", key="job_id"):
    job_id: str


class NoteAsked(Event, topic="notes.requests", key="note_id"):
    note_id: str


class Noted(Event, topic="notes.events", key="note_id"):
    note_id: str


def declined(number: int) -> bool:
    """The service says no to this job."""
    return number % 7 == 3


def broken(number: int) -> bool:
    """The saga has a bug with this job: it parks."""
    return number % 7 == 5


def silent(number: int) -> bool:
    """Nobody approves this job: it times out."""
    return number % 3 == 0


def write_down(job_id: str, what: str, key: str) -> None:
    """One line of what happened."""
    with open(os.environ["HAPPENED"], "a") as out:
        out.write(f"{time.time_ns() // 1_000_000} {job_id} {what} {key}\n")


@step(undo=None, retry=AGAIN)
def unbook(job_id: str) -> None:
    write_down(job_id, "unbook", idempotency_key())


@step(retry=AGAIN)
def book(job_id: str) -> None:
    write_down(job_id, "book", idempotency_key())


@step(undo=None, retry=AGAIN)
async def close(job_id: str) -> None:
    write_down(job_id, "close", idempotency_key())


@saga
async def job(s: Saga, e: JobAsked) -> JobDone | JobRefused:
    late = False
    try:
        await s.step(book(e.job_id), undo=unbook(e.job_id))
        await s.step(Charge(job_id=e.job_id, number=e.number), undo=Refund(job_id=e.job_id))
        await s.sleep("50ms")
        if silent(e.number):
            said = await s.wait(Approved, correlate=f"slip-{e.job_id}", within="100ms", label="unheard")
        else:
            s.emit(Booked(job_id=e.job_id, slip_id=f"slip-{e.job_id}"))
            said = await s.wait(Approved, correlate=f"slip-{e.job_id}", within="1h", label="approval")
        late = isinstance(said, Timeout)
        await close(e.job_id)
    except StepFailed:
        await s.compensate()
        return JobRefused(job_id=e.job_id)
    if broken(e.number):
        raise RuntimeError("a bug")
    return JobDone(job_id=e.job_id, late=late)


@saga(retention="500ms")
async def note(s: Saga, e: NoteAsked) -> Noted:
    await close(e.note_id)
    return Noted(note_id=e.note_id)


till = Service("till")


@till.on(Charge)
async def charge(c: Charge, d: Delivery) -> Charged | Declined:
    if declined(c.number):
        return Declined(job_id=c.job_id, reason="no")
    write_down(c.job_id, "charge", d.idempotency_key)
    return Charged(job_id=c.job_id)


@till.on(Refund)
async def refund(c: Refund, d: Delivery) -> Refunded:
    write_down(c.job_id, "refund", d.idempotency_key)
    return Refunded(job_id=c.job_id)


@till.on(Booked)
async def approve(b: Booked) -> Approved:
    return Approved(slip_id=b.slip_id)


app = App("busy")
app.orchestrate(job, note)
app.serve(till)
