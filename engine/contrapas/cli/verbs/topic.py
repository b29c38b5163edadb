"""`contrapas topic describe`: one topic with its partitions, its settings, and who reads and writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import click

from contrapas.cli import exits, machines, screen, text
from contrapas.cli.lanes import LogFile, TopicInfo, open_file
from contrapas.cli.options import Run, command, verb
from contrapas.cli.verbs.topics import row_of
from contrapas.errors import ContrapasError

SETTINGS = (
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
    "min.compaction.lag.ms",
    "delete.retention.ms",
    "max.message.bytes",
    "min.insync.replicas",
    "message.timestamp.type",
)
"""Those worth a line, where a log has any."""
_NAME = re.compile(r"\w+")


@command(
    "describe", "One topic, or a lane NS.in, NS.log: partitions, size, settings, who reads and writes it."
)
@click.argument("topic")
@verb(data=True, log=True)
def topic_describe(run: Run, topic: str) -> int:
    """What the log itself knows; the app's module is not needed."""
    with open_file(run.settings) as log:
        about = _about(log, log.topic(topic))
    if run.look.form == "json":
        screen.document(about)
    elif run.look.form == "jsonl":
        screen.stream(about)
    elif run.look.form in ("id", "raw"):
        screen.line(run.look, text.escape(about["topic"], cut=None))
    else:
        _page(run, about)
    return exits.DONE


def _about(log: LogFile, info: TopicInfo) -> dict[str, Any]:
    row = row_of(log, info)
    note = machines.read(log)
    types = {name for name, topic in note.topics.items() if topic == info.name} | set(row["types"])
    settings = log.topic_settings(info.name)
    try:
        groups = log.groups(info.name)
    except ContrapasError:  # not ours to see
        groups = {}
    return {
        "topic": info.name,
        "partitions": [
            {"partition": p, "start": start, "end": end, "records": end - start}
            for p, (start, end) in enumerate(zip(info.starts, info.heads, strict=True))
        ],
        "records": info.records,
        "bytes": log.size(info),
        "last_age_ms": row["last_age_ms"],
        "types": [{"type": name, "key": note.keys.get(name) or None} for name in sorted(types)],
        "used_by": list(_uses(note, types)) if info.number >= 0 else [],
        "groups": [{"group": name, "lag": lag} for name, lag in sorted(groups.items())],
        "settings": {name: settings[name] for name in SETTINGS if name in settings},
    }


def _uses(note: machines.Note, types: set[str]) -> Iterator[dict[str, str]]:
    """What the sagas of today's workers have to do with types: started by them, sending, awaiting, ending with them."""
    seen: set[tuple[str, str, str]] = set()
    found: list[tuple[str, str, str]] = []
    for saga, starts in note.starts.items():
        found += [(saga, "starts", name) for name in starts if name in types]
    for graph in note.graphs.values():
        if graph.name not in note.starts:
            continue
        words = [s.operation for s in graph.states.values() if s.kind not in ("wait", "start")]
        words += [undo for _, undo in graph.undos] + [
            part for parts in graph.parts.values() for part in parts
        ]
        sent = {name for one in words for name in _NAME.findall(one)}
        awaited = {name for s in graph.states.values() for name in s.replies}
        found += [(graph.name, "sends", name) for name in sorted(sent & types)]
        found += [(graph.name, "awaits", name) for name in sorted(awaited & types)]
        found += [(graph.name, "ends", name) for name in sorted(set(graph.outcomes) & types)]
    for one in found:
        if one not in seen:
            seen.add(one)
            yield {"saga": one[0], "how": one[1], "type": one[2]}


_WORDS = {"starts": "starts by", "sends": "sends", "awaits": "waits for", "ends": "ends with"}


def _page(run: Run, about: dict[str, Any]) -> None:
    look = run.look
    parts = about["partitions"]
    facts = [text.plural(len(parts), "partition"), f"{text.count(about['records'])} records"]
    if about["bytes"] is not None:
        facts.append(f"{text.count(about['bytes'])} B")
    if about["last_age_ms"] is not None:
        facts.append(f"last {text.duration(max(0, about['last_age_ms']))} ago")
    screen.line(look, screen.paint(look, f"{text.escape(about['topic'])}   {'   '.join(facts)}", "bold"))
    if about["types"]:
        shown = [t["type"] + (f" (key {t['key']})" if t["key"] else "") for t in about["types"]]
        screen.line(look, f"  types     {text.escape(', '.join(shown), cut=1000)}")
    uses = [f"{u['saga']} {_WORDS[u['how']]} {u['type']}" for u in about["used_by"]]
    screen.line(
        look, f"  used by   {text.escape(', '.join(uses), cut=1000) or '(no saga reads or writes it)'}"
    )
    groups = [f"{g['group']} (lag {text.count(g['lag'])})" for g in about["groups"]]
    if groups:
        screen.line(look, f"  groups    {text.escape(', '.join(groups), cut=1000)}")
    if about["settings"]:
        shown = [f"{name}={_setting(name, value)}" for name, value in about["settings"].items()]
        screen.line(look, f"  settings  {text.escape('   '.join(shown), cut=1000)}")
    screen.line(look, "")
    cells = [[str(p["partition"]), str(p["start"]), str(p["end"]), text.count(p["records"])] for p in parts]
    for line in text.columns(["PART", "FROM", "TO", "RECORDS"], cells):
        screen.line(look, line)


def _setting(name: str, value: str) -> str:
    """A time in words."""
    if name.endswith(".ms") and value.isdigit() and len(value) < 16:
        return text.duration(int(value))
    return value
