"""Every example of `explain` is run, and its code comes out."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contrapas.check.report import check_app
from contrapas.cli.examples import EXAMPLES, PRELUDE
from contrapas.cli.main import main
from contrapas.codec.strict import load_json, load_model
from contrapas.compiler.lock import parse
from contrapas.errors import CompileError, ContrapasError
from contrapas.runtime import find, settings
from contrapas.runtime.build import compiled

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def clean(here: Path) -> Iterator[None]:
    before = set(sys.modules)
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("example_"):
            del sys.modules[name]


def codes_of(here: Path, name: str, body: str) -> set[str]:
    """Codes of refusals, warnings and findings of a program."""
    tail = "" if "app.o" in body else "\napp.orchestrate(demo)\n"
    (here / f"example_{name.lower()}.py").write_text(f"{PRELUDE}\n{body}{tail}")
    try:
        definition = find.app(f"example_{name.lower()}:app").definition()
        built = compiled(definition)
    except CompileError as error:
        return {one.code for one in error.refusals}
    except ContrapasError as error:
        return {error.code}
    found = {one.code for one in built.warnings}
    return found | {one.code for one in check_app(built.world.machines, definition).findings}


def ran(here: Path, text: str) -> dict[str, Any]:
    """A program, run as a file."""
    path = here / "example_run.py"
    path.write_text(text)
    return runpy.run_path(str(path))


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_an_example_gives_its_code(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = EXAMPLES[name]
    match example.kind:
        case "saga":
            assert name in codes_of(here, name, example.shown)
        case "json":
            with pytest.raises(ContrapasError) as caught:
                load_json(example.shown.encode())
            assert caught.value.code == name
        case "start":
            with pytest.raises(ContrapasError) as caught:
                load_model(ran(here, PRELUDE)["Started"], b'{"id": 42}')
            assert caught.value.code == name
        case "lock":
            with pytest.raises(ContrapasError) as caught:
                parse(example.shown)
            assert caught.value.code == name
        case "config":
            (here / "pyproject.toml").write_text(example.shown)
            with pytest.raises(ContrapasError) as caught:
                settings.load({}, {}, here)
            assert caught.value.code == name
        case "command":
            (here / ".contrapas").mkdir()
            main(example.shown.split()[1:] if "'" not in example.shown else ["ls", "--where", "stat=parked"])
            assert f"error {name}" in capsys.readouterr().err
        case _:
            with pytest.raises(ContrapasError) as caught:
                ran(here, f"{PRELUDE}\nfrom contrapas.author.event import message_spec\n{example.shown}")
            assert caught.value.code == name


WITHOUT = {
    "CP323": "needs a lock file of an earlier build",
    "CP324": "needs a lock file of an earlier build",
    "CP790": "needs 200,000 configurations",
    "CP900": "a bug in contrapas itself",
    "CP843": "is the runtime's: the compiler only tells it apart",
}


def test_every_code_of_the_compiler_and_the_checker_has_an_example_or_a_reason() -> None:
    engine = Path(find.__file__).parent.parent
    said: set[str] = set()
    for folder in ("compiler", "check"):
        for path in (engine / folder).rglob("*.py"):
            said |= set(re.findall(r'"(CP\d{3})"', path.read_text(encoding="utf-8")))
    assert sorted(said - EXAMPLES.keys() - WITHOUT.keys()) == []
