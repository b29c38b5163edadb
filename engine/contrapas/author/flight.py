"""Operations in flight: `s.begin`, the handle that it gives, `s.next` for whichever ends first, `s.some` for some of many.

A `Pending` is data: the label of its `begin` and the visit. Who runs the saga finds the operation by it, so a handle may
be kept in locals and containers of its function, and a lost one loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, overload

from typing_extensions import TypeVar

from contrapas.author.duration import Duration
from contrapas.author.event import Command, Event, message_spec
from contrapas.author.limits import attempt_fits, limited
from contrapas.author.op import MISSING, Op
from contrapas.author.retry import Retry
from contrapas.author.timeout import Timeout

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
Ok = TypeVar("Ok", bound=Event)
A = TypeVar("A", bound="Pending[Any]")
B = TypeVar("B", bound="Pending[Any]")
C = TypeVar("C", bound="Pending[Any]")
D = TypeVar("D", bound="Pending[Any]")
E = TypeVar("E", bound="Pending[Any]")
Undoing = Command[Any, Any] | Op[Any]


class Flight(Protocol):
    """Who runs the saga at this moment, as far as operations in flight go."""

    def begin(self, op: Op[Any], /) -> Pending[Any]:
        """Issue an operation without waiting for it."""
        ...

    def cancel(self, pending: Pending[Any], /) -> None:
        """Give one up."""
        ...


FLIGHT: ContextVar[Flight | None] = ContextVar("contrapas_flight", default=None)
"""Set while a saga that begins operations runs: a handle is data and does not know who runs it."""


class Pending(Generic[T_co]):
    """A handle of an operation begun with `s.begin`: await it once, name it to `s.next`, or give it up."""

    __slots__ = ("label", "visit")
    label: str
    visit: str

    def __init__(self, label: str, visit: str) -> None:
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "visit", visit)

    def __await__(self) -> Generator[Any, Any, T_co]:
        return awaited(self).__await__()

    def cancel(self) -> None:
        """Give the operation up: it is cancelled, or its result not wanted, and what it did is taken back beside the saga.

        One that was taken stays as it is.
        """
        flight = FLIGHT.get()
        if flight is None:
            raise RuntimeError(f"{self.text}: a handle is cancelled in the saga that began it")
        flight.cancel(self)

    @property
    def text(self) -> str:
        """As records hold it."""
        return f"{self.label}/{self.visit}"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a handle does not change: {name}")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Pending):
            return self.label == other.label and self.visit == other.visit
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.label, self.visit))

    def __copy__(self) -> Pending[T_co]:
        return self

    def __deepcopy__(self, memo: object) -> Pending[T_co]:
        return self

    def __repr__(self) -> str:
        return f"<Pending {self.text}>"


def awaited(handle: Any) -> Op[Any]:
    """What `await handle` waits for. TypeError for what is no handle."""
    if not isinstance(handle, Pending):
        raise TypeError(f"object {type(handle).__name__} can't be used in 'await' expression")
    return Op("result", "result", handle)


class Flying:
    """The part of `Saga` that keeps operations in flight."""

    __slots__ = ()

    @overload
    def begin(
        self,
        op: Command[Ok, Any],
        /,
        *,
        undo: Undoing | Callable[[Ok], Undoing] | None = ...,
        within: Duration | None = None,
        until: datetime | None = None,
        retry: Retry | None = None,
        label: str = "",
    ) -> Pending[Ok]: ...
    @overload
    def begin(
        self,
        op: Op[T],
        /,
        *,
        undo: Undoing | Callable[[T], Undoing] | None = ...,
        within: Duration | None = None,
        until: datetime | None = None,
        retry: Retry | None = None,
        label: str = "",
    ) -> Pending[T]: ...
    def begin(
        self,
        op: Command[Any, Any] | Op[Any],
        /,
        *,
        undo: Any = MISSING,
        within: Duration | None = None,
        until: datetime | None = None,
        retry: Retry | None = None,
        label: str = "",
    ) -> Pending[Any]:
        """Issue any operation and go on; `await` the handle for its result, once. Options as for `s.step`.

        It belongs to the innermost `s.scope()` of its function, else to the function, whose end waits for it.
        """
        if not isinstance(op, Op):
            op = Op("command", message_spec(type(op)).name, op)
        op = limited(op, within, until, "within=")
        if undo is not MISSING:
            op.undo = undo
        if retry is not None:
            op.retry = retry
        if label:
            op.label = label
        attempt_fits(op)
        return self._flight().begin(op)

    def _flight(self) -> Flight:
        raise NotImplementedError

    # fmt: off
    @overload
    def next(self, a: A, /, *, label: str = "") -> Op[A]: ...
    @overload
    def next(self, a: A, b: B, /, *, label: str = "") -> Op[A | B]: ...
    @overload
    def next(self, a: A, b: B, c: C, /, *, label: str = "") -> Op[A | B | C]: ...
    @overload
    def next(self, a: A, b: B, c: C, d: D, /, *, label: str = "") -> Op[A | B | C | D]: ...
    @overload
    def next(self, a: A, b: B, c: C, d: D, e: E, /, *, label: str = "") -> Op[A | B | C | D | E]: ...
    @overload
    def next(self, *pendings: A, label: str = "") -> Op[A]: ...
    @overload
    def next(self, a: A, /, *, within: Duration = ..., until: datetime = ..., label: str = "") -> Op[A | Timeout]: ...
    @overload
    def next(self, a: A, b: B, /, *, within: Duration = ..., until: datetime = ..., label: str = "") -> Op[A | B | Timeout]: ...
    @overload
    def next(self, a: A, b: B, c: C, /, *, within: Duration = ..., until: datetime = ..., label: str = "") -> Op[A | B | C | Timeout]: ...
    @overload
    def next(self, a: A, b: B, c: C, d: D, /, *, within: Duration = ..., until: datetime = ..., label: str = "") -> Op[A | B | C | D | Timeout]: ...
    @overload
    def next(self, a: A, b: B, c: C, d: D, e: E, /, *, within: Duration = ..., until: datetime = ..., label: str = "") -> Op[A | B | C | D | E | Timeout]: ...
    @overload
    def next(self, *pendings: A, within: Duration = ..., until: datetime = ..., label: str = "") -> Op[A | Timeout]: ...
    # fmt: on
    def next(
        self,
        *pendings: Pending[Any],
        within: Duration | None = None,
        until: datetime | None = None,
        label: str = "",
    ) -> Op[Any]:
        """The handle whose operation ended first, ended ones included; with `within=` or `until=` perhaps a `Timeout`."""
        if not pendings:
            raise ValueError("next() needs at least one operation in flight")
        for handle in pendings:
            if not isinstance(handle, Pending):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"next() takes handles of operations begun, not {type(handle).__name__}")
        return limited(
            Op("next", "next", tuple(dict.fromkeys(pendings)), label=label), within, until, "within="
        )

    def some(
        self, k: int, *ops: Op[T], rest: Literal["cancel", "ignore"] = "cancel", label: str = ""
    ) -> Op[list[tuple[int, T]]]:
        """The first `k` successes as they end, with their positions; `StepFailed` once so many are out of reach.

        rest: what is still in flight then is given up, or goes on with its failures ignored.
        """
        if not 0 <= k <= len(ops):
            raise ValueError(f"some() of {len(ops)} operations cannot give {k}")
        if rest not in ("cancel", "ignore"):
            raise ValueError(f"rest= is cancel or ignore, not {rest!r}")
        name = f"some({','.join([op.name for op in ops])})"
        return Op("some", name, (k, rest), children=ops, label=label)
