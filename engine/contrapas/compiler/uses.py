"""What native statements do to names: read before bound, bound for certain, bound perhaps, deleted (A1).

Computed structurally, by walking the statements with the state of every name: an `if` binds only what both arms bind,
a loop binds nothing for certain, a handler sees only what was bound before the `try`, comprehensions are scopes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from contrapas.compiler import scopes, trees
from contrapas.machine.ir import Exit


@dataclass(slots=True)
class State:
    """Names at one point. sure, maybe: bound; killed: bound or deleted for certain since the beginning."""

    sure: set[str]
    maybe: set[str]
    killed: set[str]
    dead: bool = False
    """No control comes here."""

    def copy(self) -> State:
        """An independent copy."""
        return State(set(self.sure), set(self.maybe), set(self.killed), self.dead)

    def bind(self, name: str) -> None:
        """Bound from here on."""
        self.sure.add(name)
        self.maybe.add(name)
        self.killed.add(name)

    def unbind(self, name: str) -> None:
        """Unbound from here on."""
        self.sure.discard(name)
        self.maybe.discard(name)
        self.killed.add(name)


def join(a: State, b: State) -> State:
    """Where two ways meet."""
    if a.dead:
        return b.copy()
    if b.dead:
        return a.copy()
    return State(a.sure & b.sure, a.maybe | b.maybe, a.killed & b.killed)


@dataclass(slots=True)
class Walk:
    """Walks statements of one block; afterwards `state` is the end, the other fields what was seen on the way."""

    state: State
    functions: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Local functions -> the locals they read: using one uses these."""
    uses: set[str] = field(default_factory=set[str])
    """Read before they are bound for certain here."""
    low: set[str] = field(default_factory=set[str])
    """Bound for certain at every point."""
    high: set[str] = field(default_factory=set[str])
    """Bound perhaps at some point."""
    exits: list[tuple[int, State, str]] = field(default_factory=list[tuple[int, State, str]])

    def __post_init__(self) -> None:
        self.low = set(self.state.sure)
        self.high = set(self.state.maybe)

    # -- points --------------------------------------------------------------------------------------------

    def _mark(self) -> None:
        if not self.state.dead:
            self.low &= self.state.sure
            self.high |= self.state.maybe

    def use(self, name: str) -> None:
        """A read."""
        if name not in self.state.killed and not self.state.dead:
            self.uses.add(name)
        for inner in self.functions.get(name, ()):
            if inner not in self.state.killed and not self.state.dead:
                self.uses.add(inner)

    def bind(self, name: str) -> None:
        """An assignment."""
        self.state.bind(name)
        self._mark()

    # -- statements ----------------------------------------------------------------------------------------

    def several(self, stmts: Iterable[ast.stmt]) -> None:
        """Statements in order."""
        for stmt in stmts:
            self.stmt(stmt)

    def stmt(self, node: ast.stmt) -> None:
        """One statement."""
        method = _METHODS[node.__class__]
        if method:
            getattr(self, method)(node)
        else:
            self._generic(node)

    def _generic(self, node: ast.AST) -> None:
        for child in trees.children(node):
            if isinstance(child, ast.expr):
                self.expr(child)
            elif isinstance(child, ast.stmt):
                self.stmt(child)
            else:
                self._generic(child)

    def _s_assign(self, node: ast.Assign) -> None:
        self.expr(node.value)
        for target in node.targets:
            self.expr(target)

    def _s_augassign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.use(node.target.id)
        self.expr(node.value)
        self.expr(node.target)

    def _s_annassign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.expr(node.value)
            self.expr(node.target)
        elif not isinstance(node.target, ast.Name):
            self.expr(node.target)

    def _s_delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self.expr(target)

    def _s_return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.expr(node.value)
        self.state.dead = True

    def _s_raise(self, node: ast.Raise) -> None:
        self._generic(node)
        self.state.dead = True

    def _s_exit(self, node: Exit) -> None:
        if node.value is not None:
            self.expr(node.value)
        if not self.state.dead:
            self.exits.append((node.to, self.state.copy(), node.into))
        self.state.dead = True

    def _s_break(self, node: ast.stmt) -> None:
        self.state.dead = True

    _s_continue = _s_break

    def _s_if(self, node: ast.If) -> None:
        self.expr(node.test)
        before = self.state
        self.state = before.copy()
        self.several(node.body)
        yes = self.state
        self.state = before
        self.several(node.orelse)
        self.state = join(yes, self.state)

    def _s_while(self, node: ast.While) -> None:
        self.expr(node.test)
        self._loop(node.body, node.orelse)

    def _s_for(self, node: ast.For) -> None:
        self.expr(node.iter)
        self._loop(node.body, node.orelse, node.target)

    def _loop(self, body: list[ast.stmt], orelse: list[ast.stmt], target: ast.expr | None = None) -> None:
        before = self.state.copy()
        inner = Walk(self.state.copy(), self.functions)
        if target is not None:
            inner.expr(target)
        inner.several(body)
        inner.state = State(set(inner.low), set(inner.high), before.killed)
        inner.several(orelse)
        self._take(inner)
        self.state = State(before.sure & inner.low, before.maybe | inner.high, before.killed, before.dead)

    def _take(self, inner: Walk) -> None:
        """What was seen in a part also counts here."""
        self.uses |= inner.uses
        self.low &= inner.low
        self.high |= inner.high
        self.exits.extend(inner.exits)

    def _part(self, state: State, stmts: list[ast.stmt]) -> Walk:
        inner = Walk(state, self.functions)
        inner.several(stmts)
        self._take(inner)
        return inner

    def _s_try(self, node: ast.Try) -> None:
        before = self.state.copy()
        body = self._part(self.state.copy(), node.body)
        low, high = set(body.low), set(body.high)
        end = self._part(body.state, node.orelse)
        low &= end.low
        high |= end.high
        result = end.state
        for handler in node.handlers:
            start = State(set(body.low), set(body.high), set(before.killed), before.dead)
            inner = Walk(start, self.functions)
            if handler.type is not None:
                inner.expr(handler.type)
            if handler.name:
                inner.bind(handler.name)
            inner.several(handler.body)
            if handler.name:
                inner.state.unbind(handler.name)
                inner.low.discard(handler.name)
                for _, state, _ in inner.exits:
                    state.unbind(handler.name)
            self._take(inner)
            low &= inner.low
            high |= inner.high
            result = join(result, inner.state)
        if node.finalbody:
            self._part(State(set(low), set(high), set(before.killed), before.dead), node.finalbody)
            result = self._part(result, node.finalbody).state
        self.state = result
        self._mark()

    _s_trystar = _s_try

    def _s_with(self, node: ast.With) -> None:
        for item in node.items:
            self.expr(item.context_expr)
            if item.optional_vars is not None:
                self.expr(item.optional_vars)
        before = self.state.copy()
        inner = self._part(self.state, node.body)
        swallowed = State(set(inner.low), set(inner.high), before.killed, before.dead)
        self.state = join(inner.state, swallowed)

    def _s_match(self, node: ast.Match) -> None:
        self.expr(node.subject)
        result = State(set(), set(), set(), True)
        irrefutable = False
        for case in node.cases:
            names = pattern_names(case.pattern)
            hit = self.state.copy()
            inner = Walk(hit, self.functions)
            inner._generic(case.pattern)
            for name in names:
                inner.bind(name)
            if case.guard is not None:
                inner.expr(case.guard)
            inner.several(case.body)
            self._take(inner)
            result = join(result, inner.state)
            self.state.maybe |= names
            self.high |= names
            irrefutable = irrefutable or (case.guard is None and _irrefutable(case.pattern))
        self.state = result if irrefutable else join(result, self.state)

    def _s_functiondef(self, node: ast.FunctionDef) -> None:
        for outer in scopes.same_scope(node):
            if isinstance(outer, ast.expr):
                self.expr(outer)
        for name in scopes.free(node):
            if name != node.name:
                self.use(name)
        for name in _nonlocals(node):
            self.state.maybe.add(name)
        self.bind(node.name)

    def _s_classdef(self, node: ast.ClassDef) -> None:
        for name in scopes.reads(node):
            self.use(name)
        self.bind(node.name)

    def _s_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self.bind(alias.asname or alias.name.partition(".")[0])

    _s_importfrom = _s_import

    # -- expressions ---------------------------------------------------------------------------------------

    def expr(self, node: ast.AST) -> None:
        """One expression, or a target, in evaluation order."""
        kind = node.__class__
        if kind is ast.Name:
            assert isinstance(node, ast.Name)
            self._name(node)
        elif kind in _PLAIN:
            for child in trees.children(node):
                self.expr(child)
        elif isinstance(node, ast.NamedExpr):
            self.expr(node.value)
            self.bind(node.target.id)
        elif isinstance(node, ast.BoolOp):
            self.expr(node.values[0])
            self._perhaps(node.values[1:])
        elif isinstance(node, ast.IfExp):
            self.expr(node.test)
            before = self.state
            self.state = before.copy()
            self.expr(node.body)
            yes, self.state = self.state, before
            self.expr(node.orelse)
            self.state = join(yes, self.state)
        elif isinstance(node, ast.Compare):
            self.expr(node.left)
            self.expr(node.comparators[0])
            self._perhaps(node.comparators[1:])
        elif isinstance(node, _SCOPED):
            for name in scopes.reads(node):
                self.use(name)
            for part in trees.walk(node):
                if isinstance(part, ast.NamedExpr) and isinstance(node, scopes.COMPREHENSIONS):
                    self.state.maybe.add(part.target.id)
                    self.high.add(part.target.id)
        else:
            for child in trees.children(node):
                self.expr(child)

    def _perhaps(self, nodes: list[ast.expr]) -> None:
        before = self.state.copy()
        for node in nodes:
            self.expr(node)
        self.state = join(before, self.state)

    def _name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.use(node.id)
        elif isinstance(node.ctx, ast.Store):
            self.bind(node.id)
        else:
            self.use(node.id)
            self.state.unbind(node.id)
            self._mark()


