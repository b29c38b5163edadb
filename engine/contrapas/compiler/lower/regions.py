"""`async with s.scope()`, the limit around a called saga or a join, and the end of what was begun in a scope or function."""

from __future__ import annotations

import ast
from collections.abc import Callable

from contrapas.compiler.inflight import own_flights, scoped
from contrapas.compiler.lower.builder import Context, Leap, call, leave_scope, load, place
from contrapas.compiler.lower.tries import Tries
from contrapas.compiler.operations import Found
from contrapas.machine.ir import Block, Reraise, Site


class Scopes(Tries):
    """Regions whose failure takes back what was done in them, and whose end waits for what they began."""

    def function(self, node: ast.AsyncFunctionDef) -> None:
        """The whole body; where operations are begun in it, its end is a `join` (L23)."""
        if own_flights(node.body, self.found):
            self.finally_(node, lambda: self.body(node.body), lambda exc: self._join(exc, node), "flight")
        else:
            self.body(node.body)
        self.finish()

    def _s_asyncwith(self, node: ast.AsyncWith) -> None:
        if len(node.items) > 1:
            inner = place(ast.AsyncWith(node.items[1:], node.body), node)
            node = place(ast.AsyncWith(node.items[:1], [inner]), node)
        made = node.items[0].context_expr
        keywords = made.keywords if isinstance(made, ast.Call) else []
        enter = ast.Attribute(load(self.program.saga_name), "_enter", ast.Load())
        entered = place(ast.Call(enter, [ast.Constant("scope")], keywords), node)
        self.emit(place(ast.Expr(self.expr(entered)), node))
        joins = bool(keywords) or own_flights(node.body, self.found)
        self._scope(node, lambda: self.body(node.body), joins=joins)

    def await_into(self, node: ast.Await, into: str) -> None:
        """Issue an awaited operation; a called saga or a join with a limit stands in a scope that has it."""
        found = self.found[id(node)]
        if not scoped(found.site) or not found.site.has_within:
            super().await_into(node, into)
            return
        op = self.hidden("flag", node)
        self.assign(op, self.operation(node), node)
        limit = ast.Attribute(load(self.program.saga_name), "_limited", ast.Load())
        self.emit(place(ast.Expr(ast.Call(limit, [load(op)], [])), node))
        self._scope(node, lambda: self.issue(found, place(load(op), node), into), joins=True)

    def _scope(self, node: ast.AST, inside: Callable[[], None], *, joins: bool) -> None:
        saga = self.program.saga_name
        outside = self.context
        exc = self.hidden("exc", node, "scope")
        handling = (*outside.handling, exc)
        landing = self.new(Context(outside.handler, handling))
        landing.landing = exc
        after = self.new()
        self.depth += 1
        with (
            self.within(Context(landing.id, outside.handling)),
            self.at("scope", "scope"),
            self.leap(Leap("scope", outside)),
        ):
            self.goto(self.new())
            if joins:
                self.finally_(node, inside, lambda exc: self._join(exc, node), "flight")
            else:
                inside()
        self.depth -= 1
        with self.within(outside):
            leaving = self.new()
        self.goto(leaving)
        self.emit(place(leave_scope(saga), node))
        self.goto(after)
        with self.within(Context(outside.handler, handling)):
            self._failed_scope(landing, exc, node)
        self.start(after)

    def _failed_scope(self, landing: Block, exc: str, node: ast.AST) -> None:
        self.start(landing)
        handled = self.context
        other = self.hidden("exc", node, "cleanup")
        cleanup = self.new(Context(handled.handler, (*handled.handling, other)))
        cleanup.landing = other
        cleanup.native = [leave_scope(self.program.saga_name)]
        cleanup.term = Reraise()
        guarded = Context(cleanup.id, handled.handling)
        unwind, out = self.new(guarded), self.new()
        test = place(call("@unwinds", load(exc)), node)
        self.branch(test, unwind, out, kind="unwinds", slot=exc)
        self.start(unwind)
        self.depth += 1
        with self.within(guarded), self.at("scope", "scope"):
            op = call("@Op", ast.Constant("unwind"), ast.Constant("unwind"))
            self._own(node, "unwind", op)
        self.depth -= 1
        self.goto(out)
        self.emit(leave_scope(self.program.saga_name))
        self.end(Reraise())

    def _join(self, exc: str, node: ast.AST) -> None:
        """The end: wait for what was begun, or end it (X15). A bug passes at once, and ends it on the spot."""
        bug, end, after = self.new(), self.new(), self.new()
        self.branch(place(call("@bug", load(exc)), node), bug, end, kind="bug", slot=exc)
        self.start(bug)
        kill = ast.Attribute(load(self.program.saga_name), "_kill", ast.Load())
        self.emit(ast.Expr(ast.Call(kill, [], [])))
        self.goto(after)
        self.start(end)
        self._own(node, "join", call("@Op", ast.Constant("join"), ast.Constant("join"), load(exc)))
        self.goto(after)

    def _own(self, node: ast.AST, word: str, op: ast.expr) -> None:
        """An await that the compiler makes."""
        line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
        self.issue(Found(Site(0, word, word, word, "", line, column)), place(op, node), "")


class Lowerer(Scopes):
    """The whole of lowering: one program from one function body."""
