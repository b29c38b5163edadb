"""Who emits and who takes what, over all services and sagas of an app: CP601, CP603, CP604, CP605, and CP701 where nobody can answer.

Everything comes from annotations: a `Service` says by them what it takes and emits, a saga by its machine. A topic that
no service of the app takes commands from, or emits events on, belongs to somebody else: nothing is said about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contrapas.author.event import Command, message_spec
from contrapas.check.finding import Finding
from contrapas.check.properties import bounded
from contrapas.check.study import Study, flat, listed
from contrapas.draw.native import type_name
from contrapas.machine.ir import Site


@dataclass(slots=True)
class Parts:
    """Every reaction of the app's services, and what follows from them."""

    reactions: tuple[Any, ...]
    """`author.service.Reaction` each."""
    answered: dict[Any, list[Any]] = field(default_factory=dict[Any, list[Any]])
    """Command class -> reactions that answer it."""
    emitted: dict[Any, list[Any]] = field(default_factory=dict[Any, list[Any]])
    """Event class -> reactions that emit it."""
    taking: frozenset[str] = frozenset()
    """Topics from which some service takes commands."""
    emitting: frozenset[str] = frozenset()
    """Topics on which some service emits."""

    @classmethod
    def of(cls, services: Iterable[Any], externals: Iterable[Any] = ()) -> Parts:
        """From what was declared."""
        made = cls(tuple(r for service in services for r in getattr(service, "reactions", {}).values()))
        named = [r for one in externals for r in one.reactions]
        for reaction in (*made.reactions, *named):
            if _is_command(reaction.message):
                made.answered.setdefault(reaction.message, []).append(reaction)
            for event in reaction.emits:
                made.emitted.setdefault(event, []).append(reaction)
        made.taking = frozenset(_topic(command) for command in made.answered)
        made.emitting = frozenset(_topic(event) for event in made.emitted)
        return made


def choreography(
    services: Sequence[Any], studies: Sequence[Study], externals: Sequence[Any] = ()
) -> Iterator[Finding]:
    """Everything that is wrong between the parts of an app. externals: participants outside that are named."""
    parts = Parts.of(services, externals)
    yield from _shared(parts)
    yield from _owners(parts, studies)
    yield from _rings(parts)
    yield from _unheard(parts, studies)
    if parts.answered or parts.emitted:
        for study in studies:
            yield from _unanswered(parts, study, studies)
            if study.mode == "observe":
                yield from _untold(parts, study)


def _shared(parts: Parts) -> Iterator[Finding]:
    """CP605: two services answer one command."""
    for command, reactions in parts.answered.items():
        if len(reactions) > 1:
            names = listed([r.name for r in reactions])
            yield _at(
                reactions[1], "CP605", "error", f"{type_name(command)} is answered by {names}",
                "one owner for each command: remove it from the others", "which answer counts is left to chance",
            )  # fmt: skip


def _owners(parts: Parts, studies: Sequence[Study]) -> Iterator[Finding]:
    """CP605: a command that a saga takes has one owner: that saga, and no service beside it."""
    owner: dict[Any, str] = {reactions[0].message: reactions[0].name for reactions in parts.answered.values()}
    for study in studies:
        if study.mode == "observe":
            continue
        own: dict[Any, tuple[str, int]] = {cls: (study.name, study.machine.line) for cls in _started(study)}
        for machine, top, _ in study.stood():
            for site in flat(top):
                for cls in site.replies if site.kind == "wait" else ():
                    own.setdefault(cls, (machine, site.line))
        for cls, (machine, line) in own.items():
            if not _is_command(cls):
                continue
            other = owner.setdefault(cls, study.name)
            if other != study.name:
                yield study.find(
                    "CP605", "error", f"{type_name(cls)} is answered by {other} and by {study.name}",
                    "one owner for each command: let the other take an event", line, machine=machine,
                    hint="which of them it reaches is left to chance",
                )  # fmt: skip


def _rings(parts: Parts) -> Iterator[Finding]:
    """CP604: services that react to each other without an end."""
    ahead: dict[Any, dict[Any, Any]] = {}
    for reaction in parts.reactions:
        for event in reaction.emits:
            ahead.setdefault(reaction.message, {})[event] = reaction
    told: set[frozenset[Any]] = set()
    for first in ahead:
        ring = _ring(ahead, first)
        if ring and frozenset(ring) not in told:
            told.add(frozenset(ring))
            names = [type_name(one) for one in ring]
            yield _at(
                ahead[ring[0]][ring[1 % len(ring)]], "CP604", "warning",
                f"{' → '.join([*names, names[0]])}: each brings about the next, and the last the first",
                "break the ring, or let one of them return None at some count or time",
                "it goes round for ever",
            )  # fmt: skip


