"""An operation: what `s.step(...)`, `s.wait(...)`, a called `@step` or `@saga` gives, and what an author awaits.

An `Op` is data. It is issued when it is awaited, not when it is built: under the compiler the await becomes a state and
the core reads the fields below; in a native run (plain asyncio, in tests) `__await__` hands it to the runner that the
context variable names.

| kind | name | value | children |
|---|---|---|---|
| command, ask | registered name of the command class | the command instance | |
| local | registered name of the `@step` | (args, kwargs) | |
| wait | `A|B` | tuple of event classes | |
| cancel | registered name of the `@saga` | (key, reason) | |
| sleep | `sleep` | None; `within_ms` or `until` says how long | |
| all, first | `all(A,B)` | None | the operations |
| frame | registered name of the `@saga` | (args, kwargs), without `s` | |
| map | registered name of the `@step` | list of items | |
| some | `some(A,B)` | (k, rest) | the operations |
| result | `result` | the handle | |
| next | `next` | the handles | |
| join | `join` | None, or the exception that leaves the scope | |
| compensate, unwind | the same word | None | |
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final, Generic, Protocol

from typing_extensions import TypeVar

R_co = TypeVar("R_co", covariant=True, default=Any)


class _Missing:
    """No `undo=` was written: the default of the `@step` counts, and the checker speaks up."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


class UndoRef:
    """`undo=lambda ok: ...` as the compiler hands it over: label of the compiled undo, captured names by value."""

    __slots__ = ("captures", "label")

    def __init__(self, label: str, captures: dict[str, Any]) -> None:
        self.label = label
        self.captures = captures


class Op(Generic[R_co]):
    """One operation, not yet issued."""

    __slots__ = (
        "attempt_ms",
        "children",
        "correlate",
        "door",
        "fail_fast",
        "fresh",
        "kind",
        "label",
        "listed",
        "many",
        "name",
        "retry",
        "undo",
        "undo_failed",
        "until",
        "value",
        "within_ms",
    )

    def __init__(
        self,
        kind: str,
        name: str,
        value: Any = None,
        *,
        undo: Any = MISSING,
        within_ms: int | None = None,
        until: datetime | None = None,
        retry: Any = None,
        children: tuple[Op[Any], ...] = (),
        correlate: Any = None,
        fail_fast: bool = False,
        label: str = "",
    ) -> None:
        self.kind = kind
        self.name = name
        self.value = value
        self.undo = undo
        """MISSING, None, an Op (command or local), a Command instance, an `UndoRef`; natively also a callable."""
        self.within_ms = within_ms
        self.until = until
        self.retry = retry
        """None (the kind's default) or a `Retry`."""
        self.children = children
        self.correlate = correlate
        """None: the saga's key; else the value that the event's key must equal."""
        self.fail_fast = fail_fast
        self.label = label
        """`label=` as written, else empty; the state's label comes from the compiler."""
        self.fresh = False
        """Of a wait: only events that are read after the record which began it."""
        self.undo_failed = False
        """Undo it after a definite failure too."""
        self.attempt_ms: int | None = None
        """Length of one attempt, where the author said it; `within=` may not be shorter (CP850)."""
        self.listed: bool = False
        """Of `all`: called with starred operations, so that its result is a list, not a tuple."""
        self.door: Any = None
        """Of an entity's call: its class, so that it may be awaited outside of a saga."""
        self.many: Any = None
        """Of `map`: how many at a time, how often, and what a failure does (`author.many.Many`)."""

    def __await__(self) -> Generator[Any, Any, R_co]:
        runner = NATIVE.get()
        if runner is None and self.door is not None:
            answered: Generator[Any, Any, R_co] = self.door.asked(self).__await__()
            return answered
        if runner is None:
            raise RuntimeError(
                f"{self.name}: an operation is awaited in a saga; outside of one, run it with contrapas.testing"
            )
        waiting: Generator[Any, Any, R_co] = runner.perform(self).__await__()
        return waiting

    def __repr__(self) -> str:
        return f"<Op {self.kind} {self.name}>"


def copied(op: Op[Any]) -> Op[Any]:
    """An operation that shares nothing with who made it: what is begun is issued a little later."""
    new = copy.copy(op)
    new.value = copy.deepcopy(op.value)
    new.undo = op.undo if op.undo is MISSING else copy.deepcopy(op.undo)
    new.children = tuple([copied(child) for child in op.children])
    return new


class NativeRunner(Protocol):
    """Runs operations of a saga that runs as a plain coroutine."""

    def perform(self, op: Op[Any], /) -> Any:
        """An awaitable with the operation's result."""
        ...


NATIVE: ContextVar[NativeRunner | None] = ContextVar("contrapas_native", default=None)
