"""What to write instead of a name or an option that is not there: the nearest one, or what makes it what was meant."""

from __future__ import annotations

import ast
import difflib
import inspect
from typing import TYPE_CHECKING, Any

from contrapas.author.event import Event
from contrapas.author.saga import Saga

if TYPE_CHECKING:
    from contrapas.compiler.operations import Operations


def unknown_event(ops: Operations, node: ast.expr) -> tuple[str, str]:
    """(text, fix) for what is no event class."""
    shown = ast.unparse(node)
    text = f"`{shown[:60]}` is no event class that is known here"
    known = {n: v for n, v in dict(ops.namespace).items() if isinstance(v, type) and issubclass(v, Event)}
    near = difflib.get_close_matches(shown, [n for n in known if n != "Event"], 1, 0.5)
    if ops.resolve(node) is None or isinstance(node, ast.Call):
        return text, "name the class itself"
    return text, f"did you mean {near[0]}?" if near else "name an Event class: define or import it above"


def no_command(ops: Operations, node: ast.expr) -> None:
    """What is given as a command is none: CP102 for a plain async function, else CP207."""
    target: Any = ops.resolve(node.func) if isinstance(node, ast.Call) else None
    shown = ast.unparse(node)
    if inspect.iscoroutinefunction(target):
        name = target.__name__
        text = f"`{shown[:60]}` calls a plain async function"
        ops.refusals.add(
            node, "CP102", text, f"write @step above async def {name}(…), or @saga if it awaits steps"
        )
        return
    ops.refusals.add(
        node,
        "CP207",
        f"the class of the command `{shown[:60]}` cannot be told",
        "construct it in the call, or annotate the variable that holds it",
    )


def option(ops: Operations, node: ast.Call, keyword: ast.keyword) -> None:
    """CP850 for an option that the call does not have."""
    method = ops.method(node)
    name = keyword.arg or ""
    known = _options(method)
    if not known or name in known:
        return
    near = {"timeout": "within", "deadline": "within", "retries": "retry", "compensate": "undo"}.get(name, "")
    if near not in known:
        near = (difflib.get_close_matches(name, known, 1, 0.5) or [""])[0]
    fix = f"{near}=…" if near else f"one of {', '.join(f'{k}=' for k in known)}"
    ops.refusals.add(keyword.value, "CP850", f"{ops.saga}.{method} has no {name}=", fix)


def policy(ops: Operations, node: ast.expr) -> None:
    """CP850 for a `retry=` that is a number or a text."""
    if isinstance(node, ast.Constant) and node.value is not None:
        shown = ast.unparse(node)
        fix = f"retry=Retry({shown})" if type(node.value) is int else "retry=Retry(3), or retry=FOREVER"
        ops.refusals.add(node, "CP850", f"retry={shown} is no policy", fix)


def _options(method: str) -> list[str]:
    """Options of a method of `Saga`."""
    found = getattr(Saga, method, None) if method else None
    if found is None:
        return []
    parameters = inspect.signature(found).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
