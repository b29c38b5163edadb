"""Last step of lowering: thread jumps, merge chains, drop what nothing reaches (L24)."""

from __future__ import annotations

from contrapas.compiler import trees
from contrapas.compiler.lower.natives import exits
from contrapas.compiler.uses import ends
from contrapas.machine.ir import Await, Block, Branch, Exit, Jump, Program, Return


def simplify(program: Program) -> None:
    """Fewer blocks that do the same."""
    _cut(program)
    _thread(program)
    _drop(program)
    _merge(program)
    _drop(program)
    program.ordered = list(program.order())


def _cut(program: Program) -> None:
    """Where native statements return or raise on every way, nothing follows."""
    for block in program.blocks.values():
        if ends(block.native):
            block.term = Return(None)


def _empty(block: Block) -> bool:
    return not block.native and isinstance(block.term, Jump) and not block.landing


def _thread(program: Program) -> None:
    """Jumps to blocks that only jump on go to where those lead."""

    def final(number: int) -> int:
        seen: set[int] = set()
        while number not in seen:
            seen.add(number)
            block = program.blocks[number]
            if not _empty(block):
                break
            assert isinstance(block.term, Jump)
            number = block.term.to
        return number

    for block in program.blocks.values():
        term = block.term
        if isinstance(term, Jump) and term.to > 0:
            term.to = final(term.to)
        elif isinstance(term, Branch):
            term.yes, term.no = final(term.yes), final(term.no)
        if block.exits:
            for stmt in block.native:
                for node in trees.walk(stmt):
                    if isinstance(node, Exit):
                        node.to = final(node.to)
            block.exits = exits(block.native)
    program.entry = final(program.entry)


def _drop(program: Program) -> None:
    reachable = {b.id for b in program.order()}
    program.blocks = {n: b for n, b in program.blocks.items() if n in reachable}


def _merge(program: Program) -> None:
    """A block and its only successor, if nothing else leads there and exceptions go the same way."""
    counts: dict[int, int] = {program.entry: 2}
    for block in program.blocks.values():
        for to in block.successors():
            counts[to] = counts.get(to, 0) + (2 if isinstance(block.term, Await) else 1)
        if block.handler is not None:
            counts[block.handler] = 2
    for number in list(program.blocks):
        if number not in program.blocks:
            continue
        block = program.blocks[number]
        while isinstance(block.term, Jump):
            after = program.blocks.get(block.term.to)
            if after is None or after is block or counts[after.id] != 1 or after.landing:
                break
            if (after.handler, after.handling) != (block.handler, block.handling):
                break
            block.native.extend(after.native)
            block.term = after.term
            block.exits = tuple(dict.fromkeys((*block.exits, *after.exits)))
            block.line = block.line or after.line
            del program.blocks[after.id]
