"""Two releases on one SQLite file, one after the other: what goes on, what parks with CP312, what `migrate=` leads over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contrapas.core.envelope_avro import encode
from contrapas.errors import CompileError
from contrapas.machine.data import portable
from contrapas.runtime.graphs import APP, machine_of
from tests.versions.releases import Release, ended, history, lane


def saga(*lines: str, options: str = "", name: str = "main") -> str:
    """A module with `main`."""
    mark = f"@saga({options})" if options else "@saga"
    return f"{mark}\nasync def {name}(s: Saga, go: Go) -> Ended:\n" + "".join(
        f"    {line}\n" for line in lines
    )


FIRST = saga("x = go.n + 1", "await s.wait(Yes)", "return Ended(k=go.k, text=f'one {x}')")
GENTLE = saga("x = go.n + 1", "await s.wait(Yes)", "return Ended(k=go.k, text=f'two {x} {go.n}')")
HARSH = saga("y = go.n + 2", "await s.wait(Yes)", "return Ended(k=go.k, text=f'three {y}')")
GONE = saga("x = go.n + 1", "await s.wait(No)", "return Ended(k=go.k, text=f'four {x}')")


async def begun(path: Path, release: Release, key: str = "a", n: int = 7) -> None:
    async with release.running(path) as engine:
        await engine.client.start("main", release.Go(k=key, n=n), timeout_ms=5_000)


async def test_a_worker_writes_its_graph_once_and_it_reads_back_as_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    release = Release(FIRST)
    for _ in range(2):
        async with release.running(path):
            pass
    found = [r for r in await lane(path) if r.key.startswith(b"$graph/")]
    assert [r.key.decode() for r in found] == [f"$graph/{release.graph()}", APP]
    headers = dict(found[0].headers)
    assert (headers["cp-kind"], headers["cp-version"]) == (b"graph", b"1")
    again = machine_of(found[0].value or b"")
    assert again.edges
    assert portable(again) == again
    assert again.states == portable(release.world.machines["main"]).states
    assert json.loads(found[1].value or b"")["sagas"]["main"]["graph"] == release.graph()


async def test_a_compatible_instance_moves_when_it_is_next_touched(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    old = Release(FIRST)
    await begun(path, old)
    new = Release(GENTLE, old.lock)
    async with new.running(path) as engine:
        assert [r.version for r in await history(path, "main/a")] == [1]
        await engine.client.signal("main", "a", new.Yes(k="a"))
        told = await ended(engine, "main/a")
    assert (told.status, json.loads(told.outcome_body)["text"]) == ("done", "two 8 7")


async def test_what_cannot_go_on_parks_unchanged_and_goes_on_by_itself_under_the_old_release(
    tmp_path: Path,
) -> None:
    path = tmp_path / "shop.db"
    old = Release(FIRST)
    await begun(path, old)
    new = Release(HARSH, old.lock)
    async with new.running(path) as engine:
        await engine.client.signal("main", "a", new.Yes(k="a"))
        told = await engine.client.wait("main/a", timeout_ms=5_000)
        assert told.status == "parked"
    before, after = await history(path, "main/a")
    assert after.parked is not None
    assert (after.parked.code, after.parked.reason) == ("CP312", "version")
    assert "CP301 'y' is missing" in after.parked.error
    assert after.parked.input is not None
    assert after.parked.input.type == "Yes"
    assert after.root == before.root
    after.parked, after.status = None, before.status
    assert encode(after).count(b"main") == encode(before).count(b"main")
    async with old.running(path) as engine:
        told = await ended(engine, "main/a")
    assert (told.status, json.loads(told.outcome_body)["text"]) == ("done", "one 8")


async def test_rolling_back_is_safe_for_instances_that_moved_and_for_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    old = Release(
        saga(
            "x = go.n",
            "a = await s.wait(Yes)",
            "b = await s.wait(No)",
            "return Ended(k=go.k, text=f'one {x}')",
        )
    )
    await begun(path, old, "a")
    new = Release(
        saga(
            "x = go.n",
            "a = await s.wait(Yes)",
            "z = 5",
            "b = await s.wait(No)",
            "return Ended(k=go.k, text=f'two {x} {z}')",
        ),
        old.lock,
    )
    await begun(path, new, "b")
    async with new.running(path) as engine:
        await engine.client.signal("main", "a", new.Yes(k="a"), timeout_ms=5_000)
    assert [f.graph for r in await history(path, "main/a") for f in r.root.frames] == [
        old.graph(),
        new.graph(),
    ]
    async with old.running(path) as engine:
        for key in "ab":
            if key == "b":
                await engine.client.signal("main", key, old.Yes(k=key), timeout_ms=5_000)
            await engine.client.signal("main", key, old.No(k=key), timeout_ms=5_000)
            told = await ended(engine, f"main/{key}")
            assert json.loads(told.outcome_body)["text"] == "one 7"


async def test_an_orphan_parks_and_may_still_be_killed(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    old = Release(FIRST)
    await begun(path, old)
    new = Release(GONE, old.lock)
    async with new.running(path) as engine:
        await engine.client.signal("main", "a", new.No(k="a"))
        assert (await engine.client.wait("main/a", timeout_ms=5_000)).status == "parked"
        await engine.client.operate("main/a", "kill", reason="not needed")
        assert (await ended(engine, "main/a")).status == "failed"


async def test_a_version_whose_graph_the_log_does_not_hold_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    old = Release(FIRST)
    old_world, old.world = old.world, _unjudged(old.world)
    await begun(path, old)
    assert not [r for r in await lane(path) if r.key.startswith(b"$graph/")]
    new = Release(GENTLE, old.lock)
    async with new.running(path) as engine:
        await engine.client.signal("main", "a", new.Yes(k="a"))
        assert (await engine.client.wait("main/a", timeout_ms=5_000)).status == "parked"
    last = (await history(path, "main/a"))[-1]
    assert last.parked is not None
    assert "does not hold the graph" in last.parked.error
    old.world = old_world
    async with old.running(path) as engine:  # it writes its graph, and goes on
        assert (await ended(engine, "main/a")).status == "done"


def _unjudged(world: object) -> object:
    from dataclasses import replace
    from typing import Any

    made: Any = world
    return replace(made, judged=False)


MAPPED = saga(
    "x = go.n + 1",
    "await s.wait(No)",
    "return Ended(k=go.k, text=f'four {x}')",
    options="migrate={'wait(Yes)': 'wait(No)'}",
)


async def test_a_mapping_of_labels_is_a_transition_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    old = Release(FIRST)
    await begun(path, old)
    new = Release(MAPPED, old.lock)
    async with new.running(path) as engine:
        await engine.client.signal("main", "a", new.No(k="a"))
        told = await engine.client.wait("main/a", timeout_ms=5_000)
    records = await history(path, "main/a")
    kinds = [(r.version, r.cause.kind, r.root.frames[-1].label if r.root.frames else "") for r in records]
    assert told.status == "parked", "Yes may still come where only No is accepted"
    assert [k for _, k, _ in kinds] == ["start", "signal"]


async def test_a_mapping_where_the_replies_agree_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    old = Release(saga("x = go.n", "await s.wait(Yes, label='a')", "return Ended(k=go.k, text='one')"))
    await begun(path, old)
    new = Release(
        saga(
            "x = go.n",
            "r = await s.wait(Yes, No, label='b')",
            "return Ended(k=go.k, text=f'{type(r).__name__} {x}')",
            options="migrate={'a': 'b'}",
        ),
        old.lock,
    )
    async with new.running(path) as engine:
        await engine.client.signal("main", "a", new.No(k="a"))
        told = await ended(engine, "main/a")
    assert (told.status, json.loads(told.outcome_body)["text"]) == ("done", "No 7")
    records = await history(path, "main/a")
    assert [(r.version, r.cause.kind) for r in records] == [(1, "start"), (2, "migrate"), (3, "signal")]
    assert [f.label for f in records[1].root.frames] == ["b"]
    assert records[1].root.frames[0].graph == new.graph()


FUNCTION = """
def lead(label: str, local: dict) -> tuple[str, dict]:
    local["y"] = local.pop("x") {}
    return label, local

