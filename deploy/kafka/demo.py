"""`make demo LOG=kafka`: the first minute on a private broker, which is started for it and gone afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a file, not as a module
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from deploy.kafka.server import Missing, Server

SETTINGS = {"broker.session.timeout.ms": "9000", "broker.heartbeat.interval.ms": "1000"}
"""A busy laptop is no broken broker."""


def main(words: list[str]) -> int:
    """The demo's exit code; 5 when there is no broker to be had."""
    print("starting Apache Kafka on this machine, for this demo …", file=sys.stderr, flush=True)
    try:
        with Server(settings=SETTINGS).start() as server:
            url = f"kafka://{server.address}"
            command = [sys.executable, "-m", "contrapas", "demo", "--log", url, *words]
            try:
                return subprocess.run(command, check=False).returncode
            except KeyboardInterrupt:  # the demo was told too, and has ended
                return 130
    except Missing as why:
        print(f"no broker: {why}", file=sys.stderr)
        return 5


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
