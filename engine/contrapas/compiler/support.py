"""What generated code calls: handler tests as Python makes them, exceptions thrown in, loops over a local."""

from __future__ import annotations

import sys
from typing import Any

from contrapas.author.flight import awaited
from contrapas.author.op import Op, UndoRef
from contrapas.codec.cursor import Cursor, NameCursor, cursor, enumerate_cursor, reversed_cursor, zip_cursor
from contrapas.errors import Cancelled, StepFailed


def matches(exc: BaseException, types: Any) -> bool:
    """Whether `except types:` takes an exception; by inheritance alone, as the interpreter asks."""
    given: Any = types
    several: Any = given if isinstance(types, tuple) else (given,)
    for one in several:
        if not (isinstance(one, type) and BaseException in one.__mro__):
            raise TypeError("catching classes that do not inherit from BaseException is not allowed")
    return any(one in type(exc).__mro__ for one in several)


def unwinds(exc: BaseException) -> bool:
    """Whether a scope that this exception leaves takes back what was done in it."""
    return isinstance(exc, StepFailed | Cancelled)


def bug(exc: BaseException | None) -> bool:
    """Whether what leaves a scope is neither its end nor a failure: operations in flight there end on the spot."""
    return exc is not None and not isinstance(exc, StepFailed | Cancelled)


def linked(thrown: BaseException, handled: BaseException | None, called: bool) -> BaseException | None:
    """The context of an exception thrown in at an await: that of its own, ending in what is being handled (L12).

    called: it comes from a called saga, which ran while `handled` was being handled, perhaps as another copy of it.
    Gives the new `__context__`; no cycle is made.
    """
    if handled is None:
        handled = sys.exc_info()[1]
    if handled is None or handled is thrown or any(inner is thrown for inner in _contexts(handled)):
        return thrown.__context__
    last = thrown
    for inner in _contexts(thrown):
        if inner is handled or (called and _alike(inner, handled)):
            return thrown.__context__
        last = inner
    if last is thrown:
        return handled
    last.__context__ = handled
    return thrown.__context__


def _contexts(exc: BaseException) -> list[BaseException]:
    """The chain of contexts, without the exception itself."""
    found: list[BaseException] = []
    seen = {id(exc)}
    inner = exc.__context__
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        found.append(inner)
        inner = inner.__context__
    return found


def _alike(one: BaseException, other: BaseException) -> bool:
    return type(one) is type(other) and repr(one.args) == repr(other.args)


def aborts(exc: BaseException | None) -> bool:
    """Interrupts and ends of the process: they abort the transition and are never stored."""
    return isinstance(exc, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError)


def bound(out: dict[str, Any], now: dict[str, Any], names: tuple[tuple[str, str], ...]) -> None:
    """Add what is bound of some variables to what goes out. names: (variable, slot)."""
    for name, slot in names:
        if name in now:
            out[slot] = now[name]


def named(items: Any) -> Cursor[Any]:
    """A cursor over what a local holds: of a sequence only the position is stored."""
    if isinstance(items, list | tuple | str | bytes):
        return NameCursor()
    return cursor(items)


def more(over: Any, items: Any) -> bool:
    """Whether a cursor over a local has a further item."""
    return bool(over.more(items) if over.__class__ is NameCursor else over.more())


def take(over: Any, items: Any) -> Any:
    """Its next item."""
    return over.take(items) if over.__class__ is NameCursor else over.take()


CONSTANTS: dict[str, Any] = {
    "@AssertionError": AssertionError,
    "@BaseException": BaseException,
    "@NameError": NameError,
    "@Op": Op,
    "@UndoRef": UndoRef,
    "@aborts": aborts,
    "@bug": bug,
    "@handle": awaited,
    "@ascii": ascii,
    "@bound": bound,
    "@cursor": cursor,
    "@enumerate": enumerate_cursor,
    "@linked": linked,
    "@locals": locals,
    "@matches": matches,
    "@more": more,
    "@named": named,
    "@repr": repr,
    "@reversed": reversed_cursor,
    "@set": set,
    "@slice": slice,
    "@str": str,
    "@take": take,
    "@unwinds": unwinds,
    "@zip": zip_cursor,
}
"""By the names that stand in the tree; they reach generated code through closure cells (G3)."""
