import json
import re
import sqlite3
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., tuple[int, str, str]]


def fits(value: Any, schema: dict[str, Any], at: str = "") -> None:
    """The few words of JSON schema that our schemas use."""
    kinds = schema.get("type")
    if kinds is not None:
        words = {
            dict: "object",
            list: "array",
            str: "string",
            bool: "boolean",
            int: "integer",
            type(None): "null",
        }
        assert words[type(value)] in ([kinds] if isinstance(kinds, str) else kinds), f"{at}: {value!r}"
    if "enum" in schema:
        assert value in schema["enum"], f"{at}: {value!r}"
    if "properties" in schema:
        found: dict[str, Any] = value
        assert set(schema["required"]) <= set(found), at
        if not schema["additionalProperties"]:
            assert set(found) <= set(schema["properties"]), f"{at}: {set(found) - set(schema['properties'])}"
        for name, inner in found.items():
            fits(inner, schema["properties"].get(name, {}), f"{at}/{name}")
    if "items" in schema:
        listed: list[Any] = value
        for number, inner in enumerate(listed):
            fits(inner, schema["items"], f"{at}/{number}")


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files("contrapas_schemas").joinpath(f"json/{name}.json").read_text())
    return found


def test_instances_are_listed_with_what_they_wait_for(shop: Path, cli: Cli) -> None:
    code, out, err = cli("ls")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert re.split(r"\s{2,}", lines[0]) == ["ID", "SAGA", "STATE", "STATUS", "SINCE", "TRIES", "WAITS FOR"]
    assert re.search(
        r"^o-7 +place_order +ReserveStock +waiting +\S+ +1 +StockReserved\|OutOfStock, due .* ago$",
        out,
        re.MULTILINE,
    )
    assert re.search(r"^o-5 .* parked .* CP847: KeyError: 'x'$", out, re.MULTILINE)
    assert lines[-1] == "3 of 3     waiting 1 · compensated 1 · parked 1"


def test_a_list_is_filtered_by_predicates_and_globs(shop: Path, cli: Cli) -> None:
    assert set(cli("ls", "--where", "status!=compensated and age<1h", "-o", "id")[1].split()) == {
        "o-5",
        "o-7",
    }
    assert set(cli("ls", "place_order/o-[79]", "-o", "id")[1].split()) == {"o-7", "o-9"}
    assert cli("ls", "--where", 'error~"keyerror"', "-o", "id")[1].split() == ["o-5"]
    assert cli("ls", "--where", "code=CP847 and state~charge", "-o", "id")[1].split() == ["o-5"]
    assert cli("ls", "-n", "1")[1].splitlines()[-1].startswith("1 of 3")


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (["ls", "-o", "json"], "instance_list"),
        (["instance", "describe", "o-7", "-o", "json"], "instance"),
        (["instance", "describe", "o-5", "-o", "json"], "instance"),
        (["instance", "trace", "o-9", "-o", "json"], "instance_trace"),
        (["instance", "wait", "o-9", "-o", "json"], "instance_wait"),
        (["topic", "list", "-o", "json"], "topic_list"),
        (["topic", "describe", "payments.commands", "-o", "json"], "topic"),
        (["topic", "describe", "shop.log", "-o", "json"], "topic"),
        (["topic", "read", "payments.events", "-o", "json"], "topic_records"),
        (["log", "describe", "-o", "json"], "log_describe"),
        (["log", "verify", "-o", "json"], "log_verify"),
        (["doctor", "-o", "json"], "doctor"),
        (["explain", "CP703", "-o", "json"], "explain"),
    ],
)
def test_json_output_is_what_its_schema_says(shop: Path, cli: Cli, args: list[str], name: str) -> None:
    out = cli(*args)[1]
    fits(json.loads(out), schema(name))


def test_describe_shows_path_locals_undos_and_the_reason_it_stands(shop: Path, cli: Cli) -> None:
    out = cli("instance", "describe", "o-7")[1]
    assert out.startswith("o-7   place_order@k7Q2   waiting in ReserveStock")
    for words in (
        "START ─▶ ChargeCard ✓ ─▶ ReserveStock ●",
        "waits for   StockReserved | OutOfStock   key o-7",
        'locals      order = {"order_id":"o-9","sku":"mug","cents":4200}',
        "would undo  undo(ChargeCard)",
        "record      shop.log/0@1   version 2   epoch 12",
        "hint        the deadline passed",
    ):
        assert words in out, out


def test_trace_tells_each_step_with_where_it_was_sent_and_answered(shop: Path, cli: Cli) -> None:
    assert cli("instance", "trace", "o-9")[1].splitlines() == [
        "o-9  place_order   OrderRejected (compensated)   134ms",
        "├─ ✓ ChargeCard        41ms   payments.commands/0@0 → payments.events/0@199  CardCharged",
        "├─ ✗ ReserveStock      38ms   stock.events/0@371                             OutOfStock",
        "├─ ↩ undo(ChargeCard)  55ms   payments.events/0@200                          CardRefunded",
        '└─ ▣ OrderRejected                                                           {"order_id":"o-9","reason":"OutOfStock"}',
    ]
    assert cli("instance", "trace", "o-9", "--ascii")[1].isascii()


