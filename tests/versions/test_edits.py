"""Case 74: what random edits of real sagas do to instances in every state; the whole 500: python -m tests.versions.edits."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas.versions import compare
from tests.versions.edits import EDITS, Wrong, run_edits


def test_case_74_what_diff_says_of_an_edit_is_what_happens_to_instances_in_every_state() -> None:
    tally = run_edits(60, seed=7)
    assert sum(tally.edits.values()) == 60
    assert set(tally.edits) >= {e.__name__ for e in EDITS} - {"reorder_exits", "extract"}
    assert tally.states["goes on"] > 150
    assert tally.states["stops"] > 20
    assert tally.compared > 100


def test_a_diff_that_does_not_look_at_regions_is_found_out_by_the_edits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(self: Any, *_: Any) -> None: ...

    monkeypatch.setattr(compare._Judge, "_regions", nothing)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(Wrong):
        run_edits(150, seed=3)
