"""The way in: help pages at once, everything else through click; every error leaves as words and an exit code."""

from __future__ import annotations

import os
import sys

from contrapas.cli import tree

INTERRUPTED = 130
"""As `exits.INTERRUPTED`, whose imports a help page need not pay for; a test compares."""


def main(argv: list[str] | None = None) -> int:
    """Run one command line and give its exit code."""
    args = sys.argv[1:] if argv is None else argv
    try:
        if (page := tree.page(args)) is not None:
            sys.stdout.write(page)
            sys.stdout.flush()
            return 0
        from contrapas.cli.run import run

        code = run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader closed its end (`| head`): nothing is wrong. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        # `run` answers one in a command; this one came while modules were imported or what was said was flushed.
        return INTERRUPTED
