"""A called saga that runs as a branch: its ends are its caller's, and it is explored by itself, once."""

from __future__ import annotations

from contrapas import Saga, saga, step
from tests.check.compiled import check
from tests.check.wrong import Answered, Asked, Booked, BookSeat, UnbookSeat


@step(undo=None)
async def look(id: str) -> int:
    return 1


@saga
async def waits_inside(s: Saga, id: str) -> int:
    await s.wait(Booked)
    return await look(id)


@saga
async def books_inside(s: Saga, id: str) -> int:
    await s.step(BookSeat(id=id), within="1m")
    return await look(id)


@saga
async def deep_inside(s: Saga, id: str) -> int:
    return sum(await s.all(waits_inside(s, id), look(id)))


@saga
async def joins(s: Saga, e: Asked) -> Answered:
    await s.all(books_inside(s, e.id), s.step(BookSeat(id=e.id), within="1m", undo=UnbookSeat(id=e.id)))
    return Answered(id=e.id)


@saga
async def begins(s: Saga, e: Asked) -> Answered:
    job = s.begin(waits_inside(s, e.id))
    await look(e.id)
    await job
    return Answered(id=e.id)


@saga(deadline="1h")
async def ends_in_time(s: Saga, e: Asked) -> Answered:
    await s.first(deep_inside(s, e.id), look(e.id))
    return Answered(id=e.id)


@saga
async def calls(s: Saga, e: Asked) -> Answered:
    await waits_inside(s, e.id)
    return Answered(id=e.id)


@saga
async def leaves_with_something_in_the_air(s: Saga, e: Asked) -> Answered:
    seat = s.begin(BookSeat(id=e.id), undo=UnbookSeat(id=e.id), within="1m")
    s.point_of_no_return()
    await look(e.id)
    await seat
    return Answered(id=e.id)


@saga
async def leaves_with_a_wait_in_the_air(s: Saga, e: Asked) -> Answered:
    inbox = s.begin(s.wait(Booked, within="1m"))
    s.point_of_no_return()
    await inbox
    return Answered(id=e.id)


def said(*sagas: object) -> list[tuple[str, str, str]]:
    return [(f.code, f.saga, f.severity) for f in check(*sagas).findings]


def test_the_inside_of_a_branch_is_explored() -> None:
    assert said(joins) == [("CP703", "books_inside", "warning")]


@saga
async def beside_itself(s: Saga, id: str) -> int:
    return sum(await s.all(beside_itself(s, id), look(id)))


@saga
async def calls_beside_itself(s: Saga, e: Asked) -> Answered:
    await s.all(beside_itself(s, e.id), look(e.id))
    return Answered(id=e.id)


def test_a_saga_that_runs_beside_itself_is_said_to_be_one_step_there() -> None:
    assert said(calls_beside_itself) == [
        ("CP790", "beside_itself", "information"),
        ("CP790", "calls_beside_itself", "information"),
    ]


@saga
async def leaves_much(s: Saga, id: str) -> int:
    for label in "abcde":
        if await look(label):
            await s.step(BookSeat(id=id), undo=UnbookSeat(id=id), within="1m")
    if await look("f"):
        await s.step(BookSeat(id=id), undo=UnbookSeat(id=id), within="1m", label="first")
    if await look("g"):
        await s.step(BookSeat(id=id), undo=UnbookSeat(id=id), within="1m", label="second")
    if await look("h"):
        await s.step(BookSeat(id=id), undo=UnbookSeat(id=id), within="1m", label="third")
    return 1


@saga
async def calls_one_that_leaves_much(s: Saga, e: Asked) -> Answered:
    await s.all(leaves_much(s, e.id), look(e.id))
    return Answered(id=e.id)


def test_a_branch_that_may_leave_more_than_can_be_combined_is_said_to_be_one_step() -> None:
    assert ("CP790", "calls_one_that_leaves_much", "information") in said(calls_one_that_leaves_much)


def test_what_a_begun_saga_waits_for_without_end_is_found_once_however_many_begin_it() -> None:
    findings = check(begins).findings
    assert [(f.code, f.saga) for f in findings] == [("CP712", "waits_inside")]


def test_a_deadline_of_every_caller_covers_the_branch_at_any_depth() -> None:
    assert said(ends_in_time) == []


def test_a_saga_that_is_called_in_line_as_well_is_explored_where_it_is_called() -> None:
    found = check(begins, calls).findings
    assert [(f.code, f.saga) for f in found if f.code == "CP712"] == [("CP712", "calls")]


def test_a_point_of_no_return_beside_a_step_that_can_fail_is_an_error_and_beside_a_wait_is_none() -> None:
    found = [f.text for f in check(leaves_with_something_in_the_air).findings if f.code == "CP704"]
    assert "begin(BookSeat) is in flight at the point of no return and can still fail" in found
    assert not [f for f in check(leaves_with_a_wait_in_the_air).findings if "in flight" in f.text]
