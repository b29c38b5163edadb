"""`all`, `first` and `some`: branches end in any order, the join goes on when its rule says so (X7, X8)."""

from __future__ import annotations

from collections import deque

from contrapas.core import cancel, unwind
from contrapas.core.begun import stand_in
from contrapas.core.envelope import Begun, Join, Node
from contrapas.core.outcomes import Kept, keep_list, keep_some, load_kept, words_of
from contrapas.core.undo import group, lines
from contrapas.core.work import Line, Work
from contrapas.errors import Cancelled


def progress(work: Work, line: Line) -> None:
    """A branch ended: give up the others, go on, or wait for more."""
    join = line.node.join
    if join is None:
        return
    if join.winner < 0 and not join.thrown:
        if join.kind == "some":
            _enough(work, line, join)
        else:
            _decide(work, line, join)
        join = line.node.join
        if join is None:
            return
    if len(join.done_order) < len(join.children) or not all(child.ended for child in join.children):
        return
    if join.kind in ("first", "some") and join.winner >= 0 and not _losers_undone(work, line, join):
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
            cancel.abandon(work, line.child(position))


def _enough(work: Work, line: Line, join: Join) -> None:
    """Has `some` its successes, or are they out of reach? The rest is given up, or goes on by itself."""
    good = [i for i in join.done_order if join.children[i].error is None]
    bad = len(join.done_order) - len(good)
    if len(good) < join.need <= len(join.children) - bad:
        return
    join.winner = len(join.done_order)
    rest = [i for i, child in enumerate(join.children) if not child.ended]
    if not join.ignore:
        for position in rest:
            cancel.abandon(work, line.child(position))
        return
    _let_go(work, line, join, rest)
    chosen = set(join.done_order)
    _complete_some(work, line, join, [child for i, child in enumerate(join.children) if i in chosen])


def _let_go(work: Work, line: Line, join: Join, rest: list[int]) -> None:
    """What goes on belongs to the function from now on, as if it had begun it; nobody asks for it."""
    owner = line
    while not owner.node.frames:
        owner = owner.parent
    frame = owner.node.frames[-1]
    moved: dict[int, Line] = {}
    for position in rest:
        child = line.child(position)
        new = Begun(
            label=join.label,
            visit=f"{join.visit}[{position}]",
            depth=len(frame.scopes),
            node=child.node,
            suffix=child.suffix,
            saga=line.saga,
            given="ignored",
        )
        stand_in(work, owner.node, new)
        frame = work.same(frame)
        frame.begun = [*frame.begun, new]
        owner.node.frames[-1] = frame
        moved.update({id(inner.node): inner for inner in lines(owner.flight(new))})
    work.todo = deque([(w, moved.get(id(at.node), at), v, t) for w, at, v, t in work.todo])
    work.kept_answers = [(moved.get(id(at.node), at), p, c) for at, p, c in work.kept_answers]


def _losers_undone(work: Work, line: Line, join: Join) -> bool:
    """What the losers registered is taken back before `first` returns."""
    through = True
    kept = set(join.done_order[: join.winner]) if join.kind == "some" else {join.winner}
    for position, child in enumerate(join.children):
        if position in kept:
            continue
        if child.undo and child.unwinding is None:
            unwind.begin(work, line.child(position), 0, "next")
        if child.unwinding is not None:
            through = False
    return through


def _complete_some(work: Work, line: Line, join: Join, standing: list[Node]) -> None:
    """The successes as they ended, or the failure that put them out of reach."""
    node = line.node
    node.join = None
    number = work.record.undo_count
    work.record.undo_count = number + 1
    group(node, [child.undo for child in standing], number, join.label, join.visit)
    if join.thrown:
        work.resume(line, None, Cancelled(join.thrown))
        return
    ended = join.done_order[: join.winner]
    good = [i for i in ended if join.children[i].error is None]
    if len(good) >= join.need:
        _give(work, line, keep_some([(i, join.children[i].result or "") for i in good[: join.need]]))
        return
    bad = [i for i in ended if join.children[i].error is not None]
    work.resume(line, None, _failure(work, join, [bad[-1], *bad[:-1]]))


def _complete(work: Work, line: Line, join: Join) -> None:
    node = line.node
    if join.kind == "some":
        _complete_some(work, line, join, join.children)
        return
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