def _ring(ahead: Mapping[Any, Mapping[Any, Any]], first: Any) -> list[Any]:
    """A shortest ring through a message; empty if there is none."""
    todo: list[list[Any]] = [[first]]
    seen: set[Any] = set()
    while todo:
        path = todo.pop(0)
        for event in ahead.get(path[-1], {}):
            if event is first:
                return path
            if event not in seen:
                seen.add(event)
                todo.append([*path, event])
    return []


def _unheard(parts: Parts, studies: Sequence[Study]) -> Iterator[Finding]:
    """CP601: an event that a service emits, on a topic that is read here, and that nobody takes."""
    taken = {reaction.message for reaction in parts.reactions}
    for study in studies:
        taken |= set(_taken(study))
    read = {_topic(cls) for cls in taken}
    for event, reactions in parts.emitted.items():
        replies = any(event in message_spec(r.message).replies for r in reactions if _is_command(r.message))
        if event not in taken and not replies and _topic(event) in read:
            yield _at(
                reactions[0], "CP601", "warning", f"{reactions[0].name} emits {type_name(event)}, and nobody takes it",
                f"take it: a service .on({type_name(event)}), a saga's s.wait; or do not emit it",
                f"{_topic(event)} is read here, but not for this",
            )  # fmt: skip
    for reaction in parts.reactions:
        message = reaction.message
        if _is_command(message) or message in parts.emitted or _topic(message) not in parts.emitting:
            continue
        if message in {cls for study in studies for cls in (*_given(study), *_started(study))}:
            continue
        yield _at(
            reaction, "CP601", "error", f"{reaction.name} reacts to {type_name(message)}, and nobody emits it",
            "name it in the annotation of the reaction that emits it",
            f"others on {_topic(message)} are emitted here, this one is not",
        )  # fmt: skip


def _unanswered(parts: Parts, study: Study, studies: Sequence[Study]) -> Iterator[Finding]:
    """CP601, CP701: what a saga asks for or waits for, and nobody of the app gives."""
    given = {cls for other in studies for cls in _given(other)}
    for machine, top, _ in study.stood():
        for site in flat(top):
            if site.kind in ("command", "ask"):
                yield from _unasked(parts, study, machine, site)
            elif site.kind == "wait":
                missing = [
                    cls
                    for cls in site.replies
                    if _topic(cls) in parts.emitting and cls not in parts.emitted and cls not in given
                ]
                if not missing:
                    continue
                names = listed([type_name(cls) for cls in missing])
                stuck = len(missing) == len(site.replies) and top is site and not bounded(site)
                stuck = stuck and study.machine.deadline_ms is None
                yield study.find(
                    "CP701" if stuck else "CP601", "error",
                    f"{site.label or site.text} can never end: nobody emits {names}" if stuck else f"nobody emits {names}",
                    "name it in the annotation of the service that emits it" + (", or within=…" if stuck else ""),
                    site.line, column=site.column, machine=machine,
                    hint=f"services emit others on {_topic(missing[0])}, not this",
                    **(_way(study, machine, site) if stuck else {}),
                )  # fmt: skip


def _unasked(parts: Parts, study: Study, machine: str, site: Site) -> Iterator[Finding]:
    command = site.target
    if study.mode == "observe":
        good = site.replies[0]
        if _topic(good) in parts.emitting and good not in parts.emitted:
            yield study.find(
                "CP601", "error", f"nobody emits {type_name(good)}, which {site.label or site.text} is to show",
                "name it in the annotation of the service that emits it", site.line, column=site.column,
                machine=machine, hint="an observer sends nothing: it can only follow",
            )  # fmt: skip
        return
    if _topic(command) not in parts.taking:
        return
    reactions = parts.answered.get(command, [])
    if not reactions:
        yield study.find(
            "CP601", "error", f"nobody answers {type_name(command)}",
            f"a service with .on({type_name(command)})", site.line, column=site.column, machine=machine,
            hint=f"services take other commands from {_topic(command)}, not this",
        )  # fmt: skip
    elif all(site.replies[0] not in reaction.emits for reaction in reactions):
        yield study.find(
            "CP601", "error", f"{reactions[0].name} never answers {type_name(site.replies[0])}",
            f"name it in the annotation of {reactions[0].name}", site.line, column=site.column, machine=machine,
            hint=f"{type_name(command)} could only fail",
        )  # fmt: skip


def _way(study: Study, machine: str, site: Site) -> dict[str, Any]:
    """The story of how a saga comes to stand at a site."""
    for config in study.places.get((machine, site.index), ()):
        if not config.cancelled and config.unwinding is None:
            path = study.explored.path(config)
            return {"story": study.told(path), "path": path}
    return {}


