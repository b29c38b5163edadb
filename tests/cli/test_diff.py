"""`contrapas diff`: files, directories, revisions; a table and JSON; exit 4 where an instance could not go on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]
HEAD = """
from contrapas import App, Event, Saga, saga

class Go(Event, topic="go.events", key="k"):
    k: str
    n: int = 0

class Yes(Event, topic="go.events", key="k"):
    k: str

app = App("shop")

"""
OLD = (
    HEAD
    + """@saga
async def main(s: Saga, go: Go) -> Go:
    cents = go.n
    await s.wait(Yes, within="1h")
    await s.sleep("1h")
    return Go(k=go.k, n=cents)

app.orchestrate(main)
"""
)
GENTLE = OLD.replace("n=cents", "n=cents + 1")
HARSH = OLD.replace("cents", "price")
ORPHAN = OLD.replace('    await s.sleep("1h")\n', "")


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def test_two_files_are_compared_state_by_state(here: Path, cli: Cli) -> None:
    write(here, old=OLD, gentle=GENTLE, harsh=HARSH, orphan=ORPHAN)
    code, out, err = cli("diff", "old.py:app", "gentle.py:app")
    assert (code, err) == (0, "")
    assert "2 compatible" in out
    code, out, _ = cli("diff", "old.py", "harsh.py")
    assert code == 4
    assert "CP301  'price' is missing" in out
    assert "renamed? migrate= with locals['price'] = locals.pop('cents')" in out
    code, out, _ = cli("diff", "old.py", "orphan.py", "-o", "json")
    assert code == 4
    (saga,) = json.loads(out)["sagas"]
    assert [(s["label"], s["verdict"]) for s in saga["states"]] == [
        ("wait(Yes)", "compatible"),
        ("sleep", "orphaned"),
    ]
    assert not list(here.glob("**/__pycache__"))


def test_a_revision_is_compared_with_what_lies_here(here: Path, cli: Cli) -> None:
    write(here, shop=OLD)
    (here / "pyproject.toml").write_text('[tool.contrapas]\napp = "shop.py:app"\n')
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *args], check=True, cwd=here)
    code, out, err = cli("diff", "HEAD")
    assert (code, err) == (0, "")
    assert "2 same" in out
    write(here, shop=HARSH)
    assert cli("diff", "HEAD")[0] == 4
    subprocess.run([*git, "commit", "-qam", "two"], check=True, cwd=here)
    assert cli("diff", "HEAD~1", "HEAD")[0] == 4
    assert cli("diff", "HEAD~1", "HEAD~1")[0] == 0
    (here / "deep").mkdir()
    assert cli("diff", "HEAD~1", ".", "--app", "shop.py:app")[0] == 4


def test_directories_with_their_own_lock_files(here: Path, cli: Cli) -> None:
    for name, text in (("a", OLD), ("b", HARSH)):
        (here / name).mkdir()
        write(here / name, shop=text)
    assert cli("check", "a/shop.py", "--update")[0] == 0
    assert cli("diff", "a", "b", "--app", "shop.py:app")[0] == 4


def test_migrate_and_retired_say_that_nothing_is_lost(here: Path, cli: Cli) -> None:
    led = HARSH.replace(
        "@saga\n", "def lead(label, local):\n    return label, local\n\n@saga(migrate=lead)\n"
    )
    mapped = ORPHAN.replace("@saga\n", '@saga(migrate={"sleep": "wait(Yes)"})\n')
    write(here, old=OLD, led=led, mapped=mapped)
    code, out, _ = cli("diff", "old.py", "led.py")
    assert code == 0
    assert "needs migration, by migrate=" in out
    code, out, _ = cli("diff", "old.py", "mapped.py")
    assert code == 4, "a sleep is no wait"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nothing-here"], "CP813"),
        (["--", "-x"], "CP813"),
        (["broken.py"], "CP810"),
        (["exits.py"], "CP810"),
        (["empty.py"], "CP809"),
        (["old.py", "refused.py"], "CP101"),
        (["torn/old.py"], "CP321"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(
    here: Path, cli: Cli, args: list[str], said: str
) -> None:
    write(here, old=OLD, broken="1 +", exits="import os; os._exit(3)", empty="x = 1")
    write(
        here,
        refused=OLD.replace('s.sleep("1h")', "asyncio.sleep(1)").replace(
            "\nclass Go", "\nimport asyncio\nclass Go"
        ),
    )
    (here / "torn").mkdir()
    write(here / "torn", old=OLD)
    (here / "torn" / "sagas.lock.json").write_text('{"format": 1, "main": {"gra')
    got, out, err = cli("diff", *args)
    assert said in err, (out, err)
    assert "Traceback" not in err
    assert got != 0


def test_what_the_module_prints_is_not_taken_for_an_answer(here: Path, cli: Cli) -> None:
    write(here, old='print("{}")\n' + OLD)
    code, out, _ = cli("diff", "old.py", "old.py")
    assert code == 0
    assert "2 same" in out
