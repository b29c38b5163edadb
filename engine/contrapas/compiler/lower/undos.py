"""`undo=lambda ok: …` becomes a compiled function of its own: at issue only the names it captures are copied."""

from __future__ import annotations

import ast

from contrapas.compiler import scopes, trees
from contrapas.compiler.lower.builder import call, load, place, placeholder
from contrapas.compiler.operations import Found, Undoing
from contrapas.machine.ir import Program, UndoSite

Around = tuple[ast.comprehension, ...]


def replace_undos(program: Program, found: dict[int, Found]) -> None:
    """Before lowering: each `undo=` lambda in the tree gives way to `@UndoRef("@undo0", {"order": order})`.

    A lambda that ignores its parameter is evaluated at issue.
    """
    comprehends = any(isinstance(node, ast.comprehension) for node in program.nodes)
    scoped = _comprehension_scopes(program.node) if comprehends else {}
    for one in found.values():
        for keyword, undoing in one.undos:
            if undoing.body is None or not isinstance(keyword.value, ast.Lambda):
                continue
            if not undoing.needs_reply:
                keyword.value = undoing.body
                continue
            number = len(program.undos)
            one.undo_numbers.append(number)
            around = scoped.get(id(keyword), ())
            site = _undo_site(program, number, undoing, around, keyword.value)
            program.undos.append(site)
            captures = ast.Dict([ast.Constant(n) for n in site.captures], [load(n) for n in site.captures])
            keyword.value = place(call("@UndoRef", placeholder(f"@undo{number}"), captures), keyword.value)


def _undo_site(program: Program, number: int, undoing: Undoing, around: Around, at: ast.expr) -> UndoSite:
    assert undoing.body is not None
    inner = {n.id for c in around for n in trees.walk(c.target) if isinstance(n, ast.Name)}
    known = set(program.locals) | inner
    names = dict.fromkeys(n for n in scopes.reads(undoing.body) if n in known and n != undoing.parameter)
    return UndoSite(
        index=number,
        site=0,
        position=undoing.position,
        parameter=undoing.parameter,
        body=undoing.body,
        captures=tuple(names),
        needs_reply=True,
        line=at.lineno,
        column=at.col_offset,
        reply=undoing.reply,
        around=tuple(scopes.clone(c) for c in around),
        of=undoing.of,
    )


def _comprehension_scopes(node: ast.AST) -> dict[int, Around]:
    """Keyword argument (by id) -> the comprehensions whose variables it sees."""
    found: dict[int, Around] = {}

    def visit(inner: ast.AST, around: Around) -> None:
        if isinstance(inner, ast.keyword) and around:
            found[id(inner)] = around
        if isinstance(inner, scopes.COMPREHENSIONS):
            around = (*around, *inner.generators)
        for child in trees.children(inner):
            visit(child, around)

    visit(node, ())
    return found
