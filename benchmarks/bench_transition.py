"""What one transition costs, encoding included: a command's reply that issues a local step, after two steps with undo.

Prints JSON lines: microseconds per transition and per encode, bytes of the record, best rounds; then the budgets of
compiled code, each with its target: resume to next await, with slots of 0.5 kB, with 20 kB of state of which one slot is
touched, and the 10,000th transition of an instance against the 10th.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from contrapas import App, Event, Saga, saga, step
from contrapas.author.saga import Activation
from contrapas.core.envelope import Cause, InstanceRecord
from contrapas.core.envelope_avro import decode, encode
from contrapas.core.fresh import fresh_result
from contrapas.core.headers import headers_of
from contrapas.core.outcomes import dump_body
from contrapas.core.transition import transition
from contrapas.core.world import Input, Transition, World
from contrapas.runtime.build import build
from tests.core import shop
from tests.core.lines import Await, machine
from tests.core.stage import Stage

ORDER = machine(
    "place_order",
    [
        Await(
            label="ChargeCard",
            op=lambda env, s: s.step(
                shop.ChargeCard(order_id="o-9", cents=1), undo=shop.RefundCard(order_id="o-9")
            ),
            into="ok",
        ),
        Await(
            label="ReserveStock",
            op=lambda env, s: s.step(
                shop.ReserveStock(order_id="o-9"), undo=shop.ReleaseStock(order_id="o-9"), within="1m"
            ),
            into="stock",
        ),
        Await(label="price", kind="local", op=lambda env, s: shop.price(env["order"].order_id), into="n"),
        Await(
            label="ShipOrder",
            op=lambda env, s: s.step(shop.ShipOrder(order_id="o-9"), undo=None),
            into="parcel",
        ),
    ],
    shop.REGISTRY,
    slots={
        "order": shop.OrderPlaced,
        "ok": shop.CardCharged,
        "stock": shop.StockReserved,
        "n": int,
        "parcel": shop.Shipped,
    },
    result=lambda env, s: shop.OrderConfirmed(order_id="o-9"),
)


def timed(what: Callable[[], Any], *, rounds: int = 15, calls: int = 1000) -> float:
    """Best microseconds of CPU per call."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            what()
        best = min(best, (time.process_time() - began) / calls * 1e6)
    return best


class Line(BaseModel, frozen=True):
    """One line of a large order."""

    sku: str
    cents: int
    note: str


class Begun(Event, key="id"):
    """Starts the sagas below."""

    id: str
    lines: tuple[Line, ...] = ()


@step(undo=None)
async def look(number: int) -> Line:
    """A local step."""
    return Line(sku=f"mug-{number}", cents=number, note="x" * 60)


@saga(name="small")
async def small(s: Saga, e: Begun) -> None:
    first = await look(1)
    second = await look(first.cents)
    third = await look(first.cents + second.cents)
    await look(third.cents)


@saga(name="large")
async def large(s: Saga, e: Begun) -> None:
    number = 0
    while number < 20_000:
        found = await look(number)
        number = found.cents + 1
    await look(len(e.lines))


def budgets() -> None:
    """The rows of compiled code, beside their targets."""
    app = App("bench-transition")
    app.orchestrate(small, large)
    world = build(app.definition())
    lines = tuple(Line(sku=f"mug-{n}", cents=n, note="y" * 60) for n in range(200))
    few, many = Begun(id="a", lines=lines[:2]), Begun(id="a", lines=lines)
    small_at = walked(world, "small", few, 3)
    large_at = walked(world, "large", many, 3)
    plan = world.plans["small"]
    frame = small_at[0].root.frames[0]
    state = plan.by_label[frame.label]
    loaded = state.load(frame)
    s = Saga(Activation("a", "small/a"))
    value = Line(sku="mug-7", cents=7, note="x" * 60)
    result = plan.function(state.index, value, None, loaded, s)
    index: int = result[1]
    after = plan.by_index[index]
    assert after is not None

    def with_slots() -> None:
        given = state.load(frame)
        made = plan.function(state.index, value, None, given, s)
        after.save(state.touches, frame.slots, given, made[3])

    rows: dict[str, tuple[float, float]] = {
        "resume_us": (timed(lambda: plan.function(state.index, value, None, loaded, s)), 1.5),
        "with_slots_us": (timed(with_slots), 10),
        "transition_us": (timed(lambda: transition(*small_at, world)), 30),
        "transition_20_kb_us": (timed(lambda: transition(*large_at, world), calls=300), 20),
        "last_over_first": (growth(world, few), 1.1),
    }
    sizes = {"slots_bytes": sum(map(len, frame.slots.values())), "large_bytes": len(encode(large_at[0]))}
    for name, (got, target) in rows.items():
        line = {
            "bench": f"transition.{name}",
            "value": round(got, 2),
            "target": target,
            "reached": got <= target,
        }
        print(json.dumps(line | sizes))


