"""Messages in Avro, with a registry over real HTTP (ours, in tests/registry.py): known, unknown, silent, slow, forbidden.

R-19: a producer a release ahead, a field removed, a type changed, the registry down.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator
from typing import Any

import pytest

from contrapas.author.event import Event
from contrapas.author.service import Service
from contrapas.codec.avro_forms import fingerprint_of, schema_of, text_of, write
from contrapas.codec.framing import Ref, confluent, single
from contrapas.core.lane import Headers
from contrapas.errors import Refused, Unreachable
from contrapas.runtime.definition import TopicMapping
from contrapas.runtime.registry import Registry
from contrapas.runtime.schema_desk import Address
from tests.catalogue.desk import TOPIC, Desk, Opened, desk
from tests.codec.test_schemas import avro, record
from tests.registry import Registry as Server
from tests.registry import registry as server

AVRO: Headers = (("content-type", b"application/avro"),)
GOOD = Opened(id="k-1", cents=4200)


@pytest.fixture
def registry() -> Generator[Server]:
    with server() as found:
        yield found


def address(registry: Server, **more: Any) -> Address:
    return Address(url=registry.url, **more)


async def until(d: Desk, true: Callable[[], bool]) -> None:
    """The registry answers in real time, the desk lives in its own."""
    for _ in range(400):
        await d.rig.turn(20)
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it does not come to pass")


async def started(d: Desk) -> None:
    await until(d, lambda: (r := d.record("claim/k-1")) is not None and r.status == "waiting")


async def test_a_cloudevent_in_avro_with_a_registry_id_is_read_and_its_record_can_be_read_without(
    registry: Server,
) -> None:
    number = registry.register("desk.events-Opened", text_of(Opened))
    async with desk(registry=address(registry)) as d:
        await d.put(confluent(number, write(Opened, GOOD)), headers=AVRO)
        await started(d)
        found = d.record("claim/k-1")
        assert found is not None and json.loads(found.cause.value) == {
            "id": "k-1",
            "cents": 4200,
            "rate": None,
        }
        assert dict(found.cause.headers)["content-type"] == b"application/json"
        assert registry.asked == [f"GET /schemas/ids/{number}"]
        d.counted = False  # what is stored is the JSON of those bytes


@pytest.mark.parametrize("key", [b"k-1", b"\x00\x00\x00\x00\x09\x06k-1"])
async def test_a_plain_topic_in_avro_is_known_by_its_schema_s_name_and_mapped_by_its_fields(
    registry: Server, key: bytes
) -> None:
    schema = record(("id", "string"), ("cents", "long"), ("nr", "string"), name="com.shop.Opened")
    number = registry.register("desk.events-value", schema)
    topics = (TopicMapping(topic=TOPIC, id="nr", key="id"),)
    async with desk(registry=address(registry), topics=topics) as d:
        await d.put(confluent(number, avro(schema, {"id": "k-1", "cents": 1, "nr": "n-7"})), key=key, type="")
        await started(d)
        found = d.record("claim/k-1")
        assert found is not None and (found.cause.id, found.cause.type) == ("n-7", "Opened")
        d.counted = False


async def test_the_guid_in_the_header_goes_before_the_prefix(registry: Server) -> None:
    number = registry.register("desk.events-Opened", text_of(Opened))
    async with desk(registry=address(registry)) as d:
        await d.put(write(Opened, GOOD), headers=(("__value_schema_id", registry.guid(number)),))
        await started(d)
        assert registry.asked[0].startswith("GET /schemas/guids/")
        d.counted = False


async def test_a_json_schema_s_prefix_is_taken_off(registry: Server) -> None:
    number = registry.register("x", "{}", "JSON")
    async with desk(registry=address(registry)) as d:
        await d.put(confluent(number, b'{"id":"k-1","cents":1}'))
        await started(d)
        d.counted = False


async def test_single_object_encoding_needs_no_registry() -> None:
    value = single(fingerprint_of(text_of(Opened, "Opened")), write(Opened, GOOD))
    async with desk() as d:
        await d.put(value)
        await started(d)
        d.counted = False


async def test_a_fingerprint_of_another_release_is_a_dead_letter_that_says_so() -> None:
    value = b"\xc3\x01" + bytes(8) + b"x"
    async with desk() as d:
        await d.put(value)
        letter = await d.one_dead()
        assert (letter.code, letter.value) == ("CP404", value)


async def test_an_id_that_the_registry_does_not_know_is_a_dead_letter_bit_for_bit(registry: Server) -> None:
    value = confluent(99, b"\x06k-1")
    async with desk(registry=address(registry)) as d:
        await d.put(value, headers=AVRO)
        await until(d, lambda: d.dead() != [])
        letter = await d.one_dead()
        assert (letter.code, letter.key, letter.value, letter.headers[4:]) == ("CP420", b"k-1", value, AVRO)
        assert d.worker.health().colour == "green"


async def test_without_a_registry_an_id_is_a_dead_letter_that_names_the_setting() -> None:
    async with desk() as d:
        await d.put(confluent(7, b"x"))
        letter = await d.one_dead()
        assert letter.code == "CP420" and "no registry" in letter.error


@pytest.mark.parametrize("trouble", ["stopped", "nonsense", "forbidden"])
async def test_r19_with_the_registry_down_known_schemas_work_on_others_wait_and_health_says_so(
    registry: Server, trouble: str
) -> None:
    known = registry.register("desk.events-Opened", text_of(Opened))
    other = record(("cents", "long"), ("id", "string"), name="Opened")
    later = registry.register("desk.events-Opened", other)
    async with desk(registry=address(registry), partitions=1) as d:
        await d.put(confluent(known, write(Opened, GOOD)))
        await started(d)
        if trouble == "stopped":
            registry.stopped = True
        elif trouble == "nonsense":
            registry.says = b"<html>"
        else:
            registry.authorization = "Basic eDp5"
        await d.put(confluent(known, write(Opened, Opened(id="k-2", cents=1))), key=b"k-2", id="e-2")
        await until(d, lambda: d.record("claim/k-2") is not None)
        await d.put(confluent(later, avro(other, {"id": "k-3", "cents": 3})), key=b"k-3", id="e-3")
        await until(d, lambda: d.worker.health().colour == "red")
        said = d.worker.health().reasons[-1]
        assert f"messages wait for schema id {later}" in said and "registry" in said
        await d.client.start("claim", Opened(id="k-4", cents=4))  # a source waits, not the partition
        await until(d, lambda: d.record("claim/k-4") is not None)
        assert d.record("claim/k-3") is None and d.dead() == []
        registry.stopped, registry.says, registry.authorization = False, None, ""
        await until(d, lambda: d.record("claim/k-3") is not None)
        assert d.worker.health().colour == "green" and d.dead() == []
        d.counted = False


async def test_what_waits_for_its_schema_on_the_inbound_lane_keeps_its_order_and_a_stop_does_not_wait(
    registry: Server,
) -> None:
    number = registry.register("desk.events-Opened", text_of(Opened))
    registry.stopped = True
    async with desk(registry=address(registry), partitions=1) as d:
        await d.put(confluent(number, write(Opened, GOOD)), to="in")
        await d.put(b'{"id":"k-2","cents":1}', to="in", key=b"k-2", id="e-2")
        await until(d, lambda: d.worker.health().colour == "red")
        assert d.record("claim/k-2") is None
        await asyncio.wait_for(d.worker.stop(0), 20)
        registry.stopped = False
        second = await d.rig.worker()
        d.worker = second
        await started(d)
        await until(d, lambda: d.record("claim/k-2") is not None)
        d.client = d.rig.client()
        d.counted = False


async def test_an_early_event_in_avro_is_collected_by_a_worker_that_never_saw_its_schema(
    registry: Server,
) -> None:
    from tests.catalogue.desk import Approved

    number = registry.register("desk.events-Approved", text_of(Approved))
    async with desk(registry=address(registry), partitions=1) as d:
        await d.put(confluent(number, write(Approved, Approved(id="k-1", by="ann"))), type="Approved")
        await until(d, lambda: d.worker.counts().early == 1)
        await d.rig.kill()
        d.worker = await d.rig.worker()
        d.client = d.rig.client()
        await d.client.start("claim", GOOD)
        await until(d, lambda: d.rig.status("claim/k-1") == "done")
        d.counted = False


@pytest.mark.parametrize(
    ("fields", "value", "code"),
    [
        ([("id", "string"), ("cents", "long"), ("new", "string")], {"id": "k-1", "cents": 1, "new": "x"}, ""),
        ([("id", "string"), ("cents", "int")], {"id": "k-1", "cents": 1}, ""),
        ([("id", "string")], {"id": "k-1"}, "CP403"),
        ([("id", "string"), ("cents", "string")], {"id": "k-1", "cents": "1"}, "CP403"),
        ([("id", "string"), ("cents", "double")], {"id": "k-1", "cents": 1.5}, "CP403"),
    ],
)
async def test_r19_a_producer_ahead_a_field_removed_a_type_changed(
    registry: Server, fields: list[Any], value: dict[str, Any], code: str
) -> None:
    schema = record(*fields, name="Opened")
    number = registry.register("desk.events-Opened", schema)
    raw = confluent(number, avro(schema, value))
    async with desk(registry=address(registry)) as d:
        await d.put(raw)
        await until(d, lambda: d.record("claim/k-1") is not None or d.dead() != [])
        assert [letter.code for letter in d.dead()] == ([code] if code else [])
        assert [letter.value for letter in d.dead()] == ([raw] if code else [])
        d.counted = False


class Filed(Event, topic="desk.filed", key="id"):
    id: str


SEEN: list[str] = []


def filing() -> Service:
    service = Service("filing")

    @service.on(Filed)
    async def file(e: Filed) -> None:
        SEEN.append(e.id)

    return service


async def test_a_service_reads_avro_and_structured_events_too(registry: Server) -> None:
    SEEN.clear()
    number = registry.register("desk.filed-Filed", schema_of(Filed))
    async with desk(registry=address(registry), services=(filing(),)) as d:
        await d.put(confluent(number, write(Filed, Filed(id="a"))), key=b"a", type="Filed", to="desk.filed")
        said = {"id": "2", "source": "/x", "type": "Filed", "specversion": "1.0", "data": {"id": "b"}}
        structured: Headers = (("Content-Type", b"application/cloudevents+json; charset=UTF-8"),)
        await d.put(json.dumps(said).encode(), key=b"b", type="", headers=structured, to="desk.filed")
        await d.put(b"{", key=b"c", type="", headers=structured, to="desk.filed")
        await until(d, lambda: sorted(SEEN) == ["a", "b"] and d.dead() != [])
        assert [(letter.code, letter.value, letter.key) for letter in d.dead()] == [("CP401", b"{", b"c")]
        d.counted = False


# ---- the client


def test_credentials_come_by_reference_and_are_read_anew(
    registry: Server, monkeypatch: Any, tmp_path: Any
) -> None:
    number = registry.register("a", record(("a", "string")))
    registry.authorization = "Basic dXNlcjpzZWNyZXQ="
    (tmp_path / "word").write_text("user:secret\n")
    assert (
        Registry(address(registry, auth=f"file:{tmp_path}/word")).schema(Ref("id", str(number))) is not None
    )
    client = Registry(address(registry, auth="env:REGISTRY_WORD"))
    with pytest.raises(Refused) as why:
        client.schema(Ref("id", str(number)))
    assert why.value.code == "CP802" and "secret" not in str(why.value)
    monkeypatch.setenv("REGISTRY_WORD", "token")
    with pytest.raises(Unreachable, match="refuses the credentials") as refused:
        client.schema(Ref("id", str(number)))
    assert "token" not in str(refused.value)
    registry.authorization = "Bearer token"
    assert client.schema(Ref("id", str(number))) is not None


@pytest.mark.parametrize(
    ("url", "auth", "code"),
    [
        ("ftp://x", "", "CP801"),
        ("https://user:secret@host", "", "CP802"),
        ("https://host", "user:secret", "CP802"),
        ("http://host.example.com", "env:X", "CP803"),
    ],
)
def test_an_address_that_would_show_a_secret_is_refused_without_showing_it(
    url: str, auth: str, code: str
) -> None:
    with pytest.raises(Refused) as why:
        Address(url=url, auth=auth)
    assert why.value.code == code and "secret" not in str(why.value)


def test_another_address_is_asked_where_one_does_not_answer(registry: Server) -> None:
    number = registry.register("a", record(("a", "string")))
    client = Registry(Address(url=f"http://127.0.0.1:1, {registry.url}/"))
    found = client.schema(Ref("id", str(number)))
    assert found is not None and client.schema(Ref("id", "99")) is None


def test_references_are_fetched_with_their_schema_each_once(registry: Server) -> None:
    line = record(("sku", "string"), name="shop.Line")
    order = record(("line", "shop.Line"), name="shop.Order")
    registry.register("line", line)
    place = {"name": "shop.Line", "subject": "line", "version": 1}
    number = registry.register("order", order, references=[place, place])
    found = Registry(address(registry)).schema(Ref("id", str(number)))
    assert found is not None and found.references == (json.dumps(line),)


def test_a_registry_that_is_slow_is_given_up_after_its_time(registry: Server) -> None:
    registry.slow = 1.0
    with pytest.raises(Unreachable) as why:
        Registry(address(registry), timeout_s=0.1).schema(Ref("id", "1"))
    assert why.value.code == "CP525"
