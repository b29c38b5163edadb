"""Row 19 of the crash table, on our side: an undo leaves behind its step, on the same lane, and names it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contrapas import Command, Event, Saga, failpoints, saga
from contrapas.core.lane import Draft
from contrapas.core.partition import partition
from contrapas.runtime.build import build
from contrapas.runtime.definition import Definition, SagaUse
from tests.runtime.rig import Rig, kill_at, rig_of


class Began(Event, topic="u.events", key="id"):
    id: str


class Worked(Event, topic="u.replies", key="id"):
    id: str


class Cleaned(Event, topic="u.replies", key="id"):
    id: str


class Work(Command[Worked], topic="u.commands", key="id"):
    id: str


class Clean(Command[Cleaned], topic="u.commands", key="id"):
    id: str


class Over(Event, topic="u.outcomes", key="id"):
    id: str


@saga
async def trip(s: Saga, began: Began) -> Over:
    await s.step(Work(id=s.key), undo=Clean(id=s.key), within="1m")
    return Over(id=s.key)


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    yield
    failpoints.disarm()


async def _answer(rig: Rig, kind: str, event: bytes) -> None:
    """As the participant would, to the oldest command of that class."""
    asked = next(
        h for h in (dict(r.headers) for r in rig.records("u.commands")) if h["ce_type"] == kind.encode()
    )
    headers = (
        ("ce_id", b"r-" + asked["ce_id"]),
        ("ce_source", b"/participant"),
        ("ce_specversion", b"1.0"),
        ("ce_type", event),
        ("cp-kind", b"reply"),
        ("cp-to", b"trip/k"),
        ("cp-in-reply-to", asked["ce_id"]),
        ("ce_correlationid", b"trip/k"),
    )
    at = partition(b"k", rig.log.partitions)
    await rig.log.publish([Draft("in", at, b"k", b'{"id":"k"}', headers, f"r-{event!r}")])
    await rig.turn(1, 40)


@pytest.mark.parametrize("late", ["never", "before the undo is answered", "after the undo is answered"])
@pytest.mark.parametrize(
    "place", ["", "relay.read", "relay.published", "relay.marked", "commit.undispatched"]
)
async def test_row_19_an_undo_follows_its_step_on_one_lane_and_names_it(place: str, late: str) -> None:
    definition = Definition(namespace="u", sagas=(SagaUse(saga=trip, mode="orchestrate"),))
    async with rig_of(definition, build(definition), partitions=2, fence="order") as rig:
        await rig.worker()
        await rig.client().start("trip", Began(id="k"))
        await rig.until(lambda: bool(rig.records("u.commands")))
        if place:
            kill_at(place)
        for _ in range(70):
            await rig.turn(1_000, 2)
            if place and rig.tasks[-1].done():
                await rig.killed()
                await rig.worker()
                place = ""
        assert not place, "the worker did not die"
        await rig.until(
            lambda: len({r.value and dict(r.headers)["ce_type"] for r in rig.records("u.commands")}) == 2
        )
        sent = rig.records("u.commands")
        heads = [dict(r.headers) for r in sent]
        kinds = [h["ce_type"] for h in heads]
        assert kinds == sorted(kinds, reverse=True) and {r.key for r in sent} == {b"k"}
        assert heads[-1]["cp-undoes"] == heads[0]["ce_id"]
        assert len({h["ce_id"] for h in heads}) == 2
        if late.startswith("before"):
            await _answer(rig, "Work", b"Worked")
            assert rig.status("trip/k") == "unwinding"
        await _answer(rig, "Clean", b"Cleaned")
        assert rig.status("trip/k") == "compensated"
        if late.startswith("after"):
            await _answer(rig, "Work", b"Worked")
            assert rig.status("trip/k") == "compensated"
        assert len({dict(r.headers)["ce_id"] for r in rig.records("u.commands")}) == 2