class _Methods(dict[type, str]):
    """Class of a statement -> the method for it; empty for those without one."""

    def __missing__(self, kind: type) -> str:
        name = f"_s_{kind.__name__.lower()}"
        self[kind] = found = name if hasattr(Walk, name) else ""
        return found


_METHODS: Final = _Methods()
_SCOPED: Final = (*scopes.FUNCTIONS, *scopes.COMPREHENSIONS)


def ends(stmts: list[ast.stmt]) -> bool:
    """Whether control never comes behind these statements: they return, raise or leave on every way."""
    return any(_ends(stmt) for stmt in stmts)


def _ends(node: ast.stmt) -> bool:
    if isinstance(node, _LEAVING):
        return True
    if isinstance(node, ast.If):
        return ends(node.body) and ends(node.orelse)
    if isinstance(node, ast.Try | ast.TryStar):
        body = ends(node.body) or ends(node.orelse)
        return body and all(ends(h.body) for h in node.handlers) or ends(node.finalbody)
    if isinstance(node, ast.Match):
        sure = any(case.guard is None and _irrefutable(case.pattern) for case in node.cases)
        return sure and all(ends(case.body) for case in node.cases)
    return False


_LEAVING: Final = (ast.Return, ast.Raise, ast.Break, ast.Continue, Exit)


