"""Where an instance may be, abstractly, and every move from there: the machine without its data.

A configuration is what `Config` holds: the frames with their labels and control slots, the undo stack as a word of
steps with status (each at most twice: the oldest and the newest), whether the pivot has passed, replies that may still
come, failures that were caught and nobody has dealt with yet. Moves are every end of the operation in hand, cancel and
kill, late replies, and the steps of an unwind. Everything here is a tuple: two ways to the same place meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from contrapas.draw import inflight
from contrapas.draw.config import (
    CANCELLED,
    EXPIRED,
    LATE_FAILED,
    STEPS,
    UNDOABLE,
    At,
    Config,
    Failure,
    Move,
    Unwind,
)
from contrapas.draw.inflight import Flying
from contrapas.draw.native import Env, Value, env_set, type_name
from contrapas.draw.outcomes import (
    FAILED,
    KNOWN,
    Branches,
    Issued,
    Outcome,
    effect_of,
    issued,
    outcomes,
)
from contrapas.draw.segment import Stop, Walker
from contrapas.draw.stacks import newest, saturated
from contrapas.errors import Cancelled, StepFailed
from contrapas.machine.ir import Site

__all__ = ["CANCELLED", "UNDOABLE", "At", "Config", "Failure", "Model", "Move", "Unwind", "class_name"]


FAILURES_MAX = 3
"""Caught failures that are remembered at a time: the oldest and the newest; each of the others is met on a way of its own."""


class _Way(NamedTuple):
    config: Config
    pivot: bool
    excepts: tuple[int, ...]
    line: int
    bug: bool = False
    facts: tuple[tuple[Any, ...], ...] = ()


def class_name(exc: Value) -> str:
    """Name of an exception's class."""
    return str(exc[1].__name__) if exc is not None else ""


