"""What the code between two awaits may do, without running it: the part of the explorer that reads blocks.

A walk starts at a block with an *environment* and gives every way to the next await or out of the function. Data is
dropped: a branch on data goes both ways. Kept are the values that decide where control goes: hidden slots (pending
exits, exceptions being handled), and the class of a message in a local that a `match` or `isinstance` looks at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contrapas.draw.live import GIVEN, live_at_awaits
from contrapas.draw.native import BUG, RETURNED, Env, Fall, Native, env_get, env_set
from contrapas.machine import trees
from contrapas.machine.ir import Await, Block, Branch, Jump, Program, Raise, Return

MARKS_MAX = 60
"""Of one stretch; a way with more goes round a loop without an await, which CP702 tells of."""


class Stop(NamedTuple):
    """One end of a walk."""

    kind: str
    """`await`, `return` or `raise`."""
    env: Env
    marks: tuple[tuple[Any, ...], ...]
    """What immediate calls did, in order: `("enter", label)`, `("leave", label)`, `("pivot", line)`, `("deadline", line)`,
    `("emit", name)` of an event that is an outcome."""
    site: int = -1
    value: Any = None
    """Of a return: abstract value; of a raise: the exception."""
    line: int = 0
    lines: tuple[int, ...] = ()
    """`except` clauses that took an exception on the way."""
    bug: bool = False
    """An error in the saga's own code was raised on the way."""


class _Point(NamedTuple):
    """A place in a walk."""

    block: int
    env: Env
    marks: tuple[tuple[Any, ...], ...] = ()
    lines: tuple[int, ...] = ()
    bug: bool = False


@dataclass(slots=True)
class _Walk:
    """One walk under way."""

    stops: dict[Stop, None] = field(default_factory=dict[Stop, None])
    todo: list[_Point] = field(default_factory=list[_Point])
    seen: set[_Point] = field(default_factory=set[_Point])


