"""Conformance of stores: a delivery is one transaction, and is handled once."""

from __future__ import annotations

import asyncio
from typing import Any

from contrapas.errors import Indeterminate, Refused, Retriable
from contrapas.participant import Receipt, Tx
from contrapas.testing.conformance_store import (
    Broke,
    Noted,
    StoreBench,
    case,
    deliver,
    message,
    puts,
    raises,
    receipt,
    relayed,
    seen,
    waits,
)

GROUP = "handler"


@case(GROUP)
async def a_delivery_is_handled_once_however_often_it_comes(bench: StoreBench) -> None:
    store, other = await bench.open(), await bench.open()
    assert await deliver(store, receipt(), puts(bench, "a", "1"), rows=[message("m1")]) is None
    for again in (store, other, store):
        known = await deliver(again, receipt(), puts(bench, "a", "2"), rows=[message("m2")])
        assert known is not None and known.outcome == "done", known
    assert await bench.get("a") == "1"
    assert [r.message.id for r in await relayed(other)] == [message("m1").id]


@case(GROUP)
async def the_reply_of_the_first_time_is_given_again(bench: StoreBench) -> None:
    store = await bench.open()
    texts: list[bytes | None] = [b'{"text":"\xc3\xa9\'\\"\\u0001"}', b"", None, b"x" * 100_000]
    for number, text in enumerate(texts):
        await deliver(store, receipt(f"c-{number}"), reply=text)
    for number, text in enumerate(texts):
        known = await deliver(store, receipt(f"c-{number}"))
        assert known is not None and known.reply == text and known.reply_type == "Charged"


@case(GROUP)
async def a_repeat_is_answered_by_the_same_row_written_once_more(bench: StoreBench) -> None:
    store = await bench.open()
    row = message("m1", payload=b'{"b":1,"a":[1.50,"x"]}')
    await deliver(store, receipt(), rows=[row])
    async with store.begin() as tx:
        known = await tx.take(receipt())
        assert known is not None
        await tx.finish(receipt(), reply=None, reply_type="", rows=[row])
    first, second = [r.message for r in await relayed(store)]
    assert first == second, "a repeat under the same id has other bytes"
    known = await deliver(store, receipt())
    assert known is not None and (known.reply, known.reply_type) == (b'{"ok":1}', "Charged")


@case(GROUP)
async def the_same_id_with_another_payload_is_told_by_the_first_digest(bench: StoreBench) -> None:
    store = await bench.open()
    await deliver(store, receipt(value=b"1"), puts(bench, "a", "1"))
    known = await deliver(store, receipt(value=b"2"), puts(bench, "a", "2"))
    assert known is not None and known.digest == receipt(value=b"1").digest != receipt(value=b"2").digest
    known = await deliver(store, receipt(value=b"1"))
    assert known is not None and known.digest == receipt(value=b"1").digest
    assert await bench.get("a") == "1"


@case(GROUP)
async def a_failure_is_rolled_back_whole_and_passes_unchanged(bench: StoreBench) -> None:
    store = await bench.open()
    why = Broke("no")

    async def fails(tx: Tx[Any]) -> None:
        await bench.put(tx.session, "a", "1")
        raise why

    assert await raises(Broke, deliver(store, receipt(), fails, undoes="s-1")) is why

    async def late() -> None:
        async with store.begin() as tx:
            assert await tx.take(receipt()) is None
            await bench.put(tx.session, "a", "1")
            await tx.finish(receipt(), reply=b"1", reply_type="Charged", rows=[message("m1")])
            raise why

    assert await raises(Broke, late()) is why
    assert await bench.get("a") is None
    assert await relayed(store) == []
    assert await deliver(store, receipt("s-1")) is None, "the mark of an undo that failed stayed"
    assert await deliver(store, receipt(), puts(bench, "a", "2"), rows=[message("m2")]) is None
    assert (await bench.get("a"), len(await relayed(store))) == ("2", 1)