class Model:
    """Moves of one saga; called sagas in `walkers` are entered, others are one operation."""

    def __init__(
        self,
        name: str,
        walkers: Mapping[str, Walker],
        *,
        late: bool = True,
        first: Config | None = None,
        bare: bool = False,
        branches: Branches | None = None,
        thin: bool = False,
    ) -> None:
        self.name = name
        self.walkers = walkers
        self.thin = thin
        """Of what the stack holds of one kind only the newest is known."""
        self.branches: Branches = branches or {}
        """Called sagas that run beside others and were looked into."""
        self.first = first or Config()
        """What holds already when the saga starts: of a called saga that is explored by itself."""
        self.late = late
        """With late replies, kills and caught failures: what no arrow of a picture shows."""
        self.bare = bare
        """Without the undo stack: every arrow is still there, what is taken back is not known."""
        self.unknown: dict[tuple[str, str], Site] = {}
        """Operations of a kind that is not understood yet: taken to succeed or to fail, no more."""
        self.cut: dict[tuple[str, int], Site] = {}
        """Calls of a saga in itself that were not followed any deeper."""
        self._told = any(walker.native.tests_unknown for walker in walkers.values())
        self._outcomes: dict[tuple[str, int], tuple[Outcome, ...]] = {}
        self._issued: dict[tuple[str, int], tuple[Issued, ...]] = {}
        self._started: dict[str, list[Env]] = {}

    def site(self, at: At) -> Site:
        """The await at which a frame stands."""
        return self.walkers[at.machine].sites[at.site]

    def begin(self) -> Iterator[Move]:
        """From the start event to the first awaits."""
        walker = self.walkers[self.name]
        for env in self._starts(self.name):
            for stop in walker.begin(env):
                for way in self._settle(self.first, self.name, (), stop):
                    yield Move(
                        "start", self.name, "START", "", way.config, 0, way.line, "", False, (),
                        way.pivot, False, way.bug, way.facts,
                    )  # fmt: skip

    def moves(self, config: Config) -> Iterator[Move]:
        """Every next configuration, the hopeful ones first; a duplicate changes nothing and is no move."""
        if config.end:
            return
        if config.unwinding is not None:
            yield from self._unwind(config, config.unwinding)
            return
        at = config.frames[-1]
        if self.site(at).kind in inflight.MEETS:
            yield from self._meet(config, at)
        else:
            for outcome in self.ends(at):
                yield from self._outcome(config, at, outcome)
        if not config.pivoted:
            yield from self._limits(config, at)
        if not (config.pivoted or config.cancelled):
            yield from self._cancel(config, at)
        if self.late and config.late:
            yield from _late(config)

    def ends(self, at: At) -> tuple[Outcome, ...]:
        """Every end of the operation at which a frame stands."""
        key = (at.machine, at.site)
        found = self._outcomes.get(key)
        if found is None:
            site = self.site(at)
            if site.kind not in KNOWN:
                self.unknown.setdefault((at.machine, site.label), site)
            found = self._outcomes[key] = tuple(outcomes(site, self._beside(site)))
        return found

    def ends_of(self, site: Site) -> tuple[Outcome, ...]:
        """Every end of an operation, whether it is awaited itself or stands in a join."""
        return tuple(outcomes(site, self.branches))

    def _beside(self, site: Site) -> Branches:
        """An awaited saga that is not entered calls itself too deep: it is one step, whatever it is beside others."""
        return {} if site.kind == "frame" else self.branches

    def _made(self, at: At) -> tuple[Issued, ...]:
        site = self.site(at)
        return issued(at.machine, site, self._beside(site))

    def _entries(self, at: At) -> tuple[Issued, ...]:
        key = (at.machine, at.site)
        found = self._issued.get(key)
        if found is None:
            found = self._issued[key] = () if self.bare else self._made(at)
        return found

    def _outcome(
        self,
        config: Config,
        at: At,
        outcome: Outcome,
        *,
        told: Site | None = None,
        status: tuple[str, ...] = (),
    ) -> Iterator[Move]:
        """One end of the operation in hand; told: of what was begun with that site, with the statuses of its entries."""
        site = self.site(at)
        settled = config if told is not None else self._settled(config, at, outcome.statuses)
        if self.late:
            settled = self._noted(settled, at, site, outcome)
        walker = self.walkers[at.machine]
        exc = outcome.raises
        if exc is not None:
            stops = walker.throw(at.site, at.env, (*exc, outcome.unknown) if self._told else exc)
        else:
            stops = walker.resume(at.site, at.env, outcome.value)
        word = "|".join(dict.fromkeys(status or outcome.statuses))
        for stop in stops:
            for way in self._settle(settled, at.machine, at.scopes, stop):
                yield Move(
                    outcome.kind, at.machine, site.label, outcome.cause, way.config, site.line, way.line, word,
                    exc is not None, way.excepts, way.pivot, outcome.failure, way.bug, way.facts,
                )  # fmt: skip

    def _meet(self, config: Config, at: At) -> Iterator[Move]:
        """What is in flight is awaited, or the scope or function that it belongs to ends."""
        walker, site = self.walkers[at.machine], self.site(at)
        frame = len(config.frames) - 1
        mine = tuple(f for f in config.flight if f.frame == frame)
        term = walker.term(at.site)
        for met in inflight.meet(
            walker.program, walker.sites, term, site, at.env, mine, len(at.scopes), self.branches
        ):
            stack, flight = config.stack, list(config.flight)
            statuses: tuple[str, ...] = ()
            for one, how in met.settled:
                stack = inflight.settle(stack, walker.sites[one.site].label, how)
                flight.remove(one)
                statuses += how
            if stack is not config.stack:
                stack = self._thinned(stack, _floor(config.frames))
            after = config._replace(stack=stack, flight=tuple(flight))
            begun = walker.sites[met.settled[0][0].site] if site.kind == "result" and met.settled else site
            yield from self._outcome(after, at, met.outcome, told=begun, status=statuses)

    def _limits(self, config: Config, at: At) -> Iterator[Move]:
        """The time of an open scope is over: `Cancelled` is thrown here, and leaves that scope as StepFailed."""
        for frame in config.frames:
            for label, _ in frame.scopes:
                name, limited, length = label.partition("|")
                if not limited or (config.cancelled and self.late):
                    continue
                site = self.site(at)
                unknown = self._settled(config, at, ("unknown",) * len(self._entries(at)))
                for stop in self.walkers[at.machine].throw(at.site, at.env, EXPIRED):
                    for way in self._settle(unknown, at.machine, at.scopes, stop):
                        yield Move(
                            "limit", at.machine, name, f"after {length}", way.config, site.line, way.line, "unknown",
                            True, way.excepts, way.pivot, True, way.bug, way.facts,
                        )  # fmt: skip
                return  # of nested limits the outermost counts

    def _noted(self, config: Config, at: At, site: Site, outcome: Outcome) -> Config:
        """With the failure that the saga now knows of, or without those that this success makes good."""
        if config.cancelled:
            return config
        late, failed = config.late, config.failed
        if outcome.unknown and site.kind in ("command", "ask") and "unknown" in outcome.statuses:
            late = late | {(at.machine, site.label)}
        own = [f for f in failed if (f.machine, f.label) == (at.machine, site.label)]
        if own:
            failed = tuple(f for f in failed if f not in own)
        if failed and not outcome.failure and (site.kind in STEPS) and not all(f.answered for f in failed):
            failed = tuple([f._replace(answered=True) for f in failed])
        if outcome.failure:
            status = "" if site.kind == "wait" else "unknown" if outcome.unknown else "failed"
            effect = effect_of(site) if status == "unknown" else None
            made = Failure(
                at.machine, site.label, site.line, status, outcome.raises is not None, config.pivoted, effect
            )
            most = 1 if self.thin else FAILURES_MAX
            failed = (*failed, made) if len(failed) < most else (*failed[: most - 1][:1], *failed[2:], made)
        if failed is config.failed and late is config.late:
            return config
        return config._replace(late=late, failed=failed)

    def _settled(self, config: Config, at: At, statuses: tuple[str, ...]) -> Config:
        """The entries of the operation in hand take their status; what was undone at once is gone."""
        count = len(self._entries(at))
        if not count or config.pivoted:
            return config
        below, own = config.stack[:-count], config.stack[-count:]
        after = [
            _with(e, s)
            for e, s in zip(own, statuses, strict=True)
            if s != "undone" and (s != "failed" if self.late else e.undo)
        ]
        return config._replace(stack=self._thinned((*below, *after), _floor(config.frames)))

    def _thinned(self, stack: tuple[Issued, ...], floor: int) -> tuple[Issued, ...]:
        """A picture shows the newest of a kind; a story the oldest and the newest of what is taken back."""
        if self.thin:
            return newest(stack, floor)
        return saturated(stack, floor, self.late, 2 if self.late else 1)

    def _cancel(self, config: Config, at: At) -> Iterator[Move]:
        site = self.site(at)
        unknown = self._settled(config, at, ("unknown",) * len(self._entries(at)))
        asked = unknown._replace(cancelled=True, failed=(), byhand=(), emitted=frozenset())
        for stop in self.walkers[at.machine].throw(at.site, at.env, CANCELLED):
            for way in self._settle(asked, at.machine, at.scopes, stop):
                yield Move(
                    "cancel", at.machine, site.label, "cancel", way.config, site.line, way.line, "", False,
                    way.excepts, way.pivot, True, way.bug, way.facts,
                )  # fmt: skip
        if self.late:
            killed = Config(stack=_given_up(unknown.stack, 0), cancelled=True, unwinding=Unwind(0, "end"))
            yield Move("kill", at.machine, site.label, "kill", killed, site.line, failure=True)

    def _settle(
        self, config: Config, machine: str, scopes: tuple[tuple[str, int], ...], stop: Stop
    ) -> Iterator[_Way]:
        """What a stretch of code makes of a configuration whose innermost frame it left."""
        below: tuple[At, ...] = config.frames[:-1]
        pivot = False
        facts: tuple[tuple[Any, ...], ...] = ()
        for mark in stop.marks:
            if mark[0] == "pivot":
                if config.pivoted:
                    facts = (*facts, mark)
                pivot = pivot or not config.pivoted
                config = config._replace(pivoted=True, stack=(), late=frozenset())
                scopes = _emptied(scopes)
                below = tuple([at._replace(scopes=_emptied(at.scopes)) for at in below])
            elif mark[0] == "begin":
                new = Flying(machine, int(mark[1]), len(below), len(scopes))
                config = self._begun(config, scopes, new)
            else:
                config, scopes = self._mark(config, scopes, mark)
        if stop.kind == "await":
            ways = self._issue(config, below, At(machine, stop.site, stop.env, scopes), stop, pivot)
        elif stop.kind == "return":
            ways = self._returned(config, below, stop, pivot)
        else:
            ways = self._raised(config, below, stop, pivot)
        if not facts:
            return iter(ways)
        return iter([way._replace(facts=(*facts, *way.facts)) for way in ways])

    def _begun(self, config: Config, scopes: tuple[tuple[str, int], ...], new: Flying) -> Config:
        """With one more operation in flight, and its undo registered."""
        flight = inflight.begun(config.flight, new)
        if flight is config.flight:
            return config
        machine, site = new.machine, self.walkers[new.machine].sites[new.site]
        entries = () if config.pivoted or self.bare else inflight.entries(machine, site, self.branches)
        if not self.late:
            entries = tuple([e for e in entries if e.undo])
        if not entries:
            return config._replace(flight=flight)
        floor = max([_floor(config.frames[:-1]), *(height for _, height in scopes)])
        stack = self._thinned((*config.stack, *entries), floor)
        return config._replace(flight=flight, stack=stack)

    def _mark(
        self, config: Config, scopes: tuple[tuple[str, int], ...], mark: tuple[Any, ...]
    ) -> tuple[Config, tuple[tuple[str, int], ...]]:
        """Apply one immediate call."""
        word = mark[0]
        if word == "enter":
            floor = max([_floor(config.frames[:-1]), *(height for _, height in scopes)])
            config = config._replace(stack=self._thinned(config.stack, floor))
            return config, (*scopes, (str(mark[1]), len(config.stack)))
        if word == "leave":
            return config, scopes[:-1] if scopes and scopes[-1][0].startswith(str(mark[1])) else scopes
        if word == "deadline":
            return config._replace(deadline=True), scopes
        if word == "emit" and self.late:
            return config._replace(emitted=config.emitted | {str(mark[1])}), scopes
        return config, scopes

    def _issue(
        self, config: Config, below: tuple[At, ...], at: At, stop: Stop, pivot: bool
    ) -> Iterable[_Way]:
        site = self.site(at)
        frames = (*below, at)
        if site.kind in ("compensate", "unwind"):
            floor = at.scopes[-1][1] if at.scopes else 0
            facts = _twice(config.byhand, config.stack[floor:])
            stack = _given_up(config.stack, floor) if config.flight else config.stack
            here = config._replace(frames=frames, stack=stack, unwinding=Unwind(floor, "resume"), byhand=())
            return (_Way(here, pivot, stop.lines, stop.line, stop.bug, facts),)
        called = type_name(site.target) if site.kind == "frame" else ""
        if called in self.walkers:
            if sum(f.machine == called for f in frames) < 2:
                return self._entered(config._replace(frames=frames), called, stop, pivot)
            self.cut.setdefault((at.machine, at.site), site)
        entries = () if config.pivoted else self._entries(at)
        late = config.late
        if late:
            late = late - {(at.machine, site.label)}
        facts, byhand = self._remarks(config, site) if self.late else ((), config.byhand)
        after = config._replace(
            frames=frames,
            stack=(*config.stack, *entries) if entries else config.stack,
            late=late,
            byhand=byhand,
        )
        return (_Way(after, pivot, stop.lines, stop.line, stop.bug, facts),)

    def _remarks(self, config: Config, site: Site) -> tuple[tuple[tuple[Any, ...], ...], tuple[Issued, ...]]:
        """What is remarkable about issuing an operation here, and the steps taken back by hand so far."""
        facts: list[tuple[Any, ...]] = []
        byhand = config.byhand
        if config.failed and not config.cancelled:
            own = effect_of(site)
            if own is not None:
                facts += [("again", f) for f in config.failed if f.effect is not None and f.effect & own]
        if (
            config.stack
            and (config.failed or byhand)
            and site.kind in ("command", "ask", "local", "map", "child")
        ):
            name = type_name(site.target)
            gone = {(e.machine, e.label) for e in byhand}
            standing = [e for e in config.stack if e.undo and e.status in UNDOABLE and e[:2] not in gone]
            for position in range(len(standing) - 1, -1, -1):
                if standing[position].undo == name:
                    entry = standing[position]
                    if position < len(standing) - 1:
                        facts.append(("order", entry, standing[-1]))
                    byhand = (*byhand, entry)
                    break
        return tuple(facts), byhand

    def _entered(self, config: Config, called: str, stop: Stop, pivot: bool) -> Iterator[_Way]:
        walker = self.walkers[called]
        inside = config._replace(frames=(*config.frames, At(called, -1, ())))
        for env in self._starts(called):
            for inner in walker.begin(env):
                for way in self._settle(inside, called, (), inner):
                    yield way._replace(pivot=way.pivot or pivot, excepts=(*stop.lines, *way.excepts))

    def _returned(self, config: Config, below: tuple[At, ...], stop: Stop, pivot: bool) -> Iterator[_Way]:
        if below:
            caller = below[-1]
            left = config._replace(frames=below)
            for onward in self.walkers[caller.machine].resume(caller.site, caller.env, stop.value):
                for way in self._settle(left, caller.machine, caller.scopes, onward):
                    yield way._replace(pivot=way.pivot or pivot, excepts=(*stop.lines, *way.excepts))
            return
        for name in self._outcome_names(stop.value):
            done = config._replace(frames=(), end=f"return {name}" if name else "return", late=frozenset())
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
            left = config._replace(frames=below)
            for onward in self.walkers[caller.machine].throw(caller.site, caller.env, exc):
                for way in self._settle(left, caller.machine, caller.scopes, onward):
                    yield way._replace(pivot=way.pivot or pivot, excepts=(*stop.lines, *way.excepts))
            return
        unwinds = exc is not None and not exc[2] and issubclass(exc[1], StepFailed | Cancelled)
        if not unwinds:
            fuzzy = exc is None or exc[2]
            end = "parked" if fuzzy else f"raise {class_name(exc)}"
            yield _Way(
                config._replace(frames=(), end=end), pivot, stop.lines, stop.line, bool(stop.bug or fuzzy)
            )
        elif config.pivoted:
            yield _Way(config._replace(frames=(), end="parked"), pivot, stop.lines, stop.line, stop.bug)
        else:
            facts = _twice(config.byhand, config.stack)
            leaving = config._replace(
                flight=(),
                frames=(),
                unwinding=Unwind(0, "raise", exc[:3] if exc else None),
                failed=(),
                byhand=(),
            )
            yield _Way(leaving, pivot, stop.lines, stop.line, stop.bug, facts)

    def _unwind(self, config: Config, unwind: Unwind) -> Iterator[Move]:
        """Take back the newest step that may have happened, or go on when there is none left."""
        stack = config.stack
        height = len(stack)
        while height > unwind.floor:
            entry = stack[height - 1]
            if entry.undo and entry.status in UNDOABLE:
                rest = config._replace(stack=stack[: height - 1])
                label = f"undo({entry.label})"
                yield Move("undo", entry.machine, label, entry.undo, rest, entry.line)
                parked = Config(stack=rest.stack, cancelled=config.cancelled, end="parked")
                yield Move("failure", entry.machine, label, "gave up", parked, entry.line, failure=True)
                return
            height -= 1
        low = config._replace(stack=stack[: unwind.floor], unwinding=None)
        if unwind.then == "resume":
            yield from self._resumed(low._replace(failed=tuple([f for f in low.failed if f.pivoted])))
            return
        end = "killed" if unwind.raises is None else f"raise {class_name(unwind.raises)}"
        yield Move("end", self.name, end, "", low._replace(end=end, late=frozenset()))

    def _resumed(self, low: Config) -> Iterator[Move]:
        """The saga goes on behind its `compensate` or its scope."""
        at = low.frames[-1]
        site = self.site(at)
        scopes, env = at.scopes, at.env
        if site.kind == "unwind":
            if scopes and "|" in scopes[-1][0]:  # what left the scope by its limit goes on as a failure
                failed = LATE_FAILED if self._told else FAILED
                env = tuple([(name, failed if value == EXPIRED else value) for name, value in env])
            scopes = scopes[:-1]
        for stop in self.walkers[at.machine].resume(at.site, env):
            for way in self._settle(low, at.machine, scopes, stop):
                yield Move(
                    "undone", at.machine, site.label, "", way.config, site.line, way.line, "", False,
                    way.excepts, way.pivot, False, way.bug, way.facts,
                )  # fmt: skip

    def _starts(self, name: str) -> list[Env]:
        """Environments at the start: one per class of the first parameter where that decides anything."""
        found = self._started.get(name)
        if found is None:
            found = self._started[name] = starts(self.walkers[name])
        return found


