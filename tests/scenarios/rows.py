"""The rows of the table of real-process tests, on the embedded log and on Kafka: each named, with its short form, its long form, or what it waits for.

python -m tests.scenarios.rows                 # the table
python -m tests.scenarios.rows R-1             # its tests, as in CI
python -m tests.scenarios.rows R-1 --long      # the long form
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Row(NamedTuple):
    """One row."""

    what: str
    tests: tuple[str, ...] = ()
    """The short form."""
    long: tuple[tuple[str, ...], ...] = ()
    """Command lines behind `python`; empty: the short form is all there is."""
    waits: str = ""
    """The part of the product it belongs to, where the embedded log is not concerned, or what is still missing."""


DISK = "tests/log/test_sqlite_disk.py"
POWER = "tests/log/test_power_loss.py"
CRASH = "tests/log/test_sqlite_crash.py"
BUSY = "tests/scenarios/busy.py"
FUZZ = "tests/fuzz/test_files.py"
KAFKA = "tests/scenarios/kafka_rows.py"
ON_KAFKA = "tests/scenarios/test_kafka_rows.py"
ROWS: dict[str, Row] = {
    "R-1": Row(
        "a worker is killed again and again",
        (
            "tests/scenarios/test_bank.py::test_books_are_exact_after_workers_were_killed_again_and_again",
            f"{ON_KAFKA}::test_r01_books_are_exact_though_workers_are_killed_again_and_again",
        ),
        (("tests/scenarios/bank.py", "--kills", "200"), (KAFKA, "R-1")),
    ),
    "R-2": Row(
        "killed at named places, alone and in pairs",
        (
            "tests/scenarios/test_busy.py::test_every_named_place_is_a_place_where_a_worker_is_killed",
            "tests/scenarios/test_busy.py::test_everything_happens_once_though_workers_die_at_each_place",
            "tests/scenarios/test_rows.py::test_r02_a_worker_dies_at_one_place_and_the_next_at_another",
            f"{CRASH}::test_a_kill_at_a_named_point_loses_nothing_that_was_acknowledged",
            f"{ON_KAFKA}::test_every_place_that_the_connector_names_is_one_where_a_worker_is_killed",
            f"{ON_KAFKA}::test_r02_everything_happens_once_though_workers_die_at_each_place",
        ),
        ((BUSY, "--long"), (BUSY, "--pairs", "60"), (KAFKA, "R-2")),
    ),
    "R-3": Row(
        "former owners",
        (
            f"{CRASH}::test_a_stopped_holder_is_named_and_its_lock_can_be_broken_and_it_is_fenced",
            f"{CRASH}::test_forty_takeover_races_never_let_two_owners_write",
            "tests/scenarios/test_rows.py::test_r03_a_worker_that_was_stopped_and_robbed_goes_on_and_changes_nothing",
            f"{ON_KAFKA}::test_r03_former_owners_write_what_counts_for_nobody",
            f"{ON_KAFKA}::test_r03_two_former_owners_go_on_after_a_takeover_and_nothing_comes_of_it",
            f"{ON_KAFKA}::test_r03_owners_who_do_not_compare_offsets_act_on_what_nobody_counts",
        ),
        (
            ("-m", "tests.scenarios.former", "--rounds", "20"),
            ("-m", "tests.scenarios.former", "--rounds", "3", "--silent", "31"),
            (KAFKA, "R-3"),
            (KAFKA, "R-3 both"),
        ),
    ),
    "R-4": Row(
        "the server is killed",
        (
            "tests/scenarios/test_bank_postgres.py::test_books_are_exact_after_workers_and_server_were_killed",
            f"{ON_KAFKA}::test_r04_the_broker_is_killed_in_mid_commit",
            f"{ON_KAFKA}::test_r04_the_leader_of_a_lane_is_killed_and_another_is_elected",
        ),
        ((KAFKA, "R-4"), (KAFKA, "R-4", "--nodes", "3"), (KAFKA, "R-4 election")),
    ),
    "R-5": Row(
        "rebalance storm",
        (f"{ON_KAFKA}::test_r05_partitions_move_all_the_time",),
        ((KAFKA, "R-5 classic"), (KAFKA, "R-5 consumer")),
    ),
    "R-6": Row("unknown answers", (f"{ON_KAFKA}::test_r06_nobody_knows_what_became_of_a_request",), ((KAFKA, "R-6"),)),
    "R-7": Row("partitions of the network", (f"{ON_KAFKA}::test_r07_nothing_goes_one_way",), ((KAFKA, "R-7"),)),
    "R-8": Row("all slow", (f"{ON_KAFKA}::test_r08_everything_is_slow",), ((KAFKA, "R-8"),)),
    "R-9": Row("disk full", (f"{DISK}::test_a_full_disk_is_named_and_the_log_goes_on_when_there_is_space",)),
    "R-10": Row(
        "I/O errors at the n-th call", (f"{DISK}::test_an_io_error_at_any_call_loses_nothing_and_stops_the_log",)
    ),
    "R-11": Row(
        "power loss",
        (
            f"{DISK}::test_every_acknowledgement_follows_a_sync_of_its_own",
            f"{POWER}::test_r11_every_state_a_power_loss_can_leave_has_all_that_was_acknowledged_and_nothing_half",
        ),
        (("-m", "tests.log.power", "--states", "20000"),),
    ),
    "R-12": Row(
        "clock jumps",
        (
            "tests/scenarios/test_rows.py::test_r12_no_timer_is_early_or_waits_for_a_clock_that_was_put_back",
            "tests/log/test_steady.py",
        ),
        (("-m", "tests.scenarios.clocks", "--rounds", "40"),),
    ),
    "R-13": Row(
        "corrupt log",
        (
            f"{FUZZ}::test_a_damaged_log_is_refused_or_right",
            f"{FUZZ}::test_a_newest_record_that_is_gone_from_the_lane_is_missed",
            "tests/log/test_sqlite_file.py::test_a_flipped_byte_is_found_and_named",
            "tests/cli/test_reading.py::test_a_damaged_record_is_named_and_exits_9",
        ),
    ),
    "R-14": Row(
        "duplicates and stale",
        (
            "tests/runtime/test_struck.py::test_whatever_comes_twice_changes_nothing",
            "tests/runtime/test_stored_services.py::test_i_23_a_duplicate_that_outlived_the_inbox_is_refused_not_applied",
            f"{ON_KAFKA}::test_r14_whatever_comes_again_changes_nothing",
        ),
        ((KAFKA, "R-14"),),
    ),
    "R-15": Row(
        "compaction for real",
        (
            f"{ON_KAFKA}::test_r15_the_cleaner_takes_what_is_superseded_and_nothing_else",
            "tests/scenarios/test_kafka_races.py::test_owners_race_on_a_real_broker_and_what_is_left_is_what_counted",
        ),
        ((KAFKA, "R-15"), ("-m", "tests.scenarios.kafka_races", "--seconds", "3600")),
    ),
    "R-16": Row(
        "a stranger's transaction",
        (f"{ON_KAFKA}::test_r16_a_strangers_transaction_holds_up_one_partition_and_its_records_are_junk",),
        ((KAFKA, "R-16"),),
    ),
    "R-17": Row(
        "poison",
        (
            "tests/catalogue/test_steps.py",
            "tests/catalogue/test_crashes.py",
            "tests/runtime/test_deadly_steps.py",
            "tests/scenarios/test_rows.py::test_r17_a_poisoned_instance_parks_or_fails_alone_and_every_neighbour_goes_on",
        ),
        (("-m", "tests.scenarios.poison", "--rounds", "5"),),
    ),
    "R-18": Row("big payloads", ("tests/catalogue/test_payloads.py", "tests/core/test_parking.py")),
    "R-19": Row("schemas", waits="Kafka: no registry is asked yet"),
    "R-20": Row(
        "rolling restart, of one build: two of the product do not exist yet",
        (f"{ON_KAFKA}::test_r20_workers_are_replaced_one_after_the_other_and_nobody_notices",),
        ((KAFKA, "R-20"),),
    ),
    "R-21": Row(
        "leaks",
        (
            "tests/scenarios/test_rows.py::test_r21_a_hundred_takeovers_leave_no_descriptor_or_thread_behind",
            "tests/scenarios/test_rows.py::test_r21_workers_that_join_and_leave_and_doors_that_open_and_close_leave_nothing_behind",
        ),
        (("-m", "tests.scenarios.leaks", "--rounds", "1000"),),
    ),
    "R-22": Row(
        "looking meanwhile",
        (
            "tests/scenarios/test_rows.py::test_r22_whoever_looks_while_workers_die_changes_nothing",
            "tests/scenarios/test_rows.py::test_r22_a_command_that_looks_is_answered_while_workers_work",
        ),
        (("-m", "tests.scenarios.looking", "--seconds", "60"),),
    ),
}  # fmt: skip


def main() -> int:
    """Print the table, or run one row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("row", nargs="?", choices=ROWS)
    parser.add_argument("--long", action="store_true")
    args = parser.parse_args()
    if args.row is None:
        for name, row in ROWS.items():
            print(f"{name:5}{row.what:45}{f'{len(row.tests)} tests' if row.tests else row.waits}")
        return 0
    row = ROWS[args.row]
    if not row.tests:
        print(f"{args.row} is not shown here: {row.waits}")
        return 0
    commands = row.long if args.long and row.long else ((("-m", "pytest", "-q", *row.tests)),)
    return max(
        subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode for command in commands
    )


if __name__ == "__main__":
    sys.exit(main())
