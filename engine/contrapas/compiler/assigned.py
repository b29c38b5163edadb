"""Which names are bound at each await, for certain or perhaps (A3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from contrapas.compiler.summaries import Change, Names, Summaries, Summary, captured
from contrapas.machine.ir import Await, Block, Program

Bound = tuple[Names, Names]
"""(for certain, perhaps)."""


def whole(
    program: Program, summaries: Mapping[int, Summary], kept: Mapping[int, Names] | None = None
) -> dict[int, Bound]:
    """By site: what is bound at its await, over every way there from the start.

    kept: by site, the names whose value survives the await; None: all.
    """
    params = frozenset(program.params)
    return ways(program, summaries).whole((params, params), kept)


def ways(program: Program, summaries: Mapping[int, Summary]) -> Ways:
    """The blocks of a program, looked at once for all that is asked about them."""
    if not isinstance(summaries, Summaries):
        return Ways(program, summaries)
    if summaries.ways is None:
        summaries.ways = Ways(program, summaries)
    found: Ways = summaries.ways
    return found


class Ways:
    """A program's blocks as bit masks: the flow over them is asked for from the start and from every await."""

    def __init__(self, program: Program, summaries: Mapping[int, Summary]) -> None:
        self.program = program
        self._bits: dict[str, int] = {}
        self._names: dict[int, Names] = {}
        self._masks: dict[Names, int] = {}
        self._steps = {n: self._step(block, summaries[n]) for n, block in program.blocks.items()}

    def whole(self, start: Bound, kept: Mapping[int, Names] | None) -> dict[int, Bound]:
        """From the entry, over the awaits."""
        masks = None if kept is None else {site: self.mask(names) for site, names in kept.items()}
        entering = (self.mask(start[0]), self.mask(start[1]))
        found = self._flow(self.program.entry, entering, masks, stop=False)
        return {site: (self._set(yes), self._set(may)) for site, (yes, may) in found.items()}

    def after(self, start: int, sure: int, maybe: int) -> dict[int, _Masks]:
        """The same for one stretch, from block `start` to the next awaits, in masks."""
        return self._flow(start, (sure, maybe), None, stop=True)

    def mask(self, names: Names) -> int:
        """Names as bits."""
        known = self._masks.get(names)
        if known is not None:
            return known
        mask, bits = 0, self._bits
        for name in names:
            bit = bits.get(name)
            if bit is None:
                bit = bits[name] = 1 << len(bits)
            mask |= bit
        self._masks[names] = mask
        return mask

    def _set(self, mask: int) -> Names:
        found = self._names.get(mask)
        if found is None:
            found = self._names[mask] = frozenset(n for n, bit in self._bits.items() if mask & bit)
        return found

    def _change(self, change: Change) -> _Masks:
        return self.mask(change.always), self.mask(change.through)

    def _step(self, block: Block, summary: Summary) -> _Step:
        term = block.term
        after: list[tuple[int, int]] = []
        if not isinstance(term, Await) and not summary.dead:
            for to in block.successors()[len(block.exits) :]:
                after.append((to, self.mask(captured(block, to))))
        onward = [(e.to, (*self._change(e.sure), *self._change(e.maybe))) for e in summary.exits]
        if block.handler is not None:
            landing = self.mask(frozenset((self.program.blocks[block.handler].landing,)))
            low, high = self._change(summary.low), self._change(summary.high)
            caught = (low[0] | landing, low[1], high[0] | landing, high[1])
            onward.append((block.handler, caught))
        end = (*self._change(summary.sure), *self._change(summary.maybe))
        return end, after, onward, term if isinstance(term, Await) else None

    def _flow(
        self, start: int, bound: _Masks, kept: Mapping[int, int] | None, *, stop: bool
    ) -> dict[int, _Masks]:
        entering = {start: bound}
        awaits: dict[int, _Masks] = {}
        work, waiting, steps = deque(entering), set(entering), self._steps
        while work:
            number = work.popleft()
            waiting.discard(number)
            (a, b, c, d), after, leaving, term = steps[number]
            sure, maybe = entering[number]
            onward = [(to, a2 | (sure & b2), c2 | (maybe & d2)) for to, (a2, b2, c2, d2) in leaving]
            yes, may = a | (sure & b), c | (maybe & d)
            if term is None:
                for to, more in after:
                    onward.append((to, yes | more, may | more))
            else:
                known = awaits.get(term.site)
                awaits[term.site] = (yes, may) if known is None else (known[0] & yes, known[1] | may)
                if not stop:
                    names = may if kept is None else kept[term.site]
                    onward.append((term.resume, yes & names, may & names))
            for to, yes, may in onward:
                before = entering.get(to)
                now = (yes, may) if before is None else (before[0] & yes, before[1] | may)
                if now != before:
                    entering[to] = now
                    if to not in waiting:
                        waiting.add(to)
                        work.append(to)
        return awaits


_Masks = tuple[int, int]
_Step = tuple[
    tuple[int, int, int, int],
    list[tuple[int, int]],
    list[tuple[int, tuple[int, int, int, int]]],
    Await | None,
]
"""What a block does to names bound for certain and perhaps at its end, what follows, where it may leave, its await."""
