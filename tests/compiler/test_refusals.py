# mypy: ignore-errors
# type: ignore
"""What the compiler refuses: code, place, and what to write instead. Every example stands in one function."""

# ruff: noqa
from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import Any

import pytest

from contrapas.author.event import Command, Event
from contrapas.author.op import Op
from contrapas.author.saga import Saga, SagaDef, saga
from contrapas.author.step import step
from contrapas.codec.registry import Registry
from contrapas.compiler import compile_all, compile_saga
from contrapas.errors import StepFailed
from contrapas.machine import Refusal
from tests.compiler.driver import refusals_of


class Done(Event, key="k"):
    k: str


class Failed(Event, key="k"):
    k: str


class Do(Command[Done, Failed], key="k"):
    k: str


class Undo(Command[Done], key="k"):
    k: str


@step
def num(x: int = 0) -> int:
    return x


async def plain(x: int) -> int:
    return x


def make(s: Saga) -> Op[int]:
    return num(1)


@contextlib.contextmanager
def opened() -> Any:
    yield 1


async def aiter_() -> Any:
    yield 1


def untold():  # type: ignore
    return 1


MARK: dict[str, tuple[str, Any]] = {}


def refused(code: str) -> Any:
    """The saga below is refused with this code on its line that ends in `# here`."""

    def note(sg: SagaDef[..., Any]) -> SagaDef[..., Any]:
        MARK[sg.name] = (code, sg)
        return sg

    return note


@refused("CP101")
@saga
async def sleeps(s: Saga, n: int) -> None:
    await asyncio.sleep(1)  # here


@refused("CP101")
@saga
async def awaits_choice(s: Saga, n: int) -> int:
    return await (num(1) if n else num(2))  # here


@refused("CP101")
@saga
async def awaits_made(s: Saga, n: int) -> int:
    return await make(s)  # here


@refused("CP101")
@saga
async def awaits_none(s: Saga, n: int) -> None:
    await None  # here


@refused("CP101")
@saga
async def awaits_name(s: Saga, n: int) -> int:
    op = num(1)
    return await op  # here


@refused("CP102")
@saga
async def awaits_plain(s: Saga, n: int) -> int:
    return await plain(n)  # here


@refused("CP103")
@saga
async def nested_async(s: Saga, n: int) -> int:
    async def inner() -> int:  # here
        return 1

    return await num(n)


@refused("CP104")
@saga
async def generator_await(s: Saga, n: int) -> Any:
    return list(await num(i) for i in range(n))  # here


@refused("CP105")
@saga
async def default_await(s: Saga, n: int) -> int:
    f = lambda x=await num(1): x  # here
    return f()


@refused("CP105")
@saga
async def class_await(s: Saga, n: int) -> int:
    class Inner(type(await num(1))):  # type: ignore  # here
        pass

    return n


@refused("CP107")
@saga
async def async_for(s: Saga, n: int) -> None:
    async for x in aiter_():  # here
        await num(x)


@refused("CP107")
@saga
async def async_comprehension(s: Saga, n: int) -> Any:
    return [x async for x in aiter_()]  # here


@refused("CP108")
@saga
async def async_with(s: Saga, n: int) -> None:
    async with asyncio.timeout(1):  # here
        await num(n)


@refused("CP109")
@saga
async def awaits_in_with(s: Saga, n: int) -> None:
    with opened():  # here
        await num(n)


@refused("CP110")
@saga
async def except_star(s: Saga, n: int) -> None:
    try:  # here
        await num(n)
    except* ValueError:
        pass


@refused("CP111")
@saga
async def return_in_finally(s: Saga, n: int) -> int:
    try:
        await num(n)
    finally:
        return 1  # here


@refused("CP113")
@saga
async def raises_nothing(s: Saga, n: int) -> None:
    await num(n)
    raise  # here


@refused("CP114")
@saga
async def guard_await(s: Saga, n: int) -> None:
    match n:
        case 1 if await num(2):  # here
            pass


