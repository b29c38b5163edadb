"""Blocks as Python statements: native code as it stands, terminators as returns, jumps and decisions."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from contrapas.compiler import trees
from contrapas.compiler.lower.builder import LOAD, PLACEHOLDER, STORE, call, load, place, store
from contrapas.compiler.saving import Leaving, Plan
from contrapas.compiler.scopes import clone
from contrapas.machine import Slot
from contrapas.machine.ir import Await, Block, Branch, Exit, Jump, Program, Raise, Reraise, Return

DEEP = 40
"""Blocks are nested into each other's leaves no deeper than this."""
FEW = 2
"""So many names that are perhaps bound are asked for one by one; more of them in one look at all locals."""


@dataclass(slots=True)
class Layout:
    """Numbers of the dispatch: which block is an entry of its own, which stands inside another's leaf."""

    pcs: dict[int, int]
    """Block -> number; resume blocks have their state's index, the entry 0."""
    inlined: frozenset[int]
    """Blocks that are only reached from one other and stand in its leaf."""
    abort: int
    """A number without handler: what is raised there leaves the function."""


def layout(program: Program) -> Layout:
    """Decide the numbers."""
    pcs = {program.entry: 0}
    counts: dict[int, int] = {program.entry: 2}
    for block in program.blocks.values():
        term = block.term
        if isinstance(term, Await):
            pcs[term.resume] = term.site
            counts[term.resume] = 2
        for to in block.exits:
            counts[to] = 2
        for to in block.successors()[len(block.exits) :]:
            counts[to] = counts.get(to, 0) + 1
        if block.handler is not None:
            counts[block.handler] = 2
    number = len(program.sites) + 1
    inlined: set[int] = set()
    for block in program.order():
        if block.id not in pcs:
            pcs[block.id] = number
            number += 1
        if isinstance(block.term, Jump | Branch):
            for to in block.successors()[len(block.exits) :]:
                if counts[to] == 1 and program.blocks[to].handling == block.handling:
                    inlined.add(to)
    return Layout(pcs, frozenset(inlined), number)


@dataclass(slots=True)
class Leaves:
    """Writes blocks."""

    program: Program
    layout: Layout
    plan: Plan
    slots: Mapping[str, Slot]
    labels: Mapping[str, str]
    """Final names for the placeholders of undo labels and pending exits."""
    handlers: dict[int, int | None] = field(default_factory=dict[int, "int | None"])
    """Number -> block that receives an exception raised there."""
    too_deep: set[int] = field(default_factory=set[int])
    """Blocks that would stand too deep: entries after all."""

    def __post_init__(self) -> None:
        self.handlers = {pc: self.program.blocks[n].handler for n, pc in self.layout.pcs.items()}

    def leaf(self, block: Block) -> list[ast.stmt]:
        """The statements of one entry."""
        return self._block(block, self.layout.pcs[block.id], 0)

    def _block(self, block: Block, pc: int, depth: int) -> list[ast.stmt]:
        stmts: list[ast.stmt] = []
        mine = self.layout.pcs[block.id]
        if mine != pc and self.handlers[pc] != block.handler:
            stmts.append(_set("@pc", mine))
            pc = mine
        native = _Native(self.layout.pcs, self.labels)
        for stmt in block.native:
            made: Any = native.visit(clone(stmt)) if native.changes(stmt) else stmt
            if made.__class__ is list:
                stmts += made
            else:
                stmts.append(made)
        stmts.extend(self._term(block, pc, depth))
        return stmts

    def _go(self, to: int, pc: int, depth: int) -> list[ast.stmt]:
        if to in self.layout.inlined and depth < DEEP:
            return self._block(self.program.blocks[to], pc, depth + 1)
        if to in self.layout.inlined:
            self.too_deep.add(to)
        return [_set("@pc", self.layout.pcs[to]), ast.Continue()]

    def _term(self, block: Block, pc: int, depth: int) -> list[ast.stmt]:
        term = block.term
        if isinstance(term, Jump):
            return self._go(term.to, pc, depth)
        if isinstance(term, Branch):
            test = self._named(term.test)
            return [ast.If(test, self._go(term.yes, pc, depth + 1), self._go(term.no, pc, depth + 1))]
        if isinstance(term, Return):
            value = ast.Constant(None) if term.value is None else term.value
            made = ast.Return(ast.Tuple([ast.Constant(0), value], LOAD))
            hidden = isinstance(value, ast.Name) and value.id.startswith("@")  # computed before, on its line
            return [made if hidden else place(_at(made, term.line), made)]
        if isinstance(term, Raise):
            return [term.stmt]
        if isinstance(term, Reraise):
            return [ast.Raise(None, None)]
        return self._await(term)

    def _named(self, test: ast.expr) -> ast.expr:
        native = _Native(self.layout.pcs, self.labels)
        return native.visit(clone(test)) if native.changes(test) else test

    # -- awaits --------------------------------------------------------------------------------------------

    def _await(self, term: Await) -> list[ast.stmt]:
        leaving = self.plan.leaving[term.site]
        op = self._named(term.op)
        out: ast.expr = ast.Dict(
            [ast.Constant(self.slots[n].name) for n in leaving.always], [load(n) for n in leaving.always]
        )
        stmts: list[ast.stmt] = []
        for name in leaving.exceptions:
            stmts.append(place(_abort(name, self.layout.abort), op))
        if leaving.after or leaving.perhaps or leaving.exceptions:
            stmts.append(place(ast.Assign([store("@op")], op), op))
            stmts.append(ast.Assign([store("@out")], out))
            stmts.extend(self._conditional(leaving))
            op, out = load("@op"), load("@out")
        head: list[ast.expr] = [ast.Constant(1), ast.Constant(term.site)]
        if not isinstance(op, ast.Name):  # on the await's line, or a breakpoint there would be met twice
            head = [place(one, term.op) for one in head]
        answer = ast.Tuple([*head, op, out], LOAD)
        stmts.append(ast.Return(answer))
        return stmts

    def _conditional(self, leaving: Leaving) -> list[ast.stmt]:
        stmts: list[ast.stmt] = []
        together: dict[tuple[int, ...], list[ast.stmt]] = {}
        for name, sites in leaving.after:
            together.setdefault(sites, []).append(self._save(name))
        for sites, saved in together.items():
            test = ast.Compare(load("@from"), [ast.In()], [numbers(sites)])
            stmts.append(ast.If(test, saved, []))
        if len(leaving.perhaps) > FEW:
            pairs = constant(tuple((name, self.slots[name].name) for name in leaving.perhaps))
            stmts.append(ast.Expr(call("@bound", load("@out"), call("@locals"), pairs)))
        else:
            for name in leaving.perhaps:
                missing = ast.ExceptHandler(load("@NameError"), None, [ast.Pass()])
                stmts.append(ast.Try([self._save(name)], [missing], [], []))
        for name in leaving.exceptions:
            test = ast.Compare(load(name), [ast.IsNot()], [ast.Constant(None)])
            stmts.append(ast.If(test, [self._save(name)], []))
        return stmts

    def _save(self, name: str) -> ast.stmt:
        target = ast.Subscript(load("@out"), ast.Constant(self.slots[name].name), STORE)
        return ast.Assign([target], load(name))


