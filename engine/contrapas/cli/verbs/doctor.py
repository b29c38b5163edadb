"""`contrapas doctor`: is this machine, this installation and this log fit to run? Exit 4 with findings."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import click

from contrapas.cli import exits, records, screen, text
from contrapas.cli.lanes import LogFile, Part, is_far, open_file
from contrapas.cli.options import Run, command, verb
from contrapas.errors import ContrapasError
from contrapas.log.sqlite_file import check_disk, check_wal, has_wal, mount_type

SILENT_MS = 30_000
FREE_MIN = 1 << 30


class Finding(NamedTuple):
    """One line: level `ok`, `warning` or `error`."""

    level: str
    text: str
    code: str = ""
    fix: str = ""


@command(
    "doctor",
    "Look at this installation and, when there is one, at the log: settings, space, owners, clocks, versions.\n\n"
    "With MODULE:APP also at the databases of its stores, with MODULE:STORE at that one.",
)
@click.argument("target", metavar="[MODULE:APP]", required=False)
@click.option(
    "--dev", is_flag=True, help="For development: what a server must not lose is worth a look only."
)
@click.option("--quick", is_flag=True, help="Only what fails, for health checks.")
@verb(data=True, log=True)
def doctor(run: Run, target: str | None, dev: bool, quick: bool) -> int:
    """✓ is fine, ! is worth a look, ✗ is a finding (exit 4)."""
    found = [*installation(), *_log(run, dev), *_stores(run, target), *_registry(run, target)]
    if quick:
        found = [one for one in found if one.level == "error"]
    if run.look.form in ("json", "jsonl"):
        rows = [one._asdict() for one in found]
        if run.look.form == "json":
            screen.document({"findings": rows, "ok": all(one.level != "error" for one in found)})
        else:
            for row in rows:
                screen.stream(row)
    else:
        _page(run.look, found)
    return exits.FINDINGS if any(one.level == "error" for one in found) else exits.DONE


def _page(look: screen.Look, found: list[Finding]) -> None:
    signs = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}
    for one in found:
        sign, color = signs[one.level]
        screen.line(
            look, f"{screen.paint(look, sign, color)} {one.text}{'   ' + one.code if one.code else ''}"
        )
        if one.fix:
            screen.line(look, f"  fix  {one.fix}")


def installation() -> Iterator[Finding]:
    """Interpreter and packages."""
    yield Finding("ok", f"python {'.'.join(map(str, sys.version_info[:3]))}")
    for name in ("contrapas", "pydantic", "fastavro", "click", "starlette", "uvicorn"):
        try:
            yield Finding("ok", f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding("error", f"{name} is not installed", "CP510", f"pip install {name}")
    library = sqlite3.sqlite_version_info
    if (3, 7, 0) <= library < (3, 51, 3):
        words = f"sqlite {sqlite3.sqlite_version}: no other program may write to the log (our own lock covers our processes)"
        yield Finding("warning", words)
    else:
        yield Finding("ok", f"sqlite {sqlite3.sqlite_version}")


def _far(run: Run, url: str, dev: bool) -> Iterator[Finding]:
    """What the connector says of its server; then what the log in it says."""
    from contrapas.cli.afar import examine
    from contrapas.cli.kept import checkpoint_findings
    from contrapas.runtime.keeper import folder_of

    namespace = str(run.settings.get("namespace") or "")
    levels = {True: "error", False: "warning"}
    try:
        log = open_file(run.settings)
    except ContrapasError as error:
        found = [
            f
            for f in examine(url, namespace or None, dev=dev)
            if f.code != error.code or f.text != error.text
        ]
        if error.code == "CP501" and not found:
            raise
        yield Finding("error", text.escape(error.text), error.code, error.fix)
        for one in found:
            yield Finding(levels[one.refused], text.escape(one.text), one.code, one.fix)
        return
    with log:
        words = f"{log.address}: namespace {log.namespace}, {log.partitions} partitions, as recorded"
        yield Finding("ok", text.escape(words))
        for one in examine(url, log.namespace, dev=dev):
            yield Finding(levels[one.refused], text.escape(one.text), one.code, one.fix)
        parts = log.parts()
        yield from part_findings(parts, time.time_ns() // 1_000_000)
        yield from instance_findings(log)
    folder = folder_of(str(run.settings.get("checkpoints") or ""), url)
    for one in checkpoint_findings(folder, log.namespace, {p.partition: p.log_head for p in parts}):
        yield Finding(levels[one.refused], text.escape(one.text), one.code, one.fix)


def _log(run: Run, dev: bool = False) -> Iterator[Finding]:
    url = str(run.settings.get("log") or "")
    if is_far(url):
        yield from _far(run, url, dev)
        return
    try:
        log = open_file(run.settings)
    except ContrapasError as error:
        if error.code == "CP817" and not run.settings.get("log"):
            yield Finding("ok", "no log here yet")
            return
        if error.code == "CP501":
            raise
        yield Finding("error", error.text, error.code, error.fix)
        return
    with log:
        yield Finding(
            "ok", f"sqlite:///{log.path}: namespace {log.namespace}, {log.partitions} partitions, as recorded"
        )
        yield from file_findings(log)
        now = time.time_ns() // 1_000_000
        parts = log.parts()
        yield from part_findings(parts, now)
        yield from instance_findings(log)


def _stores(run: Run, target: str | None) -> Iterator[Finding]:
    if target is None:
        return
    from contrapas.cli.stores import examined

    for name, findings in examined(target, run.settings):
        for one in findings:
            yield Finding("error" if one.refused else "warning", one.text, one.code, one.fix)
        if not findings:
            yield Finding(
                "ok", f"store {text.escape(name)}: settings, tables, rights and days are as they should be"
            )


def _registry(run: Run, target: str | None) -> Iterator[Finding]:
    """The schema registry, where there is one."""
    if target is None and not run.settings.get("registry"):
        return
    from contrapas.cli.desk import registry_findings

    for one in registry_findings(target, run.settings):
        yield Finding("error" if one.refused else "warning", text.escape(one.text), one.code, one.fix)


def file_findings(log: LogFile) -> Iterator[Finding]:
    """The file itself."""
    try:
        check_disk(log.path)
        kind = mount_type(os.path.dirname(os.path.abspath(log.path)))
        yield Finding("ok", f"on a local disk{f' ({kind})' if kind else ''}")
        check_wal(log.conn, log.path, log.marks, has_wal(log.path))
    except ContrapasError as error:
        yield Finding("error", error.text, error.code, error.fix)
    mode = str(log.conn.execute("pragma journal_mode").fetchone()[0]).lower()
    if mode != "wal":
        yield Finding(
            "error",
            f"journal_mode is {mode}, expected wal",
            "CP516",
            "sqlite3 FILE 'pragma journal_mode=wal' while no worker runs",
        )
    loose = [p for p in (log.path, f"{log.path}-wal") if os.path.exists(p) and os.stat(p).st_mode & 0o077]
    if loose:
        yield Finding(
            "warning", f"{', '.join(loose)} can be read by others", "CP802", f"chmod 600 {' '.join(loose)}"
        )
    free = shutil.disk_usage(os.path.dirname(os.path.abspath(log.path))).free
    if free < FREE_MIN:
        yield Finding(
            "warning",
            f"{text.count(free >> 20)} MiB are free on the disk of the log",
            "CP516",
            "free some space",
        )


def part_findings(parts: list[Part], now: int) -> Iterator[Finding]:
    """Owners and lag."""
    owned = [p for p in parts if p.owner]
    silent = [p for p in owned if p.beat_ms is not None and now - p.beat_ms > SILENT_MS]
    for part in silent:
        quiet = text.duration(now - (part.beat_ms or now))
        yield Finding(
            "error",
            f"{text.escape(part.owner)} holds partition {part.partition} and has been silent for {quiet}",
            "CP811",
            "end that process (kill -CONT, then kill): its partitions go to the others at once",
        )
    names = {p.owner for p in owned}
    if names and not silent:
        yield Finding(
            "ok", f"{len(owned)} of {len(parts)} partitions owned by {text.plural(len(names), 'worker')}"
        )
    elif not owned:
        yield Finding("warning", "no worker owns a partition", "", "contrapas worker MODULE:APP")
    unread = 0
    for part in parts:
        read = max(
            (o for (name, p), o in part.control.cursor.items() if name == "in" and p == part.partition),
            default=part.in_start,
        )
        if read > part.in_head:
            yield Finding(
                "error",
                f"the cursor of partition {part.partition} lies beyond its end ({read} > {part.in_head})",
                "CP506",
            )
        unread += max(0, part.in_head - read)
        if part.control.partitions != len(parts):
            yield Finding(
                "error",
                f"partition {part.partition} records {part.control.partitions} partitions, found {len(parts)}",
                "CP504",
            )
        if part.control.takeovers >= 3:
            yield Finding(
                "warning",
                f"partition {part.partition} was taken over {part.control.takeovers} times without a release",
            )
    if unread > 10_000:
        yield Finding("warning", f"{text.count(unread)} records of the in lane are unread")


def instance_findings(log: LogFile) -> Iterator[Finding]:
    """Instances that need somebody."""
    statuses = [head.status for head in records.heads(log)]
    parked = statuses.count("parked")
    if parked:
        yield Finding(
            "warning", f"{text.plural(parked, 'instance')} parked", "", "contrapas ls --where status=parked"
        )
    if statuses:
        yield Finding("ok", f"{text.plural(len(statuses), 'instance')}: {records.tally(statuses)}")
