"""`contrapas schema`: derived, judged against what is registered, published at deploy time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from contrapas.check.schemas import breaks
from tests.registry import registry

APP = """
from contrapas import App, Event, Saga, saga

class Opened(Event, topic="desk.events", key="id"):
    id: str
    cents: int{more}

@saga
async def claim(s: Saga, e: Opened) -> None:
    s.note(e.id)

app = App("desk")
app.orchestrate(claim)
"""


def schema(folder: Path, url: str, *words: str, more: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "desk.py").write_text(APP.format(more=more))
    return subprocess.run(
        [sys.executable, "-m", "contrapas", "schema", *words, "desk.py:app"],
        cwd=folder,
        env={"CONTRAPAS_REGISTRY": url, "PATH": "", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_schemas_are_judged_against_every_registered_version_and_published_on_demand(tmp_path: Path) -> None:
    with registry() as found:
        dry = schema(tmp_path, found.url, "publish")
        assert dry.returncode == 0 and "version 1 would be registered" in dry.stdout, dry.stderr
        assert found.subjects == {}
        assert schema(tmp_path, found.url, "publish", "--apply").returncode == 0
        assert list(found.subjects) == ["desk.events-Opened"]
        assert found.modes == {"desk.events-Opened": "FULL_TRANSITIVE"}
        good = schema(tmp_path, found.url, "check", more="\n    note: str | None = None")
        assert good.returncode == 0 and "compatible" in good.stdout, good.stderr
        bad = schema(tmp_path, found.url, "check", more="\n    new: str")
        assert bad.returncode == 4 and "CP606 cannot read version 1" in bad.stdout and "new" in bad.stdout
        refused = schema(tmp_path, found.url, "publish", "--apply", more="\n    new: str")
        assert refused.returncode == 6 and "CP606" in refused.stderr
        assert len(found.schemas) == 1


def test_a_registry_that_is_away_is_said_and_nothing_is_done(tmp_path: Path) -> None:
    gone = schema(tmp_path, "http://127.0.0.1:1", "check")
    assert gone.returncode == 5 and "CP525" in gone.stderr


def test_modes_are_judged_as_the_registry_names_them() -> None:
    def of(*fields: object) -> str:
        return json.dumps({"type": "record", "name": "A", "fields": list(fields)})

    a, b = {"name": "a", "type": "string"}, {"name": "b", "type": "string"}
    optional = {**b, "default": ""}
    assert breaks(of(a, b), [of(a)], "BACKWARD") and not breaks(of(a, b), [of(a)], "FORWARD")
    assert breaks(of(a), [of(a, b)], "FORWARD") and not breaks(of(a), [of(a, b)], "BACKWARD")
    assert not breaks(of(a, optional), [of(a)]) and breaks(of(a, b), [of(a)])
    assert not breaks(of(a, b), [of(a), of(a, b)], "FULL") and breaks(of(a, b), [of(a), of(a, b)])
    assert not breaks(of(a, b), [of(a)], "NONE")
