"""What a pattern's scenario is made of: its number and name, how it is said, and the trace that must come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from textwrap import dedent
from typing import Any, Final

from contrapas import Event
from contrapas.core.envelope import InstanceRecord
from contrapas.testing import Run, Sagas

Scenario = Callable[[Sagas], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One of the 43."""

    number: int
    name: str
    said: str
    """How it is said here, for the table."""
    scenario: Scenario


PATTERNS: Final[dict[int, Pattern]] = {}


def pattern(number: int, name: str, said: str) -> Callable[[Scenario], Scenario]:
    """A scenario of the pattern of that number; its function bears number and name."""

    def keep(scenario: Scenario) -> Scenario:
        assert number not in PATTERNS, f"WCP-{number} is told twice"
        PATTERNS[number] = Pattern(number, name, said, scenario)
        return scenario

    return keep


async def answer(run: Run[Any], command: type[Any], *replies: Event) -> None:
    """Answer the oldest commands of a class that the run has sent, in order."""
    for reply in replies:
        await (await run.expect(command)).reply(reply)


def traced(run: Run[Any], expected: str) -> None:
    """A line for each record: what happened, and what is in hand then; in the end its status and outcome."""
    lines = [line.rstrip() for line in dedent(expected).strip().splitlines()]
    assert trace(run) == lines


def trace(run: Run[Any]) -> list[str]:
    """The trace as it came out. What came once more, since whoever had sent it did not know that it had, is left out."""
    found: list[str] = []
    met: set[tuple[str, bytes]] = set()
    before: InstanceRecord | None = None
    for record in run.sagas.history:
        if record.instance != run.instance:
            continue
        said = record.cause.type, record.cause.value
        if not (said in met and record.cause.note.startswith("no-op")):
            found.append(f"{_cause(record, before)} → {_then(record)}")
        met.add(said)
        before = record
    return found


def _cause(record: InstanceRecord, before: InstanceRecord | None) -> str:
    cause = record.cause
    if cause.kind == "result" and before is not None:
        left = Counter(p.key for p in record.operations())
        ended = [p.label for p in before.operations() if p.key not in left]
        return f"{' '.join(ended)} {'failed' if cause.note else 'returned'}"
    name = "timer" if cause.kind == "timer" else cause.type or cause.kind
    return f"{name} ({cause.note})" if cause.note else name


def _then(record: InstanceRecord) -> str:
    count = Counter(p.label for p in record.operations())
    hand = ", ".join(label if n == 1 else f"{label} ×{n}" for label, n in count.items())
    if record.outcome:
        return f"{hand}{', ' if hand else ''}{record.status} {record.outcome}"
    return hand or record.status