def _twice(byhand: tuple[Issued, ...], stack: tuple[Issued, ...]) -> tuple[tuple[Any, ...], ...]:
    """Steps taken back by hand that an unwind would take back once more."""
    standing = {e[:2] for e in stack if e.undo and e.status in UNDOABLE}
    return tuple(("twice", e) for e in byhand if e[:2] in standing)


def _given_up(stack: tuple[Issued, ...], floor: int) -> tuple[Issued, ...]:
    """What is in flight above `floor` is ended: nobody knows how."""
    return tuple(
        [_with(e, "unknown") if n >= floor and e.status == "issued" else e for n, e in enumerate(stack)]
    )


def _emptied(scopes: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """Scopes over an emptied stack."""
    return tuple([(label, 0) for label, _ in scopes])


def _floor(frames: tuple[At, ...]) -> int:
    """Height below which the stack may not be thinned without moving the marks of open scopes."""
    floor = 0
    for at in frames:
        for _, height in at.scopes:
            floor = max(floor, height)
    return floor


def _late(config: Config) -> Iterator[Move]:
    """A reply after its step expired settles the undo entry and moves nothing else."""
    for machine, label in sorted(config.late):
        for status in ("done", "failed"):
            stack = tuple(
                _with(e, status) if (e.machine, e.label, e.status) == (machine, label, "unknown") else e
                for e in config.stack
            )
            failed = tuple(
                f._replace(status="failed", effect=None) if (f.machine, f.label) == (machine, label) else f
                for f in config.failed
            )
            after = config._replace(stack=stack, late=config.late - {(machine, label)}, failed=failed)
            yield Move("late", machine, label, f"late {status}", after)


def _with(entry: Issued, status: str) -> Issued:
    """An entry with another status."""
    if entry.status == status:
        return entry
    return entry._replace(status=status)


def starts(walker: Walker) -> list[Env]:
    """Environments at the start: one per class of the first parameter where that decides anything."""
    program = walker.program
    first = program.params[0] if program.params else ""
    hint = program.hints.get(first)
    members = getattr(hint, "__args__", None) or (hint,)
    if not first or not walker.native.keeps(first) or not all(isinstance(m, type) for m in members):
        return [()]
    return [env_set((), first, ("c", member)) for member in members]
