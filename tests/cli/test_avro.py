import json
from importlib.resources import files

import pytest

from contrapas.cli import avro, lanes, records
from contrapas.core import envelope, envelope_avro
from contrapas.core.envelope import InstanceRecord
from contrapas.errors import Damaged
from contrapas.log import sqlite_file


def test_the_short_reader_reads_what_the_library_reads(
    compensated_records: list[InstanceRecord], parked_record: InstanceRecord
) -> None:
    for record in [*compensated_records, parked_record]:
        value = envelope_avro.encode(record)
        assert avro.decode(value) == envelope_avro.decode(value) == record


def test_the_fingerprint_is_that_of_the_schema() -> None:
    schema = files("contrapas_schemas").joinpath("avro/instance.avsc").read_text()
    magic = b"\xc3\x01" + avro.crc64(avro.canonical(json.loads(schema), "").encode()).to_bytes(8, "little")
    assert envelope_avro.schema()[1] == magic


def test_cut_and_changed_bytes_are_damage(parked_record: InstanceRecord) -> None:
    value = envelope_avro.encode(parked_record)
    for bad in (value[:-1], value + b"x", b"\x00" + value[1:], b"", value[:10], value[:10] + b"\xff" * 40):
        with pytest.raises(Damaged):
            avro.decode(bad)


def test_what_is_written_twice_for_speed_is_the_same() -> None:
    assert lanes.SCHEMA == sqlite_file.SCHEMA
    assert records.ENDED == envelope.ENDED
    assert sorted(records.ORDER) == sorted(envelope.STATUSES)
