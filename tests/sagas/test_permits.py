"""The recorded permit process is followed event by event; where the recording is absent these tests say so and skip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from contrapas.runtime.find import find
from sagas.permits import census, run

ROOT = Path(__file__).parents[2]
PERMITS = find(f"{ROOT}/sagas/permits/saga.py:PermitEvent")
KINDS = {cls.__contrapas_name__ for cls in PERMITS.__subclasses__()}


@pytest.fixture
def recording() -> Path:
    """The recording, if this machine has it."""
    file = run.recording()
    if file is None:
        pytest.skip(f"the recorded permit process is not on this machine ({run.SOURCE})")
    return file


def test_there_is_a_class_for_every_recorded_kind(recording: Path) -> None:
    rows = census.recorded(recording)
    assert {kind for kinds in rows.values() for kind in kinds} == KINDS
    assert len(KINDS) == 27


def test_every_case_starts_with_its_confirmation(recording: Path) -> None:
    assert {kinds[0] for kinds in census.recorded(recording).values()} == {"Confirmation of receipt"}


async def test_every_event_meets_a_fate_and_every_case_travels_what_its_rows_say(
    recording: Path, tmp_path: Path
) -> None:
    found, _ = await run.follow(recording, f"sqlite:///{tmp_path}/permits.db")
    rows = census.recorded(recording)
    assert found.total == sum(len(kinds) for kinds in rows.values()) == 8577
    assert len(found.paths) == len(rows) == 1434
    assert found.paths == rows
    assert found.fates == {"applied": 8577}


def test_without_the_recording_it_says_so_and_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "sagas/permits/run.py")],
        env={"PATH": "", "PERMITS_CSV": "/nowhere.csv"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if run.recording() is None:
        assert done.returncode == 0 and "not here" in done.stdout


def test_the_saga_is_observed_and_has_both_ends() -> None:
    definition = find(f"{ROOT}/sagas/permits/saga.py:app").definition()
    assert [use.mode for use in definition.sagas] == ["observe"]
