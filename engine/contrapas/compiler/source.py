"""From a loaded function to its syntax tree, sure that the text is the code that runs (G6).

The whole module is read through its loader, parsed once, compiled natively and compared with the loaded function: a file
edited after its import is refused (CP142), never compiled into a machine that is not the one being run.
"""

from __future__ import annotations
import __future__

import ast
import functools
import linecache
import types
from dataclasses import dataclass
from typing import Any

from contrapas.compiler import scopes, sidefile, trees
from contrapas.errors import DataError
from contrapas.machine import Refusal

_FUTURES: int = sum({getattr(__future__, name).compiler_flag for name in __future__.all_feature_names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One function, found in its module."""

    node: ast.AsyncFunctionDef
    """A copy of its own, free to be changed."""
    file: str
    lines: tuple[str, ...]
    flags: int
    """`from __future__` flags of the module, for compiling what is generated."""


def read(fn: Any, name: str) -> Source | Refusal:
    """The source of a coroutine function, or CP140, CP141, CP142, CP124."""
    if not isinstance(fn, types.FunctionType):
        return _refusal(
            "CP141",
            f"{name}: what @saga was given is no plain function but {type(fn).__name__}",
            "write @saga innermost, directly above the function",
            getattr(fn, "__code__", None),
        )
    code = fn.__code__
    if getattr(fn, "__wrapped__", None) is not None:
        return _refusal(
            "CP141",
            f"{name}: a decorator stands between @saga and the function",
            "write @saga innermost, directly above the function",
            code,
        )
    linecache.checkcache(code.co_filename)
    lines = tuple(linecache.getlines(code.co_filename, fn.__globals__))
    if not lines:
        try:
            lines = sidefile.lines_of(fn)
        except DataError as why:
            return _refusal("CP140", f"{name}: {why.text}", why.fix, code)
    if not lines:
        return _refusal(
            "CP140",
            f"{name}: the source of {code.co_filename} cannot be read",
            "ship the sources with the application, or run contrapas build where they are",
            code,
        )
    text = "".join(lines)
    try:
        functions = _functions(text, code.co_filename)
    except SyntaxError:
        return _stale(name, code)
    found = functions.get((fn.__name__, code.co_firstlineno))
    if found is None:
        return _stale(name, code)
    if isinstance(found, ast.FunctionDef):
        return _refusal("CP124", f"{name} is no `async def`", "write `async def`", code, line=found.lineno)
    flags = code.co_flags & _FUTURES
    if not _same(text, code, flags):
        return _stale(name, code)
    plain = tuple(line.rstrip("\r\n") for line in lines)
    node = scopes.clone(found)
    for inner in trees.walk(node):
        if isinstance(inner, ast.JoinedStr):  # 3.12 puts empty texts into some of them
            inner.values = [v for v in inner.values if not (isinstance(v, ast.Constant) and v.value == "")]
    return Source(node=node, file=code.co_filename, lines=plain, flags=flags)


@functools.lru_cache(maxsize=64)
def _parse(text: str, file: str) -> ast.Module:
    try:
        return ast.parse(text, file)
    except SystemError:
        # CPython 3.11 counts the depth of all parses of an interpreter in one place. One that runs inside of another (a
        # finaliser that logs a traceback reads source for its carets) or beside it in a thread makes the count wrong.
        return ast.parse(text, file)


@functools.lru_cache(maxsize=64)
def _compiled(text: str, file: str, flags: int) -> types.CodeType:
    code: types.CodeType = compile(text, file, "exec", flags=flags, dont_inherit=True)
    return code


_Functions = dict[tuple[str, int], ast.AsyncFunctionDef | ast.FunctionDef]


@functools.lru_cache(maxsize=64)
def _functions(text: str, file: str) -> _Functions:
    """Every function of a module by name and first line, decorators included."""
    found: _Functions = {}
    for node in trees.statements(_parse(text, file)):
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
            start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found.setdefault((node.name, start), node)
    return found


@functools.lru_cache(maxsize=64)
def _places(text: str, file: str, flags: int) -> dict[tuple[str, int], types.CodeType]:
    """Every code object of a module, compiled natively, by name and first line."""
    found: dict[tuple[str, int], types.CodeType] = {}
    for code in _codes(_compiled(text, file, flags)):
        found.setdefault((code.co_name, code.co_firstlineno), code)
    return found


def tree_of(fn: types.FunctionType, text: str) -> ast.AST | None:
    """The tree of a function as the module's text has it, not to be changed; None where it is not there."""
    code = fn.__code__
    try:
        return _functions(text, code.co_filename).get((fn.__name__, code.co_firstlineno))
    except SyntaxError:
        return None


def _same(text: str, code: types.CodeType, flags: int) -> bool:
    try:
        other = _places(text, code.co_filename, flags).get((code.co_name, code.co_firstlineno))
    except (SyntaxError, ValueError):
        return False
    return other is not None and (_equal(code, other) or _equal_but_asserts(code, other))


def _codes(code: types.CodeType) -> list[types.CodeType]:
    found: list[types.CodeType] = []
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found.append(const)
            found.extend(_codes(const))
    return found


def _equal(a: types.CodeType, b: types.CodeType) -> bool:
    if a.co_code != b.co_code or a.co_names != b.co_names or a.co_varnames != b.co_varnames:
        return False
    if a.co_freevars != b.co_freevars or a.co_cellvars != b.co_cellvars:
        return False
    if len(a.co_consts) != len(b.co_consts):
        return False
    return all(_equal_consts(x, y) for x, y in zip(a.co_consts, b.co_consts, strict=True))


def _equal_consts(x: object, y: object) -> bool:
    if isinstance(x, types.CodeType) and isinstance(y, types.CodeType):
        return _equal(x, y)
    if type(x) is not type(y):
        return False
    if isinstance(x, frozenset):  # its order is chosen anew by whoever loads it
        return sorted(map(repr, _parts(x))) == sorted(map(repr, _parts(y)))
    if isinstance(x, tuple):
        return len(_parts(x)) == len(_parts(y)) and all(map(_equal_consts, _parts(x), _parts(y)))
    return repr(x) == repr(y)


def _parts(value: Any) -> tuple[Any, ...]:
    return tuple(value)


def _equal_but_asserts(loaded: types.CodeType, fresh: types.CodeType) -> bool:
    """pytest rewrites `assert` when it imports a test module: then names must agree, and nothing else can be asked."""
    if not any(n.startswith("@py") for n in (*loaded.co_names, *loaded.co_varnames)):
        return False
    ours = {n for n in loaded.co_varnames if not n.startswith("@py")}
    return (
        ours == set(fresh.co_varnames)
        and set(fresh.co_names) - {"AssertionError"} <= set(loaded.co_names)
        and loaded.co_freevars == fresh.co_freevars
    )


def _stale(name: str, code: types.CodeType) -> Refusal:
    return _refusal(
        "CP142",
        f"{name}: the source on disk is not the code that was loaded",
        "restart the process; rebuild what was built from an older source",
        code,
    )


def _refusal(code: str, text: str, fix: str, where: types.CodeType | None, *, line: int = 0) -> Refusal:
    file = where.co_filename if where is not None else "?"
    first = line or (where.co_firstlineno if where is not None else 1)
    return Refusal(
        code=code,
        text=text,
        fix=fix,
        file=file,
        line=first,
        column=1,
        source=linecache.getline(file, first).rstrip(),
    )
