"""One block in a few sets, so that the analyses over the graph need no second look at its statements.

What a block does to one name depends on that name alone: it binds it, unbinds it, or leaves it as it was. So two walks,
one with every name unbound before and one with every name bound, tell what it does to any state.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contrapas.compiler import scopes
from contrapas.compiler.uses import State, Walk, mentions, pattern_names
from contrapas.machine.ir import Await, Block, Branch, Program, Raise, Return

Names = frozenset[str]


@dataclass(frozen=True, slots=True)
class Change:
    """From names bound before to names bound after: `always`, and those of `through` that were bound before."""

    always: Names
    through: Names

    def of(self, before: Names) -> Names:
        """The names bound after."""
        return self.always | (before & self.through)


@dataclass(frozen=True, slots=True)
class Leaving:
    """A jump out of native statements."""

    to: int
    killed: Names
    sure: Change
    maybe: Change


@dataclass(frozen=True, slots=True)
class Summary:
    """One block."""

    uses: Names
    """Read before they are bound for certain in it."""
    kills: Names
    """Bound or deleted for certain at its end."""
    mentions: Names
    """Everything that stands in it."""
    sure: Change
    maybe: Change
    low: Change
    """Bound for certain at every point: what a handler can rely on."""
    high: Change
    dead: bool
    """Its end is never reached: native statements return or raise on every way."""
    exits: tuple[Leaving, ...]


class Summaries(dict[int, Summary]):
    """By block."""

    ways: Any = None
    """What `assigned` made of them, to be asked again."""


def summarise(program: Program) -> Summaries:
    """Every block."""
    known = frozenset(program.locals) | frozenset(program.hidden)
    functions = functions_of(program)
    return Summaries((number, _summary(block, known, functions)) for number, block in program.blocks.items())


def _summary(block: Block, known: Names, functions: Mapping[str, tuple[str, ...]]) -> Summary:
    parts = [*block.native, *_trees(block)]
    named, unbinds = mentions(parts)
    none = _walk(block, State(set(), set(), set()), functions)
    # Where nothing unbinds a name, what was bound before stays so, and the second walk is known from the first.
    full = _walk(block, State(set(known), set(known), set()), functions) if unbinds else none
    stays = frozenset[str]() if unbinds else known
    exits: list[Leaving] = []
    for (to, empty, into), (_, filled, _) in zip(none.exits, full.exits, strict=True):
        extra = {into} if into else set[str]()
        exits.append(
            Leaving(
                to,
                frozenset(empty.killed | extra) & known,
                Change(frozenset(empty.sure | extra) & known, stays | filled.sure),
                Change(frozenset(empty.maybe | extra) & known, stays | filled.maybe),
            )
        )
    names = named | {*block.handling, block.landing}
    if functions:
        names.update(*(functions.get(name, ()) for name in tuple(names)))
    return Summary(
        uses=frozenset((none.uses & known) | set(block.handling)) - {block.landing},
        kills=known.intersection(none.state.killed),
        mentions=known.intersection(names),
        sure=Change(known.intersection(none.state.sure), stays | full.state.sure),
        maybe=Change(known.intersection(none.state.maybe), stays | full.state.maybe),
        low=Change(known.intersection(none.low), stays | full.low),
        high=Change(known.intersection(none.high), stays | full.high),
        dead=none.state.dead,
        exits=tuple(exits),
    )


def _trees(block: Block) -> list[ast.AST]:
    """What the terminator evaluates."""
    term = block.term
    if isinstance(term, Branch):
        return [term.test]
    if isinstance(term, Await):
        return [term.op]
    if isinstance(term, Return) and term.value is not None:
        return [term.value]
    return [term.stmt] if isinstance(term, Raise) else []


def _walk(block: Block, state: State, functions: Mapping[str, tuple[str, ...]]) -> Walk:
    walk = Walk(state, functions)
    walk.several(block.native)
    for tree in _trees(block):
        if isinstance(tree, ast.stmt):
            walk.stmt(tree)
        else:
            walk.expr(tree)
    return walk


def captured(block: Block, to: int) -> Names:
    """Names that a matching case has bound on its way."""
    term = block.term
    if isinstance(term, Branch) and term.kind == "case" and to == term.yes and term.pattern is not None:
        return frozenset(pattern_names(term.pattern.pattern))
    return frozenset()


def functions_of(program: Program) -> dict[str, tuple[str, ...]]:
    """Local functions -> locals they capture."""
    own = set(program.locals)
    found: dict[str, tuple[str, ...]] = {}
    for node in program.nodes:
        kind = node.__class__
        if kind is ast.FunctionDef:
            assert isinstance(node, ast.FunctionDef)
            found[node.name] = tuple(n for n in scopes.free(node) if n in own and n != node.name)
        elif kind is ast.Assign and isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = tuple(n for n in scopes.free(node.value) if n in own)
    return {name: _reached(name, found) for name in found}


def _reached(name: str, functions: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What a function captures, and what the functions among these capture."""
    reached: dict[str, None] = {}
    stack = [name]
    while stack:
        for inner in functions.get(stack.pop(), ()):
            if inner not in reached:
                reached[inner] = None
                stack.append(inner)
    return tuple(reached)
