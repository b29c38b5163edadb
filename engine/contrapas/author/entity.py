"""`Entity`: a class with typed state and handlers, one message at a time per key. `@handler`, `@query`.

The fields are the state, as pydantic keeps them. A handler is compiled like a saga; what calls it is a command of its own,
made from its signature, that travels on the namespace's own lane. `Chat.at("s-42").message("hi")` is an operation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Self, cast, overload

from pydantic import BaseModel, ConfigDict, create_model
from typing_extensions import TypeVar

from contrapas.author.annotations import annotations_of
from contrapas.author.duration import Duration, duration_ms
from contrapas.author.event import Command, Event
from contrapas.author.op import Op
from contrapas.author.saga import Saga
from contrapas.errors import DataError, StepFailed

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound="Entity")


class HandlerDef(Generic[P, R]):
    """A function marked `@handler` or `@query`. On `Chat.at(key)` it is called; the class has it as it is."""

    def __init__(self, fn: Callable[..., Any], *, query: bool) -> None:
        if query and inspect.iscoroutinefunction(fn):
            raise DataError(
                "CP124", f"@query {fn.__name__} is async; a query only looks", fix="def, or @handler"
            )
        if not query and not inspect.iscoroutinefunction(fn):
            raise DataError("CP124", f"@handler {fn.__name__} is no async def", fix="async def, or @query")
        self.fn = fn
        self.query = query
        self.handler: str = fn.__name__
        self.owner: type[Entity] | None = None
        update_wrapper(cast("Any", self), fn)

    def __set_name__(self, owner: type[Entity], name: str) -> None:
        self.owner = owner
        self.handler = name

    @overload
    def __get__(self, obj: None, owner: Any = None, /) -> HandlerDef[P, R]: ...
    @overload
    def __get__(self, obj: object, owner: Any = None, /) -> Callable[P, Op[R]]: ...
    def __get__(self, obj: Any, owner: Any = None, /) -> Any:
        if obj is None:
            return self

        name = type(obj).__name__
        raise TypeError(f"{name}.{self.handler} is called by key: {name}.at(key).{self.handler}(…)")


@overload
def handler(fn: Callable[Concatenate[E, Saga, P], Coroutine[Any, Any, R]], /) -> HandlerDef[P, R]: ...
@overload
def handler(fn: Callable[Concatenate[E, P], Coroutine[Any, Any, R]], /) -> HandlerDef[P, R]: ...
def handler(fn: Callable[..., Any], /) -> Any:
    """Make an `async def` of an entity a handler: one message at a time per key, compiled like a saga. It may take
    `s: Saga` after `self`. A handler that fails leaves the fields as they were."""
    return HandlerDef[..., Any](fn, query=False)


def query(fn: Callable[Concatenate[E, P], R], /) -> HandlerDef[P, R]:
    """Make a plain `def` of an entity a query: it looks at the last committed fields and changes nothing."""
    return HandlerDef(fn, query=True)


_KEY: ContextVar[str] = ContextVar("contrapas_entity_key", default="")


@contextmanager
def keyed(key: str) -> Generator[None]:
    """`self.key` gives this key inside, in methods that handlers and queries call too."""
    token = _KEY.set(key)
    try:
        yield
    finally:
        _KEY.reset(token)


def look(call: Call, me: Entity, key: str, args: Sequence[Any]) -> Any:
    """What a query gives."""
    with keyed(key):
        return call.definition.fn(me, *args)


class At:
    """An entity as those see it who call it: by its key. Type checkers take it for the entity."""

    __slots__ = ("_cls", "key")

    def __init__(self, cls: type[Entity], key: str) -> None:
        self._cls = cls
        self.key = key

    def __getattr__(self, name: str) -> Callable[..., Op[Any]]:
        if name not in spec_of(self._cls).calls:
            raise AttributeError(f"{self._cls.__name__} has no handler {name}")
        return lambda *args, **kwargs: call_of(self._cls, name, self.key, args, kwargs)


class Entity(BaseModel):
    """State and handlers of one key: `class Chat(Entity, key="session_id")`. Every field needs a default.

    key: what the key is called in requests. name: the registered name, the class name unless given. idle: how long it
    stays in memory; it is loaded again when it is needed. expires: how long an idle entity's record is kept, for ever
    unless given.
    """

    model_config = ConfigDict(
        extra="forbid", ignored_types=(HandlerDef,), protected_namespaces=(), revalidate_instances="never"
    )
    __contrapas_entity__: ClassVar[EntitySpec | None] = None
    __contrapas_app__: ClassVar[Any] = None

    def __init_subclass__(
        cls,
        *,
        key: str | None = None,
        name: str | None = None,
        idle: Duration | None = None,
        expires: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__()
        if kwargs:
            raise TypeError(f"{cls.__name__}: unknown class keyword {next(iter(kwargs))!r}")
        if idle is not None:
            duration_ms(idle, what="idle=")
        cls.__contrapas_entity__ = EntitySpec(
            cls=cls,
            name=name or cls.__name__,
            key=key or "key",
            expires_ms=None if expires is None else duration_ms(expires, what="expires="),
        )

    @classmethod
    def at(cls, key: str) -> Self:
        """The entity of a key, for calls: `await Chat.at("s-42").message("hi")`."""
        return cast("Self", At(cls, key))

    @classmethod
    async def asked(cls, op: Op[R], /) -> R:
        """What a call gives that is awaited outside of a saga: the app that serves the entity asks for it."""
        app = cls.__contrapas_app__
        if app is None:
            raise RuntimeError(f"no app serves {cls.__name__}: app.serve({cls.__name__})")
        answer: Any = await app.ask(op.value)
        if isinstance(answer, op.value.__contrapas_failed__):
            raise StepFailed(answer.reason, step=op.name, reply=answer, unknown=answer.unknown)
        return cast("R", answer.value)

    @property
    def key(self) -> str:
        """Its key, in a handler or query."""
        return _KEY.get()


@dataclass(slots=True)
class Call:
    """One handler or query, and the messages that call it."""

    definition: Any
    """The `HandlerDef`."""
    command: type[Command[Any, Any]]
    returned: type[Event]
    failed: type[Event]
    params: tuple[str, ...]
    hints: dict[str, Any]
    """Of the parameters and `return`."""
    saga: str
    """Name of the parameter that takes `s`, empty: none."""


@dataclass(slots=True)
class EntitySpec:
    """What the engine knows about an entity class."""

    cls: type[Entity]
    name: str
    key: str
    expires_ms: int | None
    made: dict[str, Call] = field(default_factory=dict[str, Call])

    @property
    def calls(self) -> dict[str, Call]:
        """Handlers and queries by name; their messages are made at first use, when annotations can be resolved.
        DataError CP124 for a signature that is not complete."""
        if not self.made:
            found: dict[str, Any] = {
                n: d
                for c in reversed(self.cls.__mro__)
                for n, d in vars(c).items()
                if isinstance(d, HandlerDef)
            }
            failed = _message(
                f"{self.name}.Failed",
                Event,
                self.key,
                {self.key: (str, ...), "reason": (str, ""), "unknown": (bool, False)},
            )
            self.made = {n: _call(self, d, failed) for n, d in found.items()}
        return self.made


def spec_of(cls: type[Entity]) -> EntitySpec:
    """What an entity class says of itself."""
    found = cls.__contrapas_entity__
    if found is None or found.cls is not cls:
        raise DataError("CP124", f"{cls.__name__} is no entity of its own", fix="class Chat(Entity, key=…)")
    return found


def call_of(cls: type[Entity], name: str, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Op[Any]:
    """A call as an operation. TypeError for arguments that do not fit."""
    call = spec_of(cls).calls[name]
    given = _bind(call, args, kwargs)
    made = call.command.model_validate({spec_of(cls).key: key, **given})
    op: Op[Any] = Op("command", call.command.__contrapas_name__, made)
    op.door = cls
    return op


def _bind(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if len(args) > len(call.params):
        raise TypeError(
            f"{call.definition.handler}() takes {len(call.params)} arguments, {len(args)} were given"
        )
    given = dict(zip(call.params, args, strict=False))
    for name, value in kwargs.items():
        if name not in call.params or name in given:
            raise TypeError(f"{call.definition.handler}() got an unexpected argument {name!r}")
        given[name] = value
    missing = [n for n in call.params if n not in given and call.command.model_fields[n].is_required()]
    if missing:
        raise TypeError(f"{call.definition.handler}() misses {', '.join(missing)}")
    return given


def _call(spec: EntitySpec, definition: HandlerDef[..., Any], failed: type[Event]) -> Call:
    fn = definition.fn
    where = f"{spec.name}.{definition.handler}"
    try:
        hints = annotations_of(fn)
        parameters = list(inspect.signature(fn).parameters.values())[1:]
    except (NameError, ValueError) as why:
        raise DataError("CP124", f"{where}: {why}", fix="import the names that annotations use") from None
    saga = ""
    if parameters and hints.get(parameters[0].name) is Saga:
        saga = parameters.pop(0).name
        hints.pop(saga)
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    fields: dict[str, Any] = {spec.key: (str, ...)}
    for p in parameters:
        if p.kind not in plain or p.name not in hints or p.name == spec.key:
            raise DataError(
                "CP124",
                f"{where}: the parameter {p.name} is not annotated, or of a kind that cannot be asked over a network",
                fix="name: type, with a name of its own",
            )
        fields[p.name] = (hints[p.name], ... if p.default is p.empty else p.default)
    if "return" not in hints:
        raise DataError("CP124", f"{where}: its result is not annotated", fix="-> str, or -> None")
    result = hints["return"]
    returned = _message(
        f"{where}.Returned",
        Event,
        spec.key,
        {spec.key: (str, ...), "value": (result, None if result in (None, type(None)) else ...)},
    )
    returned.__contrapas_returns__ = True
    base: Any = Command[returned, failed]  # type: ignore[valid-type]
    command = _message(where, base, spec.key, fields)
    command.__contrapas_failed__ = failed
    return Call(definition, command, returned, failed, tuple(p.name for p in parameters), hints, saga)


def _message(name: str, base: Any, key: str, fields: dict[str, Any]) -> Any:
    make = cast("Callable[..., Any]", create_model)
    return make(name, __base__=base, __module__=__name__, __cls_kwargs__={"key": key, "name": name}, **fields)
