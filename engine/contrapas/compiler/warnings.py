"""What is allowed and probably not meant: two names for one list, an undo's name that changes later, mutable globals (CP210 to CP212)."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from contrapas.compiler import scopes, trees
from contrapas.compiler.refusals import Refusals
from contrapas.compiler.sharing import among
from contrapas.machine import Slot
from contrapas.machine.ir import Await, Facts, Program, Site


def warn(program: Program, refusals: Refusals) -> None:
    """Add the warnings about a lowered program."""
    _changed_captures(program, refusals)
    _globals(program, refusals)
    _never_met(program, refusals)


def _never_met(program: Program, refusals: Refusals) -> None:
    """CP731: begun in a loop, and the handle is dropped there, or nothing in the function awaits, names or cancels one."""
    begun = {(s.line, s.column): s for s in program.sites if s.kind == "begin"}
    if not begun:
        return
    kinds = {site.kind for site in program.sites}
    meets = "result" in kinds or "next" in kinds or _calls_cancel(program.nodes)

    def look(node: ast.AST, *, looped: bool) -> None:
        if isinstance(node, ast.AsyncWith):
            looped = False  # the end of its scope meets it
        elif isinstance(node, ast.For | ast.While | ast.ListComp | ast.SetComp | ast.DictComp):
            looped = True
        dropped = node.value if isinstance(node, ast.Expr) else None
        for child in trees.children(node):
            site = begun.get((getattr(child, "lineno", 0), getattr(child, "col_offset", -1)))
            if (
                isinstance(child, ast.Call)
                and site is not None
                and looped
                and (child is dropped or not meets)
            ):
                refusals.add(
                    child,
                    "CP731",
                    f"{site.text} is begun in a loop, and its handle meets no await, next, cancel or scope end",
                    "await it, cancel it, or begin it in an s.scope() within the loop",
                    warning=True,
                )
            look(child, looped=looped)

    look(program.node, looped=False)


def _calls_cancel(nodes: list[ast.AST]) -> bool:
    return any(
        isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == "cancel"
        for n in nodes
    )


def _changed_captures(program: Program, refusals: Refusals) -> None:
    """CP211. A loop's own variable changes at every turn, and nobody expects otherwise."""
    loops = {
        n.id
        for node in program.nodes
        if isinstance(node, ast.For | ast.comprehension)
        for n in trees.walk(node.target)
        if isinstance(n, ast.Name)
    }
    for undo in program.undos:
        later = _bound_after(program, undo.site)
        for name in undo.captures:
            if name in later and name not in loops and not undo.around:
                at = ast.Pass(lineno=undo.line, col_offset=undo.column)
                refusals.add(
                    at,
                    "CP211",
                    f"`{name}` is changed after the step is issued; its undo sees the value it has now",
                    "use another name for the later value",
                    warning=True,
                )


def _bound_after(program: Program, site: int) -> set[str]:
    """Names that code after an await binds."""
    stack = [
        b.term.resume for b in program.blocks.values() if isinstance(b.term, Await) and b.term.site == site
    ]
    seen: set[int] = set()
    names: set[str] = set()
    while stack:
        number = stack.pop()
        if number in seen:
            continue
        seen.add(number)
        block = program.blocks[number]
        names.update(scopes.bound(block.native))
        stack.extend(block.successors())
        if block.handler is not None:
            stack.append(block.handler)
    return names


def sharing(program: Program, facts: Facts, slots: Mapping[str, Slot], refusals: Refusals) -> None:
    """CP210: `ys = xs` makes two locals of one list, both are alive across an await, and one of them changes it."""
    together = {name: group for group in among(slots.values()) for name in group}
    for node in program.nodes:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)):
            continue
        source = node.value.id
        for target in node.targets:
            if not isinstance(target, ast.Name) or target.id not in together.get(source, ()):
                continue
            site = _both_alive(program, facts, source, target.id)
            if site is not None and {source, target.id} & _changed(program):
                refusals.add(
                    node,
                    "CP210",
                    f"`{target.id}` and `{source}` are one object, and still are after the await of {site.text} in line "
                    f"{site.line}: a change of one shows in the other",
                    f"copy it if that is not meant: {target.id} = {source}.copy(); else keep one of the two names",
                    warning=True,
                )


def _both_alive(program: Program, facts: Facts, one: str, other: str) -> Site | None:
    """The first await that both outlive."""
    for site in program.sites:
        if {one, other} <= facts.live.get(site.index, frozenset()):
            return site
    return None


def _changed(program: Program) -> set[str]:
    """Locals whose value is changed in place."""
    found: set[str] = set()
    for node in program.nodes:
        part: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGES:
            part = node.func.value
        elif isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            part = node.value
        elif isinstance(node, ast.AugAssign):
            part = node.target
        while isinstance(part, ast.Attribute | ast.Subscript):
            part = part.value
        if isinstance(part, ast.Name):
            found.add(part.id)
    return found


_CHANGES: Final = frozenset(
    [
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "clear",
        "sort",
        "reverse",
        "add",
        "discard",
        "update",
        "setdefault",
        "popitem",
        "appendleft",
        "popleft",
        "intersection_update",
        "difference_update",
        "symmetric_difference_update",
    ]
)
"""Methods of the mutable builtin types that change them."""


def _globals(program: Program, refusals: Refusals) -> None:
    """CP212: a mutable module global is read, or a context variable is set; neither is part of the state."""
    own = {*program.locals, program.saga_name, *(n for n, _ in program.ambients)}
    for node in program.nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in own:
            value: Any = program.namespace.get(node.id)
            if value.__class__ in (list, dict, set, bytearray) and not node.id.isupper():
                refusals.add(
                    node,
                    "CP212",
                    f"`{node.id}` is a mutable global: it is not part of the state",
                    "pass it as an argument, keep it in a local, or name it in capitals if it never changes",
                    warning=True,
                )
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "set":
            base = node.func.value
            if isinstance(base, ast.Name) and isinstance(program.namespace.get(base.id), ContextVar):
                refusals.add(
                    node,
                    "CP212",
                    f"`{base.id}` is a context variable: what is set is gone after the next await",
                    "pass the value as an argument",
                    warning=True,
                )
