"""The arrows of a machine: from each await to the next one, to an outcome, to what takes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from contrapas.draw.graph import START, Graph, Taken
from contrapas.draw.model import Config, Model, Move, class_name
from contrapas.draw.outcomes import Issued, is_step, undo_of, undo_text
from contrapas.draw.segment import Walker
from contrapas.errors import BugError
from contrapas.machine import Edge, Machine, State
from contrapas.machine.ir import Program, Site

LIMIT = 3_000
"""Configurations looked at with the undo stack, and as many without it; a picture that would need more says so."""


def edges(machine: Machine) -> tuple[Edge, ...]:
    """Every arrow of one machine; called sagas are one state. Ends are `return X`, `raise X`, `parked`."""
    return graph_of(machine).edges


def program_of(machine: Machine) -> Program:
    """The intermediate form that the compiler left in the machine."""
    if isinstance(machine.program, Program):
        return machine.program
    raise BugError("CP900", f"{machine.name}: its intermediate form is missing")


@dataclass(slots=True)
class _Found:
    """What a sweep over the configurations collects."""

    edges: dict[tuple[str, str, str], Edge] = field(default_factory=dict[tuple[str, str, str], Edge])
    errors: dict[tuple[str, str, str], Edge] = field(default_factory=dict[tuple[str, str, str], Edge])
    pivots: dict[tuple[str, str], None] = field(default_factory=dict[tuple[str, str], None])
    words: dict[str, dict[tuple[str, ...], list[set[str]]]] = field(
        default_factory=dict[str, dict[tuple[str, ...], list[set[str]]]]
    )
    entries: dict[str, Issued] = field(default_factory=dict[str, Issued])


def graph_of(machine: Machine, walker: Walker | None = None) -> Graph:
    """Everything that pictures show; `walker`: of this machine, if there is one already."""
    walker = walker or Walker(program_of(machine))
    found = _Found()
    model, partial = Model(machine.name, {machine.name: walker}, late=False), ""
    if not _sweep(found, model):
        partial = "what is taken back may be more than is shown"
        if not _sweep(found, Model(machine.name, {machine.name: walker}, late=False, bare=True)):
            partial = "arrows may be missing"
        partial = f"too many ways to draw: {partial}"
    reached = {(e.source, e.target) for e in found.edges.values()}
    extra = [e for e in found.errors.values() if (e.source, e.target) not in reached]
    order = {label: n for n, label in enumerate((START, *machine.states))}
    drawn = sorted([*found.edges.values(), *extra], key=lambda e: order.get(e.source, len(order)))
    labels = [t for _, t in found.pivots]
    return Graph(
        name=machine.name,
        graph=machine.graph,
        states=machine.states,
        edges=tuple(drawn),
        undos=_undos(walker.program),
        pivots=frozenset(found.pivots),
        before_pivot=tuple(dict.fromkeys(t.removeprefix("return ") for t in labels)),
        unwinds={label: _taken(found, words) for label, words in found.words.items()},
        outcomes=machine.outcomes,
        undo_states=tuple(top.label for top, _ in _undo_sites(walker.program)),
        parts=_parts(walker.program),
        scopes=scopes_of(machine.states),
        partial=partial,
    )


def _sweep(found: _Found, model: Model) -> bool:
    """Collect what every configuration shows, up to the limit; False: there are more."""
    seen: dict[Config, None] = {}
    todo: list[Config] = []
    for move in model.begin():
        _note(found, model, START, move)
        if move.config not in seen:
            seen[move.config] = None
            todo.append(move.config)
    for config in todo:
        _unwinding(found, model, config)
        for move in model.moves(config):
            source = _source(model, config)
            if source:
                _note(found, model, source, move)
            if move.config not in seen:
                if len(seen) >= LIMIT:
                    return False
                seen[move.config] = None
                todo.append(move.config)
    return True


def _parts(program: Program) -> dict[str, tuple[str, ...]]:
    """State -> what it runs side by side; of `*[…]` one stands for all."""
    return {
        site.label: tuple(
            f"{c.label or c.text}{' …' if c.starred or site.starred else ''}" for c in site.children
        )
        for site in program.sites
        if site.children
    }


def scopes_of(states: Mapping[str, State]) -> dict[str, tuple[str, ...]]:
    """State -> names of the scopes it stands in; two scopes of one place in the text are told apart by their order."""
    found: dict[str, tuple[str, ...]] = {}
    before: tuple[str, ...] = ()
    numbers: dict[str, int] = {}
    for state in states.values():
        names: tuple[str, ...] = ()
        paths = _scope_paths(state)
        for depth, path in enumerate(paths):
            same = (
                len(before) > depth and before[:depth] == names and before[depth].rpartition(" ")[0] == path
            )
            if not same:
                numbers[path] = numbers.get(path, 0) + 1
            names = (*names, before[depth] if same else f"{path} {numbers[path]}")
        if names:
            found[state.label] = names
        before = names
    return found


def _scope_paths(state: State) -> list[str]:
    """Control paths of the scopes around a state: `try/scope`."""
    parts = state.path.split("/")
    ends = [i for i, part in enumerate(parts) if part.partition("#")[0].partition(".")[0] == "scope"]
    return ["/".join(parts[: end + 1]) for end in ends[: state.scope_depth]]


def _source(model: Model, config: Config) -> str:
    """Label of the state from which moves of this configuration are drawn; empty: they are not."""
    if config.end or not config.frames:
        return ""
    return model.site(config.top).label


def _target(model: Model, config: Config) -> str:
    if config.end:
        return config.end
    if config.frames:
        return model.site(config.top).label
    unwinding = config.unwinding
    exc = unwinding.raises if unwinding is not None else None
    return f"raise {class_name(exc)}" if exc is not None else "killed"


def _note(found: _Found, model: Model, source: str, move: Move) -> None:
    if move.kind in ("undo", "late") or (move.kind == "failure" and move.label.startswith("undo(")):
        return
    target = _target(model, move.config)
    if move.kind == "cancel" and target.startswith("raise Cancelled"):
        return
    if move.bug:
        if target != "parked":
            edge = Edge(
                source=source, target=target, cause="error", failure=True, lines=(move.line, move.end_line)
            )
            found.errors.setdefault((source, target, "error"), edge)
        return
    key = (source, target, move.cause)
    if move.pivot:
        found.pivots.setdefault((source, target))
    failure = move.raised or move.failure or move.kind == "cancel"
    found.edges.setdefault(
        key,
        Edge(
            source=source, target=target, cause=move.cause, failure=failure, lines=(move.line, move.end_line)
        ),
    )


def _unwinding(found: _Found, model: Model, config: Config) -> None:
    """Remember which steps stand when an unwind begins, or is under way."""
    unwind = config.unwinding
    if unwind is None or unwind.then == "end":
        return
    label = _target(model, config)
    above = [e for e in config.stack[unwind.floor :] if e.undo]
    for entry in above:
        found.entries.setdefault(entry.label, entry)
    word = tuple(e.label for e in above)
    statuses = found.words.setdefault(label, {}).setdefault(word, [set() for _ in word])
    for known, entry in zip(statuses, above, strict=True):
        known.add(entry.status)


def _taken(found: _Found, words: dict[tuple[str, ...], list[set[str]]]) -> tuple[Taken, ...]:
    """What is taken back, newest first: the longest word in full, then what only other words hold."""
    longest = max(words, key=len, default=())
    listed: dict[str, bool] = {}
    for label, statuses in zip(reversed(longest), reversed(words.get(longest, [])), strict=True):
        listed[label] = listed.get(label, True) and statuses <= {"done"}
    for word in words:
        for label in reversed(word):
            listed.setdefault(label, False)
    return tuple(
        Taken(of=label, undo=found.entries[label].undo, certain=certain, word=found.entries[label].word)
        for label, certain in listed.items()
    )


def _undos(program: Program) -> tuple[tuple[str, str], ...]:
    return tuple((site.label or site.text, undo_text(site)) for _, site in _undo_sites(program))


def _undo_sites(program: Program) -> list[tuple[Site, Site]]:
    """(the await, the step with an undo in it), in order of issue."""
    return [
        (top, site)
        for top in program.sites
        for site in _flat(top)
        if is_step(site) and undo_of(site) in ("op", "lambda")
    ]


def _flat(site: Site) -> Iterator[Site]:
    yield site
    for child in site.children:
        yield from _flat(child)
