"""`Study`: one saga and all that is known of it when a property is asked; properties give findings and know nobody else."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contrapas.check.explore import Exploration
from contrapas.check.finding import Finding, StoryLine
from contrapas.check.story import story
from contrapas.draw.model import Config, Move
from contrapas.draw.segment import Walker
from contrapas.machine import Machine
from contrapas.machine.ir import Program, Site
from contrapas.machine.trees import walk


@dataclass(slots=True)
class Study:
    """What a property may look at."""

    machine: Machine
    walkers: Mapping[str, Walker]
    explored: Exploration
    mode: str = "orchestrate"
    places: dict[tuple[str, int], list[Config]] = field(default_factory=dict[tuple[str, int], list[Config]])
    """(machine, site index) -> configurations that stand there, in the order in which they were found."""
    called: bool = False
    """A called saga that is explored by itself: it has no start events and no outcomes."""

    def __post_init__(self) -> None:
        for config in self.explored.parents:
            if config.frames and not config.end:
                for at in config.frames:
                    self.places.setdefault((at.machine, at.site), []).append(config)

    @property
    def name(self) -> str:
        """Name of the saga."""
        return self.machine.name

    def program(self, machine: str = "") -> Program:
        """The program of the saga, or of one that it calls."""
        return self.walkers[machine or self.name].program

    def stood(self) -> Iterator[tuple[str, Site, list[Config]]]:
        """Every await that is reached, with the configurations that stand there (innermost or not)."""
        for (machine, index), configs in self.places.items():
            site = self.walkers[machine].sites.get(index)
            if site is not None:
                yield machine, site, configs

    def machines(self) -> list[str]:
        """The saga, and the sagas that it calls, as far as they are reached."""
        return list(dict.fromkeys((self.name, *(machine for machine, _ in self.places))))

    def find(
        self,
        code: str,
        severity: str,
        text: str,
        fix: str,
        line: int,
        *,
        column: int = 0,
        machine: str = "",
        hint: str = "",
        story: tuple[StoryLine, ...] = (),
        path: Sequence[Move] = (),
    ) -> Finding:
        """A finding at a line of a program; column from 0 as in syntax trees, 0: the first sign of the line."""
        program = self.program(machine)
        if not column and 0 < line <= len(program.source):
            source = program.source[line - 1]
            column = len(source) - len(source.lstrip())
        return Finding(
            code=code,
            severity=severity,
            saga=self.name,
            text=text,
            fix=fix,
            file=program.file,
            line=line,
            column=column + 1,
            hint=hint,
            story=story,
            path=tuple(path),
        )

    def told(self, moves: Sequence[Move], *, stands: str = "") -> tuple[StoryLine, ...]:
        """A path as a story in which the clauses that took an exception stand too."""
        return story(moves, stands=stands, sources={n: w.program.source for n, w in self.walkers.items()})


Property = Callable[[Study], Iterable[Finding]]
"""A property of one saga: gives the findings, or nothing."""


def flat(site: Site) -> Iterator[Site]:
    """An operation and those within it."""
    yield site
    for child in site.children:
        yield from flat(child)


def trees(program: Program) -> Iterator[ast.AST]:
    """Every node of the author's function, decorators and annotations apart."""
    for statement in program.node.body:
        yield from walk(statement)


def members(hint: Any) -> tuple[Any, ...]:
    """Classes of an annotation that is a class or a union of classes."""
    found = getattr(hint, "__args__", None) or (hint,)
    return tuple(m for m in found if isinstance(m, type) and m is not type(None))


def listed(names: Sequence[str]) -> str:
    """`A, B and C`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
