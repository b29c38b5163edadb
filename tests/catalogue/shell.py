"""The command line as a user runs it: a process of its own, or, where that shows the same, a call in this one."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from contrapas.cli.main import main


class Ran(NamedTuple):
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All its words."""
        return self.out + self.err


class Cli:
    """Runs `contrapas` in a folder, with nothing configured."""

    def __init__(self, here: Path) -> None:
        self.here = here
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("CONTRAPAS_")}

    def command(self, *args: str) -> list[str]:
        """The command line of a process."""
        return [sys.executable, "-m", "contrapas", *args]

    def process(self, *args: str, stdin: bytes = b"", **env: str) -> Ran:
        """As a process."""
        ran = subprocess.run(
            self.command(*args),
            check=False,
            capture_output=True,
            input=stdin,
            cwd=self.here,
            env={**self.env, **env},
            timeout=60,
        )
        return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())

    def __call__(self, *args: str) -> Ran:
        """In this process."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with contextlib.chdir(self.here), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(args))
        return Ran(code, _text(out), _text(err))


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.detach()
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
