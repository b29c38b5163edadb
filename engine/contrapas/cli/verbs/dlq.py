"""`contrapas dlq`: what could not be handled, why, and sending it back or letting it go."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from contrapas.cli import exits, fail, letters, machines, screen, text
from contrapas.cli.lanes import LogFile, open_file
from contrapas.cli.letters import Entry
from contrapas.cli.options import Run, command, verb
from contrapas.core.lane import Record
from contrapas.errors import ContrapasError, Refused

WHERE = """code=CP403 and age>1h and error~"cents" """
_RATE = re.compile(r"([0-9]{1,6})/(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@command("list", "Dead letters by where they came from, and why.")
@click.argument("which", nargs=-1, metavar="[SOURCE]...")
@click.option("--where", "condition", metavar="EXPR", help=WHERE)
@click.option("--all", "every", is_flag=True, help="Also those that were redriven or dropped.")
@verb(data=True, log=True)
def dlq_list(run: Run, which: tuple[str, ...], condition: str | None, every: bool) -> int:
    """One row for each cause."""
    now = _now()
    with open_file(run.settings) as log:
        entries = letters.chosen(letters.read(log), which, condition, now)
    shown = [e for e in entries if every or e.disposition == "dead"]
    found = letters.sources(shown)
    if run.look.form in ("json", "jsonl", "id"):
        screen.rows(run.look, found, (), id="source")
        return exits.DONE
    table: list[screen.Column] = [
        ("SOURCE", lambda r: text.escape(r["source"])),
        ("N", lambda r: r["n"]),
        ("OLDEST", lambda r: r["oldest"]),
        ("CAUSE", lambda r: text.escape(r["error"], cut=80)),
        ("CODE", lambda r: r["code"]),
    ]
    screen.rows(run.look, [row for one in found for row in _causes(one, now)], table)
    if settled := len(entries) - len(shown):
        screen.line(run.look, f"{text.plural(settled, 'letter')} redriven or dropped: --all")
    return exits.DONE


def _causes(one: dict[str, Any], now: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, cause in enumerate(one["causes"][: letters.CAUSES]):
        first = number == 0
        rows.append(
            {
                "source": one["source"] if first else "",
                "n": text.count(one["count"]) if first else "",
                "oldest": text.duration(max(0, now - one["oldest_ms"])) if first else "",
                "error": cause["error"] or "–",
                "code": f"{cause['code']} ×{text.count(cause['count'])}",
            }
        )
    more = len(one["causes"]) - letters.CAUSES
    if more > 0:
        words = f"… {text.count(more)} more causes"
        rows.append({"source": "", "n": "", "oldest": "", "error": words, "code": ""})
    if one["again"]:
        words = f"{text.count(one['again'])} of them came back after a redrive"
        rows.append({"source": "", "n": "", "oldest": "", "error": words, "code": ""})
    return rows


@command("show", "Dead letters one by one, with their bytes: of a source, or by id.")
@click.argument("which", nargs=-1, metavar="[SOURCE|ID]...")
@click.option("--where", "condition", metavar="EXPR", help=WHERE)
@click.option("--all", "every", is_flag=True, help="Also those that were redriven or dropped.")
@click.option(
    "-n", "limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many."
)
@verb(data=True, log=True)
def dlq_show(run: Run, which: tuple[str, ...], condition: str | None, every: bool, limit: int) -> int:
    """The oldest first."""
    with open_file(run.settings) as log:
        entries = letters.chosen(letters.read(log), which, condition, _now())
        ids = set(which)
        entries = [e for e in entries if every or e.disposition == "dead" or e.place in ids]
        more = len(entries) - limit
        masks = machines.read(log).masks
        pairs = [(e, _bytes(log, e)) for e in entries[:limit]]
    found: list[dict[str, Any]] = []
    for entry, record in pairs:
        value = letters.masked(record, entry.letter.type, masks)
        if run.look.form in ("json", "jsonl"):
            found.append({**letters.data(entry), **_content(record, value)})
        elif run.look.form == "id":
            screen.line(run.look, entry.place)
        elif run.look.form == "raw":
            click.get_binary_stream("stdout").write(value)
        else:
            _show(run, entry, record, value)
    if run.look.form == "json":
        screen.document(found)
    for one in found if run.look.form == "jsonl" else ():
        screen.stream(one)
    if more > 0:
        screen.note(f"{text.count(more)} more: -n {len(entries)}")
    return exits.DONE


def _bytes(log: LogFile, entry: Entry) -> Record:
    info = letters.topic_of(log)
    assert info is not None
    return next(iter(log.read(info, entry.partition, entry.offset, entry.offset + 1)))


def _content(record: Record, value: bytes) -> dict[str, Any]:
    try:
        shown: str | None = value.decode("utf-8")
    except UnicodeDecodeError:
        shown = None
    headers = [[n, v.decode("utf-8", "backslashreplace")] for n, v in record.headers]
    return {
        "value": shown,
        "value_hex": None if shown is not None else value.hex(),
        "headers": [h for h in headers if not h[0].startswith("cp-dlq-")],
    }


def _show(run: Run, entry: Entry, record: Record, value: bytes) -> None:
    look, one = run.look, entry.letter
    key = text.payload(entry.key, cut=text.CUT)
    place = f"{one.topic}/{one.partition}@{one.offset}" if one.offset >= 0 else f"for {one.topic}"
    head = f"{entry.place}  {screen.moment(look, one.at)}  {text.escape(place)}  key {key}  {text.escape(one.type)}"
    screen.line(look, screen.paint(look, head.rstrip(), "bold"))
    tail = f"   instance {text.escape(one.instance)}" if one.instance else ""
    screen.line(look, f"  {one.code}  {text.escape(one.error, cut=400)}{tail}")
    shown = "left out, it was too large to copy" if one.by_reference else text.payload(value, cut=2000)
    screen.line(look, f"  {shown}")
    if one.delivery:
        screen.line(look, f"  it came by a redrive: {text.escape(one.delivery)}")
    if entry.disposition != "dead":
        words = f": {text.escape(entry.words)}" if entry.words else ""
        times = f", {entry.redrives} times" if entry.redrives > 1 else ""
        screen.line(look, f"  {entry.disposition} {screen.moment(look, entry.settled_at)}{times}{words}")
    if look.form == "wide":
        for name, raw in record.headers:
            screen.line(look, f"    {text.escape(name)}: {text.payload(raw, cut=text.CUT)}")


@command("redrive", "Send dead letters back to where they came from, bit for bit.")
@click.argument("which", nargs=-1, metavar="[SOURCE|ID]...")
@click.option("--where", "condition", metavar="EXPR", help=WHERE)
@click.option("--rate", metavar="N/s", help="At most so many: 10/s, 100/m.")
@click.option("--again", is_flag=True, help="Also those that were redriven or dropped before.")
@click.option("--yes", is_flag=True, help="Do it; without it the plan is printed.")
@verb(log=True)
def dlq_redrive(
    run: Run, which: tuple[str, ...], condition: str | None, rate: str | None, again: bool, yes: bool
) -> int:
    """Each goes out with a new delivery id and is then noted as redriven; what was noted is not sent twice."""
    letters.named(which, condition, "redriven")
    pause_s = _pause(rate)
    wanted = _wanted(run, which, condition, again, "redrive")
    import asyncio

    return asyncio.run(_redrive(run, wanted, pause_s, yes))


@command(
    "drop", "Let dead letters go: noted as dropped, their bytes stay for as long as the topic keeps them."
)
@click.argument("which", nargs=-1, metavar="[SOURCE|ID]...")
@click.option("--where", "condition", metavar="EXPR", help=WHERE)
@click.option("--reason", default="", help="Kept with the note.")
@click.option("--yes", is_flag=True, help="Do it; without it the plan is printed.")
@verb(log=True)
def dlq_drop(run: Run, which: tuple[str, ...], condition: str | None, reason: str, yes: bool) -> int:
    """`redrive --again` still sends them."""
    letters.named(which, condition, "dropped")
    wanted = _wanted(run, which, condition, False, "drop")
    if not yes:
        screen.lines(run.look, [f"would drop {_of(wanted)}", "nothing done.  repeat with --yes"])
        return exits.REFUSED
    import asyncio

    return asyncio.run(_drop(run, wanted, reason))


def _wanted(run: Run, which: Sequence[str], condition: str | None, again: bool, act: str) -> list[Entry]:
    """Those to act on. Refused CP815 when they were all settled before, or there are none."""
    with open_file(run.settings) as log:
        entries = letters.chosen(letters.read(log), which, condition, _now())
    wanted = [e for e in entries if again or e.disposition == "dead"]
    before = Counter(e.disposition for e in entries if e.disposition != "dead")
    said = ", ".join(f"{text.count(n)} {how} before" for how, n in sorted(before.items()))
    if not wanted and entries:
        one = entries[0]
        if len(entries) == 1:
            said = f"{one.place} was {one.disposition} at {screen.moment(run.look, one.settled_at)}"
        fix = "--again sends it once more" if act == "redrive" else "contrapas dlq list --all"
        raise Refused("CP815", f"nothing to {act}: {said}", fix=fix)
    if not wanted:
        raise Refused("CP815", f"nothing to {act}: there is no such dead letter", fix="contrapas dlq list")
    if said:
        note = f"{said}: sent again" if again else f"left out: {said}"
        screen.note(note)
    return wanted


def _of(entries: Sequence[Entry]) -> str:
    parts = Counter(e.letter.topic for e in entries)
    listed = ", ".join(f"{text.escape(topic)} ×{text.count(n)}" for topic, n in parts.most_common(5))
    more = f" and {len(parts) - 5} more sources" if len(parts) > 5 else ""
    return f"{text.plural(len(entries), 'record')}: {listed}{more}"


def _pause(rate: str | None) -> float:
    if rate is None:
        return 0.0
    match = _RATE.fullmatch(rate)
    if match is None or match[1] == "0" * len(match[1]):
        raise exits.Usage("CP814", f"'{rate[:40]}' is no rate", fix="10/s, 100/m, 1000/h")
    return _SECONDS[match[2]] / int(match[1])


async def _redrive(run: Run, wanted: Sequence[Entry], pause_s: float, yes: bool) -> int:
    from asyncio import CancelledError

    from contrapas.cli.door import seam
    from contrapas.cli.redrive import Redrive

    async with seam(run.settings) as (log, namespace):
        acting = Redrive(log, namespace, _now())
        unfit = await acting.unfit(wanted)
        out = {one.entry.place for one in unfit}
        fit = [e for e in wanted if e.place not in out]
        if not yes:
            return _planned(run, fit, unfit)
        try:
            unfit += await acting.send(fit, pause_s)
        except (ContrapasError, KeyboardInterrupt, CancelledError):
            screen.note(f"{text.count(acting.done)} were redriven and noted; the same command sends the rest")
            raise
    screen.line(run.look, f"{text.plural(acting.done, 'record')} redriven")
    _left(unfit)
    return exits.FAILED if unfit else exits.DONE


def _planned(run: Run, fit: Sequence[Entry], unfit: Sequence[Any]) -> int:
    by_topic = Counter(e.letter.topic for e in fit)
    for topic, n in by_topic.most_common():
        screen.line(
            run.look,
            f"plan: {text.plural(n, 'record')} → {text.escape(topic)}, key, value and headers bit for bit, new delivery id",
        )
    if back := sum(bool(e.letter.delivery) for e in fit):
        screen.line(run.look, f"{text.count(back)} of them came back after a redrive")
    if more := sum(e.redrives > 0 for e in fit):
        screen.line(run.look, f"{text.count(more)} of them were redriven before: they are sent once more")
    _left(unfit)
    screen.line(run.look, "nothing done.  repeat with --yes")
    return exits.REFUSED


def _left(unfit: Sequence[Any]) -> None:
    if not unfit:
        return
    reasons = Counter((one.code, one.why) for one in unfit)
    fail.write([f"{text.count(n)} stay: {code}  {text.escape(why)}" for (code, why), n in reasons.items()])


async def _drop(run: Run, wanted: Sequence[Entry], reason: str) -> int:
    from contrapas.cli.door import seam
    from contrapas.cli.redrive import Redrive

    async with seam(run.settings) as (log, namespace):
        acting = Redrive(log, namespace, _now())
        await acting.drop(wanted, reason)
    screen.line(run.look, f"dropped {_of(wanted)}")
    return exits.DONE


def _now() -> int:
    return time.time_ns() // 1_000_000
