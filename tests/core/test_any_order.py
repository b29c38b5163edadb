"""Any inputs in any order: replies good, bad, late and repeated, timers, operators. No crash, no step undone twice, an end."""

from __future__ import annotations

import random
from typing import Any

import pytest

from contrapas.core.timers import timers
from contrapas.core.undo import walk
from tests.core import test_compiled as sagas
from tests.core.shop import OrderPlaced
from tests.core.stage import Stage

K = sagas.K
DEFECTS = {"CP901", "CP847"}


def reply_of(on: Stage, name: str, rng: random.Random) -> Any:
    """Some reply of a command."""
    chosen = rng.choice(on.world.types.messages[name].replies)
    cls: Any = on.world.types.messages[chosen].cls
    values = {"order_id": K, "charge_id": "ch-1", "reason": "no"}
    return cls(**{n: values[n] for n in cls.model_fields if n in values})


def move(on: Stage, rng: random.Random, past: list[tuple[str, str]]) -> None:
    """One random input."""
    pending = list(on.record.operations())
    flying = [p for p in pending if p.retry_at is None]
    chance = rng.random()
    if chance < 0.55 and flying:
        p = rng.choice(flying)
        past.append((p.key, p.name))
        if p.kind == "local":
            good = rng.random() < 0.7
            step = on.world.types.steps[p.name]
            value = {"price": 1, "take_seat": "s", "free_seat": None}[step.name]
            event = on._input(  # pyright: ignore[reportPrivateUsage]
                "result", in_reply_to=p.key, outcome="ok" if good else "error", attempt=p.attempt
            )
            event.position, event.digest = "", b""
            if good:
                event.body = step.result.dump(value)
            else:
                event.error = on.world.types.dump_exception(ValueError("away"))
            on.feed(event)
        elif rng.random() < 0.9:
            on.reply(reply_of(on, p.name, rng), key=p.key)
        else:
            on.feed(on._input("reply", in_reply_to=p.key, outcome="error", reason="away"))  # pyright: ignore[reportPrivateUsage]
    elif chance < 0.65 and past:
        key, name = rng.choice(past)
        if name in on.world.types.messages:
            on.reply(reply_of(on, name, rng), key=key)
    elif chance < 0.8:
        due = timers(on.record)
        if due and all(not t.name.startswith("retention") for t in due):
            on.later(max(0, min(t.at for t in due) - on.now))
    elif chance < 0.86:
        on.event(reply_of(on, rng.choice(["ChargeCard", "ReserveStock", "ShipOrder", "RefundCard"]), rng))
    else:
        verbs = ["pause", "resume", "retry", "skip", "retry", "skip"] + (
            ["cancel", "kill"] if rng.random() < 0.3 else []
        )
        on.operate(rng.choice(verbs), "by chance")


def ended(on: Stage) -> bool:
    return on.status in ("done", "compensated", "failed")


@pytest.mark.parametrize("mode", ["orchestrate", "compensate"])
@pytest.mark.parametrize("seed", range(60))
def test_whatever_comes_an_instance_keeps_its_rules(seed: int, mode: str) -> None:
    """U3, U12, X10, purity (the stage watches it), I-27, I-31."""
    rng = random.Random(seed)
    choices: list[Any] = [sagas.place_order, sagas.scoped, sagas.seats]
    definition = rng.choice(choices)
    observe = mode == "compensate" and definition is sagas.place_order
    on = Stage(
        *sagas.compiled(definition, sagas.seat),
        registry=sagas.REGISTRY,
        mode="observe" if observe else "orchestrate",
        on_late="compensate",
    )
    on.start(OrderPlaced(order_id=K, cents=2))
    past: list[tuple[str, str]] = []
    for _ in range(60):
        if ended(on):
            break
        move(on, rng, past)
        record = on.record
        if record.parked is not None:
            assert record.parked.code not in DEFECTS, record.parked
    settle_down(on, past, rng)
    record = on.record
    assert not list(record.operations()) and not record.owed and not list(walk(record.root.undo))
    ids: dict[bytes, set[str]] = {}
    for message in on.sent:
        undoes = dict(message.headers).get("cp-undoes")
        if undoes is not None:
            ids.setdefault(undoes, set()).add(message.id)
    assert all(len(known) == 1 for known in ids.values()), "a step was undone under two keys"


def settle_down(on: Stage, past: list[tuple[str, str]], rng: random.Random) -> None:
    """Faults stop: everything is answered well, operators help where they must. Then it ends in bounded time."""
    for _ in range(80):
        if ended(on):
            return
        record = on.record
        if record.paused:
            on.operate("resume")
        elif record.parked is not None:
            assert record.parked.code not in DEFECTS, record.parked
            on.operate("skip" if rng.random() < 0.5 or record.parked.code == "CP709" else "retry", "helped")
        else:
            flying = [p for p in record.operations() if p.retry_at is None]
            if flying and flying[0].kind == "local":
                value = {"price": 1, "take_seat": "s", "free_seat": None}[flying[0].name]
                on.result(value, key=flying[0].key) if flying[0].key in {
                    c.key for c in on.calls
                } else on.operate("pause")
            elif flying:
                cls: Any = on.world.types.messages[flying[0].types[0]].cls
                values = {"order_id": K, "charge_id": "ch-1"}
                on.reply(cls(**{n: values[n] for n in cls.model_fields if n in values}), key=flying[0].key)
            else:
                due = timers(record)
                assert due, (record.status, record.root)
                on.later(max(0, min(t.at for t in due) - on.now))
    raise AssertionError(f"it does not end: {on.status} {on.record.root}")
