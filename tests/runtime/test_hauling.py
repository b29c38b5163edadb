"""Operations in flight on a log: the examples of the language page, with crashes at every commit and an operator's word."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from contrapas import failpoints
from contrapas.core.envelope_avro import decode
from tests.runtime.hauling import Faster, Ordered, Pause, build, definition
from tests.runtime.rig import Rig, kill_at, rig_of


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    yield
    failpoints.disarm()


def outcome(rig: Rig, instance: str) -> dict[str, object]:
    newest = [r for r in rig.records() if r.key == instance.encode()][-1]
    found: dict[str, object] = json.loads(decode(newest.value).outcome_body)
    return found


async def test_the_quotes_of_all_carriers_are_heard_in_the_order_in_which_they_come() -> None:
    made = definition()
    async with rig_of(made, build(made)) as rig:
        await rig.worker()
        await rig.client().start("choose", Ordered(id="a", carriers=("fast", "slowest", "none", "up")))
        await rig.until(lambda: rig.status("choose/a") == "done")
        assert outcome(rig, "choose/a") == {"id": "a", "cents": 200, "heard": 3}


async def test_a_saga_goes_on_working_while_it_hears_messages_and_can_be_paused() -> None:
    made = definition()
    async with rig_of(made, build(made)) as rig:
        await rig.worker()
        client = rig.client()
        await client.start("haul", Ordered(id="a"))
        await rig.turn(61_000)
        await rig.turn(0, 60)
        await client.send(Faster(id="a"))
        await rig.turn(61_000)
        await rig.turn(0, 60)
        await client.send(Pause(id="a"))
        await rig.until(lambda: rig.status("haul/a") == "done")
        assert outcome(rig, "haul/a")["note"] == "cancelled after 2"


async def test_work_ends_while_nobody_interrupts_it() -> None:
    made = definition()
    async with rig_of(made, build(made)) as rig:
        await rig.worker()
        await rig.client().start("haul", Ordered(id="a"))
        for _ in range(6):
            await rig.turn(61_000)
            await rig.turn(0, 60)
        await rig.until(lambda: rig.status("haul/a") == "done")
        assert outcome(rig, "haul/a")["note"] == "10 after 0"


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("place", ["commit.undispatched", "commit.before"])
async def test_after_a_crash_at_any_commit_what_flies_goes_on_under_the_same_keys(
    place: str, nth: int
) -> None:
    made = definition()
    async with rig_of(made, build(made), fence="order") as rig:
        await rig.worker()
        kill_at(place, nth)
        await rig.client().start("choose", Ordered(id="a", carriers=("fast", "slowest", "none", "up")))
        await rig.killed()
        failpoints.disarm()
        await rig.worker()
        await rig.until(lambda: rig.status("choose/a") == "done")
        assert outcome(rig, "choose/a") == {"id": "a", "cents": 200, "heard": 3}
        ids = {dict(r.headers)["ce_id"] for r in rig.records("quotes.commands")}
        assert len(ids) == 4, "each asked under one key"
