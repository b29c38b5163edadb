"""How much must go wrong in a million transitions, and the rare things that must come about: a run below is no proof."""

from __future__ import annotations

from collections.abc import Mapping

FLOORS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "all faults": (60_000, ()),
    "worker crashes": (5_000, ("crash", "step: kills", "step: kills after", "corruption")),
    "unknown commit answers": (5_000, ("unknown commit",)),
    "of them cut to a prefix": (1_000, ("commit: cut",)),
    "of them arriving later": (1_000, ("commit: late",)),
    "rebalances": (3_000, ("rebalance",)),
    "pauses past the lease": (3_000, ("pause",)),
    "duplicate deliveries": (2_000, ("duplicate delivery", "duplicate start", "participant: answer twice")),
    "stale deliveries": (2_000, ("stale delivery",)),
    "compactions": (1_000, ("compaction",)),
    "clock jumps": (500, ("clock jump",)),
    "disk full or I/O errors": (500, ("io",)),
    "corruptions": (200, ("corruption", "foreign message")),
    "version switches": (200, ("release",)),
}
"""What is counted -> per million transitions, and the names of its faults."""
NOT_COUNTED = frozenset({"gap", "retriable read"})
"""They happen, and are no faults."""
SOMETIMES = (
    "former owner's commit refused",
    "former owner's record void",
    "late commit before the fence",
    "late batch after a claim",
    "late batch before a claim",
    "a claim inside another's commit",
    "equal claims",
    "two takeovers back to back",
    "loser met by the next owner",
    "prefix of a batch repaired",
    "a transition computed twice with different results",
    "loser healed",
    "loser met by an owner at work",
    "a look found what others wrote",
    "membership was wrong: two owners",
    "takeover in mid-unwind",
    "undo overtook its command",
    "late reply after undo",
    "unknown outcome that had happened",
    "unknown outcome that had not happened",
    "timer fired by the second owner",
    "early event parked",
    "parked event expired",
    "instance redriven",
    "superseded record compacted",
    "batch cut at 500",
    "batch cut at 20 ms",
    "memory rolled back after a refused batch",
    "careful mode",
    "two rebalances inside one step",
    "an undo failed, and its instance stood still",
    "messages published again at takeover",
    "damaged record found and restored",
    "others moved while a commit was on its way",
    "timer held back for an earlier input",
    "restored from a checkpoint",
    "a tombstone was removed",
)
"""What a long run must have met at least once."""
NOT_YET = ("wait unbound with a delivery under way",)
"""Rare things that come about, and that nobody counts yet."""


def slack(wanted: int, transitions: int) -> float:
    """How far chance may stay below a floor: few worlds have much of one thing, and nothing of another. Beyond a million
    transitions not at all, below 20,000 as far as it likes."""
    if transitions >= 1_000_000:
        return 0.0
    return wanted if transitions < 20_000 else 0.3 * wanted + 3 * wanted**0.5


def total(faults: Mapping[str, int]) -> int:
    """All faults; kinds of one (`commit: cut`) are not counted twice."""
    return sum(n for name, n in faults.items() if ":" not in name and name not in NOT_COUNTED)


def figures(faults: Mapping[str, int], transitions: int) -> list[tuple[str, int, int, bool]]:
    """(what, how often, floor for so many transitions, reached). A short run is allowed some slack."""
    found: list[tuple[str, int, int, bool]] = []
    for what, (floor, names) in FLOORS.items():
        count = sum(faults.get(name, 0) for name in names) if names else total(faults)
        wanted = floor * transitions // 1_000_000
        found.append((what, count, wanted, count >= wanted - slack(wanted, transitions)))
    return found
