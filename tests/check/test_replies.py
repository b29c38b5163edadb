"""Commands that a saga takes: answered on no path, not on every one, twice; waits that an old answer may end."""

from __future__ import annotations

from contrapas import Command, Event, Saga, Timeout, saga, step
from tests.check.compiled import check
from tests.runtime.cart import cart


class Hired(Event, topic="r.events", key="id"):
    id: str


class Nod(Event, topic="r.events", key="id"):
    id: str


class Did(Event, topic="r.events", key="id"):
    id: str


class Do(Command[Did], key="id"):
    id: str


class Stop(Command[Did], key="id"):
    id: str


@step(undo=None)
async def mail(to: str) -> None:
    return None


@saga
async def silent(s: Saga, hired: Hired) -> None:
    await s.wait(Do, within="1h")  # CP725


@saga
async def sometimes(s: Saga, hired: Hired) -> None:
    got = await s.wait(Do, Stop, within="1h")  # CP725
    match got:
        case Do():
            s.reply(got, Did(id=s.key))
        case Stop() | Timeout():
            return


@saga
async def twice(s: Saga, hired: Hired) -> None:
    got = await s.wait(Do, within="1h")
    if isinstance(got, Do):
        s.reply(got, Did(id=s.key))
        await mail(s.key)
        s.reply(got, Did(id=s.key))  # CP730


@saga
async def by_first(s: Saga, first: Do) -> None:
    await mail(s.key)
    s.reply(first, Did(id=s.key))


@saga
async def kept_back(s: Saga, hired: Hired) -> None:
    waiting: list[Do] = []
    while True:
        got = await s.wait(Do, Nod, within="1h")
        if isinstance(got, Do):
            waiting.append(got)
            continue
        for one in waiting:
            s.reply(one, Did(id=s.key))
        if isinstance(got, Timeout):
            return
        waiting.clear()


@saga
async def reminds(s: Saga, hired: Hired) -> None:
    for who in ("ann", "bob"):
        await mail(who)
        got = await s.wait(Nod, within="1d")  # CP727
        if isinstance(got, Nod):
            return


@saga
async def reminds_the_same(s: Saga, hired: Hired) -> None:
    for _ in range(3):
        await mail(s.key)
        got = await s.wait(Nod, within="1d")
        if isinstance(got, Nod):
            return


@saga
async def reminds_anew(s: Saga, hired: Hired) -> None:
    for who in ("ann", "bob"):
        await mail(who)
        got = await s.wait(Nod, within="1d", fresh=True)
        if isinstance(got, Nod):
            return


@saga
async def reminds_by_number(s: Saga, hired: Hired) -> None:
    for number in range(3):
        await mail(f"{number}")
        got = await s.wait(Nod, within="1d", correlate=f"{s.key}-{number}")
        if isinstance(got, Nod):
            return


def found(*sagas: object) -> list[tuple[str, str, str]]:
    report = check(*sagas)
    return [
        (f.code, f.severity, f.text)
        for f in report.findings
        if f.code in ("CP725", "CP727", "CP730", "CP605")
    ]


def test_a_command_that_is_never_answered_is_an_error() -> None:
    assert found(silent) == [("CP725", "error", "Do is taken and answered on no path")]


def test_a_command_that_one_path_forgets_is_said_of_that_command_alone() -> None:
    assert [f[2] for f in found(sometimes)] == ["Stop is taken and answered on no path"]


def test_a_second_reply_on_one_path_is_a_warning() -> None:
    assert found(twice) == [("CP730", "warning", "Do is answered twice on one path")]


def test_sagas_that_answer_give_no_finding() -> None:
    assert found(by_first) == [] and found(kept_back) == [] and found(cart) == []


def test_an_answer_to_an_earlier_round_is_a_warning_where_nothing_tells_rounds_apart() -> None:
    assert found(reminds) == [("CP727", "warning", "wait(Nod) may be ended by an answer to an earlier round")]
    assert found(reminds_the_same) == [] and found(reminds_anew) == [] and found(reminds_by_number) == []


def test_two_sagas_that_take_one_command_have_no_owner() -> None:
    assert ("CP605", "error") in [f[:2] for f in found(twice, by_first)]
    assert "CP605" not in [f[0] for f in [*found(twice), *found(by_first)]]