def test_what_is_not_there_is_not_found_with_the_nearest(shop: Path, cli: Cli) -> None:
    assert cli("instance", "describe", "o-8")[0] == 3
    code, _, err = cli("topic", "read", "payments.event")
    assert code == 3 and "'payments.events'" in err


def test_binary_junk_in_a_topic_is_shown_as_hex_without_terminal_escapes(shop: Path, cli: Cli) -> None:
    code, out, _ = cli("topic", "read", "payments.events")
    assert code == 0
    assert "hex 1b5b324aff00 (6 B)" in out and "\x1b" not in out
    assert "\x1b" not in cli("topic", "read", "payments.events", "-f", "%v\\n")[1]


def test_positions_outside_are_refused_with_floor_and_end(shop: Path, cli: Cli) -> None:
    assert cli("topic", "read", "payments.events", "--from", "yesterday")[0] == 2
    code, _, err = cli("topic", "read", "payments.commands", "--from", "0:99")
    assert code == 6 and "CP807" in err and "floor 0, end 2" in err


def test_records_are_read_from_positions_in_any_form(shop: Path, cli: Cli) -> None:
    assert cli("topic", "read", "payments.commands", "-f", "%t/%p@%o %k %v %y\\n")[1].splitlines() == [
        "payments.commands/0@0 o-9 {} ChargeCard",
        "payments.commands/0@1 o-9 {} ChargeCard",
    ]
    assert cli("topic", "read", "payments.commands", "--from", "-1", "-o", "id")[1].split() == [
        "payments.commands/0@1"
    ]
    assert cli("topic", "read", "payments.commands", "--since", "1h", "-n", "1", "-o", "raw")[1] == "{}"
    assert cli("topic", "read", "payments.commands", "--from", "end")[1] == ""
    assert len(cli("topic", "read", "shop.log", "-o", "jsonl")[1].splitlines()) == 7
    assert cli("topic", "read", "payments.commands", "--where", "key=o-1", "-o", "id")[1] == ""


def test_a_damaged_record_is_named_and_exits_9(shop: Path, cli: Cli) -> None:
    assert "every checksum holds" in cli("log", "verify")[1]
    conn = sqlite3.connect(shop / ".contrapas" / "shop.db", isolation_level=None)
    place, value = conn.execute(
        "select i, value from lane_log where key = ? order by i", (b"place_order/o-7",)
    ).fetchone()
    conn.execute("update lane_log set value = ? where i = ?", (value[:20] + b"\xff" + value[21:], place))
    conn.close()
    code, _, err = cli("log", "verify")
    assert code == 9
    assert "shop.log/0@0  error CP520  checksum differs" in err
    assert (shop / ".contrapas" / "quarantine" / "0-0.bin").exists()
    assert len(err.splitlines()) <= 6


@pytest.mark.parametrize(
    "url",
    ["sqlite:///nowhere.db", "sqlite:///.", "sqlite:///not-a-log.db", "nats://localhost:9", "nonsense"],
)
def test_a_log_that_cannot_be_opened_is_said_in_six_lines(shop: Path, cli: Cli, url: str) -> None:
    (shop / "not-a-log.db").write_bytes(b"not a database" * 100)
    code, out, err = cli("ls", "--log", url)
    assert out == "" and len(err.splitlines()) <= 6
    assert code == {"sqlite:///nowhere.db": 5, "sqlite:///.": 5, "sqlite:///not-a-log.db": 9}.get(url, 6)


def test_several_logs_in_a_folder_need_a_name(shop: Path, cli: Cli) -> None:
    (shop / ".contrapas" / "other.db").write_bytes(b"")
    code, _, err = cli("ls")
    assert code == 6 and "CP817" in err and "other.db, shop.db" in err
    assert cli("ls", "--namespace", "shop")[0] == 0


def test_doctor_says_once_that_there_is_no_log(shop: Path, cli: Cli) -> None:
    code, out, err = cli("doctor", "--log", "sqlite:///nowhere.db")
    assert code == 5 and out == "" and err.count("CP501  ") == 1


def test_doctor_names_what_is_worth_a_look(shop: Path, cli: Cli) -> None:
    code, out, _ = cli("doctor")
    assert code == 0
    assert "! no worker owns a partition" in out
    assert "! 1 instance parked" in out


def test_waiting_exits_8_for_what_did_not_end_well_and_7_when_it_takes_too_long(shop: Path, cli: Cli) -> None:
    code, out, _ = cli("instance", "wait", "o-9")
    assert (code, out) == (8, "o-9 ended OrderRejected (compensated)\n")
    assert cli("instance", "wait", "o-5")[0] == 8
    code, _, err = cli("instance", "wait", "o-7", "--timeout", "50ms")
    assert code == 7 and "CP507" in err and "instance describe o-7" in err
