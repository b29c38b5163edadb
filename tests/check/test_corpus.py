"""Thirty wrong sagas are found at the right line, and nothing is found on thirty right ones."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import Any

import pytest

from contrapas.author.saga import SagaDef
from contrapas.check.story import render
from tests.check import corpus
from tests.check.compiled import check, codes

OBSERVED = {"watches_with_hands"}


def _found() -> dict[str, SagaDef[Any, Any]]:
    sagas: dict[str, SagaDef[Any, Any]] = {}
    for module in pkgutil.iter_modules(corpus.__path__):
        loaded = importlib.import_module(f"{corpus.__name__}.{module.name}")
        for name, value in vars(loaded).items():
            if isinstance(value, SagaDef) and value.module == loaded.__name__ and not name.startswith("_"):
                sagas[f"{module.name}.{name}"] = value
    return sagas


def marked(saga: SagaDef[Any, Any]) -> list[tuple[str, int]]:
    """(code, line) of each `# CPnnn` in the saga's source."""
    lines, first = inspect.getsourcelines(saga.fn)
    return [
        (code, first + number)
        for number, line in enumerate(lines)
        for code in re.findall(r"# (CP\d{3})$", line.rstrip())
    ]


SAGAS = _found()
WRONG = {name: saga for name, saga in SAGAS.items() if marked(saga)}
RIGHT = {name: saga for name, saga in SAGAS.items() if name not in WRONG}


def checked(saga: SagaDef[Any, Any]) -> Any:
    return check(saga, mode="observe" if saga.name in OBSERVED else "orchestrate")


def test_there_are_thirty_of_each() -> None:
    assert len(WRONG) >= 30 and len(RIGHT) >= 30


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_wrong_saga_is_found_at_its_line(name: str) -> None:
    report = checked(WRONG[name])
    assert codes(report) == marked(WRONG[name]), "\n".join(render(f) for f in report.findings)


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_nothing_is_found_on_a_right_saga(name: str) -> None:
    report = checked(RIGHT[name])
    assert not report.findings, "\n".join(render(f) for f in report.findings)
