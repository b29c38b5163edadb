"""A new user's path: from an empty folder to a saga, one mistake after another. Each message names the thing, gives one cause and
one fix, and the fix, typed in, leads on."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.conftest import Ran

GOOD = """\
from contrapas import App, Command, Event, Saga, StepFailed, saga, step


class Placed(Event, topic="shop.events", key="id"):
    id: str
    cents: int


class Shipped(Event, topic="shop.events", key="id"):
    id: str


class Rejected(Event, topic="shop.events", key="id"):
    id: str
    reason: str


class Charged(Event, topic="pay.events", key="id"):
    id: str
    charge: str


class Declined(Event, topic="pay.events", key="id"):
    id: str


class Refunded(Event, topic="pay.events", key="id"):
    id: str


class Charge(Command[Charged, Declined], topic="pay.commands", key="id"):
    id: str
    cents: int


class Refund(Command[Refunded], topic="pay.commands", key="id"):
    id: str
    charge: str


@step(undo=None)
async def ship(id: str) -> str:
    return id


app = App("shop")


@saga
async def order(s: Saga, placed: Placed) -> Shipped | Rejected:
    try:
        paid = await s.step(
            Charge(id=placed.id, cents=placed.cents),
            undo=lambda ok: Refund(id=placed.id, charge=ok.charge),
            within="1m",
        )
        await s.step(ship(placed.id), within="1m")
    except StepFailed as why:
        await s.compensate()
        return Rejected(id=placed.id, reason=why.reason)
    s.note(paid.charge)
    return Shipped(id=placed.id)


app.orchestrate(order)
"""


class Mistake(NamedTuple):
    """`right` is written as `wrong`; the message has these words, and its fix is typed as `typed` (as `right`, if empty)."""

    right: str
    wrong: str
    code: str
    words: str
    fix: str
    typed: str = ""


PATH = (
    Mistake("from contrapas import", "from contrpas import", "CP810", "No module named 'contrpas'", "did you mean contrapas?"),
    Mistake("Saga, StepFailed", "Saga, StepFaild", "CP810", "cannot import name 'StepFaild'", "did you mean StepFailed?"),
    Mistake("async def order", "def order", "CP810", "outside async function", "write async def instead of def"),
    Mistake('topic="shop.events", key="id"):\n    id: str\n    cents', 'topic="shop.events"):\n    id: str\n    cents', "CP144", "Placed: it has no key", 'key="…"'),
    Mistake('(Event, topic="pay.events", key="id"):\n    id: str\n    charge', '(Event, topic="pay.events", key="order"):\n    id: str\n    charge', "CP144", "key='order' is none of its fields (id, charge)", "name one of its fields"),
    Mistake("Command[Charged, Declined]", "Command", "CP144", "Charge: its replies are not named", "Command[Success, Failure]"),
    Mistake("Command[Charged, Declined]", "Command[Charged, str]", "CP144", "Charge: its replies", "Command[Success, Failure]"),
    Mistake("placed: Placed)", "placed)", "CP124", "parameter placed has no annotation", "placed: its type"),
    Mistake("order(s: Saga", "order(s", "CP124", "first parameter is not annotated Saga", "s: Saga"),
    Mistake("await s.step(ship(placed.id)", "s.step(ship(placed.id)", "CP117", "never awaited", "put await before it"),
    Mistake('within="1m")', 'timeout="1m")', "CP850", "s.step has no timeout=", "within=…"),
    Mistake('within="1m")', 'within="1 moment")', "CP850", "'1 moment' is no length of time", '"30s"', 'within="30s")'),
    Mistake('within="30s")', 'within="30s", retry=3)', "CP850", "retry=3 is no policy", "retry=Retry(3)", 'within="30s", retry=Retry(3))'),
    Mistake("@step(undo=None)\nasync def ship", "async def ship", "CP102", "calls a plain async function", "write @step above async def ship(…)"),
    Mistake("            undo=lambda ok: Refund(id=placed.id, charge=ok.charge),\n", "", "CP703", "Charge may be charged and never taken back", "undo=…"),
    Mistake("undo=lambda ok: Refund(id=placed.id, charge=ok.charge)", "undo='refund'", "CP118", "undo=`'refund'`", "lambda ok: one of these"),
    Mistake("        await s.compensate()\n", "", "CP707", "returns normally while 1 effect stands: Charge", "await s.compensate() before the return"),
    Mistake(
        "    s.note(paid.charge)\n",
        "    book = open('book.txt')\n    await s.sleep('1m')\n    s.note(paid.charge + book.name)\n",
        "CP201",
        "`book` is needed after the await of sleep",
        "book",
    ),
    Mistake("    s.note(paid.charge)\n", "    await asyncio.sleep(60)\n", "CP101", "`asyncio.sleep(60)` is no operation", "s.sleep for time", '    await s.sleep("60s")\n'),
    Mistake('    await s.sleep("60s")\n', "    await s.wait(Shiped, within='1h')\n", "CP207", "`Shiped` is no event class", "did you mean Shipped?", "    await s.wait(Shipped, within='1h')\n"),
    Mistake("    await s.wait(Shipped, within='1h')\n", "    with open('x'):\n        await ship('x')\n", "CP109", "await inside with", "do the block inside a @step", '    await s.step(ship("x"), within="1m")\n'),
    Mistake("    await s.compensate()\n        return", "    await s.compensate(); global PAID\n        return", "CP120", "global PAID", "use a local"),
)  # fmt: skip


@pytest.fixture
def checks(cli: Callable[..., Ran], here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Ran]:
    """`contrapas check shop:app` over this text of shop.py."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", [str(here), *sys.path])

    def check(text: str) -> Ran:
        (here / "shop.py").write_text(text, encoding="utf-8")
        sys.modules.pop("shop", None)
        linecache.clearcache()
        return cli("check", "shop:app")

    return check


