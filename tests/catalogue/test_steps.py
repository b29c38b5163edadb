"""Rows of the catalogue about steps and handlers: what they raise, return, break and never do."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from contrapas import failpoints
from contrapas.author.service import Service
from contrapas.core.envelope import InstanceRecord
from contrapas.runtime.engine import Engine
from contrapas.runtime.watchdog import Watchdog
from contrapas.runtime.worker import Health
from tests.catalogue import faulty
from tests.catalogue.desk import Desk, Opened, definition_of, desk
from tests.catalogue.faulty import CALLS, SHARED, Declined, Paid, Pay
from tests.runtime.rig import kill_at


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    CALLS.clear()
    SHARED.clear()
    yield
    failpoints.disarm()


async def begun(d: Desk, saga: Any) -> str:
    await d.client.start(saga.name, Opened(id="k-1", cents=1))
    return f"{saga.name}/k-1"


async def until(d: Desk, instance: str, status: str, *, ms: float = 50) -> InstanceRecord:
    """The record of an instance, once it has that status."""
    await d.rig.until(lambda: d.rig.status(instance) == status, ms=ms)
    record = d.record(instance)
    assert record is not None
    return record


def by(record: InstanceRecord) -> str:
    return str(json.loads(record.outcome_body)["by"])


# ---- B-38 raises


async def test_b38_a_step_that_raises_is_tried_again_then_fails_the_saga_s_step() -> None:
    async with desk(faulty.survives) as d:
        instance = await begun(d, faulty.survives)
        record = await until(d, instance, "done")
        assert CALLS == ["breaks"] * 3
        assert by(record) == "True ValueError: no luck with k-1"
        assert "CP841" in record.cause.note
        assert d.dead() == []


@pytest.mark.parametrize(
    ("saga", "words"),
    [
        (faulty.raises_much, "ValueError: too long"),
        (faulty.raises_without_words, "Mute"),
        (faulty.raises_cancelled, "Cancelled"),
    ],
)
async def test_b38_whatever_a_step_raises_is_its_outcome_and_small(saga: Any, words: str) -> None:
    async with desk(saga) as d:
        instance = await begun(d, saga)
        record = await until(d, instance, "done", ms=500)
        assert words in by(record)
        assert max(len(r.value) for r in d.rig.records()) < 100_000


async def test_b38_an_undo_that_keeps_failing_parks_and_is_never_called_compensated() -> None:
    async with desk(faulty.unwinds_badly) as d:
        instance = await begun(d, faulty.unwinds_badly)
        await until(d, instance, "waiting")
        await d.put(b'{"id":"k-1","reason":"limit"}', type="Declined", to="pay.events")
        record = await until(d, instance, "parked")
        assert record.parked is not None
        assert (record.parked.code, CALLS) == ("CP845", ["book", "take_back", "take_back"])
        assert "the other side is closed" in record.parked.error
        assert [entry.status for entry in record.root.undo] == ["stuck"]


async def test_b38_a_bug_in_the_saga_parks_it_with_its_event_and_undoes_nothing() -> None:
    async with desk(faulty.has_a_bug) as d:
        instance = await begun(d, faulty.has_a_bug)
        before = await until(d, instance, "waiting")
        value = b'{"id":"k-1","ref":"unknown"}'
        await d.put(value, type="Paid", to="pay.events")
        record = await until(d, instance, "parked")
        assert record.parked is not None
        assert record.parked.input is not None
        assert (record.parked.code, record.parked.input.value) == ("CP847", value)
        assert "KeyError" in record.parked.error
        assert "faulty.py" in record.parked.trace
        assert [e.status for e in record.root.undo] == [e.status for e in before.root.undo] == ["done"]
        assert CALLS == ["book"]
        assert d.worker.counts().parked == 1


async def test_b38_a_reaction_that_keeps_raising_leaves_a_dead_letter_and_an_unknown_outcome() -> None:
    service = Service("pay")

    @service.on(Pay)
    async def pay(c: Pay) -> Paid | Declined:
        CALLS.append("pay")
        raise OSError("the bank is closed")

    async with desk(faulty.survives, services=(service,)) as d:
        await d.put(b'{"id":"k-1"}', type="Pay", to="pay.commands", headers=(("cp-kind", b"command"),))
        await d.rig.until(lambda: bool(d.dead()), ms=100)
        (letter,) = d.dead()
        assert (letter.code, letter.value, letter.context["cp-dlq-attempts"]) == (
            "CP841",
            b'{"id":"k-1"}',
            "5",
        )
        assert "the bank is closed" in letter.error
        assert CALLS == ["pay"] * 5


# ---- B-39 never returns


async def test_b39_a_step_that_never_returns_ends_at_its_time_and_its_outcome_is_unknown() -> None:
    async with desk(faulty.waits_in_vain) as d:
        instance = await begun(d, faulty.waits_in_vain)
        await d.rig.until(lambda: CALLS == ["sleeps"])
        await d.rig.turn(9_000)
        await d.rig.turn(1, 20)
        assert d.rig.status(instance) == "running"
        record = await until(d, instance, "done", ms=500)
        assert CALLS == ["sleeps"] * 2
        assert by(record).startswith("True TimeoutError: sleeps took longer than 10 s (CP842)")


# ---- B-40 returns what cannot be kept


@pytest.mark.parametrize(
    ("saga", "words"),
    [
        (faulty.takes_too_much, "10000002 bytes"),
        (faulty.takes_a_generator, "generator"),
        (faulty.takes_a_file, "TextIOWrapper"),
    ],
)
async def test_b40_a_result_that_cannot_be_kept_parks_its_instance(saga: Any, words: str) -> None:
    async with desk(saga) as d:
        instance = await begun(d, saga)
        record = await until(d, instance, "parked")
        assert record.parked is not None
        assert record.parked.code == "CP843"
        assert words in record.parked.error


@pytest.mark.parametrize(("saga", "code"), [(faulty.grows, "CP846"), (faulty.emits_too_much, "CP409")])
async def test_b24_an_instance_that_grows_past_the_limit_parks_as_it_was_before(saga: Any, code: str) -> None:
    async with desk(saga) as d:
        instance = await begun(d, saga)
        record = await until(d, instance, "parked")
        assert record.parked is not None
        assert record.parked.code == code
        assert "900000" in record.parked.error
        assert record.root.frames[0].slots
        assert max(len(r.value) for r in d.rig.records()) <= 900_000


async def test_b24_a_reaction_that_returns_too_much_leaves_a_dead_letter_and_goes_on() -> None:
    service = Service("pay")

    @service.on(Pay)
    async def pay(c: Pay) -> Paid | Declined:
        CALLS.append(c.id)
        return Paid(id=c.id, ref="x" * (950_000 if c.id == "k-1" else 1))

    async with desk(faulty.survives, services=(service,)) as d:
        for id in ("k-1", "k-2"):
            await d.put(b'{"id":"%s"}' % id.encode(), key=id.encode(), type="Pay", id=id, to="pay.commands")
        await d.rig.until(lambda: len(d.rig.records("pay.events")) == 2)
        (letter,) = d.dead()
        assert (letter.code, letter.value, CALLS) == ("CP409", b'{"id":"k-1"}', ["k-1", "k-2"])


async def test_b27_an_empty_value_is_counted_by_a_service_too() -> None:
    service = Service("pay")

    @service.on(Pay)
    async def pay(c: Pay) -> Paid | Declined:
        CALLS.append(c.id)
        return Paid(id=c.id, ref="r")

    async with desk(faulty.survives, services=(service,)) as d:
        await d.put(None, type="Pay", to="pay.commands")
        await d.put(b'{"id":"k-1"}', type="Pay", id="e-2", to="pay.commands")
        await d.rig.until(lambda: CALLS == ["k-1"])
        await d.settle()
        assert d.dead() == []
        assert d.worker.counts().skipped == 1


async def test_b36_a_service_takes_no_message_with_broken_headers() -> None:
    service = Service("pay")

    @service.on(Pay)
    async def pay(c: Pay) -> Paid | Declined:
        return Paid(id=c.id, ref="r")

    async with desk(faulty.survives, services=(service,)) as d:
        await d.put(b'{"id":"k-1"}', type="Pay", id="x" * 500_000, to="pay.commands")
        await d.put(b'{"id":"k-1"}', type="Pay", headers=(("traceparent", b"a\r\nb"),), to="pay.commands")
        await d.rig.until(lambda: len(d.dead()) == 2)
        assert [letter.code for letter in d.dead()] == ["CP416", "CP416"]


# ---- B-41 ends the process


async def test_b41_a_reaction_that_calls_exit_has_failed_and_ends_nothing() -> None:
    service = Service("pay")

    @service.on(Pay)
    async def pay(c: Pay) -> Paid | Declined:
        raise SystemExit(0)

    async with desk(faulty.survives, services=(service,)) as d:
        await d.put(b'{"id":"k-1"}', type="Pay", to="pay.commands")
        await d.rig.until(lambda: bool(d.dead()), ms=100)
        assert d.dead()[0].code == "CP841"


# ---- B-42, B-43 what a step changes, and what comes out differently


async def test_b42_each_attempt_gets_a_fresh_copy_and_the_saga_keeps_its_own() -> None:
    async with desk(faulty.keeps_its_own) as d:
        instance = await begun(d, faulty.keeps_its_own)
        record = await until(d, instance, "done")
        assert CALLS == ["spoils ['a']", "spoils ['a']"]
        assert by(record) == "['a'] 2"


async def test_b43_a_transition_computed_again_may_differ_from_the_one_that_was_lost() -> None:
    async with desk(faulty.rolls_dice, fence="order") as d:
        kill_at("commit.before")
        instance = await begun(d, faulty.rolls_dice)
        await d.rig.killed()
        assert CALLS == []
        d.worker = await d.rig.worker()
        d.client = d.rig.client()
        record = await until(d, instance, "done")
        assert by(record) == "True"
        assert len(CALLS) == 1
        assert d.dead() == []


# ---- B-34 late replies


async def test_b34_a_late_reply_settles_the_undo_of_its_step_and_revives_nothing() -> None:
    async with desk(faulty.gives_up_waiting) as d:
        instance = await begun(d, faulty.gives_up_waiting)
        await until(d, instance, "waiting")
        first = d.rig.records("pay.commands")[0]
        await d.rig.until(lambda: len(d.rig.records("pay.commands")) == 2, ms=500)
        before = d.record(instance)
        assert before is not None
        late = (("cp-in-reply-to", dict(first.headers)["ce_id"]), ("ce_correlationid", instance.encode()))
        await d.put(b'{"id":"k-1","ref":"r-1"}', type="Paid", headers=late, to="pay.events")
        await d.rig.until(lambda: len(d.rig.records("pay.commands")) == 3)
        record = d.record(instance)
        assert record is not None
        assert "late reply" in record.cause.note
        assert record.state == before.state
        refund = d.rig.records("pay.commands")[2]
        assert json.loads(refund.value) == {"id": "k-1", "ref": "r-1"}
        await d.put(b'{"id":"k-1"}', type="Refunded", id="e-2", to="pay.events")
        record = await until(d, instance, "compensated", ms=500)
        assert by(record) == "True again"
        await d.put(b'{"id":"k-1","ref":"r-2"}', type="Paid", id="e-3", headers=late, to="pay.events")
        await d.settle()
        record = d.record(instance)
        assert record is not None
        assert (record.status, record.cause.note) == ("compensated", "no-op: finished")
        assert d.dead() == []


# ---- B-39 blocks the loop


async def beats(watchdog: Watchdog) -> None:
    """Wait for the loop to have come round, so that nothing before it counts as standing still."""
    beaten = watchdog._beaten  # pyright: ignore[reportPrivateUsage]
    while watchdog._beaten == beaten:  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0)


def test_b39_a_step_that_blocks_the_loop_is_named_and_turns_health_amber_then_red(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.WARNING, "contrapas.runtime")
    seen: list[Health] = []

    async def run(red_s: float) -> None:
        async with Engine.opened(
            definition_of(faulty.holds_the_loop), f"sqlite:///{tmp_path}/d.db"
        ) as engine:
            engine.worker.watchdog = Watchdog(beat_s=0.02, blocked_s=0.1, red_s=red_s)
            async with engine.working(1000) as worker:
                await beats(worker.watchdog)
                worker.watchdog.worst = None  # whatever the start of a busy machine took is no step's doing
                assert worker.health().colour == "green"
                key = f"k-{red_s}"
                await engine.client.start("holds_the_loop", Opened(id=key, cents=80))
                told = await engine.client.wait(f"holds_the_loop/{key}", timeout_ms=10_000)
                assert told.status == "done"
                seen.append(worker.health())

    asyncio.run(run(30))
    asyncio.run(run(0.2))
    assert [h.colour for h in seen] == ["amber", "red"]
    assert all("faulty.py:" in h.reasons[0] and "blocks()" in h.reasons[0] for h in seen)
    assert any("amber: faulty.py:" in r.getMessage() and "CP842" in r.getMessage() for r in caplog.records)
