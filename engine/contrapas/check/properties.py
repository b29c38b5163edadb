"""The properties that an exploration is asked for: CP703, CP712, CP721. Each is a visitor that collects findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from contrapas.author.event import Command, MessageSpec, message_spec
from contrapas.check.explore import Exploration
from contrapas.check.finding import Finding
from contrapas.check.story import story
from contrapas.draw.model import Config, Move
from contrapas.draw.native import type_name
from contrapas.draw.outcomes import Issued, gives_up, words
from contrapas.draw.segment import Walker
from contrapas.machine import Machine
from contrapas.machine.ir import Program, Site


@dataclass(slots=True)
class MissingUndo:
    """CP703: a step without `undo=` still stands when a later one fails, or when the saga compensates."""

    found: dict[tuple[str, str], tuple[Issued, Config | None, Move]] = field(
        default_factory=dict[tuple[str, str], tuple[Issued, Config | None, Move]]
    )

    def __call__(self, source: Config | None, move: Move) -> None:
        """Look at one move."""
        after = move.config
        if (
            move.kind not in ("reply", "failure", "expiry", "undone")
            or after.cancelled
            or after.pivoted
            or move.bug
        ):
            return
        unwinds = after.unwinding is not None and (source is None or source.unwinding is None)
        if not (move.raised or unwinds):
            return
        for entry in after.stack:
            own = (entry.machine, entry.label) == (move.machine, move.label)
            if not entry.undo and (entry.status == "done" or (entry.status == "unknown" and not own)):
                self.found.setdefault((entry.machine, entry.label), (entry, source, move))

    def findings(self, walkers: Mapping[str, Walker], explored: Exploration, saga: str) -> Iterator[Finding]:
        """One story per step."""
        for entry, source, move in self.found.values():
            program = walkers[entry.machine].program
            site = next(
                s
                for top in program.sites
                for s in flat(top)
                if (s.label or s.text) in (entry.label, entry.text)
            )
            path = [*explored.path(source), move, *explored.to_end(move.config)]
            noun = words(entry.text)[0] if words(entry.text) else entry.label
            yield Finding(
                code="CP703",
                severity="warning",
                saga=saga,
                text=f"{entry.label} may be {entry.word} and never {_undone(program, site)}",
                fix=f"undo=…  on line {site.line}, or  undo=None  if that is intended",
                file=program.file,
                line=site.line,
                column=site.column + 1,
                story=story(path, stands=f"the {noun} stands"),
            )


def _undone(program: Program, site: Site) -> str:
    """What taking it back would be called: from the one command beside it that nobody sends, else in general."""
    used = {s.target for top in program.sites for s in flat(top)}
    told: list[str] = []
    if site.target in (commands := _commands(program)):
        own, topic = words(type_name(site.target)), commands[site.target].topic
        for other, spec in commands.items():
            theirs = words(spec.name)
            if other not in used and spec.topic == topic and own[1:] and theirs[1:] == own[1:]:
                reply = [word for word in words(type_name(spec.replies[0])) if word not in theirs]
                told += reply[-1:]
    return told[0] if len(set(told)) == 1 else "taken back"


def _commands(program: Program) -> dict[Any, MessageSpec]:
    """Command classes that the saga's module names, with what they say about themselves."""
    found: dict[Any, MessageSpec] = {}
    for value in program.namespace.values():
        made: type[Any] | None = value if isinstance(value, type) else None
        if made is not None and Command in made.__mro__[1:] and made.__contrapas_key__:
            found[made] = message_spec(made)
    return found


@dataclass(slots=True)
class Endless:
    """CP712: a wait or step that may last for ever."""

    machine: Machine
    found: dict[tuple[str, int], Site] = field(default_factory=dict[tuple[str, int], Site])
    explored: dict[tuple[str, int], bool] = field(default_factory=dict[tuple[str, int], bool])

    def visit(self, walkers: Mapping[str, Walker], config: Config) -> None:
        """Look at one configuration."""
        if (
            config.end
            or config.unwinding is not None
            or config.deadline
            or self.machine.deadline_ms is not None
        ):
            return
        at = config.top
        if (at.machine, at.site) not in self.explored:
            site = walkers[at.machine].sites[at.site]
            self.explored[(at.machine, at.site)] = True
            if not bounded(site):
                self.found[(at.machine, at.site)] = site

    def findings(self, walkers: Mapping[str, Walker], saga: str) -> Iterator[Finding]:
        """One per await."""
        for (machine, _), site in self.found.items():
            wait = site.kind == "wait"
            yield Finding(
                code="CP712",
                severity="warning",
                saga=saga,
                text=f"{site.label or site.text} may {'wait' if wait else 'go unanswered'} for ever",
                hint="no within=, and the saga has no deadline",
                fix="within=…" + ("" if wait else ", or retry=FOREVER") + ", or @saga(deadline=…)",
                file=walkers[machine].program.file,
                line=site.line,
                column=site.column + 1,
            )


def bounded(site: Site) -> bool:
    """Whether an operation ends by itself, or is meant to be tried for ever."""
    if site.kind in ("command", "ask", "wait"):
        return site.has_within or site.forever or gives_up(site)
    if site.kind == "all":
        return site.has_within or all(bounded(child) for child in site.children)
    if site.kind == "first":
        return site.has_within or any(bounded(child) for child in site.children)
    return True


@dataclass(slots=True)
class HiddenEffect:
    """CP721: an observed saga holds a local step with effects, which no event shows."""

    found: dict[tuple[str, str], Site] = field(default_factory=dict[tuple[str, str], Site])

    def visit(self, walkers: Mapping[str, Walker], config: Config) -> None:
        """Look at one configuration."""
        for at in config.frames:
            for site in (
                flat(walkers[at.machine].sites[at.site]) if at.site in walkers[at.machine].sites else ()
            ):
                if site.kind == "child" or (site.kind in ("local", "map") and not site.observe):
                    self.found.setdefault((at.machine, site.label or site.text), site)

    def findings(self, walkers: Mapping[str, Walker], saga: str) -> Iterator[Finding]:
        """One per step."""
        for (machine, _), site in self.found.items():
            yield Finding(
                code="CP721",
                severity="error",
                saga=saga,
                text=f"{type_name(site.target)} is a {'child' if site.kind == 'child' else 'local step'} of an observed saga: no event shows what it did",
                hint="an observer runs no steps with effects",
                fix="@step(observe=True) if it may run here, or wait for the event that shows it",
                file=walkers[machine].program.file,
                line=site.line,
                column=site.column + 1,
            )


def flat(site: Site) -> Iterator[Site]:
    """An operation and those within it."""
    yield site
    for child in site.children:
        yield from flat(child)
