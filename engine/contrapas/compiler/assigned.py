"""Which names are bound at each await, for certain or perhaps (A3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from contrapas.compiler.summaries import Names, Summary, captured
from contrapas.machine.ir import Await, Program

Bound = tuple[Names, Names]
"""(for certain, perhaps)."""


def whole(
    program: Program, summaries: Mapping[int, Summary], kept: Mapping[int, Names] | None = None
) -> dict[int, Bound]:
    """By site: what is bound at its await, over every way there from the start.

    kept: by site, the names whose value survives the await; None: all.
    """
    params = frozenset(program.params)
    return _flow(program, summaries, {program.entry: (params, params)}, kept=kept, stop=False)


def after(program: Program, summaries: Mapping[int, Summary], start: int, bound: Bound) -> dict[int, Bound]:
    """The same for one stretch: from block `start` to the next awaits."""
    return _flow(program, summaries, {start: bound}, kept=None, stop=True)


def _flow(
    program: Program,
    summaries: Mapping[int, Summary],
    entering: dict[int, Bound],
    *,
    kept: Mapping[int, Names] | None,
    stop: bool,
) -> dict[int, Bound]:
    awaits: dict[int, Bound] = {}
    work = deque(entering)
    waiting = set(work)
    while work:
        number = work.popleft()
        waiting.discard(number)
        block = program.blocks[number]
        summary = summaries[number]
        sure, maybe = entering[number]
        end: Bound = (summary.sure.of(sure), summary.maybe.of(maybe))
        onward: list[tuple[int, Bound]] = [
            (leaving.to, (leaving.sure.of(sure), leaving.maybe.of(maybe))) for leaving in summary.exits
        ]
        term = block.term
        if isinstance(term, Await):
            awaits[term.site] = _meet(awaits[term.site], end) if term.site in awaits else end
            if not stop:
                names = kept[term.site] if kept is not None else end[1]
                onward.append((term.resume, (end[0] & names, end[1] & names)))
        elif not summary.dead:
            for to in block.successors()[len(block.exits) :]:
                more = captured(block, to)
                onward.append((to, (end[0] | more, end[1] | more)))
        if block.handler is not None:
            landing = {program.blocks[block.handler].landing}
            caught = (summary.low.of(sure) | landing, summary.high.of(maybe) | landing)
            onward.append((block.handler, caught))
        for to, bound in onward:
            before = entering.get(to)
            now = bound if before is None else _meet(before, bound)
            if now != before:
                entering[to] = now
                if to not in waiting:
                    waiting.add(to)
                    work.append(to)
    return awaits


def _meet(a: Bound, b: Bound) -> Bound:
    return (a[0] & b[0], a[1] | b[1])
