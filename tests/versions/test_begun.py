"""C9: operations in flight and steps taken from a mapping, edited; instances that stand there do what `diff` says of them."""

from __future__ import annotations

import pytest

from contrapas.core import moves
from contrapas.versions.compare import compare
from tests.versions.driver import Run, Script, Version, resumed, start

HEAD = """
from __future__ import annotations
from typing import Final
from contrapas import App, Command, Event, Pending, Saga, StepFailed, Timeout, saga, step

class Go(Event, topic="go.events", key="k"):
    k: str
    n: int = 0

class Ended(Event, topic="go.events", key="k"):
    k: str
    text: str

class Paid(Event, topic="pay.events", key="k"):
    k: str
    cents: {cents} = 0

class Refused(Event, topic="pay.events", key="k"):
    k: str

class Back(Event, topic="pay.events", key="k"):
    k: str

class Pay(Command[{replies}], topic="pay.commands", key="k"):
    k: str

class Refund(Command[Back], topic="pay.commands", key="k"):
    k: str
    cents: int = 0

@step(undo=None)
async def num(n: int) -> {result}:
    return n

@step(undo=None)
async def word(n: int) -> str:
    return str(n)

@step(undo=None)
async def slow(n: int) -> int:
    return n

@step(undo=None)
async def other(n: int) -> int:
    return n

KINDS: Final = {kinds}

app = App("shop")

@saga
async def leg(s: Saga, n: int) -> int:
    {leg}

@saga
async def main(s: Saga, go: Go) -> Ended:
{body}

app.orchestrate(main)
"""
BODY = """
    x = go.n + 1
    job = s.begin(num(x))
    card = s.begin(Pay(k=go.k), undo=lambda ok: Refund(k=ok.k, cents=x))
    away = s.begin(leg(s, x))
    t = await word(1)
    picked = await KINDS[t if t in KINDS else "a"](x)
    a = await job
    try:
        paid = (await card).k
    except StepFailed:
        paid = "no"
    b = await away
    await s.sleep("1s")
    return Ended(k=go.k, text=f"{a} {paid} {b} {picked}")
"""
PARTS = {
    "cents": "int",
    "replies": "Paid, Refused",
    "result": "int",
    "kinds": '{"a": slow, "b": other}',
    "leg": "return await slow(n)",
    "body": BODY.strip("\n"),
}


def text(**changed: str) -> str:
    """The module with some parts changed."""
    made = HEAD
    for name, part in {**PARTS, **changed}.items():
        made = made.replace("{" + name + "}", part)
    return made


def body(old: str, new: str) -> str:
    """The saga with one line changed."""
    assert old in PARTS["body"]
    return PARTS["body"].replace(old, new)


def states(**changed: str) -> dict[str, str]:
    """Why an instance of the first text does not go on under the second, by the state in which it was stopped; what it says is
    what it does."""
    old = Version.of(text(), "main")
    new = Version.of(text(**changed), "main", old.lock)
    new.over(old)
    found: dict[str, str] = {}
    for seed in range(12):
        script = Script(seed)
        for at in start(old, script).steps:
            record = at.record
            if record.ended_at is not None or record.parked is not None:
                continue
            why = moves.unfit(record, new.world)
            run = resumed(new, at, script)
            _did(run, why)
            where = f"{record.state} +{len([p for p in record.operations() if p.kind != 'sleep'])}"
            found[where] = found.get(where) or why
    return found


def _did(run: Run, why: str) -> None:
    parked = run.last.parked
    if why:
        assert parked is not None and parked.code == "CP312", f"{why}, and it went on to {run.last.status}"
        assert run.last.root == run.steps[0].record.root
    else:
        assert parked is None, f"it was to go on, and {parked}"


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"body": body('t = await word(1)', 't = await word(2)')},
        {"body": body('await s.sleep("1s")', 'await s.sleep("2s")\n    await other(1)')},
        {"cents": "int | None"},
        {"kinds": '{"a": slow, "b": other, "c": num}'},
        {"body": body("job = s.begin(num(x))", "job = s.begin(num(x + 1))")},
        {"leg": "m = await slow(n)\n    return m + 1"},
    ],
    ids=["nothing", "another argument", "more behind", "a wider reply", "a longer mapping", "begun with another", "the called saga"],
)  # fmt: skip
def test_an_edit_that_keeps_what_flies_lets_every_instance_go_on(changed: dict[str, str]) -> None:
    found = states(**changed)
    assert len(found) >= 4 and not any(found.values()), found


FLYING: tuple[tuple[dict[str, str], str], ...] = (
    ({"body": body("    job = s.begin(num(x))", "    job = s.begin(other(x))")}, "CP302"),  # C1
    ({"result": "str"}, "CP303"),  # C3
    (
        {"body": body("cents=x)", "cents=x + y)").replace("    job =", "    y = 1\n    job =")},
        "CP306",
    ),  # C6
    ({"leg": "y = 1\n    m = await slow(n)\n    return m + y"}, "CP301"),  # C8, in its own frame
    ({"kinds": '{"a": slow}'}, "CP304"),  # a step that may be in flight is not named any more
)


@pytest.mark.parametrize(("changed", "code"), FLYING, ids=["C1", "C3", "C6", "C8", "STEPS"])
def test_an_edit_of_what_flies_parks_the_instances_that_have_it_in_flight(
    changed: dict[str, str], code: str
) -> None:
    found = states(**changed)
    flies = [why for where, why in found.items() if where.endswith("+4")]
    assert any(code in why for why in flies), found
    if code not in ("CP303", "CP306"):  # the result is in a local by then, and the undo on the stack
        assert not found["sleep +0"], "where nothing flies any more it goes on"


def test_an_edit_of_the_replies_of_a_begun_command_is_found_at_its_begin() -> None:
    old = Version.of(text(), "main")
    for replies, words in (("Paid", "Refused may still come"), ("Refused, Paid", "Paid is not the success")):
        new = Version.of(text(replies=replies), "main", old.lock)
        fit = compare(old.world.machines["main"], new.world.machines["main"]).states["begin(Pay)"]
        assert fit.codes == ("CP304",) and words in fit.findings[0].text
    wider = Version.of(text(replies="Paid, Refused | Back"), "main", old.lock)
    fit = compare(old.world.machines["main"], wider.world.machines["main"]).states["begin(Pay)"]
    assert fit.verdict == "compatible"
