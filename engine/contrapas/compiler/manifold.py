"""`s.map(fn, items)` in the source: the step it names, and the type of what it gives."""

from __future__ import annotations

import ast
import inspect
import types
from typing import TYPE_CHECKING, Any, Union, cast, get_type_hints

from contrapas.author.many import rate_of
from contrapas.author.saga import SagaDef
from contrapas.author.step import StepDef
from contrapas.author.timeout import Failed
from contrapas.errors import DataError

if TYPE_CHECKING:
    from contrapas.compiler.operations import Found, Operations

_FIX = "s.map(fn, items) with a @step of one argument"


def map_site(ops: Operations, node: ast.Call, path: str, at: ast.AST) -> Found | None:
    """The operation of an `s.map`; None when it is refused (and said so)."""
    from contrapas.compiler.operations import Found

    if len(node.args) != 2 or any(isinstance(a, ast.Starred) for a in node.args):
        ops.refusals.add(at, "CP101", "s.map takes a step and the items", _FIX)
        return None
    target: Any = ops.resolve(node.args[0])
    if isinstance(target, SagaDef):
        text = f"s.map over the saga {target.name} is not known to this release"
        ops.refusals.add(node.args[0], "CP100", text, "a @step, or s.all(*[fn(s, x) for x in items])")
        return None
    if not isinstance(target, StepDef):
        text = f"`{ast.unparse(node.args[0])[:60]}` is no @step that is known here"
        ops.refusals.add(node.args[0], "CP101", text, _FIX)
        return None
    step: StepDef[..., Any, Any] = cast("StepDef[..., Any, Any]", target)
    if not _takes_one(step):
        text = f"{step.name} does not take one argument by position"
        ops.refusals.add(node.args[0], "CP101", text, _FIX)
        return None
    hints = _hints(step.fn)
    result: Any = hints.pop("return", Any)
    site = ops.site(at, path, "map", f"map({step.name})", f"map {step.name}", target=step)
    site.arguments = tuple(hints.values())
    site.observe = step.observe
    site.forever = step.retry is not None and step.retry.attempts is None
    site.collects = _keywords(ops, node)
    if result is None:
        result = types.NoneType
    site.result = types.GenericAlias(list, (Union[result, Failed] if site.collects else result,))  # noqa: UP007
    if step.undo is None:
        site.undo = "none"
    elif callable(step.undo):
        site.undo, site.undo_text = "op", f"undo of {step.name}"
    return Found(site)


def _hints(fn: Any) -> dict[str, Any]:
    try:
        return get_type_hints(fn, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return dict(getattr(fn, "__annotations__", {}))


def _takes_one(step: StepDef[..., Any, Any]) -> bool:
    try:
        inspect.signature(step.fn).bind(None)
    except (TypeError, ValueError):
        return False
    return True


def _keywords(ops: Operations, node: ast.Call) -> bool:
    """Check what can be checked here; says whether failures are collected."""
    collects = False
    for keyword in node.keywords:
        value = keyword.value
        constant = value.value if isinstance(value, ast.Constant) else None
        if keyword.arg == "on_error":
            if constant not in ("fail", "collect"):
                ops.refusals.add(value, "CP850", 'on_error= is "fail" or "collect"', 'on_error="collect"')
            collects = constant == "collect"
        elif keyword.arg == "rate" and isinstance(constant, str):
            try:
                rate_of(constant)
            except DataError as why:
                ops.refusals.add(value, why.code, why.text, why.fix)
        elif keyword.arg == "concurrency" and isinstance(constant, int) and constant < 1:
            ops.refusals.add(
                value, "CP850", f"concurrency={constant}: at least 1", "leave it out for all at once"
            )
    return collects
