"""`check_app`: explore every saga of an app and report what was found."""

from __future__ import annotations

import linecache
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from contrapas.check.all import PROPERTIES, limits
from contrapas.check.beside import Beside
from contrapas.check.branches import alone
from contrapas.check.choreography import choreography
from contrapas.check.explore import LIMIT, explore
from contrapas.check.finding import Finding, settle, unique
from contrapas.check.lint import lint
from contrapas.check.study import Study
from contrapas.draw.config import Config
from contrapas.draw.edges import graph_of, program_of
from contrapas.draw.segment import Walker
from contrapas.draw.text import counted, numbers
from contrapas.machine import Machine


class _Definition(Protocol):
    """What an app declares (`runtime.definition.Definition`)."""

    @property
    def sagas(self) -> Iterable[Any]: ...
    @property
    def services(self) -> Iterable[Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """One explored saga in numbers."""

    saga: str
    graph: str
    states: int
    undos: int
    transitions: int
    outcomes: int
    configurations: int
    findings: int
    """Errors and warnings that no reason settles."""

    def line(self, width: int = 0) -> str:
        """`place_order  4 states, 2 undos, 9 transitions, 2 outcomes  ok`."""
        parts = [
            counted(self.states, "state"),
            counted(self.undos, "undo"),
            counted(self.transitions, "transition"),
            counted(self.outcomes, "outcome"),
        ]
        verdict = "ok" if not self.findings else counted(self.findings, "finding")
        return f"{self.saga:<{width}}  {', '.join(parts)}  {verdict}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `check` found in an app."""

    findings: tuple[Finding, ...]
    allowed: tuple[Finding, ...]
    """Settled by `# allow CPnnn: reason` on their line."""
    stats: tuple[Stat, ...]

    @property
    def errors(self) -> int:
        """Findings that fail the command."""
        return sum(f.severity == "error" for f in self.findings)

    @property
    def warnings(self) -> int:
        """Findings that fail it under `--strict`."""
        return sum(f.severity == "warning" for f in self.findings)


def check_app(machines: Mapping[str, Machine], definition: _Definition, *, limit: int = LIMIT) -> Report:
    """Explore the sagas that the app runs; those that are only called are explored where they are called.

    Those that are called only as branches beside others are explored by themselves.
    """
    walkers = {name: Walker(program_of(m)) for name, m in machines.items() if m.entity is None}
    modes = {
        str(use.saga.name): str(use.mode) for use in definition.sagas if not getattr(use.saga, "retired", "")
    }
    handlers = {s.label: "handler" for m in machines.values() if m.entity for s in m.states.values()}
    modes |= {name: mode for name, mode in handlers.items() if name in walkers}
    beside = Beside(walkers, limit)
    found: list[Finding] = []
    sizes: dict[str, int] = {}
    studies: list[Study] = []
    every: list[Study] = []
    for name, mode in modes.items():
        explored = explore(name, walkers, limit=limit, branches=beside.of(name))
        study = Study(machines[name], walkers, explored, "orchestrate" if mode == "handler" else mode)
        every.append(study)
        if mode != "handler":
            studies.append(study)
        found += [one for ask in PROPERTIES for one in ask(study)]
        found += limits(study, limit)
        sizes[name] = len(explored.parents)

    def by_itself(name: str, mode: str, first: Config) -> Study:
        explored = explore(name, walkers, limit=limit, first=first, branches=beside.of(name))
        return Study(machines[name], walkers, explored, mode, called=True)

    for study, said in list(alone(every, by_itself, PROPERTIES, lambda one: limits(one, limit))):
        studies.append(study)
        found += said
    found += choreography(tuple(definition.services), studies, getattr(definition, "externals", ()))
    for name, walker in walkers.items():
        found += lint(walker.program, name)
    sources: dict[str, Sequence[str]] = {w.program.file: w.program.source for w in walkers.values()}
    for one in found:
        if one.file not in sources:
            sources[one.file] = linecache.getlines(one.file)
    judged = [settle(f, sources[f.file]) for f in unique(found)]
    return Report(
        findings=tuple(f for f in judged if not f.allowed),
        allowed=tuple(f for f in judged if f.allowed),
        stats=tuple(_stat(machines[name], walkers[name], sizes[name], judged) for name in modes),
    )


def examined(
    machine: Machine, walkers: Mapping[str, Walker], mode: str, *, limit: int = LIMIT
) -> tuple[Study, list[Finding], int]:
    """One saga explored and asked for every property; the last number: its configurations."""
    explored = explore(machine.name, walkers, limit=limit, branches=Beside(walkers, limit).of(machine.name))
    study = Study(machine, walkers, explored, mode)
    own = [one for ask in PROPERTIES for one in ask(study)]
    return study, [*own, *limits(study, limit)], len(explored.parents)


def _stat(machine: Machine, walker: Walker, size: int, findings: Iterable[Finding]) -> Stat:
    graph = graph_of(machine, walker)
    states, undos, transitions = numbers(graph)
    return Stat(
        saga=machine.name,
        graph=machine.graph,
        states=states,
        undos=undos,
        transitions=transitions,
        outcomes=len(machine.outcomes),
        configurations=size,
        findings=sum(
            f.saga == machine.name and not f.allowed and f.severity != "information" for f in findings
        ),
    )
