"""How steps are taken back: CP708 an undo that may fail, CP709 one that may lack its reply, CP728 one of another step."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from contrapas.author.event import Command, message_spec
from contrapas.author.step import StepDef
from contrapas.check.finding import Finding
from contrapas.check.loops import loops
from contrapas.check.study import Study, flat
from contrapas.check.tree import every
from contrapas.draw.native import type_name
from contrapas.draw.outcomes import undo_of
from contrapas.machine.ir import Program, Site

SHORT_MS = 60_000
"""A window for late replies below this is none: what expired is not answered within moments."""


def frail(study: Study) -> Iterator[Finding]:
    """CP708: an undo that can fail for good: tried once, or a command with a declared failure, which nobody retries."""
    for machine, one in _undone(study):
        target: Any = one.undo_target
        name = one.label or one.text
        if is_step(target) and target.retry is not None and target.retry.attempts == 1:
            text, fix = (
                f"{target.name}, the undo of {name}, is tried only once",
                "@step(retry=Retry(10)) on it",
            )
        elif _command(target) and len(message_spec(target).replies) > 1:
            bad = ", ".join(type_name(r) for r in message_spec(target).replies[1:])
            text = f"{type_name(target)}, the undo of {name}, can answer {bad}: then {name} stands"
            fix = f"let {type_name(target)} have no failure reply: an undo must always be possible"
        else:
            continue
        yield study.find(
            "CP708",
            "warning",
            text,
            fix,
            one.line,
            column=one.column,
            machine=machine,
            hint="then the instance parks",
        )


def lost(study: Study) -> Iterator[Finding]:
    """CP709: an undo that reads a reply which can never come, once the outcome is unknown."""
    for machine, one in _undone(study):
        default = one.undo == "missing" and callable(getattr(one.target, "undo", None))
        if one.undo != "lambda" and not default:
            continue
        unknown = [o for o in study.explored.model.ends_of(one) if o.unknown]
        local = one.kind == "local"
        if not unknown or not (local or study.machine.late_replies_ms < SHORT_MS):
            continue
        name = one.label or one.text
        if local:
            ends = "runs out of attempts" if unknown[0].cause == "gave up" else "runs out of time"
            text = f"the undo of {name} needs its result, and there is none when {name} {ends}"
            fix = "undo by a key that is known before the step"
        else:
            text = f"the undo of {name} needs its reply, and late replies are waited for hardly a minute"
            fix = 'undo by a key that is known before the step, or @saga(late_replies="24h")'
        yield study.find(
            "CP709", "warning" if local else "error", text, fix, one.line, column=one.column, machine=machine,
            hint="then the instance parks, and nobody knows whether it happened",
        )  # fmt: skip


def strays(study: Study) -> Iterator[Finding]:
    """CP728: an undo that takes back another step, or undos whose order comes from a set."""
    found = list(_undone(study))
    for machine, one in found:
        target = one.undo_target
        if not _command(target) or not _command(one.target):
            continue
        topic = message_spec(target).topic
        others = [
            o
            for _, o in found
            if o.undo_target is target and o.target is not one.target and _command(o.target)
        ]
        owners = [o for o in others if message_spec(o.target).topic == topic]
        good = message_spec(one.target).replies[:1]
        if any(message_spec(o.target).replies[:1] == good for o in owners):
            continue  # the same effect, asked of somebody else
        if owners and message_spec(one.target).topic != topic:
            yield study.find(
                "CP728", "warning",
                f"{type_name(target)} takes back {owners[0].label or owners[0].text}, not {one.label or one.text}",
                f"undo=… with the command that takes back {one.label or one.text}",
                one.line, column=one.column, machine=machine, hint="the effect of this step would stand",
            )  # fmt: skip
    for machine, one in found:
        loop = _set_loop(study.program(machine), one)
        if loop is not None:
            yield study.find(
                "CP728", "warning", f"{one.label or one.text} is registered in the order of a set, which every process chooses anew",
                "for … in sorted(…)", loop.lineno, column=loop.col_offset, machine=machine,
                hint="undos run in reverse of an order that nobody chose",
            )  # fmt: skip


def _undone(study: Study) -> Iterator[tuple[str, Site]]:
    """Every step that registers an undo somewhere before the pivot."""
    for machine, site, configs in study.stood():
        if any(not config.pivoted for config in configs):
            for one in flat(site):
                if undo_of(one) in ("op", "lambda"):
                    yield machine, one


def is_step(target: Any) -> bool:
    """Whether something is a `@step`."""
    return isinstance(target, StepDef)


def _command(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, Command)


def _set_loop(program: Program, site: Site) -> ast.For | None:
    """The innermost `for` over a set around a step."""
    found: ast.For | None = None
    for node in loops(program):
        if not isinstance(node, ast.For) or not node.lineno <= site.line <= (node.end_lineno or 0):
            continue
        if _is_set(program, node.iter):
            found = node
    return found


def _is_set(program: Program, node: ast.expr) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("set", "frozenset")
    ):
        return True
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        fields = getattr(program.hints.get(node.value.id), "model_fields", {})
        return _set_type(getattr(fields.get(node.attr), "annotation", None))
    if isinstance(node, ast.Name):
        if _set_type(program.hints.get(node.id)):
            return True
        values = [
            n.value
            for n in every(program)
            if isinstance(n, ast.Assign | ast.AnnAssign) and n.value is not None
            for t in (n.targets if isinstance(n, ast.Assign) else [n.target])
            if isinstance(t, ast.Name) and t.id == node.id
        ]
        return bool(values) and all(not isinstance(v, ast.Name) and _is_set(program, v) for v in values)
    return False


def _set_type(hint: Any) -> bool:
    return getattr(hint, "__origin__", hint) in (set, frozenset)
