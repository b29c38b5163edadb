"""`Chat.at(key).message(…)` in a saga: a call of an entity, sent and answered like a command."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Final

from contrapas.author.entity import Entity, spec_of
from contrapas.errors import DataError

if TYPE_CHECKING:
    from contrapas.compiler.operations import Found, Operations

_MARK: Final = "contrapas_entity"


def is_call(ops: Operations, node: ast.AST) -> bool:
    """Whether an expression calls a handler of an entity."""
    return _entity(ops, node) is not None


def _entity(ops: Operations, node: ast.AST) -> type[Entity] | None:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    at = node.func.value
    if not (isinstance(at, ast.Call) and isinstance(at.func, ast.Attribute) and at.func.attr == "at"):
        return None
    cls = ops.resolve(at.func.value)
    if not (isinstance(cls, type) and issubclass(cls, Entity)):
        return None
    vars(at)[_MARK] = True
    return cls


def is_receiver(node: ast.AST) -> bool:
    """Whether an expression is the `Chat.at(key)` of a call that was met before: it is built where it is used, from the key."""
    return _MARK in vars(node)


def called(ops: Operations, node: ast.Call, path: str, at: ast.AST) -> Found | None:
    """The operation; None when it is refused (and said so)."""
    from contrapas.compiler.operations import Found

    cls = _entity(ops, node)
    assert cls is not None and isinstance(node.func, ast.Attribute)
    try:
        spec = spec_of(cls)
        call = spec.calls.get(node.func.attr)
    except DataError as why:
        ops.refusals.add(at, why.code, why.text, why.fix)
        return None
    if call is None:
        names = ", ".join(spec.calls) or "none"
        text = f"{cls.__name__} has no handler {node.func.attr}: it has {names}"
        ops.refusals.add(node.func, "CP101", text, f"await {cls.__name__}.at(key).handler(…)")
        return None
    name = call.command.__contrapas_name__
    site = ops.site(at, path, "command", name, f"step {name}", target=call.command)
    site.replies = (call.returned, call.failed)
    result: Any = call.hints["return"]
    site.result = result
    site.arguments = (call.command, call.returned, call.failed)
    return Found(site)
