"""What `doctor` says of the checkpoints on this machine: one that nobody brings up any more makes a takeover slow again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from contrapas.cli import text
from contrapas.core.finding import Finding

OLD_S: Final = 600


def checkpoint_findings(folder: Path | None, namespace: str, ends: Mapping[int, int]) -> Iterator[Finding]:
    """ends: of each partition's log lane. One line for all that are older than ten minutes and behind."""
    if folder is None:
        return
    late: list[tuple[float, int, int]] = []
    for number, end in ends.items():
        path = folder / f"{namespace}-{number}.checkpoint"
        age = _age_s(path)
        upto = upto_of(path)
        if upto is not None and upto < end and age > OLD_S:
            late.append((age, end - upto, number))
    if not late:
        return
    age, behind, number = max(late)
    which = f"partition {number}" if len(late) == 1 else f"{len(late)} partitions, {number} first,"
    words = (
        f"the checkpoint of {which} is {text.duration(int(age * 1000))} old and {text.plural(behind, 'record')} behind: "
        "a takeover on this machine reads them first"
    )
    fix = (
        "contrapas worker MODULE:APP --standby keeps those of other workers' partitions; where no worker runs any more: "
        f"rm '{folder}/{namespace}'-*.checkpoint"
    )
    yield Finding(False, "", words, fix, str(folder))


def _age_s(path: Path) -> float:
    """Since it was written last. A reader leaves an empty `-wal` behind."""
    found = [p.stat() for p in (path, Path(f"{path}-wal")) if p.exists()]
    written = [one.st_mtime for one in found if one.st_size]
    return time.time() - max(written) if written else 0.0


def upto_of(path: Path) -> int | None:
    """The offset that it is true for; None: there is none that can be read."""
    if not path.exists():
        return None
    try:
        conn = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.5)
        try:
            row = conn.execute("select upto from head limit 1").fetchone()
        finally:
            conn.close()
    except sqlite3.Error:
        return None
    return int(row[0]) if row and isinstance(row[0], int) else None
