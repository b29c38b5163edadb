"""Default deny: every node of a saga is on the list below, or it is refused with a code, a place and a replacement."""

from __future__ import annotations

import ast
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from contrapas.compiler import constants, conversation, inflight, scopes, trees
from contrapas.compiler.operations import IMMEDIATE, LATER, OPERATIONS, Found, Operations
from contrapas.compiler.refusals import Refusals

_NODES: Final = """
Add And AnnAssign Assert Assign AsyncFor AsyncFunctionDef AsyncWith Attribute AugAssign Await BinOp
BitAnd BitOr BitXor BoolOp Break Call ClassDef Compare Constant Continue Del Delete Dict DictComp Div Eq
ExceptHandler Expr FloorDiv For FormattedValue FunctionDef GeneratorExp Global Gt GtE If IfExp Import
ImportFrom In Invert Is IsNot JoinedStr LShift Lambda List ListComp Load Lt LtE MatMult Match MatchAs
MatchClass MatchMapping MatchOr MatchSequence MatchSingleton MatchStar MatchValue Mod Mult Name NamedExpr
Nonlocal Not NotEq NotIn Or ParamSpec Pass Pow RShift Raise Return Set SetComp Slice Starred Store Sub
Subscript Try TryStar Tuple TypeAlias TypeVar TypeVarTuple UAdd USub UnaryOp While With Yield YieldFrom
alias arg arguments comprehension keyword match_case withitem
"""
KNOWN: Final = frozenset(_NODES.split())
"""Every node class this compiler knows; one that a later Python adds is refused until somebody has thought about it."""
FRAMES: Final = frozenset({"locals", "vars", "eval", "exec", "dir", "breakpoint"})
STARTED: Final = frozenset({"iter", "map", "filter", "open"})


