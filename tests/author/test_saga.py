from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contrapas import FOREVER, Command, Event, Op, Retry, Saga, StepFailed, saga, step
from contrapas.author.op import MISSING, NATIVE
from contrapas.author.saga import Activation
from contrapas.errors import Cancelled, DataError


class Paid(Event, topic="pay.events", key="id"):
    id: str


class Declined(Event, topic="pay.events", key="id"):
    id: str


class Pay(Command[Paid, Declined], topic="pay.commands", key="id"):
    id: str


class Refund(Command[Paid], topic="pay.commands", key="id"):
    id: str


@step
async def measure(url: str, twice: bool = False) -> int:
    return len(url) * (2 if twice else 1)


@step(retry=None, timeout="3s", undo=None, name="counted", observe=True)
def count(url: str) -> int:
    return len(url)


@saga(name="other", deadline="5d", late_replies="1h", retention=timedelta(days=1))
async def inner(s: Saga, url: str, times: int = 1) -> int:
    """Docs stay."""
    return await measure(url) * times


@saga
async def plain(s: Saga, paid: Paid) -> None: ...


@pytest.fixture
def activation() -> Activation:
    return Activation("o-1", "place_order/o-1")


@pytest.fixture
def s(activation: Activation) -> Saga:
    return Saga(activation)


def test_a_command_step_carries_its_options(s: Saga) -> None:
    pay, undo = Pay(id="1"), Refund(id="1")
    op = s.step(pay, undo=undo, within="30s", retry=FOREVER, label="first charge")
    assert (op.kind, op.name, op.value, op.undo) == ("command", "Pay", pay, undo)
    assert (op.within_ms, op.retry, op.label) == (30_000, FOREVER, "first charge")


def test_what_is_not_said_is_missing_and_none_is_said(s: Saga) -> None:
    assert s.step(Pay(id="1")).undo is MISSING
    assert s.step(Pay(id="1"), undo=None).undo is None
    assert s.step(Pay(id="1")).retry is None


def test_ask_is_the_same_with_the_outcome_as_a_value(s: Saga) -> None:
    op = s.ask(Pay(id="1"), within="1m")
    assert (op.kind, op.name, op.within_ms) == ("ask", "Pay", 60_000)


def test_a_called_step_is_an_operation_and_options_go_onto_it(s: Saga) -> None:
    call = measure("u", twice=True)
    assert (call.kind, call.name, call.value) == ("local", "measure", (("u",), {"twice": True}))
    assert s.step(call, undo=lambda n: count(str(n)), retry=Retry(2)) is call
    assert call.retry == Retry(2)


def test_a_step_knows_what_was_said_about_it() -> None:
    assert (measure.name, measure.is_async, measure.retry, measure.timeout_ms) == (
        "measure",
        True,
        Retry(5),
        30_000,
    )
    assert (measure.undo, measure.observe) == (MISSING, False)
    assert (count.name, count.is_async, count.retry, count.timeout_ms) == ("counted", False, None, 3_000)
    assert (count.undo, count.observe) == (None, True)


async def test_the_native_function_is_the_original() -> None:
    assert await measure.native("abc") == 3
    assert count.native("abc") == 3


def test_a_generator_is_no_step() -> None:
    def items() -> Any:
        yield 1

    with pytest.raises(DataError, match="CP106"):
        step(items)


def test_waits_name_their_events(s: Saga) -> None:
    op = s.wait(Paid, Declined, within="9h", correlate="x-1")
    assert (op.kind, op.name, op.value) == ("wait", "Paid|Declined", (Paid, Declined))
    assert (op.within_ms, op.correlate) == (32_400_000, "x-1")
    wait: Callable[..., Op[Any]] = s.wait
    with pytest.raises(TypeError):
        wait()


def test_sleeping_takes_a_length_or_an_instant(s: Saga) -> None:
    when = datetime(2030, 1, 1, tzinfo=UTC)
    assert s.sleep("2h").within_ms == 7_200_000
    assert s.sleep("0s").within_ms == 0
    assert s.sleep(until=when).until == when
    sleep: Callable[..., Op[None]] = s.sleep
    with pytest.raises(TypeError):
        sleep()
    with pytest.raises(DataError, match="time zone"):
        s.sleep(until=datetime(2030, 1, 1))


