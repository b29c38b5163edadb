"""CP703 a step that nobody takes back, CP712 one that may last for ever, CP721 an effect that an observer cannot see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from contrapas.author.event import Command, MessageSpec, message_spec
from contrapas.check.finding import Finding
from contrapas.check.story import story
from contrapas.check.study import Study, flat
from contrapas.draw.model import Config, Move
from contrapas.draw.native import type_name
from contrapas.draw.outcomes import Issued, gives_up, words
from contrapas.machine.ir import Program, Site


def missing_undo(study: Study) -> Iterator[Finding]:
    """CP703: a step without `undo=` still stands when a later one fails, or when the saga compensates."""
    found: dict[tuple[str, str], tuple[Issued, Config | None, Move]] = {}
    for source, move in study.explored.usual():
        after = move.config
        if not after.stack or after.cancelled or after.pivoted:
            continue
        if move.kind not in ("reply", "failure", "expiry", "undone"):
            continue
        unwinds = after.unwinding is not None and (source is None or source.unwinding is None)
        if not (move.raised or unwinds):
            continue
        for entry in after.stack:
            own = (entry.machine, entry.label) == (move.machine, move.label)
            if not entry.undo and (entry.status == "done" or (entry.status == "unknown" and not own)):
                found.setdefault((entry.machine, entry.label), (entry, source, move))
    for entry, source, move in found.values():
        program = study.program(entry.machine)
        site = next(
            s for top in program.sites for s in flat(top) if (s.label or s.text) in (entry.label, entry.text)
        )
        path = [*study.explored.path(source), move, *study.explored.to_end(move.config)]
        noun = words(entry.text)[0] if words(entry.text) else entry.label
        yield study.find(
            "CP703",
            "warning",
            f"{entry.label} may be {entry.word} and never {_undone(program, site)}",
            f"undo=…  on line {site.line}, or  undo=None  if that is intended",
            site.line,
            column=site.column,
            machine=entry.machine,
            story=story(path, stands=f"the {noun} stands"),
            path=path,
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


def endless(study: Study) -> Iterator[Finding]:
    """CP712: a wait or step that may last for ever."""
    if study.machine.deadline_ms is not None:
        return
    begun = [
        (machine, site, study.places.get((machine, 0), []))
        for machine in study.machines()
        for site in study.program(machine).sites
        if site.kind == "begin"
    ]
    for machine, site, configs in (*study.stood(), *begun):
        if bounded(site):
            continue
        if site.kind != "begin" and not any(_unlimited(config, machine, site) for config in configs):
            continue
        wait = site.kind == "wait"
        yield study.find(
            "CP712",
            "warning",
            f"{site.label or site.text} may {'wait' if wait else 'go unanswered'} for ever",
            "within=…" + ("" if wait else ", or retry=FOREVER") + ", or @saga(deadline=…)",
            site.line,
            column=site.column,
            machine=machine,
            hint="no within=, and the saga has no deadline",
        )


def _unlimited(config: Config, machine: str, site: Site) -> bool:
    """Whether a configuration stands at a site, without a deadline of the saga."""
    at = config.frames[-1]
    if config.deadline or config.limited or config.unwinding is not None:
        return False
    return (at.machine, at.site) == (machine, site.index)


def bounded(site: Site) -> bool:
    """Whether an operation ends by itself, or is meant to be tried for ever."""
    if site.kind in ("command", "ask", "wait"):
        return site.has_within or site.forever or gives_up(site)
    if site.kind == "all":
        return site.has_within or all(bounded(child) for child in site.children)
    if site.kind == "begin":
        return all(child.kind == "wait" or bounded(child) for child in site.children)
    if site.kind in ("first", "some"):
        return site.has_within or any(bounded(child) for child in site.children)
    return True


def hidden_effect(study: Study) -> Iterator[Finding]:
    """CP721: an observed saga holds a local step with effects, which no event shows."""
    if study.mode != "observe":
        return
    for machine, top, _ in study.stood():
        for site in flat(top):
            if site.kind == "cancel":
                yield study.find(
                    "CP721", "error", f"{site.label or site.text}: an observed saga cancels nobody",
                    "app.orchestrate(…), or leave it to who orchestrates", site.line, column=site.column,
                    machine=machine, hint="an observer sends nothing",
                )  # fmt: skip
            elif site.kind == "child" or (site.kind in ("local", "map") and not site.observe):
                yield study.find(
                    "CP721",
                    "error",
                    f"{type_name(site.target)} is a {'child' if site.kind == 'child' else 'local step'}"
                    " of an observed saga: no event shows what it did",
                    "@step(observe=True) if it may run here, or wait for the event that shows it",
                    site.line,
                    column=site.column,
                    machine=machine,
                    hint="an observer runs no steps with effects",
                )
