"""Every form of a picture: the same bytes in every process, and what is laid over it told by classes alone."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from contrapas.draw.overlay import Travelled, marks, walked
from contrapas.draw.svg import svg
from tests.check.compiled import graph
from tests.draw import shapes

ROOT = Path(__file__).parents[2]
PRINTS = """
import hashlib, json
from contrapas.draw import exports
from contrapas.draw.data import data
from contrapas.draw.dot import dot
from contrapas.draw.mermaid import mermaid
from contrapas.draw.services import choreography, scheme_of_all
from contrapas.draw.svg import drawing, svg
from contrapas.draw.text import text
from contrapas.runtime.build import build
from contrapas.runtime.find import app
from tests.check.compiled import graph
from tests.draw import shapes
from tests.draw.test_quality import random_graph
found = []
for one in (graph(shapes.nested), graph(shapes.winding), random_graph(5, 60)):
    found += [svg(one), dot(one), mermaid(one), text(one), json.dumps(data(one))]
d = app("sagas/order/observed.py:app").definition()
c = choreography(d.namespace, build(d).machines, [(u.saga.name, u.mode, u.on_late) for u in d.sagas], d.services)
found += [drawing(scheme_of_all(c)), exports.dot(c), exports.mermaid(c), exports.table(c), json.dumps(exports.data(c))]
print([hashlib.sha256(one.encode()).hexdigest()[:12] for one in found])
"""


def test_every_form_has_the_same_bytes_whatever_the_hash_seed() -> None:
    told: set[str] = set()
    for seed in ("0", "1", "77"):
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}:{ROOT}/engine:{ROOT}/schemas"}
        ran = subprocess.run(
            [sys.executable, "-c", PRINTS],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        told.add(ran.stdout)
    assert len(told) == 1


def test_a_drawing_is_self_contained_for_light_and_dark_and_told_to_screen_readers() -> None:
    drawn = svg(graph(shapes.nested))
    root = ET.fromstring(drawn)
    assert "<script" not in drawn and "href" not in drawn and "@import" not in drawn and "var(" not in drawn
    assert "@media (prefers-color-scheme:dark)" in drawn
    assert root.get("role") == "img" and root.get("aria-label", "").startswith("nested@")
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        assert group.find("{http://www.w3.org/2000/svg}title") is not None


def test_names_of_a_saga_cannot_break_out_of_the_drawing() -> None:
    from dataclasses import replace

    machine = graph(shapes.many)
    bad = '</text><script>alert("x")</script>&'
    states = {label: replace(state, operation=bad) for label, state in machine.states.items()}
    edges = tuple(replace(edge, cause=bad) for edge in machine.edges)
    drawn = svg(
        replace(machine, name=bad, states=states, edges=edges),
        classes=dict.fromkeys(("hop", "undo(hop)", ("hop", "hop#2")), 'x" onload="y'),
    )
    assert "<script" not in drawn
    assert all(element.get("onload") is None for element in ET.fromstring(drawn).iter())


def test_coverage_paints_states_and_arrows_through_the_same_parameter() -> None:
    drawn = svg(graph(shapes.many), classes={"hop": "covered", "hop#2": "missed", ("hop", "hop#2"): "missed"})
    assert 'id="state-hop" class="state kind-local covered"' in drawn
    assert 'id="state-hop.232" class="state kind-local missed"' in drawn
    assert 'id="edge-hop-hop.232" class="edge missed"' in drawn


def test_a_way_leads_through_states_that_only_take_back() -> None:
    machine = graph(shapes.nested)
    way = Travelled(labels=("reserve", "hop", "for_refused"), failed=frozenset({"hop"}))
    found = marks(machine, way)
    assert found["hop", "unwind"] == found["unwind", "for_refused"] == "done"
    assert (found["hop"], found["for_refused"], found["look"]) == ("failed", "now", "next")
    assert found["reserve", "unwind"] == "next"


def test_rounds_of_a_loop_are_steps_of_the_way_and_attempts_are_not() -> None:
    assert walked(["hop", "hop", "hop", "look"], [1, 1, 2, 1]) == ("hop", "hop", "look")
