"""`s.map(fn, items)` and `s.child(other, event)` in the source: what they name, and the type of what they give."""

from __future__ import annotations

import ast
import inspect
import types
from typing import TYPE_CHECKING, Any, Union, cast, get_args, get_origin, get_type_hints

from contrapas.author.event import Command, Event
from contrapas.author.many import rate_of
from contrapas.author.saga import SagaDef
from contrapas.author.service import supplied
from contrapas.author.step import StepDef
from contrapas.author.timeout import Failed
from contrapas.errors import DataError

if TYPE_CHECKING:
    from contrapas.compiler.operations import Found, Operations
    from contrapas.machine.ir import Site

_CHILD_FIX = "s.child(other, Event(…)) with a @saga that begins with that event"
_FIX = "s.map(fn, items) with a @step or @saga of one argument"


def map_site(ops: Operations, node: ast.Call, path: str, at: ast.AST) -> Found | None:
    """The operation of an `s.map`; None when it is refused (and said so)."""
    from contrapas.compiler.operations import Found

    if len(node.args) != 2 or any(isinstance(a, ast.Starred) for a in node.args):
        ops.refusals.add(at, "CP101", "s.map takes a step and the items", _FIX)
        return None
    target: Any = ops.resolve(node.args[0])
    if isinstance(target, SagaDef):
        return _each(ops, node, cast("SagaDef[..., Any]", target), path, at)
    if not isinstance(target, StepDef):
        text = f"`{ast.unparse(node.args[0])[:60]}` is no @step or @saga that is known here"
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
    site.arguments = tuple([hint for hint in hints.values() if not supplied(hint)])
    site.observe = step.observe
    site.forever = step.retry is not None and step.retry.attempts is None
    _gives(ops, node, site, result)
    if step.undo is None:
        site.undo = "none"
    elif callable(step.undo):
        site.undo, site.undo_text = "op", f"undo of {step.name}"
    return Found(site)


def takes_back(ops: Operations, value: ast.expr, *, own: bool) -> bool:
    """Is `undo=` of a map one of its items': a lambda of an item's result, said to the map itself? None is always one."""
    if isinstance(value, ast.Constant) and value.value is None:
        return True
    if not own:
        text = "undo= of a whole map: each item is taken back by itself"
        ops.refusals.add(value, "CP118", text, "s.map(fn, items, undo=lambda ok: …), of one item's result")
        return False
    args = value.args if isinstance(value, ast.Lambda) else None
    if isinstance(value, ast.Lambda) and args is not None:
        names = {n.id for n in ast.walk(value.body) if isinstance(n, ast.Name)}
        if any(a.arg in names for a in (*args.posonlyargs, *args.args)):
            return True
    text = "undo= of a map is the same for every item: it takes none of them back"
    ops.refusals.add(value, "CP118", text, "undo=lambda ok: …, which reads the item's result")
    return False


def item_of(site: Site) -> Any:
    """What the undo of an operation reads: its result, of a map that of one item."""
    return site.item if site.kind == "map" else site.result


def _gives(ops: Operations, node: ast.Call, site: Site, result: Any) -> None:
    site.collects = _keywords(ops, node)
    site.item = result
    if result is None:
        result = types.NoneType
    site.result = types.GenericAlias(list, (Union[result, Failed] if site.collects else result,))  # noqa: UP007


def _each(ops: Operations, node: ast.Call, other: SagaDef[..., Any], path: str, at: ast.AST) -> Found | None:
    """A saga for each item, which runs in a record of its own."""
    from contrapas.compiler.operations import Found

    hints = _hints(other.fn)
    result: Any = hints.pop("return", Any)
    if not list(hints.values())[1:]:
        text = f"{other.name} takes no argument after s"
        ops.refusals.add(node.args[0], "CP101", text, _FIX)
        return None
    name = other.name
    site = ops.site(at, path, "map", f"map({name})", f"map saga {name}", target=other)
    site.arguments = (list(hints.values())[1],)
    _gives(ops, node, site, result)
    return Found(site)


def child_site(ops: Operations, node: ast.Call, path: str, at: ast.AST) -> Found | None:
    """The operation of an `s.child`; None when it is refused (and said so)."""
    from contrapas.compiler.operations import UNRESOLVED, Found

    if len(node.args) != 2 or any(isinstance(a, ast.Starred) for a in node.args):
        ops.refusals.add(at, "CP101", "s.child takes a saga and its first event", _CHILD_FIX)
        return None
    target: Any = ops.resolve(node.args[0])
    if not isinstance(target, SagaDef):
        text = f"`{ast.unparse(node.args[0])[:60]}` is no @saga that is known here"
        ops.refusals.add(node.args[0], "CP101", text, _CHILD_FIX)
        return None
    other = cast("SagaDef[..., Any]", target)
    event: Any = ops.class_of(node.args[1], Event)
    if event is UNRESOLVED:
        text = f"the class of the event `{ast.unparse(node.args[1])[:60]}` cannot be told"
        ops.refusals.add(node.args[1], "CP207", text, "construct it in the call, or annotate the variable")
        return None
    if issubclass(event, Command):
        text = f"{event.__name__} is a command: a child begins with an event"
        ops.refusals.add(node.args[1], "CP207", text, f"await s.step({event.__name__}(…)) asks the saga")
        return None
    hints = _hints(other.fn)
    result: Any = hints.pop("return", Any)
    starts = [c for hint in list(hints.values())[1:2] for c in _members(hint)]
    if event not in starts:
        names = " or ".join(getattr(c, "__name__", str(c)) for c in starts) or "no event"
        text = f"{event.__name__} does not start {other.name}, which begins with {names}"
        ops.refusals.add(node.args[1], "CP207", text, f"s.child({other.name}, {names}(…))")
        return None
    name = other.name
    site = ops.site(at, path, "child", f"child({name})", f"child {name}", target=other)
    site.arguments = (event, *[c for c in _members(result) if c not in (None, types.NoneType, Any)])
    site.result = result
    return Found(site)


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


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
