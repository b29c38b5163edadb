"""`check --against-live`: the instances that a log holds against the code of today, before it is deployed (CP310).

Every place counts where an instance stands: its frames, what it has begun, the undos on its stacks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from contrapas.cli import records, text
from contrapas.cli.lanes import LogFile
from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.core.moves import unfit
from contrapas.core.undo import lines, walk
from contrapas.core.work import Line
from contrapas.core.world import World
from contrapas.errors import ContrapasError
from contrapas.machine import Machine
from contrapas.runtime import graphs
from contrapas.versions.moves import compared

Place = tuple[str, str, str, str]
"""(`frame`, `begun` or `undo`; saga, fingerprint, label)."""


class Group(NamedTuple):
    """Instances that stand in one place and cannot go on."""

    saga: str
    graph: str
    label: str
    number: int
    first: str
    """One of them."""
    words: str
    fix: str


class Live(NamedTuple):
    """What a log holds."""

    fit: dict[str, Counter[str]]
    """Saga -> label of its innermost state -> instances that go on."""
    places: Counter[Place]
    groups: list[Group]

    @property
    def findings(self) -> int:
        """Groups that cannot go on."""
        return len(self.groups)


def look(log: LogFile, world: World) -> Live:
    """Every instance that has not ended."""
    stored = [(r.key.decode(errors="replace"), r.value) for r in log.graphs() if r.value is not None]
    graphs.learn(world, stored)
    olds = _machines(stored)
    fit: dict[str, Counter[str]] = {}
    places: Counter[Place] = Counter()
    bad: dict[tuple[str, str, str, str], list[str]] = {}
    for head in records.heads(log):
        if head.status in ENDED:
            continue
        body = records.body_of(head.record)
        standing = list(_places(body))
        places.update(standing)
        words = unfit(body, world)
        if not words:
            fit.setdefault(head.saga, Counter())[body.state or head.state] += 1
            continue
        frame = next((p for p in standing if p[0] != "undo"), ("frame", head.saga, "", head.state))
        culprit = next((p for p in standing if p[3] and f"'{p[3]}'" in words), frame)
        bad.setdefault((culprit[1], culprit[2], culprit[3], words), []).append(head.instance)
    found = [
        Group(saga, graph, label, len(those), those[0], words, _fix(saga, graph, label, olds, world))
        for (saga, graph, label, words), those in sorted(bad.items())
    ]
    return Live(fit, places, found)


def _machines(stored: list[tuple[str, bytes]]) -> dict[tuple[str, str], Machine]:
    found: dict[tuple[str, str], Machine] = {}
    for key, value in stored:
        if key == graphs.APP:
            continue
        try:
            machine = graphs.machine_of(value)
        except ContrapasError:
            continue
        found[(machine.name, machine.graph)] = machine
    return found


def _places(body: InstanceRecord) -> Iterator[Place]:
    for line in lines(Line((body.root,))):
        for frame in line.node.frames:
            yield ("frame", frame.saga, frame.graph, frame.label)
            for begun in frame.begun:
                yield ("begun", frame.saga, frame.graph, begun.label)
        for _, entry in walk(line.node.undo):
            yield ("undo", entry.saga or body.saga, entry.graph, entry.name or entry.label)
    for entry in body.owed:
        yield ("undo", entry.saga or body.saga, entry.graph, entry.name or entry.label)


def _fix(saga: str, graph: str, label: str, olds: dict[tuple[str, str], Machine], world: World) -> str:
    keep = f'keep its code: @saga(name="{saga}", retired="{graph}")'
    old = olds.get((saga, graph))
    if old is None:
        return "start a worker of the release that wrote it once: it writes its graph"
    fit = compared(old, world.machines.get(saga)).states.get(label)
    return next((f.fix for f in fit.findings if f.fix), keep) if fit is not None else keep


def told(live: Live, world: World) -> list[str]:
    """For people: a line per saga that fits, three for what does not."""
    names = [*live.fit, *[g.saga for g in live.groups]]
    width = max((len(name) for name in names), default=0)
    out: list[str] = []
    for saga, counts in sorted(live.fit.items()):
        machine = world.machines.get(saga)
        where = ", ".join(f"{n} in {text.escape(label)}" for label, n in counts.most_common(5))
        graph = f"@{machine.graph}" if machine is not None else "what is kept"
        number = text.plural(sum(counts.values()), "live instance")
        verb = "fits" if sum(counts.values()) == 1 else "fit"
        out.append(f"{text.escape(saga).ljust(width)}   ok     {number} {verb} {graph}   ({where})")
    for group in live.groups:
        number = text.plural(group.number, "live instance")
        verb = "is" if group.number == 1 else "are"
        out.append(
            f"{text.escape(group.saga).ljust(width)}   CP310  {number} {verb} in state '{text.escape(group.label)}' of "
            f"@{group.graph}   first {text.escape(group.first)}"
        )
        out.append(f"{' ' * width}          {text.escape(group.words, cut=300)}")
        out.append(f"{' ' * width}   fix    {text.escape(group.fix)}")
    return out or ["no live instance"]


def data(live: Live) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "fit": {saga: dict(counts) for saga, counts in sorted(live.fit.items())},
        "places": [
            {"what": what, "saga": saga, "graph": graph, "label": label, "count": count}
            for (what, saga, graph, label), count in sorted(live.places.items())
        ],
        "findings": [{"code": "CP310", **group._asdict()} for group in live.groups],
    }
