"""What a machine says about its saga: states, waits ahead, undos, scopes, parameters; and the errors that are easy to make."""

# The sagas here do on purpose what type checkers warn of: names perhaps unbound, types left open.
# mypy: disable-error-code="misc"
# ruff: noqa: PIE800, B023
# pyright: reportPossiblyUnboundVariable=false, reportMatchNotExhaustive=false, reportUnhashable=false
# pyright: reportUnboundVariable=false

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

import pytest

from contrapas.author.event import Command, Event
from contrapas.author.op import Op, UndoRef
from contrapas.author.retry import FOREVER
from contrapas.author.saga import Activation, Saga, saga
from contrapas.author.step import step
from contrapas.author.timeout import Timeout
from contrapas.codec.registry import Registry
from contrapas.compiler import compile_all
from contrapas.errors import Cancelled, StepFailed
from contrapas.machine import Machine
from contrapas.machine.invariants import broken
from tests.compiler.driver import compiled, echo, every, log, machines_of, numbers, refusals_of, same


class Placed(Event, key="k"):
    k: str
    n: int


class Changed(Event, key="k", name="order changed"):
    k: str


class Done(Event, key="k"):
    k: str
    ref: str = ""


class Refused(Event, key="k"):
    k: str
    reason: str = ""


class Do(Command[Done, Refused], key="k"):
    k: str


class TakeBack(Command[Done], key="k"):
    k: str
    ref: str = ""


@step
def num(x: int = 0) -> int:
    return x


@step(undo=None)
def note(x: str) -> str:
    return x


@saga(deadline="2h", late_replies="1h")
async def shop(s: Saga, order: Placed | Changed) -> Done | Refused:
    if isinstance(order, Changed):
        return Refused(k=order.k)
    ok = await s.step(Do(k=order.k), undo=lambda ok: TakeBack(k=order.k, ref=ok.ref), within="30s")
    said = await s.wait(Changed, Refused, within="1d", label="answer")
    match said:
        case Timeout():
            s.emit(Done(k=order.k))
        case Refused():
            await s.step(note("x"), retry=FOREVER)
            return said
    got = await s.ask(Do(k="2"), within="5s")
    await s.sleep("1h")
    return ok if isinstance(got, Timeout) else got


def test_a_machine_names_its_states_replies_and_waits() -> None:
    machine = machines_of(shop)["shop"]
    assert list(machine.states) == ["Do", "answer", "note", "Do#2", "sleep"]
    assert machine.starts == ("Placed", "order changed")
    assert machine.outcomes == ("Done", "Refused")
    assert (machine.deadline_ms, machine.late_replies_ms) == (7_200_000, 3_600_000)
    do, answer, said, ask, sleep = machine.states.values()
    assert (do.kind, do.operation, do.replies, do.within) == (
        "command",
        "step Do",
        ("Done", "Refused"),
        "30s",
    )
    assert (answer.kind, answer.takes, answer.replies) == (
        "wait",
        ("order changed", "Refused"),
        ("order changed", "Refused"),
    )
    assert (said.kind, said.forever) == ("local", True)
    assert (ask.kind, ask.label) == ("ask", "Do#2")
    assert (sleep.kind, sleep.within, sleep.index) == ("sleep", "1h", 5)
    assert machine.by_index[5] is sleep
    assert machine.later["START"] == machine.later["Do"] == frozenset({"order changed", "Refused"})
    assert machine.later["answer"] == frozenset()
    assert do.slots == ("order",)
    assert answer.slots == ("order", "ok")
    assert do.needs == frozenset({"order"})


def test_an_undo_lambda_is_compiled_and_its_captures_are_copied_at_issue() -> None:
    machine = machines_of(shop)["shop"]
    [undo] = machine.undos.values()
    assert (undo.label, undo.of, undo.needs_reply) == ("undo(Do)", "Do", True)
    assert [c.name for c in undo.captures] == ["order"]
    assert machine.function is not None
    s = Saga(Activation("k", "shop/k"))
    order = Placed(k="a", n=1)
    _, index, op, slots = machine.function(0, None, None, {"order": order}, s)
    assert (index, slots) == (1, {"order": order})
    assert isinstance(op.undo, UndoRef)
    assert (op.undo.label, op.undo.captures) == ("undo(Do)", {"order": order})
    assert undo.function(op.undo.captures, Done(k="a", ref="r"), s) == TakeBack(k="a", ref="r")


@saga
async def undo_forms(s: Saga, n: int) -> int:
    total = n
    await s.step(num(1), undo=lambda x: num(x + total))
    total += 1
    await s.step(num(2), undo=lambda _: num(total))
    await s.step(num(3), undo=num(total))
    await s.step(num(4), undo=None)
    await s.all(
        s.step(num(5), undo=lambda x: num(x)),
        *[s.step(num(i), undo=lambda x: num(x + i + total)) for i in range(2)],
    )
    return total


