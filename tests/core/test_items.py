"""Item records and progress: bytes as Avro has them, what begins when, what a takeover finds out."""

from __future__ import annotations

import io
import json
import random
from importlib.resources import files
from typing import Any

import avro.io
import avro.schema
import pytest

from contrapas.author.many import rate_of
from contrapas.core.envelope import Pending
from contrapas.core.envelope_item import ItemRecord, decode_item, encode_item, head_of, owner_bytes, schema
from contrapas.core.items import Item, Progress, item_key
from contrapas.errors import Damaged, DataError


def drawn(rng: random.Random) -> tuple[ItemRecord, bytes]:
    text = rng.choice(["", "x", "ü∀", "b" * 20_000])
    record = ItemRecord(
        "fan/a", "fan/a/r/map(f)/1", "map(f)", "f", rng.choice([0, 63, 64, 99_999]), rng.choice([1, 900]), 7,
        "w", 1_700_000_000_000, rng.choice(["done", "failed", "unknown", "retrying"]), rng.choice([1, 2]), 1000,
        text, rng.choice(["", "why"]), rng.choice([None, 0, 1_700_000_000_000]),
    )  # fmt: skip
    value = encode_item(
        head_of(*record[:4]), record.position, record.version, owner_bytes(7, "w", record.at), record.status,
        record.attempt, record.begun, record.text, record.reason, record.retry_at,
    )  # fmt: skip
    return record, value


@pytest.mark.parametrize("seed", range(20))
def test_an_item_is_plain_avro(seed: int) -> None:
    record, value = drawn(random.Random(seed))
    assert decode_item(value) == record
    text = files("contrapas_schemas").joinpath("avro/item.avsc").read_text()
    reader = avro.io.DatumReader(avro.schema.parse(text))
    body: Any = reader.read(avro.io.BinaryDecoder(io.BytesIO(value[10:])))
    assert body == record._asdict()
    assert value[:10] == schema()[1] and json.loads(text)["namespace"] == "contrapas.log"


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_item_says_so(seed: int) -> None:
    rng = random.Random(seed)
    _, value = drawn(rng)
    with pytest.raises(Damaged):
        decode_item(value[: rng.randrange(len(value))])
    with pytest.raises(Damaged):
        decode_item(value + b"\0")


def progress(count: int, **more: Any) -> Progress:
    pending = Pending(key="fan/a/r/map(f)/1", label="map(f)", visit=1, kind="map", name="f")
    made = Progress(pending, [f"[{i}]" for i in range(count)], 0, None, False, 1000)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def end(p: Progress, position: int, status: str = "done") -> None:
    p.items[position] = Item(status, "1", "", 1, None, 1)
    p.ended += 1
    p.failures += status != "done"


def test_items_begin_in_order_and_no_more_than_there_is_room_for() -> None:
    p = progress(5, concurrency=2)
    assert list(p.to_begin(0)) == [0, 1]
    assert list(p.to_begin(0)) == []
    end(p, 1)
    assert list(p.to_begin(0)) == [2]
    assert p.in_flight() == [0, 2]


def test_a_failure_lets_nothing_more_begin_unless_failures_are_collected() -> None:
    p = progress(5, concurrency=1)
    p.to_begin(0)
    end(p, 0, "failed")
    assert list(p.to_begin(0)) == [] and p.complete
    q = progress(5, concurrency=1, collect=True)
    q.to_begin(0)
    end(q, 0, "failed")
    assert list(q.to_begin(0)) == [1] and not q.complete


@pytest.mark.parametrize(("each", "per"), [(10, 1000), (1, 60_000), (1000, 1000), (3, 10)])
def test_a_rate_is_kept_over_any_time(each: int, per: int) -> None:
    p = progress(100_000, rate=(each, per))
    began: list[int] = []
    now = 5_000_000
    while len(began) < 200 or began[-1] == now:
        began += [now] * len(p.to_begin(now))
        wake = p.wake()
        assert wake is not None and wake > now
        now = wake
    spent = began[-1] - began[0]
    assert len(began) <= spent * each / per + 1 + 20 * each / per
    assert len(began) >= spent * each / per * 0.9


def test_the_key_of_an_item_is_the_map_s_with_the_position_behind_the_label() -> None:
    assert item_key("s/a/b/0f/map(f)[1]/12.1", 3) == "s/a/b/0f/map(f)[1][3]/12.1"


@pytest.mark.parametrize("text", ["", "100", "0/s", "-1/s", "x/s", "1/", "1/fortnight", "1.5/s"])
def test_a_rate_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(DataError) as caught:
        rate_of(text)
    assert caught.value.code == "CP850"


def test_rates_are_read() -> None:
    assert rate_of("100/s") == (100, 1000)
    assert rate_of(" 5 / 10s ") == (5, 10_000)
    assert rate_of(None) is None
