"""`Saga`, the first argument of every saga, and `@saga`.

What is awaited is an operation (`author.op`); what is called without `await` is noted in the activation, in program
order, and becomes part of the transition that is being computed.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, Literal, ParamSpec, overload

from pydantic import BaseModel
from typing_extensions import TypeVar

from contrapas.author.duration import Duration, duration_ms
from contrapas.author.event import Command, Event, message_spec
from contrapas.author.flight import Flight, Flying, Pending
from contrapas.author.joins import Joins
from contrapas.author.limits import attempt_fits, aware, limit_of, limited
from contrapas.author.link import Linker
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

Migration = Mapping[str, str] | Callable[[str, dict[str, Any]], tuple[str, dict[str, Any]]]
"""Old label -> new label; or a function of (old label, locals as JSON) that gives (new label, locals as JSON)."""

LATE_REPLIES_MS: Final = 24 * 3600 * 1000
RETENTION_MS: Final = 30 * 24 * 3600 * 1000


class Activation:
    """One stretch of a saga between two awaits: who runs, and what it said on the way."""

    __slots__ = ("effects", "instance", "key", "logger")

    @property
    def linker(self) -> Linker | None:
        """What signs links; None: nobody does."""
        return None

    def __init__(self, key: str, instance: str, logger: Any = None) -> None:
        self.key = key
        self.instance = instance
        self.effects: list[tuple[Any, ...]] = []
        """In program order: `("emit", event)`, `("pivot",)`, `("deadline", within_ms, until)`, `("enter", scope)`,
        `("enter", scope, within_ms, until)`, `("leave", scope)`, `("kill",)`: what is in flight in the scope ends here,
        `("reply", name of the command, event)`, `("show", model)`, `("note", text)`,
        `("tell", command, after_ms, handle)`, `("untell", handle)`; where operations are begun
        `("begin", pending, op)`, `("cancel", pending)`."""
        self.logger = logger

    def begin(self, op: Op[Any], /) -> Pending[Any]:
        """Issue an operation without waiting; only who runs a saga can."""
        raise RuntimeError(
            f"{op.name}: an operation is begun in a saga; outside of one, run it with contrapas.testing"
        )

    def told(self) -> str:
        """Id of the message that is told now, to leave later."""
        return f"{self.instance}@0#t{sum(1 for e in self.effects if e[0] == 'tell')}"

    def joins(self) -> bool:
        """Whether the innermost open scope is limited, or has something in flight that its end waits for."""
        return False

    def cancel(self, pending: Pending[Any], /) -> None:
        """Give up an operation in flight."""
        raise RuntimeError(f"{pending.text}: an operation is cancelled in the saga that began it")


class Saga(Joins, Multitude, Flying, Talk):
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
        undo_failed: bool = False,
        within: Duration | None = None,
        until: datetime | None = None,
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
        undo_failed: bool = False,
        within: Duration | None = None,
        until: datetime | None = None,
        retry: Retry | None = None,
        label: str = "",
    ) -> Op[T]: ...
    def step(
        self,
        op: Command[Any, Any] | Op[Any],
        /,
        *,
        undo: Any = MISSING,
        undo_failed: bool = False,
        within: Duration | None = None,
        until: datetime | None = None,
        retry: Retry | None = None,
        label: str = "",
    ) -> Op[Any]:
        """One step: a command's success reply, or what the operation gives; `StepFailed` when it ends otherwise.

        undo: a command, a step call, a lambda from the reply to one of them, or None: nothing to take back.
        undo_failed: take it back after a definite failure too, for participants that leave traces when they fail.
        within: covers all attempts; then the outcome is unknown. retry: repeats unknown outcomes.
        """
        if not isinstance(op, Op):
            op = Op("command", message_spec(type(op)).name, op)
        return _with(op, undo, undo_failed, within, until, retry, label)

    @overload
    def ask(
        self,
        command: Command[Ok, Fail],
        /,
        *,
        undo: Undoing | Callable[[Ok], Undoing] | None = ...,
        undo_failed: bool = False,
        retry: Retry | None = None,
        label: str = "",
    ) -> Op[Ok | Fail]: ...
    @overload
    def ask(
        self,
        command: Command[Ok, Fail],
        /,
        *,
        within: Duration = ...,
        until: datetime = ...,
        undo: Undoing | Callable[[Ok], Undoing] | None = ...,
        undo_failed: bool = False,
        retry: Retry | None = None,
        label: str = "",
    ) -> Op[Ok | Fail | Timeout]: ...
    def ask(
        self,
        command: Command[Any, Any],
        /,
        *,
        undo: Any = MISSING,
        undo_failed: bool = False,
        within: Duration | None = None,
        until: datetime | None = None,
        retry: Retry | None = None,
        label: str = "",
    ) -> Op[Any]:
        """A command whose outcome is a value: the success, a failure, or, with `within=`, a `Timeout`."""
        op: Op[Any] = Op("ask", message_spec(type(command)).name, command)
        return _with(op, undo, undo_failed, within, until, retry, label)

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
        return Op("sleep", "sleep", within_ms=ms, until=aware(until, "until="), label=label)

    def compensate(self, *, label: str = "") -> Op[None]:
        """Take back now what is registered, then go on; usually to choose the outcome."""
        return Op("compensate", "compensate", label=label)

    def scope(
        self, *, within: Duration | None = None, until: datetime | None = None
    ) -> AbstractAsyncContextManager[None]:
        """`async with s.scope():` a failure inside takes back only what was done inside.

        within, until: the block is limited: when the time is over it is left, taken back, and raises `StepFailed` with
        the reason `timeout after 10m`.
        """
        return self._block(lambda: self._enter("scope", within=within, until=until))

    def limited(self, op: Op[Any], /) -> AbstractAsyncContextManager[None]:
        """Natively, the scope around a called saga or a join with a limit; nothing to write in a saga."""
        return self._block(lambda: self._limited(op))

    @asynccontextmanager
    async def _block(self, enter: Callable[[], None]) -> AsyncGenerator[None]:
        enter()
        try:
            try:
                yield
            except BaseException as why:
                if not isinstance(why, GeneratorExit) and self._activation.joins():
                    await Op[None]("join", "join", why)
                raise
            else:
                if self._activation.joins():
                    await Op[None]("join", "join", None)
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
        self._activation.effects.append(("deadline", ms, aware(until, "until=")))

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

    def _flight(self) -> Flight:
        return self._activation

    def _enter(self, label: str, *, within: Duration | None = None, until: datetime | None = None) -> None:
        if within is None and until is None:
            self._activation.effects.append(("enter", label))
        else:
            self._activation.effects.append(("enter", label, *limit_of(within, until, "within=")))

    def _limited(self, op: Op[Any]) -> None:
        """A scope around a called saga or a join: its limit is the scope's."""
        self._activation.effects.append(("enter", "scope", op.within_ms, op.until))
        op.within_ms = op.until = None

    def _kill(self) -> None:
        """A bug leaves the scope: what is in flight there ends on the spot."""
        self._activation.effects.append(("kill",))

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
        migrate: Migration | None = None,
        retired: str = "",
        adopt: Callable[[Any], Event] | None = None,
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
        self.adopt: Callable[[Any], Event] | None = adopt
        """Of an observed saga: the start event for a run of which this event is the first that is seen."""
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
        self.migrate: Migration | None = _migration(migrate)
        self.retired: str = _fingerprint(retired, self.name)
        """Version whose instances this definition is kept for; empty: it is the current one."""
        self.module: str = fn.__module__
        code = getattr(inspect.unwrap(fn), "__code__", None)
        self.file: str = code.co_filename if code is not None else ""
        update_wrapper(self, fn)

    def __call__(self, s: Saga, /, *args: P.args, **kwargs: P.kwargs) -> Op[R]:
        if self.retired:
            raise DataError(
                "CP313",
                f"{self.name}@{self.retired} is kept for its instances",
                fix="call the current definition",
            )
        return Op("frame", self.name, (args, kwargs))

    def __repr__(self) -> str:
        return f"<saga {self.name}@{self.retired}>" if self.retired else f"<saga {self.name}>"


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
    migrate: Migration | None = ...,
    retired: str = ...,
    adopt: Callable[[Any], Event] | None = ...,
) -> SagaMaker: ...
def saga(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make an `async def` with a first parameter `s: Saga` a saga. Nothing is compiled before the app is built.

    name: the registered name. deadline: of the whole saga. late_replies: how long a reply may still settle an owed
    undo, 24 h. retention: how long an ended instance is kept, 30 days. again: what any other start event does to a key that
    is taken: refuse it, deliver it to the running instance, restart the saga, or skip the event. show: the model of its view.
    migrate: where instances of earlier versions go on: a mapping of labels, or a function from (label, locals) to
    (label, locals), locals as JSON. retired: fingerprint of the earlier version that this definition is, kept for its
    instances beside the current one. adopt: under `app.observe(..., unmatched="adopt")`, from the first event that is seen
    of a key to the start event of its run.
    """
    return SagaMaker(options) if fn is None else SagaDef(fn, **options)


def _migration(given: Any) -> Any:
    """`migrate=` as given. DataError CP311 for what is neither a mapping of labels nor a function of two arguments."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        pairs: Mapping[Any, Any] = given  # pyright: ignore[reportUnknownVariableType]
        if all(isinstance(k, str) and isinstance(v, str) for k, v in pairs.items()):
            return dict(pairs)
    elif callable(given) and not inspect.iscoroutinefunction(given):
        try:
            inspect.signature(given).bind("", {})
        except (TypeError, ValueError):
            pass
        else:
            return given
    raise DataError(
        "CP311",
        f"migrate={given!r:.80}",
        expected="a mapping of labels, or a plain function (label, locals) -> (label, locals)",
        fix='migrate={"old label": "new label"}',
    )


def _fingerprint(given: Any, name: str) -> str:
    if isinstance(given, str) and (not given or (given.isascii() and given.isalnum() and len(given) <= 40)):
        return given
    raise DataError(
        "CP313",
        f"retired={given!r:.80} of {name} is no fingerprint",
        expected="letters and digits, as contrapas graph prints after the @",
        fix='retired="k7Q2"',
    )


def _with(
    op: Op[Any],
    undo: Any,
    undo_failed: bool,
    within: Duration | None,
    until: datetime | None,
    retry: Retry | None,
    label: str,
) -> Op[Any]:
    op.undo_failed = undo_failed
    if undo is not MISSING:
        op.undo = undo
    op = limited(op, within, until, "within=")
    if retry is not None:
        op.retry = retry
    if label:
        op.label = label
    if op.within_ms is not None:
        attempt_fits(op)
    return op
