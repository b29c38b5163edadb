"""The command line under words that nobody types: an exit code of the table, no traceback, no control byte from data."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import strategies as st

from contrapas.cli import exits, tree
from contrapas.cli.exits import Usage
from contrapas.cli.main import main
from contrapas.cli.positions import parse, span
from contrapas.cli.run import root
from contrapas.runtime import settings
from tests.cli.conftest import compensated, parked, stored
from tests.fuzz.fuzzing import fuzz

CODES = {v for name, v in vars(exits).items() if name.isupper() and isinstance(v, int)}
ENDLESS = {"demo", "dev", "worker", "relay"}
"""They run until a signal; what they read of the command line the others read too."""
NEVER = {"-F", "--follow", "--color", "--alone", "--help", "--version", "--verbose"}
WORDS = (
    "", "-", "--", "o-9", "place_order", "place_order/o-9", "shop.log", "shop.in", "payments.events", "OrderPlaced",
    "order_id=o-1", "=", "a=b=c", "cents=1e400", "\x1b[31m", "a\nb", "\udcff", "ü∀\u202e", "%s%n", "../../x", "x" * 3000,
    "{}", "[", '{"a":1,"a":2}', "NaN", "sqlite:///nowhere.db", "kafka://x", "redis://", "://", "sqlite:///", "1e9",
    "9" * 400, "-9", "+0", "@-1h", "@0001-01-01", "@9999-12-31T23:59:59-23:59", "@1700000000000", "2:5", "1:@-1h:x",
    "start", "end", "²", "٣", "status=done", 'key="o-9" and age<1h', "error~\"(\"", "and and", "age<" + "9" * 400 + "d",
    "CP520", "cp520", "json", "id", "order_saga:app", "order_saga", "os:path", "a.b:c", ":", ".", "/dev/null", "0", "1",
)  # fmt: skip
TEXT = st.one_of(st.sampled_from(WORDS), st.text(max_size=12))


@cache
def verbs() -> dict[str, tuple[tuple[str, ...], click.Command]]:
    """Every verb that ends by itself: its words, its command."""
    found: dict[str, tuple[tuple[str, ...], click.Command]] = {}
    top = root()
    context = click.Context(top)
    for path in [(v,) for v in tree.VERBS] + [(n, v) for n, (_, of) in tree.NOUNS.items() for v in of]:
        group: Any = top if len(path) == 1 else top.get_command(context, path[0])
        if path[0] not in ENDLESS:
            found[" ".join(path)] = (path, group.get_command(context, path[-1]))
    return found


def values_of(parameter: click.Parameter) -> st.SearchStrategy[str]:
    """What may stand there: mostly what is right."""
    kind: Any = parameter.type
    if kind.name == "choice":
        right: list[str] = [str(c) for c in kind.choices if c != "raw"]
        return st.one_of(st.sampled_from(right), TEXT)
    if "timeout" in (parameter.name or "") or "budget" in (parameter.name or ""):
        return st.sampled_from(("1ms", "0s", "x", "", "-1s", "1ms1ms"))
    return TEXT


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """One command line."""
    path, command = verbs()[draw(st.sampled_from(sorted(verbs())))]
    words: list[str] = []
    for parameter in command.params:
        if NEVER & set(parameter.opts):
            continue
        if isinstance(parameter, click.Argument):
            if parameter.required or draw(st.booleans()):
                words += draw(st.lists(TEXT, min_size=1, max_size=1 if parameter.nargs == 1 else 3))
        elif "--timeout" in parameter.opts or draw(st.integers(0, 3)) == 0:
            name = draw(st.sampled_from(parameter.opts))
            words += [name] if getattr(parameter, "is_flag", False) else [name, draw(values_of(parameter))]
    if draw(st.integers(0, 9)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(TEXT))
    return [*path, *words]


@pytest.fixture(scope="module")
def shop() -> Iterator[Path]:
    """The log of a shop in a folder, nothing configured."""
    waiting = [replace(r, instance="place_order/o-7", key="o-7") for r in compensated()[:2]]
    stuck = replace(parked(), instance="place_order/o-\x1b[5m", key="o-\x1b[5m", version=1)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CONTRAPAS_")}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - clean.keys():
            patch.delenv(name)
        here = Path(folder)
        (here / "pyproject.toml").write_text("")
        (here / ".contrapas").mkdir(mode=0o700)
        asyncio.run(stored(here / ".contrapas" / "shop.db", [*compensated(), *waiting, stuck]))
        yield here


def ran(args: list[str], here: Path, stdin: bytes = b"") -> tuple[int, str, str]:
    """One run in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    given = io.TextIOWrapper(io.BytesIO(stdin), "utf-8", errors="surrogateescape")
    was, sys.stdin = sys.stdin, given
    try:
        with contextlib.chdir(here), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(args)
    finally:
        sys.stdin = was
    return code, _said(out), _said(err)


