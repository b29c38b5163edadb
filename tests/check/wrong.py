"""Sagas with one mistake each. The line of the mistake ends in `# CPnnn`, or in `# allow CPnnn: reason` where it is settled."""

# ruff: noqa: ASYNC210, ASYNC221, ASYNC230, ASYNC251
from __future__ import annotations

import random
import sqlite3
import subprocess
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

from contrapas import FOREVER, Command, Event, Retry, Saga, StepFailed, Timeout, saga, step


class Asked(Event, topic="w.events", key="id"):
    id: str


class Answered(Event, topic="w.events", key="id"):
    id: str


class Refused(Event, topic="w.events", key="id"):
    id: str


class Booked(Event, topic="w.events", key="id"):
    id: str


class Unbooked(Event, topic="w.events", key="id"):
    id: str


class BookSeat(Command[Booked, Refused], topic="w.commands", key="id"):
    id: str


class UnbookSeat(Command[Unbooked], topic="w.commands", key="id"):
    id: str


class Pay(Command[Answered, Refused], topic="p.commands", key="id"):
    id: str


@step(undo=None)
async def read_only(id: str) -> int:
    return 1


@step
async def send_letter(id: str) -> int:
    return 1


@step(undo=None, observe=True)
async def note(id: str) -> int:
    return 1


@saga
async def forgets_the_undo(s: Saga, e: Asked) -> Answered | Refused:
    try:
        await s.step(BookSeat(id=e.id), within="1m")  # CP703
        await s.step(Pay(id=e.id), within="1m", undo=None)
    except StepFailed:
        await s.compensate()
        return Refused(id=e.id)
    return Answered(id=e.id)


@saga
async def forgets_the_undo_of_a_local_step(s: Saga, e: Asked) -> Answered:
    await send_letter(e.id)  # CP703
    await s.step(Pay(id=e.id), within="1m", undo=None)
    return Answered(id=e.id)


@saga
async def forgets_in_a_branch(s: Saga, e: Asked) -> Answered:
    async with s.scope():
        if len(e.id) > 3:
            await s.step(BookSeat(id=e.id), within="1m")  # CP703
        await s.step(Pay(id=e.id), within="1m", undo=None)
    return Answered(id=e.id)


@saga
async def forgets_beside_a_sibling(s: Saga, e: Asked) -> Answered:
    await s.all(s.step(BookSeat(id=e.id), within="1m"), s.step(Pay(id=e.id), within="1m", undo=None))  # CP703
    return Answered(id=e.id)


@saga
async def means_it(s: Saga, e: Asked) -> Answered:
    await s.step(BookSeat(id=e.id), within="1m")  # allow CP703: seats lapse by themselves after an hour
    await s.step(Pay(id=e.id), within="1m", undo=None)
    return Answered(id=e.id)


@saga
async def has_nothing_after_it(s: Saga, e: Asked) -> Answered:
    await read_only(e.id)
    await s.step(BookSeat(id=e.id), within="1m")
    return Answered(id=e.id)


@saga
async def is_past_the_pivot(s: Saga, e: Asked) -> Answered:
    await s.step(BookSeat(id=e.id), within="1m", undo=UnbookSeat(id=e.id))
    s.point_of_no_return()
    await s.step(Pay(id=e.id), retry=FOREVER)
    await s.step(Pay(id=e.id), retry=FOREVER)
    return Answered(id=e.id)


@saga
async def waits_for_ever(s: Saga, e: Asked) -> Answered:
    await s.wait(Booked)  # CP712
    return Answered(id=e.id)


@saga
async def asks_for_ever(s: Saga, e: Asked) -> Answered:
    await s.step(BookSeat(id=e.id), undo=None)  # CP712
    return Answered(id=e.id)


@saga(deadline="2d")
async def has_a_deadline(s: Saga, e: Asked) -> Answered:
    await s.wait(Booked)
    return Answered(id=e.id)


@saga
async def sets_a_deadline_on_one_path(s: Saga, e: Asked) -> Answered:
    if e.id == "x":
        s.deadline("2d")
        await s.wait(Booked)
    else:
        await s.wait(Unbooked)  # CP712
    return Answered(id=e.id)


@saga
async def ends_by_itself(s: Saga, e: Asked) -> Answered:
    await s.first(s.wait(Booked), s.sleep("1h"))
    await s.step(Pay(id=e.id), undo=None, retry=Retry(3, each="10s"))
    await s.step(Pay(id=e.id), retry=FOREVER, undo=None)
    got = await s.wait(Booked, within="1h")
    if isinstance(got, Timeout):
        return Answered(id=e.id)
    return Answered(id=got.id)


@saga
async def hides_what_it_does(s: Saga, e: Asked) -> Answered:
    await note(e.id)
    await read_only(e.id)  # CP721
    return Answered(id=e.id)


@saga
async def reaches_out(s: Saga, e: Asked) -> Answered:
    urlopen("http://example.invalid/")  # CP723
    db = sqlite3.connect(":memory:")  # CP723
    db.close()
    subprocess.run(["true"], check=True)  # CP723
    with open("/dev/null", "w") as out:  # CP723
        print(Path("/dev/null").write_text("x"), file=out)  # CP723
    await read_only(e.id)
    return Answered(id=e.id)


@saga
async def blocks(s: Saga, e: Asked) -> Answered:
    time.sleep(1)  # CP724
    text = Path("/dev/null").read_text()  # CP724
    with open("/dev/null") as lines:  # CP724
        print(len(text), lines.name)
    await read_only(e.id)
    return Answered(id=e.id)


@saga
async def reads_clocks_and_rolls_dice(s: Saga, e: Asked) -> Answered:
    when = datetime.now(UTC)
    await read_only(f"{when} {time.time()} {time.monotonic()} {random.random()} {uuid.uuid4()}")
    return Answered(id=e.id)


@saga
async def means_it_at_length(s: Saga, e: Asked) -> Answered:
    await s.step(
        BookSeat(id=e.id),
        within="1m",
    )  # allow CP703: seats lapse by themselves after an hour
    await s.step(Pay(id=e.id), within="1m", undo=None)
    return Answered(id=e.id)
