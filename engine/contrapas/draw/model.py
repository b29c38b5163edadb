"""Where an instance may be, abstractly, and every move from there: the machine without its data.

A configuration is what `Config` holds: the frames with their labels and control slots, the undo stack as a word of
steps with status (each at most twice: the oldest and the newest), whether the pivot has passed, replies that may still
come. Moves are every end of the operation in hand, cancel and kill, late replies, and the steps of an unwind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from contrapas.draw.native import Env, Value, env_set
from contrapas.draw.outcomes import Issued, Outcome, issued, outcomes, type_name
from contrapas.draw.segment import Stop, Walker
from contrapas.errors import Cancelled, StepFailed
from contrapas.machine.ir import Site

CANCELLED: Value = ("x", Cancelled, False)
UNDOABLE = frozenset({"done", "unknown"})


@dataclass(frozen=True, slots=True)
class At:
    """One frame: a machine standing at an await."""

    machine: str
    site: int
    env: Env
    scopes: tuple[tuple[str, int], ...] = ()
    """(label, height of the undo stack) of each open scope."""


@dataclass(frozen=True, slots=True)
class Unwind:
    """Taking back down to `floor`, then `resume` the await, `raise` out of the saga, or `end` (a kill)."""

    floor: int
    then: str
    raises: Value = None


@dataclass(frozen=True, slots=True)
class Config:
    """An abstract configuration."""

    frames: tuple[At, ...] = ()
    stack: tuple[Issued, ...] = ()
    pivoted: bool = False
    deadline: bool = False
    cancelled: bool = False
    unwinding: Unwind | None = None
    late: frozenset[tuple[str, str]] = frozenset()
    """(machine, label) of steps whose reply may still come."""
    end: str = ""
    """Empty while it lives: `return OrderConfirmed`, `raise StepFailed`, `parked`, `killed`."""

    @property
    def top(self) -> At:
        """The innermost frame."""
        return self.frames[-1]


@dataclass(frozen=True, slots=True)
class Move:
    """One step of the exploration."""

    kind: str
    """`start reply failure expiry cancel kill late undo undone end`."""
    machine: str
    label: str
    cause: str
    config: Config
    line: int = 0
    end_line: int = 0
    status: str = ""
    raised: bool = False
    """The operation raised StepFailed into the saga."""
    excepts: tuple[int, ...] = ()
    pivot: bool = False
    failure: bool = False
    bug: bool = False
    """Only an error in the saga's own code leads here."""


@dataclass(frozen=True, slots=True)
class _Way:
    config: Config
    pivot: bool
    excepts: tuple[int, ...]
    line: int
    bug: bool = False


def class_name(exc: Value) -> str:
    """Name of an exception's class."""
    return str(exc[1].__name__) if exc is not None else ""


