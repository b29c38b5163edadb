"""`Saga`, the first argument of every saga, and `@saga`.

What is awaited is an operation (`author.op`); what is called without `await` is noted in the activation, in program
order, and becomes part of the transition that is being computed.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, Literal, ParamSpec, overload

from pydantic import BaseModel
from typing_extensions import TypeVar

from contrapas.author.duration import Duration, duration_ms
from contrapas.author.event import Command, Event, message_spec
from contrapas.author.joins import Joins
from contrapas.author.many import Multitude
from contrapas.author.op import MISSING, Op
from contrapas.author.retry import Retry
from contrapas.author.talk import Talk
from contrapas.author.timeout import Timeout
from contrapas.errors import Cancelled, DataError, StepFailed

if TYPE_CHECKING:
    import logging

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Ok = TypeVar("Ok", bound=Event)
Fail = TypeVar("Fail", bound=Event)
Undoing = Command[Any, Any] | Op[Any]
"""What takes a step back: a command, or a step call."""

LATE_REPLIES_MS: Final = 24 * 3600 * 1000
RETENTION_MS: Final = 30 * 24 * 3600 * 1000


class Activation:
    """One stretch of a saga between two awaits: who runs, and what it said on the way."""

    __slots__ = ("effects", "instance", "key", "logger")

    def __init__(self, key: str, instance: str, logger: Any = None) -> None:
        self.key = key
        self.instance = instance
        self.effects: list[tuple[Any, ...]] = []
        """In program order: `("emit", event)`, `("pivot",)`, `("deadline", within_ms, until)`, `("enter", scope)`,
        `("leave", scope)`, `("reply", name of the command, event)`, `("show", model)`, `("note", text)`."""
        self.logger = logger


class Saga(Joins, Multitude, Talk):
    """What a saga says to the engine. Operations are awaited; the other calls take effect with the transition."""

    __slots__ = ("_activation",)

    def __init__(self, activation: Activation) -> None:
        self._activation = activation

    @overload
    def step(
        self,
        op: Command[Ok, Any],
        /,
        *,
        undo: Undoing | Callable[[Ok], Undoing] | None = ...,
        within: Duration | None = None,
        retry: Retry | None = None,
        label: str = "",
    ) -> Op[Ok]: ...
    @overload
    def step(
        self,
        op: Op[T],
        /,
        *,
        undo: Undoing | Callable[[T], Undoing] | None = ...,
        within: Duration | None = None,
        retry: Retry | None = None,
        label: str = "",
    ) -> Op[T]: ...
    def step(
        self,
        op: Command[Any, Any] | Op[Any],
        /,
        *,
        undo: Any = MISSING,
        within: Duration | None = None,
        retry: Retry | None = None,
        label: str = "",
    ) -> Op[Any]:
        """One step: a command's success reply, or what the operation gives; `StepFailed` when it ends otherwise.

        undo: a command, a step call, a lambda from the reply to one of them, or None: nothing to take back.
        within: covers all attempts; then the outcome is unknown. retry: repeats unknown outcomes.
        """
        if not isinstance(op, Op):
            op = Op("command", message_spec(type(op)).name, op)
        return _with(op, undo, within, retry, label)

    @overload
    def ask(
        self,
        command: Command[Ok, Fail],
        /,
        *,
        undo: Undoing | Callable[[Ok], Undoing] | None = ...,
        retry: Retry | None = None,
        label: str = "",
    ) -> Op[Ok | Fail]: ...
    @overload
    def ask(
        self,
        command: Command[Ok, Fail],
        /,
        *,
        within: Duration,
        undo: Undoing | Callable[[Ok], Undoing] | None = ...,
        retry: Retry | None = None,
        label: str = "",
    ) -> Op[Ok | Fail | Timeout]: ...
    def ask(
        self,
        command: Command[Any, Any],
        /,
        *,
        undo: Any = MISSING,
        within: Duration | None = None,
        retry: Retry | None = None,
        label: str = "",
    ) -> Op[Any]:
        """A command whose outcome is a value: the success, a failure, or, with `within=`, a `Timeout`."""
        op: Op[Any] = Op("ask", message_spec(type(command)).name, command)
        return _with(op, undo, within, retry, label)

    @overload
    def sleep(self, duration: Duration, /, *, label: str = "") -> Op[None]: ...
    @overload
    def sleep(self, /, *, until: datetime, label: str = "") -> Op[None]: ...
    def sleep(
        self, duration: Duration | None = None, /, *, until: datetime | None = None, label: str = ""
    ) -> Op[None]:
        """A deadline in the record: never early, and the process may be down meanwhile."""
        if (duration is None) == (until is None):
            raise TypeError("sleep() takes a duration or until=")
        ms = None if duration is None else duration_ms(duration, what="sleep", zero=True)
        return Op("sleep", "sleep", within_ms=ms, until=_aware(until, "until="), label=label)

    def compensate(self, *, label: str = "") -> Op[None]:
        """Take back now what is registered, then go on; usually to choose the outcome."""
        return Op("compensate", "compensate", label=label)

    @asynccontextmanager
    async def scope(self) -> AsyncGenerator[None]:
        """`async with s.scope():` a failure inside takes back only what was done inside."""
        self._enter("scope")
        try:
            yield
        except (StepFailed, Cancelled):
            await Op[None]("unwind", "unwind")
            raise
        finally:
            self._leave("scope")

    def emit(self, event: Event, /) -> None:
        """Publish an event with this transition."""
        message_spec(type(event))
        self._activation.effects.append(("emit", event))

    def point_of_no_return(self) -> None:
        """The pivot: from here on nothing is taken back."""
        self._activation.effects.append(("pivot",))

    @overload
    def deadline(self, duration: Duration, /) -> None: ...
    @overload
    def deadline(self, /, *, until: datetime) -> None: ...
    def deadline(self, duration: Duration | None = None, /, *, until: datetime | None = None) -> None:
        """Set the saga's deadline, from now or absolute; when it passes, the saga unwinds."""
        if (duration is None) == (until is None):
            raise TypeError("deadline() takes a duration or until=")
        ms = None if duration is None else duration_ms(duration, what="deadline")
        self._activation.effects.append(("deadline", ms, _aware(until, "until=")))

    @property
    def key(self) -> str:
        """The saga's key."""
        return self._activation.key

    @property
    def log(self) -> logging.Logger | logging.LoggerAdapter[Any]:
        """A logger that knows the instance."""
        found: logging.Logger | logging.LoggerAdapter[Any] | None = self._activation.logger
        if found is None:
            import logging

            found = logging.LoggerAdapter(
                logging.getLogger("contrapas.saga"), {"instance": self._activation.instance}
            )
            self._activation.logger = found
        return found

    def _enter(self, label: str) -> None:
        self._activation.effects.append(("enter", label))

    def _leave(self, label: str) -> None:
        self._activation.effects.append(("leave", label))


