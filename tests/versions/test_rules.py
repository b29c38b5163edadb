"""Each rule of `diff`, switched off: the table says which test notices (T4 for C1 to C9)."""
# pyright: basic

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contrapas.versions import compare
from contrapas.versions.compare import Fit
from tests.versions import test_begun, test_cases, test_compare

Judge = compare._Judge  # pyright: ignore[reportPrivateUsage]
Off = Callable[[pytest.MonkeyPatch], None]
Test = Callable[[], None]


def without(name: str) -> Off:
    """One method says nothing."""
    return lambda patch: patch.setattr(Judge, name, lambda self, *_: None)


def silent(code: str, *words: str) -> Off:
    """Findings of one code, with one of these words, are not made."""
    real: Any = Judge._note  # pyright: ignore[reportPrivateUsage]

    def note(self: Any, said: str, text: str, fix: str = "") -> None:
        if said != code or not any(word in text for word in words or ("",)):
            real(self, said, text, fix)

    return lambda patch: patch.setattr(Judge, "_note", note)


def every_kind_is_the_same(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Judge, "_same_kind", lambda self, target: True)


def what_is_begun_is_not_judged(patch: pytest.MonkeyPatch) -> None:
    real = Judge.fit

    def fit(self: Any) -> Fit:
        if self.state.kind == "begin":
            return Fit(label=self.state.label, to=self.to, verdict=compare.COMPATIBLE)
        return real(self)

    patch.setattr(Judge, "fit", fit)


def a_swapped_success_of_what_is_begun(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(compare, "_answered", lambda state: state.kind in ("command", "ask"))


def every_type_reads_every_other(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(compare, "misread", lambda *_: "")


def undos_stand_only_where_they_were_registered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(compare, "standing", lambda machine, label: frozenset({label}))


def given(test: Callable[..., None], *arguments: Any) -> Test:
    """A test with parameters."""
    return lambda: test(*arguments)


def flying(code: str) -> Test:
    """The row of the edits of what flies."""
    changed = next(changed for changed, found in test_begun.FLYING if found == code)
    return given(
        test_begun.test_an_edit_of_what_flies_parks_the_instances_that_have_it_in_flight, changed, code
    )


RULES: tuple[tuple[str, Off, Test], ...] = (
    (
        "C1 gone",
        without("_map_it"),
        test_compare.test_c1_a_state_that_is_gone_is_orphaned_and_its_successor_proposed,
    ),
    (
        "C1 kind",
        every_kind_is_the_same,
        test_compare.test_c1_an_explicit_label_on_another_kind_of_operation_is_orphaned,
    ),
    ("C2", silent("CP301"), test_compare.test_c2_a_local_that_the_old_record_lacks_is_missing),
    (
        "C2 perhaps",
        silent("CP301", "may be"),
        test_compare.test_c2_a_local_bound_on_one_way_only_may_be_missing,
    ),
    ("C2 renamed", without("_renamed"), test_compare.test_c2_a_renamed_local_is_proposed),
    (
        "C3",
        every_type_reads_every_other,
        given(test_compare.test_c3_types_may_only_widen, "int", "str", False),
    ),
    ("C3 off", without("_type"), given(test_compare.test_c3_types_may_only_widen, "float", "int", False)),
    ("C4", silent("CP304", "may still come"), test_compare.test_c4_a_reply_that_is_not_accepted_any_more),
    (
        "C5 slot",
        silent("CP305", "is new here"),
        test_compare.test_c5_a_loop_put_around_a_state_or_changed_in_kind,
    ),
    (
        "C5 position",
        silent("CP305", "counts in another"),
        test_compare.test_c5_a_cursor_that_counts_in_a_local_is_none_that_holds_its_items,
    ),
    ("C5 exits", silent("CP305", "no exit"), test_cases.test_case_75_an_exit_that_is_pending_may_not_go_away),
    (
        "C5 structure",
        without("_structure"),
        test_compare.test_c5_exits_may_be_added_and_reordered_but_not_taken_away,
    ),
    ("C5 handler", silent("CP305"), test_compare.test_c5_a_state_that_moved_into_a_handler),
    (
        "C6 region",
        silent("CP306", "it stood in", "another number"),
        test_compare.test_c6_a_try_or_a_scope_around_a_state,
    ),
    ("C6 undo", without("_undo"), test_compare.test_c6_an_undo_that_may_be_on_the_stack_keeps_its_captures),
    (
        "C6 stack",
        undos_stand_only_where_they_were_registered,
        test_compare.test_c6_an_undo_that_may_be_on_the_stack_keeps_its_captures,
    ),
    (
        "C7",
        without("_follows"),
        test_compare.test_what_stands_behind_the_change_stays_the_same_and_what_stands_before_it_is_compatible,
    ),
    ("C8", without("_calls"), test_compare.test_c8_a_frame_below_counts_for_the_state_that_called_it),
    ("C9 C1", what_is_begun_is_not_judged, flying("CP302")),
    ("C9 C3", silent("CP303", "result of"), flying("CP303")),
    (
        "C9 C4",
        a_swapped_success_of_what_is_begun,
        test_begun.test_an_edit_of_the_replies_of_a_begun_command_is_found_at_its_begin,
    ),
    ("C9 C6", without("_undo"), flying("CP306")),
    ("C9 steps", silent("CP304", "is not awaited any more"), flying("CP304")),
)


@pytest.mark.parametrize(("off", "notices"), [r[1:] for r in RULES], ids=[r[0] for r in RULES])
def test_a_rule_that_is_switched_off_is_missed(
    off: Off, notices: Test, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices()
    off(monkeypatch)
    with pytest.raises((AssertionError, TypeError)):
        notices()