@case(GROUP)
async def nothing_is_seen_before_the_commit_and_all_of_it_afterwards(bench: StoreBench) -> None:
    store, other = await bench.open(), await bench.open()
    async with store.begin() as tx:
        await tx.take(receipt())
        await bench.put(tx.session, "a", "1")
        await tx.finish(receipt(), reply=None, reply_type="", rows=[message("m1"), message("m2")])
        assert await bench.get("a") is None
        assert await seen(other) == []
    assert await bench.get("a") == "1"
    assert [r.message.id for r in await relayed(other)] == [message("m1").id, message("m2").id]


@case(GROUP)
async def ids_are_of_one_namespace_consumer_and_source(bench: StoreBench) -> None:
    store = await bench.open()
    first = receipt()
    others = [first._replace(ns="bank"), first._replace(consumer="stock"), first._replace(source="/x")]
    for one in (first, *others):
        assert await deliver(store, one, undoes="s-1") is None, one
    assert await deliver(store, Receipt("elsewhere", *receipt("s-1")[1:])) is None


@case(GROUP)
async def of_two_at_once_the_second_waits_and_finds_what_the_first_left(bench: StoreBench) -> None:
    store, other = await bench.open(), await bench.open()
    gate = asyncio.Event()

    async def slow(tx: Tx[Any]) -> None:
        await bench.put(tx.session, "a", "1")
        gate.set()
        await waits(second)

    async def after() -> object:
        await gate.wait()
        return await deliver(other, receipt(), puts(bench, "a", "2"))

    second = asyncio.ensure_future(after())
    assert await deliver(store, receipt(), slow) is None
    known: Any = await asyncio.wait_for(second, 10)
    assert known is not None and known.reply == b'{"ok":1}' and await bench.get("a") == "1"


@case(GROUP)
async def where_the_first_of_two_fails_the_second_handles_it(bench: StoreBench) -> None:
    store, other = await bench.open(), await bench.open()
    gate = asyncio.Event()

    async def breaks(tx: Tx[Any]) -> None:
        await bench.put(tx.session, "a", "1")
        gate.set()
        await waits(second)
        raise Broke

    async def after() -> object:
        await gate.wait()
        return await deliver(other, receipt(), puts(bench, "b", "2"))

    second = asyncio.ensure_future(after())
    await raises(Broke, deliver(store, receipt(), breaks))
    assert await asyncio.wait_for(second, 10) is None
    assert (await bench.get("a"), await bench.get("b")) == (None, "2")


@case(GROUP, "parallel")
async def deliveries_with_different_ids_run_at_the_same_time(bench: StoreBench) -> None:
    stores = [await bench.open(), await bench.open()]
    inside = 0
    both = asyncio.Event()

    async def meet(tx: Tx[Any]) -> None:
        nonlocal inside
        inside += 1
        if inside == 4:
            both.set()
        await bench.put(tx.session, f"k{inside}", "1")
        await both.wait()

    work = [deliver(stores[n % 2], receipt(f"c-{n}"), meet) for n in range(4)]
    assert await asyncio.wait_for(asyncio.gather(*work), 10) == [None] * 4


@case(GROUP)
async def the_session_is_the_delivery_s_and_there_is_none_outside(bench: StoreBench) -> None:
    store = await bench.open()

    async def outside() -> None:
        store.session()

    await raises(Refused, outside(), "CP850")
    async with store.begin() as tx:
        assert store.session() is tx.session
        await tx.take(receipt())
        await bench.put(store.session(), "a", "1")
        await tx.finish(receipt(), reply=None, reply_type="", rows=[])
    await raises(Refused, outside(), "CP850")
    assert await bench.get("a") == "1"

    async def breaks(tx: Tx[Any]) -> None:
        raise Broke

    await raises(Broke, deliver(store, receipt("c-2"), breaks))
    await raises(Refused, outside(), "CP850")


