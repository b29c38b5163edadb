"""Conformance of stores: what is kept, what is dropped, and what is said of both."""

from __future__ import annotations

from contrapas.errors import Refused
from contrapas.testing.conformance_store import (
    StoreBench,
    case,
    deliver,
    message,
    puts,
    raises,
    receipt,
    relayed,
)

GROUP = "keeping"
DAY_MS = 86_400_000


@case(GROUP, "clock")
async def what_is_younger_than_the_inbox_remembers_is_never_pruned(bench: StoreBench) -> None:
    store = await bench.open()
    await deliver(store, receipt(), puts(bench, "a", "1"))
    await bench.age(store.inbox_ms - DAY_MS)
    await deliver(store, receipt("c-2"))
    assert (await store.prune(budget_ms=5_000))[1] == 0
    assert await deliver(store, receipt(), puts(bench, "a", "2")) is not None
    await bench.age(2 * DAY_MS)
    assert (await store.prune(budget_ms=5_000))[1] == 1
    assert await deliver(store, receipt("c-2")) is not None
    assert await bench.get("a") == "1"


@case(GROUP, "clock")
async def a_row_that_was_not_acknowledged_is_never_pruned(bench: StoreBench) -> None:
    store = await bench.open()
    await deliver(store, receipt(), rows=[message(f"m{n}") for n in range(4)])
    await bench.age(3 * DAY_MS)
    await store.prune(budget_ms=5_000)
    rows = await relayed(store)
    assert len(rows) == 4
    claim = await store.outbox.claim("shop", "one")
    await store.outbox.advance("shop", claim.epoch, rows[1].seq)
    await store.prune(budget_ms=5_000)
    left = [r.message.id for r in await relayed(store)]
    assert left[-2:] == [message("m2").id, message("m3").id]
    await store.outbox.advance("shop", claim.epoch, rows[3].seq)
    await store.prune(budget_ms=5_000)
    await deliver(store, receipt("c-2"), rows=[message("m9")])
    upto = await store.outbox.upto(rows[3].seq, wait_ms=500)
    assert [r.message.id for r in await store.outbox.page(rows[3].seq, upto, 9)] == [message("m9").id]


@case(GROUP)
async def the_status_counts_what_waits_and_what_is_remembered(bench: StoreBench) -> None:
    store = await bench.open()
    empty = await store.status()
    assert (empty.version > 0, empty.outbox, empty.inbox, empty.oldest_ms) == (True, 0, 0, 0)
    await deliver(store, receipt(), rows=[message(f"m{n}") for n in range(4)])
    await deliver(store, receipt("c-2"), undoes="c-3")
    rows = await relayed(store)
    claim = await store.outbox.claim("shop", "one")
    await store.outbox.advance("shop", claim.epoch, rows[2].seq)
    found = await store.status()
    assert (found.outbox, found.inbox) == (1, 3), found
    assert found.relays["shop"] == (claim.epoch, rows[2].seq)


@case(GROUP)
async def preparing_again_and_examining_change_nothing(bench: StoreBench) -> None:
    store = await bench.open()
    await deliver(store, receipt(), rows=[message("m1")])
    await store.prepare()
    assert not [f for f in await store.examine() if f.refused]
    assert await deliver(store, receipt()) is not None
    assert len(await relayed(store)) == 1


@case(GROUP, "bare")
async def a_database_without_our_tables_is_refused_and_not_changed(bench: StoreBench) -> None:
    store = await bench.bare()
    found = [f for f in await store.examine() if f.refused]
    assert found and all(f.code == "CP514" and f.fix for f in found), found
    await raises(Refused, deliver(store, receipt()), "CP514")
    assert [f for f in await store.examine() if f.refused], "a table was made unasked"
    assert (await store.status()).version == 0
