"""What ends servers whose starter is gone: a process that sees its parent's end by the end of a pipe, and cleans up after it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

__all__ = ["call_off", "leave_on_signals", "watch"]


def watch(program: str, folder: Path) -> subprocess.Popen[bytes]:
    """Run a Python program with a folder as its argument, which reads its standard input to the end: that comes when we
    are gone. A byte before it says that there is nothing to do (`call_off`)."""
    return subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def call_off(watching: subprocess.Popen[bytes]) -> None:
    """The servers have ended in order."""
    with contextlib.suppress(OSError):
        watching.communicate(b"e", timeout=10)


def leave_on_signals() -> None:
    """Leave the `with` of a server on SIGTERM and Ctrl-C."""
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, _leave)


def _leave(_: int, __: FrameType | None) -> NoReturn:
    sys.exit(0)
