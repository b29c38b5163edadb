"""Sagas whose pictures are looked at in tests."""

from __future__ import annotations

from contrapas import Saga, StepFailed, Timeout, saga, step
from tests.check.wrong import Answered, Asked, Booked, BookSeat, Refused, UnbookSeat


@step(undo=None)
async def look(id: str) -> int:
    return 1


@step(undo=None)
async def clean(id: str) -> int:
    return 1


@step(undo=None)
async def for_timeout(id: str) -> int:
    return 1


@step(undo=None)
async def for_refused(id: str) -> int:
    return 1


@step(undo=None)
async def hop(id: str) -> int:
    return 1


@saga
async def inner(s: Saga, id: str) -> int:
    return await look(id)


@saga
async def winding(s: Saga, e: Asked) -> Answered:
    try:
        await inner(s, e.id)
        while True:
            if await look(e.id) > 3:
                continue
            got = await s.wait(Booked, within="5m")
            if isinstance(got, Booked):
                return Answered(id=got.id)
    finally:
        await clean(e.id)


@saga
async def decides(s: Saga, e: Asked) -> Answered:
    got = await s.ask(BookSeat(id=e.id), within="1m", undo=UnbookSeat(id=e.id))
    match got:
        case Booked():
            return Answered(id=e.id)
        case Refused():
            await for_refused(e.id)
        case Timeout():
            await for_timeout(e.id)
    return Answered(id=e.id)


@saga
async def many(s: Saga, e: Asked) -> Answered:
    try:
        await hop(e.id)
        await hop(e.id)
        await hop(e.id)
        await hop(e.id)
        await hop(e.id)
        await hop(e.id)
    except StepFailed:
        await clean(e.id)
    return Answered(id=e.id)


@saga
async def reserve(s: Saga, id: str) -> int:
    await s.step(BookSeat(id=id), undo=UnbookSeat(id=id), within="1m")
    return await look(id)


@saga
async def nested(s: Saga, e: Asked) -> Answered | Refused:
    try:
        async with s.scope():
            await reserve(s, e.id)
            for _ in range(2):
                await s.step(hop(e.id), undo=clean(e.id))
            try:
                await s.step(BookSeat(id=e.id), undo=lambda ok: UnbookSeat(id=ok.id), within="1m")
            finally:
                await clean(e.id)
        await look(e.id)
    except StepFailed:
        await for_refused(e.id)
        await s.compensate()
        return Refused(id=e.id)
    return Answered(id=e.id)


@saga
async def travels(s: Saga, e: Asked) -> Answered | Refused:
    try:
        async with s.scope():
            await s.all(
                s.step(BookSeat(id=e.id), undo=UnbookSeat(id=e.id), within="1m"),
                s.step(hop(e.id), undo=clean(e.id)),
                look(e.id),
            )
            async with s.scope():
                await s.first(look(e.id), s.sleep("1h"))
                await reserve(s, e.id)
        while await look(e.id) < 3:
            try:
                await s.step(BookSeat(id=e.id), undo=UnbookSeat(id=e.id), within="1m")
            finally:
                await clean(e.id)
            await s.sleep("1d")
    except StepFailed:
        await s.compensate()
        return Refused(id=e.id)
    s.point_of_no_return()
    await hop(e.id)
    return Answered(id=e.id)
