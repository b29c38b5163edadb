"""Every worked saga: its stories in both forms and over crashes, its machine and recorded run as committed, its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from contrapas.draw.edges import graph_of
from contrapas.draw.svg import svg
from contrapas.draw.text import text
from contrapas.testing import Sagas
from sagas.index import saga as index
from tests.sagas.stories import STORIES, Story

ROOT = Path(__file__).parents[2]
ALL = [
    pytest.param(story, id=f"{name}: {story.__name__}") for name, some in STORIES.items() for story in some
]


@pytest.mark.parametrize("story", ALL)
async def test_the_story_comes_true_in_both_forms(sagas: Sagas, story: Story) -> None:
    await story(sagas)
    assert sagas.twins is not None
    assert sagas.twins.stretches > 2


@pytest.mark.crash_everywhere
@pytest.mark.parametrize("story", ALL)
async def test_the_story_comes_true_whatever_commit_the_worker_dies_at(sagas: Sagas, story: Story) -> None:
    await story(sagas)


def golden(request: pytest.FixtureRequest, file: Path, content: str) -> None:
    if request.config.getoption("--rewrite"):
        file.write_text(content)
    assert file.read_text() == content, f"{file.name} differs: pytest --rewrite, then read the diff"


@pytest.mark.parametrize("name", STORIES)
async def test_the_machine_and_the_recorded_run_are_the_committed_ones(
    name: str, request: pytest.FixtureRequest
) -> None:
    main: Any = None
    lines: list[str] = []
    machines: dict[str, str] = {}
    for story in STORIES[name]:
        sagas = Sagas(mode="compiled")
        await story(sagas)
        lines += [json.dumps(line_of(record), ensure_ascii=False) for record in sagas.history]
        for machine in sagas.bench.world.machines.values():
            machines[machine.name] = text(graph_of(machine)).rstrip("\n") + "\n"
        main = sagas.bench.world.machines[next(iter(sagas.bench.world.modes))]
        sagas.close()
    folder = ROOT / "sagas" / name
    golden(request, folder / "machine.txt", "\n".join(machines[n] for n in sorted(machines)))
    golden(request, folder / "machine.svg", svg(graph_of(main)))
    golden(request, folder / "history.jsonl", "\n".join(lines) + "\n")


@pytest.mark.parametrize("name", STORIES)
def test_the_page_names_its_files_and_its_stories(name: str) -> None:
    page = (ROOT / "sagas" / name / "README.md").read_text()
    for file in ("saga.py", "machine.txt", "machine.svg", "history.jsonl"):
        assert f"]({file})" in page
    for story in STORIES[name]:
        assert story.__name__.replace("_", " ") in page


async def test_ten_years_of_billing_leave_the_record_as_small_as_the_first(sagas: Sagas) -> None:
    from tests.sagas.stories import billed, subscribed

    run = await subscribed(sagas, "ada")
    sizes: list[int] = []
    for month in range(1, 121):
        await sagas.skip("30d")
        await billed(run)
        if month in (10, 120):
            sizes.append(len(json.dumps(line_of(run.record))) + len(run.record.seen) * 16)
    assert run.record.version == 1 + 2 * 120
    assert sizes[1] <= sizes[0] * 1.1 + 2 * 64 * 16
    assert len(run.record.seen) <= 64


async def test_a_thousand_documents_are_indexed_at_a_hundred_a_second(sagas: Sagas) -> None:
    calls = sagas.stub(index.embed, returns=3)
    run = await sagas.start(index.index_bucket, index.IndexRequested(job_id="j", bucket="b"))
    await sagas.skip("5s")
    assert run.status == "running"
    assert 450 <= len(calls) <= 550
    await sagas.skip("10s")
    assert run.outcome.indexed == len(calls) == 1000
    assert len([r for r in sagas.history if r.instance == run.instance]) <= 5


def line_of(record: Any) -> dict[str, Any]:
    """A record for people."""
    frames = record.root.frames
    local = {n: json.loads(t) for n, t in frames[-1].slots.items()} if frames else {}
    return {
        "instance": record.instance,
        "version": record.version,
        "cause": f"{record.cause.kind} {record.cause.type}".strip(),
        "status": record.status,
        "state": record.state,
        "locals": without_ids(local),
        "sent": [dict(m.headers).get("ce_type", b"").decode() for m in record.out],
        "outcome": record.outcome,
    }


def without_ids(value: Any) -> Any:
    """An exception has an id of its own in every run, and lines of the engine in its traceback."""
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        mine = "$type" in items and "args" in items
        return {
            k: without_ids(v) for k, v in items.items() if not (mine and k in ("id", "traceback", "trace"))
        }
    return value
