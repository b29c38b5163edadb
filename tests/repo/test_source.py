"""Style as a test: what a reviewer should not have to look for."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import contrapas
import contrapas_kafka
import contrapas_postgres
from contrapas import failpoints
from contrapas.codes import table

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(
    path
    for folder in ("engine", "schemas", "connectors")
    for path in (ROOT / folder).rglob("*.py")
    if "templates" not in path.parts
)
CODE = SHIPPED + sorted(
    path for folder in ("tests", "sagas", "deploy", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle", "yaml"}
COMPILES = {
    "engine/contrapas/compiler/emit.py",
    "engine/contrapas/compiler/types.py",
    "engine/contrapas/core/copies.py",
    "engine/contrapas/author/annotations.py",
    "engine/contrapas/testing/differential_load.py",
}
"""The only places that may run text as code: the author's own source, lowered, and annotations in it; copiers made from
our own classes; random programs under test. Never anything stored or received."""


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=called) | ast.Attribute(attr=called):
                    yield called, node
                case _:
                    pass


def test_no_file_is_longer_than_six_hundred_lines() -> None:
    long = {name(p): n for p in CODE if (n := len(p.read_text().splitlines())) > 600}
    assert long == {}


def test_every_module_says_in_its_first_line_what_it_is() -> None:
    silent = [
        name(p)
        for p in SHIPPED
        if len((ast.get_docstring(ast.parse(p.read_text())) or "").split("\n")[0]) < 8
    ]
    assert silent == []


def test_nothing_is_unpickled_anywhere() -> None:
    found: list[str] = []
    for path in SHIPPED:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            found += [f"{name(path)}:{n}" for n in names if n.split(".")[0] in UNSAFE]
    assert found == []


def test_text_becomes_code_in_few_places_only() -> None:
    found: set[str] = set()
    for path in SHIPPED:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="eval" | "exec")):
                    found.add(name(path))
                case _:
                    pass
    assert found <= COMPILES


def every_module() -> Iterator[str]:
    for package in (contrapas, contrapas_kafka, contrapas_postgres):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "templates" not in found.name and not found.name.endswith("__main__"):
                yield found.name


def test_every_module_can_be_imported_by_itself() -> None:
    for module in every_module():
        importlib.import_module(module)


def test_the_failpoints_that_are_called_are_those_that_are_listed() -> None:
    for module in every_module():  # each module lists its own
        importlib.import_module(module)
    called: dict[str, str] = {}
    for path in SHIPPED:
        for verb, call in calls(ast.parse(path.read_text())):
            if verb == "failpoint" and call.args and path.name != "failpoints.py":
                argument = call.args[0]
                assert isinstance(argument, ast.Constant), (
                    f"{name(path)}:{call.lineno}: a failpoint's name is a literal"
                )
                called[str(argument.value)] = name(path)
    assert sorted(called) == sorted(failpoints.NAMES)


def test_every_code_that_is_raised_is_in_the_table() -> None:
    used = {code for path in SHIPPED for code in re.findall(r'"(CP\d{3})"', path.read_text())}
    assert sorted(used - set(table())) == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_nothing_is_left_to_be_done_in_shipped_code(word: str) -> None:
    assert [name(p) for p in SHIPPED if word in p.read_text()] == []


def test_sagas_use_public_names_only() -> None:
    promised = {
        "contrapas",
        "contrapas.errors",
        "contrapas.log",
        "contrapas.participant",
        "contrapas.testing",
        "contrapas_postgres",
        "contrapas_postgres.sqlalchemy",
    }
    for path in sorted((ROOT / "sagas").rglob("*.py")):
        if path.name in ("run.py", "census.py"):  # programs that run and judge a saga, no sagas
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("contrapas"):
                assert node.module in promised, f"{name(path)}:{node.lineno}"
