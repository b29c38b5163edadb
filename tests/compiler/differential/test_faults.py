"""Faults planted in the compiler, one at a time: the comparison must see each of them, or it proves nothing (T4)."""
# pyright: basic

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import pytest

from contrapas.codec import cursor, marks
from contrapas.compiler import assigned, emit, leaves, liveness, scopes, sharing
from contrapas.compiler.lower import builder, expressions, regions, tries
from contrapas.compiler.lower.builder import load, store
from contrapas.compiler.support import CONSTANTS
from contrapas.errors import CompileError
from contrapas.machine import ir
from contrapas.testing import differential, native
from contrapas.testing.differential import compare, pair_of
from contrapas.testing.differential_prelude import EXCEPTIONS, Go
from tests.compiler import test_machine
from tests.compiler.differential.cases import ALL
from tests.compiler.driver import machines_of, refusals_of
from tests.compiler.test_refusals import MARK as marked  # type: ignore[attr-defined]

Plant = Callable[[pytest.MonkeyPatch], None]


def siblings_not_spilled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(expressions.Expressions, "hold", lambda self, value, later, hint: value)


def walrus_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scopes, "rebinds", lambda nodes: set())


def copies_for_shared_objects(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(marks, "may_share", lambda left, right: False)
    patch.setattr(sharing, "may_share", lambda left, right: False)


def no_implicit_context(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(CONSTANTS, "@linked", lambda thrown, handled: thrown.__context__)


def callee_without_the_callers_exception(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(differential.Driver, "_handled", lambda self, callers: None)


def handler_name_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(builder, "unbind", lambda name: [])


def else_inside_the_try(patch: pytest.MonkeyPatch) -> None:
    real = tries.Tries._except

    def moved(self: Any, node: ast.Try) -> None:
        node.body, node.orelse = [*node.body, *node.orelse], []
        real(self, node)

    patch.setattr(tries.Tries, "_except", moved)


def finally_exit_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(builder.Builder, "_exit_name", lambda self, kind, loop: "through")


def dict_display_by_item(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        expressions, "_chunks", lambda node: [[pair] for pair in zip(node.keys, node.values, strict=True)]
    )


def cursor_off_by_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cursor.SequenceCursor, "more", lambda self: self.position < len(self.sequence) - 1)


def positions_swapped_in_all(patch: pytest.MonkeyPatch) -> None:
    real = differential.Compiled.due

    def swapped(self: Any, time: int, value: Any, error: BaseException | None) -> None:
        real(self, time, tuple(reversed(value)) if type(value) is tuple and self.waits else value, error)

    patch.setattr(differential.Compiled, "due", swapped)


def stale_bytes_for_a_touched_slot(patch: pytest.MonkeyPatch) -> None:
    real = liveness.touches

    def fewer(*args: Any) -> Any:
        return {site: names - {"a", "n", "out"} for site, names in real(*args).items()}

    patch.setattr(liveness, "touches", fewer)


def undo_not_captured_at_issue(patch: pytest.MonkeyPatch) -> None:
    real = native.issued

    def late(run: Any, line: Any, op: Any, undoing: Any, script: Any) -> int:
        return real(run, line, op, lambda undo, reply: None, script)

    patch.setattr(differential, "issued", late)


def maybe_unbound_ignored(patch: pytest.MonkeyPatch) -> None:
    real = assigned.whole
    patch.setattr(
        assigned, "whole", lambda *a: {site: (maybe, maybe) for site, (_, maybe) in real(*a).items()}
    )


def jump_committed_at_once(patch: pytest.MonkeyPatch) -> None:
    real = leaves._set
    patch.setattr(leaves, "_set", lambda name, value: real("@pc" if name == "@jump" else name, value))


def late_prologue(patch: pytest.MonkeyPatch) -> None:
    """Locals are bound after the exception that is being handled was chosen."""
    prologue, throw = emit.Emitter._prologue, emit.Emitter._throw

    def late(self: Any, handled: bool) -> ast.stmt:
        bound = ast.If(load("@late"), [_flag(False), *prologue(self)], [])
        return ast.If(ast.Constant(True), [bound, throw(self, handled)], [])

    patch.setattr(emit.Emitter, "_prologue", lambda self: [_flag(True)])
    patch.setattr(emit.Emitter, "_throw", late)


def _flag(value: bool) -> ast.stmt:
    return ast.Assign([store("@late")], ast.Constant(value))


def kill_in_a_region(patch: pytest.MonkeyPatch) -> None:
    def live_in(block: Any, summary: Any, blocks: Any, entering: Any) -> Any:
        if isinstance(block.term, ir.Await):
            out = liveness._after(block.term, blocks, entering)
        else:
            out = frozenset[str]().union(*(entering.get(n, frozenset()) for n in block.successors()))
        return summary.uses | ((out | liveness._caught(block, blocks, entering)) - summary.kills)

    patch.setattr(liveness, "_live_in", live_in)


def join_skipped_on_return(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(regions.Scopes, "_join", lambda self, exc, node: None)


PLANTS: tuple[Plant, ...] = (
    maybe_unbound_ignored,
    jump_committed_at_once,
    late_prologue,
    kill_in_a_region,
    join_skipped_on_return,
    siblings_not_spilled,
    walrus_ignored,
    copies_for_shared_objects,
    no_implicit_context,
    callee_without_the_callers_exception,
    handler_name_kept,
    else_inside_the_try,
    finally_exit_lost,
    dict_display_by_item,
    cursor_off_by_one,
    positions_swapped_in_all,
    stale_bytes_for_a_touched_slot,
    undo_not_captured_at_issue,
)


def seen() -> str:
    """The first sign that something is wrong, over the hand-written sagas; empty when there is none."""
    for saga, others in ALL:
        try:
            pair = pair_of(saga, *others, exceptions=EXCEPTIONS)
        except CompileError:
            continue
        except Exception as why:  # noqa: BLE001  whatever the author's code raises
            return f"{saga.name}: {type(why).__name__}"
        try:
            compare(pair, lambda: (Go(k="k", n=4),), range(12), fails=0.12)
        except Exception as why:  # noqa: BLE001  whatever the author's code raises
            return f"{saga.name}: {type(why).__name__}"
    return ""


def unrefused() -> str:
    """The first saga that is refused otherwise than it should be; empty when there is none."""
    for name, (code, saga) in marked.items():
        found = [r.code for r in refusals_of(saga) if not r.warning]
        if found != [code]:
            return f"{name}: {found}"
    machines_of.cache_clear()
    try:
        test_machine.test_what_a_handler_reads_is_needed_before_the_try_though_its_body_binds_it_anew()
    except AssertionError:
        return "what a handler reads is not needed before its try"
    finally:
        machines_of.cache_clear()
    return ""


@pytest.mark.parametrize("plant", PLANTS, ids=[p.__name__ for p in PLANTS])
def test_a_planted_fault_is_seen(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert seen() or unrefused()


def test_without_a_fault_nothing_is_seen() -> None:
    assert not seen() and not unrefused()
