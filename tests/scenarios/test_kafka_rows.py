"""Short forms of the rows of real processes on Kafka; the long ones are commands in `kafka_rows.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kafka.server import Missing, Server
from tests.installed import missing
from tests.kafka import SETTINGS
from tests.scenarios import rows
from tests.scenarios.kafka_former import formers
from tests.scenarios.kafka_lanes import CHAINS, places, siege
from tests.scenarios.kafka_rig import Verdict
from tests.scenarios.kafka_rows import ROWS, SHORT_S

pytestmark = pytest.mark.slow


@pytest.fixture
def broker() -> Iterator[Server]:
    """One for each row: the bank's topics have fixed names, and a row that sends old ranges again would send another's."""
    try:
        with Server(settings=SETTINGS) as server:
            yield server.start()
    except Missing as why:
        missing(str(why))


async def short(name: str, folder: Path, broker: Server, seconds: float = SHORT_S) -> Verdict:
    """A row's short form: everything exact, and money moved."""
    verdict = await ROWS[name](folder, broker, seconds, 7)
    assert verdict.exact, verdict
    assert verdict.done > 0 and verdict.refused > 0, verdict
    return verdict


async def test_r01_books_are_exact_though_workers_are_killed_again_and_again(
    tmp_path: Path, broker: Server
) -> None:
    verdict = await short("R-1", tmp_path, broker)
    assert verdict.struck["worker killed"] >= 4


def test_every_place_that_the_connector_names_is_one_where_a_worker_is_killed() -> None:
    killed = [place for chain in CHAINS.values() for place in chain]
    assert sorted(killed) == places()


@pytest.mark.parametrize("chain", CHAINS)
async def test_r02_everything_happens_once_though_workers_die_at_each_place(
    tmp_path: Path, broker: Server, chain: str
) -> None:
    verdict = await siege(tmp_path, broker, CHAINS[chain], instances=40, more=12)
    assert verdict.exact, verdict
    assert verdict.killed == list(CHAINS[chain])
    assert all(verdict.in_flight.values())


async def test_r03_former_owners_write_what_counts_for_nobody(tmp_path: Path, broker: Server) -> None:
    verdict = await short("R-3", tmp_path, broker)
    assert verdict.saw["fenced"] > 0 and verdict.void > 0, verdict


async def test_r03_two_former_owners_go_on_after_a_takeover_and_nothing_comes_of_it(
    tmp_path: Path, broker: Server
) -> None:
    verdict = await short("R-3 both", tmp_path, broker, 0)
    assert verdict.saw["fenced"] > 0, verdict
    assert sum(what.startswith("void of") for what in verdict.struck) >= 2, "both wrote behind the claims"
    assert verdict.void and not verdict.struck["void in the fold"], verdict


async def test_r03_owners_who_do_not_compare_offsets_act_on_what_nobody_counts(
    tmp_path: Path, broker: Server
) -> None:
    verdict = await formers(tmp_path, broker, 0, 7, broken="offsets")
    assert not verdict.exact and not verdict.saw["fenced"], verdict
    assert any("was acknowledged and is void" in fault for fault in verdict.faults), verdict


async def test_r04_the_broker_is_killed_in_mid_commit(tmp_path: Path, broker: Server) -> None:
    verdict = await short("R-4", tmp_path, broker)
    assert verdict.struck["broker killed"] >= 2


async def test_r04_the_leader_of_a_lane_is_killed_and_another_is_elected(tmp_path: Path) -> None:
    try:
        with Server(3, settings=SETTINGS) as three:
            verdict = await short("R-4 election", tmp_path, three.start(), 0)
    except Missing as why:
        missing(str(why))
    assert verdict.struck["leader of 0 killed"] == 1, verdict


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_r05_partitions_move_all_the_time(tmp_path: Path, broker: Server, protocol: str) -> None:
    await short(f"R-5 {protocol}", tmp_path, broker)


async def test_r06_nobody_knows_what_became_of_a_request(tmp_path: Path, broker: Server) -> None:
    verdict = await short("R-6", tmp_path, broker)
    assert sum(n for what, n in verdict.struck.items() if "nothing" not in what) >= 3, verdict


async def test_r07_nothing_goes_one_way(tmp_path: Path, broker: Server) -> None:
    await short("R-7", tmp_path, broker)


async def test_r08_everything_is_slow(tmp_path: Path, broker: Server) -> None:
    verdict = await short("R-8", tmp_path, broker)
    assert set(verdict.struck) == {"50-500 ms", "64 kB/s", "slices"}, verdict


async def test_r14_whatever_comes_again_changes_nothing(tmp_path: Path, broker: Server) -> None:
    verdict = await short("R-14", tmp_path, broker, 3)
    assert verdict.struck["again"] > 20, verdict


async def test_r15_the_cleaner_takes_what_is_superseded_and_nothing_else(
    tmp_path: Path, broker: Server
) -> None:
    verdict = await short("R-15", tmp_path, broker, 3)
    assert 0 < verdict.struck["left"] < verdict.struck["seen"], "the cleaner was at work"
    assert not verdict.struck["early"], "while nothing could leave"


async def test_r16_a_strangers_transaction_holds_up_one_partition_and_its_records_are_junk(
    tmp_path: Path, broker: Server
) -> None:
    await short("R-16", tmp_path, broker, 3)


async def test_r20_workers_are_replaced_one_after_the_other_and_nobody_notices(
    tmp_path: Path, broker: Server
) -> None:
    verdict = await short("R-20", tmp_path, broker)
    assert set(verdict.struck) == {"left in order"}, verdict
    assert not verdict.void and not verdict.saw["fenced"], verdict


def test_every_row_of_kafka_has_a_command_for_its_long_form() -> None:
    named = {name.partition(" ")[0] for name in ROWS}
    assert named == {f"R-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 14, 15, 16, 20)}
    assert named <= set(rows.ROWS)