@refused("CP116")
@saga
async def frames(s: Saga, n: int) -> Any:
    await num(n)
    return locals()  # here


@refused("CP116")
@saga
async def evaluates(s: Saga, n: int) -> Any:
    await num(n)
    return eval("n")  # here


@refused("CP117")
@saga
async def never_awaited(s: Saga, n: int) -> None:
    s.step(Do(k="k"))  # here
    await num(n)


@refused("CP118")
@saga
async def undo_form(s: Saga, n: int) -> None:
    await s.step(Do(k="k"), undo=make)  # type: ignore  # here


@refused("CP118")
@saga
async def undo_two_parameters(s: Saga, n: int) -> None:
    await s.step(Do(k="k"), undo=lambda a, b: Undo(k="k"))  # type: ignore  # here


@refused("CP120")
@saga
async def global_statement(s: Saga, n: int) -> None:
    global MARK  # here
    MARK = {}
    await num(n)


@refused("CP122")
@saga
async def zero_super(s: Saga, n: int) -> None:
    await num(n)
    super()  # here


@refused("CP123")
@saga
async def rebinds_s(s: Saga, n: int) -> None:
    await num(n)
    s = 1  # type: ignore  # here


@refused("CP123")
@saga
async def stores_s(s: Saga, n: int) -> None:
    x = s  # here
    await num(n)


@refused("CP123")
@saga
async def captures_s(s: Saga, n: int) -> Any:
    f = lambda: s.key  # here
    await num(n)
    return f()


@refused("CP125")
@saga
async def over_map(s: Saga, xs: list[int]) -> None:
    for x in map(str, xs):  # here
        await num(1)


@refused("CP207")
@saga
async def child_of_no_event(s: Saga, n: int) -> None:
    await s.child(sleeps, n)  # type: ignore  # here


@refused("CP100")
@saga
async def unknown_call(s: Saga, n: int) -> None:
    s.frobnicate()  # type: ignore  # here
    await num(n)


@refused("CP207")
@saga
async def unknown_command(s: Saga, n: int) -> None:
    command: Any = MARK[str(n)]
    await s.step(command)  # here


@refused("CP101")
@saga
async def steps_an_event(s: Saga, n: int) -> None:
    await s.step(Done(k="k"))  # type: ignore  # here


@refused("CP209")
@saga
async def undo_of_sleep(s: Saga, n: int) -> None:
    await s.step(s.sleep("1s"), undo=lambda ok: Undo(k=str(ok)))  # here


@refused("CP201")
@saga
async def unknown_type(s: Saga, n: int) -> Any:
    x = untold()  # here
    await num(n)
    return x


@refused("CP202")
@saga
async def stores_function(s: Saga, n: int) -> Any:
    f = functools.partial(max, n)  # here
    await num(n)
    return f(1)


@refused("CP202")
@saga
async def perhaps_defined(s: Saga, n: int) -> Any:
    if n:

        def f() -> int:  # here
            return 1

    await num(n)
    return f()


@refused("CP204")
@saga
async def kept_callee(s: Saga, n: int) -> Any:
    return (max if n else min)(1, await num(n))  # here


@refused("CP206")
@saga
async def kept_operations(s: Saga, n: int) -> Any:
    ops = [num(1)]  # here
    await num(n)
    return await s.all(*ops)


@pytest.mark.parametrize("name", sorted(MARK))
@pytest.mark.case(67, "awaiting a non-operation, bare coroutine, `None`")
def test_a_refusal_names_code_line_and_column_and_what_to_write_instead(name: str) -> None:
    code, sg = MARK[name]
    found = refusals_of(sg)
    assert [r.code for r in found if not r.warning] == [code], [(r.code, r.text) for r in found]
    [one] = [r for r in found if not r.warning]
    assert one.source.endswith("# here")
    assert 1 <= one.column <= len(one.source)
    assert not one.source[one.column - 1].isspace()
    assert one.fix and one.text