"""


async def test_a_function_leads_labels_and_locals_over(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    old = Release(FIRST)
    await begun(path, old)
    new = Release(FUNCTION.format("* 10") + HARSH.replace("@saga", "@saga(migrate=lead)"), old.lock)
    async with new.running(path) as engine:
        await engine.client.signal("main", "a", new.Yes(k="a"))
        told = await ended(engine, "main/a")
    assert (told.status, json.loads(told.outcome_body)["text"]) == ("done", "three 80")


async def test_a_function_that_fails_or_gives_what_does_not_fit_leaves_the_instance_as_it_is(
    tmp_path: Path,
) -> None:
    path = tmp_path / "shop.db"
    old = Release(FIRST)
    await begun(path, old)
    for wrong, words in (
        ("/ 0", "ZeroDivisionError"),
        ("and 'text'", "'y' is no int"),
        ("and None", "'y' is no int"),
    ):
        new = Release(FUNCTION.format(wrong) + HARSH.replace("@saga", "@saga(migrate=lead)"), old.lock)
        async with new.running(path) as engine:
            await engine.client.signal("main", "a", new.Yes(k="a"), timeout_ms=5_000)
            told = await engine.client.wait("main/a", timeout_ms=5_000)
            assert told.status == "parked"
    records = await history(path, "main/a")
    assert all(r.root == records[0].root for r in records)
    assert records[1].parked is not None
    assert "ZeroDivisionError" in records[1].parked.error, words
    good = Release(FUNCTION.format("+ 1") + HARSH.replace("@saga", "@saga(migrate=lead)"), old.lock)
    async with good.running(path) as engine:
        told = await ended(engine, "main/a")
    assert (told.status, json.loads(told.outcome_body)["text"]) == ("done", "three 9")


async def test_a_kept_definition_runs_its_instances_beside_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    old = Release(FIRST)
    await begun(path, old)
    both = FIRST.replace("@saga", f"@saga(name='main', retired='{old.graph()}')").replace(
        "def main", "def before"
    )
    new = Release(both + GONE, old.lock)
    again = Release(both + GONE, new.lock)
    for release in (new, again):
        assert list(release.world.kept) == [("main", old.graph())]
        assert release.graph() != old.graph()
    async with again.running(path) as engine:
        await engine.client.start("main", again.Go(k="b", n=1))
        await engine.client.signal("main", "a", again.Yes(k="a"))
        await engine.client.signal("main", "b", again.No(k="b"))
        texts = [json.loads((await ended(engine, f"main/{k}")).outcome_body)["text"] for k in "ab"]
    assert texts == ["one 8", "four 2"]


def test_a_kept_definition_that_is_another_version_is_refused() -> None:
    text = FIRST.replace("@saga", "@saga(name='main', retired='k7Q2')")
    with pytest.raises(CompileError) as caught:
        Release(text.replace("def main", "def before") + GONE)
    assert [r.code for r in caught.value.refusals] == ["CP313"]


def test_a_mapping_to_or_from_a_state_that_never_was_is_refused() -> None:
    lock = Release(FIRST).lock
    for mapping in ("{'wait(Yes)': 'wait(Nope)'}", "{'wait(Never)': 'wait(No)'}"):
        with pytest.raises(CompileError) as caught:
            Release(GONE.replace("@saga", f"@saga(migrate={mapping})"), lock)
        assert [r.code for r in caught.value.refusals] == ["CP311"]


async def test_a_foreign_record_on_a_graph_is_healed_with_our_own(tmp_path: Path) -> None:
    from contrapas.core.fold import fold
    from contrapas.core.lane import Draft
    from contrapas.log.sqlite import SqliteLog

    path = tmp_path / "shop.db"
    release = Release(FIRST)
    async with release.running(path):
        pass
    key = f"$graph/{release.graph()}".encode()
    log = SqliteLog(path, "shop", 1)
    lease = await log.acquire(0, "stranger")
    await lease.commit([Draft("", 0, key, b"{}", (("cp-kind", b"graph"),))], [], lease.control)
    await lease.release()
    await log.close()
    async with release.running(path):
        pass
    judge, states = fold(await lane(path))
    assert machine_of(states[key].value or b"").graph == release.graph()
    assert judge.losers == 1
