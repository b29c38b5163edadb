"""From generated trees to functions: compiled under the author's file name, constants through closure cells (G3)."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

from contrapas.compiler import trees
from contrapas.compiler.emit import Emitter, function
from contrapas.compiler.support import CONSTANTS
from contrapas.machine.ir import Program


class Built:
    """The functions of one machine."""

    def __init__(self, program: Program, emitter: Emitter, flags: int) -> None:
        main = emitter.main()
        undos = [emitter.undo(site) for site in program.undos]
        binder = emitter.binder()
        constants = {**CONSTANTS, **emitter.constants}
        fn = program.fn
        cells: dict[str, types.CellType] = dict(
            zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
        )
        outer = function("@factory", [*constants, *cells], [main, *undos, binder], program.node)
        tree = ast.Module([outer], [])
        set_lines(tree, program.node.lineno)
        compiled = compile(tree, program.file, "exec", flags=flags, dont_inherit=True)
        factory = next(c for c in compiled.co_consts if isinstance(c, types.CodeType))
        codes = {c.co_name: c for c in factory.co_consts if isinstance(c, types.CodeType)}
        cells.update({name: types.CellType(value) for name, value in constants.items()})
        self.main: Callable[..., Any] = _function(codes["@main"], fn, cells)
        self.undos: list[Callable[..., Any]] = [_function(codes[u.name], fn, cells) for u in undos]
        bind = _function(codes["@bind"], fn, cells)
        bind.__defaults__, bind.__kwdefaults__ = _defaults(program)
        self.bind: Callable[..., dict[str, Any]] = bind
        self.text: Callable[[], str] = lambda: ast.unparse(main)


def _function(code: types.CodeType, fn: Any, cells: Mapping[str, Any]) -> types.FunctionType:
    code = code.replace(co_name=fn.__name__, co_qualname=fn.__qualname__)
    closure = tuple(cells[name] for name in code.co_freevars)
    made = types.FunctionType(code, fn.__globals__, fn.__name__, None, closure)
    made.__qualname__ = fn.__qualname__
    made.__module__ = fn.__module__
    return made


def _defaults(program: Program) -> tuple[tuple[Any, ...] | None, dict[str, Any] | None]:
    """The very default objects of the author's function, for the parameters that are left."""
    if program.fn.__defaults__ is None and program.fn.__kwdefaults__ is None:
        return None, None
    parameters = inspect.signature(program.fn).parameters
    positional: list[Any] = []
    keyword: dict[str, Any] = {}
    for name in program.params:
        parameter = parameters[name]
        if parameter.default is inspect.Parameter.empty:
            continue
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            keyword[name] = parameter.default
        else:
            positional.append(parameter.default)
    return tuple(positional) or None, keyword or None


def set_lines(node: ast.AST, line: int) -> None:
    """Give everything without a place the line of the `def` (G4)."""
    place = {"lineno": line, "end_lineno": line, "col_offset": 0, "end_col_offset": 0}
    for inner in trees.walk(node):
        held = inner.__dict__
        if "lineno" not in held and inner._attributes:
            held.update(place)
