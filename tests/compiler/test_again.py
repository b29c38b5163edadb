"""Compiling once more in one process: at once when nothing has changed, anew when anything has."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from contrapas.codec.registry import Registry
from contrapas.compiler import cache, compile_all
from contrapas.compiler.lock import LockFile
from contrapas.machine import Machine

TEXT = """
from __future__ import annotations
from dataclasses import dataclass
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.testing.differential_prelude import Go


@step
async def num(n: int) -> int:
    return n


@dataclass
class Line:
    n: int


@dataclass
class Cart:
    lines: list[Line]
    n: int


def made(n: int) -> Cart:
    return Cart([], n)


LIMIT = "30s"


@saga
async def shop(s: Saga, go: Go) -> int:
    cart = made(go.n)
    got = await s.step(num(go.n), within=LIMIT)
    return got + cart.n
"""
NUMBERS = itertools.count()


@pytest.fixture
def misses(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Compilations that were not known."""
    found: list[Any] = []
    real = cache.again

    def asked(saga: Any, key: Any, registry: Registry) -> Any:
        known = real(saga, key, registry)
        if known is None:
            found.append(saga)
        return known

    monkeypatch.setattr(cache, "again", asked)
    return found


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of the tests lie here."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(PLACE, "at", tmp_path)


PLACE: dict[str, Path] = {}


def shop() -> Any:
    name = f"again_shop_{next(NUMBERS)}"
    importlib.invalidate_caches()
    (PLACE["at"] / f"{name}.py").write_text(TEXT)
    return importlib.import_module(name).shop


def run(text: str, scope: dict[str, Any]) -> None:
    """As someone at a prompt would define something anew."""
    exec(text, scope)  # noqa: S102


def compiled(saga: Any, registry: Registry | None = None, **more: Any) -> Machine:
    done = compile_all([saga], registry=registry or Registry(), **more)
    assert not done.refusals
    return done.machines["shop"]


def test_the_same_saga_is_compiled_once_for_one_registry(misses: list[Any]) -> None:
    saga, registry = shop(), Registry()
    one, other = compiled(saga, registry), compiled(saga, registry)
    assert one.function is other.function
    assert len(misses) == 1


def test_another_registry_gets_codecs_and_types_of_its_own(misses: list[Any]) -> None:
    saga, registry = shop(), Registry()
    one, other = compiled(saga), compiled(saga, registry)
    assert len(misses) == 1
    assert (one.graph, one.states, one.types) == (other.graph, other.states, other.types)
    assert other.slots["cart"].codec is registry.codec(saga.fn.__globals__["Cart"])
    assert one.slots["cart"].codec is not other.slots["cart"].codec
    assert set(registry.steps) == {"num"}


def test_a_class_that_is_defined_anew_is_seen(misses: list[Any]) -> None:
    saga = shop()
    compiled(saga)
    scope = saga.fn.__globals__
    run("@dataclass\nclass Cart:\n    lines: list[Line]\n    n: str\n", scope)
    compiled(saga)
    assert len(misses) == 2


def test_a_class_behind_an_annotation_is_seen(misses: list[Any]) -> None:
    saga = shop()
    before = compiled(saga)
    run("@dataclass\nclass Line:\n    n: int\n    more: str = ''\n", saga.fn.__globals__)
    after = compiled(saga)
    assert len(misses) == 2
    assert before.graph != after.graph


def test_a_class_changed_in_place_is_seen(misses: list[Any]) -> None:
    saga = shop()
    compiled(saga)
    saga.fn.__globals__["Cart"].total = property(repr)
    compiled(saga)
    saga.fn.__globals__["Cart"].__annotations__["n"] = "float"
    compiled(saga)
    assert len(misses) == 3


def test_a_function_that_says_something_else_is_seen(misses: list[Any]) -> None:
    saga = shop()
    compiled(saga)
    scope = saga.fn.__globals__
    scope["made"].__annotations__["return"] = "Cart | None"
    compiled(saga)
    run("def made(n: int) -> Cart:\n    return Cart([], 0)\n", scope)
    compiled(saga)
    assert len(misses) == 3


def test_a_global_that_the_saga_names_is_seen(misses: list[Any]) -> None:
    saga = shop()
    compiled(saga)
    saga.fn.__globals__["LIMIT"] = "40s"
    compiled(saga)
    assert len(misses) == 2


def test_a_name_that_hides_a_builtin_is_seen(misses: list[Any]) -> None:
    saga = shop()
    compiled(saga)
    saga.fn.__globals__["int"] = str
    compile_all([saga], registry=Registry())
    assert len(misses) == 2


def test_an_option_of_the_saga_is_seen(misses: list[Any]) -> None:
    saga = shop()
    compiled(saga)
    saga.deadline_ms = 5000
    assert compiled(saga).deadline_ms == 5000
    assert len(misses) == 2


def test_a_step_with_other_options_is_seen(misses: list[Any]) -> None:
    saga = shop()
    compiled(saga)
    step = saga.fn.__globals__["num"]
    before = step.observe
    step.observe = not before
    compiled(saga)
    step.observe = before
    assert len(misses) == 2


def test_a_lock_and_strictness_are_part_of_the_question(misses: list[Any]) -> None:
    saga = shop()
    done = compile_all([saga], registry=Registry())
    locked = LockFile().updated([(done.programs["shop"], done.machines["shop"])])
    compiled(saga, lock=locked)
    assert len(misses) == 2
    compiled(saga, lock=LockFile({k: dataclasses.replace(v) for k, v in locked.sagas.items()}))
    assert len(misses) == 2
    compiled(saga, lock=locked, strict=False)
    assert len(misses) == 3


def test_other_code_under_the_same_definition_is_seen(misses: list[Any]) -> None:
    saga, other = shop(), shop()
    compiled(saga)
    saga.fn = other.fn
    compiled(saga)
    assert len(misses) == 2


def test_a_file_that_was_edited_is_seen_and_refused() -> None:
    saga = shop()
    compiled(saga)
    place = Path(saga.fn.__code__.co_filename)
    place.write_text(TEXT.replace("got + cart.n", "got - cart.n"))
    os.utime(place, (1, 1))
    assert [r.code for r in compile_all([saga], registry=Registry()).refusals] == ["CP142"]


def test_what_is_refused_or_reads_what_nobody_can_watch_is_never_kept(misses: list[Any]) -> None:
    saga = shop()
    saga.fn.__globals__["LIMIT"] = bytearray(b"30s")
    compile_all([saga], registry=Registry())
    assert cache.HELD not in vars(saga)
