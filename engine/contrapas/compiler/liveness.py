"""Which names are needed after each await (A2), and which the code up to the next awaits can touch (A5)."""

from __future__ import annotations

from collections.abc import Mapping

from contrapas.compiler.summaries import Names, Summary, captured
from contrapas.machine.ir import Await, Block, Program


def live(program: Program, summaries: Mapping[int, Summary]) -> dict[int, Names]:
    """By site: names whose value is needed after its await. 0: parameters needed at the start."""
    blocks = program.blocks
    entering: dict[int, Names] = dict.fromkeys(blocks, frozenset())
    order = [b.id for b in program.order()]
    changed = True
    while changed:
        changed = False
        for number in reversed(order):
            now = _live_in(blocks[number], summaries[number], blocks, entering)
            if now != entering[number]:
                entering[number] = now
                changed = True
    result = {0: entering[program.entry] & frozenset(program.params)}
    for block in blocks.values():
        if isinstance(block.term, Await):
            result[block.term.site] = _after(block.term, blocks, entering)
    return result


def _after(term: Await, blocks: Mapping[int, Block], entering: Mapping[int, Names]) -> Names:
    """Names needed at an await: by the code after it, and by what catches an exception thrown there."""
    resume = blocks[term.resume]
    return entering[term.resume] | _caught(resume, blocks, entering) | frozenset(resume.handling)


def _caught(block: Block, blocks: Mapping[int, Block], entering: Mapping[int, Names]) -> Names:
    if block.handler is None:
        return frozenset()
    return entering[block.handler] - {blocks[block.handler].landing}


def _live_in(
    block: Block, summary: Summary, blocks: Mapping[int, Block], entering: Mapping[int, Names]
) -> Names:
    out: Names = frozenset()
    if isinstance(block.term, Await):
        out = _after(block.term, blocks, entering)
    else:
        for after in block.successors()[len(block.exits) :]:
            out |= entering.get(after, frozenset()) - captured(block, after)
    needed = summary.uses | (out - summary.kills) | _caught(block, blocks, entering) | set(block.handling)
    for leaving in summary.exits:
        needed |= entering[leaving.to] - leaving.killed
    return needed | {block.landing} if block.landing else needed


def touches(program: Program, summaries: Mapping[int, Summary]) -> dict[int, Names]:
    """By site (0: start): names that code from there to the next awaits can read, bind or delete."""

    def within(start: int) -> Names:
        return frozenset[str]().union(*(summaries[n].mentions for n in segment(program, start)))

    result = {0: within(program.entry)}
    for block in program.blocks.values():
        if isinstance(block.term, Await):
            result[block.term.site] = within(block.term.resume)
    return result


def segment(program: Program, start: int) -> list[int]:
    """Blocks that can run from `start` up to the next awaits."""
    seen: dict[int, None] = {}
    stack = [start]
    while stack:
        number = stack.pop()
        if number in seen:
            continue
        seen[number] = None
        block = program.blocks[number]
        if block.handler is not None:
            stack.append(block.handler)
        stack.extend(block.exits if isinstance(block.term, Await) else block.successors())
    return list(seen)
