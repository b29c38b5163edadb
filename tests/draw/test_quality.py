"""Pictures as pictures: nothing stands on anything else, for worked sagas, shapes of tests, and machines of any form."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from contrapas.draw.chart import scheme_of
from contrapas.draw.edges import graph_of
from contrapas.draw.graph import START, Graph
from contrapas.draw.place import picture
from contrapas.draw.services import choreography, scheme_of_all
from contrapas.draw.svg import svg
from contrapas.machine import Edge, State
from contrapas.runtime.build import build
from contrapas.runtime.find import app as find_app
from tests.check.compiled import graph
from tests.draw import shapes
from tests.draw.quality import faults

ROOT = Path(__file__).parents[2]
WORKED = tuple(sorted(path.parent.name for path in ROOT.glob("sagas/*/saga.py")))
KINDS = (
    "command",
    "ask",
    "local",
    "wait",
    "sleep",
    "all",
    "frame",
    "unwind",
    "compensate",
    "begin",
    "of the future",
)
NAMES = ("ChargeCard", "wait(Approved|Rejected|NeedsMoreInformation)", "a", "reserve_the_seat_on_the_train_of_tomorrow#2",
         "予約を確認する", "all(ChargeCard,ReserveStock,BookTheHotelRoomWithAView)")  # fmt: skip


@pytest.mark.parametrize("name", WORKED)
def test_nothing_overlaps_in_the_picture_of_a_worked_saga(name: str) -> None:
    definition = find_app(f"{ROOT}/sagas/{name}/saga.py:app").definition()
    for machine in build(definition).machines.values():
        assert faults(picture(scheme_of(graph_of(machine)))) == [], machine.name


@pytest.mark.parametrize("name", ["winding", "decides", "many", "nested", "travels"])
def test_nothing_overlaps_where_loops_handlers_scopes_and_called_sagas_meet(name: str) -> None:
    assert faults(picture(scheme_of(graph(getattr(shapes, name))))) == []


@pytest.mark.parametrize("part", range(8))
def test_nothing_overlaps_in_two_hundred_random_machines_of_up_to_120_states(part: int) -> None:
    for seed in range(part * 25, part * 25 + 25):
        machine = random_graph(seed, states=1 + seed * 119 // 199)
        assert faults(picture(scheme_of(machine))) == [], f"seed {seed}"


def test_a_machine_of_120_states_is_drawn_at_once_and_in_bounds() -> None:
    machine = random_graph(7, states=120)
    made = picture(scheme_of(machine))
    assert len(made.boxes) == 1 + len(machine.states) + len(machine.targets)
    assert made.width < 6000
    assert len(svg(machine)) < 600_000


def random_graph(seed: int, states: int) -> Graph:
    """A machine of no program: any kinds, names, scopes and arrows, most of them as programs have them."""
    dice = random.Random(seed)
    labels = [f"{dice.choice(NAMES)}#{n}" for n in range(states)]
    made: dict[str, State] = {}
    scopes: dict[str, tuple[str, ...]] = {}
    parts: dict[str, tuple[str, ...]] = {}
    open_scopes: list[str] = []
    for n, label in enumerate(labels):
        kind = dice.choice(KINDS) if dice.random() < 0.5 else "command"
        made[label] = State(label=label, kind=kind, index=n + 1, operation=f"{kind} {label}", line=n)
        if dice.random() < 0.1 and len(open_scopes) < 3:
            open_scopes.append(f"scope {n}")
        elif dice.random() < 0.2 and open_scopes:
            open_scopes.pop()
        if open_scopes:
            scopes[label] = tuple(open_scopes)
        if kind == "all":
            parts[label] = tuple(f"part {i} of it" for i in range(dice.randint(1, 6)))
    ends = ["return Done", "return Rejected", "raise StepFailed", "parked"]
    edges = [Edge(source=START, target=labels[0], cause="")]
    for n, label in enumerate(labels):
        onward = labels[n + 1] if n + 1 < states else "return Done"
        edges.append(Edge(source=label, target=onward, cause=dice.choice(("ok", "CardCharged", ""))))
        for _ in range(dice.choice((0, 0, 1, 1, 2, 3))):
            far = dice.choice([*labels[max(0, n - 4) : n + 8], *ends, labels[-1]])
            cause = " | ".join(
                ["after 30s", "CardDeclined", "the card was declined by the bank"][: dice.randint(0, 3)]
            )
            edges.append(Edge(source=label, target=far, cause=cause, failure=dice.random() < 0.6))
    undos = tuple((label, f"Undo{n}") for n, label in enumerate(labels) if dice.random() < 0.4)
    pivot = dice.choice(edges)
    return Graph(
        name=f"random{seed}",
        graph="k7Q2",
        states=made,
        edges=tuple(edges),
        undos=undos,
        pivots=frozenset({(pivot.source, pivot.target)}),
        parts=parts,
        scopes=scopes,
    )


@pytest.mark.parametrize("file", ["order/saga.py", "order/observed.py", "travel/saga.py", "claim/saga.py"])
def test_nothing_overlaps_in_the_picture_of_a_choreography(file: str) -> None:
    made = find_app(f"{ROOT}/sagas/{file}:app").definition()
    modes = [(use.saga.name, use.mode, use.on_late) for use in made.sagas]
    scheme = scheme_of_all(choreography(made.namespace, build(made).machines, modes, made.services))
    assert faults(picture(scheme)) == []
