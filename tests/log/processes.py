"""Starting `child.py` and reading what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHILD = Path(__file__).with_name("child.py")


def start(*args: str | Path, **env: str) -> subprocess.Popen[str]:
    """A child of its own; it ends with the test."""
    return subprocess.Popen(
        [sys.executable, str(CHILD), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **env},
        text=True,
    )


def run(*args: str | Path, **env: str) -> tuple[int, list[str]]:
    """Run a child to its end: (return code, lines)."""
    process = start(*args, **env)
    out, _ = process.communicate(timeout=60)
    return process.returncode, out.splitlines()


def line(process: subprocess.Popen[str]) -> str:
    """The next line a child says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], text: str = "go") -> None:
    """Give a child a line."""
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()
