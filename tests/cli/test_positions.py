import pytest

from contrapas.cli.exits import Usage
from contrapas.cli.positions import Position, duration_ms, parse, resolve, span
from contrapas.errors import Refused

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("start", Position("start")),
        ("end", Position("end")),
        ("1041", Position("offset", 1041)),
        ("-100", Position("before", 100)),
        ("+5", Position("after", 5)),
        ("@-1h", Position("time", NOW - 3_600_000)),
        ("@2023-11-14T22:13:20Z", Position("time", NOW)),
        ("@2023-11-14T22:13Z", Position("time", NOW - 20_000)),
        ("@1700000000000", Position("time", NOW)),
        ("2:1041", Position("offset", 1041, 2)),
        ("2:@-1h", Position("time", NOW - 3_600_000, 2)),
    ],
)
def test_a_position_is_written_as_rpk_writes_it(written: str, meant: Position) -> None:
    assert parse(written, NOW) == meant


@pytest.mark.parametrize(
    "written", ["yesterday", "", "-", "+", "@", "@-", "@-1x", "1.5", "--5", "2:", "٣", "@2023-13-01", "1041x"]
)
def test_what_is_no_position_is_wrong_usage(written: str) -> None:
    with pytest.raises(Usage) as caught:
        parse(written, NOW)
    assert caught.value.code in ("CP807", "CP814")


def test_a_time_range_names_both_ends() -> None:
    both = span("@-2d:@-1d", None, None, NOW)
    assert both.last.value - both.first.value == 86_400_000
    with pytest.raises(Usage):
        span("@-2d:@-1d", "end", None, NOW)


def test_since_is_short_for_from() -> None:
    assert span(None, None, "1h", NOW).first == Position("time", NOW - 3_600_000)
    with pytest.raises(Usage):
        span("start", None, "1h", NOW)


def test_positions_resolve_within_the_bounds_of_a_partition() -> None:
    told = [
        resolve(parse(p, NOW), 10, 50, 30, "t/0") for p in ("start", "end", "12", "-5", "-100", "+5", "@-1h")
    ]
    assert told == [10, 50, 12, 45, 10, 15, 30]


@pytest.mark.parametrize("written", ["51", "9", "+41"])
def test_a_position_outside_is_refused_with_floor_and_end(written: str) -> None:
    with pytest.raises(Refused, match="CP807") as caught:
        resolve(parse(written, NOW), 10, 50, None, "t/0")
    assert "floor 10, end 50" in caught.value.fix


def test_durations_add_up() -> None:
    assert duration_ms("2h30m") == 9_000_000
    assert duration_ms("1.5s") == 1500
