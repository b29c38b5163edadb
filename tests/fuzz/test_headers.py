"""Headers of records on the log lane that are no numbers, or too long to be one."""

from __future__ import annotations

import zlib

import pytest

from contrapas.cli.records import head_of
from contrapas.core.fold import Fold, Verdict, header_number
from contrapas.core.lane import Headers, Record
from contrapas.errors import Damaged
from contrapas.log.checks import epoch_of
from contrapas.log.sqlite_rows import pack_with_deadline

LONG = b"9" * 5000


def record(*headers: tuple[str, bytes]) -> Record:
    found: Headers = (("cp-kind", b"instance"), *headers, ("cp-sum", b"%08x" % zlib.crc32(b"v")))
    return Record(0, 5, b"s/k", b"v", found, 0)


@pytest.mark.parametrize("version", [b"x", LONG, b"", b"1.5", b"9223372036854775808"])
def test_a_version_that_is_no_number_stops_the_partition_and_is_named(version: bytes) -> None:
    judge = Fold("shop.log")
    assert judge.judge(record(("cp-epoch", b"3"), ("cp-version", version))) is Verdict.STOP
    assert judge.error is not None and (judge.error.code, judge.error.place) == ("CP520", "shop.log/0@5")


@pytest.mark.parametrize("epoch", [b"x", LONG, b"", b"9223372036854775808"])
def test_an_epoch_that_is_no_number_is_a_strangers(epoch: bytes) -> None:
    judge = Fold("shop.log")
    assert judge.judge(record(("cp-epoch", epoch), ("cp-version", b"1"))) is Verdict.LOSER
    assert epoch_of(record(("cp-epoch", epoch))) == -1


def test_a_number_too_long_is_none_where_records_are_looked_at() -> None:
    found = head_of(record(("cp-version", LONG)))
    assert found is not None and found.version == 0
    assert pack_with_deadline((("cp-deadline", LONG),))[1] is None
    with pytest.raises(Damaged, match="cp-deadline"):
        header_number(record(), "cp-deadline", LONG)
    assert header_number(record(), "cp-deadline", b"-5") == -5
    assert header_number(record(), "cp-deadline", None) is None
