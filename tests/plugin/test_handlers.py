"""Handlers of entities in both forms: as compiled, and as the coroutines that they are."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas.compiler.entities import handlers_of
from contrapas.core.envelope import Frame
from contrapas.testing import Sagas
from contrapas.testing.differential import compare, pair_of
from contrapas.testing.handlers import native_of
from contrapas.testing.twin import Disagreement
from tests.plugin import till
from tests.plugin.till import Check, Checked, Closed, Drawer, Opened


def _drawer(sagas: Sagas, key: str) -> str:
    record = sagas.bench.record(f"Drawer/{key}")
    assert record is not None
    frame: Frame = record.root.frames[0]
    return frame.slots["self"]


@pytest.mark.parametrize(("n", "text"), [(1, "3 16"), (2, "5 15"), (3, "7 18")])
async def test_handlers_called_by_a_saga_do_the_same_in_both_forms(sagas: Sagas, n: int, text: str) -> None:
    sagas.serve(Drawer)
    run = await sagas.start(till.fills, Opened(id="k", n=n))
    assert run.outcome == Closed(id="k", text=text)
    assert sagas.twins is not None and sagas.twins.stretches >= 8
    await sagas.skip("9s")
    assert '"flushed":0' in _drawer(sagas, "k") and '"k:mug":3' in _drawer(sagas, "k")
    await sagas.skip("1s")
    assert f'"flushed":{n + 1}' in _drawer(sagas, "k")


@pytest.mark.parametrize(
    ("good", "text"), [(True, "1/3 7"), (False, "k is not in order 3"), (None, "k is not in order 0")]
)
async def test_a_handler_that_fails_leaves_the_fields_as_they_were_in_both_forms(
    sagas: Sagas, good: bool | None, text: str
) -> None:
    sagas.serve(Drawer)
    till.RAN.clear()
    run = await sagas.start(till.swaps, Opened(id="k"))
    if good is None:
        await sagas.skip("1m")
    else:
        seen = await sagas.entity(Drawer, "k").expect(Check)
        await seen.reply(Checked(id="k", good=good))
    assert run.outcome == Closed(id="k", text=text)
    assert sorted(till.RAN) == sorted(["mug", "a", "bcd", *([] if good else ["back 1", "back 3"])])


@pytest.mark.crash_everywhere
async def test_handlers_and_the_timers_they_put_off_outlive_a_crash_anywhere(sagas: Sagas) -> None:
    sagas.serve(Drawer)
    run = await sagas.start(till.fills, Opened(id="k", n=3))
    assert run.outcome == Closed(id="k", text="7 18")
    await sagas.skip("20s")
    assert '"flushed":4' in _drawer(sagas, "k")


async def test_a_handler_that_differs_as_a_function_is_found(sagas: Sagas) -> None:
    async def other(self: Drawer, s: Any, whats: list[str], *, extra: int = 0) -> int:
        self.lines["x"] = await till.weigh(whats[0])
        return 1

    sagas.serve(Drawer)
    await sagas.start(till.fills, Opened(id="first", n=1))
    assert sagas.twins is not None
    functions: Any = sagas.twins.functions
    (add,) = [h for h in handlers_of(Drawer) if h.call.definition.handler == "add"]
    add.fn = other
    functions[add.name] = native_of(add)
    with pytest.raises(Disagreement, match="Drawer"):
        await sagas.start(till.fills, Opened(id="k", n=1))
    sagas.twins.said.clear()


@pytest.mark.parametrize(
    ("name", "given"), [("add", (["mug", "bad", "cup"],)), ("swap", ("a", "bcd")), ("flush", ())]
)
def test_a_handler_does_what_its_function_does_under_many_scripts(name: str, given: tuple[Any, ...]) -> None:
    (one,) = [h for h in handlers_of(Drawer) if h.call.definition.handler == name]
    report = compare(pair_of(one), lambda: (Drawer(lines={"k": 2}), *given), range(40), fails=0.2)
    assert report.runs == 40
