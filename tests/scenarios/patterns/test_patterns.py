"""The 43 workflow control-flow patterns: each comes out with its trace, in both forms and whatever commit the worker dies at."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any, Final

import pytest

from contrapas.author.saga import SagaDef
from contrapas.check.story import render
from contrapas.testing import Sagas
from tests.check.compiled import check
from tests.scenarios.patterns.pattern import PATTERNS, Pattern

HERE = Path(__file__).parent
FILES: Final = sorted(f.stem for f in HERE.glob("*.py") if not f.stem.startswith("test_"))
for name in FILES:
    importlib.import_module(f"tests.scenarios.patterns.{name}")
NAMES: Final = """
    Sequence; Parallel Split; Synchronization; Exclusive Choice; Simple Merge; Multi-Choice; Structured Synchronizing Merge;
    Multi-Merge; Structured Discriminator; Arbitrary Cycles; Implicit Termination;
    Multiple Instances without Synchronization; Multiple Instances with a Priori Design-Time Knowledge;
    Multiple Instances with a Priori Run-Time Knowledge; Multiple Instances without a Priori Run-Time Knowledge;
    Deferred Choice; Interleaved Parallel Routing; Milestone; Cancel Task; Cancel Case; Structured Loop; Recursion;
    Transient Trigger; Persistent Trigger; Cancel Region; Cancel Multiple Instance Activity;
    Complete Multiple Instance Activity; Blocking Discriminator; Cancelling Discriminator; Structured Partial Join;
    Blocking Partial Join; Cancelling Partial Join; Generalised AND-Join;
    Static Partial Join for Multiple Instances; Cancelling Partial Join for Multiple Instances;
    Dynamic Partial Join for Multiple Instances; Local Synchronizing Merge; General Synchronizing Merge;
    Critical Section; Interleaved Routing; Thread Merge; Thread Split; Explicit Termination
"""
REASONS: Final[dict[int, str]] = {}
"""Patterns that cannot be said, and why: none."""
ALL = [pytest.param(one, id=f"WCP-{number} {one.name}") for number, one in sorted(PATTERNS.items())]


@pytest.mark.parametrize("one", ALL)
async def test_the_pattern_has_its_trace_in_both_forms(sagas: Sagas, one: Pattern) -> None:
    await one.scenario(sagas)
    assert sagas.twins is not None
    assert sagas.twins.stretches > 1


@pytest.mark.crash_everywhere
@pytest.mark.parametrize("one", ALL)
async def test_the_pattern_has_its_trace_whatever_commit_the_worker_dies_at(
    sagas: Sagas, one: Pattern
) -> None:
    await one.scenario(sagas)


def test_every_pattern_of_the_literature_has_a_scenario_or_a_reason() -> None:
    names = [" ".join(name.split()) for name in NAMES.split(";")]
    assert {n: one.name for n, one in PATTERNS.items()} == {
        n: name for n, name in enumerate(names, 1) if n not in REASONS
    }
    assert len(names) == 43


@pytest.mark.parametrize("one", ALL)
def test_the_scenario_bears_number_and_name_of_its_pattern(one: Pattern) -> None:
    words = re.sub(r"[^a-z]+", "_", one.name.lower())
    assert one.scenario.__name__ == f"wcp{one.number:02}_{words}"


def test_the_table_of_the_page_is_what_the_code_says(request: pytest.FixtureRequest) -> None:
    page = HERE / "README.md"
    before, _, rest = page.read_text().partition(f"{HEAD}\n")
    after = rest.partition("\n\n")[2]
    made = f"{before}{HEAD}\n{table()}\n\n{after}"
    if request.config.getoption("--rewrite"):
        page.write_text(made)
    assert page.read_text() == made, "README.md differs: pytest --rewrite, then read the diff"


def test_the_checker_finds_nothing_wrong_with_any_of_them() -> None:
    found = [saga for saga in sagas_of() if begins(saga)]
    assert len(found) >= 43
    report = check(*found)
    wrong = [f for f in report.findings if f.severity in ("error", "warning")]
    assert not wrong, "\n".join(render(f) for f in wrong)


def sagas_of() -> list[SagaDef[..., Any]]:
    """Every saga that is defined in the files of the patterns."""
    modules = [importlib.import_module(f"tests.scenarios.patterns.{file}") for file in FILES]
    return [v for m in modules for v in vars(m).values() if isinstance(v, SagaDef) and v.module == m.__name__]


def begins(saga: SagaDef[..., Any]) -> bool:
    """Whether an event begins it; others are called by sagas."""
    return list(inspect.signature(saga.fn).parameters)[1:] in (["e"], ["first"])


HEAD: Final = "| WCP | pattern | how it is said | where |\n|---|---|---|---|"


def table() -> str:
    """A row for each number."""
    rows: list[str] = []
    for number in range(1, 44):
        if number in REASONS:
            rows.append(f"| {number} | | cannot be said: {REASONS[number]} | |")
            continue
        one = PATTERNS[number]
        file = f"{one.scenario.__module__.rpartition('.')[2]}.py"
        rows.append(f"| {number} | {one.name} | {one.said} | [{file}]({file}) `{one.scenario.__name__}` |")
    return "\n".join(rows)
