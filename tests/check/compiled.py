"""Compiles sagas for tests of drawing and checking, and checks them."""

from __future__ import annotations

from typing import Any, Literal

from contrapas import App
from contrapas.check.report import Report, check_app
from contrapas.draw.edges import graph_of
from contrapas.draw.graph import Graph
from contrapas.machine import Machine
from contrapas.runtime.build import build


def machines(*sagas: Any, mode: Literal["orchestrate", "observe"] = "orchestrate") -> dict[str, Machine]:
    """Compiled, as an app would have them."""
    return dict(build(_app(sagas, mode).definition()).machines)


def graph(saga: Any) -> Graph:
    """What is drawn of one saga."""
    return graph_of(machines(saga)[saga.name])


def check(
    *sagas: Any, mode: Literal["orchestrate", "observe"] = "orchestrate", limit: int = 200_000
) -> Report:
    """What `contrapas check` says about an app of these sagas."""
    definition = _app(sagas, mode).definition()
    return check_app(build(definition).machines, definition, limit=limit)


def codes(report: Report) -> list[tuple[str, int]]:
    """(code, line) of each finding."""
    return [(finding.code, finding.line) for finding in report.findings]


def _app(sagas: tuple[Any, ...], mode: str) -> App:
    app = App("trial")
    if mode == "observe":
        app.observe(*sagas)
    else:
        app.orchestrate(*sagas)
    return app
