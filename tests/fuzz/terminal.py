"""A process that runs command lines at a pseudo-terminal, one after another: a JSON line in, a JSON line out.

It has the command line imported and forks for each, so that one costs a few milliseconds. It has no threads.
"""

from __future__ import annotations

import base64
import fcntl
import importlib
import json
import os
import pkgutil
import pty
import select
import signal
import struct
import sys
import termios
import time
from types import TracebackType
from typing import Any

from contrapas.cli import verbs
from contrapas.cli.main import main

HANGS_S = 30.0
MOST = 4 << 20


def play(
    args: list[str], folder: str, env: dict[str, str], size: tuple[int, int], keys: bytes
) -> dict[str, Any]:
    """One command line at a terminal of that size (rows, columns), with keys that are hit at once."""
    signal.pthread_sigmask(
        signal.SIG_BLOCK, [signal.SIGINT]
    )  # a key must not strike this rig between fork and `main`
    pid, end = pty.fork()
    if pid == 0:
        _child(args, folder, env)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    os.kill(pid, signal.SIGWINCH)
    out, until = b"", time.monotonic() + HANGS_S
    left = keys
    while time.monotonic() < until and len(out) < MOST:
        readable, writable, _ = select.select([end], [end] if left else [], [], 0.5)
        if writable:
            left = left[os.write(end, left[:64]) :]
        if not readable:
            continue
        try:
            part = os.read(end, 65_536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        out += part
    code = _ended(pid, until)
    os.close(end)
    return {"code": code, "out": base64.b64encode(out).decode()}


def _child(args: list[str], folder: str, env: dict[str, str]) -> None:
    code = 99
    try:
        os.chdir(folder)
        os.environ.update(env)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        code = main(args)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as why:  # noqa: BLE001  whatever leaves `main` is a finding
        if isinstance(why, KeyboardInterrupt) and not _below_main(why.__traceback__):
            # As before Python has begun, or after `main` has answered.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        os.write(2, f"Traceback: {type(why).__name__} left main: {why}".encode())
    finally:
        os._exit(code)


def _below_main(at: TracebackType | None) -> bool:
    while at is not None:
        if at.tb_frame.f_code is main.__code__:
            return at.tb_next is not None  # in its own frame: before its `try` or on its way out
        at = at.tb_next
    return False


def _ended(pid: int, until: float) -> int | None:
    """Its exit code; minus the signal that ended it; None: it hung."""
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def serve() -> None:
    """Until stdin ends."""
    for module in pkgutil.iter_modules(verbs.__path__):
        importlib.import_module(f"contrapas.cli.verbs.{module.name}")
    for name in (
        "contrapas.check.report",
        "contrapas.log.sqlite",
        "contrapas.runtime.engine",
        "contrapas.cli.tree",
    ):
        importlib.import_module(name)
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        size = (int(asked["rows"]), int(asked["columns"]))
        said = play(asked["args"], asked["folder"], asked["env"], size, base64.b64decode(asked["keys"]))
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
