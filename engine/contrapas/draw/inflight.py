"""Operations in flight, abstractly: what was begun and not yet met, and every way in which meeting it may go.

A begun operation moves nothing by itself, so how it ended is decided where the saga meets it: at the await of its handle,
at the end of its scope or function, at an unwind. That leaves out no order of events: none of them shows before.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from contrapas.author.flight import Pending
from contrapas.author.timeout import Timeout
from contrapas.draw.native import Env, Value, env_get
from contrapas.draw.outcomes import FAILED, Branches, Issued, Outcome, after, issued, outcomes
from contrapas.machine.ir import Await, Program, Site

MEETS = frozenset({"result", "next", "join"})


class Flying(NamedTuple):
    """An operation that was begun and not yet met."""

    machine: str
    site: int
    """Of its `begin`."""
    frame: int
    """How many frames stand below the one that began it."""
    depth: int
    """Open scopes of that frame at the time."""


class Met(NamedTuple):
    """One way of meeting operations in flight."""

    outcome: Outcome
    settled: tuple[tuple[Flying, tuple[str, ...]], ...]
    """What is met for good, with the statuses of its undo entries."""


def entries(machine: str, site: Site, branches: Branches) -> tuple[Issued, ...]:
    """What a `begin` registers."""
    made = issued(machine, site.children[0], branches) if site.children else ()
    return tuple(e._replace(label=site.label) for e in made)


def begun(flight: tuple[Flying, ...], new: Flying) -> tuple[Flying, ...]:
    """With one more; of one kind two are kept."""
    return flight if flight.count(new) > 1 else (*flight, new)


def meet(
    program: Program,
    sites: dict[int, Site],
    term: Await,
    site: Site,
    env: Env,
    flight: tuple[Flying, ...],
    depth: int,
    branches: Branches,
) -> Iterator[Met]:
    """Every end of an await that meets what is in flight; `flight`: of this frame; `depth`: its open scopes."""
    if site.kind == "result":
        yield from _result(program, sites, site, env, flight, branches)
    elif site.kind == "next":
        yield Met(Outcome("ended", ("c", Pending)), ())
        if site.has_within:
            yield Met(Outcome(after(site), ("c", Timeout), failure=True), ())
    else:
        yield from _join(sites, _left(term, env), tuple(f for f in flight if f.depth >= depth), branches)


def _result(
    program: Program,
    sites: dict[int, Site],
    site: Site,
    env: Env,
    flight: tuple[Flying, ...],
    branches: Branches,
) -> Iterator[Met]:
    named = env_get(env, site.operand.id) if isinstance(site.operand, ast.Name) else None
    found = [f for f in dict.fromkeys(flight) if named is None or named[0] != "h" or named[1] == f.site]
    for one in found:
        for outcome in _ends(sites[one.site], branches):
            yield Met(outcome._replace(statuses=()), ((one, outcome.statuses),))
    if not found:  # it was met before, on a way that the explorer has joined with this one
        yield Met(Outcome("ended"), ())
        yield Met(Outcome("failed", raises=FAILED, failure=True), ())


def _join(
    sites: dict[int, Site], left: bool, flight: tuple[Flying, ...], branches: Branches
) -> Iterator[Met]:
    """Left by a failure: all are given up. Else all end, and a failure that nobody took is raised."""
    if left:
        yield Met(
            Outcome("given up"),
            tuple((f, ("unknown",) * len(entries("", sites[f.site], branches))) for f in flight),
        )
        return
    well = tuple((f, _ends(sites[f.site], branches)[0].statuses) for f in flight)
    yield Met(Outcome("all ended"), well)
    told: set[tuple[int, str]] = set()
    for number, one in enumerate(flight):
        for outcome in _ends(sites[one.site], branches):
            if outcome.raises is not None and (one.site, outcome.cause) not in told:
                told.add((one.site, outcome.cause))
                settled = (*well[:number], (one, outcome.statuses), *well[number + 1 :])
                yield Met(outcome._replace(statuses=()), settled)


def _ends(site: Site, branches: Branches) -> tuple[Outcome, ...]:
    """Every end of what a `begin` began."""
    return tuple(outcomes(site.children[0], branches)) if site.children else (Outcome("ended"),)


def _left(term: Await, env: Env) -> bool:
    """Whether a scope or function is left by an exception: the third argument of its `join` holds it."""
    op = term.op
    slot = op.args[2] if isinstance(op, ast.Call) and len(op.args) > 2 else None
    held: Value = env_get(env, slot.id) if isinstance(slot, ast.Name) else None
    return held is not None and held[0] == "x"


def settle(stack: tuple[Issued, ...], label: str, statuses: tuple[str, ...]) -> tuple[Issued, ...]:
    """The newest entries of a `begin` that are still open take their status; `undone` ones are gone."""
    found = list(stack)
    for status in reversed(statuses):
        at = next(
            (
                i
                for i in range(len(found) - 1, -1, -1)
                if (found[i].label, found[i].status) == (label, "issued")
            ),
            -1,
        )
        if at < 0:
            break
        if status == "undone":
            del found[at]
        else:
            found[at] = found[at]._replace(status=status)
    return tuple(found)
