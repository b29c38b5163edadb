"""Attempts: back-off as state, limits over all attempts, keys (R2), and the ten words of a status."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas.author.op import Op
from contrapas.author.retry import Retry
from contrapas.core.envelope import (
    Cause,
    Frame,
    InstanceRecord,
    Join,
    Node,
    Parked,
    Pending,
    UndoEntry,
    Unwinding,
)
from contrapas.core.status import status_of
from contrapas.errors import OpaqueError, StepFailed
from contrapas.machine import Machine
from tests.core.lines import Await, Make, machine
from tests.core.shop import (
    REGISTRY,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    OutOfStock,
    SeatTaken,
    ShipOrder,
    free_seat,
    price,
    take_seat,
)
from tests.core.stage import Stage

K = "o-9"


def order(op: Make, kind: str = "local", **more: Any) -> Machine:
    return machine(
        "place_order",
        [
            Await(label="step", kind=kind, op=op, into="got", catch=(StepFailed,), handler=1),
            Await(label="sleep", kind="sleep", op=lambda e, s: s.sleep("1h")),
        ],
        REGISTRY,
        slots={"order": OrderPlaced, "got": Any, "why": StepFailed},
        result=lambda e, s: OrderConfirmed(order_id=K),
        **more,
    )


def why(stage: Stage) -> StepFailed:
    found: StepFailed = REGISTRY.codec(StepFailed).load(stage.record.root.frames[0].slots["why"])
    return found


def test_a_failed_attempt_is_one_record_and_the_next_one_starts_after_its_timer() -> None:
    stage = Stage(order(lambda e, s: price(K)))
    stage.start()
    stage.fails(ValueError("away"))
    pending = stage.pending()
    assert stage.status == "retrying" and (pending.attempt, pending.retry_at) == (1, stage.now + 1000)
    assert pending.error == "ValueError: away" and stage.reissued() == []
    stage.later(1000)
    assert stage.status == "running" and stage.calls[-1].attempt == 2
    stage.fails(ValueError("away"))
    assert stage.pending().retry_at == stage.now + 2000
    stage.later(2000)
    assert len({c.key for c in stage.calls}) == 1
    stage.fails(ValueError("away"))
    assert stage.record.state == "sleep"
    failure = why(stage)
    assert (failure.step, failure.reason, failure.unknown) == ("step", "ValueError: away", True)
    assert isinstance(failure.__cause__, ValueError)


def test_an_unregistered_exception_comes_as_opaque() -> None:
    """X1."""

    class Strange(Exception):
        pass

    stage = Stage(order(lambda e, s: price(K)))
    stage.start()
    for _ in range(3):
        stage.fails(Strange("odd"))
        stage.later(10_000)
    cause = why(stage).__cause__
    assert isinstance(cause, OpaqueError) and cause.message == "odd"


def test_a_step_that_raises_step_failed_fails_definitely_without_another_attempt() -> None:
    """Section 2, X1: the subclass itself arrives."""
    stage = Stage(order(lambda e, s: take_seat(K)))
    stage.start()
    stage.fails(SeatTaken("sold"))
    assert stage.record.state == "sleep" and stage.undo("step").status == "failed"
    failure = why(stage)
    assert isinstance(failure, SeatTaken) and (failure.step, failure.unknown) == ("step", False)


def test_an_answer_of_an_older_attempt_settles_if_good_and_is_nothing_if_bad() -> None:
    stage = Stage(order(lambda e, s: price(K)))
    stage.start()
    stage.fails(ValueError("away"))
    stage.later(1000)
    assert stage.fails(ValueError("late"), attempt=1).verdict == "no-op"
    assert stage.pending().attempt == 2
    stage.result(7)
    assert stage.record.state == "sleep"


def test_within_covers_all_attempts_and_then_the_outcome_is_unknown() -> None:
    def op(env: Any, s: Any) -> Op[Any]:
        made: Op[Any] = s.step(take_seat(K), within="40s", retry=Retry(100, backoff="30s"))
        return made

    stage = Stage(order(op))
    stage.start()
    stage.fails(ValueError("away"))
    stage.later(30_000)
    stage.fails(ValueError("away"))
    stage.later(10_000)
    assert stage.record.state == "sleep" and stage.undo("step").status == "unknown"
    assert why(stage).reason == "timeout after 40s"


def test_a_command_unanswered_for_each_is_sent_again_under_the_same_id() -> None:
    def op(env: Any, s: Any) -> Op[Any]:
        made: Op[Any] = s.step(ShipOrder(order_id=K), retry=Retry(2, backoff="1s", each="10s"))
        return made

    stage = Stage(order(op, "command"))
    stage.start()
    stage.later(10_000)
    assert stage.status == "retrying"
    stage.later(1_000)
    first, second = stage.took("ShipOrder")
    assert first.id == second.id and dict(second.headers)["cp-attempt"] == b"2"
    stage.later(10_000)
    assert stage.record.state == "sleep" and why(stage).reason == "no answer in 2 attempts"


def test_a_command_without_retry_is_sent_once_and_a_handler_that_gave_up_leaves_it_unknown() -> None:
    stage = Stage(order(lambda e, s: s.step(ChargeCard(order_id=K), undo=None), "command"))
    stage.start()
    stage.gave_up()
    assert why(stage).unknown and why(stage).reason == "database away"


def test_ask_gives_the_failure_and_the_timeout_as_values() -> None:
    for act in ("reply", "timer"):
        stage = Stage(order(lambda e, s: s.ask(ShipOrder(order_id=K), within="5s"), "ask"))
        stage.start()
        stage.reply(OutOfStock(order_id=K)) if act == "reply" else stage.later(5_000)
        assert stage.record.state == "sleep" and "why" not in stage.record.root.frames[0].slots


def test_ask_waits_for_the_end_of_its_limit_when_its_attempts_are_used_up() -> None:
    def op(env: Any, s: Any) -> Op[Any]:
        made: Op[Any] = s.ask(ShipOrder(order_id=K), within="60s", retry=Retry(2, backoff="1s", each="10s"))
        return made

    stage = Stage(order(op, "ask"))
    stage.start()
    for ms in (10_000, 1_000, 10_000):
        stage.later(ms)
    assert stage.record.state == "step" and len(stage.took("ShipOrder")) == 2
    stage.later(39_000)
    assert stage.record.state == "sleep" and "why" not in stage.record.root.frames[0].slots


def test_after_a_takeover_what_is_pending_is_issued_again_under_the_same_key() -> None:
    """Crash rows 4 and 5."""
    stage = Stage(order(lambda e, s: price(K)))
    stage.start()
    (again,) = stage.reissued()
    assert (again.key, again.attempt, again.body) == (stage.calls[0].key, 1, stage.calls[0].body)
    assert again.epoch == 2


def test_a_label_issued_twice_in_one_transition_has_a_number_after_the_visit() -> None:
    """R2."""
    seat = machine(
        "seat",
        [Await(label="take_seat", kind="local", op=lambda e, s: take_seat(K), into="got")],
        REGISTRY,
        slots={"order": OrderPlaced, "got": str},
    )
    root = machine(
        "place_order",
        [
            Await(
                label="all(seat,seat)",
                kind="all",
                op=lambda e, s: s.all(
                    Op("frame", "seat", ((e["order"],), {})), Op("frame", "seat", ((e["order"],), {}))
                ),
            ),
            Await(label="ShipOrder", op=lambda e, s: s.step(ShipOrder(order_id=K))),
        ],
        REGISTRY,
        slots={"order": OrderPlaced},
    )
    stage = Stage(root, seat)
    stage.start()
    keys = [p.key.split("/", 3)[3] for p in stage.record.operations()]
    assert keys == ["take_seat[0]/1", "take_seat[1]/1"]
    for p in list(stage.record.operations()):
        stage.result("s", key=p.key)
    stage.reply(OutOfStock(order_id=K))
    keys = [p.key.split("/", 3)[3] for p in stage.record.operations()]
    assert keys == ["undo(take_seat)/4", "undo(take_seat)/4.1"]
    assert free_seat is not None


def bare(**changes: Any) -> InstanceRecord:
    """A waiting record with some fields set."""
    values: dict[str, Any] = {
        "instance": "s/k",
        "saga": "s",
        "key": "k",
        "version": 1,
        "epoch": 1,
        "writer": "w",
        "run": "r",
        "mode": "orchestrate",
        "status": "waiting",
        "root": Node(frames=[Frame(saga="s", graph="g", label="x", slots={})], pending=op("command")),
        "cause": Cause(kind="event", type="x"),
        "at": 1,
        "started_at": 1,
    }
    return InstanceRecord(**(values | changes))


def op(kind: str, **more: Any) -> Pending:
    return Pending(key="k", label="l", visit=1, kind=kind, name="n", **more)


OWED = UndoEntry(number=0, label="l", visit=1, key="k", status="owed", kind="command", name="n")
PARKED = Parked(reason="bug", code="CP847", error="e")
UNWINDING = Unwinding(floor=0, then="resume")
JOINED = Node(
    join=Join(
        kind="all",
        label="j",
        visit=1,
        fail_fast=False,
        children=[Node(result="1"), Node(pending=op("local"))],
    )
)


@pytest.mark.parametrize(
    ("word", "changes"),
    [
        ("parked", {"parked": PARKED, "paused": True, "ended_at": 1}),
        ("paused", {"paused": True}),
        ("done", {"ended_at": 1, "outcome": "X"}),
        ("done", {"ended_at": 1}),
        ("compensated", {"ended_at": 1, "unwound": True, "outcome": "X"}),
        ("compensated", {"ended_at": 1, "unwound": True, "undone": True, "error": "e"}),
        ("failed", {"ended_at": 1, "unwound": True, "error": "e"}),
        ("settling", {"ended_at": 1, "outcome": "X", "owed": [OWED]}),
        ("unwinding", {"root": Node(unwinding=UNWINDING)}),
        ("retrying", {"root": Node(pending=op("local", retry_at=5))}),
        ("running", {"root": Node(pending=op("local"))}),
        ("running", {"root": JOINED}),
        ("waiting", {}),
        ("waiting", {"root": Node(pending=op("sleep", deadline=5))}),
    ],
)
def test_the_status_is_the_first_word_that_holds(word: str, changes: dict[str, Any]) -> None:
    """The ten words of a status."""
    assert status_of(bare(**changes)) == word
