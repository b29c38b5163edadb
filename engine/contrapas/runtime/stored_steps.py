"""A local step in a store's transaction: its rows, its key in the inbox and its result are one commit, so it happens once.

Whoever runs the same key again, after a crash or beside a stopped worker, waits for the first to end and takes its result. An
undo marks the key of the step that it takes back: a copy of the step that comes later does nothing.

A definite failure ends a step, and nothing takes it back. So after the rollback it is written into the inbox before anybody
is told, under the same key: a copy that was stopped meanwhile finds it and fails likewise. The next attempt, where there is
one, takes the key again.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from contrapas.core.outcomes import words_of
from contrapas.core.rendezvous import hashes
from contrapas.core.world import StepCall, StepType, Types
from contrapas.errors import Damaged, DataError, Indeterminate, OpaqueError, Retriable, StepFailed
from contrapas.failpoints import NAMES, failpoint
from contrapas.participant import FAILED, Known, Receipt, Store, Tx
from contrapas.participant.rows import digest
from contrapas.runtime.clock import Clock, pause

NAMES["step.begun"] = "the transaction of a local step is open, its key is not taken"
NAMES["step.handled"] = "a local step has run in its transaction, its result is not written"
NAMES["step.finished"] = "all rows of a local step are written, nothing is committed"
NAMES["step.refused"] = "a local step failed for good and is rolled back, its failure is not written"
NAMES["step.committed"] = "a local step is committed, its result is known to nobody"
CONSUMER: Final = "steps"
WAIT_MS: Final = 50.0
WAIT_MAX_MS: Final = 2_000.0
ERROR_MAX: Final = 64_000
"""Characters of an exception, beyond which only its words are kept."""


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
    types: Types,
) -> Stored:
    """Run a step once. While the database does not answer it waits, for as long as the attempt may take.

    Whatever the step raises passes through after the rollback. DataError CP412: its key was used for another call.
    """
    store: Store[Any] = step.store
    saga = call.instance.partition("/")[0]
    sum_of = digest(step.name, "application/json", call.body.encode())
    receipt = Receipt(namespace, CONSUMER, f"/contrapas/{namespace}/{saga}", call.key, sum_of)
    wait = WAIT_MS
    failed: BaseException | None = None
    while True:
        told: BaseException | None = None
        try:
            async with store.begin(receipt, undoes=call.undoes) as tx:
                failpoint("step.begun")
                known = await _taken(tx, receipt, call)
                if known is not None:
                    return _known(step, call, receipt, known, types)
                text = "" if failed is not None else await _ran(step, args, kwargs, dump, plain)
                failpoint("step.handled")
                reply = text.encode() if failed is None else _packed(call, types, failed)
                kind = step.name if failed is None else FAILED
                await tx.finish(receipt, reply=reply, reply_type=kind, rows=())
                failpoint("step.finished")
            failpoint("step.committed")
            if failed is None:
                return Stored(text)
            told = failed
        except _Raised as raised:
            why = raised.why
            if _definite(call, why):
                failpoint("step.refused")
                failed = why
                continue
            told = why
        except (Retriable, Indeterminate):
            pass
        if told is not None:  # out here it has no exception of ours as its context
            raise told
        await pause(clock, wait)
        wait = min(WAIT_MAX_MS, 2 * wait)


def _definite(call: StepCall, why: BaseException) -> bool:
    """Nobody would take this outcome back. Of an undo it is one failed attempt among others."""
    return isinstance(why, StepFailed) and not why.unknown and not call.undoes


async def _taken(tx: Tx[Any], receipt: Receipt, call: StepCall) -> Known | None:
    """What the inbox knows of this call; the failure of an earlier attempt gives way."""
    known = await tx.take(receipt, undoes=call.undoes)
    while known is not None and known.reply_type == FAILED and _failure(known)[0] < call.attempt:
        known = await tx.retake(receipt, known)
    return known


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
    except (Exception, SystemExit) as why:
        raise _Raised(why) from why  # the store looks whether it is its own trouble that the step met


class _Raised(Exception):
    def __init__(self, why: BaseException) -> None:
        super().__init__()
        self.why = why


def _known(step: StepType, call: StepCall, receipt: Receipt, known: Known, types: Types) -> Stored:
    if known.outcome == "undone":
        raise StepFailed("undone before it began", step=call.label)
    if known.digest != receipt.digest:
        raise DataError(
            "CP412",
            f"{step.name}: the key {call.key!r} was used for another call: {hashes(receipt.digest, known.digest)}",
        )
    if known.reply is None:
        raise DataError("CP412", f"{step.name}: the inbox has no result of {call.key!r}")
    if known.reply_type == FAILED:
        raise types.load_exception(_failure(known)[1])
    return Stored(known.reply.decode())


def _packed(call: StepCall, types: Types, why: BaseException) -> bytes:
    """A failure as the inbox keeps it."""
    return json.dumps({"attempt": call.attempt, "error": error_text(types, why)}).encode()


def _failure(known: Known) -> tuple[int, str]:
    """The attempt that failed, and its exception. Damaged CP520 for what `_packed` did not write."""
    try:
        found = json.loads(known.reply or b"")
        return int(found["attempt"]), str(found["error"])
    except (ValueError, KeyError, TypeError) as why:
        raise Damaged("CP520", f"the failure of a step does not read in the inbox: {why}"[:300]) from why


def error_text(types: Types, why: BaseException) -> str:
    """An exception as it is stored; of a very long one only the words."""
    text = types.dump_exception(why)
    if len(text) <= ERROR_MAX:
        return text
    name, reason = type(why).__name__, reason_of(why)
    short = (
        StepFailed(reason)
        if isinstance(why, StepFailed)
        else OpaqueError(name, reason.removeprefix(f"{name}: "))
    )
    return types.dump_exception(short)


def reason_of(why: BaseException) -> str:
    """What a step raised, in one line of at most 1000 characters."""
    if isinstance(why, StepFailed) and why.reason:
        return words_of(Exception(why.reason)).removeprefix("Exception: ")
    return f"{why.code} {why.text}"[:1000] if isinstance(why, DataError) else words_of(why)
