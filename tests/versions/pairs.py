"""Two versions of one saga compiled one after the other, the second under the first one's lock file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contrapas.codec.registry import Registry, build_registry
from contrapas.compiler import Compiled, compile_all
from contrapas.compiler.lock import LockFile
from contrapas.machine import Machine
from contrapas.runtime.reach import reach
from contrapas.testing.differential_programs import loaded
from contrapas.versions.compare import Comparison, compare_all

HEAD = "@saga\nasync def main(s: Saga, go: Go) -> int:\n"


def program(body: str, before: str = "") -> str:
    """A module with one saga, `main`, of this body; `before` stands above it."""
    return before + HEAD + "\n".join(f"    {line}" for line in body.strip("\n").split("\n")) + "\n"


def built(text: str, lock: LockFile | None = None) -> Compiled:
    """A module's sagas, compiled."""
    sagas = list(loaded(text, f"<versions {hash(text)}>").values())
    found = reach(sagas)
    registry: Registry = build_registry(
        sagas=found.sagas, services=(), steps=found.steps, events=found.events, exceptions=found.exceptions
    )
    done = compile_all(found.sagas, registry=registry, lock=lock)
    assert not done.refusals, done.refusals
    return done


def locked(done: Compiled, before: LockFile | None = None) -> LockFile:
    """The lock file after a build."""
    return (before or LockFile()).updated([(done.programs[n], m) for n, m in done.machines.items()])


def both(old: str, new: str) -> tuple[Compiled, Compiled]:
    """Old, and new under its lock file. Texts of modules, or bodies of `main`."""
    texts = [t if "@saga" in t else program(t) for t in (old, new)]
    first = built(texts[0])
    return first, built(texts[1], locked(first))


def compared(
    old: str, new: str, migrations: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, Comparison]:
    """Their comparison."""
    first, second = both(old, new)
    return compare_all(first.machines.values(), second.machines, migrations)


def fits(old: str, new: str) -> dict[str, str]:
    """Label of `main` -> verdict, with its codes: `compatible CP307`."""
    found = compared(old, new)["main"]
    return {label: " ".join([f.verdict, *f.codes]) for label, f in found.states.items()}


def machine(body: str) -> Machine:
    """`main` alone."""
    return built(body if "@saga" in body else program(body)).machines["main"]


def anything() -> Any:
    """For signatures that take whatever comes."""
    return object()
