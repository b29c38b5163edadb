"""`Event` and `Command`: the messages of a saga, as frozen pydantic models that know topic, key and replies.

A fact is named in the past tense, a request in the imperative. The class keywords say how it travels:
`topic=` (without one: on the namespace's own `in` lane), `key=` (the field that chooses partition and instance) and
`name=` (the registered name, for ever; the class name unless given). `topic` and `key` are inherited, a name is not.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Never, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar, Unpack

from contrapas.author.sensitive import sensitive_paths
from contrapas.errors import DataError

_SPEC: Final = "__contrapas_spec__"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSpec:
    """What the engine knows about a message class."""

    name: str
    cls: type[Event]
    topic: str
    """Empty: it travels on `<ns>.in`."""
    key: str
    """The field that holds the key."""
    replies: tuple[type[Event], ...] = ()
    """Of a command, the success first."""
    command: bool = False
    sensitive: bool = False
    """It has a field marked `Sensitive`, at whatever depth."""
    transient: bool = False
    """Applied if somebody waits, never kept."""


class Event(BaseModel):
    """A fact. Subclass it with `topic=` and `key=`; built with keywords, never changed, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    __contrapas_topic__: ClassVar[str] = ""
    __contrapas_key__: ClassVar[str] = ""
    __contrapas_name__: ClassVar[str] = "Event"
    __contrapas_transient__: ClassVar[bool] = False

    def __init_subclass__(
        cls,
        *,
        topic: str | None = None,
        key: str | None = None,
        name: str | None = None,
        transient: bool | None = None,
        **kwargs: Unpack[ConfigDict],
    ) -> None:
        super().__init_subclass__()
        if kwargs:  # pydantic has taken its own before
            raise TypeError(f"{cls.__name__}: unknown class keyword {next(iter(kwargs))!r}")
        cls.__contrapas_name__ = cls.__name__ if name is None else _checked(cls, "name", name)
        if topic is not None:
            cls.__contrapas_topic__ = _checked(cls, "topic", topic)
        if key is not None:
            cls.__contrapas_key__ = key
        if transient is not None:
            cls.__contrapas_transient__ = transient

    @classmethod
    def __contrapas_class__(cls) -> type[Self]:
        """The class; type checkers tell a service's function by it."""
        return cls

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        key = cls.__contrapas_key__
        if key and kwargs.get("key") is not None and key not in cls.model_fields:
            fields = ", ".join(cls.model_fields) or "none"
            raise _refusal(cls, f"key='{key}' is none of its fields ({fields})", "name one of its fields")


Reply_co = TypeVar("Reply_co", bound=Event, covariant=True)
Ok_co = TypeVar("Ok_co", bound=Event, covariant=True)
Fail_co = TypeVar("Fail_co", bound=Event, covariant=True, default=Never)


class Replies(Generic[Reply_co]):
    """The reply classes of a command, success first."""

    def __init__(self, classes: tuple[type[Event], ...]) -> None:
        self.classes = classes


class Command(Event, Generic[Ok_co, Fail_co]):
    """A request, with its replies: `class ChargeCard(Command[CardCharged, CardDeclined], topic=..., key=...)`.

    The first parameter is the success reply. The second, where there is one, is the failure, or a union of failures.
    """

    __contrapas_name__: ClassVar[str] = "Command"

    @classmethod
    def __contrapas_replies__(cls) -> Replies[Ok_co | Fail_co]:
        """What it is answered with; type checkers tell a service's function by it."""
        return Replies(message_spec(cls).replies)

    def __contrapas_answer__(self) -> Callable[[Ok_co | Fail_co], None]:
        """What answers it; type checkers tell `s.reply` by it."""
        raise NotImplementedError("a command is answered with s.reply")


def message_spec(cls: type[Event]) -> MessageSpec:
    """What the class says about itself, computed once. DataError CP144: no key, or a command without replies."""
    spec: MessageSpec | None = cls.__dict__.get(_SPEC)
    if spec is None:
        spec = _spec(cls)
        setattr(cls, _SPEC, spec)
    return spec


def _spec(cls: type[Event]) -> MessageSpec:
    command: bool = Command in cls.__mro__
    if command and cls.__contrapas_transient__:
        raise _refusal(
            cls, "a command is not transient: who sent it waits for an answer", "leave transient= out"
        )
    if not cls.__contrapas_key__:
        raise _refusal(cls, "it has no key", 'add key="…", the field that names the instance')
    return MessageSpec(
        name=cls.__contrapas_name__,
        cls=cls,
        topic=cls.__contrapas_topic__,
        key=cls.__contrapas_key__,
        replies=_replies(cls) if command else (),
        command=command,
        sensitive=bool(sensitive_paths(cls)),
        transient=cls.__contrapas_transient__,
    )


def _replies(cls: type[Event]) -> tuple[type[Event], ...]:
    for base in cls.__mro__:
        about: dict[str, Any] = base.__dict__.get("__pydantic_generic_metadata__", {})
        if about.get("origin") is Command:
            ok, fail = (*about["args"], Never)[:2]
            good, bad = _members(ok), _members(fail)
            if len(good) != 1 or not all(isinstance(r, type) and issubclass(r, Event) for r in good + bad):
                break
            return good + bad
    raise _refusal(cls, "its replies are not named", "write Command[Success] or Command[Success, Failure]")


def _members(annotation: Any) -> tuple[Any, ...]:
    if annotation is Never:
        return ()
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _checked(cls: type[Event], word: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 200 or not value.isprintable():
        raise _refusal(cls, f"{word}={value!r:.80} is no name", f"give {word}= a short text")
    return value


def _refusal(cls: type[Event], text: str, fix: str) -> DataError:
    return DataError(
        "CP144", f"{cls.__name__}: {text}", fix=fix, place=f"{cls.__module__}.{cls.__qualname__}"
    )