class SagaDef(Generic[P, R]):
    """A function marked `@saga`. `other(s, event)` inside another saga is an operation: a called saga, a frame."""

    def __init__(
        self,
        fn: Callable[Concatenate[Saga, P], Coroutine[Any, Any, R]],
        *,
        name: str | None = None,
        deadline: Duration | None = None,
        late_replies: Duration | None = None,
        retention: Duration | None = None,
        again: Literal["refuse", "deliver", "restart", "skip"] = "refuse",
        show: type[BaseModel] | None = None,
    ) -> None:
        if show is not None and not (isinstance(show, type) and issubclass(show, BaseModel)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(
                "CP850", f"show={show!r:.80} is no pydantic model", fix="show=CartView, the class"
            )
        self.show: type[BaseModel] | None = show
        if again not in ("refuse", "deliver", "restart", "skip"):
            raise DataError(
                "CP850", f"again={again!r:.80}", expected="'refuse', 'deliver', 'restart' or 'skip'"
            )
        self.again: str = again
        self.fn: Callable[..., Coroutine[Any, Any, R]] = fn
        """The coroutine function as written; the native runner calls it, the compiler reads its source."""
        self.name: str = name or fn.__name__
        self.deadline_ms: int | None = None if deadline is None else duration_ms(deadline, what="deadline=")
        self.late_replies_ms: int = (
            LATE_REPLIES_MS if late_replies is None else duration_ms(late_replies, what="late_replies=")
        )
        self.retention_ms: int = (
            RETENTION_MS if retention is None else duration_ms(retention, what="retention=")
        )
        self.module: str = fn.__module__
        code = getattr(inspect.unwrap(fn), "__code__", None)
        self.file: str = code.co_filename if code is not None else ""
        update_wrapper(self, fn)

    def __call__(self, s: Saga, /, *args: P.args, **kwargs: P.kwargs) -> Op[R]:
        return Op("frame", self.name, (args, kwargs))

    def __repr__(self) -> str:
        return f"<saga {self.name}>"


class SagaMaker:
    """What `@saga(...)` with options is applied to a function with; only its typing is of interest."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def __call__(self, fn: Callable[Concatenate[Saga, P], Coroutine[Any, Any, R]], /) -> SagaDef[P, R]:
        return SagaDef(fn, **self._options)


@overload
def saga(fn: Callable[Concatenate[Saga, P], Coroutine[Any, Any, R]], /) -> SagaDef[P, R]: ...
@overload
def saga(
    *,
    name: str | None = ...,
    deadline: Duration | None = ...,
    late_replies: Duration | None = ...,
    retention: Duration | None = ...,
    again: Literal["refuse", "deliver", "restart", "skip"] = ...,
    show: type[BaseModel] | None = ...,
) -> SagaMaker: ...
def saga(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make an `async def` with a first parameter `s: Saga` a saga. Nothing is compiled before the app is built.

    name: the registered name. deadline: of the whole saga. late_replies: how long a reply may still settle an owed
    undo, 24 h. retention: how long an ended instance is kept, 30 days. again: what any other start event does to a key that
    is taken: refuse it, deliver it to the running instance, restart the saga, or skip the event. show: the model of its view.
    """
    return SagaMaker(options) if fn is None else SagaDef(fn, **options)


def _with(op: Op[Any], undo: Any, within: Duration | None, retry: Retry | None, label: str) -> Op[Any]:
    if undo is not MISSING:
        op.undo = undo
    if within is not None:
        op.within_ms = duration_ms(within, what="within=")
    if retry is not None:
        op.retry = retry
    if label:
        op.label = label
    if op.within_ms is not None:
        _one_attempt_fits(op)
    return op


def _one_attempt_fits(op: Op[Any]) -> None:
    each = op.retry.each_ms if op.retry is not None and op.retry.each_ms is not None else op.attempt_ms
    if each is not None and op.within_ms is not None and op.within_ms < each:
        raise DataError(
            "CP850",
            f"{op.name}: within= of {op.within_ms} ms is shorter than one attempt of {each} ms",
            expected=f"at least {each} ms",
            got=f"{op.within_ms} ms",
            fix="within= covers all attempts: make it longer, or the attempt shorter",
        )


def _aware(when: datetime | None, what: str) -> datetime | None:
    if when is not None and when.tzinfo is None:
        raise DataError(
            "CP850",
            f"{what} {when.isoformat()} has no time zone",
            got=when.isoformat(),
            fix="datetime(..., tzinfo=UTC)",
        )
    if when is not None and not 1900 < when.year < 9000:
        raise DataError(
            "CP415",
            f"{what} {when.isoformat()} is no time that comes",
            expected="a year from 1901 to 8999",
            got=when.isoformat(),
            fix="check where the time comes from: it may stand for none",
        )
    return when
