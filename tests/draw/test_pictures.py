"""Pictures of machines: exact text, deterministic bytes, boxes that do not cover each other."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from contrapas.draw.data import data
from contrapas.draw.dot import dot
from contrapas.draw.graph import Graph
from contrapas.draw.mermaid import mermaid
from contrapas.draw.svg import svg
from contrapas.draw.text import path, text
from contrapas.runtime.find import find
from tests.check import wrong
from tests.check.compiled import graph
from tests.draw import shapes

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def order() -> Graph:
    """The machine of the order saga."""
    return graph(find(f"{ROOT}/sagas/order/saga.py:place_order"))


def test_the_order_is_printed_as_the_documentation_shows_it() -> None:
    machine = order()
    assert text(machine) == (
        f"place_order@{machine.graph}  4 states, 2 undos, 9 transitions, outcomes OrderConfirmed, OrderRejected\n"
        "  START         → ChargeCard\n"
        "  ChargeCard    → ReserveStock     CardCharged\n"
        "                → compensate       CardDeclined | after 30s\n"
        "  ReserveStock  → ShipOrder        StockReserved              (point of no return)\n"
        "                → compensate       OutOfStock | after 1m\n"
        "  ShipOrder     → OrderConfirmed   Shipped                    (retried for ever: no failure edge)\n"
        "  compensate    → OrderRejected    in reverse: ReleaseStock (if reserved or unknown), RefundCard\n"
        "  cancel, kill    from every state before ShipOrder to compensate; after it they are refused (6)\n"
    )


def test_the_path_of_an_instance_is_laid_over_its_machine() -> None:
    assert path(order(), [("ChargeCard", "done"), ("ReserveStock", "now")]) == (
        "START ─ ChargeCard ✓ ─▶ ReserveStock ● ┄▷ ShipOrder ┄▷ OrderConfirmed\n"
        "                                       ┄▷ compensate ┄▷ OrderRejected        (● now   ┄ not yet)"
    )
    ended = path(order(), [("ChargeCard", "done"), ("ReserveStock", "failed")], outcome="OrderRejected")
    assert ended == "START ─ ChargeCard ✓ ─▶ ReserveStock ✗ ─▶ OrderRejected"
    rounds = path(graph(shapes.many), [("hop", "done"), ("hop", "done"), ("hop#2", "now")])
    assert rounds.startswith("START ─ hop ✓ ×2 ─▶ hop#2 ●")


def test_the_same_machine_gives_the_same_bytes_in_every_form() -> None:
    for make in (text, mermaid, dot, svg):
        assert make(order()) == make(order())
    assert json.dumps(data(order())) == json.dumps(data(order()))


def test_every_state_has_a_stable_id_and_no_box_covers_another() -> None:
    for machine in (order(), graph(shapes.winding), graph(shapes.many), graph(wrong.forgets_in_a_branch)):
        root = ET.fromstring(svg(machine))
        ids = [group.get("id", "") for group in root.iter(f"{SVG}g") if group.get("id")]
        assert len(ids) == len(set(ids))
        boxes: list[tuple[float, float, float, float]] = []
        for rect in root.iter(f"{SVG}rect"):
            if rect.get("class") != "box":
                continue
            x, y, width, height = (float(rect.get(name, "0")) for name in ("x", "y", "width", "height"))
            boxes.append((x, y, x + width, y + height))
        for a, b in itertools.combinations(boxes, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert len(boxes) == len(machine.states) + len(machine.targets) + len(machine.undos)


def test_an_instance_lights_up_by_classes_alone() -> None:
    drawn = svg(order(), classes={"ChargeCard": "done", "ReserveStock": "now", "OrderConfirmed": "next"})
    plain = re.sub(r'class="(state[a-z -]*|outcome) (done|now|next)"', r'class="\1"', drawn)
    assert plain == svg(order())
    assert 'id="state-ReserveStock" class="state kind-command now"' in drawn


def test_loops_handlers_and_called_sagas_have_their_arrows() -> None:
    machine = graph(shapes.winding)
    arrows = {(e.source, e.target, e.cause) for e in machine.edges}
    assert ("look", "look", "ok") in arrows or ("look", "wait(Booked)", "ok") in arrows
    assert ("wait(Booked)", "clean", "Booked") in arrows
    assert ("clean", "return Answered", "ok") in arrows
    assert ("wait(Booked)", "clean", "cancel") in arrows
    assert ("wait(Booked)", "look", "after 5m") in arrows
    assert ("inner", "clean", "failed") in arrows


def test_only_what_an_exception_can_reach_is_drawn() -> None:
    machine = graph(shapes.decides)
    arrows = {(e.source, e.target) for e in machine.edges}
    assert ("BookSeat", "for_timeout") in arrows and ("BookSeat", "for_refused") in arrows
    causes = {e.cause for e in machine.edges if e.target == "for_timeout"}
    assert causes == {"after 1m"}


def test_a_long_saga_keeps_its_spine_straight() -> None:
    root = ET.fromstring(svg(graph(shapes.many)))
    centres = {
        float(rect.get("x", "0")) + float(rect.get("width", "0")) / 2
        for group in root.iter(f"{SVG}g")
        if group.get("class") == "state kind-local" and "hop" in group.get("id", "")
        for rect in group.iter(f"{SVG}rect")
        if rect.get("class") == "box"
    }
    assert len(centres) == 1
