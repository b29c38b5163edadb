"""`s.map` over a saga: every item is a record of its own, with all that a saga can do, and takes part in the caller's end."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.core.envelope_avro import decode
from contrapas.core.partition import home_of
from contrapas.errors import ContrapasError, StepFailed
from contrapas.runtime.build import build
from contrapas.runtime.client import Client
from tests.runtime import nested
from tests.runtime.nested import BROKEN, DID, SECOND, Answer, Go, Order
from tests.runtime.rig import Rig, kill_at, rig_of

DEFINITION = nested.app.definition()
WORLD = build(DEFINITION)


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    nested.reset()
    yield
    failpoints.disarm()


@asynccontextmanager
async def stage(*, partitions: int = 1) -> AsyncGenerator[tuple[Rig, Client]]:
    async with rig_of(DEFINITION, WORLD, partitions=partitions) as rig:
        await rig.worker()
        yield rig, rig.client()


def newest(rig: Rig, instance: str) -> Any:
    return decode([r for r in rig.records() if r.key == instance.encode()][-1].value)


def outcome(rig: Rig, instance: str) -> Any:
    return json.loads(newest(rig, instance).outcome_body)


def items(rig: Rig) -> dict[str, Any]:
    """Item records still there, the newest of each."""
    found: dict[str, Any] = {}
    for r in rig.records():
        key = r.key.decode()
        if "↳" in key:
            found[key] = None if r.value is None else decode(r.value)
    return {key: r for key, r in found.items() if r is not None}


async def ended(rig: Rig, instance: str, status: str = "done") -> None:
    await rig.until(lambda: rig.status(instance) == status)


@pytest.mark.parametrize("count", [0, 1, 30])
async def test_each_item_runs_a_saga_and_gives_its_result_by_position(count: int) -> None:
    async with stage() as (rig, client):
        await client.start("each", Order(id="a", parts=list(range(count))))
        await ended(rig, "each/a")
        assert outcome(rig, "each/a")["prices"] == [10 * x for x in range(count)]
        assert rig.versions("each/a") == ([1, 2] if count else [1])
        assert sorted(DID) == sorted([f"{w} {x}" for x in range(count) for w in ("book", "price")])
        await rig.turn(1, 50)
        assert items(rig) == {}


async def test_items_live_where_their_instance_does() -> None:
    async with stage(partitions=4) as (rig, client):
        for key in "abcdefgh":
            await client.start("few", Order(id=key, parts=[1, 2]))
        await rig.until(lambda: len(items(rig)) == 16)
        where = {r.key.decode(): r.partition for r in rig.records()}
        assert all(where[name] == where[home_of(name)] for name in items(rig))
        assert len({where[name] for name in items(rig)}) > 1


async def test_no_more_items_are_in_progress_than_concurrency_says() -> None:
    async with stage() as (rig, client):
        await client.start("few", Order(id="a", parts=[1, 2, 3, 4, 5]))
        await rig.turn(1, 200)
        assert sorted(DID) == ["book 1", "book 2"]
        await rig.turn(60_000, 1)
        await rig.turn(1, 400)
        assert [d for d in DID if d[0] == "b"] == ["book 1", "book 2", "book 3", "book 4"]
        await rig.until(lambda: rig.status("few/a") == "done", ms=1000)
        assert outcome(rig, "few/a")["prices"] == [10, 20, 30, 40, 50]


async def test_no_more_items_begin_than_the_rate_says() -> None:
    async with stage() as (rig, client):
        began = rig.clock.ms()
        await client.start("rated", Order(id="a", parts=[1, 2, 3, 4]))
        await ended(rig, "rated/a")
        assert 2900 <= rig.clock.ms() - began <= 4200


async def test_a_failing_item_takes_itself_back_and_what_is_in_flight_ends_before_the_caller_fails() -> None:
    SECOND[2] = [StepFailed("no price")]
    async with stage() as (rig, client):
        await client.start("each", Order(id="a", parts=[1, 2, 3]))
        await ended(rig, "each/a", "compensated")
        assert "no price" in newest(rig, "each/a").error
        assert sorted(d for d in DID if "drop" in d) == ["drop 1", "drop 2", "drop 3"]
        assert DID.index("drop 2") < min(DID.index("drop 1"), DID.index("drop 3"))
        await rig.turn(1, 50)
        assert items(rig) == {}


async def test_failures_are_collected_at_their_positions_and_have_taken_themselves_back() -> None:
    SECOND[2] = [StepFailed("no price")]
    BROKEN[3] = [ValueError("odd")]
    async with stage() as (rig, client):
        await client.start("gathered", Order(id="a", parts=[1, 2, 4]))
        await ended(rig, "gathered/a")
        assert outcome(rig, "gathered/a") == {"id": "a", "prices": [10, 40], "failed": ["1: no price False"]}
        assert [d for d in DID if "drop" in d] == ["drop 2"]


async def test_what_the_items_did_is_taken_back_when_the_caller_fails_later() -> None:
    async with stage() as (rig, client):
        await client.start("then_waits", Order(id="a", parts=[1, 2, 3]))
        await rig.until(lambda: rig.status("then_waits/a") == "waiting")
        await rig.turn(1, 50)
        assert items(rig) == {}
        await client.signal("then_waits", "a", Go(id="a"))
        await ended(rig, "then_waits/a", "compensated")
        assert sorted(d for d in DID if "drop" in d) == ["drop 1", "drop 2", "drop 3"]


async def test_a_cancel_is_thrown_in_every_item_in_flight_and_the_caller_ends_after_them() -> None:
    async with stage() as (rig, client):
        await client.start("few", Order(id="a", parts=[1, 2, 3, 4, 5]))
        await rig.turn(1, 100)
        await rig.turn(60_000, 1)
        await rig.until(lambda: "book 4" in DID)
        await rig.turn(1, 50)
        await client.operate("few/a", "cancel")
        await ended(rig, "few/a", "compensated")
        assert DID.count("tidy 3") == DID.count("tidy 4") == 1
        assert "tidy 1" not in DID and "book 5" not in DID
        assert sorted(d for d in DID if "drop" in d) == ["drop 1", "drop 2", "drop 3", "drop 4"]
        assert max(DID.index("drop 3"), DID.index("drop 4")) < min(DID.index("drop 1"), DID.index("drop 2"))
        await rig.turn(1, 50)
        assert items(rig) == {}


async def test_a_kill_runs_no_code_of_the_items_and_takes_back_what_they_did() -> None:
    async with stage() as (rig, client):
        await client.start("few", Order(id="a", parts=[1, 2, 3]))
        await rig.turn(1, 100)
        await client.operate("few/a", "kill")
        await ended(rig, "few/a", "compensated")
        assert sorted(DID) == ["book 1", "book 2", "drop 1", "drop 2"]
        await rig.turn(60_000, 5)
        assert items(rig) == {} and len(DID) == 4


async def test_a_limit_of_the_map_is_a_scope_around_it() -> None:
    async with stage() as (rig, client):
        await client.start("limited", Order(id="a", parts=[1, 2]))
        await rig.until(lambda: rig.status("limited/a") == "done", ms=100)
        assert outcome(rig, "limited/a")["failed"] == ["timeout after 10s"]
        assert sorted(DID) == ["book 1", "book 2", "drop 1", "drop 2", "tidy 1", "tidy 2"]


async def test_a_map_in_flight_that_is_given_up_takes_itself_back() -> None:
    async with stage() as (rig, client):
        await client.start("beside", Order(id="a", parts=[1, 2]))
        await rig.turn(1, 100)
        await client.signal("beside", "a", Go(id="a"))
        await ended(rig, "beside/a")
        assert outcome(rig, "beside/a")["failed"] == ["cancelled"]
        assert sorted(DID) == ["book 1", "book 2", "drop 1", "drop 2", "tidy 1", "tidy 2"]


async def test_items_map_sagas_of_their_own_and_all_is_taken_back() -> None:
    async with stage() as (rig, client):
        await client.start("nests", Order(id="a", parts=[3, 2]))
        await rig.until(lambda: rig.status("nests/a") == "waiting" and not items(rig))
        assert len(DID) == 10
        await client.signal("nests", "a", Go(id="a"))
        await ended(rig, "nests/a", "compensated")
        assert sorted(d for d in DID if "drop" in d) == ["drop 0", "drop 0", "drop 1", "drop 1", "drop 2"]


@pytest.mark.parametrize("verb", ["kill", "cancel"])
async def test_a_cancel_or_kill_reaches_items_of_items(verb: str) -> None:
    async with stage() as (rig, client):
        await client.start("nests_slowly", Order(id="a", parts=[3, 2]))
        await rig.until(lambda: len(DID) == 5)
        await rig.turn(1, 20)
        await client.operate("nests_slowly/a", verb)
        await ended(rig, "nests_slowly/a", "compensated")
        assert sorted(d for d in DID if "drop" in d) == ["drop 0", "drop 0", "drop 1", "drop 1", "drop 2"]
        assert len([d for d in DID if "tidy" in d]) == (5 if verb == "cancel" else 0)
        await rig.turn(60_000, 3)
        assert items(rig) == {} and not any("price" in d for d in DID)


async def test_an_item_meets_events_of_a_key_of_its_own() -> None:
    async with stage(partitions=3) as (rig, client):
        await client.start("asks", Order(id="a", parts=[1, 2, 3]))
        await rig.turn(1, 100)
        for part in (3, 1, 2):
            await client.send(Answer(name=f"a:{part}", price=part * 7))
        await ended(rig, "asks/a")
        assert outcome(rig, "asks/a")["prices"] == [7, 14, 21]


async def test_an_item_that_is_cancelled_alone_is_a_failure_of_its_position() -> None:
    async with stage() as (rig, client):
        await client.start("limited", Order(id="a", parts=[1, 2]))
        await rig.until(lambda: len(items(rig)) == 2)
        await client.operate(min(items(rig)), "cancel")
        await rig.until(lambda: rig.status("limited/a") == "done", ms=100)
        assert outcome(rig, "limited/a")["failed"] == ["timeout after 10s"]
        assert DID.count("tidy 1") == DID.count("tidy 2") == 1
        assert sorted(d for d in DID if "drop" in d) == ["drop 1", "drop 2"]


async def crashed(rig: Rig, point: str, nth: int) -> bool:
    """Let the worker die at the nth visit of a point; False: it came to rest before."""
    kill_at(point, nth)
    for _ in range(3000):
        if rig.tasks[-1].done():
            break
        if all(rig.status(f"{name}/a") in ("done", "compensated", "failed") for name in rig_names(rig)):
            failpoints.disarm(point)
            return False
        await rig.turn(5)
    await rig.killed()
    await rig.worker()
    return True


def rig_names(rig: Rig) -> set[str]:
    return {
        r.key.decode().partition("/")[0]
        for r in rig.records()
        if b"/a" in r.key and "↳" not in r.key.decode() and r.key[:1] != b"$"
    }


@pytest.mark.parametrize("point", ["commit.before", "commit.undispatched", "commit.unread"])
@pytest.mark.parametrize("nth", range(1, 9))
async def test_a_crash_at_any_commit_repeats_only_what_was_in_flight(point: str, nth: int) -> None:
    SECOND[2] = [StepFailed("no price")] * 2
    async with stage() as (rig, client):
        await client.start("gathered", Order(id="a", parts=[1, 2, 3]))
        await client.start("few", Order(id="a", parts=[4, 5, 6]))
        await crashed(rig, point, nth)
        await rig.until(lambda: rig.status("few/a") == "done", ms=500)
        await rig.until(lambda: rig.status("gathered/a") == "done", ms=500)
        assert outcome(rig, "gathered/a")["prices"] == [10, 30]
        assert outcome(rig, "few/a")["prices"] == [40, 50, 60]
        assert all(DID.count(f"{w} {x}") <= 2 for w in ("book", "price") for x in range(1, 7))
        assert len([d for d in DID if "drop" in d]) <= 2
        await rig.turn(1, 50)
        assert items(rig) == {}


@pytest.mark.parametrize("point", ["commit.before", "commit.undispatched", "commit.unread"])
@pytest.mark.parametrize("nth", range(1, 9))
@pytest.mark.parametrize("verb", ["cancel", "kill"])
async def test_a_crash_at_any_commit_of_the_end_takes_everything_back(
    point: str, nth: int, verb: str
) -> None:
    async with stage() as (rig, client):
        await client.start("nests_slowly", Order(id="a", parts=[2, 1]))
        await rig.until(lambda: len(DID) == 3)
        await rig.turn(1, 20)
        kill_at(point, nth)
        with suppress(ContrapasError):  # the worker may die before it can say what became of it
            await client.operate("nests_slowly/a", verb, timeout_ms=500)
        for _ in range(300):
            await rig.turn(5)
        if rig.tasks[-1].done():
            await rig.killed()
            await rig.worker()
        failpoints.disarm(point)
        await rig.until(lambda: rig.status("nests_slowly/a") in ("compensated", "done"), ms=500)
        if rig.status("nests_slowly/a") == "done":
            return  # the verb was lost with the worker that heard it
        assert {d for d in DID if "drop" in d} == {"drop 0", "drop 1"}
        assert not any("price" in d for d in DID)
        await rig.turn(60_000, 3)
        assert items(rig) == {}


async def test_what_is_in_flight_under_a_kill_settles_with_the_caller_after_the_items_are_gone() -> None:
    async with stage(partitions=2) as (rig, client):
        await client.start("holds", Order(id="a", parts=[1, 2]))
        await rig.until(lambda: len(rig.records("hold.commands")) == 2)
        await rig.turn(1, 50)
        await client.operate("holds/a", "kill")
        await rig.until(lambda: rig.status("holds/a") == "settling")
        await rig.turn(1, 50)
        assert items(rig) == {}
        for r in rig.records("hold.commands"):
            headers = dict(r.headers)
            name = json.loads(r.value)["name"]
            reply = nested.Held(name=name) if name == "a-1" else nested.Denied(name=name, reason="no")
            await answer(rig, client, headers, reply)
        await rig.until(lambda: len(rig.records("hold.commands")) == 3)
        [undo] = [r for r in rig.records("hold.commands") if dict(r.headers)["ce_type"] == b"Free"]
        assert json.loads(undo.value) == {"name": "a-1"} and dict(undo.headers)["ce_type"] == b"Free"
        await answer(rig, client, dict(undo.headers), nested.Freed(name="a-1"))
        await ended(rig, "holds/a", "compensated")


async def test_a_late_reply_to_an_item_that_is_gone_is_heard_by_its_caller() -> None:
    async with stage() as (rig, client):
        await client.start("holds", Order(id="a", parts=[1]))
        await rig.until(lambda: rig.status("holds/a") == "settling", ms=100)
        await rig.turn(1, 50)
        assert items(rig) == {}
        [command] = rig.records("hold.commands")
        await answer(rig, client, dict(command.headers), nested.Held(name="a-1"))
        await rig.until(lambda: len(rig.records("hold.commands")) == 2)


async def answer(rig: Rig, client: Client, headers: dict[str, bytes], event: Any) -> None:
    """What a service says to a command."""
    from contrapas.core.lane import Draft

    name = type(event).__name__.encode()
    said = (
        ("ce_id", headers["ce_id"] + b"!"), ("ce_source", b"/desk"), ("ce_type", name), ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"), ("ce_correlationid", headers["ce_correlationid"]),
        ("cp-in-reply-to", headers["ce_id"]), ("cp-kind", b"reply"),
    )  # fmt: skip
    await rig.workers[-1].log.publish(
        [Draft("hold.events", -1, event.name.encode(), event.model_dump_json().encode(), said, "")]
    )


async def test_an_item_with_a_bug_parks_alone_and_the_caller_waits_for_it() -> None:
    async with stage() as (rig, client):
        await client.start("rudely", Order(id="a", parts=[1, 2]))
        await rig.until(lambda: len(items(rig)) == 2 and rig.status(sorted(items(rig))[1]) == "done")
        parked, _ = sorted(items(rig))
        assert rig.status(parked) == "parked" and newest(rig, parked).parked.code == "CP847"
        assert rig.status("rudely/a") == "running"
        nested.RUDE.clear()
        await client.operate(parked, "retry")
        await ended(rig, "rudely/a")
        assert outcome(rig, "rudely/a")["prices"] == [1, 2]


async def test_an_item_that_waits_for_an_event_of_the_callers_key_parks_with_the_reason() -> None:
    async with stage() as (rig, client):
        await client.start("rudest", Order(id="a", parts=[1]))
        await rig.until(lambda: len(items(rig)) == 1)
        [name] = items(rig)
        await rig.until(lambda: rig.status(name) == "parked")
        assert newest(rig, name).parked.code == "CP127"
        await client.operate("rudest/a", "cancel")
        await rig.until(lambda: rig.status("rudest/a") == "failed")


async def test_an_undo_of_the_map_is_run_after_what_the_item_did_is_taken_back() -> None:
    SECOND[2] = [StepFailed("no price")]
    async with stage() as (rig, client):
        await client.start("tidied", Order(id="a", parts=[1, 2, 3]))
        await ended(rig, "tidied/a", "compensated")
        assert sorted(d for d in DID if "drop" in d or "tidy" in d) == [
            "drop 1", "drop 2", "drop 3", "tidy 10", "tidy 30",
        ]  # fmt: skip
        assert DID.index("drop 1") < DID.index("tidy 10") and DID.index("drop 3") < DID.index("tidy 30")