def started(world: World, name: str, event: Begun) -> Transition:
    """The first transition of an instance."""
    body = event.model_dump_json().encode()
    cause = Cause(kind="start", type="Begun", source="in", id="b", partition=0, offset=1, value=body)
    return transition(
        None, Input(cause=cause, instance=f"{name}/a", at=1_000, body=event, epoch=1, writer="w"), world
    )


def answered(world: World, change: Transition, number: int) -> tuple[InstanceRecord, Input]:
    """A record and the result that its step gives."""
    assert change.record is not None
    value = Line(sku="mug", cents=number, note="x" * 60)
    result = fresh_result(change.steps[0], world.types.steps["look"].result.dump(value), value)
    result.at, result.epoch, result.writer = 1_000 + number, 1, "w"
    return change.record, result


def walked(world: World, name: str, event: Begun, steps: int) -> tuple[InstanceRecord, Input]:
    """An instance after some steps, and its next input."""
    change = started(world, name, event)
    for number in range(1, steps):
        change = transition(*answered(world, change, number), world)
    return answered(world, change, steps)


def growth(world: World, event: Begun) -> float:
    """Time of 100 transitions around the 10,000th, over that of 100 after the 10th: the best of a few of each."""
    change = started(world, "large", event)
    at: dict[int, tuple[InstanceRecord, Input]] = {}
    for number in range(1, 10_001):
        moment = answered(world, change, number)
        if number in (10, 10_000):
            at[number] = moment
        change = transition(*moment, world)
    first, last = (
        min(timed(partial(transition, *at[m], world), rounds=9) for _ in range(3)) for m in (10, 10_000)
    )
    return last / first


def main() -> None:
    stage = Stage(ORDER)
    stage.start()
    stage.reply(shop.CardCharged(order_id="o-9", charge_id="ch-1"))
    record = stage.record
    reply = shop.StockReserved(order_id="o-9")
    body = dump_body(reply).encode()
    headers = record.out[0].headers
    cause = Cause(
        kind="reply",
        type="StockReserved",
        source="in",
        id="x-1",
        partition=0,
        offset=9,
        headers=headers,
        value=body,
    )
    event = Input(
        cause=cause,
        instance=record.instance,
        at=2_000_000,
        type="StockReserved",
        body=reply,
        in_reply_to=stage.pending().key,
        epoch=1,
        writer="w",
        position="in/0",
        digest=b"0" * 16,
    )
    local = transition(record, event, stage.world).record
    assert local is not None
    pending = next(local.operations())
    result = Input(
        cause=Cause(kind="result", type="price", id=pending.key, value=b""),
        instance=record.instance,
        at=2_000_100,
        body="3",
        in_reply_to=pending.key,
        epoch=1,
        writer="w",
    )
    value = encode(local)
    made = {
        "bench": "transition",
        "reply_to_local_us": timed(lambda: transition(record, event, stage.world)),
        "result_to_command_us": timed(lambda: transition(local, result, stage.world)),
        "encode_us": timed(lambda: encode(local)),
        "decode_us": timed(lambda: decode(value)),
        "headers_us": timed(lambda: headers_of(local, value)),
        "bytes": len(value),
    }
    print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in made.items()}))


if __name__ == "__main__":
    main()
    budgets()
