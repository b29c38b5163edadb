"""Cases 60 to 66 with a record between any two events and the function itself beside it: frames, joins, replies that come twice."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from contrapas import Command, Event, Saga, StepFailed, saga, step
from contrapas.testing import Sagas


class Go(Event, topic="j.events", key="k"):
    k: str
    n: int = 0


class Gone(Event, topic="j.events", key="k"):
    k: str
    text: str


class Won(Event, topic="j.replies", key="k"):
    k: str
    what: str


class Lost(Event, topic="j.replies", key="k"):
    k: str
    what: str


class Undone(Event, topic="j.replies", key="k"):
    k: str


class Ask(Command[Won, Lost], topic="j.commands", key="k"):
    k: str
    what: str


class Undo(Command[Undone], topic="j.commands", key="k"):
    k: str
    what: str


TOLD: list[str] = []


@step(undo=None)
async def tell(what: str) -> str:
    TOLD.append(what)
    return what


@saga
async def three(s: Saga, go: Go) -> Gone:
    """Branches whose undos are commands."""
    try:
        won = await s.all(
            s.step(Ask(k=go.k, what="a"), undo=Undo(k=go.k, what="a")),
            s.step(Ask(k=go.k, what="b"), undo=Undo(k=go.k, what="b")),
            s.step(Ask(k=go.k, what="c"), undo=Undo(k=go.k, what="c")),
        )
        return Gone(k=go.k, text=",".join([w.what for w in won]))
    except StepFailed as why:
        lost = why.reply.what if isinstance(why.reply, Lost) else "?"
        return Gone(k=go.k, text=f"lost {lost}")


@saga
async def race(s: Saga, go: Go) -> Gone:
    """The earliest completion wins, well or badly."""
    try:
        won = await s.first(
            s.step(Ask(k=go.k, what="a"), undo=Undo(k=go.k, what="a")),
            s.step(Ask(k=go.k, what="b"), undo=Undo(k=go.k, what="b")),
        )
        text = won.what
    except StepFailed:
        text = "lost"
    await s.sleep("1m")
    return Gone(k=go.k, text=text)


@saga
async def inner(s: Saga, k: str) -> str:
    try:
        await s.step(Ask(k=k, what="deep"), undo=None)
    finally:
        await tell("inner finally")
    return "through"


@saga
async def middle(s: Saga, k: str) -> str:
    try:
        return await inner(s, k)
    except KeyError:
        return "never"
    finally:
        await tell("middle finally")


@saga
async def outer(s: Saga, go: Go) -> Gone:
    """A failure goes through two called sagas that both wait on their way out."""
    try:
        text = await middle(s, go.k)
    except StepFailed as why:
        text = f"{why.reason} after {await tell('handler')}"
    return Gone(k=go.k, text=text)


@saga
async def turns(s: Saga, go: Go) -> Gone:
    """The same step again and again: each visit has a name of its own."""
    found: list[str] = []
    for n in range(2):
        found.append((await s.step(Ask(k=go.k, what=str(n)), undo=None)).what)
    return Gone(k=go.k, text=",".join(found))


@pytest.mark.case(62, "`all`: every completion order, two failures, failure with a pending sibling")
@pytest.mark.parametrize("order", list(permutations("abc")), ids="".join)
async def test_the_end_of_all_depends_on_positions_and_never_on_who_came_first(
    order: tuple[str, ...],
) -> None:
    for good in product((True, False), repeat=3):
        sagas = Sagas()
        run = await sagas.start(three, Go(k="k"))
        seen = {(one := await run.expect(Ask)).command.what: one for _ in range(3)}
        for place, what in enumerate(order):
            well = good["abc".index(what)]
            await seen[what].reply(Won(k="k", what=what) if well else Lost(k="k", what=what))
            if place < 2:
                assert run.state == "all(Ask,Ask,Ask)" and run.status == "waiting"
        bad = [w for w, well in zip("abc", good, strict=True) if not well]
        assert run.outcome.text == (f"lost {bad[0]}" if bad else "a,b,c")
        sagas.close()


@pytest.mark.case(64, "`first`: same batch, failing winner, late loser")
@pytest.mark.parametrize("well", [True, False])
async def test_of_two_ends_in_one_batch_the_earlier_on_the_lane_wins_and_the_other_is_taken_back(
    well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sagas = Sagas()
    run = await sagas.start(race, Go(k="k"))
    a, b = await run.expect(Ask), await run.expect(Ask)
    monkeypatch.setattr(sagas, "settle", nothing)
    await b.reply(Won(k="k", what="b") if well else Lost(k="k", what="b"))
    await a.reply(Won(k="k", what="a"))
    monkeypatch.undo()
    await sagas.settle()
    undo = await run.expect(Undo)
    assert undo.command.what == "a"
    await undo.reply(Undone(k="k"))
    await sagas.skip("1m")
    assert run.outcome.text == ("b" if well else "lost")
    sagas.close()


async def nothing() -> None:
    """Hold everything until the next batch."""


@pytest.mark.case(64, "`first`: same batch, failing winner, late loser")
async def test_a_loser_that_ends_late_moves_nothing() -> None:
    sagas = Sagas()
    run = await sagas.start(race, Go(k="k"))
    a, b = await run.expect(Ask), await run.expect(Ask)
    await a.reply(Won(k="k", what="a"))
    undo = await run.expect(Undo)
    assert undo.command.what == "b"
    await b.reply(Won(k="k", what="b"))
    assert run.status == "unwinding"
    await undo.reply(Undone(k="k"))
    await sagas.skip("1m")
    assert run.outcome.text == "a" and run.status == "done"
    sagas.close()


@pytest.mark.case(60, "raise through two frames, suspending `finally` between")
async def test_a_failure_goes_through_two_frames_that_wait_in_their_finally() -> None:
    TOLD.clear()
    sagas = Sagas(mode="compiled")
    run = await sagas.start(outer, Go(k="k"))
    await (await run.expect(Ask)).reply(Lost(k="k", what="deep"))
    assert TOLD == ["inner finally", "middle finally", "handler"]
    assert run.outcome.text == "Lost after handler"
    sagas.close()
    again = Sagas()
    run = await again.start(outer, Go(k="k"))
    await (await run.expect(Ask)).reply(Won(k="k", what="deep"))
    assert run.outcome.text == "through"
    again.close()


@pytest.mark.case(65, "duplicate, unknown, older reply")
async def test_a_reply_to_an_earlier_visit_of_the_same_step_moves_nothing() -> None:
    sagas = Sagas()
    run = await sagas.start(turns, Go(k="k"))
    first = await run.expect(Ask)
    await first.reply(Won(k="k", what="first"))
    second = await run.expect(Ask)
    await first.reply(Won(k="k", what="again"))
    await first.reply(Lost(k="k", what="again"))
    assert run.status == "waiting" and run.record.cause.note == "no-op: late reply"
    await second.reply(Won(k="k", what="second"))
    assert run.outcome.text == "first,second"
    sagas.close()
