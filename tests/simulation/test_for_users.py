"""`Simulation` over the app of a user: a saga that looks right, the two mistakes in it, and the same one mended."""

from __future__ import annotations

import os
import random
import re
import time
import uuid
from collections import Counter

import pytest

from contrapas import App, Command, Event, Retry, Saga, StepFailed, saga, step
from contrapas.testing import End, Scene, Simulation
from contrapas.testing.simulation.users import VARIABLE, Figures

AGAIN = Retry(20, backoff="50ms..1s")


class Ordered(Event, topic="shop.orders", key="order_id"):
    order_id: str
    cents: int


class Confirmed(Event, topic="shop.events", key="order_id"):
    order_id: str


class Refused(Event, topic="shop.events", key="order_id"):
    order_id: str


class Reserved(Event, topic="stock.events", key="order_id"):
    order_id: str


class SoldOut(Event, topic="stock.events", key="order_id"):
    order_id: str


class Reserve(Command[Reserved, SoldOut], topic="stock.commands", key="order_id"):
    order_id: str


class Freed(Event, topic="stock.events", key="order_id"):
    order_id: str


class Free(Command[Freed], topic="stock.commands", key="order_id"):
    order_id: str


@step(undo=None, retry=AGAIN)
def refund(order_id: str, cents: int) -> None: ...


@step(retry=AGAIN)
def charge(order_id: str, cents: int) -> None: ...


@saga
async def order(s: Saga, o: Ordered) -> Confirmed | Refused:
    """It looks right: each action has its undo, and a failure takes back what was done."""
    try:
        await s.step(charge(o.order_id, o.cents), undo=refund(o.order_id, o.cents))
        await s.step(Reserve(order_id=o.order_id), undo=Free(order_id=o.order_id), within="30s")
    except StepFailed:
        await s.compensate()
        return Refused(order_id=o.order_id)
    return Confirmed(order_id=o.order_id)


app = App("shop")
app.orchestrate(order)


class Till:
    """A payment provider that knows nothing of ours: each call takes money."""

    def __init__(self) -> None:
        self.cents: Counter[str] = Counter()

    def charge(self, order_id: str, cents: int) -> None:
        self.cents[order_id] += cents

    def refund(self, order_id: str, cents: int) -> None:
        self.cents[order_id] -= cents


class Careful(Till):
    """The same behind an idempotency key: once charged, once taken back, and never after it was taken back."""

    def __init__(self) -> None:
        super().__init__()
        self.done: dict[str, str] = {}

    def charge(self, order_id: str, cents: int) -> None:
        if order_id not in self.done:
            self.done[order_id] = "charged"
            super().charge(order_id, cents)

    def refund(self, order_id: str, cents: int) -> None:
        if self.done.get(order_id) == "charged":
            super().refund(order_id, cents)
        self.done[order_id] = "refunded"


def shop(scene: Scene, till: Till) -> None:
    scene.start(lambda n: Ordered(order_id=f"o-{n}", cents=100))
    scene.stub(charge, till.charge)
    scene.stub(refund, till.refund)
    scene.takes_back(Reserve)

    @scene.check
    def everybody_has_paid_for_what_is_confirmed(end: End) -> None:
        for one in end.instances.values():
            assert isinstance(one.event, Ordered)
            due = one.event.cents if isinstance(one.outcome, Confirmed) else 0
            paid = till.cents[one.event.order_id]
            assert paid == due, f"{one.instance} is {one.status}, {paid} cents are paid and {due} due"


def test_a_saga_that_looks_right_charges_twice_when_a_worker_dies_after_its_step() -> None:
    """A mistake that no unit test shows: the step's effect and its record are two things, and a crash comes between."""
    with pytest.raises(AssertionError) as found:
        Simulation(app, lambda scene: shop(scene, Till())).run(worlds=50)
    report = str(found.value)
    assert "everybody_has_paid_for_what_is_confirmed does not hold" in report
    assert "200 cents are paid" in report or "cents are paid" in report
    assert "what went wrong there: " in report and "its last events" in report
    assert re.search(
        rf"repeat: {VARIABLE}='seed=\d+ .*' pytest 'tests/simulation/test_for_users.py::", report
    )


def test_what_a_report_says_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = Simulation(app, lambda scene: shop(scene, Till()))
    with pytest.raises(AssertionError) as found:
        simulation.run(worlds=50)
    words = re.search(rf"repeat: {VARIABLE}='([^']*)'", str(found.value))
    assert words is not None
    monkeypatch.setenv(VARIABLE, words[1])
    with pytest.raises(AssertionError) as again:
        simulation.run()
    first, second = (str(one.value).splitlines() for one in (found, again))
    assert first[0] == second[0] and first[-2] == second[-2]


def test_the_mended_one_holds_in_every_world() -> None:
    figures = Simulation(app, lambda scene: shop(scene, Careful())).run(worlds=12)
    assert figures.worlds > 30 and figures.transitions > 500
    assert figures.faults["crash"] > 15 and figures.faults["unknown commit"] > 0
    assert "nothing wrong" in str(figures)


def test_a_worker_dies_once_at_every_place_that_an_instance_passes() -> None:
    seen: list[Figures] = [Simulation(app, lambda scene: shop(scene, Careful())).run(worlds=0)]
    died = {name for name in seen[0].faults if name.startswith("crash: ")}
    assert {"crash: commit.before", "crash: commit.unread", "crash: commit.undispatched"} <= died
    assert {"crash: takeover.fenced", "crash: takeover.read"} <= died


def test_an_answer_of_the_test_is_given_once_for_each_command_and_time_and_chance_are_the_worlds() -> None:
    asked: Counter[str] = Counter()
    drawn: list[tuple[float, float, str]] = []

    def scene_of(scene: Scene) -> None:
        till = Careful()
        asked.clear()

        def answer(command: Reserve) -> Reserved | SoldOut:
            asked[command.order_id] += 1
            drawn.append((time.time(), random.random(), uuid.uuid4().hex))
            return SoldOut(order_id=command.order_id)

        shop(scene, till)
        scene.reply(Reserve, answer)

        @scene.check
        def nobody_gets_anything(end: End) -> None:
            assert not asked or max(asked.values()) == 1
            assert all(not isinstance(one.outcome, Confirmed) for one in end.instances.values())

    for _ in range(2):
        Simulation(app, scene_of, instances=8).run(worlds=3)
    half = len(drawn) // 2
    assert half and drawn[:half] == drawn[half:]
    assert VARIABLE not in os.environ