def test_one_mistake_after_another_and_every_message_says_what_to_type_next(
    checks: Callable[[str], Ran], cli: Callable[..., Ran]
) -> None:
    nothing = cli("check", "shop:app")
    assert nothing.code == 3 and "there is no module 'shop'" in nothing.err and "fix" in nothing.err
    empty = checks('from contrapas import App\n\napp = App("shop")\n')
    assert "no saga is declared" in empty.out and "app.orchestrate(" in empty.out
    text = GOOD
    assert (checks(text).code, checks(text).out.split()[-1]) == (0, "ok")
    for one in PATH:
        assert one.right in text, one
        said = checks(text.replace(one.right, one.wrong, 1))
        whole = said.out + said.err
        assert one.code in whole and one.words in whole and one.fix in whole, f"{one}\n{whole}"
        assert whole.count("   fix ") == 1, f"one cause, one fix: {one}\n{whole}"
        assert "Traceback" not in whole
        text = text.replace(one.right, one.typed or one.right, 1)
        if "Retry(" in text and "Retry," not in text:
            text = text.replace("import App, ", "import App, Retry, ", 1)
        after = checks(text)
        assert (after.code, after.out.split()[-1]) == (0, "ok"), f"{one}\n{after.out}{after.err}"


def test_several_mistakes_at_once_are_all_said_and_fixed_in_one_go(checks: Callable[[str], Ran]) -> None:
    wrong = GOOD
    for one in ("placed: Placed)", "placed)"), ('within="1m")', 'timeout="1m")'):
        wrong = wrong.replace(*one, 1)
    wrong = wrong.replace(
        "    s.note(paid",
        "    book = open('b')\n    await s.sleep('1m')\n    book.close()\n    s.note(paid",
        1,
    )
    said = checks(wrong).out
    assert {"CP124", "CP850", "CP201"} <= set(said.split()), said


@pytest.mark.parametrize(
    ("torn", "words"),
    [
        ('{"format": 1, "order": {"graph": "k7', "git checkout sagas.lock.json"),
        ("<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n", "contrapas check --update"),
        ("[]", "git checkout sagas.lock.json"),
        ('{"order": 7}', "git checkout sagas.lock.json"),
        ('{"format": 1, "order": 7}', "git checkout sagas.lock.json"),
    ],
    ids=["torn", "merged", "a list", "without its format", "edited by hand"],
)
def test_a_lock_file_that_is_no_lock_file_is_named_with_the_command_that_writes_it_anew(
    torn: str, words: str, checks: Callable[[str], Ran], cli: Callable[..., Ran], here: Path
) -> None:
    checks(GOOD)
    assert cli("check", "--update", "shop:app").code == 0
    good = (here / "sagas.lock.json").read_bytes()
    (here / "sagas.lock.json").write_text(torn, encoding="utf-8")
    said = cli("check", "shop:app")
    whole = said.out + said.err
    assert said.code != 0 and "CP321" in whole and words in whole, whole
    assert whole.count("   fix ") == 1 and "got \n" not in whole
    assert (here / "sagas.lock.json").read_text() == torn, "it is not touched"
    (here / "sagas.lock.json").write_bytes(good)
    assert cli("check", "--frozen", "shop:app").code == 0
