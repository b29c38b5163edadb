"""What holds of every saga whatever its author wrote; asserted in each configuration of each exploration.

An unwind visits exactly the entries that were issued and have not failed, newest first, each once, and none after the
pivot. A timer ends with its state. What has not ended has an exit for success, and, where it can, for failure, expiry
and cancel. A duplicate changes nothing: the explorer has no move for one, and `tests/check` shows the core agrees.
"""

from __future__ import annotations

from collections.abc import Sequence

from contrapas.draw.inflight import MEETS
from contrapas.draw.model import UNDOABLE, Config, Model, Move
from contrapas.draw.outcomes import KNOWN
from contrapas.errors import BugError
from contrapas.machine.ir import Site

_ENDS = frozenset({"reply", "failure", "expiry"})


def hold(model: Model, config: Config, ahead: Sequence[Move]) -> None:
    """Look at one configuration and every move from it. BugError CP900."""
    if config.end:
        _require(not ahead and not config.frames and config.unwinding is None, config, "an end goes on")
    elif config.unwinding is not None:
        _unwinds(config, ahead)
    else:
        _lives(model, config, ahead)


def _unwinds(config: Config, ahead: Sequence[Move]) -> None:
    unwinding = config.unwinding
    assert unwinding is not None
    stack, floor = config.stack, unwinding.floor
    _require(not (config.pivoted and stack), config, "something stands behind the pivot")
    standing = [n for n in range(floor, len(stack)) if stack[n].undo and stack[n].status in UNDOABLE]
    undone = [move for move in ahead if move.kind == "undo"]
    if not standing:
        _require(not undone, config, "an unwind takes back what is not there")
        _require(bool(ahead), config, "an unwind does not end")
        return
    newest = stack[standing[-1]]
    _require(
        len(undone) == 1
        and undone[0].label == f"undo({newest.label})"
        and undone[0].config.stack == stack[: standing[-1]],
        config,
        f"an unwind does not begin with the newest, {newest.label}",
    )


def _lives(model: Model, config: Config, ahead: Sequence[Move]) -> None:
    site = model.site(config.top)
    if site.kind not in KNOWN or site.kind in MEETS:
        return
    if any(move.kind == "expiry" for move in ahead):
        _require(_timed(site), config, f"a timer fires at {site.label}, which has none")
    ends = model.ends(config.top)
    told = {move.cause for move in ahead if move.kind in _ENDS}
    missing = [outcome.cause for outcome in ends if outcome.cause not in told]
    _require(not missing, config, f"{site.label} has no exit for {', '.join(missing)}")
    if not config.pivoted and not config.cancelled:
        _require(any(m.kind == "cancel" for m in ahead), config, f"{site.label} has no exit for a cancel")
    if config.pivoted:
        _require(not any(m.kind == "cancel" for m in ahead), config, "a cancel is taken behind the pivot")
        _require(not config.stack, config, "something is registered behind the pivot")


def _timed(site: Site) -> bool:
    return site.has_within or any(_timed(child) for child in site.children)


def _require(holds: bool, config: Config, text: str) -> None:
    if not holds:
        raise BugError("CP900", f"the explorer contradicts itself: {text}: {config!r:.2000}")
