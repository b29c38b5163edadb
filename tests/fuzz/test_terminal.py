"""The command line at a terminal, under any words, keys and sizes: it ends, with a code of the table, and data moves no cursor."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st

from tests.fuzz.fuzzing import fuzz
from tests.fuzz.test_command_line import CODES, lines, shop

__all__ = ["shop"]
ROOT = Path(__file__).resolve().parents[2]
OURS = re.compile(
    r"\x1b\[(0|1|2|3|4|22|23|24|39|3[0-7]|9[0-7]|38;5;\d{1,3})(;(0|1|2|3|4|3[0-7]|9[0-7]))*m|\x1b\[\?25[lh]|\x1b\[[0-2]?K|\r"
)
"""Colours, a hidden cursor and the end of a line, as progress and tables use them; nothing that leaves the line."""
BLINK = "\x1b[5m"
"""Stands in a key of the log, and never in what is shown of it."""
SIZES = st.sampled_from(((24, 80), (0, 0), (1, 1), (5, 20), (3, 500), (65_535, 65_535)))
KEYS = st.lists(
    st.sampled_from(
        (b"", b"\x03", b"\x04", b"q", b"y\n", b"n", b"\r", b"\x1b[A", b"\xff", b"\x7f", b"x" * 300)
    ),
    max_size=4,
)
ENVIRONMENTS = st.sampled_from(
    ({"TERM": "xterm-256color"}, {"TERM": "dumb"}, {"TERM": ""}, {"TERM": "\x1b"}, {"NO_COLOR": "1", "TERM": "xterm"},
     {"LC_ALL": "C", "TERM": "vt100"}, {"CONTRAPAS_ASCII": "yes"}, {"COLUMNS": "7", "LINES": "-1"}, {"PAGER": "false"})
)  # fmt: skip


class Played(NamedTuple):
    """What came of one."""

    code: int | None
    out: str


class Terminal:
    """The process that runs them."""

    def __init__(self) -> None:
        env = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("CONTRAPAS_") and k not in ("COLUMNS", "LINES")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.terminal"], cwd=ROOT, env=env,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def play(
        self, args: list[str], folder: Path, *, env: dict[str, str], size: tuple[int, int], keys: bytes
    ) -> Played:
        """One command line."""
        given = {"args": args, "folder": str(folder), "env": env, "rows": size[0], "columns": size[1]}
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(
            json.dumps({**given, "keys": base64.b64encode(keys).decode()}).encode() + b"\n"
        )
        self.process.stdin.flush()
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return Played(said["code"], base64.b64decode(said["out"]).decode(errors="replace"))

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture(scope="module")
def terminal() -> Iterator[Terminal]:
    found = Terminal()
    yield found
    found.close()


def holds(played: Played, keys: bytes) -> None:
    """Everything that is promised of a terminal."""
    assert played.code is not None, f"it hung, having said {played.out[-500:]!r}"
    assert played.code in CODES or (b"\x03" in keys and played.code == -2), played
    assert "Traceback" not in played.out and "a bug in contrapas" not in played.out, played.out
    assert BLINK not in played.out
    echoed = b"".join(b"^" + bytes([k + 64]) if k < 32 else bytes([k]) for k in keys)
    shown = OURS.sub("", played.out)
    bad = {ch for ch in shown if (ord(ch) < 32 and ch not in "\n\t\b") or 0x7F <= ord(ch) < 0xA0}
    assert not bad or (b"\xff" in echoed and bad <= {"\ufffd"}), (bad, played.out)


def test_any_words_and_keys_at_a_terminal_give_a_code_and_move_no_cursor(
    shop: Path, terminal: Terminal
) -> None:
    @fuzz(40, lines(), KEYS, SIZES, ENVIRONMENTS)
    def run(args: list[str], keys: list[bytes], size: tuple[int, int], env: dict[str, str]) -> None:
        hit = b"".join(keys)
        holds(terminal.play(args, shop, env=env, size=size, keys=hit), hit)

    run()


@pytest.mark.parametrize(
    "args",
    [
        ["ls"], ["describe", "place_order/o-\x1b[5m"], ["topic", "read", "shop.log", "start"], ["topic", "list"],
        ["log", "describe"], ["dead-letter", "list"], ["trace", "place_order/o-\x1b[5m"], [], ["--help"], ["explain"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_data_with_escapes_is_shown_and_does_nothing_at_every_width(
    shop: Path, terminal: Terminal, args: list[str]
) -> None:
    for size in ((24, 80), (1, 1), (3, 500)):
        played = terminal.play(args, shop, env={"TERM": "xterm-256color"}, size=size, keys=b"")
        holds(played, b"")
        if args == ["ls"] and size == (3, 500):
            assert played.code == 0 and "o-\\x1b[5m" in played.out, played
