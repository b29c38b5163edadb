"""`all` and `first`: branches end in any order, the join goes on when its rule says so (X7, X8)."""

from __future__ import annotations

from contrapas.core import cancel, unwind
from contrapas.core.envelope import Join
from contrapas.core.outcomes import keep_list, load_kept, words_of
from contrapas.core.undo import group
from contrapas.core.work import Line, Work
from contrapas.errors import Cancelled


class Kept(str):
    """A value that is already the text a branch keeps (`outcomes`)."""

    __slots__ = ()


def progress(work: Work, line: Line) -> None:
    """A branch ended: give up the others, go on, or wait for more."""
    join = line.node.join
    if join is None:
        return
    if join.winner < 0 and not join.thrown:
        _decide(work, line, join)
    if not all(child.ended for child in join.children):
        return
    if join.kind == "first" and join.winner >= 0 and not _losers_undone(work, line, join):
        return
    _complete(work, line, join)


def _decide(work: Work, line: Line, join: Join) -> None:
    """Is there a winner of `first`, or a failure that ends an `all` with `fail_fast`? The others are given up."""
    decisive = [
        i
        for i in join.done_order
        if join.kind == "first" or (join.fail_fast and join.children[i].error is not None)
    ]
    if not decisive:
        return
    join.winner = decisive[0]
    for position in range(len(join.children)):
        if position != join.winner:
            cancel.throw(work, line.child(position), "given up")


def _losers_undone(work: Work, line: Line, join: Join) -> bool:
    """What the losers registered is taken back before `first` returns."""
    through = True
    for position, child in enumerate(join.children):
        if position == join.winner:
            continue
        if child.undo and child.unwinding is None:
            unwind.begin(work, line.child(position), 0, "next")
        if child.unwinding is not None:
            through = False
    return through


def _complete(work: Work, line: Line, join: Join) -> None:
    node = line.node
    node.join = None
    number = work.record.undo_count
    work.record.undo_count = number + 1
    group(node, [child.undo for child in join.children], number, join.label, join.visit)
    if join.thrown:
        work.resume(line, None, Cancelled(join.thrown))
        return
    bad = [i for i, child in enumerate(join.children) if child.error is not None]
    if join.kind == "first":
        bad = [join.winner] if join.winner in bad else []
    elif join.winner in bad:
        bad.remove(join.winner)
        bad.insert(0, join.winner)
    if bad:
        work.resume(line, None, _failure(work, join, bad))
    elif join.kind == "first":
        _give(work, line, join.children[join.winner].result or "")
    else:
        _give(work, line, keep_list([child.result or "" for child in join.children], listed=join.listed))


def _give(work: Work, line: Line, text: str) -> None:
    """The join's value: read anew for a frame, as text for a join around this one."""
    work.resume(line, load_kept(work.world, text) if line.node.frames else Kept(text))


def _failure(work: Work, join: Join, bad: list[int]) -> BaseException:
    """The failure at the first position; the others are named in its notes."""
    first = work.types.load_exception(join.children[bad[0]].error or "")
    for position in bad[1:]:
        other = work.types.load_exception(join.children[position].error or "")
        if not isinstance(other, Cancelled):
            first.add_note(f"also failed: [{position}] {words_of(other)}")
    return first