class Walker:
    """Walks one program; remembers what its statements mean."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.native = Native(program)
        self.sites = {site.index: site for site in program.sites}
        self._awaits = {b.term.site: b for b in program.blocks.values() if isinstance(b.term, Await)}
        self._live = live_at_awaits(program, self.native.tracked | frozenset(program.hidden))
        self._known: dict[tuple[Any, ...], list[Stop]] = {}
        self.visited: set[int] = set()
        """Blocks that some walk went through."""
        self.matched: dict[tuple[str, Any, int], bool | None] = {}
        """(slot of the subject, its class, case) -> whether the case took it."""
        self._cases: dict[int, ast.match_case] = {}

    def term(self, site: int) -> Await:
        """The terminator of an await."""
        term = self._awaits[site].term
        assert isinstance(term, Await)
        return term

    def unmatched(self) -> list[tuple[ast.Match, tuple[Any, ...]]]:
        """`match` statements that were left without a case taken, with the classes of what came."""
        left: list[tuple[ast.Match, tuple[Any, ...]]] = [
            (node, tuple(classes)) for node, classes in self.native.unmatched.values()
        ]
        if not self.matched:
            return left
        heads = {
            (n.cases[0].pattern.lineno, n.cases[0].pattern.col_offset): n
            for n in trees.walk(self.program.node)
            if isinstance(n, ast.Match)
        }
        slots: dict[str, tuple[list[ast.match_case], set[Any]]] = {}
        for (slot, cls, key), answer in self.matched.items():
            slots.setdefault(slot, ([], set()))[1].add(cls)
            if all(id(c) != key for c in slots[slot][0]):
                slots[slot][0].append(self._cases[key])
            del answer
        for slot, (cases, classes) in slots.items():
            first = min(cases, key=lambda c: (c.pattern.lineno, c.pattern.col_offset))
            node = heads.get((first.pattern.lineno, first.pattern.col_offset))
            missed = tuple(
                c for c in classes if all(self.matched.get((slot, c, id(k))) is False for k in cases)
            )
            if node is not None and missed and len(cases) == len(node.cases):
                left.append((node, missed))
        return left

    def begin(self, env: Env = ()) -> list[Stop]:
        """From the start of the function."""
        return self._walk(("begin", env), _Point(self.program.entry, env))

    def resume(self, site: int, env: Env, value: Any = None) -> list[Stop]:
        """From an await that gave a value."""
        term = self._awaits[site].term
        assert isinstance(term, Await)
        env = env_set(env, GIVEN, value)
        if term.into:
            env = env_set(env, term.into, value if self.native.keeps(term.into) else None)
        return self._walk(("resume", site, env), _Point(term.resume, env))

    def throw(self, site: int, env: Env, exc: Any) -> list[Stop]:
        """From an await that raised."""
        holder = self._awaits[site]
        key = ("throw", site, env, exc)
        if key not in self._known:
            walk = _Walk()
            self._raise(walk, holder, _Point(holder.id, env), exc, self.sites[site].line)
            self._known[key] = self._run(walk)
        return self._known[key]

    def _walk(self, key: tuple[Any, ...], start: _Point) -> list[Stop]:
        if key not in self._known:
            self._known[key] = self._run(_Walk(todo=[start]))
        return self._known[key]

    def _run(self, walk: _Walk) -> list[Stop]:
        while walk.todo:
            point = walk.todo.pop()
            if point not in walk.seen and len(point.marks) < MARKS_MAX:
                walk.seen.add(point)
                self.visited.add(point.block)
                self._block(walk, self.program.blocks[point.block], point)
        return sorted(walk.stops, key=lambda stop: stop.bug)

    def _block(self, walk: _Walk, block: Block, point: _Point) -> None:
        """Run a block's statements, then its terminator, in every way it may go."""
        ahead: list[_Point] = []
        after = point
        for fall in self.native.run(block, point.env):
            marks = _joined(point.marks, fall.marks) if fall.marks else point.marks
            after = point._replace(env=fall.env, marks=marks)
            if fall.raised:
                self._raise(walk, block, after, fall.exc, fall.line)
            elif fall.to >= 0:
                ahead.append(after._replace(block=fall.to))
            elif fall.returned:
                self._stop(walk, "return", after, value=fall.value, line=fall.line)
            else:
                ahead += self._term(walk, block, after, fall)
        walk.todo += reversed(ahead)

    def _term(self, walk: _Walk, block: Block, at: _Point, fall: Fall) -> list[_Point]:
        term, env = block.term, fall.env
        if isinstance(term, Jump):
            return [at._replace(block=term.to)]
        if isinstance(term, Branch):
            return list(self._branch(term, at))
        if isinstance(term, Return):
            self._stop(walk, "return", at, value=self.native.value(term.value, env), line=term.line)
        elif isinstance(term, Raise):
            self._raise(walk, block, at, self.native.raised(term.stmt, env, block), term.stmt.lineno)
        elif isinstance(term, Await):
            live = self._live[term.site]
            known = tuple([item for item in env if item[0] in live or item[0] == RETURNED])
            self._stop(walk, "await", at._replace(env=known), site=term.site, line=self.sites[term.site].line)
        else:
            self._raise(walk, block, at, self.native.handled(block, env), block.line)
        return []

    def _stop(
        self, walk: _Walk, kind: str, at: _Point, *, site: int = -1, value: Any = None, line: int = 0
    ) -> None:
        if kind == "return" and not line:
            told = env_get(at.env, RETURNED)
            line = int(told[1]) if told is not None else 0
        stop = Stop(kind, at.env, at.marks, site=site, value=value, line=line, lines=at.lines, bug=at.bug)
        walk.stops.setdefault(stop)

    def _raise(self, walk: _Walk, block: Block, at: _Point, exc: Any, line: int) -> None:
        at = at._replace(bug=at.bug or exc == BUG)
        if block.handler is None:
            self._stop(walk, "raise", at, value=exc, line=line)
            return
        landing = self.program.blocks[block.handler].landing
        env = env_set(at.env, landing, exc) if landing else at.env
        walk.todo.append(at._replace(block=block.handler, env=env))

    def _branch(self, term: Branch, at: _Point) -> Iterator[_Point]:
        decided = self._decided(term, at.env)
        self.native.note(term.pattern or term.test, decided)
        if decided is not False:
            taken = at.lines
            if term.kind == "except" and (line := getattr(term.test, "lineno", 0)) not in taken:
                taken = (*taken, line)
            yield at._replace(block=term.yes, lines=taken)
        if decided is not True:
            yield at._replace(block=term.no)

    def _decided(self, term: Branch, env: Env) -> bool | None:
        held = env_get(env, term.slot) if term.slot else None
        if term.kind == "except":
            return self.native.catches(_type_of(term.test), held)
        if term.kind == "unwinds":
            return self.native.unwinds(held)
        if term.kind == "bug":
            return None if held is None else held != ("k", None) and not self.native.unwinds(held)
        if term.kind == "pend":
            return None if held is None else bool(held == ("k", term.exit))
        if term.kind == "case":
            if term.pattern is None:
                return None
            answer = self.native.matches(term.pattern, held)
            if held is not None and held[0] == "c":
                self._cases[id(term.pattern)] = term.pattern
                self.matched[(term.slot, held[1], id(term.pattern))] = answer
            return answer
        if term.kind == "data":
            return self.native.test(term.test, env)
        return None


def _joined(
    marks: tuple[tuple[Any, ...], ...], more: tuple[tuple[Any, ...], ...]
) -> tuple[tuple[Any, ...], ...]:
    """Marks of a way that goes on: a scope that was entered and left leaves nothing, and nothing counts beyond twice.

    So a way round a loop without an await comes to an end.
    """
    found = list(marks)
    for mark in more:
        if mark[0] == "leave":
            opened = next((n for n in range(len(found) - 1, -1, -1) if found[n][0] == "enter"), -1)
            if opened >= 0:
                found = [m for n, m in enumerate(found) if n < opened or m[0] not in ("enter", "begin")]
                continue
        if found.count(mark) < 2 or mark[0] == "enter":
            found.append(mark)
    return tuple(found)


def _type_of(test: ast.expr) -> ast.expr:
    """The type expression of an `except`: the compiler wraps it into a call that compares."""
    return test.args[1] if isinstance(test, ast.Call) and len(test.args) == 2 else test