@case(GROUP)
async def business_code_publishes_in_its_own_transaction(bench: StoreBench) -> None:
    store = await bench.open()
    store.source = "/services/shop/orders"

    async def broken() -> None:
        async with bench.transaction(store) as session:
            await bench.put(session, "a", "1")
            await store.publish(session, Noted(key="k", n=1))
            raise Broke

    await raises(Broke, broken())
    assert (await bench.get("a"), await relayed(store)) == (None, [])
    async with bench.transaction(store) as session:
        await bench.put(session, "a", "2")
        await store.publish(session, Noted(key="k", n=2), Noted(key="l", n=3))
        assert await seen(store) == []
    rows = [r.message for r in await relayed(store)]
    assert [(m.topic, m.key, m.type, m.payload, m.source) for m in rows] == [
        ("store.notes", "k", "Noted", rows[0].payload, "/services/shop/orders"),
        ("store.notes", "l", "Noted", rows[1].payload, "/services/shop/orders"),
    ]
    assert rows[0].id != rows[1].id
    assert [Noted.model_validate_json(m.payload).n for m in rows] == [2, 3]
    assert await bench.get("a") == "2"


@case(GROUP, "faults")
async def a_commit_without_an_answer_is_decided_by_the_inbox(bench: StoreBench) -> None:
    store = await bench.open()
    bench.fault("commit", "lost-after")
    await raises(Indeterminate, deliver(store, receipt("c-1"), puts(bench, "a", "1")))
    known = await deliver(store, receipt("c-1"), puts(bench, "a", "2"))
    assert known is not None and known.reply == b'{"ok":1}' and await bench.get("a") == "1"
    bench.fault("commit", "lost-before")
    await raises(Indeterminate, deliver(store, receipt("c-2"), puts(bench, "b", "1")))
    assert await bench.get("b") is None
    assert await deliver(store, receipt("c-2"), puts(bench, "b", "2")) is None
    assert await bench.get("b") == "2"


@case(GROUP, "faults")
async def a_call_that_fails_has_written_nothing(bench: StoreBench) -> None:
    store = await bench.open()
    for call in ("begin", "take", "finish", "commit"):
        bench.fault(call, "retriable")
        await raises(Retriable, deliver(store, receipt(), puts(bench, "a", call), rows=[message("m1")]))
        assert (await bench.get("a"), await relayed(store)) == (None, []), call
    bench.fault("take", "refused")
    await raises(Refused, deliver(store, receipt(), puts(bench, "a", "x")), "CP514")
    assert await deliver(store, receipt(), puts(bench, "a", "1")) is None


@case(GROUP, "kill")
async def a_crash_at_any_point_leaves_the_delivery_to_the_next(bench: StoreBench) -> None:
    other = await bench.open()
    for number, point in enumerate(("begun", "taken", "written", "finished", "committed")):
        store = await bench.open()
        r, key = receipt(f"c-{number}"), f"k{number}"
        running = asyncio.ensure_future(_dies(bench, store, r, key, point))
        await raises(Exception, asyncio.wait_for(running, 10))
        known = await asyncio.wait_for(deliver(other, r, puts(bench, key, "next")), 10)
        if point == "committed":
            assert known is not None and await bench.get(key) == "first"
        else:
            assert known is None and await bench.get(key) == "next", (point, known)


async def _dies(bench: StoreBench, store: Any, r: Receipt, key: str, point: str) -> None:
    async def reached(here: str) -> None:
        if here == point:
            await bench.kill(store)
            raise Broke(here)

    async with store.begin() as tx:
        await reached("begun")
        await tx.take(r)
        await reached("taken")
        await bench.put(tx.session, key, "first")
        await reached("written")
        await tx.finish(r, reply=b"1", reply_type="Charged", rows=[message(f"m-{key}")])
        await reached("finished")
    await reached("committed")
