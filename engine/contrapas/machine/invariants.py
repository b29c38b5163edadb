"""What holds of every lowered program; tests assert it, and a fault in lowering shows here first."""

from __future__ import annotations

from contrapas.machine.ir import Await, Program, Reraise


def broken(program: Program) -> list[str]:
    """Sentences about what does not hold; empty for a sound program."""
    found: list[str] = []
    blocks = program.blocks
    reached = {b.id for b in program.order()}
    found += [f"block {n} is not reachable" for n in blocks if n not in reached]
    before: dict[int, list[int]] = {n: [] for n in blocks}
    for block in blocks.values():
        for to in block.successors():
            if to not in blocks:
                found.append(f"block {block.id} leads to {to}, which is gone")
                continue
            before[to].append(block.id)
        if block.handler is not None and not blocks[block.handler].landing:
            found.append(f"block {block.id} is guarded by {block.handler}, which receives nothing")
    for block in blocks.values():
        term = block.term
        if isinstance(term, Await):
            resume = blocks[term.resume]
            if before[term.resume] != [block.id]:
                found.append(f"block {term.resume} is resumed and reached otherwise")
            if (resume.handler, resume.handling) != (block.handler, block.handling):
                found.append(f"the await of block {block.id} changes what handles exceptions")
            if not 1 <= term.site <= len(program.sites):
                found.append(f"block {block.id} awaits site {term.site}, which is none")
        if isinstance(term, Reraise) and not block.handling:
            found.append(f"block {block.id} raises again and handles nothing")
        if block.landing and block.handling[-1:] != (block.landing,):
            found.append(f"block {block.id} receives an exception that it does not handle")
        if block.landing and before[block.id]:
            found.append(f"block {block.id} receives exceptions and is reached otherwise")
        for name in block.handling:
            if program.hidden[name].role != "exc":
                found.append(f"{name} is handled and holds no exception")
    awaited = [b.term.site for b in blocks.values() if isinstance(b.term, Await)]
    if len(awaited) != len(set(awaited)):
        found.append("a site is awaited in two blocks")
    return found
