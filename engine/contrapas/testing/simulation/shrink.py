"""A failing world made small: as few faults as it takes, then as few instances, workers and partitions."""

from __future__ import annotations

import time
from collections.abc import Callable

from contrapas.testing.simulation.options import Options
from contrapas.testing.simulation.play import Outcome

PlayOf = Callable[[Options, "frozenset[int] | None"], Outcome]


def shrink(
    failed: Outcome, play: PlayOf, *, seconds: float = 60.0
) -> tuple[Options, frozenset[int], Outcome]:
    """The smallest world found in that time that fails under the same name. play: runs options with some faults only."""
    until = time.monotonic() + seconds
    name = failed.wrong.partition(":")[0]
    options, best = failed.options, failed
    keep = frozenset(number for number, _ in failed.tape)

    def fails(candidate: Options, some: frozenset[int]) -> Outcome | None:
        if time.monotonic() > until:
            return None
        found = play(candidate, some)
        return found if found.wrong.partition(":")[0] == name else None

    for field, values in (
        ("instances", (1, 2, 4, 8, 16, 32, 64, 128)),
        ("workers", (1, 2, 3)),
        ("partitions", (1, 2)),
    ):
        for value in values:
            if value >= getattr(options, field):
                break
            smaller = options.but({field: value})
            everything = play(smaller, None) if time.monotonic() < until else None
            if everything is not None and everything.wrong.partition(":")[0] == name:
                options, best = smaller, everything
                keep = frozenset(number for number, _ in everything.tape)
                break
    size = max(1, len(keep) // 2)
    while size:
        numbers = sorted(keep)
        for at in range(0, len(numbers), size):
            fewer = keep - frozenset(numbers[at : at + size])
            found = fails(options, fewer)
            if found is not None:
                keep, best = fewer, found
        size = size // 2 if size > 1 else 0
    return options, keep, best
