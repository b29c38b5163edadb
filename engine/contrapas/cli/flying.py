"""What an instance has in flight, as `instance describe` tells it: a line for each operation begun, and for each limit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from contrapas.cli import screen, text
from contrapas.core.envelope import InstanceRecord

MEETS = frozenset({"result", "next", "join"})
"""Operations that wait for others in flight."""


def waited_for(pending: Any) -> str:
    """What `await pending`, `s.next` or the end of a scope waits for."""
    if pending.kind == "join":
        return "the end of what is in flight"
    handles = [str(handle) for handle in json.loads(pending.body)]
    return ("the first of " if len(handles) > 1 else "") + ", ".join(handles)


def rows(look: screen.Look, body: InstanceRecord, now: int) -> Iterator[tuple[str, str]]:
    """`in flight  begin(AskQuote)/3  waits for Quoted  deadline …`, branches within branches too."""
    nodes: list[Any] = [body.root]
    while nodes:
        node = nodes.pop(0)
        for frame in node.frames:
            for begun in frame.begun:
                yield "in flight", text.escape(f"{begun.label}/{begun.visit}   {_how(begun)}")
                nodes.append(begun.node)
        nodes += node.join.children if node.join is not None else []
    for limit in body.limits():
        if limit.deadline is not None:
            left = "is being left" if limit.expired else "ends"
            what = "the branch" if limit.depth < 0 else "the scope"
            yield "limit", f"{what} {left}   {screen.moment(look, limit.deadline, now)}"


def _how(begun: Any) -> str:
    node = begun.node
    if begun.given == "cancelled":
        return "given up" if node.unwinding is None and begun.ended else "given up, being taken back"
    if begun.ended:
        return "failed, not taken" if node.error is not None else "ended, not taken"
    ignored = ", its end is ignored" if begun.given == "ignored" else ""
    at = node.frames[-1].label if node.frames else node.pending.name if node.pending is not None else ""
    return f"at {at}{ignored}" if at else f"goes on{ignored}"