def test_every_problem_of_a_saga_is_named_at_once() -> None:
    @saga
    async def several(s: Saga, n: int) -> int:
        await asyncio.sleep(1)
        x = s
        async for y in aiter_():
            pass
        return await plain(n)

    assert [r.code for r in refusals_of(several)] == ["CP101", "CP123", "CP107", "CP102"]


def test_a_signature_needs_saga_first_and_annotations() -> None:
    @saga
    async def bare(s, n) -> None:  # type: ignore
        await num(1)

    @saga
    async def no_result(s: Saga, n: int):  # type: ignore
        await num(1)

    assert [r.code for r in refusals_of(bare)] == ["CP124", "CP124"]
    assert [r.code for r in refusals_of(no_result)] == ["CP124"]


def test_a_plain_def_is_refused() -> None:
    def fn(s: Saga, n: int) -> None: ...

    assert [r.code for r in refusals_of(SagaDef(fn))] == ["CP124"]  # type: ignore


@pytest.mark.case(
    77, "file edited after import; same names; decorated; zip; `.pyc`; notebook; column-0 string"
)
def test_two_sagas_of_one_name_are_refused() -> None:
    other = SagaDef(sleeps.fn, name="awaits_none")
    done = compile_all([awaits_none, other], registry=Registry())
    assert "CP143" in [r.code for r in done.refusals]


@pytest.mark.case(
    77, "file edited after import; same names; decorated; zip; `.pyc`; notebook; column-0 string"
)
def test_a_decorator_between_is_refused() -> None:
    def wrap(fn: Any) -> Any:
        @functools.wraps(fn)
        async def inner(*args: Any) -> Any:
            return await fn(*args)

        return inner

    @saga
    @wrap
    async def wrapped(s: Saga, n: int) -> int:
        return await num(n)

    assert [r.code for r in refusals_of(wrapped)] == ["CP141"]


def test_code_without_source_is_refused() -> None:
    scope: dict[str, Any] = {"Saga": Saga, "num": num}
    exec("async def f(s: Saga, n: int) -> int:\n    return await num(n)\n", scope)
    assert [r.code for r in refusals_of(SagaDef(scope["f"]))] == ["CP140"]


@pytest.mark.case(
    77, "file edited after import; same names; decorated; zip; `.pyc`; notebook; column-0 string"
)
def test_a_file_edited_after_import_is_refused(tmp_path: Any, monkeypatch: Any) -> None:
    text = (
        "from contrapas.author.saga import Saga, saga\nfrom contrapas.author.step import step\n"
        "@step\ndef num(x: int) -> int:\n    return x\n"
        "@saga\nasync def f(s: Saga, n: int) -> int:\n    return await num(n)\n"
    )
    path = tmp_path / "edited_module.py"
    path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    module = importlib.import_module("edited_module")
    assert not isinstance(compile_saga(module.f, registry=Registry()), list)
    path.write_text(text.replace("num(n)", "num(n + 1)"))
    [one] = compile_saga(module.f, registry=Registry())  # type: ignore
    assert isinstance(one, Refusal) and one.code == "CP142"
    path.write_text("# a line above\n" + text)
    [one] = compile_saga(module.f, registry=Registry())  # type: ignore
    assert one.code == "CP142"


@pytest.mark.case(
    77, "file edited after import; same names; decorated; zip; `.pyc`; notebook; column-0 string"
)
def test_a_saga_whose_text_stands_at_column_zero_in_a_string_is_found() -> None:
    @saga
    async def texts(s: Saga, n: int) -> str:
        t = """
at column zero
"""
        return t + str(await num(n))

    assert refusals_of(texts) == []


def test_warnings_and_refusals_come_in_order_of_place() -> None:
    found = refusals_of(MARK["never_awaited"][1])
    assert found == sorted(found, key=lambda r: (r.line, r.column))
