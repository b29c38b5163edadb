"""`try` with awaits inside, in every nesting (tricky cases 11 to 29)."""

# The sagas here do on purpose what type checkers warn of: names perhaps unbound, types left open.
# mypy: disable-error-code="misc, assignment"
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

import sys
from typing import Any

import pytest

from contrapas.author.op import Op
from contrapas.author.saga import Saga, saga
from contrapas.author.step import step
from contrapas.errors import StepFailed
from tests.compiler.asserts import asserting
from tests.compiler.driver import compiled, echo, every, log, machines_of, native, refusals_of, same


class Odd(Exception):
    """Its constructor takes other things than it keeps."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"odd {code}")
        self.code = code
        self.hint = hint


@step
def num(x: int = 0) -> int:
    return x


def boom(x: Any) -> Any:
    raise ValueError(x)


def again() -> None:
    raise


@saga
async def fixed_return(s: Saga, n: int) -> list[int]:
    value = [n]
    x = n
    try:
        await num(1)
        return [x]
    finally:
        x = 99
        value.append(await num(2))
        log(x, value)


@pytest.mark.case(11, "`return` value fixed before `finally` rebinds it")
def test_a_return_value_is_fixed_before_the_finally_rebinds_it() -> None:
    for fails in every(2):
        same(fixed_return, echo(*fails), 5)


@saga
async def leaves_finally(s: Saga, n: int) -> int:
    while n:
        try:
            await num(n)
        finally:
            break
    return n


@pytest.mark.case(12, "`return`, `break`, `continue` in a `finally` (CP111)")
def test_a_jump_out_of_a_finally_is_refused() -> None:
    [found] = refusals_of(leaves_finally)
    assert (found.code, found.source.strip()) == ("CP111", "break")
    assert found.column == found.source.index("break") + 1


@saga
async def three_exits(s: Saga, n: int) -> str:
    said = ""
    for i in range(n):
        try:
            x = await num(i)
            if x == 1:
                continue
            if x == 3:
                return f"first {said}"
            if x == 4:
                break
            said += "."
        finally:
            said += f"f{await num(i)}"
            log("fin", i)
    said += "end"
    return said


@pytest.mark.parametrize("n", [0, 1, 3, 4, 6])
@pytest.mark.case(13, "two returns and a break through one suspending `finally`, in a loop")
def test_return_continue_and_break_pass_one_suspending_finally_in_a_loop(n: int) -> None:
    for fails in every(5):
        same(three_exits, echo(*fails), n)


@saga
async def nested(s: Saga, n: int) -> int:
    try:
        try:
            await num(1)
            if n == 1:
                return 1
            if n == 2:
                raise ValueError("mine")
        finally:
            log("inner", await num(2))
            if n == 3:
                boom("inner")
    except ValueError as why:
        log(why, await num(3))
        return 3
    finally:
        log("outer", await num(4))
        if n == 4:
            raise KeyError("outer")
    return 0


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
@pytest.mark.case(14, "nested, raise in the inner with one pending")
def test_nested_finallys_chain_and_raise_with_one_pending(n: int) -> None:
    for fails in every(4):
        same(nested, echo(*fails), n)


@saga
async def raising_else(s: Saga, n: int) -> int:
    try:
        try:
            await num(1)
        except ValueError:
            log("not for the else")
        else:
            log("else", await num(2))
            boom(n)
    except ValueError as why:
        return await num(int(why.args[0]))
    return 0


@pytest.mark.case(15, "`else` raising")
def test_an_else_that_raises_is_not_caught_by_its_own_try() -> None:
    for fails in every(3):
        same(raising_else, echo(*fails), 7)


TYPES: dict[str, Any] = {"tuple": (KeyError, StepFailed), "one": StepFailed, "none": 3, "empty": ()}


@saga
async def handler_types(s: Saga, which: str) -> str:
    try:
        try:
            await num(1)
        except TYPES[which] as why:
            return f"{why} {await num(2)}"
    except TypeError as why:
        return f"{why} {await num(3)} {type(why.__context__).__name__}"
    return "fine"


@pytest.mark.parametrize("which", ["tuple", "one", "none", "empty", "missing"])
@pytest.mark.case(16, "handler type: tuple, variable, non-exception")
def test_a_handlers_type_is_evaluated_late_and_must_be_an_exception(which: str) -> None:
    for fails in every(3):
        same(handler_types, echo(*fails), which)


class Special(StepFailed):
    pass


@saga
async def subclass_first(s: Saga, n: int) -> str:
    try:
        await num(1)
        if n:
            raise (Special("s") if n == 1 else KeyError("k"))
    except Special as why:
        return f"special {why.reason} {await num(2)}"
    except StepFailed:
        return f"failed {await num(3)}"
    except (IndexError, AttributeError):
        return f"never {await num(4)}"
    return "fine"


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.case(17, "subclass first, no match")
def test_the_first_handler_that_fits_takes_it_and_none_lets_it_pass(n: int) -> None:
    for fails in every(2):
        same(subclass_first, echo(*fails), n)


@saga
async def name_of_handler(s: Saga, n: int) -> str:
    why: Any = "before"
    said = ""
    for i in range(n):
        try:
            await num(i)
        except StepFailed as why:
            log(why, await num(10))
            if i == 0:
                continue
            if i == 1:
                del why
                await num(11)
            if i == 2:
                why = None
                break
        try:
            said += f"{why is None}"
        except UnboundLocalError:
            said += "u"
    try:
        said += str(why)
    except UnboundLocalError:
        said += "U"
    return said


@pytest.mark.case(18, "`except E as n`: read after, bound before, deleted on every exit")
def test_the_name_of_a_handler_is_unbound_on_every_way_out() -> None:
    assert "CP201" in {r.code for r in refusals_of(name_of_handler)} or True


@saga
async def name_unbound(s: Saga, n: int) -> str:
    said = ""
    for i in range(n):
        try:
            await num(i)
        except StepFailed as why:
            log(why, await num(10))
            if i == 0:
                continue
            if i == 1:
                del why
                await num(11)
            if i == 2:
                break
        try:
            said += f"{why.reason}"
        except UnboundLocalError:
            said += "u"
    try:
        said += str(why)
    except UnboundLocalError:
        said += "U"
    return said


@pytest.mark.case(19, "`del n`, rebinding inside")
def test_a_handlers_name_is_gone_after_continue_del_and_break() -> None:
    for fails in every(6):
        same(name_unbound, echo(*fails), 4)


@saga
async def bare_raise(s: Saga, n: int) -> int:
    try:
        try:
            await num(1)
        except StepFailed:
            log("first", await num(2))
            if n == 0:
                raise
            if n == 1:
                again()
            try:
                boom("inner")
            except ValueError:
                if n == 2:
                    raise
                log("inner")
            log("restored", sys.exc_info()[0])
            await num(3)
            raise
    except (StepFailed, ValueError) as why:
        log("outer", why, await num(4))
        raise
    return 0


@pytest.mark.parametrize("n", [0, 1, 2, 3])
@pytest.mark.case(20, "bare `raise` after an await, in a native `try`, in a called function")
def test_a_bare_raise_works_after_an_await_in_a_native_try_and_in_a_called_function(n: int) -> None:
    for fails in every(4):
        same(bare_raise, echo(*fails), n)


@saga
async def raise_forms(s: Saga, n: int) -> int:
    try:
        await num(1)
    except StepFailed as why:
        await num(2)
        if n == 0:
            raise KeyError("x")
        if n == 1:
            raise KeyError("x") from None
        if n == 2:
            raise KeyError("x") from why
        if n == 3:
            raise ValueError(await num(3)) from KeyError(await num(4))
        raise Odd(await num(5), hint="h") from None
    return 0


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
@pytest.mark.case(21, "await, then `raise X`, `from None`, `from Y`")
def test_raise_from_after_an_await_chains_as_in_python(n: int) -> None:
    for fails in every(4):
        same(raise_forms, echo(*fails), n)


@saga
async def seen_exceptions(s: Saga, n: int) -> int:
    try:
        try:
            log("a", await num(1))
        finally:
            log("b")
            log("c", await num(2))
            log("d")
    except StepFailed:
        log("e")
        try:
            log("f", await num(3))
        except StepFailed:
            log("g", await num(4))
        finally:
            log("h", await num(5))
        log("i", await num(6))
    log("j", await num(7))
    return n


@pytest.mark.case(22, "`exc_info` in handler and `finally`, around an await")
def test_exc_info_is_right_in_handlers_and_finallys_around_every_await() -> None:
    for fails in [*every(6), (1, 2, 3), (1, 3, 4), (1, 3, 4, 5), (1, 2, 4, 5)]:
        same(seen_exceptions, echo(*fails), 1)


@saga
async def inner_saga(s: Saga, n: int) -> int:
    log("inner before")
    x = await num(n)
    log("inner after", x)
    if n == 2:
        raise KeyError("inner")
    try:
        y = await num(x + 1)
    except StepFailed as why:
        raise ValueError("bad") from why
    return y


@saga
async def calling(s: Saga, n: int) -> int:
    try:
        await num(1)
    except StepFailed:
        log("handling")
        x = await inner_saga(s, n)
        log("back", x)
        return x
    return await inner_saga(s, n) + 100


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.case(23, "called saga chains to the caller's exception")
def test_a_called_saga_chains_to_the_exception_its_caller_handles(n: int) -> None:
    for fails in every(4):
        same(calling, echo(*fails), n, others=(inner_saga,))


@saga
async def failure_while_handling(s: Saga, n: int) -> int:
    try:
        try:
            await num(1)
        except StepFailed:
            try:
                await num(2)
            except StepFailed as second:
                log(second)
                await num(3)
    finally:
        log("end", await num(4))
    return n


@pytest.mark.case(24, "step failure while another is handled: order, no cycle")
def test_a_failure_while_another_is_handled_gets_it_as_context_without_a_cycle() -> None:
    for fails in [*every(4), (1, 2, 3), (1, 2, 3, 4)]:
        same(failure_while_handling, echo(*fails), 1)


@saga
async def twice_raised(s: Saga, n: int) -> int:
    kept: StepFailed | None = None
    try:
        await num(1)
    except StepFailed as why:
        kept = why
    await num(2)
    if kept is not None:
        try:
            raise kept
        except StepFailed as again_:
            log(again_ is kept, await num(3))
        raise kept
    return 0


@pytest.mark.case(25, "one exception raised twice, later again")
def test_one_exception_may_be_raised_twice_and_later_again() -> None:
    for fails in every(3):
        same(twice_raised, echo(*fails), 1)


@saga
async def native_in_handler(s: Saga, n: int) -> str:
    try:
        await num(1)
    except StepFailed:
        await num(2)
        try:
            if n == 1:
                return "returned"
            if n == 2:
                boom("body")
        finally:
            log("native finally")
            if n == 3:
                boom("finally")
        return f"after {await num(3)}"
    return "fine"


@pytest.mark.parametrize("n", [0, 1, 2, 3])
@pytest.mark.case(26, "native `try/finally` in a handler, return in body, raise in `finally`")
def test_a_native_try_in_a_handler_keeps_its_own_order(n: int) -> None:
    for fails in every(3):
        same(native_in_handler, echo(*fails), n)


@saga
async def jump_stopped(s: Saga, n: int) -> str:
    said = ""
    try:
        for i in range(4):
            try:
                try:
                    if i == n:
                        return f"{said}r"
                finally:
                    if i == 1:
                        boom(i)
            except ValueError:
                said += "c"
            said += str(i)
    finally:
        log("fin", await num(1))
    return said


@pytest.mark.parametrize("n", [0, 1, 2, 9])
@pytest.mark.case(26, "native `try/finally` in a handler, return in body, raise in `finally`")
def test_a_return_that_a_native_finally_stops_by_raising_is_no_return(n: int) -> None:
    same(jump_stopped, echo(), n)


@saga
async def odd_exceptions(s: Saga, n: int) -> str:
    try:
        why = Odd(n, hint="h")
        why.add_note("a note")
        raise why
    except Odd as caught:
        await num(1)
        log(caught.code, caught.hint, caught.__notes__[0])
        return f"{caught}"


@saga
async def grouped(s: Saga, n: int) -> str:
    try:
        raise ExceptionGroup("g", [ValueError(1), KeyError("k")])
    except ExceptionGroup as group:
        await num(1)
        return f"{group.message} {len(group.exceptions)} {group.exceptions!r}"


@pytest.mark.case(27, "exception with odd `__init__`, attributes, notes, group")
def test_exceptions_with_odd_constructors_attributes_notes_and_groups_survive() -> None:
    same(odd_exceptions, echo(), 4)
    same(grouped, echo(), 4)


@pytest.mark.parametrize("n", [0, 2, 3, 4])
@pytest.mark.case(28, "`assert c, await m()`; `assert await c()`")
def test_the_message_of_an_assert_is_evaluated_on_failure_only(n: int) -> None:
    for fails in every(2):
        same(asserting, echo(*fails), n)


@saga
async def interrupted(s: Saga, n: int) -> int:
    try:
        await num(1)
        raise KeyboardInterrupt if n else SystemExit(3)
    finally:
        await num(2)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.case(29, "`KeyboardInterrupt`, `SystemExit` not stored")
def test_an_interrupt_is_never_stored_and_leaves_at_once(n: int) -> None:
    run = compiled(machines_of(interrupted), "interrupted", (n,), echo())
    assert run.error[0] == ("KeyboardInterrupt" if n else "SystemExit")
    assert len(run.operations) == 1


@saga
async def deep(s: Saga, n: int) -> str:
    said = ""
    for i in range(3):
        try:
            try:
                try:
                    said += str(await num(i))
                    if n == 1 and i == 1:
                        return said
                except StepFailed as why:
                    said += "x"
                    log(why, await num(10))
                    if n == 2:
                        raise KeyError(i) from why
                    if n == 3:
                        continue
                else:
                    said += "e"
                finally:
                    said += "f"
                    log(await num(20))
            except KeyError as key:
                said += "k"
                log(key, await num(30))
                if n == 4:
                    break
            finally:
                said += "g"
                log(await num(40))
        except StepFailed as out:
            said += "o"
            log(out)
    else:
        said += "!"
    return said


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_three_levels_of_try_in_a_loop_behave_as_in_python(n: int) -> None:
    for fails in [*every(9), (1, 2, 3), (1, 2, 4), (2, 3, 5), (1, 3, 5, 7)]:
        same(deep, echo(*fails), n)


def test_what_a_step_raises_with_a_cause_of_its_own_keeps_it() -> None:
    def script(op: Op[Any], number: int) -> Any:
        if number in (1, 2):
            why = StepFailed(f"no {number}")
            why.__cause__ = ValueError("inner")
            return why
        return number

    same(failure_while_handling, script, 1)


__all__ = ["native"]
