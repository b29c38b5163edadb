"""What the plugin promises: both forms side by side, crashes, stubs, time, and a clear word when something is missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from contrapas.errors import StepFailed
from contrapas.runtime.build import build
from contrapas.runtime.doors import plain_draft
from contrapas.testing import Sagas
from contrapas.testing.twin import Disagreement
from tests.plugin import desk
from tests.plugin.desk import Answered, Asked, Look, Looked, Nudge

RUNS: list[str] = []


async def test_a_stub_replaces_a_step_and_tells_its_calls(sagas: Sagas) -> None:
    calls = sagas.stub(desk.weigh, returns=7)
    run = await sagas.start(desk.weighs, Asked(id="a", n=3))
    assert run.outcome == Answered(id="a", word="7")
    assert calls == [(3,)]


async def test_a_step_without_a_stub_is_run(sagas: Sagas) -> None:
    run = await sagas.start(desk.weighs, Asked(id="a", n=3))
    assert run.outcome.word == "6"


async def test_a_stub_that_raises_is_tried_again_as_its_policy_says(sagas: Sagas) -> None:
    calls = sagas.stub(desk.weigh, raises=OSError("no scale"))
    run = await sagas.start(desk.weighs, Asked(id="a", n=3))
    assert (run.status, len(calls)) == ("retrying", 1)
    await sagas.skip("1h")
    assert len(calls) == 3
    assert run.outcome.word.startswith("no: ")


async def test_a_stub_that_fails_for_certain_is_not_tried_again(sagas: Sagas) -> None:
    calls = sagas.stub(desk.weigh, raises=StepFailed("too heavy"))
    run = await sagas.start(desk.weighs, Asked(id="a", n=3))
    assert (run.outcome.word, len(calls)) == ("no: too heavy", 1)


async def test_time_passes_only_when_skipped_and_timers_fire_in_order(sagas: Sagas) -> None:
    run = await sagas.start(desk.nine_hours, Asked(id="a"))
    began = sagas.clock()
    await sagas.skip("9h")
    assert sagas.clock() - began == 9 * 3_600_000
    await run.send(Nudge(id="a", word="yes"))
    assert run.outcome.word == "second yes"


async def test_a_clock_a_die_and_an_id_are_the_same_for_both_forms(sagas: Sagas) -> None:
    run = await sagas.start(desk.by_chance, Asked(id="a"))
    seen = await run.expect(Look)
    await seen.reply(Looked(id="a", found="here"))
    assert run.outcome.word == f"{seen.command.token} here"


async def test_services_answer_instead_of_the_test(sagas: Sagas) -> None:
    sagas.use(desk.app)
    run = await sagas.start(desk.by_chance, Asked(id="a"))
    assert run.outcome.word.endswith(" here")


async def test_called_sagas_and_branches_have_twins_of_their_own(sagas: Sagas) -> None:
    run = await sagas.start(desk.outer, Asked(id="a", n=3))
    assert run.outcome.word == "14 14"
    assert sagas.twins is not None
    assert sagas.twins.stretches > 6
    assert not sagas.twins.standing


async def test_called_sagas_that_are_branches_begin_in_order_of_position(sagas: Sagas) -> None:
    calls = sagas.stub(desk.weigh, returns=1)
    await sagas.start(desk.in_order, Asked(id="a", n=3))
    assert calls == [(3,), (13,), (4,), (14,)]


async def test_a_link_is_the_same_in_both_forms(sagas: Sagas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTRAPAS_LINK_SECRET", "a secret of the test, long enough for this")
    calls = sagas.stub(desk.note)
    run = await sagas.start(desk.by_link, Asked(id="a"))
    await run.send(Nudge(id="a", word="yes"))
    assert run.outcome.word == "yes"
    assert len(calls) == 1


async def test_an_event_sent_twice_under_one_id_counts_once(sagas: Sagas) -> None:
    run = await sagas.start(desk.nine_hours, Asked(id="a"))
    await sagas.skip("9h")
    await run.send(Nudge(id="a", word="yes"), event_id="n-1")
    versions = len(sagas.history)
    await run.send(Nudge(id="a", word="yes"), event_id="n-1")
    assert [r.cause.note for r in sagas.history[versions:]] in ([], ["no-op: finished"])


async def test_what_an_operator_says_counts_once_though_it_is_published_again(sagas: Sagas) -> None:
    run = await sagas.start(desk.nine_hours, Asked(id="a"))
    for _ in range(2):
        draft = plain_draft(
            sagas.bench.setting, "operate", run.instance, {"verb": "pause", "reason": ""}, event_id="p-1"
        )
        await sagas.publish(draft)
        if run.status == "paused":
            await run._operate("resume", "")  # pyright: ignore[reportPrivateUsage]
    assert run.status == "waiting"


async def test_what_is_missing_is_said_with_where_the_instance_stands(sagas: Sagas) -> None:
    run = await sagas.start(desk.nine_hours, Asked(id="a"))
    with pytest.raises(AssertionError, match=r"has no outcome: it is waiting in wait\(Nudge\)"):
        _ = run.outcome
    with pytest.raises(RuntimeError, match="no @step"):
        _raise_no_step(sagas)


def _raise_no_step(sagas: Sagas) -> None:
    try:
        sagas.stub(len)
    except TypeError as why:
        raise RuntimeError(str(why)) from why


@pytest.mark.parametrize("mode", ["both", "native"])
async def test_a_compiled_form_that_does_something_else_is_found(
    mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:

    def faulty(definition: Any, **options: Any) -> Any:
        world = build(definition, **options)
        machine = world.machines["weighs"]

        def function(*args: Any) -> Any:
            assert machine.function is not None
            result = machine.function(*args)
            if result[2:] and result[2].name == "weigh":
                result[2].value = ((99,), {})
            return result

        return replace(world, machines={**world.machines, "weighs": replace(machine, function=function)})

    monkeypatch.setattr("contrapas.testing.sagas.build", faulty)
    mine = Sagas(mode=mode)
    with pytest.raises(
        Disagreement, match=r"weighs/a at its start: compiled awaits local weigh \(\(99,\), \{\}\), as"
    ):
        await mine.start(desk.weighs, Asked(id="a", n=3))
    mine._forget_twins()  # pyright: ignore[reportPrivateUsage]


async def test_a_local_that_the_record_loses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:

    def faulty(definition: Any, **options: Any) -> Any:
        world = build(definition, **options)
        machine = world.machines["by_chance"]

        def function(pc: int, *args: Any) -> Any:
            assert machine.function is not None
            result = machine.function(pc, *args)
            if pc == 0:
                result[3]["token"] = "lost"
            return result

        return replace(world, machines={**world.machines, "by_chance": replace(machine, function=function)})

    monkeypatch.setattr("contrapas.testing.sagas.build", faulty)
    mine = Sagas()
    run = await mine.start(desk.by_chance, Asked(id="a"))
    seen = await run.expect(Look)
    with pytest.raises(Disagreement, match=r"by_chance/a at Look: local 'token' is 'lost' in the record"):
        await seen.reply(Looked(id="a", found="here"))
    mine._forget_twins()  # pyright: ignore[reportPrivateUsage]


@pytest.mark.sagas(mode="compiled")
async def test_compiled_alone_has_no_twins(sagas: Sagas) -> None:
    await sagas.start(desk.weighs, Asked(id="a", n=3))
    assert sagas.twins is not None
    assert sagas.twins.stretches == 0


@pytest.mark.crash_everywhere
async def test_a_run_with_a_crash_is_a_run_of_its_own(sagas: Sagas) -> None:
    RUNS.append("run")
    run = await sagas.start(desk.nine_hours, Asked(id="a"))
    await sagas.skip("18h")
    assert run.outcome.word == "nobody"


def test_the_test_before_ran_twice_more_for_each_of_its_transitions() -> None:
    assert len(RUNS) == 1 + 2 * 5  # a start, two notes, two expiries
