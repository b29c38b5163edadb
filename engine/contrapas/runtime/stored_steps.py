"""A local step in a store's transaction: its rows, its key in the inbox and its result are one commit, so it happens once.

Whoever runs the same key again, after a crash or beside a stopped worker, waits for the first to end and takes its result. An
undo marks the key of the step that it takes back: a copy of the step that comes later does nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from contrapas.core.rendezvous import hashes
from contrapas.core.world import StepCall, StepType
from contrapas.errors import DataError, Indeterminate, Retriable, StepFailed
from contrapas.failpoints import NAMES, failpoint
from contrapas.participant import Known, Receipt, Store
from contrapas.participant.rows import digest
from contrapas.runtime.clock import Clock, pause

NAMES["step.begun"] = "the transaction of a local step is open, its key is not taken"
NAMES["step.handled"] = "a local step has run in its transaction, its result is not written"
NAMES["step.finished"] = "all rows of a local step are written, nothing is committed"
NAMES["step.committed"] = "a local step is committed, its result is known to nobody"
CONSUMER: Final = "steps"
WAIT_MS: Final = 50.0
WAIT_MAX_MS: Final = 2_000.0


class Stored(NamedTuple):
    """A result as the inbox keeps it."""

    text: str


async def in_store(
    step: StepType,
    call: StepCall,
    namespace: str,
    kwargs: Mapping[str, Any],
    args: tuple[Any, ...],
    dump: Callable[[StepType, Any], tuple[str, bool]],
    plain: Callable[[Callable[[], Any]], Awaitable[Any]],
    clock: Clock,
) -> Stored:
    """Run a step once. While the database does not answer it waits, for as long as the attempt may take.

    Whatever the step raises passes through after the rollback. DataError CP412: its key was used for another call.
    """
    store: Store[Any] = step.store
    saga = call.instance.partition("/")[0]
    sum_of = digest(step.name, "application/json", call.body.encode())
    receipt = Receipt(namespace, CONSUMER, f"/contrapas/{namespace}/{saga}", call.key, sum_of)
    wait = WAIT_MS
    while True:
        failed: BaseException | None = None
        try:
            async with store.begin() as tx:
                failpoint("step.begun")
                known = await tx.take(receipt, undoes=call.undoes)
                if known is not None:
                    return _known(step, call, receipt, known)
                text = await _ran(step, args, kwargs, dump, plain)
                failpoint("step.handled")
                await tx.finish(receipt, reply=text.encode(), reply_type=step.name, rows=())
                failpoint("step.finished")
            failpoint("step.committed")
            return Stored(text)
        except _Raised as told:
            failed = told.why
        except (Retriable, Indeterminate):
            pass
        if failed is not None:  # out here it has no exception of ours as its context
            raise failed
        await pause(clock, wait)
        wait = min(WAIT_MAX_MS, 2 * wait)


async def _ran(
    step: StepType,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    dump: Callable[[StepType, Any], tuple[str, bool]],
    plain: Callable[[Callable[[], Any]], Awaitable[Any]],
) -> str:
    """The result as text. _Raised keeps apart what the step raises from what its store does."""
    try:
        given = {**kwargs, **{name: make() for name, make in step.supplied}}
        if step.is_async:
            value = await step.fn(*args, **given)
        else:
            value = await plain(partial(step.fn, *args, **given))
        return dump(step, value)[0]
    except (Exception, SystemExit) as why:  # noqa: BLE001  whatever a step raises is its outcome
        raise _Raised(why) from None


class _Raised(Exception):
    def __init__(self, why: BaseException) -> None:
        super().__init__()
        self.why = why


def _known(step: StepType, call: StepCall, receipt: Receipt, known: Known) -> Stored:
    if known.outcome == "undone":
        raise StepFailed("undone before it began", step=call.label)
    if known.digest != receipt.digest:
        raise DataError(
            "CP412",
            f"{step.name}: the key {call.key!r} was used for another call: {hashes(receipt.digest, known.digest)}",
        )
    if known.reply is None:
        raise DataError("CP412", f"{step.name}: the inbox has no result of {call.key!r}")
    return Stored(known.reply.decode())
