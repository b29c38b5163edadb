"""What travels between the generated function and its caller at each state: which slots come in, which go out.

Only what the code from a state to the next awaits can touch is passed in, and only that goes out again; the caller keeps
the bytes of everything else. So the same await is left with different sets, depending on where its stretch began.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contrapas.compiler import assigned, sharing
from contrapas.compiler.inflight import begun_in
from contrapas.compiler.liveness import segment
from contrapas.compiler.summaries import Summary
from contrapas.machine import Slot
from contrapas.machine.ir import Await, Facts, Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """What goes out at one await, by variable."""

    always: tuple[str, ...]
    """Bound, wherever the stretch began."""
    after: tuple[tuple[str, tuple[int, ...]], ...]
    """Bound if the stretch began at one of these sites, else not passed."""
    perhaps: tuple[str, ...]
    """Only if bound."""
    exceptions: tuple[str, ...]
    """Handled exceptions; None while there is none."""


@dataclass(slots=True, kw_only=True)
class Plan:
    """For every site (0: the start)."""

    stored: dict[int, tuple[str, ...]]
    """Variables that may be stored there, in slot order."""
    sure: dict[int, frozenset[str]]
    """Of these, those that are bound for certain."""
    needs: dict[int, frozenset[str]]
    """Of these, those that are read afterwards."""
    touches: dict[int, frozenset[str]]
    shared: dict[int, tuple[tuple[str, ...], ...]]
    """Groups of stored slots, by stable name, that may hold one object between them."""
    leaving: dict[int, Leaving]


def plan(program: Program, summaries: Mapping[int, Summary], facts: Facts, slots: Mapping[str, Slot]) -> Plan:
    """Decide for every state what is stored, what comes in and what goes out."""
    order = [n for n in (*program.locals, *program.hidden) if n in slots and slots[n].codec is not None]
    stored: dict[int, tuple[str, ...]] = {0: program.params}
    for site in program.sites:
        if site.index not in facts.live:  # nothing reaches it
            continue
        live = facts.live[site.index]
        bound = facts.bound[site.index]
        stored[site.index] = tuple(
            n for n in order if n in bound and (n in live or not n.startswith("@"))
        )  # hidden slots only while they are needed; locals always, for the sake of migration
    kept = {site: frozenset(names) for site, names in stored.items()}
    sure = {s: bound[0] & kept[s] for s, bound in assigned.whole(program, summaries, kept).items()}
    for number in stored:
        sure.setdefault(number, frozenset())
    sure[0] = frozenset(program.params)
    touches = dict(facts.touches)
    touches[0] = touches[0] | frozenset(program.params)
    variables = {slot.name: variable for variable, slot in slots.items()}
    groups = sharing.among(slots.values())
    for group in groups:
        # Decoded as a whole, so it is passed and given back as a whole: also where the code makes one of it anew, for
        # the numbers of shared objects in its text and in the others' are one sequence.
        names = frozenset(variables[n] for n in group)
        for number in list(stored)[1:]:
            if names & touches[number]:
                touches[number] = touches[number] | names
    shared = {
        number: sharing.held(groups, [slots[n].name for n in stored[number]]) for number in list(stored)[1:]
    }
    # The slot of a `finally` holds nothing while no exception is pending.
    empty = {h.name for h in program.hidden.values() if h.role == "exc"}
    return Plan(
        stored=stored,
        sure=sure,
        needs={site: names & facts.live[site] - empty for site, names in sure.items()},
        touches=touches,
        shared=shared,
        leaving=_leaving(program, summaries, kept, sure, touches, stored),
    )


def starts(program: Program) -> dict[int, int]:
    """Site (0: the start) -> block where it goes on."""
    found = {0: program.entry}
    for block in program.blocks.values():
        if isinstance(block.term, Await):
            found[block.term.site] = block.term.resume
    return found


def ahead(program: Program) -> dict[int, set[int]]:
    """Site (0: the start) -> sites whose await can come next, and of what is begun on the way."""
    found: dict[int, set[int]] = {}
    begun: dict[int, set[int]] = {}
    if any(site.kind == "begin" for site in program.sites):
        begun = {number: set(begun_in(block)) for number, block in program.blocks.items()}
    for site, block in starts(program).items():
        reached = segment(program, block)
        terms = [program.blocks[n].term for n in reached]
        found[site] = {t.site for t in terms if isinstance(t, Await)}.union(
            *(begun[n] for n in reached if n in begun)
        )
    return found


def _leaving(
    program: Program,
    summaries: Mapping[int, Summary],
    kept: Mapping[int, frozenset[str]],
    sure: Mapping[int, frozenset[str]],
    touches: Mapping[int, frozenset[str]],
    stored: Mapping[int, tuple[str, ...]],
) -> dict[int, Leaving]:
    ways: dict[int, dict[int, tuple[int, int]]] = {}
    flow = assigned.ways(program, summaries)
    for site, block in starts(program).items():
        if site not in sure:
            continue
        touched = flow.mask(touches[site])
        incoming = flow.mask(kept[site]) & touched
        for to, (yes, may) in flow.after(block, flow.mask(sure[site]) & incoming, incoming).items():
            ways.setdefault(to, {})[site] = (yes & touched, may & touched & ~yes)
    exceptions = {h.name for h in program.hidden.values() if h.role == "exc"}
    done: dict[int, Leaving] = {}
    for to, by_start in ways.items():
        every, some, unsure = -1, 0, 0
        for yes, may in by_start.values():
            every, some, unsure = every & yes, some | yes, unsure | may
        always: list[str] = []
        after: list[tuple[str, tuple[int, ...]]] = []
        perhaps: list[str] = []
        for name in stored[to]:
            bit = flow.mask(frozenset((name,)))
            if name in exceptions:
                continue
            if bit & unsure:
                perhaps.append(name)
            elif bit & every:
                always.append(name)
            elif bit & some:
                after.append((name, tuple(s for s, (yes, _) in by_start.items() if bit & yes)))
        done[to] = Leaving(
            always=tuple(always),
            after=tuple(after),
            perhaps=tuple(perhaps),
            exceptions=tuple(n for n in stored[to] if n in exceptions),
        )
    for number in stored:
        done.setdefault(number, Leaving(always=(), after=(), perhaps=(), exceptions=()))
    return done
