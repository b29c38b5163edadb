"""Seeded wrong sagas give their finding, at their line, and nothing else."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from contrapas.author.saga import SagaDef
from tests.check import wrong
from tests.check.compiled import check, codes

SAGAS: dict[str, SagaDef[Any, Any]] = {
    name: value for name, value in vars(wrong).items() if isinstance(value, SagaDef)
}
OBSERVED = {"hides_what_it_does"}


def marked(saga: SagaDef[Any, Any]) -> list[tuple[str, int]]:
    """(code, line) of each `# CPnnn` in the saga's source."""
    lines, first = inspect.getsourcelines(saga.fn)
    return [
        (code, first + number)
        for number, line in enumerate(lines)
        for code in re.findall(r"# (CP\d{3})$", line.rstrip())
    ]


@pytest.mark.parametrize("name", sorted(SAGAS))
def test_a_wrong_saga_gives_its_findings_and_no_others(name: str) -> None:
    report = check(SAGAS[name], mode="observe" if name in OBSERVED else "orchestrate")
    assert codes(report) == marked(SAGAS[name])


def test_a_reason_on_the_line_settles_a_finding_and_is_listed() -> None:
    report = check(wrong.means_it)
    assert [(f.code, f.allowed) for f in report.allowed] == [
        ("CP703", "seats lapse by themselves after an hour")
    ]
    assert report.errors == report.warnings == 0


def test_a_reason_where_a_statement_over_several_lines_ends_settles_it_too() -> None:
    """A formatter that breaks the line moves the comment to its end."""
    report = check(wrong.means_it_at_length)
    assert [(f.code, f.allowed) for f in report.allowed] == [
        ("CP703", "seats lapse by themselves after an hour")
    ]
    assert report.errors == report.warnings == 0


def test_an_effect_that_no_event_shows_is_an_error_under_observe_only() -> None:
    assert check(wrong.hides_what_it_does, mode="observe").errors == 1
    assert codes(check(wrong.hides_what_it_does)) == []


def test_a_saga_that_is_too_large_to_explore_is_said_and_not_passed_over() -> None:
    report = check(wrong.ends_by_itself, limit=5)
    assert ("CP790", "error") in [(f.code, f.severity) for f in report.findings]
