"""Rows of the catalogue about the command line: wrong words, wrong positions, junk, closed pipes, no answer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from contrapas.core.lane import Draft
from contrapas.log.sqlite import SqliteLog
from contrapas.runtime.client import Client, Told
from contrapas.runtime.worker import Health, setting_of
from contrapas.web.server import create
from tests.catalogue.desk import built, definition_of
from tests.catalogue.files import edited, made, opened, put, using
from tests.catalogue.shell import Cli

JUNK = b"\x1b[2J\x1b]0;owned\x07\xff\x00\r\n" * 200


# ---- B-44 words


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("chekc",), "check"),
        (("topic", "raed"), "read"),
        (("ls", "--outptu", "json"), "--output"),
        (("instance", "start", "--tiemout", "1s", "x"), "--timeout"),
    ],
)
def test_b44_an_unknown_word_names_the_nearest_and_exits_2(
    cli: Cli, words: tuple[str, ...], near: str
) -> None:
    ran = cli(*words)
    assert (ran.code, ran.out) == (2, "")
    assert "error CP814" in ran.err
    assert near in ran.err


# ---- B-45 positions


def test_b45_a_position_that_is_none_exits_2(cli: Cli) -> None:
    made(cli.here)
    for word in ("yesterday", "-", "1.5", "@tomorrow", "0:", "²"):
        ran = cli("topic", "read", "desk.events", "--from", word)
        assert (ran.code, "CP807" in ran.err) == (2, True), ran


def test_b45_a_position_outside_of_what_is_there_is_refused_with_floor_and_end(cli: Cli) -> None:
    path = made(cli.here)
    put(path, *(opened(f"k-{n}") for n in range(8)))
    edited(path, "delete from lane_topic where o < 3", "update topic_part set start=3 where head=8")
    for position, side in (("9", "beyond the end"), ("2", "below the floor"), ("0:1", "below the floor")):
        ran = cli("topic", "read", "desk.events", "--from", position)
        assert (ran.code, ran.out) == (6, ""), ran
        assert "CP807" in ran.err
        assert side in ran.err
        assert "floor 3, end 8" in ran.err
    assert cli("topic", "read", "desk.events", "--from", "3").code == 0


# ---- B-36, B-47 junk


@pytest.mark.parametrize(
    "form", [(), ("-o", "wide"), ("-o", "json"), ("-o", "jsonl"), ("-f", "%t %k %v %h %y\\n")]
)
def test_b47_binary_junk_is_shown_without_a_single_control_character(cli: Cli, form: tuple[str, ...]) -> None:
    path = made(cli.here)
    headers = (("ce_type", b"\x1b[31mred\r\n"), ("x-\x1b[2J", JUNK), ("ce_correlationid", b"a\x1bb/\xff"))
    put(path, Draft("desk.events", -1, b"k\x1b[1m\xff", JUNK, headers, "j"))
    ran = cli("topic", "read", "desk.events", *form)
    assert ran.code == 0, ran
    assert ran.out
    assert not [c for c in ran.said if ord(c) < 32 and c != "\n" or 0x7F <= ord(c) < 0xA0]
    if form in ((), ("-o", "wide")):
        assert f"hex {JUNK[:1024].hex()}… ({len(JUNK):,} B)".replace(",", " ") in ran.out


def test_b36_a_stranger_s_words_are_escaped_in_lists_and_errors(cli: Cli) -> None:
    made(cli.here)
    for words in (
        ("instance", "describe", "\x1b[2Jx"),
        ("topic", "read", "a\x1b[31m"),
        ("explain", "\x1b[0m"),
    ):
        ran = cli(*words)
        assert ran.code == 3, ran
        assert "\x1b" not in ran.said
        assert "\\x1b" in ran.err


# ---- B-19 to B-24 rows of a file


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ('{"id":"k-1","cents":NaN}', "CP405"),
        ('{"id":"k-1","cents":1,"cents":2}', "CP405"),
        ('{"id":"k-1","x":' + "[" * 10_000 + "]" * 10_000 + "}", "CP406"),
        ('{"id":"k-1","cents":' + "9" * 5000 + "}", "CP407"),
        ('{"id":"\\ud800"}', "CP408"),
        ('{"id":"k-1","x":"' + "x" * 900_000 + '"}', "CP409"),
        ('{"cents":1}', "CP818"),
        ('["k-1"]', "CP818"),
        ('{"id":"' + "k" * 10_000 + '"}', "CP818"),
    ],
)
def test_b24_a_file_with_one_bad_row_sends_nothing_and_names_the_row(cli: Cli, row: str, code: str) -> None:
    made(cli.here)
    (cli.here / "rows.jsonl").write_text('{"id":"k-0","cents":1}\n' + row + "\n")
    ran = cli("topic", "produce", "desk.events", "--key", "id", "--file", str(cli.here / "rows.jsonl"))
    assert ran.code in (2, 6), ran
    assert f"rows.jsonl:2  error {code}" in ran.err
    assert cli("topic", "read", "desk.events", "-o", "jsonl").out == ""


@pytest.mark.parametrize(("cell", "code"), [("nan", "CP818"), ("1e400", "CP405"), ("9" * 5000, "CP818")])
def test_b19_a_number_of_a_table_that_is_none_is_refused_with_its_row(cli: Cli, cell: str, code: str) -> None:
    made(cli.here)
    (cli.here / "rows.csv").write_text(f"id,cents\nk-0,1\nk-1,{cell}\n")
    fields = ("--field", "id=id", "--field", "cents=cents:number")
    ran = cli("topic", "produce", "desk.events", "--key", "id", "--file", str(cli.here / "rows.csv"), *fields)
    assert ran.code in (2, 6), ran
    assert f"rows.csv:3  error {code}" in ran.err
    assert cli("topic", "read", "desk.events", "-o", "jsonl").out == ""


# ---- B-48 closed output


def test_b48_output_closed_by_the_reader_is_quiet(cli: Cli) -> None:
    path = made(cli.here)
    put(path, *(opened(f"k-{n}") for n in range(3000)))
    command = " ".join(cli.command("topic", "read", "desk.events", "-o", "jsonl"))
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -n 1"],
        check=False,
        capture_output=True,
        cwd=cli.here,
        env=cli.env,
    )
    assert (ran.returncode, ran.stderr, ran.stdout.count(b"\n")) == (0, b"", 1)


# ---- B-51 no answer


def test_b51_no_answer_in_time_is_unknown_with_7_and_says_how_to_look_and_repeat(cli: Cli) -> None:
    made(cli.here)
    ran = cli(
        "instance", "start", "claim", "--type", "Opened", "--key", "k-1", "--timeout", "100ms", "id=k-1"
    )
    assert ran.code == 7, ran
    assert "CP507" in ran.err
    assert "instance describe claim/k-1" in ran.err
    assert "--event-id" in ran.err
    assert cli("topic", "read", "desk.in", "-o", "jsonl").out.count('"key":"k-1"') == 1


class Impatient(Client):
    async def state(self, instance: str, *, timeout_ms: int = 100) -> Told:
        return await super().state(instance, timeout_ms=timeout_ms)


def test_b51_no_answer_in_time_is_504_over_http(tmp_path: Path) -> None:
    path = made(tmp_path)

    async def work(log: SqliteLog) -> None:
        definition = definition_of()
        client = Impatient(log, setting_of(log, definition, built(), writer="t"))
        app = create(client, token="t" * 16, health=Health)
        headers = {"authorization": f"Bearer {'t' * 16}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            answer = await http.get("/sagas/claim/k-1", headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (504, "urn:contrapas:CP507")
            start = await http.post("/sagas/claim", content=b'{"id":"k-1","cents":1}')
            assert (start.status_code, start.json()["verdict"]) == (202, "accepted")
        await client.close()

    using(path, work)


def test_b46_nothing_that_looks_can_be_told_to_act(cli: Cli) -> None:
    """`replay` is to come; what looks at a log today takes no flag that acts."""
    made(cli.here)
    for words in (["topic", "read", "desk.in"], ["instance", "describe", "claim/x"], ["log", "verify"]):
        for flag in ("--apply", "--yes", "--redrive"):
            ran = cli(*words, flag)
            assert ran.code == 2 and "CP814" in ran.err, (words, flag, ran)
    assert cli("replay", "desk").code == 2
