"""`s.wait`, `s.all`, `s.first`: operations over several things, typed for up to six of them each."""

from __future__ import annotations

import opcode
import sys
from datetime import datetime
from types import CodeType, FrameType
from typing import Any, Final, overload

from typing_extensions import TypeVar

from contrapas.author.duration import Duration
from contrapas.author.event import Event, message_spec
from contrapas.author.limits import limited
from contrapas.author.op import Op
from contrapas.author.timeout import Timeout

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
EA = TypeVar("EA", bound=Event)
EB = TypeVar("EB", bound=Event)
EC = TypeVar("EC", bound=Event)
ED = TypeVar("ED", bound=Event)
EE = TypeVar("EE", bound=Event)
EF = TypeVar("EF", bound=Event)
Key = str | int | None


class Joins:
    """The part of `Saga` that waits for several things."""

    __slots__ = ()

    # fmt: off
    @overload
    def wait(self, a: type[EA], /, *, correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA]: ...
    @overload
    def wait(self, a: type[EA], b: type[EB], /, *, correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA | EB]: ...
    @overload
    def wait(self, a: type[EA], b: type[EB], c: type[EC], /, *, correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA | EB | EC]: ...
    @overload
    def wait(self, a: type[EA], b: type[EB], c: type[EC], d: type[ED], /, *, correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA | EB | EC | ED]: ...
    @overload
    def wait(self, a: type[EA], b: type[EB], c: type[EC], d: type[ED], e: type[EE], /, *, correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA | EB | EC | ED | EE]: ...
    @overload
    def wait(self, a: type[EA], b: type[EB], c: type[EC], d: type[ED], e: type[EE], f: type[EF], /, *, correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA | EB | EC | ED | EE | EF]: ...
    @overload
    def wait(self, *events: type[EA], correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA]: ...
    @overload
    def wait(self, a: type[EA], /, *, within: Duration = ..., until: datetime = ..., correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA | Timeout]: ...
    @overload
    def wait(self, a: type[EA], b: type[EB], /, *, within: Duration = ..., until: datetime = ..., correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA | EB | Timeout]: ...
    @overload
    def wait(self, a: type[EA], b: type[EB], c: type[EC], /, *, within: Duration = ..., until: datetime = ..., correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA | EB | EC | Timeout]: ...
    @overload
    def wait(self, a: type[EA], b: type[EB], c: type[EC], d: type[ED], /, *, within: Duration = ..., until: datetime = ..., correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA | EB | EC | ED | Timeout]: ...
    @overload
    def wait(self, a: type[EA], b: type[EB], c: type[EC], d: type[ED], e: type[EE], /, *, within: Duration = ..., until: datetime = ..., correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA | EB | EC | ED | EE | Timeout]: ...
    @overload
    def wait(self, a: type[EA], b: type[EB], c: type[EC], d: type[ED], e: type[EE], f: type[EF], /, *, within: Duration = ..., until: datetime = ..., correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA | EB | EC | ED | EE | EF | Timeout]: ...
    @overload
    def wait(self, *events: type[EA], within: Duration = ..., until: datetime = ..., correlate: Key = None, fresh: bool = False, label: str = "") -> Op[EA | Timeout]: ...
    # fmt: on
    def wait(
        self,
        *events: type[Any],
        within: Duration | None = None,
        until: datetime | None = None,
        correlate: Key = None,
        fresh: bool = False,
        label: str = "",
    ) -> Op[Any]:
        """Wait for the first of these events with this saga's key, or with the key `correlate`; early ones count.

        With `within=` or `until=` the result may be a `Timeout`. fresh: only what is read after the record which began
        this wait counts; what was kept before is let go.
        """
        if not events:
            raise TypeError("wait() needs at least one event class")
        names = "|".join([message_spec(event).name for event in events])
        op: Op[Any] = Op("wait", names, events, correlate=correlate, label=label)
        op.fresh = fresh
        return limited(op, within, until, "within=")

    # fmt: off
    @overload  # one operation and one starred list look the same to a checker; how it is called decides
    def all(self, a: Op[A], /, *, fail_fast: bool = False, label: str = "") -> Op[tuple[A]]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def all(self, a: Op[A], b: Op[B], /, *, fail_fast: bool = False, label: str = "") -> Op[tuple[A, B]]: ...
    @overload
    def all(self, a: Op[A], b: Op[B], c: Op[C], /, *, fail_fast: bool = False, label: str = "") -> Op[tuple[A, B, C]]: ...
    @overload
    def all(self, a: Op[A], b: Op[B], c: Op[C], d: Op[D], /, *, fail_fast: bool = False, label: str = "") -> Op[tuple[A, B, C, D]]: ...
    @overload
    def all(self, a: Op[A], b: Op[B], c: Op[C], d: Op[D], e: Op[E], /, *, fail_fast: bool = False, label: str = "") -> Op[tuple[A, B, C, D, E]]: ...
    @overload
    def all(self, a: Op[A], b: Op[B], c: Op[C], d: Op[D], e: Op[E], f: Op[F], /, *, fail_fast: bool = False, label: str = "") -> Op[tuple[A, B, C, D, E, F]]: ...
    @overload
    def all(self, *ops: Op[A], fail_fast: bool = False, label: str = "") -> Op[list[A]]: ...
    # fmt: on
    def all(self, *ops: Op[Any], fail_fast: bool = False, label: str = "") -> Op[Any]:
        """All of them at once: their results by position; of failures the first by position is raised, when all ended."""
        op: Op[Any] = Op("all", _name("all", ops), children=ops, fail_fast=fail_fast, label=label)
        op.listed = _starred(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        return op

    # fmt: off
    @overload
    def first(self, a: Op[A], /, *, label: str = "") -> Op[A]: ...
    @overload
    def first(self, a: Op[A], b: Op[B], /, *, label: str = "") -> Op[A | B]: ...
    @overload
    def first(self, a: Op[A], b: Op[B], c: Op[C], /, *, label: str = "") -> Op[A | B | C]: ...
    @overload
    def first(self, a: Op[A], b: Op[B], c: Op[C], d: Op[D], /, *, label: str = "") -> Op[A | B | C | D]: ...
    @overload
    def first(self, a: Op[A], b: Op[B], c: Op[C], d: Op[D], e: Op[E], /, *, label: str = "") -> Op[A | B | C | D | E]: ...
    @overload
    def first(self, a: Op[A], b: Op[B], c: Op[C], d: Op[D], e: Op[E], f: Op[F], /, *, label: str = "") -> Op[A | B | C | D | E | F]: ...
    @overload
    def first(self, *ops: Op[A], label: str = "") -> Op[A]: ...
    # fmt: on
    def first(self, *ops: Op[Any], label: str = "") -> Op[Any]:
        """Whichever ends first, in log order; the others are cancelled, and what they did is taken back."""
        if not ops:
            raise TypeError("first() needs at least one operation")
        return Op("first", _name("first", ops), children=ops, label=label)


_STARRED: Final = opcode.opmap["CALL_FUNCTION_EX"]
_known: dict[tuple[CodeType, int], bool] = {}


def _starred(frame: FrameType) -> bool:
    """Was `s.all(*ops)` written? Only the call itself tells a list of one operation from one operation."""
    at = (frame.f_code, frame.f_lasti)
    found = _known.get(at)
    if found is None:
        found = _known[at] = frame.f_code.co_code[frame.f_lasti] == _STARRED
    return found


def _name(word: str, ops: tuple[Op[Any], ...]) -> str:
    return f"{word}({','.join([op.name for op in ops])})"
