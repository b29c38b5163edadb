"""Random sagas in both forms: with the hand-written ones more than 5,000 cases in every run."""

from __future__ import annotations

import pytest

from contrapas.testing.differential_programs import source_of
from contrapas.testing.differential_run import SCRIPTS, Tally, run
from tests.compiler.differential.cases import ALL

PROGRAMS = 192
PARTS = 8
CASES_MIN = 5000
_done: list[Tally] = []


@pytest.mark.parametrize("part", range(PARTS))
def test_a_random_saga_does_the_same_in_both_forms(part: int) -> None:
    size = PROGRAMS // PARTS
    tally = run(range(part * size, (part + 1) * size), SCRIPTS, stop_after=3)
    _done.append(tally)
    assert not tally.failures, "\n".join(
        f"program {f.seed}, script {f.script}: {f.text}\n{source_of(f.seed)}" for f in tally.failures
    )
    assert sum(tally.refused.values()) <= size // 6, tally.refused


def test_more_than_five_thousand_cases_were_compared(capsys: pytest.CaptureFixture[str]) -> None:
    if len(_done) < PARTS:
        pytest.skip("only a part of the programs ran")
    random = sum(t.report.runs for t in _done)
    written = len(ALL) * 70
    with capsys.disabled():
        print(
            f"\ndifferential: {random} cases of {sum(t.programs for t in _done)} random sagas and {written} of "
            f"{len(ALL)} hand-written ones, {sum(t.report.transitions for t in _done)} transitions, no difference"
        )
    assert random + written >= CASES_MIN


def test_a_seed_gives_the_same_program_everywhere() -> None:
    import hashlib

    text = "".join([source_of(seed) for seed in range(40)])
    assert source_of(7) == source_of(7)
    assert len(text) > 40_000
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == "fab315266edb"