class Accept:
    """One walk over a saga: refuses what is not in the language, and classifies every await on the way."""

    def __init__(
        self, operations: Operations, refusals: Refusals, own: frozenset[str], ambients: frozenset[str]
    ) -> None:
        self.operations = operations
        self.refusals = refusals
        self.own = own
        self.ambients = ambients
        self.saga = operations.saga
        self.found: dict[int, Found] = {}
        """By id of the `Await` node, or of the call of `s.begin`."""
        self._handlers = 0
        self._loops = 0
        self._finally: list[int] = []
        """For each finally body around: how many loops stood open where it began."""
        self._awaited: set[int] = set()

    def function(self, node: ast.AsyncFunctionDef, nodes: list[ast.AST]) -> None:
        """The whole body. nodes: all of its nodes."""
        for inner in [*nodes, *_operators(nodes)]:  # what is not on the list is refused
            if inner.__class__.__name__ not in KNOWN and inner is not node:
                self._refuse(
                    inner,
                    "CP100",
                    f"{type(inner).__name__} is not known to this compiler",
                    "write it in another form, and please report it",
                )
        self._body(node.body)

    def _refuse(self, node: ast.AST, code: str, text: str, fix: str) -> None:
        self.refusals.add(node, code, text, fix)

    def _body(self, body: list[ast.stmt]) -> None:
        for stmt in body:
            self._stmt(stmt)

    # -- statements ----------------------------------------------------------------------------------------

    def _stmt(self, node: ast.stmt) -> None:
        method = getattr(self, f"_on_{type(node).__name__.lower()}", None)
        if method is not None:
            method(node)
        else:
            self._parts(node)

    def _parts(self, node: ast.AST) -> None:
        """Expressions and statements below, in order."""
        for child in trees.children(node):
            if isinstance(child, ast.stmt):
                self._stmt(child)
            elif isinstance(child, ast.expr):
                self._expr(child, node)
            else:
                self._parts(child)

    def _on_expr(self, node: ast.Expr) -> None:
        if self.operations.is_operation(node.value):
            self._refuse(
                node.value,
                "CP117",
                f"`{_cut(node.value)}` builds an operation that is never awaited",
                "put await before it",
            )
        self._expr(node.value, node)

    def _on_if(self, node: ast.If) -> None:
        self._expr(node.test, node)
        self._body(node.body)
        self._body(node.orelse)

    def _on_while(self, node: ast.While) -> None:
        self._expr(node.test, node)
        with self._loop():
            self._body(node.body)
        self._body(node.orelse)

    def _on_for(self, node: ast.For) -> None:
        if scopes.has_await(node) and self._started(node.iter):
            self._refuse(
                node.iter,
                "CP125",
                f"`{_cut(node.iter)}` is a started iterator, and the loop awaits",
                f"for … in list({_cut(node.iter)})",
            )
        self._expr(node.iter, node)
        self._expr(node.target, node)
        with self._loop():
            self._body(node.body)
        self._body(node.orelse)

    def _started(self, node: ast.expr) -> bool:
        if isinstance(node, ast.GeneratorExp):
            return True
        if isinstance(node, ast.Name) and node.id in self.own:
            values = [value for value, _ in self.operations.assigned.get(node.id, ())]
            return any(isinstance(v, ast.Call | ast.GeneratorExp) and self._started(v) for v in values)
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in STARTED
            and node.func.id not in self.own
        )

    @contextmanager
    def _loop(self) -> Generator[None]:
        self._loops += 1
        yield
        self._loops -= 1

    def _on_asyncfor(self, node: ast.AsyncFor) -> None:
        self._refuse(
            node, "CP107", "the position of an async for cannot be stored", "loop over s.wait, or over a list"
        )

    def _on_break(self, node: ast.stmt) -> None:
        if self._finally and self._finally[-1] == self._loops:
            self._leaves_finally(node, type(node).__name__.lower())

    _on_continue = _on_break

    def _on_return(self, node: ast.Return) -> None:
        if self._finally:
            self._leaves_finally(node, "return")
        self._parts(node)

    def _leaves_finally(self, node: ast.stmt, word: str) -> None:
        self._refuse(
            node,
            "CP111",
            f"{word} in a finally drops what is on its way out",
            f"{word} after the try statement",
        )

    def _on_try(self, node: ast.Try) -> None:
        self._body(node.body)
        for handler in node.handlers:
            if handler.type is not None:
                self._expr(handler.type, handler)
                if scopes.has_await(handler.type):
                    self._refuse(
                        handler.type, "CP100", "await in the type of an except", "name it before the try"
                    )
            self._handlers += 1
            self._body(handler.body)
            self._handlers -= 1
        self._body(node.orelse)
        self._finally.append(self._loops)
        self._handlers += 1
        self._body(node.finalbody)
        self._handlers -= 1
        self._finally.pop()

    def _on_trystar(self, node: Any) -> None:
        if scopes.has_await(node):
            self._refuse(node, "CP110", "await inside try … except*", "use except")
        self._on_try(node)

    def _on_raise(self, node: ast.Raise) -> None:
        if node.exc is None and not self._handlers:
            self._refuse(
                node, "CP113", "a bare raise outside of a handler", "name the exception: raise error"
            )
        self._parts(node)

    def _on_with(self, node: ast.With) -> None:
        if scopes.has_await(node):
            self._refuse(
                node,
                "CP109",
                "await inside with: the resource cannot stay open while the saga waits",
                "close it before the await, or do the block inside a @step",
            )
        self._parts(node)

    def _on_asyncwith(self, node: ast.AsyncWith) -> None:
        for item in node.items:
            call = item.context_expr
            if self.operations.method(call) != "scope" or item.optional_vars is not None:
                self._refuse(
                    call,
                    "CP108",
                    f"async with `{_cut(call)}`: only s.scope() can be entered across awaits",
                    "open and close it inside a @step",
                )
            elif isinstance(call, ast.Call):
                self._scope_options(call)
        self._body(node.body)

    def _scope_options(self, call: ast.Call) -> None:
        if call.args or any(k.arg not in ("within", "until") for k in call.keywords):
            self._refuse(
                call, "CP100", "s.scope() takes within= or until= and nothing else", 's.scope(within="10m")'
            )
        for keyword in call.keywords:
            if keyword.arg == "within":
                constants.length(self.refusals, keyword.value, "within=")
            self._expr(keyword.value, call)

    def _on_match(self, node: ast.Match) -> None:
        self._expr(node.subject, node)
        for case in node.cases:
            if case.guard is not None:
                if scopes.has_await(case.guard):
                    self._refuse(case.guard, "CP114", "await in a guard", "assign it before the match")
                self._expr(case.guard, case)
            self._parts(case.pattern)
            self._body(case.body)

    def _on_annassign(self, node: ast.AnnAssign) -> None:
        if scopes.has_await(node.annotation):
            self._refuse(node.annotation, "CP105", "await in an annotation", "compute it before")
        self._parts(node)

    def _on_global(self, node: ast.Global | ast.Nonlocal) -> None:
        word = type(node).__name__.lower()
        self._refuse(
            node,
            "CP120",
            f"{word} {', '.join(node.names)}: a saga's state is its own locals",
            "use a local, or pass the value as an argument",
        )

    _on_nonlocal = _on_global

    def _on_asyncfunctiondef(self, node: ast.AsyncFunctionDef) -> None:
        self._refuse(node, "CP103", f"async def {node.name} inside a saga", "move it to module level")

    def _on_functiondef(self, node: ast.FunctionDef) -> None:
        self._defaults(node)
        self._inner(node)

    def _on_classdef(self, node: ast.ClassDef) -> None:
        if any(scopes.has_await(n) for n in trees.children(node)):
            self._refuse(node, "CP105", "await in a class body", "compute it before")
        self._inner(node)

    def _defaults(self, node: ast.AST) -> None:
        for outer in scopes.same_scope(node):
            if scopes.has_await(outer):
                self._refuse(
                    outer, "CP105", "await in a default, decorator or annotation", "compute it before"
                )
            elif isinstance(outer, ast.expr):
                self._expr(outer, node)

    # -- inner functions -----------------------------------------------------------------------------------

    def _inner(self, node: ast.AST) -> None:
        """What an inner function, lambda or class may not do."""
        if self.saga in set(scopes.free(node)) or (
            isinstance(node, ast.ClassDef) and any(self.saga in set(scopes.reads(s)) for s in node.body)
        ):
            self._refuse(
                node,
                "CP123",
                f"an inner function captures {self.saga}, which belongs to one activation",
                "pass it as an argument",
            )
        for part in trees.walk(node):
            if part is node:
                continue
            if isinstance(part, ast.AsyncFunctionDef):
                self._on_asyncfunctiondef(part)
            elif isinstance(part, ast.Global):
                self._on_global(part)
            elif isinstance(part, ast.Call):
                self._call_refusals(part)

    # -- expressions ---------------------------------------------------------------------------------------

    def _expr(self, node: ast.expr, parent: ast.AST) -> None:
        if isinstance(node, ast.Name):
            self._name(node, parent)
            return
        if isinstance(node, ast.Lambda):
            self._defaults(node)
            if id(node) not in self._awaited:
                self._inner(node)
            return
        if isinstance(node, ast.Yield | ast.YieldFrom):
            self._refuse(node, "CP106", "yield in a saga", "return, or s.emit(event)")
        elif isinstance(node, scopes.COMPREHENSIONS):
            self._comprehension(node)
        elif isinstance(node, ast.Await):
            self._await(node)
        elif isinstance(node, ast.Call):
            self._call_refusals(node)
            if self.operations.method(node) == "begin":
                self._keep(node, inflight.begin(self.operations, node))
        elif isinstance(node, ast.Attribute):
            self._attribute(node)
        for child in trees.children(node):
            if isinstance(child, ast.expr):
                self._expr(child, node)
            elif isinstance(child, ast.keyword | ast.comprehension):
                self._parts(child)

    def _name(self, node: ast.Name, parent: ast.AST) -> None:
        if node.id != self.saga:
            return
        stored = not isinstance(node.ctx, ast.Load)
        passed = isinstance(parent, ast.Attribute | ast.Call | ast.keyword)
        if stored or not passed:
            self._refuse(
                node,
                "CP123",
                f"{self.saga} is {'rebound' if stored else 'stored'}; it belongs to one activation",
                f"pass {self.saga} on as an argument",
            )

    def _attribute(self, node: ast.Attribute) -> None:
        if not (isinstance(node.value, ast.Name) and node.value.id == self.saga):
            return
        known = OPERATIONS | IMMEDIATE | {"scope"}
        if node.attr in LATER:
            self._refuse(
                node, "CP100", f"{self.saga}.{node.attr} is not known to this release", "leave it out for now"
            )
        elif node.attr not in known:
            self._refuse(
                node,
                "CP100",
                f"{self.saga}.{node.attr} is nothing a saga knows",
                f"{self.saga}.step, ask, wait, sleep, all, first, compensate, scope, emit",
            )

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        if any(g.is_async for g in node.generators):
            self._refuse(node, "CP107", "an async comprehension", "loop over a list")
        if isinstance(node, ast.GeneratorExp):
            inside = [node.elt, *(i for g in node.generators for i in g.ifs)]
            inside += [g.iter for g in node.generators[1:]]
            if scopes.has_await(inside):
                self._refuse(
                    node,
                    "CP104",
                    "await in a generator expression",
                    "a list comprehension: […] instead of (…)",
                )
        elif scopes.has_await(node):
            for generator in node.generators:
                if self._started(generator.iter):
                    self._refuse(
                        generator.iter,
                        "CP125",
                        f"`{_cut(generator.iter)}` is a started iterator, and the comprehension awaits",
                        f"for … in list({_cut(generator.iter)})",
                    )

    def _await(self, node: ast.Await) -> None:
        self._keep(node, self.operations.classify(node.value, "", at=node))

    def _keep(self, node: ast.expr, found: Found | None) -> None:
        """An operation that is known, and the undos in it."""
        if found is None:
            return
        found.node = node
        self.found[id(node)] = found
        for _, undoing in found.undos:
            if undoing.body is None:
                continue
            self._awaited.add(id(undoing.node or undoing.body))
            if self.saga in set(scopes.reads(undoing.body)):
                self._refuse(
                    undoing.body, "CP123", f"an undo captures {self.saga}", "an undo is a command or a step"
                )
        for keyword, _ in found.undos:
            self._awaited.add(id(keyword.value))

    def _call_refusals(self, node: ast.Call) -> None:
        func = node.func
        if isinstance(func, ast.Name) and func.id not in self.own:
            if func.id in FRAMES and (func.id not in ("vars", "dir") or not node.args):
                self._refuse(node, "CP116", f"{func.id}() sees no frame of a compiled saga", "use the names")
            elif func.id == "globals":
                self._refuse(node, "CP120", "globals() in a saga", "a local, or an argument")
            elif func.id == "super" and not node.args:
                self._refuse(node, "CP122", "super() without arguments", "call a module-level function")
        elif self.operations.method(node) == "tell":
            conversation.one_way(self.operations, node)
        elif isinstance(func, ast.Attribute) and func.attr in ("_getframe", "currentframe"):
            self._refuse(node, "CP116", f"{func.attr}() sees no frame of a compiled saga", "use the names")


