"""The crash table (`log.md`, 9.1): which of its rows a run has come to, by what was counted on the way."""

from __future__ import annotations

from collections.abc import Mapping

ROWS: Mapping[int, tuple[str, tuple[str, ...]]] = {
    1: ("computed, not committed", ("crash: commit.before", "crash: park.before", "crash: tombstone.before")),
    2: ("a commit unanswered", ("unknown commit",)),
    3: (
        "a claim before, inside or after a commit",
        ("a claim inside another's commit", "late batch after a claim"),
    ),
    4: ("committed, not dispatched", ("crash: commit.undispatched",)),
    5: ("a step ran, its result was not committed", ("a step that had run was issued again",)),
    6: ("fenced with steps in flight", ("fenced with steps in flight",)),
    7: ("the same process acquires again", ("a running step was adopted",)),
    8: ("published, `relayed` not moved", ("crash: relay.published", "crash: relay.marked")),
    9: ("superseded before its message left", ("a newer record carried what was unsent",)),
    10: ("ingress published, cursor not committed", ("crash: ingress.published",)),
    11: ("a dead letter written again", ("a dead letter came twice",)),
    12: ("bind, deliver, unbind sent again", ("a word of a rendezvous was sent again",)),
    13: ("timer popped, not committed", ("crash: timer.due", "timer fired by the second owner")),
    14: ("an answer waited at a deadline", ("timer held back for an earlier input",)),
    15: ("a cancel raced completion", ("a cancel came to what was done",)),
    16: ("mid-unwind", ("takeover in mid-unwind",)),
    17: ("a child's start sent, parent dead", ("a child's start was sent again",)),
    18: ("a reply nobody waits for", ("a reply was a no-op",)),
    19: ("an undo before its step", ("undo overtook its command",)),
    20: ("around a tombstone", ("crash: tombstone.before", "crash: tombstone.after")),
    21: ("an old checkpoint", ("an old checkpoint was not used",)),
    22: ("a quiet partition, its input trimmed", ("restored over a trimmed lane",)),
    23: ("an input or step kills every owner", ("careful mode",)),
    24: ("a loser, its owner dead before it heals", ("loser met by the next owner",)),
}
"""Row -> what it is, and the names of faults and rare things that show it."""


def come_to(*counted: Mapping[str, int]) -> dict[int, int]:
    """How often each row was come to."""
    return {
        row: sum(one.get(name, 0) for name in names for one in counted) for row, (_, names) in ROWS.items()
    }
