"""Commands addressed to a running saga: answered, declined, repeated, kept, taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from contrapas import Command, Event, Saga, StepFailed, failpoints, saga
from contrapas.errors import Refused, Unreachable
from contrapas.runtime.build import build
from contrapas.runtime.client import Client, Told
from contrapas.runtime.definition import Definition, SagaUse
from contrapas.runtime.doors import event_draft
from tests.runtime.cart import AddItem, CartOpened, CheckOut, definition
from tests.runtime.rig import Rig, kill_at, rig_of


class Hired(Event, topic="clerk.events", key="id"):
    id: str


class Nod(Event, topic="clerk.events", key="id"):
    id: str


class DidIt(Event, topic="clerk.events", key="id"):
    id: str
    said: str


class Do(Command[DidIt], key="id"):
    id: str
    how: str


class Went(Event, topic="clerk.events", key="id"):
    id: str
    cart: str


class Wrote(Event, topic="clerk.events", key="id"):
    id: str
    text: str


@saga
async def clerk(s: Saga, hired: Hired) -> Wrote:
    while True:
        asked = await s.wait(Do, within="1h")
        if not isinstance(asked, Do):
            break
        if asked.how == "copy":
            s.reply(asked.model_copy(), DidIt(id=s.key, said="first"))
            s.reply(asked, DidIt(id=s.key, said="second"))
        elif asked.how == "later":
            waiting = [asked]
            await s.wait(Nod, within="1h")
            s.reply(waiting[0], DidIt(id=s.key, said="late"))
        elif asked.how == "hand":
            s.reply(Do(id=s.key, how="hand"), DidIt(id=s.key, said="no"))
        else:
            break
    return Wrote(id=s.key, text="done")


@saga
async def shopper(s: Saga, went: Went) -> Wrote:
    added = await s.step(AddItem(cart_id=went.cart, sku="mug"), undo=None, within="1m")
    await s.step(CheckOut(cart_id=went.cart), undo=None, within="1m")
    text = f"{added.items}; out"
    try:
        await s.step(CheckOut(cart_id=went.cart), undo=None, within="1m")
    except StepFailed as why:
        text += f"; {why.reason} {not why.unknown} {why.reply}"
    return Wrote(id=s.key, text=text)


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    yield
    failpoints.disarm()


async def ask(rig: Rig, client: Client, command: object, **more: object) -> Told:
    """Ask while time passes."""
    task = asyncio.ensure_future(client.ask(command, **more))  # type: ignore[arg-type]
    await rig.until(task.done)
    return task.result()


async def test_a_command_starts_the_saga_and_is_answered_in_its_middle() -> None:
    what = definition()
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        client = rig.client()
        first = await ask(rig, client, AddItem(cart_id="c-1", sku="mug"))
        assert (first.verdict, first.outcome) == ("reply", "CartChanged")
        assert first.outcome_body == '{"cart_id":"c-1","items":["mug"]}'
        again = await ask(rig, client, AddItem(cart_id="c-1", sku="hat"))
        assert again.outcome_body == '{"cart_id":"c-1","items":["mug","hat"]}'
        done = await ask(rig, client, CheckOut(cart_id="c-1"))
        assert done.outcome == "CheckedOutAck"
        assert rig.status("cart/c-1") == "done"


@pytest.mark.case(97, "reply after reload, of a copy, twice, at the end")
async def test_the_same_id_again_is_answered_the_same_and_moves_nothing() -> None:
    what = definition()
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        client = rig.client()
        first = await ask(rig, client, AddItem(cart_id="c-1", sku="mug"), event_id="k-1")
        await ask(rig, client, AddItem(cart_id="c-1", sku="hat"), event_id="k-2")
        again = await ask(rig, client, AddItem(cart_id="c-1", sku="mug"), event_id="k-1")
        assert again.outcome_body == first.outcome_body
        assert rig.versions("cart/c-1") == [1, 2]
        await ask(rig, client, CheckOut(cart_id="c-1"), event_id="k-3")
        ended = await ask(rig, client, AddItem(cart_id="c-1", sku="hat"), event_id="k-2")
        assert ended.outcome_body == '{"cart_id":"c-1","items":["mug","hat"]}'
        assert rig.versions("cart/c-1") == [1, 2, 3]


async def test_the_same_id_with_another_body_is_refused() -> None:
    what = definition()
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        client = rig.client()
        await ask(rig, client, AddItem(cart_id="c-1", sku="mug"), event_id="k-1")
        with pytest.raises(Refused) as why:
            await ask(rig, client, AddItem(cart_id="c-1", sku="hat"), event_id="k-1")
        assert why.value.code == "CP412"


async def test_a_door_is_told_at_once_that_there_is_no_instance() -> None:
    what = definition()
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        told = await ask(rig, rig.client(), CheckOut(cart_id="c-9"))
        assert (told.verdict, told.reason, told.code) == ("declined", "absent", "CP414")
        assert rig.records() == [r for r in rig.records() if not r.key.startswith(b"cart/")]


async def test_an_ended_instance_declines_what_comes_after_its_end_and_starts_anew_by_a_start_command() -> (
    None
):
    what = definition()
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        client = rig.client()
        await ask(rig, client, AddItem(cart_id="c-1", sku="mug"))
        await ask(rig, client, CheckOut(cart_id="c-1"))
        told = await ask(rig, client, CheckOut(cart_id="c-1"), event_id="late")
        assert (told.verdict, told.reason, told.code) == ("declined", "closed", "CP815")
        repeat = await ask(rig, client, CheckOut(cart_id="c-1"), event_id="late")
        assert (repeat.verdict, repeat.reason) == ("declined", "closed")
        fresh = await ask(rig, client, AddItem(cart_id="c-1", sku="cap"))
        assert fresh.outcome_body == '{"cart_id":"c-1","items":["cap"]}'
        assert rig.versions("cart/c-1") == [1, 2, 3, 4]
        old = await ask(rig, client, CheckOut(cart_id="c-1"), event_id="late")
        assert (old.verdict, old.reason) == ("declined", "closed")


async def test_an_event_starts_the_cart_too_and_what_comes_twice_is_an_event_of_it() -> None:
    what = definition()
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("cart", CartOpened(cart_id="c-1"))
        await rig.until(lambda: rig.status("cart/c-1") == "waiting")
        added = await ask(rig, client, AddItem(cart_id="c-1", sku="mug"))
        assert added.outcome_body == '{"cart_id":"c-1","items":["mug"]}'
        state = await client.state("cart/c-1")
        assert (state.view_type, state.view) == ("CartView", '{"items":1}')


@pytest.mark.case(97, "reply after reload, of a copy, twice, at the end")
async def test_a_reply_to_a_command_built_by_hand_is_an_error_and_the_first_reply_counts() -> None:
    what = Definition(namespace="shop", sagas=(SagaUse(saga=clerk, mode="orchestrate"),))
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("clerk", Hired(id="a"))
        copied = await ask(rig, client, Do(id="a", how="copy"))
        assert copied.outcome_body == '{"id":"a","said":"first"}'
        later = asyncio.ensure_future(client.ask(Do(id="a", how="later"), timeout_ms=60_000))
        await rig.until(lambda: len(rig.versions("clerk/a")) >= 3)
        await client.signal("clerk", "a", Nod(id="a"))
        await rig.until(later.done)
        assert later.result().outcome_body == '{"id":"a","said":"late"}'
        hand = asyncio.ensure_future(client.ask(Do(id="a", how="hand"), timeout_ms=200))
        await rig.until(lambda: rig.status("clerk/a") == "parked")
        with pytest.raises(Unreachable) as why:
            await hand
        assert (why.value.code, len(why.value.event_id)) == ("CP507", 32)
        told = await rig_state(rig, "clerk/a")
        assert "was not received" in told.reason


async def rig_state(rig: Rig, instance: str) -> Told:
    return await rig.client().state(instance)


async def test_what_an_instance_ends_with_unanswered_is_declined() -> None:
    what = Definition(namespace="shop", sagas=(SagaUse(saga=clerk, mode="orchestrate"),))
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("clerk", Hired(id="a"))
        told = await ask(rig, client, Do(id="a", how="leave"))
        assert (told.verdict, told.reason) == ("declined", "closed")
        assert rig.status("clerk/a") == "done"


async def test_another_saga_asks_and_gets_the_reply_or_a_definite_failure() -> None:
    what = definition(SagaUse(saga=shopper, mode="orchestrate"))
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("shopper", Went(id="s-1", cart="c-1"))
        await rig.until(lambda: rig.status("shopper/s-1") == "done")
        told = await client.state("shopper/s-1")
        assert told.outcome_body == '{"id":"s-1","text":"(\'mug\',); out; closed True None"}'


@pytest.mark.parametrize("nth", [1, 3, 5])
@pytest.mark.parametrize(
    "point", ["commit.before", "commit.unread", "commit.undispatched", "relay.published"]
)
async def test_a_crash_around_any_commit_changes_nothing_for_who_asks(nth: int, point: str) -> None:
    what = definition(SagaUse(saga=shopper, mode="orchestrate"))
    async with rig_of(what, build(what), partitions=1) as rig:
        await rig.worker()
        kill_at(point, nth)
        await rig.client().start("shopper", Went(id="s-1", cart="c-1"))
        for _ in range(400):
            await rig.turn(1)
            if rig.tasks[-1].done():
                await rig.killed()
                await rig.worker()
        await rig.until(lambda: rig.status("shopper/s-1") == "done")
        told = await rig.client().state("shopper/s-1")
        assert told.outcome_body == '{"id":"s-1","text":"(\'mug\',); out; closed True None"}'
        assert rig.status("cart/c-1") == "done"


class Ask(Command[DidIt], topic="clerk.commands", key="id"):
    id: str


class Asker(Event, topic="clerk.events", key="id"):
    id: str
    clerk: str


class UndoAsk(Command[DidIt], topic="clerk.undo", key="id"):
    id: str


SLOW: list[str] = []


@saga
async def topical(s: Saga, hired: Hired) -> Wrote:
    await s.wait(Nod, within="1d")
    got = await s.wait(Ask, UndoAsk, within="1d")
    SLOW.append(type(got).__name__)
    if isinstance(got, Ask | UndoAsk):
        s.reply(got, DidIt(id=s.key, said="yes"))
    return Wrote(id=s.key, text=type(got).__name__)


@saga
async def asker(s: Saga, first: Asker) -> Wrote:
    got = await s.step(Ask(id=first.clerk), undo=UndoAsk(id=first.clerk), within="1h")
    return Wrote(id=s.key, text=got.said)


def both() -> Definition:
    uses = tuple(SagaUse(saga=s, mode="orchestrate") for s in (topical, asker))
    return Definition(namespace="shop", sagas=uses)


async def test_a_command_on_a_topic_reaches_its_saga_and_an_early_one_waits_for_it() -> None:
    what = both()
    async with rig_of(what, build(what), partitions=4) as rig:
        await rig.worker()
        await rig.client().start("asker", Asker(id="a", clerk="c"))
        await rig.turn(1, 100)
        assert any(r.key == b"$wait/Ask/c" for r in rig.records())
        await rig.client().start("topical", Hired(id="c"))
        await rig.client().signal("topical", "c", Nod(id="c"))
        await rig.until(lambda: rig.status("asker/a") == "done")
        assert (await rig.client().state("asker/a")).outcome_body == '{"id":"a","text":"yes"}'


async def test_an_undo_command_takes_out_the_command_that_is_still_kept() -> None:
    SLOW.clear()
    what = both()
    async with rig_of(what, build(what), partitions=4) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("topical", Hired(id="c"))
        await client.start("asker", Asker(id="a", clerk="c"))
        await rig.until(lambda: len(rig.versions("topical/c")) == 2)
        cancelled = asyncio.ensure_future(client.operate("asker/a", "cancel"))
        await rig.until(lambda: len(rig.versions("topical/c")) == 3)
        await cancelled
        await client.signal("topical", "c", Nod(id="c"))
        await rig.until(lambda: rig.status("topical/c") == "done")
        assert SLOW == ["UndoAsk"]
        await rig.until(lambda: rig.status("asker/a") in ("compensated", "failed"))


async def test_an_undo_command_that_comes_first_leaves_the_late_command_without_effect() -> None:
    SLOW.clear()
    what = both()
    async with rig_of(what, build(what), partitions=1) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("topical", Hired(id="c"))
        await rig.turn(1, 20)
        undo = event_draft(
            client.setting, client.setting.world.types.messages["UndoAsk"], b'{"id":"c"}',
            kind="command", key="c", to="topical/c", event_id="u-1", at=0,
        )  # fmt: skip
        late = event_draft(
            client.setting, client.setting.world.types.messages["Ask"], b'{"id":"c"}',
            kind="command", key="c", to="topical/c", event_id="a-1", at=0,
        )  # fmt: skip
        await rig.log.publish([undo._replace(headers=(*undo.headers, ("cp-undoes", b"a-1")))])
        await rig.turn(1, 20)
        await rig.log.publish([late])
        await rig.turn(1, 20)
        await client.signal("topical", "c", Nod(id="c"))
        await rig.until(lambda: rig.status("topical/c") == "done")
        assert SLOW == ["UndoAsk"]


async def test_too_many_kept_commands_are_declined_as_busy() -> None:
    what = both()
    async with rig_of(what, build(what), partitions=1) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("topical", Hired(id="c"))
        waiting = [asyncio.ensure_future(client.ask(Ask(id="c"), timeout_ms=600_000)) for _ in range(101)]
        await rig.until(lambda: any(w.done() for w in waiting))
        told = next(w for w in waiting if w.done()).result()
        assert (told.verdict, told.reason, told.code) == ("declined", "busy", "CP829")
        await client.signal("topical", "c", Nod(id="c"))
        await rig.until(lambda: all(w.done() for w in waiting))
        verdicts = [(w.result().verdict, w.result().reason) for w in waiting]
        assert verdicts.count(("reply", "")) == 1 and verdicts.count(("declined", "closed")) == 99


async def test_a_parked_instance_keeps_a_command_and_answers_it_when_it_goes_on() -> None:
    what = Definition(namespace="shop", sagas=(SagaUse(saga=clerk, mode="orchestrate"),))
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("clerk", Hired(id="a"))
        hand = asyncio.ensure_future(client.ask(Do(id="a", how="hand"), timeout_ms=600_000))
        await rig.until(lambda: rig.status("clerk/a") == "parked")
        kept = asyncio.ensure_future(client.ask(Do(id="a", how="copy"), timeout_ms=600_000))
        await rig.until(lambda: len(rig.versions("clerk/a")) == 3)
        skipped = asyncio.ensure_future(client.operate("clerk/a", "skip", reason="no use"))
        await rig.until(lambda: kept.done() and hand.done() and skipped.done())
        assert kept.result().outcome_body == '{"id":"a","said":"first"}'
        assert (hand.result().verdict, hand.result().reason) == ("declined", "closed")
