"""From a saga definition to a lowered program, or the reasons why not: source, scopes, accept, lower, simplify."""

from __future__ import annotations

import ast
import builtins
import copy
import types
from collections import ChainMap
from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from contrapas.author.event import Event
from contrapas.author.saga import Saga, SagaDef
from contrapas.author.service import Depends
from contrapas.compiler import scopes, source, trees
from contrapas.compiler.accept import Accept, signature
from contrapas.compiler.entities import HandlerSaga
from contrapas.compiler.lower import Unknown, lower
from contrapas.compiler.operations import Operations, members
from contrapas.compiler.recover import mended, sure
from contrapas.compiler.refusals import Refusals
from contrapas.compiler.simplify import simplify
from contrapas.compiler.summaries import functions_of
from contrapas.compiler.warnings import warn
from contrapas.machine import Refusal
from contrapas.machine.ir import Program


class Front:
    """The first half of a compilation."""

    def __init__(self, saga: SagaDef[..., Any], provided: frozenset[Any]) -> None:
        self.saga = saga
        self.provided = provided
        self.program: Program | None = None
        self.partial: Program | None = None
        """What is left of a refused function, to find what else is wrong with it."""
        self.doubtful: set[str] = set()
        """Names of which nothing is known in it."""
        self.flags = 0
        self.refusals = Refusals(saga.file, ())
        self._run()

    def _run(self) -> None:
        read = source.read(self.saga.fn, self.saga.name)
        if isinstance(read, Refusal):
            self.refusals.found.append(read)
            return
        self.flags = read.flags
        self.refusals = refusals = Refusals(read.file, read.lines)
        node = read.node
        if isinstance(self.saga, HandlerSaga):
            node = copy.deepcopy(node)
            node.decorator_list = []
            self.saga.reshape(node, refusals)
            if refusals.fatal:
                return
        self._decorators(node)
        self.program = self._lowered(node, read, refusals)
        if self.program is not None or isinstance(self.saga, HandlerSaga):
            return
        fresh = source.read(self.saga.fn, self.saga.name)
        if not isinstance(fresh, Refusal):
            again, self.doubtful = mended(fresh.node, refusals.found)
            further = Refusals(read.file, read.lines)
            self.partial = self._lowered(again, read, further, partial=True)
            known = {(r.code, r.line) for r in refusals.found}
            for one in further.found:
                if sure(one, self.doubtful) and (one.code, one.line) not in known:
                    refusals.found.append(one)

    def _lowered(
        self, node: ast.AsyncFunctionDef, read: source.Source, refusals: Refusals, *, partial: bool = False
    ) -> Program | None:
        """The lowered program; None when anything is refused, unless it is what is left of one."""
        fn = self.saga.fn
        nodes = trees.walk(node)
        hints = self._hints(node, refusals)
        _several(node.args, hints)
        saga_name = signature(node, hints, Saga, refusals)
        names = [n for n in scopes.arguments(node.args) if n != saga_name]
        ambients = tuple((n, hints.get(n)) for n in names[1:] if self._ambient(hints.get(n)))
        ambient = {n for n, _ in ambients}
        params = tuple(n for n in names if n not in ambient)
        bound = [
            n for n in scopes.bound(node.body) if n not in params and n not in ambient and n != saga_name
        ]
        locals_ = (*params, *bound)
        own = frozenset(locals_)
        program = Program(
            name=self.saga.name,
            fn=fn,
            node=node,
            file=read.file,
            source=read.lines,
            namespace=_namespace(fn),
            hints=hints,
            saga_name=saga_name,
            params=params,
            ambients=ambients,
            locals=locals_,
            cells=scopes.captured(node.body, set(own)) if scopes.inner_among(nodes) else frozenset(),
            nodes=nodes,
        )
        operations = Operations(refusals, program.namespace, saga_name, own | ambient, hints, node.body)
        accept = Accept(operations, refusals, own | ambient, frozenset(ambient))
        accept.function(node, nodes)
        if not saga_name or any(r.code != "CP124" or not partial for r in refusals.found if not r.warning):
            return None
        _recreated(program)
        try:
            lower(program, accept.found)
        except Unknown as why:
            refusals.add(
                why.node,
                "CP100",
                f"await in a form the compiler does not know ({why})",
                "name the awaited value first",
            )
            return None
        except RecursionError:
            refusals.add(
                node,
                "CP100",
                f"{self.saga.name} is nested too deeply",
                "split it into several sagas or steps",
            )
            return None
        simplify(program)
        program.nodes = trees.walk(program.node)
        if not partial:
            warn(program, refusals)
        return program

    def _ambient(self, hint: Any) -> bool:
        if get_origin(hint) is Annotated and any(_depends(m) for m in get_args(hint)[1:]):
            return True
        try:
            return hint in self.provided
        except TypeError:
            return False

    def _hints(self, node: ast.AsyncFunctionDef, refusals: Refusals) -> dict[str, Any]:
        try:
            if isinstance(self.saga, HandlerSaga):
                return self.saga.hints()
            return get_type_hints(self.saga.fn, include_extras=True)
        except Exception as why:  # noqa: BLE001  an annotation is the author's code: it may raise anything
            refusals.add(
                node,
                "CP124",
                f"{self.saga.name}: an annotation cannot be resolved: {why}",
                "import the names that annotations use at module level",
            )
            return {}

    def _decorators(self, node: ast.AsyncFunctionDef) -> None:
        if not node.decorator_list:
            return
        namespace = _namespace(self.saga.fn)
        last = node.decorator_list[-1]
        called = last.func if isinstance(last, ast.Call) else last
        value: Any = None
        if isinstance(called, ast.Name):
            value = namespace.get(called.id)
        elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            value = getattr(namespace.get(called.value.id), called.attr, None)
        module = getattr(value, "__module__", "")
        if value is not None and not str(module).startswith("contrapas"):
            self.refusals.add(
                last,
                "CP141",
                f"`{ast.unparse(last)}` stands between @saga and the function",
                "write @saga innermost, directly above the function",
            )