def test_every_form_of_undo_is_handed_over_as_data() -> None:
    machine = machines_of(undo_forms)["undo_forms"]
    seen: list[Any] = []

    def script(op: Op[Any], number: int) -> Any:
        seen.append(op)
        return (1, 2, 3) if op.kind == "all" else number

    compiled({"undo_forms": machine}, "undo_forms", (10,), lambda op, n: script(op, n))
    first, ignoring, command, nothing = [o.undo for o in seen[:4]]
    assert (first.label, first.captures) == ("undo(num)", {"total": 10})
    assert machine.undos["undo(num)"].function(first.captures, 7, None).value == ((17,), {})
    assert (ignoring.kind, ignoring.value) == ("local", ((11,), {}))
    assert (command.kind, nothing) == ("local", None)
    inner = [o.undo for o in seen[4:7]]
    assert inner[1].captures == {"i": 0, "total": 11}
    assert inner[2].captures == {"i": 1, "total": 11}
    assert {u.label for u in inner} <= set(machine.undos)
    assert inner[0].label != inner[1].label == inner[2].label


@saga
async def scoped(s: Saga, n: int) -> int:
    x = 0
    for i in range(3):
        try:
            async with s.scope():
                x += await num(i)
                if n == 1:
                    continue
                if n == 2:
                    break
                if n == 3:
                    return x
                async with s.scope(), s.scope():
                    x += await num(10)
                    if n == 4:
                        raise KeyError("bug")
                log("in", x)
        except StepFailed as why:
            log("failed", why, await num(20))
    return x


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
@pytest.mark.case(71, "scope left by return, break, continue")
def test_a_scope_unwinds_on_failure_only_and_is_left_on_every_way(n: int) -> None:
    for fails in every(5):
        run = same(scoped, echo(*fails), n)
        words = [e[0] for e in run.effects]
        assert words.count("enter") == words.count("leave")


def test_a_cancel_unwinds_a_scope() -> None:
    def script(op: Op[Any], number: int) -> Any:
        return Cancelled() if number == 2 else number

    run = same(scoped, script, 0)
    assert run.states == ["num", "num#2", "unwind", "unwind#2", "unwind#3"]
    depths = {s.label: s.scope_depth for s in machines_of(scoped)["scoped"].states.values()}
    assert depths["num"] == 1 and depths["num#2"] == 3 and depths["num#3"] == 0


@saga
async def waiting_callee(s: Saga, n: int) -> int:
    await s.wait(Changed)
    return n


@saga
async def waiting_caller(s: Saga, n: int) -> int:
    await num(n)
    return await waiting_callee(s, n)


def test_what_a_called_saga_waits_for_is_ahead_of_its_caller() -> None:
    done = compile_all([waiting_caller], registry=Registry())
    assert set(done.machines) == {"waiting_caller", "waiting_callee"}
    assert done.machines["waiting_caller"].later["num"] == frozenset({"order changed"})
    assert done.machines["waiting_caller"].states["waiting_callee"].kind == "frame"


def test_the_same_source_gives_the_same_machine() -> None:
    def texts() -> Any:
        machine = compile_all([scoped], registry=Registry()).machines["scoped"]
        return machine.generated, machine.graph, {s.label: s.shape for s in machine.states.values()}

    assert texts() == texts()


# -- the eight errors that are easy to make ----------------------------------------------------------------


@saga
async def easy(s: Saga, n: int) -> list[Any]:
    seen: list[Any] = []
    x = 5
    y = 3
    if n == 9:
        z = 1
    try:
        await num(1)
    except StepFailed as why:
        seen.append(await num(2))
        seen.append(why.reason)
        seen.append(sys.exc_info()[0] is StepFailed)
    try:
        seen.append({[]: 1, **{}, 2: await num(3)})
    except TypeError:
        seen.append("unhashable")
    await num(4)
    if n:
        x -= y
    del y
    try:
        raise KeyError(1)
    except KeyError as why:
        pass
    await num(5)
    try:
        seen.append(why)
    except UnboundLocalError:
        seen.append("gone")
    kept = [z for z in range(2)]
    await num(6)
    try:
        seen.append(z)
    except UnboundLocalError:
        seen.append("unbound")
    return [*seen, x, kept]


@pytest.mark.parametrize("n", [0, 1, 9])
def test_handled_exception_chosen_after_restoring_dict_in_chunks_del_and_augmented_are_uses(n: int) -> None:
    """Errors 1 to 6 of the list."""
    for fails in every(6):
        same(easy, echo(*fails), n)