class Model:
    """Moves of one saga; called sagas in `walkers` are entered, others are one operation."""

    def __init__(self, name: str, walkers: Mapping[str, Walker], *, late: bool = True) -> None:
        self.name = name
        self.walkers = walkers
        self.late = late
        """With late replies and kills, which move no frame."""
        self._outcomes: dict[tuple[str, int], tuple[Outcome, ...]] = {}
        self._issued: dict[tuple[str, int], tuple[Issued, ...]] = {}

    def site(self, at: At) -> Site:
        """The await at which a frame stands."""
        return self.walkers[at.machine].sites[at.site]

    def begin(self) -> Iterator[Move]:
        """From the start event to the first awaits."""
        walker = self.walkers[self.name]
        for env in _starts(walker):
            for stop in walker.begin(env):
                for way in self._settle(Config(), self.name, (), stop):
                    yield Move(
                        "start",
                        self.name,
                        "START",
                        "",
                        way.config,
                        end_line=way.line,
                        pivot=way.pivot,
                        bug=way.bug,
                    )

    def moves(self, config: Config) -> Iterator[Move]:
        """Every next configuration, the hopeful ones first; a duplicate changes nothing and is no move."""
        if config.end:
            return
        if config.unwinding is not None:
            yield from self._unwind(config, config.unwinding)
            return
        at = config.top
        for outcome in self._ends(at):
            yield from self._outcome(config, at, outcome)
        yield from self._cancel(config, at)
        if self.late:
            yield from _late(config)

    def _ends(self, at: At) -> tuple[Outcome, ...]:
        key = (at.machine, at.site)
        if key not in self._outcomes:
            site = self.site(at)
            up = site.kind == "command" and self.walkers[at.machine].gives_up(site)
            self._outcomes[key] = tuple(outcomes(site, gives_up=up))
        return self._outcomes[key]

    def _entries(self, at: At) -> tuple[Issued, ...]:
        key = (at.machine, at.site)
        if key not in self._issued:
            self._issued[key] = issued(at.machine, self.site(at))
        return self._issued[key]

    def _outcome(self, config: Config, at: At, outcome: Outcome) -> Iterator[Move]:
        site = self.site(at)
        settled = self._settled(config, at, outcome.statuses)
        if self.late and "unknown" in outcome.statuses and site.kind in ("command", "ask"):
            settled = replace(settled, late=settled.late | {(at.machine, site.label)})
        walker = self.walkers[at.machine]
        if outcome.raises is not None:
            stops = walker.throw(at.site, at.env, outcome.raises)
        else:
            stops = walker.resume(at.site, at.env, outcome.value)
        kind = "expiry" if outcome.cause.startswith("after ") else "failure" if outcome.failure else "reply"
        for stop in stops:
            for way in self._settle(settled, at.machine, at.scopes, stop):
                yield Move(
                    kind,
                    at.machine,
                    site.label,
                    outcome.cause,
                    way.config,
                    line=site.line,
                    end_line=way.line,
                    status="|".join(dict.fromkeys(outcome.statuses)),
                    raised=outcome.raises is not None,
                    excepts=way.excepts,
                    pivot=way.pivot,
                    failure=outcome.failure,
                    bug=way.bug,
                )

    def _settled(self, config: Config, at: At, statuses: tuple[str, ...]) -> Config:
        """The entries of the operation in hand take their status; what was undone at once is gone."""
        count = len(self._entries(at))
        if not count or config.pivoted:
            return config
        below, own = config.stack[:-count], config.stack[-count:]
        after = [replace(e, status=s) for e, s in zip(own, statuses, strict=True) if s != "undone"]
        return replace(config, stack=_saturated((*below, *after), self._floors(config)))

    def _floors(self, config: Config) -> int:
        """Height below which the stack may not be thinned without moving the marks of open scopes."""
        return max((height for at in config.frames for _, height in at.scopes), default=0)

    def _cancel(self, config: Config, at: At) -> Iterator[Move]:
        if config.pivoted or config.cancelled:
            return
        site = self.site(at)
        unknown = self._settled(config, at, ("unknown",) * len(self._entries(at)))
        asked = replace(unknown, cancelled=True)
        for stop in self.walkers[at.machine].throw(at.site, at.env, CANCELLED):
            for way in self._settle(asked, at.machine, at.scopes, stop):
                yield Move(
                    "cancel", at.machine, site.label, "cancel", way.config,
                    line=site.line, end_line=way.line, excepts=way.excepts, pivot=way.pivot, failure=True, bug=way.bug,
                )  # fmt: skip
        if not self.late:
            return
        killed = replace(asked, frames=(), unwinding=Unwind(0, "end"), late=frozenset())
        yield Move("kill", at.machine, site.label, "kill", killed, line=site.line, failure=True)

    def _settle(
        self, config: Config, machine: str, scopes: tuple[tuple[str, int], ...], stop: Stop
    ) -> Iterator[_Way]:
        """What a stretch of code makes of a configuration whose innermost frame it left."""
        below = config.frames[:-1]
        pivot = False
        for mark in stop.marks:
            config, scopes, crossed = _mark(config, scopes, mark)
            pivot = pivot or crossed
            if crossed:
                below = tuple(replace(at, scopes=tuple((label, 0) for label, _ in at.scopes)) for at in below)
        if stop.kind == "await":
            yield from self._issue(config, below, At(machine, stop.site, stop.env, scopes), stop, pivot)
        elif stop.kind == "return":
            yield from self._returned(config, below, stop, pivot)
        else:
            yield from self._raised(config, below, stop, pivot)

    def _issue(
        self, config: Config, below: tuple[At, ...], at: At, stop: Stop, pivot: bool
    ) -> Iterator[_Way]:
        site = self.site(at)
        here = replace(config, frames=(*below, at))
        if site.kind in ("compensate", "unwind"):
            floor = at.scopes[-1][1] if at.scopes else 0
            yield _Way(
                replace(here, unwinding=Unwind(floor, "resume")), pivot, stop.lines, stop.line, stop.bug
            )
            return
        called = type_name(site.target) if site.kind == "frame" else ""
        if called in self.walkers and sum(f.machine == called for f in here.frames) < 2:
            walker = self.walkers[called]
            for env in _starts(walker):
                for inner in walker.begin(env):
                    entered = replace(here, frames=(*here.frames, At(called, -1, ())))
                    for way in self._settle(entered, called, (), inner):
                        yield replace(way, pivot=way.pivot or pivot, excepts=(*stop.lines, *way.excepts))
            return
        entries = () if config.pivoted else self._entries(at)
        late = here.late - {(at.machine, site.label)}
        after = replace(here, stack=(*here.stack, *entries), late=late)
        yield _Way(after, pivot, stop.lines, stop.line, stop.bug)

    def _returned(self, config: Config, below: tuple[At, ...], stop: Stop, pivot: bool) -> Iterator[_Way]:
        if below:
            caller = below[-1]
            left = replace(config, frames=below)
            for onward in self.walkers[caller.machine].resume(caller.site, caller.env, stop.value):
                for way in self._settle(left, caller.machine, caller.scopes, onward):
                    yield replace(way, pivot=way.pivot or pivot, excepts=(*stop.lines, *way.excepts))
            return
        for name in self._outcome_names(stop.value):
            done = replace(config, frames=(), end=f"return {name}" if name else "return")
            yield _Way(done, pivot, stop.lines, stop.line, stop.bug)

    def _outcome_names(self, value: Value) -> tuple[str, ...]:
        """Registered names of what a return may give; an empty one: no event."""
        if value is not None and value[0] == "c":
            return (type_name(value[1]),)
        if value == ("k", None):
            return ("",)
        hint = self.walkers[self.name].program.hints.get("return")
        members = getattr(hint, "__args__", None) or ((hint,) if isinstance(hint, type) else ())
        return tuple(dict.fromkeys(type_name(m) for m in members if hasattr(m, "__contrapas_name__"))) or (
            "",
        )

    def _raised(self, config: Config, below: tuple[At, ...], stop: Stop, pivot: bool) -> Iterator[_Way]:
        exc = stop.value
        if below:
            caller = below[-1]
            left = replace(config, frames=below)
            for onward in self.walkers[caller.machine].throw(caller.site, caller.env, exc):
                for way in self._settle(left, caller.machine, caller.scopes, onward):
                    yield replace(way, pivot=way.pivot or pivot, excepts=(*stop.lines, *way.excepts))
            return
        unwinds = exc is not None and not exc[2] and issubclass(exc[1], StepFailed | Cancelled)
        if not unwinds:
            fuzzy = exc is None or exc[2]
            end = "parked" if fuzzy else f"raise {class_name(exc)}"
            yield _Way(replace(config, frames=(), end=end), pivot, stop.lines, stop.line, stop.bug or fuzzy)
        elif config.pivoted:
            yield _Way(replace(config, frames=(), end="parked"), pivot, stop.lines, stop.line, stop.bug)
        else:
            leaving = replace(config, frames=(), unwinding=Unwind(0, "raise", exc))
            yield _Way(leaving, pivot, stop.lines, stop.line, stop.bug)

    def _unwind(self, config: Config, unwind: Unwind) -> Iterator[Move]:
        """Take back the newest step that may have happened, or go on when there is none left."""
        height = len(config.stack)
        while height > unwind.floor:
            entry = config.stack[height - 1]
            if entry.undo and entry.status in UNDOABLE:
                rest = replace(config, stack=config.stack[: height - 1])
                yield Move("undo", entry.machine, f"undo({entry.label})", entry.undo, rest, line=entry.line)
                parked = replace(rest, end="parked", unwinding=None, frames=())
                yield Move(
                    "failure",
                    entry.machine,
                    f"undo({entry.label})",
                    "gave up",
                    parked,
                    line=entry.line,
                    failure=True,
                )
                return
            height -= 1
        low = replace(config, stack=config.stack[: unwind.floor], unwinding=None)
        if unwind.then == "resume":
            at = low.top
            site = self.site(at)
            scopes = at.scopes[:-1] if site.kind == "unwind" else at.scopes
            for stop in self.walkers[at.machine].resume(at.site, at.env):
                for way in self._settle(low, at.machine, scopes, stop):
                    yield Move(
                        "undone", at.machine, site.label, "", way.config,
                        line=site.line, end_line=way.line, excepts=way.excepts, pivot=way.pivot, bug=way.bug,
                    )  # fmt: skip
            return
        end = "killed" if unwind.raises is None else f"raise {class_name(unwind.raises)}"
        yield Move("end", self.name, end, "", replace(low, end=end))


