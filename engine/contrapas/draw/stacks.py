"""The undo stack of an abstract configuration, cut to what decides anything: the word stays finite in every loop."""

from __future__ import annotations

from contrapas.draw.outcomes import Issued


def newest(stack: tuple[Issued, ...], floor: int) -> tuple[Issued, ...]:
    """Of each step above `floor` only the newest, whatever became of it, in the order of the lines: what may lie in any
    order is as if one pass had laid it."""
    if len(stack) - floor < 2:
        return stack
    kept = {(e.machine, e.label, e.undo): e for e in stack[floor:] if e.status != "failed"}
    return (*stack[:floor], *sorted(kept.values(), key=lambda e: (e.status == "issued", e.line, e.label)))


def saturated(stack: tuple[Issued, ...], floor: int, story: bool, most: int) -> tuple[Issued, ...]:
    """Of one kind above `floor` the newest, or, where `most` is two, the oldest and the newest. story: of what nothing takes
    back one, in no order; and none that failed."""
    if len(stack) - floor < 2:
        return stack
    kept: list[Issued] = []
    inert: set[Issued] = set()
    counts: dict[Issued, int] = {}
    for entry in stack[floor:]:
        if story and entry.status == "failed":
            continue
        if story and not entry.undo and entry.status != "issued":
            inert.add(entry)
            continue
        counts[entry] = counts.get(entry, 0) + 1
        kept.append(entry)
    if any(number > most for number in counts.values()):
        thin: list[Issued] = []
        passed: dict[Issued, int] = {}
        for entry in kept:
            number = passed[entry] = passed.get(entry, 0) + 1
            if number == counts[entry] or (most > 1 and number == 1):
                thin.append(entry)
        kept = thin
    return (*stack[:floor], *sorted(inert), *kept)
