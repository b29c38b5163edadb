"""Every property of one saga, in the order of the codes. A new one is a function `(Study) -> findings` in this table."""

from __future__ import annotations

from collections.abc import Iterator

from contrapas.check import branches, failures, flow, loops, properties, reach, replies, undos
from contrapas.check.finding import Finding
from contrapas.check.study import Property, Study

PROPERTIES: tuple[Property, ...] = (
    reach.stuck,  # CP701
    loops.spins,  # CP702
    properties.missing_undo,  # CP703
    failures.behind_pivot,  # CP704
    failures.nothing,  # CP705
    failures.unmatched,  # CP705
    failures.by_hand,  # CP706
    failures.swallowed,  # CP706, CP707
    undos.frail,  # CP708
    undos.lost,  # CP709
    failures.asked_again,  # CP710
    loops.repeats,  # CP711
    properties.endless,  # CP712
    loops.restless,  # CP713
    reach.unreachable,  # CP714
    reach.untaken,  # CP715
    reach.contended,  # CP716
    reach.raced,  # CP717
    failures.stays,  # CP718
    flow.uncorrelated,  # CP719
    loops.grows,  # CP720
    properties.hidden_effect,  # CP721
    flow.exposed,  # CP722
    replies.replies,  # CP725, CP730
    flow.published_twice,  # CP726
    loops.stale,  # CP727
    undos.strays,  # CP728
)


def limits(study: Study, limit: int) -> Iterator[Finding]:
    """CP790: what was not explored, and why; never silence."""
    machine, model = study.machine, study.explored.model
    if not study.explored.complete:
        yield study.find(
            "CP790",
            "error",
            f"{machine.name} has more than {limit:,} configurations: it was not explored to the end",
            "call parts of it as sagas of their own, or run fewer branches beside each other",
            machine.line,
        )
    yield from branches.as_one_step(study)
    for (name, label), site in model.unknown.items():
        yield study.find(
            "CP790",
            "warning",
            f"{label} is a {site.kind}: its failures are not explored in full yet",
            "read this part with care; the rest of the saga was explored",
            site.line,
            column=site.column,
            machine=name,
            hint="taken to end well, or to raise StepFailed",
        )
    for (name, _), site in model.cut.items():
        yield study.find(
            "CP790",
            "information",
            f"{site.label} calls itself: explored to a depth of 2",
            "nothing, if each call is like the first two",
            site.line,
            column=site.column,
            machine=name,
            hint="the third call is taken to return, or to raise StepFailed",
        )
