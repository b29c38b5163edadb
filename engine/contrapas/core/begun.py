"""What a line of execution has in flight, as data: who is inside a scope, who is through, where a stack comes to lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from contrapas.author.duration import duration_text
from contrapas.core.copies import copy_undo
from contrapas.core.envelope import Begun, Frame, Limit, Node, UndoEntry
from contrapas.core.work import Line, Work
from contrapas.errors import DataError

BEGUN_MAX: Final = 256
"""Operations begun and not taken, per instance."""
IDLE: Final = frozenset({"wait", "sleep"})


def handle_of(begun: Begun) -> str:
    """What its handle says."""
    return f"{begun.label}/{begun.visit}"


def find(frame: Frame, handle: str) -> Begun | None:
    """By its handle; None once it was taken."""
    return next((b for b in frame.begun if handle_of(b) == handle and b.given != "ignored"), None)


def through(begun: Begun) -> bool:
    """Has it ended, and if it was given up, is it taken back?"""
    return begun.ended > 0 and begun.node.unwinding is None


def own(frame: Frame) -> list[Begun]:
    """Begun in the innermost open scope of a frame, or in the frame."""
    depth = len(frame.scopes)
    return [b for b in frame.begun if b.depth >= depth]


def inside(node: Node) -> list[tuple[Frame, Begun]]:
    """Begun in the innermost open scope of a line, called sagas included, or on the whole line."""
    found: list[tuple[Frame, Begun]] = []
    for frame in reversed(node.frames):
        found[:0] = [(frame, begun) for begun in own(frame)]
        if frame.scopes:
            break
    return found


def reason(limit: Limit) -> str:
    """`timeout after 10m`."""
    return f"timeout after {duration_text(max((limit.deadline or limit.since) - limit.since, 0))}"


def idle(work: Work, begun: Begun) -> bool:
    """Is it nothing but a wait or a sleep?"""
    unissued = work.unissued.get(id(begun))
    if unissued is not None:
        return unissued[1].kind in IDLE
    node = begun.node
    return node.pending is not None and not node.frames and node.pending.kind in IDLE


def everything(node: Node) -> Iterator[Begun]:
    """All of a node and below."""
    for frame in node.frames:
        for begun in frame.begun:
            yield begun
            yield from everything(begun.node)
    if node.join is not None:
        for child in node.join.children:
            yield from everything(child)


def room(work: Work) -> None:
    """DataError CP846 where one more would be too many."""
    if sum(1 for _ in everything(work.record.root)) >= BEGUN_MAX:
        raise DataError(
            "CP846",
            f"{BEGUN_MAX} operations are in flight or untaken, and another one is begun",
            expected=f"at most {BEGUN_MAX}",
            got=str(BEGUN_MAX + 1),
            fix="await or cancel what was begun, or use s.map",
        )


def stand_in(work: Work, node: Node, new: Begun) -> None:
    """The place of its stack among the undo entries of who began it."""
    record = work.record
    if record.pivoted:
        return
    new.number = record.undo_count
    record.undo_count += 1
    node.undo.append(
        UndoEntry(
            number=new.number,
            label=new.label,
            visit=record.version,
            key="",
            status="issued",
            kind="group",
            name="",
        )
    )


def release(work: Work, line: Line, begun: Begun) -> None:
    """It is taken: its stack comes to lie where it was begun."""
    node = line.node
    for frame in node.frames:
        if any(b is begun for b in frame.begun):
            frame.begun = [b for b in frame.begun if b is not begun]
    if begun.number < 0:
        return
    for at, entry in enumerate(node.undo):
        if entry.number != begun.number:
            continue
        if begun.node.undo:
            entry = node.undo[at] = copy_undo(entry)
            entry.branches, entry.status = [list(begun.node.undo)], "done"
        else:
            _close_up(work, node, at)
        return


def _close_up(work: Work, node: Node, at: int) -> None:
    """An entry that stands for nothing goes; what stood above it sinks."""
    del node.undo[at]
    for i, frame in enumerate(node.frames):
        if any(height > at for height in frame.scopes):
            moved = node.frames[i] = work.same(frame)
            moved.scopes = [height - (height > at) for height in frame.scopes]
    if node.unwinding is not None and node.unwinding.floor > at:
        node.unwinding.floor -= 1
