"""`all` and `first`: rules X7 and X8, nesting, and what lies in the record meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from contrapas.author.op import Op
from contrapas.errors import Cancelled, StepFailed
from contrapas.machine import Machine
from tests.core import shop
from tests.core.lines import Await, Env, Make, machine
from tests.core.shop import (
    REGISTRY,
    Approved,
    CardCharged,
    CardDeclined,
    CardRefunded,
    ChargeCard,
    OrderConfirmed,
    OrderPlaced,
    OutOfStock,
    RefundCard,
    Rejected,
    ReleaseStock,
    ReserveStock,
    StockReleased,
    StockReserved,
)
from tests.core.stage import Stage

K = "o-9"
CHARGED = CardCharged(order_id=K, charge_id="ch-1")
RESERVED = StockReserved(order_id=K)


def saga(op: Make, *more: Await, kind: str = "all", catch: bool = False, **options: Any) -> Machine:
    """A saga that joins once; `text` keeps what came of it."""
    first = Await(
        label="join",
        kind=kind,
        op=op,
        into="got",
        catch=(StepFailed, Cancelled) if catch else (),
        handler=1 + len(more),
    )
    return machine(
        "place_order",
        [first, *more],
        REGISTRY,
        slots={"order": OrderPlaced, "why": Any, "got": Any},
        result=lambda e, s: OrderConfirmed(order_id=K, note=text(e)),
        **options,
    )


def text(env: Env) -> str:
    why = env.get("why")
    if why is not None:
        return f"{type(why).__name__} {getattr(why, 'step', '')} {getattr(why, 'reason', why)}"
    got: Any = env["got"]
    if not isinstance(got, (list, tuple)):
        return type(got).__name__
    parts: list[Any] = [*got]
    words = [str(v) if isinstance(v, int) else type(v).__name__ for v in parts]
    return " ".join(["list" if isinstance(got, list) else "tuple", *words])


def both(env: Env, s: Any, fail_fast: bool = False) -> Op[Any]:
    made: Op[Any] = s.all(
        s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K)),
        s.step(ReserveStock(order_id=K), undo=ReleaseStock(order_id=K)),
        fail_fast=fail_fast,
    )
    return made


def note(stage: Stage) -> str:
    import json

    return str(json.loads(stage.record.outcome_body)["note"])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.case(62, "`all`: every completion order, two failures, failure with a pending sibling")
def test_all_waits_for_every_branch_and_gives_results_by_position(turned: bool) -> None:
    """X7, case 62; R2: the position stands after the label of the key."""
    stage = Stage(saga(both))
    stage.start()
    run = stage.record.run
    assert [p.key for p in stage.record.operations()] == [
        f"place_order/o-9/{run}/ChargeCard[0]/1",
        f"place_order/o-9/{run}/ReserveStock[1]/1",
    ]
    replies = [(CHARGED, "ChargeCard"), (RESERVED, "ReserveStock")]
    for reply, label in reversed(replies) if turned else replies:
        stage.reply(reply, label)
    assert stage.status == "done" and note(stage) == "tuple CardCharged StockReserved"


@pytest.mark.case(62, "`all`: every completion order, two failures, failure with a pending sibling")
def test_all_raises_the_failure_at_the_first_position_when_all_have_ended() -> None:
    """X7, case 62: two failures."""
    stage = Stage(saga(both, catch=True))
    stage.start()
    stage.reply(OutOfStock(order_id=K), "ReserveStock")
    assert stage.status == "waiting"
    stage.reply(CardDeclined(order_id=K, reason="limit"), "ChargeCard")
    assert note(stage) == "StepFailed ChargeCard limit"


def test_fail_fast_cancels_the_rest_first() -> None:
    """X7; the cancelled step is unknown, so it is undone."""
    stage = Stage(saga(lambda e, s: both(e, s, fail_fast=True)))
    stage.start()
    stage.reply(OutOfStock(order_id=K), "ReserveStock")
    assert stage.status == "unwinding" and stage.labels() == ["undo(ChargeCard)"]
    stage.reply(CardRefunded(order_id=K))
    assert stage.status == "compensated" and "ReserveStock: OutOfStock" in stage.record.error


@pytest.mark.case(63, "nested, empty, starred `all`")
def test_all_of_nothing_is_passed_at_once() -> None:
    """Case 63."""
    stage = Stage(saga(lambda e, s: s.all(*[])))
    stage.start()
    assert stage.status == "done" and note(stage) == "list"


def test_a_list_of_operations_gives_a_list() -> None:
    """Section 2: tuple or list, by position."""
    stage = Stage(saga(lambda e, s: s.all(*[shop.price(K), shop.price(K)])))
    stage.start()
    keys = [p.key for p in stage.record.operations()]
    assert len(set(keys)) == 2 and stage.status == "running"
    stage.result(1, key=keys[0])
    stage.result(2, key=keys[1])
    assert note(stage) == "list 1 2"


@pytest.mark.case(64, "`first`: same batch, failing winner, late loser")
def test_the_first_to_end_wins_and_what_the_others_registered_is_taken_back_before() -> None:
    """X8, case 64."""

    def race(env: Env, s: Any) -> Op[Any]:
        made: Op[Any] = s.first(
            s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K)),
            s.step(ReserveStock(order_id=K), undo=ReleaseStock(order_id=K)),
        )
        return made

    stage = Stage(saga(race, kind="first"))
    stage.start()
    stage.reply(RESERVED, "ReserveStock")
    assert stage.status == "unwinding" and stage.labels() == ["undo(ChargeCard)"]
    stage.reply(CardRefunded(order_id=K))
    assert stage.status == "done" and note(stage) == "StockReserved"
    assert not stage.took("ReleaseStock")


@pytest.mark.case(64, "`first`: same batch, failing winner, late loser")
def test_a_failing_winner_of_first_is_raised() -> None:
    """X8, case 64."""
    stage = Stage(
        saga(lambda e, s: s.first(s.step(ChargeCard(order_id=K)), s.wait(Approved)), kind="first", catch=True)
    )
    stage.start()
    stage.reply(CardDeclined(order_id=K, reason="limit"), "ChargeCard")
    assert note(stage) == "StepFailed ChargeCard limit"


def test_a_timer_in_first_is_a_limit() -> None:
    stage = Stage(saga(lambda e, s: s.first(s.wait(Approved, Rejected), s.sleep("1h")), kind="first"))
    stage.start()
    stage.later(3_600_000)
    assert stage.status == "done" and note(stage) == "NoneType"


@pytest.mark.case(63, "nested, empty, starred `all`")
def test_joins_nest() -> None:
    """Case 63."""

    def nested(env: Env, s: Any) -> Op[Any]:
        made: Op[Any] = s.all(
            s.first(s.wait(Approved), s.sleep("1h")), s.all(shop.price(K), s.step(ChargeCard(order_id=K)))
        )
        return made

    stage = Stage(saga(nested))
    stage.start()
    assert [p.key.split("/")[3] for p in stage.record.operations()] == [
        "wait(Approved)[0][0]",
        "sleep[0][1]",
        "price[1][0]",
        "ChargeCard[1][1]",
    ]
    stage.event(Approved(order_id=K))
    stage.reply(CHARGED, "ChargeCard")
    stage.result(3)
    assert stage.status == "done" and note(stage) == "tuple Approved tuple"


@pytest.mark.case(66, "cancel in body, handler, `finally`, undo, branch")
def test_a_cancel_reaches_every_branch_and_the_join_raises_it() -> None:
    """X9."""
    stage = Stage(saga(both, catch=True))
    stage.start()
    stage.operate("cancel")
    assert stage.status == "done" and note(stage) == "Cancelled  cancelled"


def test_a_cancelled_join_that_nobody_catches_unwinds_its_branches_side_by_side() -> None:
    """X9, U5."""
    stage = Stage(saga(both))
    stage.start()
    stage.reply(CHARGED, "ChargeCard")
    stage.operate("cancel")
    assert sorted(stage.labels()) == ["undo(ChargeCard)", "undo(ReserveStock)"]
    stage.reply(StockReleased(order_id=K), "undo(ReserveStock)")
    stage.reply(CardRefunded(order_id=K), "undo(ChargeCard)")
    assert stage.status == "compensated"


def test_called_sagas_are_branches_with_locals_and_undo_stacks_of_their_own() -> None:
    """R1, U5: each branch backwards, the branches side by side."""
    pay = machine(
        "pay",
        [
            Await(
                label="ChargeCard",
                op=lambda e, s: s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K)),
            ),
            Await(label="price", kind="local", op=lambda e, s: shop.price(K), into="n"),
        ],
        REGISTRY,
        slots={"order": OrderPlaced, "n": int},
        result=lambda e, s: e["n"],
        result_type=int,
    )
    root = saga(
        lambda e, s: s.all(
            Op("frame", "pay", ((e["order"],), {})),
            s.step(ReserveStock(order_id=K), undo=ReleaseStock(order_id=K)),
        )
    )
    stage = Stage(root, pay)
    stage.start()
    stage.reply(CHARGED, "ChargeCard")
    assert stage.calls[-1].key.endswith("/price[0]/2")
    stage.reply(OutOfStock(order_id=K), "ReserveStock")
    stage.result(5)
    assert stage.status == "unwinding" and stage.labels() == ["undo(ChargeCard)"]
    stage.reply(CardRefunded(order_id=K))
    assert stage.status == "compensated"


@pytest.mark.case(66, "cancel in body, handler, `finally`, undo, branch")
def test_a_branch_may_clean_up_while_it_is_given_up() -> None:
    """X8, X9: handlers of a loser may await."""
    tidy = machine(
        "tidy",
        [
            Await(
                label="ChargeCard",
                op=lambda e, s: s.step(ChargeCard(order_id=K), undo=RefundCard(order_id=K)),
                catch=(Cancelled,),
                handler=1,
            ),
            Await(label="price", kind="local", op=lambda e, s: shop.price(K)),
        ],
        REGISTRY,
        slots={"order": OrderPlaced, "why": Any},
        result_type=None,
    )
    root = saga(
        lambda e, s: s.first(Op("frame", "tidy", ((e["order"],), {})), s.wait(Approved)), kind="first"
    )
    stage = Stage(root, tidy)
    stage.start()
    stage.event(Approved(order_id=K))
    assert stage.labels() == ["price"]
    stage.result(1)
    assert stage.status == "unwinding" and stage.labels() == ["undo(ChargeCard)"]
    stage.reply(CardRefunded(order_id=K))
    assert stage.status == "done" and note(stage) == "Approved"
