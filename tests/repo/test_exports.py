"""The front door is a promise: `exports.txt` is its list, and changing the list is a decision, not an accident."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import contrapas

HERE = Path(__file__).parent
DOOR = HERE.parents[1] / "engine" / "contrapas" / "__init__.py"


def promised() -> dict[str, list[str]]:
    lines = (line.split(": ") for line in (HERE / "exports.txt").read_text().splitlines() if line)
    return {module: names.split() for module, names in lines}


def imported_for_checkers() -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.parse(DOOR.read_text()).body:
        if isinstance(node, ast.If):
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                assert line.module is not None
                found |= {alias.name: line.module for alias in line.names}
    return found


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_promised_names_are_exactly_those_of_the_list() -> None:
    for module, names in promised().items():
        assert sorted(importlib.import_module(module).__all__) == sorted(names), module


def test_lazy_table_checkers_imports_and_all_agree() -> None:
    assert imported_for_checkers() == contrapas._HOME  # pyright: ignore[reportPrivateUsage]
    assert sorted(contrapas.__all__) == sorted(imported_for_checkers())
    assert contrapas.__all__ == sorted(
        contrapas.__all__, key=lambda name: (not name.isupper(), name.islower(), name)
    )


def test_every_promised_name_can_be_imported_and_listed() -> None:
    for name in contrapas.__all__:
        assert getattr(contrapas, name) is not None
        assert name in dir(contrapas)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert getattr(contrapas, "Nonsense", None) is None


def test_importing_contrapas_loads_nothing_but_its_door() -> None:
    ours = {name for name in loaded_by("import contrapas") if name.startswith("contrapas")}
    assert ours == {"contrapas"}


def test_importing_contrapas_loads_no_library_and_no_event_loop() -> None:
    heavy = {"pydantic", "fastavro", "avro", "click", "asyncio", "logging", "sqlite3", "starlette", "jinja2"}
    assert not heavy & loaded_by("import contrapas, contrapas.errors, contrapas.codes, contrapas.log")


def test_a_saga_file_loads_neither_the_runtime_nor_the_codec() -> None:
    loaded = loaded_by("from contrapas import App, Command, Event, Saga, Service, saga, step; App('shop')")
    assert not {
        name for name in loaded if name.startswith(("contrapas.runtime", "contrapas.codec", "contrapas.web"))
    }
    assert not {"fastavro", "click", "sqlite3", "starlette"} & loaded
