from __future__ import annotations

from datetime import timedelta

import pytest

from contrapas import FOREVER, Failed, Retry, Timeout
from contrapas.author.duration import duration_ms, duration_text
from contrapas.author.retry import STEP_RETRY, UNDO_RETRY
from contrapas.errors import DataError


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("30s", 30_000),
        ("2h30m", 9_000_000),
        ("1.5s", 1_500),
        ("250ms", 250),
        ("9h", 32_400_000),
        ("2d", 172_800_000),
        ("1w", 604_800_000),
        (timedelta(minutes=3), 180_000),
    ],
)
def test_a_length_of_time_is_whole_milliseconds(written: str | timedelta, ms: int) -> None:
    assert duration_ms(written) == ms


@pytest.mark.parametrize("ms", [1, 999, 1000, 61_000, 3_600_000, 90_061_001])
def test_the_shortest_spelling_means_the_same(ms: int) -> None:
    assert duration_ms(duration_text(ms)) == ms


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "soon",
        "5",
        "5 s",
        "-3s",
        "s",
        "1e9s",
        "inf",
        "nan",
        "30s ",
        "1000000w",
        "0s",
        "9" * 50 + "s",
        30,
        1.5,
        None,
    ],
)
def test_nonsense_is_refused_by_name(nonsense: object) -> None:
    with pytest.raises(DataError) as refused:
        duration_ms(nonsense, what="within=")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert refused.value.code == "CP850"
    assert "within=" in refused.value.text


@pytest.mark.parametrize("when", [timedelta(0), timedelta(seconds=-1), timedelta.max])
def test_a_timedelta_must_be_positive_and_end(when: timedelta) -> None:
    with pytest.raises(DataError, match="CP850"):
        duration_ms(when)


def test_pauses_double_up_to_the_last() -> None:
    policy = Retry(5, backoff="1s..10s")
    assert [policy.delay_ms(n) for n in range(1, 7)] == [1000, 2000, 4000, 8000, 10_000, 10_000]
    assert policy.delay_ms(10_000) == 10_000
    assert Retry(2, backoff="3s").delay_ms(9) == 3000


def test_the_last_allowed_attempt_is_the_last() -> None:
    assert [Retry(3).allows(n) for n in (1, 2, 3)] == [True, True, False]
    assert FOREVER.allows(1_000_000)
    assert FOREVER.forever


def test_the_defaults_are_those_that_are_documented() -> None:
    assert STEP_RETRY == Retry(5)
    assert UNDO_RETRY == Retry(10, backoff="1s..5m")


@pytest.mark.parametrize("policy", [FOREVER, Retry(1), Retry(7, "250ms..2m", each="30s")])
def test_a_policy_survives_its_text(policy: Retry) -> None:
    assert Retry.parse(policy.text()) == policy


@pytest.mark.parametrize("attempts", [0, -1, 2.5, True, float("inf"), "3", 10**9])
def test_attempts_that_make_no_sense_are_refused(attempts: object) -> None:
    with pytest.raises(DataError) as refused:
        Retry(attempts)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert refused.value.code == "CP850"
    assert repr(attempts) in refused.value.text


@pytest.mark.parametrize("backoff", ["", "..", "1s..", "-1s", "1s..inf", "5m..1s", "1s..2s..3s", 5])
def test_pauses_that_make_no_sense_are_refused(backoff: object) -> None:
    with pytest.raises(DataError, match="CP850"):
        Retry(3, backoff)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_policy_shows_itself_as_it_is_written() -> None:
    assert repr(FOREVER) == "FOREVER"
    assert repr(Retry(3, "1s..1m", each="30s")) == 'Retry(3, backoff="1s..1m", each="30s")'


def test_all_timeouts_are_equal_and_match_a_case() -> None:
    assert Timeout() == Timeout()
    match Timeout():
        case Timeout():
            pass
    assert Failed(reason="x") != Failed(reason="x", unknown=True)
