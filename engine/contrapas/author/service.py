"""`Service`: who reacts to events and answers commands; `Delivery` and `Depends` for the parameters of its functions.

The return annotation of a reaction is the complete list of what it emits: `A | B` one of them, `list[A]` any number,
`None` nothing. So the choreography of all services can be drawn without running one of them.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from typing_extensions import TypeVar

from contrapas.author.event import Event, Replies, message_spec
from contrapas.errors import DataError

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
"""A namespace, a service: what may stand in a topic's name."""

P = ParamSpec("P")
C_co = TypeVar("C_co", covariant=True, bound=Event)
M = TypeVar("M", bound=Event)
Ev = TypeVar("Ev", bound=Event)
Reply = TypeVar("Reply", bound=Event)
Reply_co = TypeVar("Reply_co", covariant=True, bound=Event)
Emits = TypeVar("Emits", bound="Event | Sequence[Event] | None")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One delivery to a service, or one attempt of a `@step`, for a parameter of that type.

    In a `@step` write it last and with a default, `d: Delivery = Delivery()`: callers leave it out, our workers fill it
    in with the saga's key, the attempt and the step's idempotency key.
    """

    key: str = ""
    topic: str = ""
    partition: int = -1
    offset: int = -1
    attempt: int = 1
    """From 1."""
    headers: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    idempotency_key: str = ""
    """The same for every repetition of this delivery."""
    undoes: str = ""
    """Of an undo: the idempotency key of the step that it takes back."""
    happened: bool | None = None
    """Of an undo, where a store keeps the inbox: whether that step was done here. If not it never will be: what comes of it
    later does nothing. None: nobody knows."""


@dataclass(frozen=True, slots=True)
class Depends(Generic[T]):
    """`Annotated[T, Depends(fn)]`: the value of `fn()`, made anew for each activation or delivery, never stored."""

    dependency: Callable[..., T]


class _Supplied:
    """Stands where our workers put something; who calls the function itself must give it."""

    def __repr__(self) -> str:
        return "SUPPLIED"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise DataError(
            "CP850",
            f"nothing was supplied here, and .{name} was asked of it",
            fix="our workers supply it; in a test give the parameter yourself",
        )


SUPPLIED: Final[Any] = _Supplied()
"""The default of a `@step`'s parameter that is supplied: `db: Annotated[T, Depends(store.session)] = SUPPLIED`. Sagas leave
it out when they call the step."""


def mark_of(hint: Any) -> Depends[Any] | None:
    """The `Depends` in an annotation: ours, or FastAPI's, which says the same."""
    marks: tuple[Any, ...] = getattr(hint, "__metadata__", ())
    for mark in marks:
        if isinstance(mark, Depends):
            return Depends(cast(Any, mark).dependency)
        if type(mark).__name__ == "Depends" and hasattr(mark, "dependency"):
            asked: Any = mark.dependency
            return Depends(asked if asked is not None else get_args(hint)[0])
    return None


def supplied(hint: Any) -> bool:
    """Our workers supply a step's parameter of this type: callers leave it out, and it does not travel."""
    return hint is Delivery or mark_of(hint) is not None


def store_of(mark: Depends[Any]) -> Any:
    """The store whose session it gives; None: it gives something else."""
    fn = mark.dependency
    owner = getattr(fn, "__self__", None)
    return owner if getattr(fn, "__name__", "") == "session" and hasattr(owner, "begin") else None


