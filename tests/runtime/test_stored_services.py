"""Services on a store: one transaction for each delivery, answered again from the inbox, over every store there is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest

from contrapas import failpoints
from contrapas.author.service import Delivery, Depends, Service
from contrapas.errors import DataError
from contrapas.errors import Refused as Refusal
from contrapas.participant.rows import derived_id
from contrapas.runtime.definition import Definition
from contrapas.testing.conformance_store import Noted
from tests.runtime.machines import Began, Done, Go, Pay, Refused, definition_of, world_of
from tests.runtime.rig import Rig, kill_at, rig_of
from tests.runtime.stores import STORES, Effects, Held, command, dead, heads, letters, quiet, started, until

STORE = Held()
REPLY = derived_id("bank/pay/c1#0").encode()
Db = Annotated[Any, Depends(STORE.session)]


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    yield
    failpoints.disarm()


@pytest.fixture(params=sorted(STORES))
async def bench(request: pytest.FixtureRequest) -> AsyncGenerator[Any]:
    async with STORES[request.param]() as made:
        STORE.inner = await made.open()
        yield made
    STORE.inner = None


@pytest.fixture
def effects(bench: Any) -> Effects:
    return Effects(bench)


def bank(effects: Effects, fails: list[Any] | None = None, **more: Any) -> Definition:
    """Pays, unless told to fail."""
    service = Service("bank", store=STORE)

    @service.on(Pay)
    async def pay(c: Pay, db: Db, d: Delivery) -> Done | Refused:
        await effects.add(db, c.id)
        if d.undoes:
            await effects.add(db, f"{c.id} undone {d.happened}")
        if fails:
            raise fails.pop(0)
        return Done(id=c.id) if len(effects.tried) == 1 else Refused(id=c.id)

    return definition_of(services=(service,), **more)


@asynccontextmanager
async def running(definition: Definition, *, partitions: int = 1) -> AsyncGenerator[Rig]:
    async with rig_of(definition, world_of("wait"), partitions=partitions) as rig:
        await started(rig)
        yield rig


async def test_a_reply_its_business_row_and_its_inbox_row_are_one_commit(effects: Effects) -> None:
    async with running(bank(effects)) as rig:
        await rig.log.publish([command("pay/c1")])
        await until(rig, lambda: len(heads(rig, "pay.events")) == 1)
        (head,) = heads(rig, "pay.events")
        assert (head["cp-in-reply-to"], head["cp-run"], head["cp-outcome"]) == (b"pay/c1", b"r1", b"ok")
        assert (head["ce_id"], head["ce_type"]) == (REPLY, b"Done")
        assert (head["ce_source"], head["ce_correlationid"]) == (b"/services/t/bank", b"pay/a")
        (record,) = rig.records("pay.events")
        assert record.key == b"a" and json.loads(record.value) == {"id": "a"}
        assert await effects.count("a") == 1
        status = await STORE.status()
        assert status.inbox == 1


async def test_b_29_i_24_a_command_that_comes_again_is_answered_by_any_worker_with_the_first_reply(
    bench: Any,
    effects: Effects,
) -> None:
    async with running(bank(effects)) as rig:
        await rig.log.publish([command("pay/c1"), command("pay/c1", cp_attempt="2")])
        await until(rig, lambda: len(heads(rig, "pay.events")) == 2)
        await rig.kill()
        await bench.depose(STORE.inner)
        await started(rig)
        await rig.log.publish([command("pay/c1", cp_attempt="3")])
        await until(rig, lambda: len(heads(rig, "pay.events")) >= 3)
        found = {(h["ce_id"], h["ce_type"], h["cp-in-reply-to"]) for h in heads(rig, "pay.events")}
        assert found == {(REPLY, b"Done", b"pay/c1")}
        assert len({r.value for r in rig.records("pay.events")}) == 1, "other bytes under the same id"
        assert effects.tried == ["a"] and letters(rig) == []


async def test_b_30_i_24_the_same_id_with_other_bytes_is_a_dead_letter_with_both_hashes(
    effects: Effects,
) -> None:
    async with running(bank(effects)) as rig:
        await rig.log.publish(
            [command("pay/c1"), command("pay/c1", value=b'{"id":"a","more":1}'), command("pay/c2")]
        )
        await until(rig, lambda: len(heads(rig, "pay.events")) == 2)
        (head,) = letters(rig)
        assert head["cp-dlq-reason"] == b"CP412" and head["cp-dlq-error"].count(b"sha-256") >= 1, head
        assert [r.value for r in rig.records("t.dlq") if b"CP412" in dict(r.headers).values()] == [
            b'{"id":"a","more":1}'
        ]
        assert effects.tried == ["a", "a"]


async def test_i_25_the_same_id_of_another_saga_and_for_another_service_is_another(effects: Effects) -> None:
    definition = bank(effects)
    other = Service("stock", store=STORE)

    @other.on(Go)
    async def go(e: Go, db: Db) -> Began:
        await effects.add(db, f"go {e.id}")
        return Began(id=e.id, n=1)

    definition = definition_of(services=(*definition.services, other))
    async with running(definition) as rig:
        go_event = command("pay/c1", type_name="Go", topic="seq.events", cp_kind="event")
        await rig.log.publish(
            [command("pay/c1"), command("pay/c1", ce_source="/contrapas/t/other"), go_event]
        )
        await until(rig, lambda: len(heads(rig, "pay.events")) == 2)
        await until(rig, lambda: len(heads(rig, "seq.events")) >= 2)
        assert sorted(effects.tried) == ["a", "a", "go a"]
        assert len({h["ce_id"] for h in heads(rig, "pay.events")}) == 2, "two replies under one id"


async def test_a_failure_is_rolled_back_and_tried_again(effects: Effects) -> None:
    async with running(bank(effects, [ValueError("no"), ValueError("no")])) as rig:
        await rig.log.publish([command("pay/c1")])
        await until(rig, lambda: len(heads(rig, "pay.events")) == 1)
        assert (len(effects.tried), await effects.count("a")) == (3, 1)


async def test_a_cancellation_out_of_the_reaction_itself_is_a_failure_and_holds_nothing_up(
    effects: Effects,
) -> None:
    fails = [asyncio.CancelledError()]
    async with running(bank(effects, fails)) as rig:
        await rig.log.publish([command("pay/c1"), command("pay/c2")])
        await until(rig, lambda: len(heads(rig, "pay.events")) == 2)
        assert effects.tried == ["a", "a", "a"] and letters(rig) == []


async def test_what_keeps_failing_is_a_dead_letter_and_an_unknown_outcome_and_may_be_tried_again(
    effects: Effects,
) -> None:
    async with running(bank(effects, [ValueError(f"no {n}") for n in range(5)])) as rig:
        await rig.log.publish([command("pay/c1")])
        await until(rig, lambda: len(heads(rig, "pay.events")) == 1, ms=20)
        (letter,), (answer,) = letters(rig), heads(rig, "pay.events")
        assert (letter["cp-dlq-reason"], letter["cp-dlq-attempts"]) == (b"CP841", b"5")
        assert b"ValueError: no 4" in letter["cp-dlq-error"] and answer["cp-outcome"] == b"error"
        assert (await effects.count("a"), (await STORE.status()).inbox) == (0, 0)
        await rig.log.publish([command("pay/c1", cp_attempt="2")])
        await until(rig, lambda: len(heads(rig, "pay.events")) == 2)
        assert heads(rig, "pay.events")[1]["cp-outcome"] == b"declined"
        assert await effects.count("a") == 1


PLACES = ("delivery.begun", "delivery.handled", "delivery.finished", "delivery.committed")


@pytest.mark.parametrize("place", PLACES)
async def test_i_20_a_crash_at_any_point_leaves_exactly_one_effect_and_one_reply(
    bench: Any, effects: Effects, place: str
) -> None:
    async with running(bank(effects)) as rig:
        kill_at(place)
        await rig.log.publish([command("pay/c1")])
        await dead(rig)
        await bench.depose(STORE.inner)
        await started(rig)
        await until(rig, lambda: len(heads(rig, "pay.events")) >= 1)
        await quiet(rig)
        assert await effects.count("a") == 1
        assert {h["ce_id"] for h in heads(rig, "pay.events")} == {REPLY}
        assert letters(rig) == []
        await until(rig, lambda: list(rig.log.store.saved["t.service.bank"].values()) == [1], ms=50)


async def test_i_28_an_undo_that_overtakes_its_command_wins_and_the_late_command_answers_nothing(
    effects: Effects,
) -> None:
    async with running(bank(effects)) as rig:
        await rig.log.publish([command("pay/u1", cp_undoes="pay/c1")])
        await until(rig, lambda: len(heads(rig, "pay.events")) == 1)
        await rig.log.publish(
            [command("pay/c1"), command("pay/c1", value=b'{"id":"a","x":1}'), command("pay/c2", cp_undoes="")]
        )
        await until(rig, lambda: len(heads(rig, "pay.events")) == 2)
        assert effects.tried == ["a", "a undone False", "a"]
        assert [h["cp-in-reply-to"] for h in heads(rig, "pay.events")] == [b"pay/u1", b"pay/c2"]
        assert letters(rig) == []


async def test_i_28_an_undo_after_its_command_is_told_that_it_happened(effects: Effects) -> None:
    async with running(bank(effects)) as rig:
        await rig.log.publish([command("pay/c1"), command("pay/u1", cp_undoes="pay/c1")])
        await until(rig, lambda: len(heads(rig, "pay.events")) == 2)
        assert effects.tried == ["a", "a", "a undone True"]


async def test_deliveries_of_one_key_run_in_order(effects: Effects) -> None:
    async with running(bank(effects)) as rig:
        names = [f"c{n}" for n in range(12)]
        await rig.log.publish(
            [command(n, "ab"[i % 2], b'{"id":"%s"}' % n.encode()) for i, n in enumerate(names)]
        )
        await until(rig, lambda: len(heads(rig, "pay.events")) == 12)
        for parity in (0, 1):
            assert [t for t in effects.tried if int(t[1:]) % 2 == parity] == names[parity::2]


async def test_business_code_s_events_are_sent_with_the_reaction_s(effects: Effects) -> None:
    service = Service("bank", store=STORE)

    @service.on(Pay)
    async def pay(c: Pay, db: Db) -> Done | Refused:
        await STORE.publish(db, Noted(key=c.id, n=1))
        return Done(id=c.id)

    async with running(definition_of(services=(service,))) as rig:
        rig.log.store.create_topics({"store.notes": 1})
        await rig.log.publish([command("pay/c1")])
        await until(rig, lambda: len(heads(rig, "store.notes")) == 1 and len(heads(rig, "pay.events")) == 1)
        assert heads(rig, "store.notes")[0]["ce_source"] == b"/services/bank"


async def test_a_plain_function_has_the_session_too(effects: Effects, bench: Any) -> None:
    service = Service("bank", store=STORE)
    seen: list[Any] = []

    @service.on(Pay)
    def pay(c: Pay, db: Db, d: Delivery) -> Done | Refused:
        seen.append((db, STORE.session()))
        return Done(id=c.id)

    async with running(definition_of(services=(service,))) as rig:
        await rig.log.publish([command("pay/c1")])
        await until(rig, lambda: len(heads(rig, "pay.events")) == 1)
        assert seen[0][0] is seen[0][1]


async def test_i_23_a_duplicate_that_outlived_the_inbox_is_refused_not_applied(
    effects: Effects, bench: Any
) -> None:
    from contrapas.core.messages import time_text

    async with running(bank(effects)) as rig:
        made = time_text(rig.clock()).decode()
        await rig.log.publish([command("pay/c1", ce_time=made)])
        await until(rig, lambda: len(heads(rig, "pay.events")) == 1)
        days = 31 * 86_400_000
        await bench.age(days)
        rig.clock.advance(days)
        assert (await STORE.prune(budget_ms=5_000))[1] == 1
        await rig.log.publish([command("pay/c1", ce_time=made)])
        await until(rig, lambda: len(letters(rig)) == 1)
        (letter,) = letters(rig)
        assert letter["cp-dlq-reason"] == b"CP805" and b"31 days" in letter["cp-dlq-error"]
        assert effects.tried == ["a"]


async def test_a_reaction_that_takes_another_store_s_session_is_refused_at_the_start(
    effects: Effects,
) -> None:
    for store in (None, Held()):
        if store is not None:
            store.inner = STORE.inner
        service = Service("bank", store=store)

        @service.on(Pay)
        async def pay(c: Pay, db: Db) -> Done | Refused:
            return Done(id=c.id)

        with pytest.raises(DataError, match="session of the store") as said:
            async with rig_of(definition_of(services=(service,)), world_of("wait")) as rig:
                await started(rig)
        assert said.value.code == "CP850"


async def test_b_56_an_inbox_that_remembers_less_than_an_outage_is_refused_with_the_sum(
    effects: Effects,
) -> None:
    STORE.inner.inbox_ms = 86_400_000
    async with rig_of(bank(effects), world_of("wait")) as rig:
        await started(rig)
        with pytest.raises(Refusal) as said:
            await rig.tasks[0]
        assert said.value.code == "CP805"
        assert "remembers 1d" in said.value.text and "7d" in said.value.text and "retries" in said.value.text
    async with rig_of(bank(effects, outage_ms=3_600_000), world_of("wait")) as rig:
        await started(rig)
        assert not rig.tasks[0].done()


async def test_b_56_i_23_what_is_to_be_read_again_must_be_younger_than_the_inbox_remembers(
    effects: Effects,
) -> None:
    async with running(bank(effects)) as rig:
        await rig.log.publish([command("pay/c1")])
        await until(rig, lambda: list(rig.log.store.saved.get("t.service.bank", {}).values()) == [1], ms=50)
        await rig.log.publish([command("pay/c2")])
        await until(rig, lambda: len(heads(rig, "pay.events")) == 2)
        await rig.kill()
        source = next(iter(rig.log.store.saved["t.service.bank"]))
        rig.log.store.saved["t.service.bank"][source] = 1
        rig.clock.advance(40 * 86_400_000)
        await rig.log.publish([command("pay/c3")])
        await started(rig)
        await until(rig, lambda: rig.tasks[-1].done())
        with pytest.raises(Refusal) as said:
            await rig.tasks[-1]
        assert (
            said.value.code == "CP805" and "pay.commands/0@1" in said.value.text and "40d" in said.value.text
        )


async def test_a_database_without_our_tables_keeps_the_worker_from_starting() -> None:
    for make in STORES.values():
        async with make() as bench:
            STORE.inner = await bench.bare()
            async with rig_of(bank(Effects(bench)), world_of("wait")) as rig:
                await started(rig)
                with pytest.raises(Refusal) as said:
                    await rig.tasks[0]
                assert said.value.code == "CP514" and said.value.fix


# ---- a database that fails: the twin in memory has the levers


@pytest.fixture
async def memory() -> AsyncGenerator[Any]:
    async with STORES["memory"]() as made:
        STORE.inner = await made.open()
        yield made


@pytest.mark.parametrize("trouble", ["down", "read_only"])
async def test_a_database_that_is_down_or_read_only_makes_deliveries_wait_and_kills_none(
    memory: Any, trouble: str
) -> None:
    effects = Effects(memory)
    async with running(bank(effects)) as rig:
        setattr(memory.database, trouble, True)
        await rig.log.publish([command(f"c{n}", f"k{n}", b'{"id":"k%d"}' % n) for n in range(4)])
        worker = rig.workers[-1]
        await until(rig, lambda: worker.health().colour == "red")
        await quiet(rig, ms=60_000)
        (reason, *_) = [r for r in worker.health().reasons if r.startswith("service bank")]
        assert ("CP501" if trouble == "down" else "CP514") in reason and "4 deliveries" in reason
        assert letters(rig) == [] and effects.tried == []
        assert set(rig.log.store.saved.get("t.service.bank", {}).values()) <= {0}
        setattr(memory.database, trouble, False)
        await until(rig, lambda: len(heads(rig, "pay.events")) == 4, ms=20)
        assert worker.services[0].troubles == {} and sorted(effects.tried) == [f"k{n}" for n in range(4)]


async def test_while_the_database_is_down_nothing_more_is_read(memory: Any) -> None:
    effects = Effects(memory)
    async with running(bank(effects)) as rig:
        memory.database.down = True
        await rig.log.publish([command("c0", "k0")])
        await until(rig, lambda: bool(rig.workers[-1].services[0].troubles))
        await rig.log.publish([command(f"d{n}", f"x{n}") for n in range(200)])
        await quiet(rig, ms=5_000)
        assert len(rig.workers[-1].services[0].troubles) <= 129
        memory.database.down = False
        await until(rig, lambda: len(heads(rig, "pay.events")) == 201, ms=20)


async def test_what_still_waits_for_its_database_when_its_worker_ends_is_given_up_to_the_next(
    memory: Any,
) -> None:
    effects = Effects(memory)
    async with running(bank(effects)) as rig:
        memory.database.down = True
        await rig.log.publish([command("pay/c1")])
        await until(rig, lambda: bool(rig.workers[-1].services[0].troubles))
        stop = asyncio.create_task(rig.workers[-1].stop(500))
        await until(rig, lambda: stop.done() and rig.tasks[-1].done())
        memory.database.down = False
        await quiet(rig, ms=30_000)
        assert effects.tried == [], "a worker that has ended handles no more"
        assert set(rig.log.store.saved.get("t.service.bank", {}).values()) <= {0}
        await memory.depose(STORE.inner)  # its relay could not give the outbox up
        await started(rig)
        await until(rig, lambda: len(heads(rig, "pay.events")) == 1)
        assert effects.tried == ["a"] and letters(rig) == []


async def test_a_database_that_dies_under_the_last_attempt_is_no_fault_of_the_delivery(memory: Any) -> None:
    effects = Effects(memory)
    count = 0
    service = Service("bank", store=STORE)

    @service.on(Pay)
    async def pay(c: Pay, db: Db) -> Done | Refused:
        nonlocal count
        count += 1
        if count <= 5:
            memory.database.down = count == 5
            raise OSError("the connection is gone")
        return Done(id=c.id)

    async with running(definition_of(services=(service,))) as rig:
        await rig.log.publish([command("pay/c1")])
        await until(rig, lambda: count == 5, ms=10)
        await quiet(rig, ms=10_000)
        assert letters(rig) == []
        memory.database.down = False
        await until(rig, lambda: len(heads(rig, "pay.events")) == 1, ms=20)
        assert letters(rig) == [] and effects.tried == []


@pytest.mark.parametrize("kind", ["lost-before", "lost-after"])
async def test_a_commit_without_an_answer_is_asked_for_and_takes_effect_once(memory: Any, kind: str) -> None:
    effects = Effects(memory)
    async with running(bank(effects)) as rig:
        memory.fault("commit", kind)
        await rig.log.publish([command("pay/c1")])
        await until(rig, lambda: len(heads(rig, "pay.events")) >= 1)
        await quiet(rig)
        assert await effects.count("a") == 1 and letters(rig) == []
        assert {h["ce_id"] for h in heads(rig, "pay.events")} == {REPLY}


async def test_different_keys_run_beside_each_other(memory: Any) -> None:
    gates = {"a": asyncio.Event(), "b": asyncio.Event()}
    service = Service("bank", store=STORE)
    seen: list[str] = []

    @service.on(Pay)
    async def pay(c: Pay, db: Db) -> Done | Refused:
        seen.append(f"+{c.id}")
        await gates[c.id].wait()
        seen.append(f"-{c.id}")
        return Done(id=c.id)

    async with running(definition_of(services=(service,))) as rig:
        await rig.log.publish([command("a1"), command("a2"), command("b1", "b", b'{"id":"b"}')])
        await until(rig, lambda: seen == ["+a", "+b"])
        gates["b"].set()
        await until(rig, lambda: seen == ["+a", "+b", "-b"])
        await quiet(rig, ms=1_000)
        assert list(rig.log.store.saved["t.service.bank"].values()) == [0]
        gates["a"].set()
        await until(rig, lambda: list(rig.log.store.saved["t.service.bank"].values()) == [3], ms=50)
        assert seen == ["+a", "+b", "-b", "-a", "+a", "-a"]
