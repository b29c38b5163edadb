"""Case 77: code whose source is edited, hidden, archived, or was never a file."""

from __future__ import annotations

import linecache
import py_compile
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from contrapas.author.saga import SagaDef
from contrapas.codec.registry import Registry
from contrapas.compiler import compile_saga
from contrapas.machine import Machine
from tests.cli.test_diff import OLD, write

Cli = Callable[..., tuple[int, str, str]]
ASK = """
import sys
sys.path.insert(0, sys.argv[1])
import sideapp
from contrapas.errors import CompileError
from contrapas.runtime.build import build
try:
    world = build(sideapp.app.definition())
    print(world.machines["main"].graph, sideapp.__file__)
except CompileError as why:
    print(*[r.code for r in why.refusals])
"""


def asked(folder: Path) -> str:
    """What a process says that imports the app from there."""
    ran = subprocess.run(
        [sys.executable, "-c", ASK, str(folder)], capture_output=True, text=True, check=False, cwd="/"
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()[0]


@pytest.fixture(autouse=True)
def clean(here: Path) -> Iterator[None]:
    path = list(sys.path)
    _forget()
    yield
    sys.path[:] = path
    _forget()


def _forget() -> None:
    for name in ("sideapp", "src.sideapp", "src"):
        sys.modules.pop(name, None)


@pytest.fixture
def project(here: Path, cli: Cli) -> Path:
    """A project, built."""
    (here / "src").mkdir()
    write(here / "src", sideapp=OLD)
    code, out, err = cli("build", "src/sideapp.py:app")
    _forget()
    assert (code, err) == (0, ""), err
    assert "1 machine from 1 module" in out
    return here / "src"


def compiled_only(project: Path, here: Path, *, side: bool, text: str = OLD) -> Path:
    """A deployment that holds `.pyc` files and no source."""
    bare = here / "bare"
    bare.mkdir()
    (here / "gone.py").write_text(text)
    py_compile.compile(
        str(here / "gone.py"), cfile=str(bare / "sideapp.pyc"), dfile="/nowhere/sideapp.py", doraise=True
    )
    if side:
        shutil.copy(project / "sagas.build.json", bare)
    return bare


def test_case_77_without_source_the_side_file_is_read(project: Path, here: Path) -> None:
    assert asked(compiled_only(project, here, side=True)) == asked(project)


def test_case_77_without_source_and_side_file_it_is_cp140(project: Path, here: Path) -> None:
    assert asked(compiled_only(project, here, side=False)) == "CP140"


def test_case_77_a_side_file_of_other_code_is_cp142(project: Path, here: Path) -> None:
    assert (
        asked(compiled_only(project, here, side=True, text=OLD.replace("n=cents", "n=cents + 1"))) == "CP142"
    )


@pytest.mark.parametrize("text", ["", "[]", '{"format": 9}', '{"format": 1, "sources": []}', '{"format": 1'])
def test_a_side_file_that_is_none_is_cp140_and_no_traceback(project: Path, here: Path, text: str) -> None:
    bare = compiled_only(project, here, side=True)
    (bare / "sagas.build.json").write_text(text)
    assert asked(bare) == "CP140"


def test_case_77_a_zip_archive_with_and_without_sources(project: Path, here: Path) -> None:
    whole = here / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.write(project / "sideapp.py", "sideapp.py")
    assert asked(whole) == asked(project)
    bare = compiled_only(project, here, side=True)
    packed = here / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(bare / "sideapp.pyc", "sideapp.pyc")
        archive.write(project / "sagas.build.json", "sagas.build.json")
    assert asked(packed) == asked(project)


CELL = """
from contrapas.author.event import Event
from contrapas.author.saga import Saga, saga

class Go(Event, key="k"):
    k: str

@saga
async def cell(s: Saga, go: Go) -> Go:
    await s.sleep("1s")
    return go
"""


@pytest.mark.parametrize(
    "name", ["<ipython-input-3-0123456789ab>", "/tmp/ipykernel_7/1234.py", "<python-input-4>"]
)
def test_case_77_a_notebook_s_cell_and_the_prompt_are_read_from_where_they_keep_their_source(
    name: str,
) -> None:
    kept = cast("dict[str, Any]", linecache.cache)
    kept[name] = (len(CELL), None, CELL.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(CELL, name, "exec", dont_inherit=True), namespace)  # noqa: S102  the test's own text
    made: Any = namespace["cell"]
    assert isinstance(made, SagaDef)
    found = compile_saga(cast("SagaDef[..., Any]", made), registry=Registry())
    del kept[name]
    assert isinstance(found, Machine), found


def test_case_77_an_exec_string_without_source_is_cp140() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(CELL, "<string>", "exec", dont_inherit=True), namespace)  # noqa: S102  the test's own text
    made: Any = namespace["cell"]
    found = compile_saga(made, registry=Registry())
    assert isinstance(found, list)
    assert [r.code for r in found] == ["CP140"]


def test_case_77_a_file_edited_after_its_import_is_cp142(here: Path) -> None:
    write(here, editedapp=CELL)
    sys.path.insert(0, str(here))
    try:
        import importlib

        module: Any = importlib.import_module("editedapp")
        write(here, editedapp=CELL.replace('"1s"', '"2s"'))
        linecache.checkcache()
        found = compile_saga(module.cell, registry=Registry())
    finally:
        sys.path.remove(str(here))
        sys.modules.pop("editedapp", None)
    assert isinstance(found, list)
    assert [r.code for r in found] == ["CP142"]


def test_a_build_under_a_stale_lock_file_is_refused(project: Path, here: Path, cli: Cli) -> None:
    assert cli("check", "src/sideapp.py", "--update")[0] == 0
    _forget()
    write(project, sideapp=OLD.replace("n=cents", "n=cents + 1"))
    code, _, err = cli("build", "src/sideapp.py")
    _forget()
    assert code != 0
    assert "CP321" in err
