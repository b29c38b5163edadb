"""Hand-written sagas for the differential runner: replies, views, one-way messages, cancels, waits for what is new (97)."""
# mypy: ignore-errors
# pyright: basic, reportGeneralTypeIssues=false, reportArgumentType=false

from __future__ import annotations

import copy
from typing import Any

from contrapas.author.saga import Saga, SagaDef, saga
from contrapas.author.telling import Telling
from contrapas.author.timeout import Timeout
from contrapas.errors import StepFailed
from contrapas.testing.differential_prelude import (
    Approved,
    Charge,
    Charged,
    Declined,
    Done,
    Go,
    Refund,
    Refunded,
    num,
    word,
)
from contrapas.testing.native import log


@saga
async def case_97_answers(s: Saga, go: Go) -> int:
    """97: a reply after a reload, of a copy, twice, at the end; to what a list, a dict or a slot gives back."""
    waiting: list[Charge] = []
    by_name: dict[str, Charge | Refund] = {}
    n = 0
    while n < 4:
        got = await s.wait(Charge, Refund, within="1h")
        match got:
            case Charge(cents=cents) if cents % 2:
                waiting.append(got)
                n += await num(cents % 5)
            case Charge():
                s.reply(got.model_copy(update={"cents": 7}), Charged(k="k", cents=n))
                s.reply(got, Declined(k="k", reason="second"))
            case Refund() as asked:
                by_name[f"r{n}"] = asked
                s.reply(copy.deepcopy(asked), Refunded(k="k"))
            case Timeout():
                log("late")
        n += 1
    for one in waiting:
        s.reply(one, Charged(k="k", cents=one.cents))
    log(len(waiting), sorted(by_name))
    return n


@saga
async def built_by_hand(s: Saga, go: Go) -> int:
    """A command that nobody sent cannot be answered, and a wrong reply is none."""
    got = await s.wait(Charge)
    try:
        s.reply(Charge(k="k", cents=1), Charged(k="k", cents=1))
    except RuntimeError as why:
        log("by hand", str(why), await num(1))
    try:
        s.reply(got, Done(k="k"))
    except TypeError as why:
        log("wrong", str(why))
    try:
        s.reply(Done(k="k"), Done(k="k"))
    except TypeError as why:
        log("none", str(why))
    s.reply(got, Declined(k="k", reason="no"))
    return got.cents


@saga
async def answered_in_a_leg(s: Saga, asked: Charge, n: int) -> int:
    """A called saga answers what it is given."""
    m = await num(n)
    s.reply(asked, Charged(k="k", cents=m))
    return m


@saga
async def passes_on(s: Saga, go: Go) -> int:
    """A command as argument, in a join, in a tuple, across a handler and a finally."""
    first = await s.wait(Charge)
    both = await s.all(s.wait(Charge), s.wait(Refund))
    total = 0
    try:
        total += await answered_in_a_leg(s, first, 3)
        total += await num(both[0].cents % 3)
    except StepFailed as why:
        s.note(f"failed {why.reason}")
        s.reply(first, Declined(k="k", reason=why.reason))
    finally:
        s.reply(both[1], Refunded(k="k"))
        total += len(await word(1))
    s.reply(both[0], Charged(k="k", cents=total))
    return total


@saga
async def smaller(s: Saga, go: Go) -> int:
    """View, note, one-way messages, fresh waits, undo of a failure, the status of another."""
    n = 0
    s.show(go)
    for round_ in range(2):
        s.note(f"round {round_}")
        s.tell(Refund(k="k", cents=round_), after="10m" if round_ else None)
        got = await s.wait(Approved, fresh=True, within="1d")
        if isinstance(got, Timeout):
            n += 1
        try:
            await s.step(Charge(k="k", cents=n), undo=Refund(k="k"), undo_failed=True)
        except StepFailed as why:
            log(why.reason, await s.cancel(other, f"k{round_}", reason=why.reason))
    status = await s.cancel(other, "k")
    return n if status is None else len(status)


@saga
async def takes_back(s: Saga, go: Go) -> int:
    """One-way messages that leave later and are taken back, from locals, containers and called sagas."""
    kept = [s.tell(Refund(k="k", cents=n), after="10m") for n in range(3)]
    s.untell(kept[1])
    n = await num(1)
    maybe = s.tell(Refund(k="k", cents=n), after="1m" if n % 2 else None)
    s.untell(kept.pop())
    n += await tells_too(s, kept[0])
    if maybe is not None:
        s.untell(maybe)
        s.untell(maybe)
    try:
        s.untell(None)  # type: ignore[arg-type]
    except TypeError as why:
        log(str(why))
    await word(n)
    log(kept, maybe)
    return len(kept)


@saga
async def tells_too(s: Saga, handle: Telling) -> int:
    """Another function of the same instance."""
    more = s.tell(Refund(k="k", cents=7), after="1h")
    n = await num(2)
    s.untell(handle)
    s.untell(more)
    return n


@saga
async def other(s: Saga, go: Go) -> int:
    """Somebody else."""
    return await num(go.n)


TALKS: tuple[tuple[SagaDef[..., Any], tuple[SagaDef[..., Any], ...]], ...] = (
    (case_97_answers, ()),
    (built_by_hand, ()),
    (passes_on, (answered_in_a_leg,)),
    (smaller, (other,)),
    (takes_back, (tells_too,)),
)
