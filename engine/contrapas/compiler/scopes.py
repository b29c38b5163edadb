"""Names of a function: which are its own, which it captures, what a piece of tree reads, binds or deletes.

Own analysis rather than the code object's: comprehension variables count as locals there from Python 3.12 on.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final, TypeVar

from contrapas.compiler import trees

N = TypeVar("N", bound=ast.AST)
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_FUNCTIONS: Final = frozenset(FUNCTIONS)
_INNER: Final = _FUNCTIONS | {ast.ClassDef}
_AWAITS: Final = (ast.Await, ast.AsyncFor, ast.AsyncWith)
COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def has_await(node: ast.AST | list[ast.stmt] | list[ast.expr] | None) -> bool:
    """Whether an await of this function stands in the tree (not one of an inner function's body)."""
    if node is None:
        return False
    if isinstance(node, list):
        return any(has_await(n) for n in node)
    if not trees.FIELDS[node.__class__]:
        return False
    cached = node.__dict__.get("_cp_await")
    if cached is not None:
        return bool(cached)
    found = isinstance(node, _AWAITS)
    if not found:
        for inner in same_scope(node):
            if has_await(inner):
                found = True
                break
    node._cp_await = found  # type: ignore[attr-defined]
    return found


def same_scope(node: ast.AST) -> list[ast.AST]:
    """Children that are evaluated in this function; of inner functions only decorators, defaults, annotations."""
    if node.__class__ not in _FUNCTIONS:
        return trees.children(node)
    if isinstance(node, ast.Lambda):
        return [*_defaults(node.args)]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    found: list[ast.AST] = [*node.decorator_list, *_defaults(node.args)]
    for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
        if arg.annotation is not None:
            found.append(arg.annotation)
    if node.returns is not None:
        found.append(node.returns)
    return found


def _defaults(args: ast.arguments) -> Iterator[ast.expr]:
    yield from args.defaults
    yield from (d for d in args.kw_defaults if d is not None)


def walk(node: ast.AST) -> list[ast.AST]:
    """Every node evaluated in this function, in source order, inner function bodies left out."""
    found: list[ast.AST] = []
    stack = [node]
    fields = trees.FIELDS
    while stack:
        each = stack.pop()
        found.append(each)
        kind = each.__class__
        if fields[kind]:
            inner = same_scope(each) if kind in _FUNCTIONS else trees.children(each)
            inner.reverse()
            stack += inner
    return found


def bound(body: list[ast.stmt]) -> tuple[str, ...]:
    """Names that statements bind in their own scope, in order of first binding (deletions count)."""
    names: dict[str, None] = {}
    for stmt in body:
        _bindings(stmt, names)
    return tuple(names)


_SILENT: Final = frozenset(
    (ast.Constant, ast.Call, ast.Attribute, ast.Expr, ast.Assign, ast.keyword, ast.BinOp, ast.Compare, ast.Await, ast.If)
)  # fmt: skip
"""The usual nodes without a name of their own."""


def _bindings(node: ast.AST, names: dict[str, None]) -> None:
    kind = node.__class__
    if kind is ast.Name:
        if not isinstance(node.ctx, ast.Load):  # type: ignore[attr-defined]
            names.setdefault(node.id)  # type: ignore[attr-defined]
        return
    if kind not in _SILENT:
        _bound_by(node, names)
        if isinstance(node, COMPREHENSIONS):
            names.update(dict.fromkeys(_walrus(node)))
            _bindings(node.generators[0].iter, names)
            return
        if isinstance(node, ast.ClassDef):
            for outer in (*node.decorator_list, *node.bases, *node.keywords):
                _bindings(outer, names)
            return
    for child in same_scope(node):
        _bindings(child, names)


def _bound_by(node: ast.AST, names: dict[str, None]) -> None:
    """The names that a node other than a name binds by itself."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler):
        if node.name:
            names.setdefault(node.name)
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            names.setdefault(alias.asname or alias.name.partition(".")[0])
    elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
        names.setdefault(node.name)
    elif isinstance(node, ast.MatchMapping) and node.rest:
        names.setdefault(node.rest)


def _walrus(node: ast.AST) -> Iterator[str]:
    """Targets of `:=` inside a comprehension: they belong to the function around it."""
    for child in same_scope(node):
        if isinstance(child, ast.NamedExpr):
            yield child.target.id
        yield from _walrus(child)


def rebinds(nodes: list[ast.expr]) -> set[str]:
    """Names that expressions bind by `:=`."""
    names: set[str] = set()
    for node in nodes:
        for inner in walk(node):
            if isinstance(inner, ast.NamedExpr):
                names.add(inner.target.id)
    return names


def free(node: ast.AST) -> tuple[str, ...]:
    """Names that a lambda or inner function reads from around it, defaults left out, in order of first use."""
    names: dict[str, None] = {}
    if isinstance(node, ast.Lambda):
        own = set(arguments(node.args))
        body: list[ast.AST] = [node.body]
        own.update(_walrus(ast.Expr(node.body)))
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        own = set(arguments(node.args)) | set(bound(node.body))
        for inner in node.body:
            for part in walk(inner):
                if isinstance(part, ast.Nonlocal | ast.Global):
                    own.difference_update(part.names)
                    if isinstance(part, ast.Nonlocal):
                        names.update(dict.fromkeys(part.names))
        body = list(node.body)
    else:
        own, body = set[str](), [node]
    for part in body:
        for name in reads(part):
            if name not in own:
                names.setdefault(name)
    return tuple(names)


def reads(node: ast.AST) -> Iterator[str]:
    """Names that a tree reads from the scope it stands in, inner scopes' free names included."""
    if isinstance(node, ast.Name):
        yield node.id
        return
    if isinstance(node, FUNCTIONS):
        for outer in same_scope(node):
            yield from reads(outer)
        yield from free(node)
        return
    if isinstance(node, COMPREHENSIONS):
        yield from reads(node.generators[0].iter)
        own = comprehension_names(node)
        for inner in _comprehension_parts(node):
            yield from (n for n in reads(inner) if n not in own)
        return
    if isinstance(node, ast.ClassDef):
        for outer in (*node.decorator_list, *node.bases, *node.keywords):
            yield from reads(outer)
        own = set(bound(node.body))
        for stmt in node.body:
            yield from (n for n in reads(stmt))
        return
    for child in trees.children(node):
        yield from reads(child)


def comprehension_names(node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> set[str]:
    """Variables of a comprehension."""
    names: set[str] = set()
    for generator in node.generators:
        for part in trees.walk(generator.target):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                names.add(part.id)
    return names


def _comprehension_parts(node: ast.AST) -> Iterator[ast.AST]:
    assert isinstance(node, COMPREHENSIONS)
    for number, generator in enumerate(node.generators):
        yield generator.target
        if number:
            yield generator.iter
        yield from generator.ifs
    if isinstance(node, ast.DictComp):
        yield node.key
        yield node.value
    else:
        yield node.elt


def arguments(args: ast.arguments) -> tuple[str, ...]:
    """Names of parameters, in order."""
    every = [*args.posonlyargs, *args.args]
    if args.vararg is not None:
        every.append(args.vararg)
    every.extend(args.kwonlyargs)
    if args.kwarg is not None:
        every.append(args.kwarg)
    return tuple(a.arg for a in every)


def inner_functions(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Inner functions, lambdas and classes that stand in statements, at any depth of this scope."""
    for stmt in body:
        for node in walk(stmt):
            if node.__class__ in _INNER:
                yield node


def inner_among(nodes: list[ast.AST]) -> bool:
    """Whether there is an inner function, lambda or class."""
    return any(node.__class__ in _INNER for node in nodes)


def captured(body: list[ast.stmt], own: set[str]) -> frozenset[str]:
    """Locals that inner functions or classes read or rebind."""
    names: set[str] = set()
    for node in inner_functions(body):
        if isinstance(node, ast.ClassDef):
            for stmt in node.body:
                names.update(reads(stmt))
        else:
            names.update(free(node))
    return frozenset(names & own)


def rebound_inside(body: list[ast.stmt]) -> frozenset[str]:
    """Locals that an inner function rebinds by `nonlocal`."""
    names: set[str] = set()
    for node in inner_functions(body):
        for inner in trees.walk(node):
            if isinstance(inner, ast.Nonlocal):
                names.update(inner.names)
    return frozenset(names)


def clone(node: N) -> N:
    """A copy of a tree that shares nothing that could be changed; much faster than `copy.deepcopy`."""
    held = node.__dict__
    if not held:
        return node  # `Load()`, operators
    made = node.__class__.__new__(node.__class__)
    into = made.__dict__
    into.update(held)
    for name in trees.FIELDS[node.__class__]:
        value = held.get(name)
        if value is None:
            continue
        if value.__class__ is list:
            value = [clone(v) if isinstance(v, ast.AST) else v for v in value]
        elif isinstance(value, ast.AST):
            value = clone(value)
        into[name] = value
    return made
