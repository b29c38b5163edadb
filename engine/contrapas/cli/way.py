"""One instance's way over its machine, read off its records on the log: what `graph --instance` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contrapas.cli import exits, machines, positions, records, text, travel
from contrapas.cli.lanes import LogFile, open_file
from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.draw.graph import Graph
from contrapas.draw.overlay import Travelled, marks, walked
from contrapas.errors import ContrapasError, Refused

if TYPE_CHECKING:
    from contrapas.cli.options import Run

_UNDO = {travel.UNDONE: "undone", travel.OPEN: "now"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """A machine and what one instance has passed of it."""

    graph: Graph
    body: InstanceRecord
    offset: int
    whole: bool
    """Its records are there from the first one on; else the way before the history floor is missing."""
    marks: Mapping[str | tuple[str, str], str]
    stages: Sequence[tuple[str, str]]

    def lines(self, ascii_only: bool) -> list[str]:
        """Head and path, as `instance describe` has them."""
        from contrapas.draw.text import path

        end = (self.body.outcome or self.body.status) if self.body.status in ENDED else ""
        head = f"{text.escape(self.body.key)}   {self.body.saga}@{self.graph.graph}   {self.body.status}   version {self.body.version}"
        cut = [] if self.whole else ["  its first records are below the history floor"]
        drawn = path(self.graph, self.stages, outcome=end, ascii_only=ascii_only).splitlines()
        return [head, *cut, *(f"  {line}" for line in drawn)]

    def data(self) -> dict[str, object]:
        """JSON-shaped: `graph.json`, `instance`."""
        return {
            "instance": self.body.instance,
            "status": self.body.status,
            "version": self.body.version,
            "offset": self.offset,
            "whole": self.whole,
            "states": {key: mark for key, mark in self.marks.items() if isinstance(key, str)},
            "transitions": [
                {"source": key[0], "target": key[1], "mark": mark}
                for key, mark in self.marks.items()
                if not isinstance(key, str)
            ],
        }


def laid(run: Run, id: str, at: str | None, saga: str | None, module: str | None, now_ms: int) -> Laid:
    """The way of an instance; its machine is the one that its newest record names, from the note or the module.

    Refused CP813: no such instance, or nobody here knows that machine; CP807: a position before its first record.
    """
    with open_file(run.settings) as log:
        head = records.one(log, f"{saga}/{id}" if saga and "/" not in id else id)
        found = _until(_bodies(log, head), at, now_ms)
        note = machines.read(log)
    past = [body for _, body in found]
    offset, body = found[-1]
    print_ = next((b.root.frames[0].graph for b in reversed(past) if b.root.frames), "")
    graph = note.graphs.get(print_) or _of_module(run, module, print_)
    if graph is None:
        raise Refused(
            "CP813",
            f"the machine {body.saga}@{print_ or '?'} of '{text.escape(id)}' is not known here",
            fix=f"contrapas graph MODULE:APP --instance {text.escape(id)}   (with the code that ran it)",
        )
    stages = travel.stages(past)
    return Laid(
        graph=graph,
        body=body,
        offset=offset,
        whole=past[0].version == 1,
        marks=marks(graph, _travelled(graph, past, stages)),
        stages=[(s.label, travel.CLASSES.get(s.mark, "failed")) for s in stages],
    )


def _of_module(run: Run, module: str | None, fingerprint: str) -> Graph | None:
    from contrapas.cli.verbs.graph import of_module

    try:
        return next((one for one in of_module(run, module) if one.graph == fingerprint), None)
    except ContrapasError:
        if module is not None:
            raise
        return None


def _bodies(log: LogFile, head: records.Head) -> list[tuple[int, InstanceRecord]]:
    """(offset, record) of the present run, oldest first."""
    found: list[tuple[int, InstanceRecord]] = []
    for record in log.history(head.record.key, head.record.partition):
        if record.value is None:
            found.clear()
            continue
        try:
            body = records.body_of(record)
        except ContrapasError:
            continue
        if found and found[-1][1].run != body.run:
            found.clear()
        if not found or body.version > found[-1][1].version:
            found.append((record.offset, body))
    return found or [(head.record.offset, records.body_of(head.record))]


def _until(
    found: list[tuple[int, InstanceRecord]], at: str | None, now_ms: int
) -> list[tuple[int, InstanceRecord]]:
    """What was there at a position: an offset, a time, `-2` transitions ago, `+3` transitions after the first."""
    if at is None:
        return found
    position = positions.parse(at, now_ms)
    match position.kind:
        case "start":
            kept = found[:1]
        case "end":
            kept = found
        case "before":
            kept = found[: max(0, len(found) - position.value)]
        case "after":
            kept = found[: position.value + 1]
        case "time":
            kept = [item for item in found if item[1].at <= position.value]
        case _:
            kept = [item for item in found if item[0] <= position.value]
    if not kept:
        raise exits.Usage(
            "CP807",
            f"--at {text.escape(at)} is before the first record",
            fix=f"--at {found[0][0]}, or --at start",
        )
    return kept


def _travelled(graph: Graph, past: Sequence[InstanceRecord], stages: Sequence[travel.Stage]) -> Travelled:
    labels = [r.root.frames[0].label if r.root.frames else "" for r in past]
    visits = [r.root.pending.key if r.root.pending else r.status if r.root.join is None else "" for r in past]
    body = past[-1]
    last: dict[str, str] = {}
    for stage in stages:
        last[stage.label] = stage.mark
    return Travelled(
        labels=walked(labels, visits),
        failed=frozenset(
            label
            for label, mark in last.items()
            if mark in (travel.FAILED, travel.UNKNOWN) and label in graph.states
        ),
        undos={label: _UNDO.get(mark, "failed") for label, mark in last.items() if label.startswith("undo(")},
        end=(body.outcome or body.status) if body.status in ENDED else "",
        good=bool(body.outcome),
    )
