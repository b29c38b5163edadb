"""`try` with awaits inside: one landing block per region, a `finally` body once, its exit pending in a slot (L6 to L12)."""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from contrapas.compiler.lower.builder import (
    Context,
    Leap,
    assign_constant,
    call,
    load,
    place,
    placeholder,
    store,
    unbind,
)
from contrapas.compiler.lower.statements import Statements
from contrapas.machine.ir import Block, Jump, Reraise


class Tries(Statements):
    """`try` in every nesting."""

    def _s_try(self, node: ast.Try) -> None:
        self.emit(place(ast.Pass(), node))
        if node.finalbody:
            self._finally(node)
        else:
            self._except(node)

    # -- finally -------------------------------------------------------------------------------------------

    def _finally(self, node: ast.Try) -> None:
        def guarded() -> None:
            if node.handlers:
                self._except(node)
            else:
                self.body(node.body)

        self.finally_(node, guarded, lambda exc: self.body(node.finalbody))

    def finally_(
        self, node: ast.AST, guarded: Callable[[], None], last: Callable[[str], None], hint: str = "finally"
    ) -> None:
        """`guarded`, then on every way out `last`, which is built once and told the variable of the exception."""
        outside = self.context
        with self.at("try" if hint == "finally" else hint):
            pend, exc = self.hidden("pend", node, hint, type=str), self.hidden("exc", node, hint)
        inner = Context(outside.handler, (*outside.handling, exc))
        landing, body = self.new(inner), self.new(inner)
        landing.landing = exc
        landing.native = [assign_constant(pend, "raise")]
        landing.term = Jump(body.id)
        leap = Leap("finally", outside, pend, body=body.id, exc=exc)
        after = self.new()
        with self.within(Context(landing.id, outside.handling)):
            with self.leap(leap), self.region(hint):
                self.goto(self.new())
                guarded()
            self.emit(assign_constant(pend, "through"), assign_constant(exc, None))
            self.end(Jump(body.id))
        with self.within(inner), self.at("finally" if hint == "finally" else hint):
            self.start(body)
            last(exc)
            again, onward = self.new(), self.new(outside)
            self._pending(pend, "raise", again, onward)
            self.start(again)
            self.end(Reraise())
        self.start(onward)
        for name, (kind, loop) in leap.exits.items():
            more, leave = self.new(), self.new()
            leave.term = Jump(self.exit_block(kind, loop))
            self._pending(pend, name, leave, more)
            self.start(more)
        self.goto(after)

    def region(self, hint: str) -> AbstractContextManager[None]:
        """The control path inside: a join shows in none, so that a `begin` that is added moves no other label."""
        return self.at("try", "finally") if hint == "finally" else nullcontext()

    def _pending(self, pend: str, name: str, yes: Block, no: Block) -> None:
        test = ast.Compare(load(pend), [ast.Eq()], [placeholder(name)])
        self.branch(test, yes, no, kind="pend", slot=pend, exit=name)

    # -- except --------------------------------------------------------------------------------------------

    def _except(self, node: ast.Try) -> None:
        outside = self.context
        types = " ".join("" if h.type is None else ast.unparse(h.type) for h in node.handlers).strip()
        with self.at("try"):
            exc = self.hidden("exc", node, "except")
        inner = Context(outside.handler, (*outside.handling, exc))
        landing = self.new(inner)
        landing.landing = exc
        after, orelse = self.new(), self.new()
        with self.within(Context(landing.id, outside.handling)), self.at("try", f"try {types}".strip()):
            self.goto(self.new())
            self.body(node.body)
        self.goto(orelse)
        with self.at("try.else"):
            self.body(node.orelse)
        self.goto(after)
        self.start(landing)
        with self.within(inner):
            for handler in node.handlers:
                self._handler(handler, exc, after)
            self.end(Reraise())
        self.start(after)

    def _handler(self, handler: ast.ExceptHandler, exc: str, after: Block) -> None:
        """One handler; building goes on where its type does not match."""
        miss = self.new()
        if handler.type is not None:
            body = self.new()
            test = place(call("@matches", load(exc), handler.type), handler.type)
            self.branch(test, body, miss, kind="except", slot=exc)
            self.start(body)
        with self.at("except"):
            if handler.name is None:
                self.body(handler.body)
            else:
                self._named(handler, handler.name, exc)
        self.goto(after)
        self.start(miss)

    def _named(self, handler: ast.ExceptHandler, name: str, exc: str) -> None:
        """`except E as n`: every way out unbinds `n` (L7)."""
        outside = self.context
        self.emit(place(ast.Assign([store(name)], load(exc)), handler))
        other = self.hidden("exc", handler, "cleanup")
        cleanup = self.new(Context(outside.handler, (*outside.handling, other)))
        cleanup.landing = other
        cleanup.native = unbind(name)
        cleanup.term = Reraise()
        with self.within(Context(cleanup.id, outside.handling)), self.leap(Leap("handler", outside, name)):
            self.goto(self.new())
            self.body(handler.body)
        leaving = self.new()
        self.goto(leaving)
        self.emit(*unbind(name))
