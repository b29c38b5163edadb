"""`contrapas log describe` and `log verify`: the lanes themselves."""

from __future__ import annotations

import os
import time
import zlib
from typing import Any

from contrapas.cli import exits, fail, screen, text
from contrapas.cli.lanes import LogFile, Part, open_file
from contrapas.cli.options import Run, command, verb
from contrapas.core.lane import Record
from contrapas.errors import Damaged


@command("describe", "Partitions, owners, epochs, positions and the history floor of a namespace.")
@verb(data=True, log=True)
def log_describe(run: Run) -> int:
    """One row per partition, and what the file says about itself."""
    now = time.time_ns() // 1_000_000
    with open_file(run.settings) as log:
        parts = log.parts()
        about: dict[str, Any] = {
            "namespace": log.namespace,
            "log": log.address,
            "id": log.marks.get("id", ""),
            "partitions": log.partitions,
            "partitioner": log.marks.get("partitioner", ""),
            "bytes": sum(os.path.getsize(p) for p in (log.path, f"{log.path}-wal") if os.path.exists(p)),
            "parts": [_part(one, now) for one in parts],
        }
    if run.look.form == "json":
        screen.document(about)
        return exits.DONE
    if run.look.form in ("table", "wide"):
        words = f"{about['namespace']}   {about['log']}   {about['partitions']} partitions   {text.count(about['bytes'])} B"
        screen.line(run.look, words)
    table: list[screen.Column] = [
        ("PART", lambda r: str(r["partition"])),
        ("EPOCH", lambda r: str(r["epoch"])),
        ("OWNER", lambda r: text.escape(r["owner"]) or "–"),
        ("BEAT", lambda r: text.duration(r["beat_age_ms"]) if r["beat_age_ms"] is not None else "–"),
        ("LOG END", lambda r: str(r["log_end"])),
        ("FLOOR", lambda r: str(r["floor"])),
        ("IN END", lambda r: str(r["in_end"])),
        ("UNREAD", lambda r: str(r["unread"])),
    ]
    wide: list[screen.Column] = [
        ("TAKEOVERS", lambda r: str(r["takeovers"])),
        ("RELAYED", lambda r: str(r["relayed"])),
    ]
    screen.rows(run.look, about["parts"], table, wide, id="partition")
    return exits.DONE


def _part(part: Part, now: int) -> dict[str, Any]:
    read = max(
        (o for (name, p), o in part.control.cursor.items() if name == "in" and p == part.partition),
        default=part.in_start,
    )
    return {
        "partition": part.partition,
        "epoch": part.epoch,
        "owner": part.owner,
        "beat_age_ms": None if part.beat_ms is None else max(0, now - part.beat_ms),
        "log_end": part.log_head,
        "floor": part.horizon,
        "in_end": part.in_head,
        "unread": max(0, part.in_head - read),
        "relayed": part.relayed,
        "takeovers": part.control.takeovers,
        "trying": part.control.trying,
    }


@command("verify", "Read every record of the log lane and compare its checksum with its bytes.")
@verb(data=True, log=True)
def log_verify(run: Run) -> int:
    """Exit 9 and the places of damaged records; their bytes are kept in .contrapas/quarantine."""
    found: list[dict[str, Any]] = []
    with open_file(run.settings) as log:
        info = log.topic(f"{log.namespace}.log")
        progress = screen.Progress(f"verify {info.name}", info.records)
        count = 0
        for partition in range(info.partitions):
            for record in log.read(info, partition, info.starts[partition], info.heads[partition]):
                count += 1
                progress.at(count)
                if wrong := checked(record):
                    found.append(_damage(log, record, wrong))
        namespace, partitions = log.namespace, log.partitions
    if run.look.form == "json":
        screen.document({"namespace": namespace, "records": count, "damaged": found})
    elif run.look.form == "jsonl":
        for one in found:
            screen.stream(one)
    elif not found:
        screen.line(
            run.look,
            f"{namespace}.log   {text.plural(count, 'record')} in {partitions} partitions   every checksum holds",
        )
    for one in found:
        words = f"{one['problem']}   {text.escape(one['key'])}   bytes kept in {one['kept']}"
        fail.write(fail.lines(Damaged("CP520", words, place=one["place"], fix="contrapas explain CP520"))[:1])
    if found:
        hurt = sorted({int(one["partition"]) for one in found})
        fail.write(
            [
                f"   partition {', '.join(map(str, hurt))} stops at its first damaged record, the others go on",
                "   fix   contrapas explain CP520     (restore the record from a copy, or park the instance)",
            ]
        )
        return exits.DAMAGED
    return exits.DONE


def checked(record: Record) -> str:
    """What is wrong with a record's bytes, empty when nothing is."""
    headers = dict(record.headers)
    if "cp-damaged" in headers:
        return "headers cannot be read"
    if record.value is None:
        return ""
    stored = headers.get("cp-sum", b"").decode("ascii", "replace")
    if not stored:
        return "" if record.key[:1] == b"$" else "checksum is missing"
    computed = f"{zlib.crc32(record.value):08x}"
    return (
        ""
        if stored.rjust(8, "0") == computed
        else f"checksum differs: stored {text.escape(stored)}, computed {computed}"
    )


def _damage(log: LogFile, record: Record, problem: str) -> dict[str, Any]:
    folder = os.path.join(os.path.dirname(log.path) or ".", "quarantine")
    kept = os.path.join(folder, f"{record.partition}-{record.offset}.bin")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as out:
            out.write(record.value or b"")
    except OSError as error:
        kept = f"nowhere ({error.strerror})"
    return {
        "place": f"{log.namespace}.log/{record.partition}@{record.offset}",
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key.decode("utf-8", "backslashreplace"),
        "problem": problem,
        "kept": kept,
    }
