"""Each further form of random programs: it occurs, both forms agree on it, and a fault planted in its part is seen (T4)."""
# pyright: basic

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from contrapas.author.op import UndoRef
from contrapas.codec import models, shapes
from contrapas.compiler import manifold
from contrapas.compiler.lower import expressions
from contrapas.testing import differential
from contrapas.testing.differential_programs import source_of
from contrapas.testing.differential_run import run

Plant = Callable[[pytest.MonkeyPatch], None]
PROGRAMS = 16
SCRIPTS = 6
OCCUR = {
    "again": (r"@saga\(again=", r"wait\(Go, Added"),
    "children": (r"s\.child\(", r"undo=lambda got", r"s\.link\(", r"begin\(s\.child", r"case Lost"),
    "entities": (r"Shelf\.at\(", r"\.total\(\)", r"begin\(Shelf", r"tell\(Shelf", r"except StepFailed"),
    "flights": (r"s\.begin\(", r"s\.next\(", r"s\.some\(", r"within='5m'", r"\.cancel\(\)"),
    "many": (r"s\.map\(num", r"concurrency=", r"rate=", r"on_error='collect'", r"begin\(s\.map"),
    "talk": (
        r"s\.reply\(", r"s\.show\(", r"s\.note\(", r"s\.tell\(", r"s\.untell\(", r"s\.cancel\(leg", r"model_copy",
    ),
}  # fmt: skip


def the_first_type_of_a_union(patch: pytest.MonkeyPatch) -> None:
    """Whatever is given back is of the first type that takes it."""
    real = shapes.Union.unpack

    def first(self: Any, data: Any, marks: Any) -> Any:
        try:
            return self.members[0].unpack(shapes.untagged(data) if "$type" in data else data, marks)
        except Exception:  # noqa: BLE001  it does not fit there
            return real(self, data, marks)

    patch.setattr(shapes.Union, "unpack", first)


def failures_of_a_map_are_no_values(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(manifold, "_keywords", lambda ops, node: False)


def a_received_command_loses_its_name(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(models, "ask_of", lambda command: "")


def a_key_is_computed_when_the_call_is_made(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(expressions.Expressions, "_receiver", lambda self, node, args, name: node)


def an_undo_sees_the_locals_of_later(patch: pytest.MonkeyPatch) -> None:
    """What a lambda captured is read when it runs."""
    real = differential.Driver.undone

    def late(self: Any, frames: Any) -> Any:
        inner = real(self, frames)

        def undoing(undo: Any, reply: Any) -> Any:
            if isinstance(undo, UndoRef):
                none = {n: 0 if type(v) is int else v for n, v in undo.captures.items()}
                undo = UndoRef(undo.label, none)
            return inner(undo, reply)

        return undoing

    patch.setattr(differential.Driver, "undone", late)


PLANTS: tuple[tuple[str, Plant], ...] = (
    ("again", the_first_type_of_a_union),
    ("many", failures_of_a_map_are_no_values),
    ("talk", a_received_command_loses_its_name),
    ("entities", a_key_is_computed_when_the_call_is_made),
    ("children", an_undo_sees_the_locals_of_later),
)


def seen(focus: str, programs: int) -> str:
    """The first sign that something is wrong with programs of a form; empty when there is none."""
    tally = run(range(programs), SCRIPTS, focus=focus)
    return tally.failures[0].text if tally.failures else ""


@pytest.mark.parametrize("focus", sorted(OCCUR))
def test_programs_of_a_form_do_the_same_in_both_forms_and_use_all_of_it(focus: str) -> None:
    text = "\n".join([source_of(seed, focus=focus) for seed in range(60)])
    assert not [word for word in OCCUR[focus] if not re.search(word, text)]
    tally = run(range(PROGRAMS), SCRIPTS, focus=focus)
    assert not tally.failures, tally.failures[0].text + "\n" + source_of(tally.failures[0].seed, focus=focus)
    assert tally.programs >= PROGRAMS * 3 // 4, tally.refused


@pytest.mark.parametrize(("focus", "plant"), PLANTS, ids=[p.__name__ for _, p in PLANTS])
def test_a_fault_in_the_part_of_a_form_is_seen(
    focus: str, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert seen(focus, 60)
