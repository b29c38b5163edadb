"""The straight path gives what the general path gives, over random sagas of local steps; it falls back where it must."""

from __future__ import annotations

import random
from typing import Any
from unittest.mock import patch

import pytest

from contrapas.author.op import Op
from contrapas.author.retry import Retry
from contrapas.core.straight import straight
from contrapas.errors import StepFailed
from contrapas.machine import Machine
from tests.core import shop
from tests.core.lines import Await, Make, machine
from tests.core.shop import OrderPlaced
from tests.core.stage import Stage

PLACED = OrderPlaced(order_id="o-9", cents=1)


def local(rng: random.Random) -> Make:
    """An await of a local step, with whatever may stand on its line."""
    price = rng.random() < 0.5
    more: dict[str, Any] = {}
    if rng.random() < 0.3:
        more["within"] = rng.choice(["1m", "2h"])
    if rng.random() < 0.3:
        more["retry"] = Retry(3, backoff="1s..10s")
    more["undo"] = rng.choice([None, shop.price("x"), shop.ReleaseStock(order_id="o-9")])
    plain = rng.random() < 0.4

    def op(env: dict[str, Any], s: Any) -> Op[Any]:
        step = shop.price(env["order"].order_id) if price else shop.take_seat("s\u00e9at")
        return step if plain else s.step(step, **more)

    return op


def said(rng: random.Random) -> Any:
    """Something a stretch says on its way, or what it raises."""
    what = rng.choice(["", "", "", "", "emit", "pivot", "deadline", "raise"])

    def then(env: dict[str, Any], s: Any) -> int | None:
        if what == "emit":
            s.emit(shop.OrderConfirmed(order_id="o-9"))
        elif what == "pivot":
            s.point_of_no_return()
        elif what == "deadline":
            s.deadline("1h")
        elif what == "raise":
            raise StepFailed("no")
        return None

    return then


def command(env: dict[str, Any], s: Any) -> Op[Any]:
    op: Op[Any] = s.step(shop.ReserveStock(order_id="o-9"), undo=shop.ReleaseStock(order_id="o-9"))
    return op


def nap(env: dict[str, Any], s: Any) -> Op[Any]:
    op: Op[Any] = s.sleep("1m")
    return op


def both(env: dict[str, Any], s: Any) -> Op[Any]:
    op: Op[Any] = s.all(shop.price("a"), shop.price("b"))
    return op


def saga(rng: random.Random) -> Machine:
    """A saga of local steps, commands and waits, mostly local steps."""
    awaits: list[Await] = []
    for number in range(rng.randint(1, 6)):
        other = rng.random()
        make = local(rng)
        if other < 0.3:
            make = command
        elif other < 0.35:
            make = nap
        elif other < 0.4:
            make = both
        catch = (StepFailed,) if rng.random() < 0.2 else ()
        awaits.append(
            Await(label=f"a{number}", op=make, into=rng.choice(["_", "word"]), catch=catch,
                  handler=number + 1, then=said(rng))
        )  # fmt: skip
    return machine(
        "place_order", awaits, shop.REGISTRY, slots={"order": OrderPlaced, "n": int},
        result=lambda env, s: shop.OrderConfirmed(order_id="o-9"),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(150))
def test_whatever_happens_to_a_saga_of_local_steps_both_paths_write_the_same(seed: int) -> None:
    rng = random.Random(seed)
    stage = Stage(saga(rng))
    stage.start(PLACED)
    for _ in range(40):
        if stage.value is None or stage.record.ended_at is not None:
            break
        flying = list(stage.record.operations())
        if stage.record.parked is not None or not flying:
            break
        pending = rng.choice(flying)
        stage.now += rng.randint(0, 5_000)
        roll = rng.random()
        if roll < 0.1:
            stage.later(120_000)
        elif pending.kind == "local" and pending.retry_at is None:
            if roll < 0.2:
                stage.fails(
                    StepFailed("no") if roll < 0.15 else ValueError("x"), key_label(stage, pending.key)
                )
            else:
                value = (
                    rng.randint(-5, 1 << 40)
                    if pending.name == "price"
                    else rng.choice(["s1", "s\u00e9", '"$id"'])
                )
                stage.result(
                    value if pending.name == "price" else result_of(pending.name, value), key=pending.key
                )
        elif pending.kind == "command" and pending.name == "ReserveStock":
            stage.reply(shop.StockReserved(order_id="o-9"), key=pending.key)
        elif pending.kind == "command" and pending.name == "ReleaseStock":
            stage.reply(shop.StockReleased(order_id="o-9"), key=pending.key)
        else:
            stage.later(120_000)


def key_label(stage: Stage, key: str) -> str:
    return next(p.label for p in stage.record.operations() if p.key == key)


def result_of(name: str, value: Any) -> Any:
    return None if name == "free_seat" else value


def test_a_result_after_the_point_of_no_return_finds_its_undo_gone() -> None:
    stage = Stage(
        machine(
            "place_order",
            [
                Await(label="one", op=both),
                Await(label="seat", op=lambda env, s: shop.take_seat("s1"), into="_"),
                Await(label="two", op=lambda env, s: shop.price("c")),
            ],
            shop.REGISTRY,
            slots={"order": OrderPlaced},
        )
    )
    stage.start(PLACED)
    for pending in list(stage.record.operations()):
        stage.result(1, key=pending.key)
    stage.result("s1")
    stage.result(2)
    assert stage.status == "done"


def test_the_straight_path_is_the_one_that_is_walked() -> None:
    stage = Stage(
        machine(
            "place_order",
            [Await(label=f"a{n}", op=lambda env, s: shop.price("x")) for n in range(4)],
            shop.REGISTRY,
            slots={"order": OrderPlaced},
        )
    )
    taken: list[bool] = []

    def watch(*args: Any) -> Any:
        made = straight(*args)
        taken.append(isinstance(made, tuple))
        return made

    stage.start(PLACED)
    with patch("contrapas.core.transition.straight", watch):
        for _ in range(4):
            stage.result(5)
    assert taken[::2] == taken[1::2] == [True, True, True, False], "the last one ends the saga"