def _untold(parts: Parts, study: Study) -> Iterator[Finding]:
    """CP603: under `observe`, a participant that acts although no event tells it of the branch taken."""
    causes: dict[Any, set[Any]] = {}
    for reaction in parts.reactions:
        for event in reaction.emits:
            causes.setdefault(reaction.message, set()).add(event)
    sites = [
        (machine, site)
        for machine, site, configs in study.stood()
        if site.kind in ("command", "ask") and any(not config.cancelled for config in configs)
    ]
    for machine, site in sites:
        reactions = parts.emitted.get(site.replies[0], [])
        triggers = [r for r in reactions if not _is_command(r.message)]
        known = _closure(causes, _before(study, machine, site))
        if reactions and not any(r.message in known for r in triggers):
            what = listed(list(dict.fromkeys(type_name(r.message) for r in reactions)))
            yield study.find(
                "CP603", "error", f"{reactions[0].name} acts on {what}, and nothing before this line brings that about",
                "let it react to an event that has happened by then", site.line, column=site.column,
                machine=machine, hint="nobody sends commands here: an event has to tell it",
            )  # fmt: skip
    yield from _both(parts, study, sites)


def _both(parts: Parts, study: Study, sites: Sequence[tuple[str, Site]]) -> Iterator[Finding]:
    """Branches of the saga whose participants all act, whichever branch it is."""
    for number, (machine, site) in enumerate(sites):
        for other_machine, other in sites[:number]:
            if machine != other_machine or _meets(study, machine, site, other) or site.target is other.target:
                continue
            mine, theirs = _always(parts, site), _always(parts, other)
            shared = [m for m in mine if m in theirs and mine[m] is not theirs[m]]
            if shared:
                yield study.find(
                    "CP603", "error",
                    f"{mine[shared[0]].name} and {theirs[shared[0]].name} both act on {type_name(shared[0])},"
                    " and here only one of them is meant",
                    "let the deciding service emit an event for each branch", site.line, column=site.column,
                    machine=machine, hint="no event tells them which branch was taken",
                )  # fmt: skip
                break


def _always(parts: Parts, site: Site) -> dict[Any, Any]:
    """Trigger -> reaction, of reactions that always emit something and whose success this step shows."""
    return {
        r.message: r
        for r in parts.emitted.get(site.replies[0], [])
        if not _is_command(r.message) and type(None) not in _members(r.hints.get("return"))
    }


def _members(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__args__", None) or (hint,)


def _meets(study: Study, machine: str, site: Site, other: Site) -> bool:
    """Whether one of two awaits can follow the other."""
    for first, second in ((site, other), (other, site)):
        todo = list(study.places.get((machine, first.index), ()))
        seen = set(todo)
        while todo:
            for move in study.explored.ahead(todo.pop()):
                after = move.config
                if after.cancelled or after in seen:
                    continue
                if any((at.machine, at.site) == (machine, second.index) for at in after.frames):
                    return True
                seen.add(after)
                todo.append(after)
    return False


def _before(study: Study, machine: str, site: Site) -> set[Any]:
    """Event classes that some way to an await has brought."""
    found: set[Any] = set(_started(study))
    for config in study.places.get((machine, site.index), ()):
        for move in study.explored.path(config):
            for top in study.program(move.machine).sites:
                if top.label == move.label:
                    found |= {c for one in flat(top) for c in one.replies if type_name(c) == move.cause}
    return found


def _closure(causes: Mapping[Any, set[Any]], known: set[Any]) -> set[Any]:
    todo = list(known)
    while todo:
        for event in causes.get(todo.pop(), ()):
            if event not in known:
                known.add(event)
                todo.append(event)
    return known


def _taken(study: Study) -> Iterator[Any]:
    """Event classes that a saga takes: what starts it, what it waits for, replies."""
    yield from _started(study)
    for machine in study.machines():
        for top in study.program(machine).sites:
            for site in flat(top):
                yield from site.replies
                if _is_command(site.undo_target):
                    yield from message_spec(site.undo_target).replies


def _started(study: Study) -> tuple[Any, ...]:
    program = study.program()
    hint = program.hints.get(program.params[0]) if program.params and not study.called else None
    return tuple(m for m in _members(hint) if isinstance(m, type))


def _given(study: Study) -> Iterator[Any]:
    """Event classes that a saga publishes."""
    if study.mode == "observe":
        return
    if not study.called:
        yield from (m for m in _members(study.program().hints.get("return")) if isinstance(m, type))
    for machine in study.machines():
        walker = study.walkers[machine]
        yield from walker.native.emits


def _is_command(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Command)


def _topic(cls: Any) -> str:
    return message_spec(cls).topic


def _at(reaction: Any, code: str, severity: str, text: str, fix: str, hint: str) -> Finding:
    """A finding at a function of a service."""
    made = reaction.fn.__code__
    return Finding(
        code=code, severity=severity, saga="", text=text, fix=fix, file=made.co_filename,
        line=_def_line(reaction.fn), column=1, hint=hint,
    )  # fmt: skip


def _def_line(fn: Any) -> int:
    """The line of `def`, behind the decorators."""
    import linecache

    line = fn.__code__.co_firstlineno
    for number in range(line, line + 20):
        if linecache.getline(fn.__code__.co_filename, number).lstrip().startswith(("def ", "async def ")):
            return int(number)
    return int(line)