def pattern_names(pattern: ast.pattern) -> set[str]:
    """Names that a pattern captures."""
    names: set[str] = set()
    for node in trees.walk(pattern):
        if isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
    return names


_SILENT: Final = frozenset(
    (
        ast.Constant, ast.Call, ast.Assign, ast.Expr, ast.Compare, ast.BinOp, ast.Attribute, ast.Tuple, ast.List, ast.If,
        ast.keyword, ast.Subscript, ast.Return, ast.FormattedValue, ast.JoinedStr, ast.BoolOp, ast.UnaryOp, ast.Dict,
    )
)  # fmt: skip
"""Nodes without a name of their own."""


_PLAIN: Final = frozenset(
    (
        ast.Constant,
        ast.Call,
        ast.BinOp,
        ast.Attribute,
        ast.keyword,
        ast.Tuple,
        ast.List,
        ast.Subscript,
        ast.UnaryOp,
    )
)
"""Nodes whose parts are evaluated one after the other, and nothing else."""


def mentions(stmts: Iterable[ast.AST]) -> tuple[set[str], bool]:
    """Every name that stands anywhere in trees, inner scopes included, and whether one of them may be unbound there."""
    names: set[str] = set()
    unbinds = False
    for stmt in stmts:
        for node in trees.walk(stmt):
            kind = node.__class__
            if kind in _SILENT:
                continue
            if kind is ast.Name:
                assert isinstance(node, ast.Name)
                names.add(node.id)
                unbinds = unbinds or node.ctx.__class__ is ast.Del
            elif isinstance(
                node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler | ast.MatchAs | ast.MatchStar
            ):
                names.add(node.name or "")
                unbinds = unbinds or kind is ast.ExceptHandler
            elif isinstance(node, ast.MatchMapping) and node.rest:
                names.add(node.rest)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names.update(a.asname or a.name.partition(".")[0] for a in node.names)
            elif isinstance(node, ast.Nonlocal):
                names.update(node.names)
            elif isinstance(node, Exit) and node.into:
                names.add(node.into)
    return names, unbinds


def _nonlocals(node: ast.AST) -> set[str]:
    return {n for part in trees.walk(node) if isinstance(part, ast.Nonlocal) for n in part.names}


def _irrefutable(pattern: ast.pattern) -> bool:
    if isinstance(pattern, ast.MatchAs):
        return pattern.pattern is None or _irrefutable(pattern.pattern)
    return isinstance(pattern, ast.MatchOr) and any(_irrefutable(p) for p in pattern.patterns)
