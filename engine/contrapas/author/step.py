"""`@step`: a local function as a step. Called in a saga it gives an operation; our workers run it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, overload

from typing_extensions import TypeVar

from contrapas.author.annotations import annotations_of
from contrapas.author.duration import Duration, duration_ms
from contrapas.author.op import MISSING, Op
from contrapas.author.retry import STEP_RETRY, STEP_TIMEOUT_MS, Retry
from contrapas.author.service import Delivery, Depends, mark_of, store_of, supplied
from contrapas.errors import DataError

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N", default=Any)


def delivery_of(fn: Callable[..., Any]) -> str:
    """Name of the parameter that takes the `Delivery`; empty: none. DataError CP205: another one follows by position."""
    hints = _hints(fn)
    found = next((name for name, hint in hints.items() if hint is Delivery and name != "return"), "")
    if found:
        _last(fn, found, hints, f"{found}: Delivery", f"{found}: Delivery = Delivery()")
    return found


def supplied_of(fn: Callable[..., Any]) -> tuple[tuple[str, Depends[Any]], ...]:
    """Parameters that our workers supply, and by what. DataError CP205: one that callers could not leave out."""
    hints = _hints(fn)
    marks = {name: mark_of(hint) for name, hint in hints.items() if name != "return"}
    found = tuple([(name, mark) for name, mark in marks.items() if mark is not None])
    for name, _ in found:
        written = f"{name}: … = SUPPLIED"
        _last(fn, name, hints, f"{name}, which is supplied,", written)
        if inspect.signature(fn).parameters[name].default is inspect.Parameter.empty:
            raise DataError(
                "CP205",
                f"@step {fn.__name__}: {name} is supplied, and has no default: callers could not leave it out",
                fix=f"write it last: {written} (from contrapas import SUPPLIED)",
            )
    if len({id(s) for _, mark in found if (s := store_of(mark)) is not None}) > 1:
        raise DataError(
            "CP205",
            f"@step {fn.__name__} takes the sessions of two stores: one transaction is of one database",
            fix="make two steps of it",
        )
    return found


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    try:
        return annotations_of(fn)
    except Exception:  # noqa: BLE001  what cannot be resolved is said where the annotations are looked at
        return {}


def _last(fn: Callable[..., Any], name: str, hints: dict[str, Any], what: str, written: str) -> None:
    """DataError CP205 where an argument of callers follows by position."""
    behind = list(inspect.signature(fn).parameters.values())
    behind = behind[[p.name for p in behind].index(name) + 1 :]
    for p in behind:
        hint = hints.get(p.name)
        if supplied(hint):
            continue
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL):
            raise DataError(
                "CP205",
                f"@step {fn.__name__}: {what} stands before another parameter",
                fix=f"write it last: {written}",
            )


class StepDef(Generic[P, R, N]):
    """A function marked `@step`. `embed(doc)` is an operation to await, `embed.native(doc)` the function itself."""

    def __init__(
        self,
        fn: Callable[P, N],
        *,
        undo: Any = MISSING,
        retry: Retry | None = STEP_RETRY,
        timeout: Duration | None = None,
        name: str | None = None,
        observe: bool = False,
    ) -> None:
        if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
            raise DataError(
                "CP106", f"@step {fn.__name__} yields; a step returns one value", fix="return a list"
            )
        self.fn: Callable[P, N] = fn
        self.native: Callable[P, N] = fn
        """The function itself, for unit tests and plain callers."""
        self.name: str = name or fn.__name__
        self.is_async: bool = inspect.iscoroutinefunction(fn)
        self.retry: Retry | None = retry
        self.timeout_ms: int = (
            STEP_TIMEOUT_MS if timeout is None else duration_ms(timeout, what=f"timeout= of {self.name}")
        )
        self.attempt_ms: int | None = None if timeout is None else self.timeout_ms
        """Length of one attempt where the author said it: `within=` may not be shorter."""
        self.undo: Any = undo
        """MISSING (nothing said), None (nothing to take back), or a callable from the result."""
        self.observe: bool = observe
        """Runs under `app.observe` too."""
        self.module: str = fn.__module__
        update_wrapper(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Op[R]:
        op: Op[R] = Op("local", self.name, (args, kwargs))
        if self.attempt_ms is not None:
            op.attempt_ms = self.attempt_ms
        return op

    def __repr__(self) -> str:
        return f"<step {self.name}>"


class StepMaker:
    """What `@step(...)` with options is applied to a function with; only its typing is of interest."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    @overload
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> StepDef[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> StepDef[P, R, R]: ...
    def __call__(self, fn: Callable[..., Any], /) -> StepDef[..., Any, Any]:
        return StepDef(fn, **self._options)


@overload
def step(fn: Callable[P, Coroutine[Any, Any, R]], /) -> StepDef[P, R, Coroutine[Any, Any, R]]: ...
@overload
def step(fn: Callable[P, R], /) -> StepDef[P, R, R]: ...
@overload
def step(
    *,
    undo: Callable[[Any], Any] | None = ...,
    retry: Retry | None = ...,
    timeout: Duration | None = ...,
    name: str | None = ...,
    observe: bool = ...,
) -> StepMaker: ...
def step(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a step: `async def` runs on the loop, plain `def` in a thread; in a saga both are awaited.

    undo: from the result to a command or step call, or None: nothing to take back. retry: 5 attempts unless said;
    None: one. timeout: of one attempt, 30 s. name: the registered name. observe: it runs under `app.observe` too.
    """
    if fn is None:
        return StepMaker(options)
    made: StepDef[..., Any, Any] = StepDef(fn, **options)
    return made