class Reaction:
    """A function of a service, and what it reacts to."""

    def __init__(self, service: str, message: type[Event], fn: Callable[..., Any]) -> None:
        self.service = service
        self.message = message
        self.fn = fn

    @property
    def name(self) -> str:
        """`payments.charge`, for people."""
        return f"{self.service}.{self.fn.__name__}"

    @cached_property
    def hints(self) -> dict[str, Any]:
        """Annotations of the function, resolved; the names may have been defined after it."""
        try:
            return get_type_hints(self.fn, include_extras=True)
        except NameError as why:
            raise self._refusal(f"{why}") from None

    @cached_property
    def emits(self) -> tuple[type[Event], ...]:
        """The classes it may emit, in the order of the annotation."""
        if "return" not in self.hints:
            raise self._refusal("its return annotation is missing")
        found = _emitted(self.hints["return"])
        if found is None:
            raise self._refusal("its return annotation may name events, list[...] of events, and None")
        return found

    @cached_property
    def many(self) -> bool:
        """It returns a list or tuple of events."""
        return any(get_origin(a) in (list, tuple) for a in _members(self.hints.get("return")))

    def _refusal(self, text: str) -> DataError:
        code = self.fn.__code__
        return DataError(
            "CP124",
            f"{self.name}: {text}",
            fix="annotate what it emits: -> A | B, -> list[A], or -> None",
            place=f"{code.co_filename}:{code.co_firstlineno}:1",
        )


class CommandClass(Protocol[C_co, Reply_co]):
    """A command's class as type checkers see it here: which it is, and what it is answered with."""

    def __contrapas_class__(self) -> type[C_co]: ...
    def __contrapas_replies__(self) -> Replies[Reply_co]: ...


class Answers(Protocol[M, Reply]):
    """Takes a function from a command to one of its replies, and gives it back."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[M, P], Coroutine[Any, Any, Reply]], /
    ) -> Callable[Concatenate[M, P], Coroutine[Any, Any, Reply]]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[M, P], Reply], /) -> Callable[Concatenate[M, P], Reply]: ...


class Reacts(Protocol[Ev]):
    """Takes a function from an event to what it emits, and gives it back."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Ev, P], Coroutine[Any, Any, Emits]], /
    ) -> Callable[Concatenate[Ev, P], Coroutine[Any, Any, Emits]]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Ev, P], Emits], /) -> Callable[Concatenate[Ev, P], Emits]: ...


class Service:
    """A participant: its reactions to events, its answers to commands. Inert until an app serves it."""

    def __init__(self, name: str, store: Any = None) -> None:
        if not isinstance(name, str) or NAME.fullmatch(name) is None:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(
                "CP850",
                f"Service({name!r:.80}): a name has 1 to 40 of a-z, 0-9 and '-', and begins with a letter or digit",
                got=repr(name)[:80],
            )
        self.name = name
        self.store = store
        if store is not None:
            store.source = f"/services/{name}"
        self.reactions: dict[type[Event], Reaction] = {}

    @overload
    def on(self, message: CommandClass[M, Reply], /) -> Answers[M, Reply]: ...
    @overload
    def on(self, message: type[Ev], /) -> Reacts[Ev]: ...
    def on(self, message: Any, /) -> Any:
        """Declare the function that reacts to an event, or answers a command, of this class.

        Its first parameter takes the message, the others are supplied by type; what it returns is sent.
        """
        message_spec(message)
        if message in self.reactions:
            raise DataError(
                "CP143",
                f"{self.reactions[message].name} reacts to {message.__name__} already",
                fix="one function for each message of a service",
            )

        def declare(fn: Callable[..., Any]) -> Callable[..., Any]:
            self.reactions[message] = Reaction(self.name, message, fn)
            return fn

        return declare

    def __repr__(self) -> str:
        return f"<service {self.name}>"


def _emitted(annotation: Any) -> tuple[type[Event], ...] | None:
    found: list[type[Event]] = []
    for part in _members(annotation):
        inner = [a for a in get_args(part) if a is not ...] if get_origin(part) in (list, tuple) else [part]
        for one in (m for i in inner for m in _members(i)):
            if one is type(None):
                continue
            if not (isinstance(one, type) and issubclass(one, Event)):
                return None
            found.append(one)
    return tuple(dict.fromkeys(found))


def _members(annotation: Any) -> tuple[Any, ...]:
    if annotation is None:
        return (type(None),)
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
