"""Where values go: CP719 keys that cannot meet, CP722 sensitive values in the open, CP726 an outcome published twice."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any

from contrapas.author.event import Event, message_spec
from contrapas.author.sensitive import sensitive_paths
from contrapas.check.finding import Finding
from contrapas.check.reach import starts_of
from contrapas.check.study import Study, flat, members
from contrapas.check.tree import every
from contrapas.compiler import assigned
from contrapas.compiler.summaries import summarise
from contrapas.draw.native import type_name
from contrapas.machine import trees
from contrapas.machine.ir import Await, Program


def uncorrelated(study: Study) -> Iterator[Finding]:
    """CP719: `correlate=` reads what may be unbound, or an awaited event carries the saga's key but travels under another."""
    own = {message_spec(cls).key for cls in starts_of(study) if issubclass(cls, Event)}
    for machine in study.machines():
        program = study.program(machine)
        sure: dict[int, frozenset[str]] | None = None
        for top in program.sites:
            for site in flat(top):
                if site.kind != "wait":
                    continue
                if isinstance(site.correlated, ast.AST):
                    if sure is None:
                        sure = {
                            n: found[0] for n, found in assigned.whole(program, summarise(program)).items()
                        }
                    reads = [n.id for n in trees.walk(site.correlated) if isinstance(n, ast.Name)]
                    bound = sure.get(top.index, frozenset(program.locals))
                    missing = [n for n in reads if n in program.locals and n not in bound]
                    if missing:
                        yield study.find(
                            "CP719", "error", f"correlate= reads {missing[0]}, which may not be bound here",
                            "bind it on every way to this wait", site.line, column=site.column, machine=machine,
                            hint="the saga would park here",
                        )  # fmt: skip
                    continue
                for cls in site.replies:
                    spec = message_spec(cls)
                    if len(own) == 1 and spec.key not in own and own <= set(cls.model_fields):
                        (key,) = own
                        yield study.find(
                            "CP719", "error",
                            f"{spec.name} travels under its {spec.key}, and the saga's key is {key}: it never arrives here",
                            f"correlate=… with the {spec.key} that is meant, or key='{key}' on {spec.name}",
                            site.line, column=site.column, machine=machine,
                            hint=f"without correlate= an event must carry {key} as its key",
                        )  # fmt: skip


def exposed(study: Study) -> Iterator[Finding]:
    """CP722: a sensitive value becomes a key, or text that people and logs see."""
    for cls in dict.fromkeys(_messages(study)):
        spec = message_spec(cls)
        if spec.sensitive and any(path == f"/{spec.key}" for path in sensitive_paths(cls)):
            file, line = _declared(cls, study)
            yield Finding(
                code="CP722", severity="error", saga=study.name,
                text=f"{spec.name} travels under {spec.key}, which is sensitive: keys are never masked",
                fix="key= with an id that says nothing", file=file, line=line, column=1,
                hint="keys stand in headers, on screens and in file names",
            )  # fmt: skip
    for machine in study.machines():
        program = study.program(machine)
        known = _known(program)
        if not any(
            sensitive_paths(cls) for cls in {c for found in known.values() for c in found} if _model(cls)
        ):
            continue
        for node in every(program):
            if isinstance(node, ast.Call):
                for leak, where in _leaks(program, known, node):
                    yield study.find(
                        "CP722", "error", f"{ast.unparse(leak)} is sensitive, and becomes {where}", "use an id instead",
                        leak.lineno, column=leak.col_offset, machine=machine, hint="it is masked everywhere but here",
                    )  # fmt: skip


def _messages(study: Study) -> Iterator[Any]:
    yield from (cls for cls in starts_of(study) if issubclass(cls, Event))
    for machine in study.machines():
        for top in study.program(machine).sites:
            for site in flat(top):
                found = [*site.replies, site.target, site.undo_target]
                yield from (c for c in found if isinstance(c, type) and issubclass(c, Event))
    yield from (c for c in members(study.program().hints.get("return")) if issubclass(c, Event))


def _declared(cls: Any, study: Study) -> tuple[str, int]:
    """Where a class stands; the saga's own line if nobody knows."""
    try:
        lines, first = inspect.getsourcelines(cls)
        return inspect.getsourcefile(cls) or "", first + (
            1 if lines and lines[0].lstrip().startswith("@") else 0
        )
    except (OSError, TypeError):
        program = study.program()
        return program.file, program.node.lineno


def _known(program: Program) -> dict[str, tuple[Any, ...]]:
    """Classes of the parameters and of what awaits gave."""
    known = {name: members(hint) for name, hint in program.hints.items() if name != "return"}
    results = {site.index: site.result for site in program.sites}
    for block in program.blocks.values():
        term = block.term
        if isinstance(term, Await) and term.into and not term.into.startswith("@"):
            known[term.into] = (*known.get(term.into, ()), *members(results.get(term.site)))
    return known


def _leaks(
    program: Program, known: dict[str, tuple[Any, ...]], call: ast.Call
) -> Iterator[tuple[ast.expr, str]]:
    func = call.func
    where = ""
    parts: list[ast.expr] = []
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Attribute):
        base = func.value
        if base.attr == "log" and isinstance(base.value, ast.Name) and base.value.id == program.saga_name:
            where, parts = "log text", [*call.args, *(k.value for k in call.keywords)]
    elif isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
        if func.value.id == program.saga_name:
            if func.attr in ("note", "show") and func.attr == "note":
                where, parts = "a note for people", list(call.args)
            elif func.attr == "wait":
                where, parts = "a key", [k.value for k in call.keywords if k.arg == "correlate"]
        elif func.value.id in program.aliases:
            where, parts = "log text", list(call.args)
    elif isinstance(func, ast.Name):
        made = program.namespace.get(func.id)
        if func.id == "print":
            where, parts = "log text", list(call.args)
        elif isinstance(made, type) and issubclass(made, Event) and made.__contrapas_key__:
            where = f"the key of {type_name(made)}"
            parts = [k.value for k in call.keywords if k.arg == message_spec(made).key]
    for part in parts:
        for node in trees.walk(part):
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                continue
            if any(_sensitive(cls, node.attr) for cls in known.get(node.value.id, ())):
                yield node, where


def _model(cls: Any) -> bool:
    return hasattr(cls, "model_fields")


def _sensitive(cls: Any, attribute: str) -> bool:
    field = getattr(cls, "model_fields", {}).get(attribute)
    if field is None:
        return False
    alias = field.serialization_alias or field.alias or attribute
    return any(path == f"/{alias}" or path.startswith(f"/{alias}/") for path in sensitive_paths(cls))


def published_twice(study: Study) -> Iterator[Finding]:
    """CP726: an event is emitted, and the same one returned, which publishes it once more."""
    seen: set[int] = set()
    for source, move in study.explored.usual():
        verb, _, name = move.config.end.partition(" ")
        if verb == "return" and name in move.config.emitted and move.end_line not in seen:
            seen.add(move.end_line)
            path = [*study.explored.path(source), move]
            yield study.find(
                "CP726", "warning", f"{name} is emitted, and returned: it is published twice",
                "only return it: the outcome is published by itself", move.end_line, machine=move.machine,
                story=study.told(path, stands="published a second time"), path=path,
            )  # fmt: skip
