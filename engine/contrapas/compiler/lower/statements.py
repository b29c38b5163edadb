"""Statements with awaits inside: sequences, assignments, conditions, loops, `match`, scopes."""

from __future__ import annotations

import ast
from typing import Any

from contrapas.compiler import scopes
from contrapas.compiler.inflight import begins
from contrapas.compiler.lower.builder import (
    Leap,
    Unknown,
    assign_constant,
    call,
    load,
    place,
    store,
)
from contrapas.compiler.lower.comprehensions import Comprehensions
from contrapas.compiler.lower.natives import Natives, exits
from contrapas.machine.ir import Raise, Return


class Statements(Comprehensions):
    """Turns statements into blocks; `lower.tries` adds `try`."""

    def body(self, stmts: list[ast.stmt]) -> None:
        """Statements one after the other."""
        for stmt in stmts:
            self.stmt(stmt)

    def stmt(self, node: ast.stmt) -> None:
        """One statement: native if nothing in it awaits (L1)."""
        for site in begins(node, self.begun):
            site.path, site.regions, site.scope_depth = "/".join(self.path), tuple(self.regions), self.depth
        if isinstance(node, ast.Return | ast.Break | ast.Continue | ast.Raise):
            getattr(self, f"_s_{type(node).__name__.lower()}")(node)
        elif not scopes.has_await(node):
            self._native(node)
        else:
            method = getattr(self, f"_s_{type(node).__name__.lower()}", None)
            if method is None:
                raise Unknown(node)
            method(node)

    def _native(self, node: ast.stmt) -> None:
        rewriting = Natives(
            self.native_exit,
            returns=self.crosses("return"),
            loops=any(leap.kind == "loop" for leap in self.leaps),
        )
        made: Any = rewriting.visit(node)
        stmts: list[ast.stmt] = made if made.__class__ is list else [made]
        if rewriting.left:
            self.block.exits = tuple(dict.fromkeys((*self.block.exits, *exits(stmts))))
        self.emit(*stmts)

    # -- simple statements ---------------------------------------------------------------------------------

    def _s_expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Await):
            self.await_into(node.value, "")
        else:
            self.emit(place(ast.Expr(self.expr(node.value)), node))

    def _s_return(self, node: ast.Return) -> None:
        value = None if node.value is None else self.expr(node.value, "return")
        self.block.line = self.block.line or node.lineno
        self.jump_out("return", value, node)

    def _s_break(self, node: ast.Break) -> None:
        self.emit(place(ast.Pass(), node))
        self.jump_out("break", None, node)

    def _s_continue(self, node: ast.Continue) -> None:
        self.emit(place(ast.Pass(), node))
        self.jump_out("continue", None, node)

    def _s_raise(self, node: ast.Raise) -> None:
        parts = [p for p in (node.exc, node.cause) if p is not None]
        done = self.operands(parts, ["raise", "cause"][: len(parts)])
        exc = done[0] if done else None
        cause = done[1] if len(done) > 1 else None
        self.end(Raise(place(ast.Raise(exc, cause), node)))

    def _s_assert(self, node: ast.Assert) -> None:
        """The message is evaluated on failure only (L19)."""
        if not __debug__:
            return
        fine, broken = self.new(), self.new()
        self.condition(node.test, fine, broken)
        self.start(broken)
        arguments = [] if node.msg is None else [self.expr(node.msg, "assert")]
        error = ast.Call(load("@AssertionError"), arguments, [])
        self.end(Raise(place(ast.Raise(error if arguments else load("@AssertionError"), None), node)))
        self.start(fine)

    def _s_annassign(self, node: ast.AnnAssign) -> None:
        assert node.value is not None
        if isinstance(node.target, ast.Name):
            self._assign([node.target], node.value, node)
            note = ast.AnnAssign(store(node.target.id), node.annotation, None, node.simple)
            self.emit(place(note, node))
        else:
            self._assign([node.target], node.value, node)

    def _s_assign(self, node: ast.Assign) -> None:
        self._assign(node.targets, node.value, node)

    def _assign(self, targets: list[ast.expr], value: ast.expr, node: ast.stmt) -> None:
        """Value first, then the targets' own sub-expressions, left to right (L18)."""
        first = targets[0]
        if len(targets) == 1 and isinstance(first, ast.Name) and isinstance(value, ast.Await):
            self.await_into(value, first.id)
            return
        done = self.expr(value, _target_name(first))
        if not any(scopes.has_await(t) for t in targets):
            self.emit(place(ast.Assign(targets, done), node))
            return
        if not (isinstance(done, ast.Name) and done.id.startswith("@")):
            done = self.spill(done, _target_name(first))
        for target in targets:
            self.store(target, done, node)

    def store(self, target: ast.expr, value: ast.expr, at: ast.AST) -> None:
        """Bind one target to a value that is held."""
        if not scopes.has_await(target):
            self.emit(place(ast.Assign([target], value), at))
        elif isinstance(target, ast.Subscript):
            obj, index = self.subscript(target, "target")
            self.emit(place(ast.Assign([ast.Subscript(obj, index, ast.Store())], value), at))
        elif isinstance(target, ast.Attribute):
            obj = self.expr(target.value, "target")
            self.emit(place(ast.Assign([ast.Attribute(obj, target.attr, ast.Store())], value), at))
        elif isinstance(target, ast.Tuple | ast.List):
            self._unpack(target, value, at)
        else:
            raise Unknown(target)

    def _unpack(self, target: ast.Tuple | ast.List, value: ast.expr, at: ast.AST) -> None:
        names: list[ast.expr] = []
        inner: list[tuple[ast.expr, str]] = []
        for element in target.elts:
            plain = element.value if isinstance(element, ast.Starred) else element
            name = self.hidden("arg", plain, "part", text=ast.unparse(plain))
            inner.append((plain, name))
            made: ast.expr = store(name)
            names.append(ast.Starred(made, ast.Store()) if isinstance(element, ast.Starred) else made)
        self.emit(place(ast.Assign([ast.Tuple(names, ast.Store())], value), at))
        for plain, name in inner:
            self.store(plain, place(load(name), at), at)

    def _s_augassign(self, node: ast.AugAssign) -> None:
        """The target is loaded first; a mutable one keeps its identity."""
        target: ast.Name | ast.Attribute | ast.Subscript = node.target
        if isinstance(target, ast.Name):
            held = self.hold(place(load(target.id), target), [node.value], target.id)
            value = self.expr(node.value, target.id)
            if isinstance(held, ast.Name) and held.id != target.id:
                self.emit(place(ast.AugAssign(store(held.id), node.op, value), node))
                self.assign(target.id, load(held.id), node)
            else:
                self.emit(place(ast.AugAssign(store(target.id), node.op, value), node))
            return
        read: ast.expr
        write: ast.Attribute | ast.Subscript
        if isinstance(target, ast.Subscript):
            parts = [target.value, target.slice]
            later = [node.value] if scopes.has_await(node.value) else []
            obj, index = self.subscript(target, "target")
            if later and isinstance(index, ast.Slice):
                index = place(call("@slice", *_slice_parts(index)), index)
            if later:
                obj = self.hold(obj, [parts[1], node.value], "target")
                index = self.hold(index, later, "key")
            read = place(ast.Subscript(obj, index, ast.Load()), target)
            write = place(ast.Subscript(obj, index, ast.Store()), target)
        else:
            obj = self.expr(target.value, "target")
            if scopes.has_await(node.value):
                obj = self.hold(obj, [node.value], "target")
            read = place(ast.Attribute(obj, target.attr, ast.Load()), target)
            write = place(ast.Attribute(obj, target.attr, ast.Store()), target)
        if not scopes.has_await(node.value):
            self.emit(place(ast.AugAssign(write, node.op, node.value), node))
            return
        loaded = self.spill(read, "target")
        value = self.expr(node.value, "target")
        self.emit(place(ast.AugAssign(store(loaded.id), node.op, value), node))
        self.emit(place(ast.Assign([write], load(loaded.id)), node))

    def _s_delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self._delete(target, node)

    def _delete(self, target: ast.expr, node: ast.Delete) -> None:
        if not scopes.has_await(target):
            self.emit(place(ast.Delete([target]), node))
        elif isinstance(target, ast.Tuple | ast.List):
            for inner in target.elts:
                self._delete(inner, node)
        elif isinstance(target, ast.Subscript):
            obj, index = self.subscript(target, "target")
            self.emit(place(ast.Delete([ast.Subscript(obj, index, ast.Del())]), node))
        elif isinstance(target, ast.Attribute):
            obj = self.expr(target.value, "target")
            self.emit(place(ast.Delete([ast.Attribute(obj, target.attr, ast.Del())]), node))

    # -- conditions and loops ------------------------------------------------------------------------------

    def _s_if(self, node: ast.If) -> None:
        yes, no, after = self.new(), self.new(), self.new()
        self.block.line = self.block.line or node.lineno
        self.condition(node.test, yes, no)
        self.start(yes)
        with self.at("if.then"):
            self.body(node.body)
        self.goto(after)
        self.start(no)
        with self.at("if.else"):
            self.body(node.orelse)
        self.goto(after)

    def _s_while(self, node: ast.While) -> None:
        head, inner, orelse, after = self.new(), self.new(), self.new(), self.new()
        self.goto(head)
        with self.at("while", "loop"):
            self.condition(node.test, inner, orelse)
            self.start(inner)
            loop = Leap("loop", self.context, "while", after.id, head.id)
            with self.leap(loop):
                self.body(node.body)
            self.goto(head)
        self.start(orelse)
        with self.at("while.else"):
            self.body(node.orelse)
        self.goto(after)

    def _s_for(self, node: ast.For) -> None:
        after, orelse = self.new(), self.new()
        rebinding = [*node.body, place(ast.Expr(node.target), node)]
        with self.at("for"):
            cursor, named = self.cursor(node.iter, _sequence_name(node.iter), set(scopes.bound(rebinding)))
        self.regions.append(f"loop {cursor}")
        with self.at("for"):
            head, item = self.loop_head(cursor, named, orelse, node.iter)
            loop = Leap("loop", self.context, cursor, after.id, head.id)
            self.take(node.target, item, node.target)
            with self.leap(loop):
                self.body(node.body)
            self.goto(head)
        self.regions.pop()
        self.start(orelse)
        with self.at("for.else"):
            self.body(node.orelse)
        self.goto(after)

    # -- match ---------------------------------------------------------------------------------------------

    def _s_match(self, node: ast.Match) -> None:
        """Per case one native `match` sets a flag and binds captures; bodies are exploded (L22)."""
        value = self.expr(node.subject, "subject")
        subject = self.hidden("subj", node, "subject", text=ast.unparse(node.subject))
        self.assign(subject, value, node.subject)
        flag = self.hidden("flag", node)
        after = self.new()
        for case in node.cases:
            hit, miss = self.new(), self.new()
            probe = ast.match_case(case.pattern, case.guard, [assign_constant(flag, True)])
            self.emit(assign_constant(flag, False))
            self.emit(place(ast.Match(place(load(subject), node.subject), [probe]), case.pattern))
            self.branch(load(flag), hit, miss, kind="case", slot=subject, pattern=case)
            self.start(hit)
            with self.at("match.case"):
                self.body(case.body)
            self.goto(after)
            self.start(miss)
        self.goto(after)

    def finish(self) -> None:
        """The end of the function."""
        self.block.term = Return(None)


def _target_name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else "value"


def _sequence_name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call):
        return _sequence_name(node.args[0]) if node.args else _sequence_name(node.func)
    return "items"


def _slice_parts(node: ast.Slice) -> list[ast.expr]:
    return [p if p is not None else ast.Constant(None) for p in (node.lower, node.upper, node.step)]


def lowerable(node: Any) -> bool:
    """Whether a statement class has a rule here."""
    return hasattr(Statements, f"_s_{type(node).__name__.lower()}")
