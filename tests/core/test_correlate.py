"""Which instance an event is for."""

from __future__ import annotations

import pytest

from contrapas.core.correlate import ABSENT, ENDED, LIVE, correlate, routes_of
from contrapas.core.decode import Arrival, Doors, decode
from contrapas.core.lane import Headers, Record
from contrapas.core.partition import partition
from tests.runtime.machines import world_of

WORLD = world_of()
ROUTES = routes_of(WORLD)
DOORS = Doors(types=WORLD.types, partitions=4)


def _arrival(type_name: str, key: str = "a", *more: tuple[str, bytes]) -> Arrival:
    n = {"Began": ',"n":1', "Ended": ',"sum":1'}.get(type_name, "")
    headers: Headers = (
        ("ce_id", b"1"),
        ("ce_source", b"/x"),
        ("ce_specversion", b"1.0"),
        ("ce_type", type_name.encode()),
        *more,
    )
    raw = key.encode()
    found = decode(Record(partition(raw, 4), 0, raw, f'{{"id":"{key}"{n}}}'.encode(), headers, 0), DOORS)
    assert isinstance(found, Arrival), found
    return found


def test_a_start_event_starts_every_saga_that_begins_with_it() -> None:
    found = correlate(_arrival("Began"), ROUTES, lambda i: ABSENT)
    assert found.starts == ("seq/a", "wait/a", "pay/a")


def test_a_start_of_one_saga_names_it() -> None:
    a = _arrival("Began", "a", ("cp-kind", b"start"), ("cp-to", b"wait/a"))
    assert correlate(a, ROUTES, lambda i: ABSENT).starts == ("wait/a",)


def test_a_start_for_a_key_that_is_not_its_own_is_dead() -> None:
    a = _arrival("Began", "a", ("cp-kind", b"start"), ("cp-to", b"wait/b"))
    assert correlate(a, ROUTES, lambda i: ABSENT).dead == "CP413"


def test_an_event_goes_to_the_live_instances_of_its_key_that_take_it() -> None:
    assert correlate(_arrival("Go"), ROUTES, lambda i: LIVE).instances == ("wait/a",)


def test_an_event_without_an_instance_meets_at_a_rendezvous() -> None:
    found = correlate(_arrival("Go"), ROUTES, lambda i: ABSENT)
    assert (found.instances, found.waits) == ((), "$wait/Go/a")


def test_an_event_for_an_ended_instance_is_a_no_op_of_it() -> None:
    assert correlate(_arrival("Go"), ROUTES, lambda i: ENDED).instances == ("wait/a",)


def test_a_reply_for_nobody_is_dead_at_once() -> None:
    a = _arrival("Done", "a", ("cp-in-reply-to", b"pay/a/1/Pay/1"), ("ce_correlationid", b"pay/a"))
    assert correlate(a, ROUTES, lambda i: ABSENT).dead == "CP414"
    assert correlate(a, ROUTES, lambda i: LIVE).instances == ("pay/a",)


def test_a_type_that_no_saga_mentions_is_dead() -> None:
    assert correlate(_arrival("Ended"), ROUTES, lambda i: ABSENT).dead == "CP402"


@pytest.mark.parametrize("standing", [ABSENT, LIVE])
def test_a_signal_goes_to_its_instance_or_waits_for_it(standing: int) -> None:
    a = _arrival("Go", "a", ("cp-kind", b"signal"), ("cp-to", b"wait/a"))
    found = correlate(a, ROUTES, lambda i: standing)
    assert found.instances == (("wait/a",) if standing == LIVE else ())
    assert found.waits == ("" if standing == LIVE else "$wait/Go/a")
