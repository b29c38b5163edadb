from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ((), "CP814", "no log is named, and the built-in one is our own"),
        (("--log", "sqlite:///shop.db"), "CP814", "sqlite:///shop.db is a file of our own"),
        (("--log", "memory:"), "CP814", "memory: is a file of our own"),
        (("--log", "kafka://localhost:9092", "--from", "yesterday"), "CP807", "'yesterday' is no position"),
        (("--log", "kafka://localhost:9092", "--from", "2:1041"), "CP807", "names one partition"),
    ],
)
def test_what_cannot_be_followed_is_said_before_anything_begins(
    cli: Cli, here: Path, args: tuple[str, ...], code: str, words: str
) -> None:
    exit_code, out, err = cli("dev", "shop.py:app", "--read-only", *args)
    assert (exit_code, out) == (2, "")
    assert code in err and words in err and len(err.splitlines()) <= 6
    assert list(here.iterdir()) == []


def test_a_position_without_read_only_is_refused(cli: Cli) -> None:
    exit_code, _, err = cli("dev", "shop.py:app", "--from", "start")
    assert exit_code == 2 and "CP814" in err and "--read-only" in err


def test_a_log_without_a_reading_side_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from contrapas.cli import readonly

    class Connector:
        pass

    def connector_of(url: str) -> Any:
        return Connector()

    monkeypatch.setattr(readonly, "connector_of", connector_of)
    exit_code, _, err = cli("dev", "shop.py:app", "--read-only", "--log", "nats://localhost:4222")
    assert exit_code == 2 and "does not know how to follow nats://" in err
