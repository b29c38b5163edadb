"""Called sagas that run as branches: each explored once by itself, and its ends are its caller's (`check.beside`).

Beyond the limits a branch is one operation for the explorer, which ends well or with a StepFailed, and that is said. So
that nothing inside goes unseen, the called saga is explored as if it had been started alone, with every property.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from contrapas.check import failures, loops, reach, replies
from contrapas.check.finding import Finding
from contrapas.check.study import Property, Study, flat
from contrapas.draw.config import Config
from contrapas.draw.native import type_name
from contrapas.draw.outcomes import of_saga
from contrapas.machine.ir import Site

_OF_A_ROOT: frozenset[Property] = frozenset({failures.nothing, reach.untaken, replies.replies, loops.repeats})
"""Properties of what starts a saga and of its outcomes: a called saga has neither."""


def branches(study: Study) -> Iterator[tuple[str, Site, Site]]:
    """(machine, operation, branch) for every called saga that is a branch of `all`, `first`, `some` or `begin`."""
    for machine in study.machines():
        for top in study.program(machine).sites:
            for site in flat(top):
                beside = (site is not top and site.kind == "frame") or of_saga(site)
                if beside and type_name(site.target) in study.walkers:
                    yield machine, top, site


def as_one_step(study: Study) -> Iterator[Finding]:
    """CP790: a called saga was taken for one step, because it has too many ends, or runs beside itself."""
    for machine, top, site in branches(study):
        name = type_name(site.target)
        if name in study.explored.model.branches:
            continue
        yield study.find(
            "CP790",
            "information",
            f"{name} runs as a branch of {top.label or top.text}: it was explored as one step there",
            f"nothing, if what {name} does and what runs beside it do not depend on each other's order",
            site.line,
            column=site.column,
            machine=machine,
            hint=f"what {name} leaves to be taken back is not counted here; it was explored by itself as well",
        )


def alone(
    studies: Sequence[Study],
    study_of: Callable[[str, str, Config], Study],
    properties: Iterable[Property],
    limits: Callable[[Study], Iterable[Finding]],
) -> Iterator[tuple[Study, list[Finding]]]:
    """Called sagas that nobody has looked into, each explored by itself with the properties that apply to it.

    study_of: (name, mode, first configuration) -> study. Outcomes do not exist there; a deadline only if every caller has one.
    """
    seen = {machine for study in studies for machine in study.machines()}
    asked = tuple(ask for ask in properties if ask not in _OF_A_ROOT)
    todo: list[Study] = list(studies)
    while todo:
        level: list[Study] = todo
        todo = []
        calls: dict[str, list[tuple[Study, bool]]] = {}
        for study in level:
            for machine, top, site in branches(study):
                calls.setdefault(type_name(site.target), []).append(
                    (study, _limited(study, machine, top, site))
                )
        for name, callers in calls.items():
            if name in seen:
                continue
            seen.add(name)
            first = Config(deadline=all(limited for _, limited in callers))
            made = study_of(name, callers[0][0].mode, first)
            seen |= set(made.machines())
            todo.append(made)
            yield made, [*(one for ask in asked for one in ask(made)), *limits(made)]


def _limited(study: Study, machine: str, top: Site, site: Site) -> bool:
    """Whether the time of a branch is limited from outside: its own `within=`, a scope around it, a deadline of the saga."""
    if site.has_within or top.has_within or study.machine.deadline_ms is not None:
        return True
    places = study.places.get((machine, top.index), ())
    return bool(places) and all(config.deadline or config.limited for config in places)
