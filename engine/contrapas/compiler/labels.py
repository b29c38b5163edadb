"""Stable names for awaits and hidden slots, aligned against the lock file; never ordinals, never reused (section 12).

Awaits found are aligned with awaits locked by longest common subsequence on (operation, control path), then, in the gaps,
on the operation alone. Matches keep their labels; new ones are minted from the operation's text, with a serial where the
text was ever used; the rest is retired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, TypeVar

from contrapas.compiler.lock import HiddenLock, SagaLock, StateLock
from contrapas.compiler.refusals import Refusals
from contrapas.machine import Refusal
from contrapas.machine.ir import Facts, Hidden, Program, Site

A = TypeVar("A")
B = TypeVar("B")
_CURSOR: Final = re.compile(r"@[a-z]+\d+")


def align(program: Program, facts: Facts, locked: SagaLock | None) -> list[Refusal]:
    """Name every site, hidden slot and undo of a program in place.

    Gives CP322 for two awaits of one `label=`, CP323 for a retired one named again, CP324 as a warning where a state was
    matched on its operation alone.
    """
    refusals = Refusals(program.file, program.source)
    before = locked or SagaLock(name=program.name)
    _sites(program, before, refusals)
    _hidden(program, facts, before)
    for site in program.sites:
        site.regions = tuple(_region(r, program) for r in site.regions)
    for undo in program.undos:
        label = next((s.label for s in program.sites if s.index == undo.site), "")
        undo.of = label + "".join([f"[{n}]" for n in undo.position])
        undo.label = f"undo({undo.of})"
    return refusals.in_order()


def _sites(program: Program, before: SagaLock, refusals: Refusals) -> None:
    sites = sorted(program.sites, key=lambda s: s.index)
    taken = {state.label for state in before.states} | set(before.retired)
    named: dict[str, Site] = {}
    for site in sites:
        if not site.explicit:
            continue
        at = _At(site)
        if site.explicit in named:
            text = (
                f"two awaits carry label={site.explicit!r}; the other is in line {named[site.explicit].line}"
            )
            refusals.add(at, "CP322", text, "give each await its own label")
        elif site.explicit in before.retired:
            text = f"label={site.explicit!r} was retired: old records use it for another await"
            refusals.add(at, "CP323", text, "choose a label that was never used")
        named[site.explicit] = site
        site.label = site.explicit
    free = [s for s in sites if not s.explicit]
    old = [state for state in before.states if state.label not in named]
    for place, other, exact in _matched(free, old, _exactly, _operation):
        site, state = free[place], old[other]
        site.label = state.label
        if not exact and state.path != site.path and not _only(site, state, free, old):
            text = f"{site.text} was taken for the state {state.label}, on its operation alone"
            refusals.add(
                _At(site), "CP324", text, "if it is another await, give it a label= of its own", warning=True
            )
    used = taken | set(named) | {s.label for s in free if s.label}
    for site in free:
        if not site.label:
            site.label = _mint(site.text, used)
            used.add(site.label)


def _hidden(program: Program, facts: Facts, before: SagaLock) -> None:
    live = frozenset[str]().union(*facts.live.values())
    # In order of lowering, which is that of evaluation: columns inside of f-strings differ between Python versions.
    found = [h for h in program.hidden.values() if h.name in live]
    used = {h.name for h in before.hidden} | set(before.retired_hidden)
    for place, other, _ in _matched(found, list(before.hidden), _by_path, _by_role):
        found[place].slot = before.hidden[other].name
    for hidden in found:
        if not hidden.slot:
            hint = _CURSOR.sub("it", hidden.hint).strip(".")
            hidden.slot = _mint(f"{hidden.role}.{hint}" if hint else hidden.role, used)
        used.add(hidden.slot)


def _region(text: str, program: Program) -> str:
    """A region under the stable name of its cursor: `loop iter.lines`."""
    word, _, name = text.partition(" ")
    hidden = program.hidden.get(name)
    return text if hidden is None else f"{word} {hidden.slot or hidden.role}"


def _mint(text: str, used: set[str]) -> str:
    """The text itself if it was never used, else with the next serial: `ChargeCard#2`."""
    if text not in used:
        return text
    serials = [int(n) for u in used if (n := u.removeprefix(f"{text}#")) != u and n.isdigit()]
    return f"{text}#{max([1, *serials]) + 1}"


def _exactly(one: Site | StateLock) -> Hashable:
    return (_operation(one), one.path)


def _operation(one: Site | StateLock) -> Hashable:
    return one.operation


def _by_path(one: Hidden | HiddenLock) -> Hashable:
    hint = one.hint if isinstance(one, HiddenLock) else _CURSOR.sub("it", one.hint).strip(".")
    return (one.role, one.path, hint)


def _by_role(one: Hidden | HiddenLock) -> Hashable:
    hint = one.hint if isinstance(one, HiddenLock) else _CURSOR.sub("it", one.hint).strip(".")
    return (one.role, hint)


def _matched(
    found: Sequence[A],
    locked: Sequence[B],
    exact: Callable[[Any], Hashable],
    loose: Callable[[Any], Hashable],
) -> list[tuple[int, int, bool]]:
    """(place in found, place in locked, whether exact): by subsequence on the exact key, in the gaps on the loose one, then
    what was moved: the only one left of its exact key, then of its loose key."""
    pairs = [(a, b, True) for a, b in common([exact(x) for x in found], [exact(x) for x in locked])]
    gaps: list[tuple[int, int, bool]] = []
    last_a = last_b = 0
    for a, b, _ in [*pairs, (len(found), len(locked), True)]:
        inner = common([loose(x) for x in found[last_a:a]], [loose(x) for x in locked[last_b:b]])
        gaps.extend((last_a + i, last_b + j, False) for i, j in inner)
        last_a, last_b = a + 1, b + 1
    pairs.extend(gaps)
    for key in (exact, loose):
        mine, theirs = {a for a, _, _ in pairs}, {b for _, b, _ in pairs}
        left: dict[Hashable, list[int]] = {}
        for a in range(len(found)):
            if a not in mine:
                left.setdefault(key(found[a]), []).append(a)
        right: dict[Hashable, list[int]] = {}
        for b in range(len(locked)):
            if b not in theirs:
                right.setdefault(key(locked[b]), []).append(b)
        for word, places in left.items():
            if len(places) == 1 and len(right.get(word, ())) == 1:
                pairs.append((places[0], right[word][0], key is exact))
    return pairs


def common(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Places of a longest common subsequence."""
    rows = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in range(len(left) - 1, -1, -1):
        for j in range(len(right) - 1, -1, -1):
            same = left[i] == right[j]
            rows[i][j] = rows[i + 1][j + 1] + 1 if same else max(rows[i + 1][j], rows[i][j + 1])
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i] == right[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif rows[i + 1][j] >= rows[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _only(site: Site, state: StateLock, found: Iterable[Site], locked: Iterable[StateLock]) -> bool:
    """Whether there is no other await of the operation that could be meant."""
    same = sum(1 for s in found if s.operation == site.operation)
    return same == 1 and sum(1 for s in locked if s.operation == state.operation) == 1


class _At:
    """A place for `Refusals.add`."""

    def __new__(cls, site: Site) -> Any:
        import ast

        node = ast.Pass()
        node.lineno, node.col_offset = site.line, site.column
        return node
