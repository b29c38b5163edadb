"""CP725: a command that the saga takes and does not answer. CP730: one that it answers twice on one path.

A path carries, for each class of command, how many were received and are unanswered, saturated at two. The class of a
local that holds a message is known from `match` and `isinstance`; a reply to a value of unknown class may be to any.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contrapas.author.event import Command
from contrapas.check.finding import Finding
from contrapas.check.study import Study, flat, members
from contrapas.draw.native import Env, env_set, type_name
from contrapas.draw.outcomes import outcomes
from contrapas.draw.segment import Stop, Walker
from contrapas.machine.ir import Site

Open = tuple[tuple[Any, int, int], ...]
"""(class, line where the last one was taken, unanswered and answered ones as `10 * unanswered + answered`)."""
_MANY = 2
PLACES_MAX = 20_000


class _Place(NamedTuple):
    site: int
    env: Env
    open: Open


@dataclass(slots=True)
class _Seen:
    """What was met on some path."""

    taken: dict[Any, int] = field(default_factory=dict[Any, int])
    """Command class -> line where it is taken."""
    answered: set[Any] = field(default_factory=set[Any])
    any_answered: bool = False
    left: dict[Any, int] = field(default_factory=dict[Any, int])
    """Class -> line of an end at which one is unanswered."""
    twice: dict[Any, int] = field(default_factory=dict[Any, int])


def replies(study: Study) -> Iterator[Finding]:
    """CP725 and CP730, for the saga and those that it calls."""
    if study.mode == "observe":
        return
    for machine in study.machines():
        walker = study.walkers[machine]
        seen = _explored(walker, machine == study.name)
        for cls, line in seen.taken.items():
            name = type_name(cls)
            answer = f"s.reply(…, {type_name(cls.__contrapas_replies__().classes[0])}(…))"
            if cls not in seen.answered and not seen.any_answered:
                yield study.find(
                    "CP725", "error", f"{name} is taken and answered on no path", answer, line,
                    machine=machine, hint="who asked is told `closed` when the saga ends",
                )  # fmt: skip
            elif cls in seen.left:
                yield study.find(
                    "CP725", "warning", f"{name} is not answered on every path", f"{answer} before line {seen.left[cls]}",
                    line, machine=machine, hint=f"unanswered where the saga ends on line {seen.left[cls]}",
                )  # fmt: skip
        for cls, line in seen.twice.items():
            yield study.find(
                "CP730", "warning", f"{type_name(cls)} is answered twice on one path",
                "answer it once: the first reply counts", line, machine=machine,
            )  # fmt: skip


def _explored(walker: Walker, root: bool) -> _Seen:
    seen = _Seen()
    met: set[_Place] = set()
    todo: list[_Place] = []
    program = walker.program
    param = program.params[0] if program.params else ""
    starts = members(program.hints.get(param)) if param else ()
    for cls in starts or (None,):
        env: Env = env_set((), param, ("c", cls)) if cls is not None and walker.native.keeps(param) else ()
        begun = _received((), cls, program.node.lineno, seen) if root and _command(cls) else ()
        todo += _after(walker.begin(env), begun, seen)
    while todo and len(met) < PLACES_MAX:
        place = todo.pop()
        if place in met:
            continue
        met.add(place)
        site = walker.sites[place.site]
        held = _passed_on(site, place.open, seen)
        for outcome in outcomes(site):
            if outcome.raises is not None:
                stops = walker.throw(place.site, place.env, outcome.raises)
                todo += _after(stops, held, seen)
                continue
            value = outcome.value
            cls = value[1] if value is not None and value[0] == "c" else None
            now = _received(held, cls, site.line, seen) if _command(cls) and _takes(site, cls) else held
            todo += _after(walker.resume(place.site, place.env, value), now, seen)
    return seen


def _command(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Command)


def _takes(site: Site, cls: Any) -> bool:
    return any(cls in one.replies for one in flat(site) if one.kind == "wait")


def _received(open_: Open, cls: Any, line: int, seen: _Seen) -> Open:
    seen.taken.setdefault(cls, line)
    before = next((count for c, _, count in open_ if c is cls), 0)
    unanswered = min(before // 10 + 1, _MANY)
    rest = tuple(item for item in open_ if item[0] is not cls)
    return (*rest, (cls, line, 10 * unanswered + (before % 10 if before // 10 else 0)))


def _passed_on(site: Site, open_: Open, seen: _Seen) -> Open:
    """A called saga may answer what it is given."""
    called = any(one.kind == "frame" for one in flat(site))
    if called and open_:
        seen.answered.update(cls for cls, _, _ in open_)
        return ()
    return open_


def _after(stops: list[Stop], open_: Open, seen: _Seen) -> Iterator[_Place]:
    for stop in stops:
        now = open_
        for mark in stop.marks:
            if mark[0] == "handed":
                now = tuple(item for item in now if item[0] is not mark[1])
            elif mark[0] == "reply":
                now = _replied(now, mark[1], mark[2], seen)
        if stop.kind == "await":
            yield _Place(stop.site, stop.env, now)
        elif stop.kind == "return":
            for cls, _, count in now:
                if count // 10:
                    seen.left.setdefault(cls, stop.line)


def _replied(open_: Open, cls: Any, line: int, seen: _Seen) -> Open:
    if cls is None:
        seen.any_answered = True
        return ()
    seen.answered.add(cls)
    found = next((item for item in open_ if item[0] is cls), None)
    if found is None:
        return open_
    unanswered, done = divmod(found[2], 10)
    if not unanswered and done == 1:
        seen.twice.setdefault(cls, line)
    rest = tuple(item for item in open_ if item[0] is not cls)
    return (*rest, (cls, found[1], 10 * max(unanswered - 1, 0) + (1 if unanswered < _MANY else 0)))