@saga
async def late_jump(s: Saga, n: int) -> str:
    said = ""
    for i in range(3):
        try:
            await num(i)
            try:
                continue
            finally:
                if i == n:
                    raise KeyError(i)
        except KeyError as why:
            said += f"k{why.args[0]}"
            log(await num(9))
        finally:
            said += "f"
            await num(8)
    return said


@pytest.mark.parametrize("n", [0, 1, 5])
def test_a_jump_is_taken_only_after_a_native_finally_ran(n: int) -> None:
    """Error 7."""
    for fails in every(4):
        same(late_jump, echo(*fails), n)


@saga
async def callee(s: Saga, n: int) -> int:
    log("callee", sys.exc_info()[0])
    try:
        raise KeyError("in callee")
    except KeyError:
        log("handled", await num(n))
    log("callee again")
    raise ValueError("out")


@saga
async def caller(s: Saga, n: int) -> int:
    try:
        await num(1)
    except StepFailed:
        return await callee(s, n)
    return 0


def test_a_saga_called_from_an_except_block_sees_the_callers_exception() -> None:
    """Error 8."""
    for fails in every(3):
        same(caller, echo(*fails), 1, others=(callee,))


@saga
async def long_chain(s: Saga, n: int) -> int:
    if n == 0:
        return await num(0)
    elif n == 1:
        return await num(1)
    x = n
    x += await num(2)
    return x


def test_every_valid_saga_gives_a_machine_or_refusals_and_at_most_three_blocks_a_line() -> None:
    from tests.compiler import test_control, test_expressions, test_locals, test_refusals, test_tries

    count = 0
    for module in (
        test_control,
        test_expressions,
        test_locals,
        test_refusals,
        test_tries,
        sys.modules[__name__],
    ):
        for value in vars(module).values():
            if type(value).__name__ == "SagaDef":
                done = compile_all([value], registry=Registry())
                assert done.machines or done.refusals
                for machine in done.machines.values():
                    assert isinstance(machine, Machine)
                    assert broken(machine.program) == []
                    lines = machine.program.node.end_lineno - machine.line + 1
                    assert len(machine.blocks) <= 3 * lines + 2 * len(machine.states)
                    assert all(refusal.line > 0 for refusal in done.warnings)
                    count += 1
    assert count > 60


COUNTS: dict[str, int] = {}
WHO: ContextVar[str] = ContextVar("who")


@saga
async def warned(s: Saga, n: int) -> int:
    rate = n
    await s.step(num(1), undo=lambda x: num(x + rate))
    rate += len(prices)
    WHO.set("x")
    for i in range(n):
        await s.step(num(i), undo=lambda x: num(x + i))
    return await num(rate + len(COUNTS))


prices = [1, 2]


def test_what_is_probably_not_meant_is_a_warning() -> None:
    found = refusals_of(warned)
    assert [(r.code, r.warning, r.source.strip()[:16]) for r in found] == [
        ("CP211", True, "await s.step(num"),
        ("CP212", True, "rate += len(pric"),
        ("CP212", True, 'WHO.set("x")'),
    ]
    assert not compile_all([warned], registry=Registry()).refusals


@saga
async def nested_loops(s: Saga, n: int) -> int:
    for item in range(n):
        for _ in [1, 2]:
            await num(item)
    return n


def test_regions_name_their_loop_by_the_stable_name_of_its_cursor() -> None:
    machine = machines_of(nested_loops)["nested_loops"]
    [state] = machine.states.values()
    cursors = [name for name, slot in machine.slots.items() if slot.role == "iter"]
    assert state.regions == tuple(f"loop {name}" for name in cursors)
    assert set(cursors) <= set(state.slots)


def test_sagas_without_awaits_have_a_machine_without_states() -> None:
    @saga
    async def plain(s: Saga, n: int) -> int:
        return n + 1

    machine = machines_of(plain)["plain"]
    assert machine.states == {} and machine.by_index == (None,)
    same(plain, numbers, 1)
    assert refusals_of(plain) == []


@saga
async def read_by_a_handler(s: Saga, n: int) -> int:
    kept = n
    await num(n)
    try:
        log("may raise", 1 // n)
        kept = 2
        await num(kept)
    except ZeroDivisionError:
        return kept
    return 0


def test_what_a_handler_reads_is_needed_before_the_try_though_its_body_binds_it_anew() -> None:
    """A2: without kills in the region of a handler."""
    machine = machines_of(read_by_a_handler)["read_by_a_handler"]
    assert "kept" in machine.by_index[1].needs  # type: ignore[union-attr]
    for n in (0, 1):
        same(read_by_a_handler, echo(), n)
