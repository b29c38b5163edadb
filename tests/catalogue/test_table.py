"""The table of the catalogue: each row of bad input, and the tests that hold it. A row without a test fails here.

Tests in this folder say their row in their name (`test_b17_…`). `BESIDES` lists those that hold a row, or a part of it, from
closer by: a door, a decoder, a file.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.catalogue.elsewhere import COMES, SHOWN

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

ROWS: dict[int, str] = {
    5: "side effects, blocking calls between awaits",
    7: "what cannot be stored lives across an await",
    12: "retry, limits that make no sense",
    13: "not our framing on the inbound lane",
    15: "unknown event type",
    17: "missing field, wrong type, no JSON",
    18: "unknown extra field",
    19: "NaN, Infinity, 1e400",
    20: "one key twice",
    21: "ten thousand levels",
    22: "integers beyond 64 bits",
    23: "text that is no Unicode, NUL",
    24: "payloads and records that are too large",
    26: "compressed bytes that would grow",
    27: "empty values",
    28: "keys that are none, disagree, or lie on the wrong partition",
    29: "same id, same bytes",
    30: "same id, other bytes; same key, other payload",
    31: "an event for an instance that does not exist",
    32: "an event for a finished instance",
    33: "times that cannot be one",
    34: "late replies",
    36: "headers",
    37: "serialisations that build types",
    38: "steps, undos, sagas, reactions that raise",
    39: "steps that never return, or block the loop",
    40: "results that cannot be kept",
    41: "steps that end the process",
    42: "steps that change their input or a global",
    43: "a transition computed again that differs",
    44: "unknown words on the command line",
    45: "positions that are none, or where nothing is",
    46: "a replay that should act",
    47: "binary junk in a topic",
    48: "output closed by the reader",
    51: "no answer in time",
    52: "configuration that is not understood",
    56: "an inbox that remembers for a shorter time than a duplicate may come",
    57: "times of the configuration that contradict each other",
    62: "a log recreated or truncated, a position beyond the end",
    63: "input removed unread",
    72: "a SQLite file that cannot be used",
    78: "starts that are older than the retention of their saga",
}

BESIDES: dict[int, tuple[str, ...]] = {
    5: ("tests/check/test_findings.py::test_a_wrong_saga_gives_its_findings_and_no_others",),
    7: ("tests/compiler/test_refusals.py",),
    12: (
        "tests/author/test_values.py::test_attempts_that_make_no_sense_are_refused",
        "tests/author/test_values.py::test_pauses_that_make_no_sense_are_refused",
        "tests/author/test_saga.py::test_a_limit_shorter_than_one_attempt_or_without_sense_is_refused",
    ),
    17: ("tests/web/test_server.py::test_bad_input_is_refused_at_the_door",),
    19: ("tests/codec/test_strict.py::test_what_is_no_strict_json_is_refused_with_its_code",),
    21: ("tests/codec/test_strict.py::test_sixty_four_levels_are_allowed",),
    22: ("tests/codec/test_strict.py::test_a_large_integer_is_accepted_only_where_a_decimal_was_declared",),
    24: ("tests/core/test_parking.py",),
    27: ("tests/runtime/test_crash_table.py",),
    29: (
        "tests/core/test_load.py::test_the_same_id_is_a_repeat_and_with_other_bytes_a_conflict",
        "tests/runtime/test_stored_services.py::test_b_29_i_24_a_command_that_comes_again_is_answered_by_any_worker_with_the_first_reply",
    ),
    30: (
        "tests/app/test_lifespan.py::test_the_same_key_with_another_payload_is_refused_and_the_same_again_is_not",
        "tests/runtime/test_services.py::test_a_command_that_comes_again_is_answered_with_the_first_reply",
        "tests/runtime/test_stored_services.py::test_b_30_i_24_the_same_id_with_other_bytes_is_a_dead_letter_with_both_hashes",
    ),
    31: ("tests/core/test_rendezvous.py",),
    32: ("tests/core/test_cancel.py",),
    34: (
        "tests/core/test_undo.py",
        "tests/runtime/test_stored_services.py::test_i_28_an_undo_that_overtakes_its_command_wins_and_the_late_command_answers_nothing",
    ),
    38: ("tests/core/test_parking.py", "tests/core/test_retry.py"),
    40: ("tests/runtime/test_steps_and_waits.py::test_a_result_that_cannot_be_stored_parks_its_instance",),
    41: ("tests/runtime/test_crash_table.py",),
    42: ("tests/compiler/differential",),
    44: ("tests/cli/test_main.py::test_a_mistyped_command_names_the_nearest_and_exits_2",),
    45: ("tests/cli/test_positions.py::test_a_position_outside_is_refused_with_floor_and_end",),
    47: ("tests/cli/test_text.py::test_binary_is_shown_as_one_kilobyte_of_hex_without_escape_sequences",),
    48: ("tests/cli/test_main.py::test_output_closed_by_the_reader_is_quiet",),
    51: ("tests/runtime/test_steps_and_waits.py::test_an_answer_that_does_not_come_is_an_unknown_outcome",),
    52: ("tests/cli/test_config.py::test_everything_wrong_is_said_at_once_with_its_source",),
    56: (
        "tests/runtime/test_stored_services.py::test_b_56_an_inbox_that_remembers_less_than_an_outage_is_refused_with_the_sum",
        "tests/runtime/test_stored_services.py::test_b_56_i_23_what_is_to_be_read_again_must_be_younger_than_the_inbox_remembers",
    ),
    57: (
        "tests/cli/test_config.py::test_a_session_holds_three_heartbeats",
        "tests/connectors/test_kafka_options.py::test_b57_times_that_contradict_each_other_are_refused",
    ),
    62: (
        "tests/connectors/test_kafka_topics.py::test_b62_a_topic_that_was_made_anew_is_refused",
        "tests/connectors/test_kafka_doctor.py::test_b62_a_position_beyond_the_end_is_refused",
    ),
    63: (
        "tests/connectors/test_kafka_doctor.py::test_b63_input_that_was_removed_unread_is_refused_with_the_gap",
    ),
    72: (
        "tests/log/test_sqlite_file.py::test_each_error_of_sqlite_means_one_of_ours",
        "tests/log/test_sqlite_file.py::test_a_busy_file_is_retriable_and_the_commit_can_be_repeated",
        "tests/log/test_sqlite_disk.py::test_a_full_disk_is_named_and_the_log_goes_on_when_there_is_space",
        "tests/log/test_sqlite_disk.py::test_an_io_error_at_any_call_loses_nothing_and_stops_the_log",
    ),
}


def functions_of(path: Path) -> list[str]:
    """Names of the test functions of a file."""
    tree = ast.parse(path.read_text())
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [f.name for f in functions if f.name.startswith("test_")]


def held() -> dict[int, list[str]]:
    """Row -> its tests in this folder."""
    found: dict[int, list[str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        for name in functions_of(path):
            if (row := re.match(r"test_b(\d+)_", name)) is not None:
                found.setdefault(int(row[1]), []).append(name)
    return found


@pytest.mark.parametrize("row", sorted(ROWS))
def test_every_row_has_a_test(row: int) -> None:
    assert held().get(row), f"B-{row}, {ROWS[row]}: no test in {HERE.name} is named test_b{row:02}_…"


@pytest.mark.parametrize("row", range(1, 80))
def test_every_row_of_the_catalogue_stands_in_one_place(row: int) -> None:
    assert [row in table for table in (ROWS, SHOWN, COMES)].count(True) == 1, f"B-{row}"


def test_no_test_is_named_after_a_row_that_the_table_does_not_have() -> None:
    assert not held().keys() - ROWS.keys()


def test_the_tests_that_hold_rows_from_closer_by_exist() -> None:
    missing: list[str] = []
    for named in (n for names in (*BESIDES.values(), *SHOWN.values()) for n in names):
        file, _, function = named.partition("::")
        path = ROOT / file
        if not path.exists() or (function and function not in functions_of(path)):
            missing.append(named)
    assert missing == []
