"""Follows the recorded permit process from a CSV file and counts what became of every event.

    python sagas/permits/run.py [--file permit-applications.csv] [--log sqlite:///permits.db]

The recording is not part of the project. It is looked for at --file, then at `PERMITS_CSV`, then beside the checkout;
where it is absent this says so and ends well.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from contrapas.runtime import settings
from contrapas.runtime.engine import Engine
from contrapas.runtime.find import find
from sagas.permits import census

TOPIC = "permits.events"
SOURCE = "4TU.ResearchData, doi 10.4121/uuid:a07386a5-7be3-4367-9535-70bc9e77dbe6"
FOLDER = Path(__file__).resolve().parent


def recording(given: str | None = None) -> Path | None:
    """Where the recording lies, or None."""
    places = [
        given,
        os.environ.get("PERMITS_CSV"),
        str(ROOT.parent / "shared" / "data" / "permit-applications.csv"),
    ]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


def produce(file: Path, url: str) -> None:
    """What a person would type."""
    subprocess.run(
        [
            sys.executable, "-m", "contrapas", "topic", "produce", TOPIC, "--file", str(file), "--log", url,
            "--namespace", "permits", "--key", "case:concept:name", "--type", "concept:name",
            "--time", "time:timestamp", "--id", "concept:instance",
        ],
        check=True,
    )  # fmt: skip


async def follow(file: Path, url: str, *, timeout_s: float = 120) -> tuple[census.Census, float]:
    """Let a worker follow the recording until every event has met its fate; gives the census and the seconds it took."""
    app = find(f"{ROOT}/sagas/permits/saga.py:app")
    definition = replace(app.definition(), topics=settings.topic_mappings(settings.load(cwd=FOLDER)))
    expected = sum(len(kinds) for kinds in census.recorded(file).values())
    async with Engine.opened(definition, url) as engine, engine.working(5_000) as worker:
        await asyncio.to_thread(produce, file, url)
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            counts = worker.counts()
            if counts.applied + counts.kept + counts.noop + counts.dead + counts.parked >= expected:
                break
            await asyncio.sleep(0.05)
        took = time.monotonic() - began
        await asyncio.sleep(0.2)
        return await census.take(engine.log), took


def main() -> int:
    """Print the census; exit 1 when it does not add up or a path is not what the rows say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file")
    parser.add_argument("--log")
    args = parser.parse_args()
    file = recording(args.file)
    if file is None:
        print(
            f"permits: the recording is not here ({SOURCE}); name it with --file or PERMITS_CSV. Nothing was done."
        )
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found, took = asyncio.run(follow(file, args.log or f"sqlite:///{folder}/permits.db"))
    rows = census.recorded(file)
    expected = sum(len(kinds) for kinds in rows.values())
    wrong = [case for case, kinds in rows.items() if found.paths.get(case) != kinds]
    fates = "  ".join(f"{fate} {count}" for fate, count in sorted(found.fates.items()))
    print(f"permits: {len(found.paths)} cases, {found.total} of {expected} events in {took:.1f}s   {fates}")
    for case in wrong[:5]:
        print(f"  {case} travelled {found.paths.get(case)}, its rows say {rows[case]}")
    return int(bool(wrong) or found.total != expected or len(found.paths) != len(rows))


if __name__ == "__main__":
    sys.exit(main())
