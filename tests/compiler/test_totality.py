"""Any valid Python gives a machine or refusals with a place, never a traceback; at most three blocks for a line (T8)."""

from __future__ import annotations

import ast
import linecache
import random
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contrapas.author.saga import Saga, SagaDef
from contrapas.codec.registry import Registry
from contrapas.compiler import compile_all
from contrapas.testing import differential_prelude
from contrapas.testing.differential_programs import loaded, source_of

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
FILES = 40
FUNCTIONS_MAX = 170
BLOCKS_MAX = 3


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions at module level and methods."""
    for node in tree.body:
        for inner in [node, *(node.body if isinstance(node, ast.ClassDef) else [])]:
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                yield inner


def as_saga(node: ast.FunctionDef | ast.AsyncFunctionDef, chance: random.Random, awaits: bool) -> str:
    """The body of a function as a saga's, with awaits of steps in place of some calls."""

    body: list[ast.stmt] = node.body
    if awaits:
        body = [_awaiting(stmt, chance) for stmt in body]
    args = [ast.arg("s", ast.Name("Saga", ast.Load())), ast.arg("go", ast.Name("Go", ast.Load()))]
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    bound: list[ast.stmt] = [
        ast.Assign([ast.Name(n, ast.Store())], ast.Constant(1)) for n in names if n not in ("s", "go")
    ]
    made = ast.AsyncFunctionDef(
        name="main",
        args=ast.arguments([], args, None, [], [], None, []),
        body=[*bound, *body] or [ast.Pass()],
        decorator_list=[],
        returns=ast.Name("int", ast.Load()),
    )
    if sys.version_info >= (3, 12):
        made.type_params = []
    return ast.unparse(ast.fix_missing_locations(ast.Module([made], [])))


def _awaiting(node: Any, chance: random.Random) -> Any:
    """The tree with some calls of this function replaced by awaits of a step."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
        return node
    for name, value in ast.iter_fields(node):
        several: Any = value
        if several.__class__ is list:
            setattr(node, name, [_awaiting(v, chance) if isinstance(v, ast.AST) else v for v in several])
        elif isinstance(value, ast.AST):
            setattr(node, name, _awaiting(value, chance))
    if isinstance(node, ast.Call) and chance.random() < 0.4:
        return ast.Await(ast.Call(ast.Name("num", ast.Load()), node.args[:1], []))
    return node


def judged(text: str, name: str) -> tuple[int, int]:
    """Compile a text as a saga; (machines, refusals). Fails where the compiler raises or a refusal has no place."""
    namespace: dict[str, Any] = {"Saga": Saga, "Go": differential_prelude.Go, "num": differential_prelude.num}
    linecache.cache[name] = (len(text), None, list[str](text.splitlines(keepends=True)), name)
    exec(compile(text, name, "exec", dont_inherit=True), namespace)  # noqa: S102  a function of the library, never called
    try:
        fn = namespace["main"]
        assert isinstance(fn, types.FunctionType)
        done = compile_all([SagaDef(fn)], registry=Registry())
    finally:
        linecache.cache.pop(name, None)
    lines = text.count("\n") + 1
    for one in done.refusals:
        assert one.code.startswith("CP") and one.text and one.fix, one
        assert 1 <= one.line <= lines and one.column >= 1, one
    for machine in done.machines.values():
        assert len(machine.blocks) <= BLOCKS_MAX * lines, (
            f"{len(machine.blocks)} blocks for {lines} lines\n{text}"
        )
    return len(done.machines), len(done.refusals)


@pytest.mark.parametrize("awaits", [False, True], ids=["as it stands", "with awaits put in"])
def test_functions_of_the_standard_library_give_a_machine_or_refusals(awaits: bool) -> None:
    chance = random.Random(f"totality {awaits}")
    files = sorted(LIBRARY.glob("*.py")) + sorted((LIBRARY / "asyncio").glob("*.py"))
    seen = machines = refusals = 0
    for path in chance.sample(files, FILES):
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        for node in functions(tree):
            if seen >= FUNCTIONS_MAX:
                break
            text = as_saga(node, chance, awaits)
            try:
                compile(text, "<valid>", "exec", dont_inherit=True)
            except (SyntaxError, ValueError):
                continue  # `yield` with a value in an async def, `await` where Python has none
            seen += 1
            made, refused = judged(text, f"<{path.stem}.{node.name} {seen}>")
            machines += made
            refusals += refused
    assert seen >= 150 and machines > 20 and refusals > 10, (seen, machines, refusals)


def test_random_programs_have_at_most_three_blocks_for_a_line() -> None:
    machines = 0
    for seed in range(24):
        text = source_of(800_000 + seed)
        sagas = loaded(text, f"<total {seed}>")
        done = compile_all(sagas.values(), registry=Registry())
        assert all(r.line >= 1 and r.column >= 1 for r in done.refusals)
        for machine in done.machines.values():
            assert machine.program is not None
            node: Any = machine.program.node
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert len(machine.blocks) <= BLOCKS_MAX * lines, text
            machines += 1
    assert machines > 20
