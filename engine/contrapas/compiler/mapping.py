"""`STEPS[name](…)`: a step chosen by name from a module-level `Final` mapping of steps of one signature."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, Final, cast, get_type_hints

from contrapas.author.step import StepDef
from contrapas.compiler import entity_calls

if TYPE_CHECKING:
    from contrapas.compiler.operations import Found, Operations

_FIX: Final = 'STEPS: Final = {"resize": resize, "crop": crop} at module level, or match'


def is_mapping(ops: Operations, node: ast.AST) -> bool:
    """Whether an expression calls a member of a mapping that the function does not hold itself, or an entity."""
    return entity_calls.is_call(ops, node) or (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Subscript)
        and isinstance(ops.resolve(node.func.value), dict)
    )


def chosen(ops: Operations, node: ast.Call, path: str, at: ast.AST) -> Found | None:
    """The operation that it builds; None when it is refused (and said so)."""
    from contrapas.compiler.operations import Found

    if entity_calls.is_call(ops, node):
        return entity_calls.called(ops, node, path, at)
    assert isinstance(node.func, ast.Subscript)
    mapping: Any = ops.resolve(node.func.value)
    shown = ast.unparse(node.func.value)
    why = _unfit(ops, node.func.value, shown, mapping)
    if why:
        ops.refusals.add(node.func, "CP121", why, _FIX)
        return None
    steps = tuple(dict.fromkeys(cast("dict[str, StepDef[..., Any, Any]]", mapping).values()))
    first = steps[0]
    hints = _hints(first.fn)
    site = ops.site(at, path, "local", f"{shown}[]", f"local {shown}[]", target=first, choices=steps)
    site.result = hints.pop("return", Any)
    site.arguments = tuple(hints.values())
    site.observe = all(s.observe for s in steps)
    site.forever = all(s.retry is not None and s.retry.attempts is None for s in steps)
    if all(s.undo is None for s in steps):
        site.undo = "none"
    elif all(s.undo is None or callable(s.undo) for s in steps):
        site.undo, site.undo_text = "op", f"undo of {shown}[]"
    return Found(site)


def _unfit(ops: Operations, name: ast.expr, shown: str, mapping: dict[Any, Any]) -> str:
    """Why a mapping is none that can be taken from; empty: it is."""
    if not isinstance(name, ast.Name):
        return f"`{shown}` is no mapping of this module"
    literal = _literal(str(ops.namespace.get("__name__", "")), name.id)
    hint = str(dict(ops.namespace.get("__annotations__") or {}).get(name.id, ""))
    if "Final" not in hint or literal is False:
        return f"`{shown}` is no module-level Final literal: what it holds may change"
    if not mapping or not all(isinstance(k, str) and isinstance(v, StepDef) for k, v in mapping.items()):
        return f"`{shown}` holds something else than steps by name"
    forms = {_form(step.fn) for step in mapping.values()}
    return f"the steps of `{shown}` have different signatures" if len(forms) > 1 else ""


@functools.lru_cache(maxsize=64)
def _literal(module: str, name: str) -> bool | None:
    """Whether a module binds a name once, to a display; None where its source cannot be read."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):
        return None
    bound = [
        node
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load))
        or (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id == name
            and not isinstance(node.ctx, ast.Load)
        )
    ]
    made = [n for n in tree.body if isinstance(n, ast.AnnAssign) and n.target in bound]
    return len(bound) == 1 and len(made) == 1 and isinstance(made[0].value, ast.Dict)


def _form(fn: Any) -> str:
    hints = _hints(fn)
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return repr(fn)
    told = [(p.name, str(p.kind), repr(hints.get(p.name)), p.default is p.empty) for p in parameters]
    return repr((told, repr(hints.get("return"))))


def _hints(fn: Any) -> dict[str, Any]:
    try:
        return get_type_hints(fn, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return dict(getattr(fn, "__annotations__", {}))