def starts(program: Program) -> tuple[Any, ...]:
    """Event classes that start an instance: the first parameter's annotation."""
    if not program.params:
        return ()
    hint = program.hints.get(program.params[0])
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    classes = members(hint)
    return classes if all(isinstance(c, type) and issubclass(c, Event) for c in classes) else ()


def outcomes(program: Program) -> tuple[Any, ...]:
    """Event classes that the saga may return."""
    hint = program.hints.get("return")
    return tuple(c for c in members(hint) if isinstance(c, type) and issubclass(c, Event))


def _several(args: ast.arguments, hints: dict[str, Any]) -> None:
    """`*rest: int` holds a tuple, `**more: int` a dict."""
    if args.vararg is not None and args.vararg.arg in hints:
        hints[args.vararg.arg] = types.GenericAlias(tuple, (hints[args.vararg.arg], ...))
    if args.kwarg is not None and args.kwarg.arg in hints:
        hints[args.kwarg.arg] = types.GenericAlias(dict, (str, hints[args.kwarg.arg]))


def _depends(marker: Any) -> bool:
    return isinstance(marker, Depends) or type(marker).__name__ == "Depends"


def _namespace(fn: Any) -> Mapping[str, Any]:
    """What names that are no locals mean: closure first, then globals, then builtins."""
    closure: dict[str, Any] = {}
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            closure[name] = cell.cell_contents
        except ValueError:
            continue
    return ChainMap(closure, fn.__globals__, builtins.__dict__)


def _recreated(program: Program) -> None:
    """Local functions that the prologue defines again (A4), and aliases of ambient values."""
    functions, aliases = functions_of(program), _aliases(program)
    if not functions and not aliases:
        return
    bindings: dict[str, list[ast.stmt]] = {}
    for stmt in program.nodes:
        if isinstance(stmt, ast.stmt):
            for name in _direct(stmt):
                bindings.setdefault(name, []).append(stmt)
    for name, stmts in bindings.items():
        if len(stmts) != 1 or name in program.params:
            continue
        stmt = stmts[0]
        if name in functions and _plain_function(stmt):
            program.recreated[name] = stmt
        elif aliases.get(name) is stmt:
            program.aliases[name] = stmt


def _aliases(program: Program) -> dict[str, ast.stmt]:
    """`log = s.log`: local -> the statement that gives it a path of an ambient value."""
    ambient = {n for n, _ in program.ambients} | {program.saga_name}
    found: dict[str, ast.stmt] = {}
    for node in program.nodes:
        if node.__class__ is not ast.Assign:
            continue
        assert isinstance(node, ast.Assign)
        root, target = node.value, node.targets[0]
        while isinstance(root, ast.Attribute):
            root = root.value
        if (
            isinstance(root, ast.Name)
            and root is not node.value
            and root.id in ambient
            and len(node.targets) == 1
            and isinstance(target, ast.Name)
        ):
            found[target.id] = node
    return found


def _direct(stmt: ast.stmt) -> set[str]:
    """Names that a statement itself binds, inner statements left out."""
    if isinstance(stmt, ast.FunctionDef | ast.ClassDef):
        return {stmt.name}
    names: set[str] = set()
    if isinstance(stmt, ast.Import | ast.ImportFrom):
        return {a.asname or a.name.partition(".")[0] for a in stmt.names}
    for child in trees.children(stmt):
        if isinstance(child, ast.stmt):
            continue
        for node in trees.walk(child):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                names.add(node.id)
            elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
                names.add(node.name)
            elif isinstance(node, ast.MatchMapping) and node.rest:
                names.add(node.rest)
    return names


def _plain_function(stmt: ast.stmt) -> bool:
    if isinstance(stmt, ast.FunctionDef):
        args, fine = stmt.args, not stmt.decorator_list
    elif isinstance(stmt, ast.Assign) and isinstance(stmt.value, ast.Lambda) and len(stmt.targets) == 1:
        args, fine = stmt.value.args, isinstance(stmt.targets[0], ast.Name)
    else:
        return False
    defaults = [*args.defaults, *(d for d in args.kw_defaults if d is not None)]
    return fine and all(isinstance(d, ast.Constant) for d in defaults)
