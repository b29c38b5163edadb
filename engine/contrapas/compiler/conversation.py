"""`s.cancel`, `fresh=` and `undo_failed=` in the source, and waits for commands: what may be said there."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, cast

from contrapas.author.event import Command
from contrapas.author.saga import SagaDef
from contrapas.compiler import entity_calls
from contrapas.compiler.refusals import Refusals
from contrapas.machine.ir import Site

if TYPE_CHECKING:
    from contrapas.compiler.operations import Found, Operations


def switch(refusals: Refusals, site: Site, name: str, value: ast.expr) -> None:
    """`fresh=` and `undo_failed=` are decided when the machine is drawn, not while it runs."""
    if not (isinstance(value, ast.Constant) and isinstance(value.value, bool)):
        refusals.add(value, "CP100", f"{name}= is neither True nor False", f"{name}=True, or two calls")
    elif name == "fresh":
        site.fresh = value.value
    else:
        site.undo_failed = value.value


def undoes_failures(refusals: Refusals, node: ast.Call, found: Found) -> None:
    """A definite failure has no success reply for an undo to read."""
    if found.site.undo_failed and any(undoing.needs_reply for _, undoing in found.undos):
        refusals.add(
            node,
            "CP209",
            "undo_failed=True, and the undo reads the reply that a failure does not have",
            "an undo by business key: a command instance instead of a lambda over the reply",
        )


def foreign_command(refusals: Refusals, at: ast.AST, site: Site) -> bool:
    """Whether a wait asks for a command under another key, which is refused."""
    asked: list[type[Any]] = [c for c in site.replies if issubclass(c, Command)]
    if not (site.correlate and asked):
        return False
    refusals.add(
        at,
        "CP719",
        f"{asked[0].__name__} is a command: it comes under this saga's own key, not under correlate=",
        "two waits, or an event for the other key",
    )
    return True


def cancel_site(ops: Operations, node: ast.Call, path: str, at: ast.AST) -> Found | None:
    """The operation of an `s.cancel`; None when it is refused (and said so)."""
    from contrapas.compiler.operations import Found

    other: Any = ops.resolve(node.args[0]) if node.args else None
    if not isinstance(other, SagaDef) or len(node.args) != 2:
        ops.refusals.add(
            at,
            "CP101",
            f"{ops.saga}.cancel takes a saga that is known here and a key",
            f"await {ops.saga}.cancel(other_saga, key)",
        )
        return None
    found = cast("SagaDef[..., Any]", other)
    site = ops.site(at, path, "cancel", f"cancel({found.name})", f"cancel {found.name}", target=found)
    site.result = str | None
    return Found(site)


def one_way(ops: Operations, node: ast.Call) -> None:
    """`s.tell` sends a command, or calls an entity; what else could travel one way is not known to this release."""
    first = node.args[0] if node.args else None
    if first is not None and entity_calls.is_call(ops, first):
        return
    if first is None or not isinstance(ops.class_of(first, Command), type):
        shown = ast.unparse(first)[:60] if first is not None else ""
        ops.refusals.add(
            node,
            "CP207",
            f"`{shown}` is no command whose class can be told",
            f"{ops.saga}.tell(Command(…)): construct it in the call, or annotate the variable that holds it",
        )
