"""How a broker's Java process is started: the pinned jars, little memory, and an archive of loaded classes that saves seconds."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from deploy.maven import Missing, cache, jars, java

__all__ = ["LOCK", "Jvm", "Missing", "jvm"]

HERE: Final = Path(__file__).resolve().parent
LOCK: Final = HERE / "artefacts.lock"
JAVA_MIN: Final = 17
SMALL: Final = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Xshare:auto",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
    "-Djava.awt.headless=true",
)
_TRAINING: Final = "CONTRAPAS_KAFKA_TRAINING"


class Jvm(NamedTuple):
    """What it takes to run one of Kafka's programs."""

    java: str
    jars: tuple[Path, ...]
    archive: Path | None
    """None: without; it starts seconds later."""

    def command(self, program: str) -> list[str]:
        """The words of the command line up to the program's own."""
        training = os.environ.get(_TRAINING, "")
        if training and program == "kafka.Kafka":
            extra = [f"-XX:ArchiveClassesAtExit={training}"]
        else:
            extra = [] if self.archive is None or training else [f"-XX:SharedArchiveFile={self.archive}"]
        classes = os.pathsep.join(map(str, self.jars))
        return [self.java, *SMALL, *extra, "-cp", classes, program]


def jvm() -> Jvm:
    """The jars, fetched if need be, and the archive, written if need be. Missing without Java or jars."""
    program, version = java(JAVA_MIN, "Kafka")
    found = tuple(jars(LOCK))
    bare = Jvm(program, found, None)
    if os.environ.get(_TRAINING):
        return bare
    # An archive serves one Java, these options and these very files.
    told = repr((os.path.realpath(program), version, SMALL, [(str(p), p.stat().st_mtime_ns) for p in found]))
    archive = cache() / f"kafka-{hashlib.sha256(told.encode()).hexdigest()[:16]}.jsa"
    if not archive.exists():
        with open(cache() / "kafka.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not archive.exists():
                _train(archive)
    return Jvm(program, found, archive if archive.stat().st_size else None)


def _train(archive: Path) -> None:
    """Run a broker once, by this program in a process of its own, and keep the classes it loaded. An empty file where
    that fails: a broker starts without, too."""
    work = Path(tempfile.mkdtemp(dir=archive.parent, prefix=".new-"))
    made = work / "classes.jsa"
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from deploy.kafka.server import Server; Server().start().stop(seconds=60)",
            ],
            cwd=HERE.parents[1],
            env={**os.environ, _TRAINING: str(made)},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if not made.exists():
            print(f"no class archive for Kafka: {done.stderr[-1000:]}", file=sys.stderr)
            made.touch()
        made.chmod(0o644)
        made.replace(archive)
    finally:
        shutil.rmtree(work, ignore_errors=True)
