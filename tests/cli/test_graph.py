"""`contrapas graph`: one instance laid over its machine, from the log alone; who sends what to whom."""

from __future__ import annotations

import asyncio
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from contrapas.runtime import graphs
from contrapas.runtime.build import build
from contrapas.runtime.find import app as find_app
from tests.cli.conftest import note
from tests.cli.test_reading import fits, schema

Cli = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def noted(shop: Path) -> Path:
    """The shop's log with the note that a worker leaves beside it."""
    world = build(find_app(f"{ROOT}/sagas/order/saga.py:app").definition())
    machine = world.machines["place_order"]
    old, new = f'"{machine.graph}"'.encode(), b'"k7Q2"'
    said = {
        "$graph/k7Q2": graphs.body_of(machine).replace(old, new),
        graphs.APP: graphs.app_of(world).replace(old, new),
    }
    asyncio.run(note(shop / ".contrapas" / "shop.db", said))
    return shop


def classes(drawn: str) -> dict[str, str]:
    """Id -> classes."""
    return {g.get("id", ""): g.get("class", "") for g in ET.fromstring(drawn).iter() if g.get("id")}


def test_an_instance_is_laid_over_its_machine_from_the_log_alone(noted: Path, cli: Cli) -> None:
    code, out, err = cli("graph", "--instance", "o-9", "--format", "svg")
    found = classes(out)
    assert (code, err) == (0, "")
    assert found["state-ChargeCard"].endswith(" done")
    assert found["state-ReserveStock"].endswith(" failed")
    assert found["state-compensate"].endswith(" done")
    assert found["state-undo.28ChargeCard.29"].endswith(" undone")
    assert found["state-ShipOrder"].endswith(" next")
    assert found["state-OrderRejected"].endswith(" done")
    assert found["edge-ReserveStock-compensate"].endswith(" done")
    assert found["edge-ChargeCard-compensate"].endswith(" next")


def test_a_living_instance_shows_where_it_stands(noted: Path, cli: Cli) -> None:
    found = classes(cli("graph", "place_order", "--instance", "o-7", "--format", "svg")[1])
    assert found["state-ReserveStock"].endswith(" now")
    assert found["edge-ChargeCard-ReserveStock"].endswith(" done")
    assert "class s2 now" in cli("graph", "--instance", "o-7", "--format", "mermaid")[1]
    assert 'fillcolor="#fff1bf"' in cli("graph", "--instance", "o-7", "--format", "dot")[1]
    out = cli("graph", "--instance", "place_order/o-7")[1]
    assert "START ─ ChargeCard ✓ ─▶ ReserveStock ●" in out
    assert "in reverse: ReleaseStock (if reserved or unknown), RefundCard" in out


@pytest.mark.parametrize(
    ("at", "standing"), [("start", "ChargeCard"), ("+1", "ReserveStock"), ("-2", "ReserveStock")]
)
def test_an_instance_is_shown_as_it_was_at_a_position(noted: Path, cli: Cli, at: str, standing: str) -> None:
    found = json.loads(cli("graph", "--instance", "o-9", "--at", at, "--format", "json")[1])
    fits(found, schema("graph"))
    now = [name for name, mark in found["instance"]["states"].items() if mark == "now"]
    assert standing in now or f"undo({standing})" in now, found["instance"]


def test_what_is_not_there_is_refused_with_what_to_do(noted: Path, shop: Path, cli: Cli) -> None:
    assert "CP813" in cli("graph", "--instance", "nobody")[2]
    assert "CP814" in cli("graph", "--at", "5")[2]
    assert "CP814" in cli("graph", "--choreography", "--instance", "o-9")[2]
    assert "CP807" in cli("graph", "--instance", "o-9", "--at", "@2001-01-01")[2]
    asyncio.run(note(shop / ".contrapas" / "shop.db", {"$graph/k7Q2": None}))
    code, _, err = cli("graph", "--instance", "o-9")
    assert code == 3 and "place_order@k7Q2" in err and "MODULE:APP" in err


@pytest.mark.parametrize("form", ["text", "mermaid", "svg", "dot", "json"])
def test_a_choreography_names_everyone_and_who_is_outside(here: Path, cli: Cli, form: str) -> None:
    code, out, err = cli("graph", f"{ROOT}/sagas/order/observed.py:app", "--choreography", "--format", form)
    assert (code, err) == (0, "")
    for name in (
        "charge",
        "reserve",
        "ship",
        "refund",
        "release",
        "place_order",
        "CardDeclined",
        "RefundCard",
    ):
        assert name in out
    if form == "json":
        found = json.loads(out)
        fits(found, schema("choreography"))
        assert [p["name"] for p in found["participants"] if p["kind"] == "outside"] == ["orders"]
        sent = {m["name"]: m["sources"] for m in found["messages"]}
        assert sent["CardCharged"] == ["payments.charge"] and sent["RefundCard"] == ["place_order"]
        assert "ChargeCard" not in sent  # an observed saga sends no step, only what takes back
    if form == "text":
        assert re.search(r"payments\.charge +─ CardCharged +─▶ place_order \(observes\), stock\.reserve", out)
    if form == "svg":
        assert classes(out)["state-outside.20orders"] == "outside"


def test_every_machine_as_json_fits_its_schema(here: Path, cli: Cli) -> None:
    for app in ("order/saga.py:app", "bank/saga.py:app", "permits/saga.py:app"):
        fits(json.loads(cli("graph", f"{ROOT}/sagas/{app}", "--format", "json")[1]), schema("graph"))
