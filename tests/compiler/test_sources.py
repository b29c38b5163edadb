"""Where a saga's source may come from (G6, G7): files, zip archives, notebook cells, strings at column zero; and where not."""

from __future__ import annotations

import importlib
import linecache
import py_compile
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contrapas.codec.registry import Registry
from contrapas.compiler import compile_saga
from contrapas.machine import Machine, Refusal

TEXT: str = '''from contrapas.author.saga import Saga, saga
from contrapas.author.step import step

@step
def num(x: int) -> int:
    return x

@saga
async def f(s: Saga, n: int) -> str:
    text = """
at column zero
"""
    return text + str(await num(n))

class Other:
    @staticmethod
    async def f(s: Saga, n: int) -> str:
        return "another of this name"
'''


@pytest.fixture(autouse=True)
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("source_"):
            del sys.modules[name]
    importlib.invalidate_caches()


def made(module: Any) -> Machine | list[Refusal]:
    return compile_saga(module.f, registry=Registry())


@pytest.mark.case(
    77, "file edited after import; same names; decorated; zip; `.pyc`; notebook; column-0 string"
)
def test_a_saga_in_a_zip_archive_is_read_through_its_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "shop.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("source_zipped.py", TEXT)
    monkeypatch.setattr(sys, "path", [str(archive), *sys.path])
    machine = made(importlib.import_module("source_zipped"))
    assert isinstance(machine, Machine) and [*machine.states] == ["num"]


@pytest.mark.case(
    77, "file edited after import; same names; decorated; zip; `.pyc`; notebook; column-0 string"
)
def test_a_saga_of_a_notebook_cell_is_found_and_so_is_its_next_version() -> None:
    """A notebook and the prompt of 3.13 put each cell into `linecache` under a name of its own."""
    graphs: list[str] = []
    scope: dict[str, Any] = {"__name__": "__main__"}
    for number, text in enumerate((TEXT, TEXT.replace("num(n)", "num(n + 1)"))):
        name = f"<cell {number}>"
        linecache.cache[name] = (len(text), None, list[str](text.splitlines(keepends=True)), name)
        exec(compile(text, name, "exec"), scope)  # noqa: S102  a cell of our own
        machine = compile_saga(scope["f"], registry=Registry())
        assert isinstance(machine, Machine)
        graphs.append(machine.graph)
    assert graphs[0] != graphs[1]


@pytest.mark.case(
    77, "file edited after import; same names; decorated; zip; `.pyc`; notebook; column-0 string"
)
def test_a_module_without_its_source_is_refused_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "source_compiled.py"
    path.write_text(TEXT)
    py_compile.compile(str(path), cfile=str(tmp_path / "source_compiled.pyc"))
    path.unlink()
    found = made(importlib.import_module("source_compiled"))
    assert isinstance(found, list) and [r.code for r in found] == ["CP140"]


def test_a_file_that_is_gone_or_no_python_any_more_is_refused_and_never_guessed(tmp_path: Path) -> None:
    path = tmp_path / "source_gone.py"
    path.write_text(TEXT)
    module = importlib.import_module("source_gone")
    path.write_text("this is (no Python\n")
    linecache.checkcache()
    found = made(module)
    assert isinstance(found, list) and [r.code for r in found] == ["CP142"]
    path.write_bytes(b"\xff\xfe\x00 not even text")
    linecache.checkcache()
    found = made(module)
    assert isinstance(found, list) and found[0].code in ("CP140", "CP142")
    path.unlink()
    linecache.checkcache()
    found = made(module)
    assert isinstance(found, list) and [r.code for r in found] == ["CP140"]
