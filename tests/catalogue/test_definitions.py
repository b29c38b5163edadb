"""Rows of the catalogue about definitions: what `check` finds with exit 4, a worker refuses with exit 6."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.catalogue.shell import Cli

HEAD = """
import asyncio, datetime, random, socket, sqlite3, time, uuid
from typing import TextIO
from urllib.request import urlopen

from contrapas import App, Command, Event, FOREVER, Retry, Saga, Timeout, saga, step


class Asked(Event, topic="x.events", key="id"):
    id: str


class Told(Event, topic="x.events", key="id"):
    id: str


class Do(Command[Told], topic="x.commands", key="id"):
    id: str


@step(undo=None)
async def note(id: str) -> str:
    return id


@step(undo=None, timeout="30s")
async def slow(id: str) -> str:
    return id

"""
TAIL = """

app = App("x")
app.orchestrate(tell)
"""


NUMBERS = itertools.count(1)


class App(NamedTuple):
    """An app in a file."""

    target: str
    line: str
    """`file.py:line` of what says `# here`."""


def written(folder: Path, body: str, *, before: str = "") -> App:
    """An app whose saga has this body. Each is a module of its own name, for they are imported into one process."""
    name = f"badly_written_{next(NUMBERS)}"
    lines = "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))
    text = f"{HEAD}{before}\n@saga\nasync def tell(s: Saga, e: Asked) -> Told:\n{lines}    return Told(id=e.id)\n{TAIL}"
    (folder / f"{name}.py").write_text(text)
    line = next((n for n, line in enumerate(text.splitlines(), 1) if "# here" in line), 0)
    return App(f"{name}.py:app", f"{name}.py:{line}:")


# ---- B-5 side effects between awaits


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('urlopen("http://example.invalid/")  # here\nawait note(e.id)', "CP723"),
        ('sqlite3.connect("x.db").close()  # here\nawait note(e.id)', "CP723"),
        ('open("/dev/null", "w").close()  # here\nawait note(e.id)', "CP723"),
        ("time.sleep(1)  # here\nawait note(e.id)", "CP724"),
    ],
)
def test_b05_a_side_effect_between_awaits_is_a_finding_that_offers_a_step(
    cli: Cli, body: str, code: str
) -> None:
    app = written(cli.here, body)
    ran = cli("check", app.target, "--strict")
    assert ran.code == 4
    assert app.line in ran.said
    assert code in ran.said
    assert ("s.sleep" if "sleep" in body else "@step") in ran.said


def test_b05_clock_chance_and_identity_are_never_a_finding(cli: Cli) -> None:
    app = written(
        cli.here,
        'now = time.time()\nseen = str(datetime.datetime.now())\nn = random.random()\nident = str(uuid.uuid4())\nawait note(f"{now} {seen} {n} {ident}")',
    )
    ran = cli("check", app.target, "--strict")
    assert (ran.code, "CP7" in ran.said) == (0, False), ran


# ---- B-7 what cannot cross an await


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("f = lambda n: n\nif e.id:\n    f = lambda n: -n\nawait note(e.id)\nprint(f(1))", "f"),
        ("sock = socket.socket()\nawait note(e.id)\nsock.close()", "sock"),
        ("numbers = (n for n in range(3))\nawait note(e.id)\nprint(list(numbers))", "numbers"),
        ('db: sqlite3.Connection = sqlite3.connect(":memory:")\nawait note(e.id)\ndb.close()', "db"),
        ('out: TextIO = open("/dev/null")\nawait note(e.id)\nout.close()', "out"),
    ],
)
def test_b07_what_cannot_be_stored_and_lives_across_an_await_is_named_with_the_await_and_a_fix(
    cli: Cli, body: str, name: str
) -> None:
    app = written(cli.here, body)
    ran = cli("check", app.target)
    assert ran.code == 4, ran
    assert "error CP202" in ran.said
    assert f"`{name}` is needed after the await of note in line" in ran.said
    assert "   fix  " in ran.said
    assert "Traceback" not in ran.said
    if name == "sock":
        assert cli.process("worker", app.target).code == 6


def test_b07_a_lambda_that_can_be_made_again_is_no_finding(cli: Cli) -> None:
    app = written(cli.here, "f = lambda n: n + 1\nawait note(e.id)\nprint(f(1))")
    assert cli("check", app.target, "--strict").code == 0


def test_b07_a_step_whose_types_have_no_form_is_refused_with_the_type(cli: Cli) -> None:
    before = "@step(undo=None)\nasync def send(sock: socket.socket) -> str:\n    return ''\n"
    app = written(cli.here, "await note(e.id)\nawait send(socket.socket())", before=before)
    ran = cli("check", app.target)
    assert ran.code == 4, ran
    assert "CP205" in ran.said
    assert "socket" in ran.said


# ---- B-12 values that make no sense


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ('await s.wait(Told, within="-5s")  # here', "'-5s'"),
        ('await s.wait(Told, within="0s")  # here', "'0s'"),
        ('await s.wait(Told, within="forever")  # here', "'forever'"),
        ('await s.sleep("-1h")  # here', "'-1h'"),
        ('await s.step(slow(e.id), within="5s")  # here', "5000 ms"),
        ('await s.step(Do(id=e.id), retry=Retry(3, each="1m"), within="30s")  # here', "30000 ms"),
        ("await s.step(note(e.id), retry=Retry(0))  # here", "Retry(0)"),
        ("await s.step(note(e.id), retry=Retry(-1))  # here", "Retry(-1)"),
        ('await s.step(note(e.id), retry=Retry(3, backoff="-1s"))  # here', "-1s"),
        ('await s.step(note(e.id), retry=Retry(3, backoff="inf"))  # here', "inf"),
    ],
)
def test_b12_a_value_that_makes_no_sense_is_named_with_its_line(cli: Cli, body: str, value: str) -> None:
    app = written(cli.here, body)
    ran = cli("check", app.target)
    assert ran.code == 4, ran
    assert app.line in ran.said
    assert "error CP850" in ran.said
    assert value in ran.said


@pytest.mark.parametrize(
    "before",
    [
        "NEVER = Retry(0)",
        "@step(timeout='-1s')\nasync def odd(id: str) -> str:\n    return id",
        "@saga(deadline='never')\nasync def odd(s: Saga, e: Asked) -> None:\n    await note(e.id)",
    ],
)
def test_b12_a_value_that_makes_no_sense_outside_of_a_saga_is_named_too(cli: Cli, before: str) -> None:
    app = written(cli.here, "await note(e.id)", before=before)
    ran = cli("check", app.target)
    assert (ran.code, "error CP850" in ran.said, app.target[:-3] in ran.said) == (4, True, True), ran
