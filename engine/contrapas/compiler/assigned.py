"""Which names are bound at each await, for certain or perhaps (A3)."""

from __future__ import annotations

from collections.abc import Mapping

from contrapas.compiler.liveness import functions_of, walk_block
from contrapas.compiler.uses import State, pattern_names
from contrapas.machine.ir import Await, Block, Branch, Program

Bound = tuple[frozenset[str], frozenset[str]]
"""(for certain, perhaps)."""


def whole(program: Program, kept: Mapping[int, frozenset[str]] | None = None) -> dict[int, Bound]:
    """By site: what is bound at its await, over every way there from the start.

    kept: by site, the names whose value survives the await; None: all.
    """
    params = frozenset(program.params)
    entering: dict[int, Bound] = {program.entry: (params, params)}
    awaits: dict[int, Bound] = {}
    _flow(program, entering, awaits, kept=kept, stop=False)
    return awaits


def after(program: Program, start: int, sure: frozenset[str], maybe: frozenset[str]) -> dict[int, Bound]:
    """The same for one stretch: from block `start` to the next awaits."""
    awaits: dict[int, Bound] = {}
    _flow(program, {start: (sure, maybe)}, awaits, kept=None, stop=True)
    return awaits


def _flow(
    program: Program,
    entering: dict[int, Bound],
    awaits: dict[int, Bound],
    *,
    kept: Mapping[int, frozenset[str]] | None,
    stop: bool,
) -> None:
    functions = functions_of(program)
    work = list(entering)
    while work:
        number = work.pop()
        block = program.blocks[number]
        sure, maybe = entering[number]
        walk = walk_block(block, State(set(sure), set(maybe), set()), functions)
        end: Bound = (frozenset(walk.state.sure), frozenset(walk.state.maybe))
        onward: list[tuple[int, Bound]] = []
        for to, state, into in walk.exits:
            names = {into} if into else set[str]()
            onward.append((to, (frozenset(state.sure | names), frozenset(state.maybe | names))))
        term = block.term
        if isinstance(term, Await):
            awaits[term.site] = _meet(awaits[term.site], end) if term.site in awaits else end
            if not stop:
                onward.append((term.resume, _resumed(term, end, kept)))
        elif not walk.state.dead:
            onward.extend((to, _edge(block, to, end)) for to in block.successors()[len(block.exits) :])
        if block.handler is not None:
            landing = {program.blocks[block.handler].landing}
            low = frozenset(walk.low | landing)
            onward.append((block.handler, (low, frozenset(walk.high | landing))))
        for to, bound in onward:
            before = entering.get(to)
            now = bound if before is None else _meet(before, bound)
            if now != before:
                entering[to] = now
                work.append(to)


def _meet(a: Bound, b: Bound) -> Bound:
    return (a[0] & b[0], a[1] | b[1])


def _resumed(term: Await, end: Bound, kept: Mapping[int, frozenset[str]] | None) -> Bound:
    sure, maybe = end
    if kept is not None:
        sure, maybe = sure & kept[term.site], maybe & kept[term.site]
    return (sure, maybe)


def _edge(block: Block, to: int, end: Bound) -> Bound:
    term = block.term
    if isinstance(term, Branch) and term.kind == "case" and to == term.yes and term.pattern is not None:
        names = frozenset(pattern_names(term.pattern.pattern))
        return (end[0] | names, end[1] | names)
    return end