def signature(node: ast.AsyncFunctionDef, hints: dict[str, Any], saga: type[Any], refusals: Refusals) -> str:
    """Name of the first parameter; CP124 for what is missing in the signature."""
    params = [*node.args.posonlyargs, *node.args.args]
    fix = f"async def {node.name}({'s: Saga'}, event: Started) -> Outcome"
    if not params or hints.get(params[0].arg) is not saga:
        first = f"{params[0].arg}: Saga" if params and params[0].annotation is None else fix
        refusals.add(node, "CP124", f"{node.name}: the first parameter is not annotated Saga", first)
    every = [*params[1:], *node.args.kwonlyargs]
    every += [a for a in (node.args.vararg, node.args.kwarg) if a is not None]
    for arg in every:
        if arg.annotation is None:
            refusals.add(arg, "CP124", f"parameter {arg.arg} has no annotation", f"{arg.arg}: its type")
    if node.returns is None:
        refusals.add(
            node,
            "CP124",
            f"{node.name} has no return annotation",
            "-> Outcome, the events it returns, or -> None",
        )
    return params[0].arg if params else "s"


def _operators(nodes: list[ast.AST]) -> list[ast.AST]:
    found: list[ast.AST] = []
    for node in nodes:
        if isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp | ast.AugAssign):
            found.append(node.op)
        elif isinstance(node, ast.Compare):
            found += node.ops
    return found


def _cut(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:57]}…"