def _said(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.detach()
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


def holds(args: list[str], here: Path, stdin: bytes = b"") -> None:
    """Everything that is promised of one command line."""
    code, out, err = ran(args, here, stdin)
    assert code in CODES, code
    assert "Traceback" not in out + err
    assert "a bug in contrapas" not in err, err
    bad = {ch for ch in out + err if (ord(ch) < 32 and ch not in "\n\t") or 0x7F <= ord(ch) < 0xA0}
    assert not bad, bad


def test_any_words_give_an_exit_code_of_the_table(shop: Path) -> None:
    @fuzz(150, lines(), st.binary(max_size=60))
    def run(args: list[str], stdin: bytes) -> None:
        holds(args, shop, stdin)

    run()


@fuzz(
    300,
    st.one_of(
        st.sampled_from(WORDS), st.from_regex(r"[-+@:0-9TZdhms]{1,24}", fullmatch=True), st.text(max_size=9)
    ),
)
def test_any_position_is_one_or_is_refused(text: str) -> None:
    try:
        found = parse(text, 1_700_000_000_000)
        assert -(2**63) <= found.value < 2**63
        span(text, None, None, 0)
    except Usage as why:
        assert why.code in ("CP807", "CP814")


VALUES = (
    "",
    "1",
    "-1",
    "²",
    "9" * 5000,
    "10s",
    "1ms",
    "x",
    "yes",
    "auto",
    "table",
    "\x1b",
    "sqlite:///x",
    "3m",
    "9" * 30 + "d",
)
NAMES = (*settings.KEYS, "topics", "nmespace", "LOG", "", "\x1b", "app.x")
TOML = st.one_of(
    st.sampled_from(
        ('"10s"', '"x"', "1", "-1", "true", "[]", "{}", "1.5", "1979-05-27", '"\\u001b"', "nan", '"auto"')
    ),
    st.just("{x={type=1,nope=2}}"),
)


@fuzz(
    120,
    st.dictionaries(st.sampled_from([f"CONTRAPAS_{n.upper()}" for n in NAMES if "." not in n]), st.sampled_from(VALUES), max_size=5),
    st.dictionaries(st.sampled_from([n for n in NAMES if n.isalpha()]), TOML, max_size=5),
    st.one_of(st.just(b""), st.binary(max_size=20)),
)  # fmt: skip
def test_any_configuration_is_taken_or_refused_whole(
    env: dict[str, str], file: dict[str, str], junk: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = "[tool.contrapas]\n" + "".join(f"{name} = {value}\n" for name, value in file.items())
        Path(folder, "pyproject.toml").write_bytes(text.encode() + junk)
        whole = _refusals({}, env, folder)
        if junk:
            return
        alone = [r for n, v in env.items() for r in _refusals({}, {n: v}, "/")]
        for one in [*alone, *_refusals({}, {}, folder)]:  # what is wrong by itself is told with all the rest
            over = "heartbeats" in one and {"CONTRAPAS_SESSION", "CONTRAPAS_HEARTBEAT"} & env.keys()
            assert one in whole or over, (one, whole)


def test_times_that_contradict_each_other_are_told_with_everything_else(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.contrapas]\nheartbeat = "10s"\n')
    told = _refusals({}, {"CONTRAPAS_APP": ""}, str(tmp_path))
    assert len(told) == 2 and "three heartbeats" in told[1]


def _refusals(flags: dict[str, Any], env: dict[str, str], folder: str) -> list[str]:
    from contrapas.errors import Refused

    try:
        settings.load(flags, env, Path(folder))
        return []
    except Refused as why:
        assert why.code in ("CP801", "CP806")
        assert all(ch.isprintable() or ch == "\n" for ch in why.text), why.text
        return [line for line in why.text.split("\n") if line != "the configuration is not understood"]
