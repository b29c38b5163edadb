"""Faults planted in the core, one at a time: the tests of the core must see each of them, or they prove nothing (T4)."""
# pyright: basic

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from contrapas.compiler import labels
from contrapas.core import cancel, expire, flight, frames, undo, unwind
from contrapas.core.work import Work
from contrapas.errors import StepFailed
from tests.compiler import test_labels
from tests.core import test_compiled, test_flight, test_retry, test_scope_limits, test_tricky, test_undo

Plant = Callable[[pytest.MonkeyPatch], None]


def everywhere(patch: pytest.MonkeyPatch, real: Any, planted: Any) -> None:
    """Under every name by which a module of the core knows it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("contrapas.core"):
            for word, value in list(vars(module).items()):
                if value is real:
                    patch.setattr(module, word, planted)


def new_visit_per_attempt(patch: pytest.MonkeyPatch) -> None:
    real = expire.attempt

    def attempt(work: Any, pending: Any) -> Any:
        again = real(work, pending)
        again.key = again.key.rpartition("/")[0] + f"/{work.record.version}"
        return again

    everywhere(patch, real, attempt)


def undo_registered_on_success(patch: pytest.MonkeyPatch) -> None:
    """Nothing stands on the stack until the step succeeded; what is unknown is forgotten."""
    register, settle = undo.register, undo.settle

    def late(work: Any, line: Any, op: Any, **more: Any) -> int:
        number = register(work, line, op, **more)
        if number >= 0:
            line.node.undo[-1].status = "failed"
        return number

    everywhere(patch, register, late)
    everywhere(patch, settle, lambda w, n, s, **more: None if s == "unknown" else settle(w, n, s, **more))


def undo_in_issue_order(patch: pytest.MonkeyPatch) -> None:
    real = unwind._visit

    def visit(work: Any, entries: Any, floor: int) -> bool:
        for i in range(floor, len(entries)):
            if not real(work, entries[: i + 1] if i + 1 == len(entries) else _part(entries, i), i):
                return False
        return True

    def _part(entries: Any, i: int) -> Any:
        class Part(list[Any]):
            def __setitem__(self, key: Any, value: Any) -> None:
                super().__setitem__(key, value)
                entries[key] = value

        return Part(entries[: i + 1])

    patch.setattr(unwind, "_visit", visit)


def undo_for_failed(patch: pytest.MonkeyPatch) -> None:
    real = undo.settle
    everywhere(patch, real, lambda w, n, s, **more: real(w, n, "done" if s == "failed" else s, **more))


def no_undo_for_unknown(patch: pytest.MonkeyPatch) -> None:
    real = undo.settle

    def settle(work: Any, number: int, status: str, **more: Any) -> None:
        real(work, number, "failed" if status == "unknown" else status, **more)

    everywhere(patch, real, settle)


def undo_dropped_at_scope_success(patch: pytest.MonkeyPatch) -> None:
    real = frames._effects

    def effects(work: Any, line: Any, frame: Any) -> Any:
        leaves = any(e[0] == "leave" for e in work.activation.effects)
        mark = frame.scopes[-1] if frame.scopes and leaves else None
        made = real(work, line, frame)
        if mark is not None:
            del line.node.undo[mark:]
        return made

    patch.setattr(frames, "_effects", effects)


def retired_label_reused(patch: pytest.MonkeyPatch) -> None:
    real = labels._sites

    def sites(program: Any, before: Any, refusals: Any) -> None:
        real(program, replace(before, retired=()), refusals)

    patch.setattr(labels, "_sites", sites)


def one_key_for_two_begins(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Work, "visit", lambda self, label, suffix="": f"{self.record.version}")


def join_skipped_on_return(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flight, "join", lambda work, line, label, op: work.resume(line, None))


def limit_that_an_inner_handler_catches(patch: pytest.MonkeyPatch) -> None:
    def thrown(work: Any, line: Any, said: str) -> None:
        cancel.drop(work, line) if hasattr(cancel, "drop") else None
        line.node.pending = None
        work.resume(line, None, StepFailed(said, step="scope"))

    patch.setattr("contrapas.core.limits.cancel.throw", thrown)


def witnesses(*modules: Any) -> list[Callable[[], None]]:
    """Every test of some modules, its parameters filled in; those with fixtures left out."""
    found: list[Callable[[], None]] = []
    for module in modules:
        for name, fn in vars(module).items():
            if not name.startswith("test_"):
                continue
            count = fn.__code__.co_argcount
            marks = [m for m in getattr(fn, "pytestmark", ()) if m.name == "parametrize"]
            if not count:
                found.append(fn)
            elif len(marks) == 1 and count == 1:
                found += [_with(fn, value) for value in marks[0].args[1]]
    return found


def _with(fn: Any, value: Any) -> Callable[[], None]:
    return lambda: fn(value)


PLANTS: tuple[tuple[Plant, tuple[Any, ...]], ...] = (
    (new_visit_per_attempt, (test_retry,)),
    (undo_registered_on_success, (test_tricky, test_undo)),
    (undo_in_issue_order, (test_tricky, test_undo)),
    (undo_for_failed, (test_tricky, test_undo)),
    (no_undo_for_unknown, (test_tricky, test_undo)),
    (undo_dropped_at_scope_success, (test_undo, test_compiled)),
    (retired_label_reused, (test_labels,)),
    (one_key_for_two_begins, (test_flight, test_retry)),
    (join_skipped_on_return, (test_flight,)),
    (limit_that_an_inner_handler_catches, (test_scope_limits,)),
)


@pytest.mark.parametrize(("plant", "modules"), PLANTS, ids=[p.__name__ for p, _ in PLANTS])
def test_a_planted_fault_is_seen(
    plant: Plant, modules: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert seen(modules), "no test of the core saw it"


def seen(modules: tuple[Any, ...]) -> str:
    """The first test that fails; empty when all are content."""
    for test in witnesses(*modules):
        try:
            test()
        except Exception as why:  # noqa: BLE001  whatever the fault leads to
            return f"{test}: {type(why).__name__}: {why}"
    return ""


def test_without_a_fault_the_witnesses_are_content() -> None:
    assert seen((test_retry, test_tricky, test_labels, test_undo)) == ""