def _mark(
    config: Config, scopes: tuple[tuple[str, int], ...], mark: tuple[str, ...]
) -> tuple[Config, tuple[tuple[str, int], ...], bool]:
    """Apply one immediate call."""
    if mark[0] == "enter":
        floor = max((height for at in config.frames for _, height in at.scopes), default=0)
        floor = max([floor, *(height for _, height in scopes)])
        config = replace(config, stack=_saturated(config.stack, floor))
        return config, (*scopes, (mark[1], len(config.stack))), False
    if mark[0] == "leave":
        return config, scopes[:-1] if scopes and scopes[-1][0] == mark[1] else scopes, False
    if mark[0] == "deadline":
        return replace(config, deadline=True), scopes, False
    crossed = not config.pivoted
    return (
        replace(config, pivoted=True, stack=(), late=frozenset()),
        tuple((n, 0) for n, _ in scopes),
        crossed,
    )


def _late(config: Config) -> Iterator[Move]:
    """A reply after its step expired settles the undo entry and moves nothing else."""
    for machine, label in sorted(config.late):
        for status in ("done", "failed"):
            stack = tuple(
                replace(e, status=status)
                if (e.machine, e.label, e.status) == (machine, label, "unknown")
                else e
                for e in config.stack
            )
            after = replace(config, stack=stack, late=config.late - {(machine, label)})
            yield Move("late", machine, label, f"late {status}", after)


def _saturated(stack: tuple[Issued, ...], floor: int) -> tuple[Issued, ...]:
    """At most two of a kind above `floor`: the oldest and the newest."""
    counts: dict[Any, list[int]] = {}
    for position, entry in enumerate(stack):
        if position >= floor:
            counts.setdefault(entry, []).append(position)
    drop = {p for positions in counts.values() for p in positions[1:-1]}
    return tuple(entry for position, entry in enumerate(stack) if position not in drop)


def _starts(walker: Walker) -> list[Env]:
    """Environments at the start: one per class of the first parameter where that decides anything."""
    program = walker.program
    first = program.params[0] if program.params else ""
    hint = program.hints.get(first)
    members = getattr(hint, "__args__", None) or (hint,)
    if not first or not walker.native.keeps(first) or not all(isinstance(m, type) for m in members):
        return [()]
    return [env_set((), first, ("c", member)) for member in members]
