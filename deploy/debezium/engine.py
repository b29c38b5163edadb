"""Debezium without Kafka Connect: its engine in a Java process, on the connector settings that lie beside this file.

    python deploy/debezium/engine.py fetch            the jars, into the cache
    python deploy/debezium/engine.py run URL FILE     what it sends, as JSON lines into FILE, until Ctrl-C

For tests, and to see what the settings do. The jars are those of `artefacts.lock`, as `deploy/maven.py` fetches them.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit

if __package__ in (None, ""):  # run as a file, not as a module
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from deploy.maven import Missing, jars, java

__all__ = ["Engine", "Missing", "Sent"]

HERE: Final = Path(__file__).resolve().parent
JAVA_MIN: Final = 17
LOCK: Final = HERE / "artefacts.lock"


class Sent(NamedTuple):
    """One record as Kafka would get it."""

    topic: str
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None


class Engine:
    """One connector on one database: `start`, `sent`, `stop`, and `start` again from its own position."""

    def __init__(self, url: str, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        """url: `postgresql://user:password@host:port/database`, over TCP. settings: instead of those of the file."""
        self.out = folder / "records.jsonl"
        self._words = folder / "words"
        self._properties = folder / "connector.properties"
        self._process: subprocess.Popen[bytes] | None = None
        self._java = java(JAVA_MIN, "Debezium")[0]
        self._jars = jars(LOCK)
        parts = urlsplit(url)
        whole = {
            **read(HERE / "outbox.properties"),
            "name": "contrapas",
            "topic.prefix": "contrapas",
            "database.hostname": parts.hostname or "",
            "database.port": str(parts.port or 5432),
            "database.user": unquote(parts.username or ""),
            "database.password": unquote(parts.password or ""),
            "database.dbname": parts.path.lstrip("/"),
            "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
            "offset.storage.file.filename": str(folder / "offsets"),
            "offset.flush.interval.ms": "200",
            "poll.interval.ms": "50",
            **(settings or {}),
        }
        text = "".join(f"{name}={value}\n" for name, value in whole.items())
        with open(os.open(self._properties, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)

    def start(self) -> Self:
        """Start it; it is at work once its slot exists and is active."""
        with open(self._words, "ab") as words:
            self._process = subprocess.Popen(
                [
                    self._java,
                    "-Xmx256m",
                    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                    "-cp",
                    os.pathsep.join(map(str, self._jars)),
                    str(HERE / "Records.java"),
                    str(self._properties),
                    str(self.out),
                ],
                stdout=words,
                stderr=words,
                stdin=subprocess.DEVNULL,
            )
        return self

    def sent(self) -> list[Sent]:
        """What it has sent so far."""
        if not self.out.exists():
            return []
        with open(self.out, encoding="utf-8") as file:
            return [_sent(line) for line in file if line.endswith("\n")]

    def wait(self, count: int, *, seconds: float = 120) -> list[Sent]:
        """What it has sent, once that is so many. TimeoutError, with what it said."""
        until = time.monotonic() + seconds
        while len(found := self.sent()) < count:
            if not self.running() or time.monotonic() > until:
                raise TimeoutError(f"{len(found)} of {count} records came: {self.words()[-3000:]}")
            time.sleep(0.1)
        return found

    def running(self) -> bool:
        """The process is there."""
        return self._process is not None and self._process.poll() is None

    def words(self) -> str:
        """What it said."""
        return self._words.read_text(errors="replace") if self._words.exists() else ""

    def stop(self) -> None:
        """End it after its position is written; a second later than that it is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Kill -9."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _sent(line: str) -> Sent:
    found = json.loads(line)

    def raw(text: str | None) -> bytes | None:
        return None if text is None else base64.b64decode(text)

    pairs = tuple((name, raw(value)) for name, value in found["headers"])
    return Sent(found["topic"], raw(found["key"]), pairs, raw(found["value"]))


def read(path: Path) -> dict[str, str]:
    """A properties file: `name=value` lines and comments."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def main() -> int:
    """`fetch`, or `run URL FILE`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("fetch")
    run = verbs.add_parser("run")
    run.add_argument("url")
    run.add_argument("file", type=Path)
    options = parser.parse_args()
    try:
        if options.verb == "fetch":
            print(f"Debezium: {len(jars(LOCK))} jars, {java(JAVA_MIN, 'Debezium')[0]}")
            return 0
        with (
            tempfile.TemporaryDirectory(prefix="cp-debezium-") as folder,
            Engine(options.url, Path(folder)) as engine,
        ):
            engine.out = options.file
            engine.start()
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            engine.stop()
        return 0
    except Missing as why:
        print(why, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