class _Native(ast.NodeTransformer):
    """`return v` is `return (0, v)`; an `Exit` sets `@jump` and goes to the dispatch; placeholders get their names."""

    def __init__(self, pcs: Mapping[int, int], labels: Mapping[str, str]) -> None:
        self.pcs = pcs
        self.labels = labels

    @staticmethod
    def changes(tree: ast.AST) -> bool:
        """Whether there is anything to change: visiting a tree costs more than to look."""
        for node in trees.walk(tree):
            kind = node.__class__
            if kind is ast.Constant:
                if node.__dict__.get("kind") == PLACEHOLDER:
                    return True
            elif kind is ast.Return or kind is Exit:
                return True
        return False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    visit_ClassDef = visit_Lambda = visit_FunctionDef  # type: ignore[assignment]

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        value = node.value or ast.Constant(None)
        node.value = place(ast.Tuple([ast.Constant(0), value], LOAD), node)
        return node

    def visit_Exit(self, node: Exit) -> list[ast.stmt]:
        stmts: list[ast.stmt] = []
        if node.into:
            stmts.append(place(ast.Assign([store(node.into)], node.value or ast.Constant(None)), node))
        stmts.append(place(_set("@jump", self.pcs[node.to]), node))
        stmts.append(place(ast.Break() if node.deeper else ast.Continue(), node))
        return stmts

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if node.kind == PLACEHOLDER:
            text = str(node.value)
            return place(ast.Constant(self.labels.get(text, text)), node)
        return node


def numbers(values: Iterable[int]) -> ast.expr:
    """A constant tuple of numbers."""
    return constant(tuple(values))


def constant(value: Any) -> ast.expr:
    """A constant of any kind that the interpreter holds as one: tuples too."""
    return ast.Constant(value)


def _set(name: str, value: int) -> ast.Assign:
    return ast.Assign([store(name)], ast.Constant(value))


def _at(node: ast.stmt, line: int) -> ast.stmt:
    if line:
        node.lineno, node.col_offset, node.end_lineno, node.end_col_offset = line, 0, line, 0
    return node


def _abort(name: str, pc: int) -> ast.stmt:
    """An interrupt or the end of the process is never stored: it leaves at once (X6)."""
    test = call("@aborts", load(name))
    return ast.If(test, [_set("@pc", pc), ast.Raise(load(name), None)], [])
