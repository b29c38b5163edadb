"""What the README tells people to type, typed: in a folder of its own, against a server that runs meanwhile."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "import sys; from contrapas.cli.main import main; sys.exit(main())")


def blocks() -> list[list[str]]:
    found = re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [[line.removeprefix("$ ") for line in block.splitlines()] for block in found]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONTRAPAS_")}
    return {**kept, "PYTHONPATH": ""}


def typed(line: str, folder: Path) -> str:
    program, _, arguments = line.partition(" ")
    if program == "echo":
        done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    else:
        done = subprocess.run(
            [*COMMAND, *arguments.split()],
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_commands_of_the_readme_do_what_it_says(folder: Path) -> None:
    (first, second) = (
        [line for line in block if "contrapas " in line or line.startswith("echo")] for block in blocks()[-2:]
    )
    shutil.copytree(ROOT / "sagas", folder / "sagas")
    *before, serve = first
    for line in before:
        assert "place_order" in typed(line, folder)
    log = (folder / "dev.log").open("w+")
    server = subprocess.Popen(
        [*COMMAND, *serve.split()[1:], "--port", "0"], cwd=folder, env=environment(), stdout=log, stderr=log
    )
    try:
        until = time.monotonic() + 30
        while "ready" not in (folder / "dev.log").read_text():
            assert server.poll() is None and time.monotonic() < until, (folder / "dev.log").read_text()
            time.sleep(0.1)
        said = "\n".join(typed(line, folder) for line in second)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)
        log.close()
    assert "OrderConfirmed" in said
    assert "StockReserved" in said
    assert "CP703" in said


def test_the_story_of_the_readme_is_what_check_tells(folder: Path) -> None:
    page = (ROOT / "README.md").read_text()
    (story,) = [b for b in re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL) if "CP703" in b]
    lines = (ROOT / "sagas" / "order" / "saga.py").read_text().splitlines(keepends=True)
    (folder / "shop.py").write_text(
        "".join(line for line in lines if "undo=lambda ok: RefundCard" not in line)
    )
    assert story in typed("contrapas check shop.py:app", folder)
