"""Random sagas in both forms: with the hand-written ones more than 5,000 cases in every run; what once failed stays a case."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from contrapas.codec import cursor
from contrapas.testing.differential_campaign import SCRIPTS, Campaign
from contrapas.testing.differential_programs import source_of
from contrapas.testing.differential_run import Tally, difference, least, program, run
from tests.compiler.differential.cases import ALL

PROGRAMS = 104
PARTS = 8
CASES_MIN = 5000
FOUND = sorted((Path(__file__).parent / "found").glob("*.txt"))
_done: list[Tally] = []


@pytest.mark.parametrize("part", range(PARTS))
def test_a_random_saga_does_the_same_in_both_forms(part: int) -> None:
    size = PROGRAMS // PARTS
    tally = run(range(part * size, (part + 1) * size), SCRIPTS, stop_after=3)
    _done.append(tally)
    assert not tally.failures, "\n".join(
        f"program {f.seed}, script {f.script}: {f.text}\n{source_of(f.seed)}" for f in tally.failures
    )
    assert sum(tally.refused.values()) <= size // 4, tally.refused


def test_more_than_five_thousand_cases_were_compared(capsys: pytest.CaptureFixture[str]) -> None:
    if len(_done) < PARTS:
        pytest.skip("only a part of the programs ran")
    random = sum(t.report.runs for t in _done)
    written = len(ALL) * 70
    with capsys.disabled():
        print(
            f"\ndifferential: {random} cases ({sum(t.distinct for t in _done)} distinct runs) of "
            f"{sum(t.programs for t in _done)} random sagas and {written} of {len(ALL)} hand-written ones, "
            f"{sum(t.report.transitions for t in _done)} transitions, no difference"
        )
    assert random + written >= CASES_MIN


@pytest.mark.parametrize("path", FOUND, ids=[p.stem for p in FOUND])
def test_what_a_random_program_once_found_stays_mended(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    said = re.match(r"# seed (\d+), script (\d+)\n", text)
    seed, first = (int(said[1]), int(said[2])) if said else (4, 0)
    pair = program(text, f"<found {path.stem}>")
    scripts = range(first, first + (1 if said else SCRIPTS))
    assert not [found for script in scripts if (found := difference(pair, seed, script))]


def test_a_seed_gives_the_same_program_everywhere() -> None:
    text = "".join([source_of(seed, further=False) for seed in range(40)])
    assert source_of(7) == source_of(7)
    assert len(text) > 40_000
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == "7692940716b1"


def test_a_program_that_fails_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def less(self: Any) -> bool:
        return bool(self.position < len(self.sequence) - 1)

    monkeypatch.setattr(cursor.SequenceCursor, "more", less)
    [failure] = run(range(600, 700), 8).failures
    small = least(failure, 90)  # much less is needed where nothing else runs
    before, after = source_of(failure.seed).count("\n"), small.count("\n")
    assert "for" in small
    assert after < before / 2, small


def test_a_campaign_goes_on_where_it_ended(tmp_path: Path) -> None:
    state = tmp_path / "done.jsonl"
    first = Campaign(cases=1, seed=900, scripts=2, state=state).run()
    torn = state.read_text(encoding="utf-8") + '{"of": [900, 2'
    state.write_text(torn, encoding="utf-8")
    again = Campaign(cases=1, seed=900, scripts=2, state=state).run()
    assert (again.cases, again.transitions) == (first.cases, first.transitions)
    assert state.read_text(encoding="utf-8") == torn
    other = Campaign(cases=1, seed=900, scripts=3, state=state, time_s=0).run()
    assert other.cases == 0