def test_joins_hold_their_operations(s: Saga) -> None:
    a, b = s.step(Pay(id="1")), measure("u")
    assert s.all(a, b).children == (a, b)
    assert s.all(a, b).name == "all(Pay,measure)"
    assert s.first(a, b).kind == "first"
    assert s.all().children == ()
    first: Callable[..., Op[Any]] = s.first
    with pytest.raises(TypeError):
        first()


def test_only_a_starred_call_gives_a_list(s: Saga) -> None:
    ops = [measure("a")]
    assert s.all(*ops).listed
    assert s.all(measure("a"), *ops).listed
    assert not s.all(ops[0]).listed
    assert not s.all(measure("a"), measure("b"), fail_fast=True).listed


def test_a_called_saga_is_a_frame(s: Saga) -> None:
    op = inner(s, "u", times=2)
    assert (op.kind, op.name, op.value) == ("frame", "other", (("u",), {"times": 2}))


def test_a_saga_knows_what_was_said_about_it() -> None:
    assert (inner.name, inner.deadline_ms, inner.late_replies_ms, inner.retention_ms) == (
        "other",
        432_000_000,
        3_600_000,
        86_400_000,
    )
    assert (plain.name, plain.deadline_ms, plain.late_replies_ms) == ("plain", None, 86_400_000)
    assert inner.__doc__ == "Docs stay."
    assert inner.file == __file__
    assert inspect.iscoroutinefunction(inner.fn)


def test_immediate_calls_are_noted_in_program_order(s: Saga, activation: Activation) -> None:
    paid, when = Paid(id="1"), datetime(2030, 1, 1, tzinfo=UTC)
    s.emit(paid)
    s.point_of_no_return()
    s.deadline("2d")
    s.deadline(until=when)
    assert activation.effects == [
        ("emit", paid),
        ("pivot",),
        ("deadline", 172_800_000, None),
        ("deadline", None, when),
    ]
    assert s.key == "o-1"


WRONG: list[Callable[[Saga], object]] = [
    lambda s: s.step(Pay(id="1"), within="2s", retry=Retry(3, each="3s")),
    lambda s: s.step(count("u"), within="2s"),
    lambda s: s.step(Pay(id="1"), within="0s"),
    lambda s: s.step(Pay(id="1"), within="-1s"),
    lambda s: s.deadline("never"),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_limit_shorter_than_one_attempt_or_without_sense_is_refused(
    wrong: Callable[[Saga], object], s: Saga
) -> None:
    with pytest.raises(DataError) as refused:
        wrong(s)
    assert refused.value.code == "CP850"


def test_a_short_limit_is_fine_where_nobody_said_how_long_an_attempt_is(s: Saga) -> None:
    assert s.step(measure("u"), within="2s").within_ms == 2_000


class Runner:
    """Performs every operation by noting it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def perform(self, op: Op[Any], /) -> Any:
        self.seen.append(op.kind)
        if op.kind == "command":
            raise StepFailed("declined")
        return None


async def test_a_scope_that_fails_unwinds_and_one_that_succeeds_does_not(
    s: Saga, activation: Activation
) -> None:
    runner = Runner()
    token = NATIVE.set(runner)
    try:
        async with s.scope():
            await s.sleep("1s")
        with pytest.raises(StepFailed):
            async with s.scope():
                await s.step(Pay(id="1"))
        with pytest.raises(Cancelled):
            async with s.scope():
                raise Cancelled
        with pytest.raises(ZeroDivisionError):
            async with s.scope():
                _ = 1 / 0
    finally:
        NATIVE.reset(token)
    assert runner.seen == ["sleep", "command", "unwind", "unwind"]
    assert [effect[0] for effect in activation.effects] == ["enter", "leave"] * 4


async def test_an_operation_awaited_outside_of_a_saga_says_so() -> None:
    with pytest.raises(RuntimeError, match="awaited in a saga"):
        await measure("u")
