"""Which tracked names still matter at an await: what is known of the others would only multiply configurations."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from contrapas.machine import trees
from contrapas.machine.ir import Await, Block, Branch, Program, Raise, Return

GIVEN = "@in"
"""What a resume block reads as the value of its await."""


def live_at_awaits(program: Program, names: frozenset[str]) -> dict[int, frozenset[str]]:
    """Site index -> the `names` whose value may be read after it, on any path."""
    uses = {number: _uses(block) & names for number, block in program.blocks.items()}
    kills = {number: _kills(block) & names for number, block in program.blocks.items()}
    before: dict[int, frozenset[str]] = dict.fromkeys(program.blocks, frozenset())
    changed = True
    while changed:
        changed = False
        for number, block in reversed(program.blocks.items()):
            after: frozenset[str] = frozenset()
            for target in block.successors():
                after |= before.get(target, frozenset())
            caught = before.get(block.handler, frozenset()) if block.handler is not None else frozenset[str]()
            found = uses[number] | (after - kills[number]) | caught | (frozenset(block.handling) & names)
            if found != before[number]:
                before[number] = found
                changed = True
    live: dict[int, frozenset[str]] = {}
    for block in program.blocks.values():
        term = block.term
        if isinstance(term, Await):
            caught = before.get(block.handler, frozenset()) if block.handler is not None else frozenset[str]()
            live[term.site] = (
                (before.get(term.resume, frozenset()) - {term.into, GIVEN})
                | caught
                | frozenset(block.handling)
            )
    return live


def _trees(block: Block) -> Iterable[ast.AST]:
    yield from block.native
    term = block.term
    if isinstance(term, Branch):
        yield term.test
    elif isinstance(term, Return) and term.value is not None:
        yield term.value
    elif isinstance(term, Raise):
        yield term.stmt
    elif isinstance(term, Await):
        yield term.op


def _uses(block: Block) -> frozenset[str]:
    """Names that a block may read before it binds them for certain; the slot of a branch too."""
    found: set[str] = set()
    certain: set[str] = set()
    for tree in _trees(block):
        reads = {
            n.id for n in trees.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store)
        }
        found |= reads - certain
        if isinstance(tree, ast.Assign):
            certain |= {t.id for t in tree.targets if isinstance(t, ast.Name)}
    if isinstance(block.term, Branch) and block.term.slot and block.term.slot not in certain:
        found.add(block.term.slot)
    return frozenset(found)


def _kills(block: Block) -> frozenset[str]:
    """Names that a block binds for certain."""
    bound = {
        target.id
        for tree in block.native
        if isinstance(tree, ast.Assign)
        for target in tree.targets
        if isinstance(target, ast.Name)
    }
    return frozenset(bound | ({block.landing} if block.landing else set[str]()))
