"""T6: instances stopped in every state of the worked sagas, written by an earlier commit, are finished by today's code.

`tests/golden/<saga>.json` holds the machines as they were and one record for every state that forty scripts pass. It is
written with `pytest --rewrite -k NAME` when a release is made, not when a saga changes: the point is that it stays behind.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contrapas.core import moves
from contrapas.core.envelope_avro import decode, encode
from contrapas.machine.data import from_data, to_data
from contrapas.runtime.graphs import judged
from tests.versions.driver import Script, Step, Version, resumed, start
from tests.versions.edits import SAGAS, source_of

ALL = {**SAGAS, "index": "index_bucket", "permits": "follow_permit", "refunds": "approve_refund"}
"""Worked sagas; those that random edits are made of, and three more."""
GOLDEN = Path(__file__).parents[1] / "golden"
SCRIPTS = range(40)


def written(version: Version) -> dict[str, Any]:
    """Machines, and one record for every way of standing somewhere."""
    found: dict[str, tuple[int, bytes]] = {}
    for seed in SCRIPTS:
        for step in start(version, Script(seed)).steps:
            record = step.record
            if record.ended_at is None and record.parked is None:
                where = "/".join(
                    dict.fromkeys(
                        [*[f.label for f in record.root.frames], *[p.label for p in record.operations()]]
                    )
                )
                found.setdefault(f"{where} {record.status}", (seed, step.value))
    return {
        "machines": [to_data(m) for m in version.world.machines.values()],
        "records": {
            where: [seed, base64.b64encode(value).decode()] for where, (seed, value) in sorted(found.items())
        },
    }


@pytest.mark.parametrize("name", sorted(ALL))
def test_an_instance_stopped_in_every_state_under_an_earlier_commit_goes_on(
    name: str, request: pytest.FixtureRequest
) -> None:
    text, saga = source_of(name, ALL[name])
    version = Version.of(text, saga)
    path = GOLDEN / f"{name}.json"
    if request.config.getoption("--rewrite"):
        path.write_text(json.dumps(written(version), indent=1, ensure_ascii=False) + "\n")
    golden = json.loads(path.read_text())
    olds = [from_data(one) for one in golden["machines"]]
    for old in olds:
        now = version.world.machines.get(old.name)
        if now is None or now.graph != old.graph:
            version.world.older[(old.name, old.graph)] = judged(old, version.world)
    assert golden["records"]
    for where, (seed, packed) in golden["records"].items():
        value = base64.b64decode(packed)
        record = decode(value)
        assert decode(encode(record)) == record
        why = moves.unfit(record, version.world)
        run = resumed(version, Step(value, Counter(), 0), Script(seed + 100))
        parked = run.last.parked
        if why:
            assert parked is not None, f"{where}: diff says no ({why}), and it went on"
            assert (parked.code, run.last.root) == ("CP312", record.root), where
        else:
            assert parked is None or parked.code == "CP704", f"{where}: {parked}"
            items = any(p.kind == "map" for p in record.operations())  # worked off beside the record
            assert len(run.steps) > 1 or items, f"{where} stands still"


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_golden_records_stand_in_every_state_that_a_saga_has(name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    passing = ("compensate", "unwind")  # where nothing is to be taken back, nobody stands there
    labels = {s["label"] for m in golden["machines"] for s in m["states"] if s["kind"] not in passing}
    branches = {
        p.label for _, v in golden["records"].values() for p in decode(base64.b64decode(v)).operations()
    }
    assert labels <= branches | {f.label for _, v in golden["records"].values() for f in _frames(v)}


def _frames(packed: str) -> list[Any]:
    from contrapas.core.undo import lines
    from contrapas.core.work import Line

    root = decode(base64.b64decode(packed)).root
    return [frame for line in lines(Line((root,))) for frame in line.node.frames]
