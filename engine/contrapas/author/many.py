"""`s.map`: one step, or one saga, for each of many items. `s.child`: another saga, as an instance of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast, overload

from typing_extensions import TypeVar

from contrapas.author.duration import Duration, duration_ms
from contrapas.author.op import MISSING, Op
from contrapas.author.step import StepDef
from contrapas.author.timeout import Failed
from contrapas.errors import DataError

if TYPE_CHECKING:
    from contrapas.author.event import Event
    from contrapas.author.saga import Saga, Undoing

E = TypeVar("E", bound="Event")
R = TypeVar("R")
T = TypeVar("T")
CONCURRENCY_MAX: Final = 1_000_000
ITEMS_MAX: Final = 100_000
_RATE: Final = re.compile(r"\s*([0-9]{1,9})\s*/\s*([0-9]*[a-z]+)\s*")


@dataclass(frozen=True, slots=True)
class Many:
    """How the items of a `map` are worked off."""

    concurrency: int = 0
    """At most so many at a time; 0: all at once."""
    rate: tuple[int, int] | None = None
    """At most so many begin within so many ms."""
    collect: bool = False
    """A failure is a `Failed` at its position; otherwise the first one by position is raised."""
    saga: bool = False
    """Each item runs a saga of its own, not a step."""


class Multitude:
    """The part of `Saga` that works on many items."""

    __slots__ = ()

    @overload
    def map(
        self,
        fn: Callable[[T], Op[R]],
        items: Iterable[T],
        /,
        *,
        concurrency: int | None = None,
        rate: str | None = None,
        on_error: Literal["fail"] = "fail",
        undo: Callable[[R], Undoing] | None = cast("Any", MISSING),  # noqa: B008
        label: str = "",
    ) -> Op[list[R]]: ...
    @overload
    def map(
        self,
        fn: Callable[[T], Op[R]],
        items: Iterable[T],
        /,
        *,
        on_error: Literal["collect"],
        concurrency: int | None = None,
        rate: str | None = None,
        undo: Callable[[R], Undoing] | None = cast("Any", MISSING),  # noqa: B008
        label: str = "",
    ) -> Op[list[R | Failed]]: ...
    @overload
    def map(
        self,
        fn: Callable[[Saga, T], Op[R]],
        items: Iterable[T],
        /,
        *,
        concurrency: int | None = None,
        rate: str | None = None,
        on_error: Literal["fail"] = "fail",
        undo: Callable[[R], Undoing] | None = cast("Any", MISSING),  # noqa: B008
        label: str = "",
    ) -> Op[list[R]]: ...
    @overload
    def map(
        self,
        fn: Callable[[Saga, T], Op[R]],
        items: Iterable[T],
        /,
        *,
        on_error: Literal["collect"],
        concurrency: int | None = None,
        rate: str | None = None,
        undo: Callable[[R], Undoing] | None = cast("Any", MISSING),  # noqa: B008
        label: str = "",
    ) -> Op[list[R | Failed]]: ...
    def map(
        self,
        fn: Callable[..., Op[Any]],
        items: Iterable[Any],
        /,
        *,
        concurrency: int | None = None,
        rate: str | None = None,
        on_error: str = "fail",
        undo: Any = MISSING,
        label: str = "",
    ) -> Op[Any]:
        """A `@step`, or a `@saga` of one argument, for each item: the results by position.

        An item that runs a saga has a record of its own, and takes back what it did before it counts as failed; what it
        did when it ended well is taken back with the rest of the caller's.

        concurrency: at most so many at a time. rate: `"100/s"`, at most so many begin in that time. on_error: `"fail"`
        raises the first failing position's `StepFailed` after what is in flight has ended, and begins nothing more;
        `"collect"` gives a `Failed` at each failing position. undo: takes one item back, from its result, instead of what the
        `@step` says; of a saga's item besides what it did. DataError CP850 for a limit that makes no sense.
        """
        nested = isinstance(fn, _called())
        if not nested and not isinstance(fn, StepDef):
            raise TypeError(f"map() takes a @step or a @saga, not {fn!r}")
        made: Op[Any] = Op(
            "map", cast("StepDef[..., Any, Any]", fn).name, list(items), undo=undo, label=label
        )
        made.many = Many(_concurrency(concurrency), rate_of(rate), _collect(on_error), nested)
        if len(made.value) > ITEMS_MAX:
            raise DataError(
                "CP850",
                f"map({made.name}) has {len(made.value)} items",
                expected=f"at most {ITEMS_MAX}",
                got=str(len(made.value)),
                fix="map over parts of the list, one after the other",
            )
        return made

    def child(
        self,
        other: Callable[[Saga, E], Op[R]],
        event: E,
        /,
        *,
        undo: Undoing | Callable[[R], Undoing] | None = cast("Any", MISSING),  # noqa: B008
        within: Duration | None = None,
        label: str = "",
    ) -> Op[R]:
        """Begin another saga as an instance of its own, whose key is the event's, and wait for its outcome.

        `StepFailed` when it ends without one, or when somebody else's instance has that key (reason `exists`). A cancel
        or kill of this saga is forwarded to it. undo: takes back what a child that ended well has done.
        """
        made: Op[Any] = Op(
            "child", cast("Any", other).name, event, undo=undo, label=label,
            within_ms=None if within is None else duration_ms(within, what="within="),
        )  # fmt: skip
        return made


def _called() -> type[Any]:
    from contrapas.author.saga import SagaDef  # which is a `Multitude` itself

    return SagaDef


def rate_of(text: str | None) -> tuple[int, int] | None:
    """`"100/s"`, `"5/10s"`: (how many, in how many ms). DataError CP850 for any other text."""
    if text is None:
        return None
    found = _RATE.fullmatch(text)
    if found is None or not int(found[1]):
        raise DataError(
            "CP850", f"rate={text!r} is no rate", expected='"100/s"', got=repr(text)[:80], fix='rate="100/s"'
        )
    per: Duration = found[2] if found[2][0].isdigit() else f"1{found[2]}"
    return int(found[1]), duration_ms(per, what="rate=")


def _concurrency(given: int | None) -> int:
    if given is None:
        return 0
    if type(given) is not int or not 0 < given <= CONCURRENCY_MAX:
        raise DataError(
            "CP850",
            f"concurrency={given!r} is no number of items",
            expected=f"1 to {CONCURRENCY_MAX}",
            got=repr(given)[:80],
            fix="leave it out for all at once",
        )
    return given


def _collect(given: str) -> bool:
    if given not in ("fail", "collect"):
        raise DataError("CP850", f"on_error={given!r}", expected='"fail" or "collect"', got=repr(given)[:80])
    return given == "collect"
