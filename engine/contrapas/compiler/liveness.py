"""Which names are needed after each await (A2), and which the code up to the next awaits can touch (A5)."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from contrapas.compiler import scopes
from contrapas.compiler.uses import State, Walk, mentions, pattern_names
from contrapas.machine.ir import Await, Block, Branch, Program, Raise, Return


@dataclass(frozen=True, slots=True)
class Summary:
    """One block, for liveness."""

    uses: frozenset[str]
    kills: frozenset[str]
    exits: tuple[tuple[int, frozenset[str]], ...]
    """Jumps out of its native statements: target, and what was bound on the way there."""


def functions_of(program: Program) -> dict[str, tuple[str, ...]]:
    """Local functions -> locals they capture."""
    own = set(program.locals)
    found: dict[str, tuple[str, ...]] = {}
    for node in ast.walk(program.node):
        if isinstance(node, ast.FunctionDef):
            found[node.name] = tuple(n for n in scopes.free(node) if n in own and n != node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
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


def walk_block(block: Block, state: State, functions: Mapping[str, tuple[str, ...]]) -> Walk:
    """A block's statements and the expressions of its terminator."""
    walk = Walk(state, functions)
    walk.several(block.native)
    term = block.term
    if isinstance(term, Branch):
        walk.expr(term.test)
    elif isinstance(term, Await):
        walk.expr(term.op)
    elif isinstance(term, Return) and term.value is not None:
        walk.expr(term.value)
    elif isinstance(term, Raise):
        walk.stmt(term.stmt)
    return walk


def _summary(block: Block, known: frozenset[str], functions: Mapping[str, tuple[str, ...]]) -> Summary:
    walk = walk_block(block, State(set(), set(), set()), functions)
    exits = tuple((to, frozenset(state.killed | {into})) for to, state, into in walk.exits)
    uses = (walk.uses & known) | set(block.handling)
    uses.discard(block.landing)
    return Summary(frozenset(uses), frozenset(walk.state.killed), exits)


def live(program: Program) -> dict[int, frozenset[str]]:
    """By site: names whose value is needed after its await. 0: parameters needed at the start."""
    known = frozenset(program.locals) | frozenset(program.hidden)
    functions = functions_of(program)
    blocks = program.blocks
    summaries = {n: _summary(b, known, functions) for n, b in blocks.items()}
    entering: dict[int, frozenset[str]] = dict.fromkeys(blocks, frozenset())
    changed = True
    while changed:
        changed = False
        for number in reversed(list(blocks)):
            now = _live_in(blocks[number], summaries[number], blocks, entering)
            if now != entering[number]:
                entering[number] = now
                changed = True
    result = {0: entering[program.entry] & frozenset(program.params)}
    for block in blocks.values():
        if isinstance(block.term, Await):
            result[block.term.site] = _after(block.term, blocks, entering)
    return result


def _after(
    term: Await, blocks: Mapping[int, Block], entering: Mapping[int, frozenset[str]]
) -> frozenset[str]:
    """Names needed at an await: by the code after it, and by what catches an exception thrown there."""
    resume = blocks[term.resume]
    return entering[term.resume] | _caught(resume, blocks, entering) | frozenset(resume.handling)


def _caught(
    block: Block, blocks: Mapping[int, Block], entering: Mapping[int, frozenset[str]]
) -> frozenset[str]:
    if block.handler is None:
        return frozenset()
    landing = blocks[block.handler]
    return entering[block.handler] - {landing.landing}


def _live_in(
    block: Block, summary: Summary, blocks: Mapping[int, Block], entering: Mapping[int, frozenset[str]]
) -> frozenset[str]:
    out: set[str] = set()
    term = block.term
    if isinstance(term, Await):
        out |= _after(term, blocks, entering)
    else:
        for after in block.successors()[len(block.exits) :]:
            out |= entering.get(after, frozenset()) - _captured(block, after)
    needed = summary.uses | (out - summary.kills) | _caught(block, blocks, entering) | set(block.handling)
    for to, killed in summary.exits:
        needed = needed | (entering[to] - killed)
    if block.landing:
        needed = needed | {block.landing}
    return frozenset(needed)


def _captured(block: Block, to: int) -> frozenset[str]:
    """Names that a matching case has bound on its way."""
    term = block.term
    if isinstance(term, Branch) and term.kind == "case" and to == term.yes and term.pattern is not None:
        return frozenset(pattern_names(term.pattern.pattern))
    return frozenset()


def touches(program: Program) -> dict[int, frozenset[str]]:
    """By site (0: start): names that code from there to the next awaits can read, bind or delete."""
    known = frozenset(program.locals) | frozenset(program.hidden)
    functions = functions_of(program)
    inside: dict[int, frozenset[str]] = {}
    for number, block in program.blocks.items():
        names = mentions(block.native) | {*block.handling, block.landing}
        term = block.term
        trees: list[ast.AST | None] = [
            getattr(term, "test", None),
            getattr(term, "op", None),
            getattr(term, "value", None),
            getattr(term, "stmt", None),
        ]
        names |= mentions([t for t in trees if t is not None])
        names.update(*(functions.get(name, ()) for name in tuple(names)))
        inside[number] = frozenset(names & known)
    result = {0: _until_await(program, program.entry, inside)}
    for block in program.blocks.values():
        if isinstance(block.term, Await):
            result[block.term.site] = _until_await(program, block.term.resume, inside)
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
        if isinstance(block.term, Await):
            stack.extend(block.exits)
        else:
            stack.extend(block.successors())
    return list(seen)


def _until_await(program: Program, start: int, inside: Mapping[int, frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*(inside[n] for n in segment(program, start)))
