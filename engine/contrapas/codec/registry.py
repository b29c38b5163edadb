"""The closed registry: every type that a record may name, by its name; codecs of slots, steps and exceptions.

It is filled from annotations when the app is built: events, commands and their replies, arguments and results of steps,
locals of sagas, registered exceptions. A record can never name a class to import: a name that is not here is an error.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from contrapas.author.annotations import annotations_of
from contrapas.author.event import Command, Event, message_spec
from contrapas.author.service import store_of
from contrapas.author.step import delivery_of, supplied_of
from contrapas.author.timeout import Failed, Timeout
from contrapas.codec.builder import Builder, NoShape, type_text
from contrapas.codec.exceptions import NEVER, Raised, standard
from contrapas.codec.marks import Packing, Unpacking, doubles, may_alias, tokens
from contrapas.codec.messages import MessageType, StepType
from contrapas.codec.models import Model, has_float, plain
from contrapas.codec.shapes import Json, Marks, Misfit, Shape, short, tagged, untagged
from contrapas.errors import DataError


class Codec:
    """Values of one type to JSON text and back: the `SlotCodec` of `machine`."""

    __slots__ = ("_alias", "_cls", "_code", "_fast", "_null", "_read", "frozen", "shape", "tokens")

    def __init__(self, shape: Shape, *, code: str = "CP202") -> None:
        self.shape = shape
        self.frozen = shape.frozen
        self.tokens = tokens(shape)
        self._alias = may_alias(shape)
        self._code = code
        self._fast: Callable[[Any], bytes] | None = None
        self._read: Callable[..., Any] | None = None
        self._cls: type | None = None
        self._null = False
        if isinstance(shape, Model) and plain(shape):
            self._cls = shape.model
            self._fast = shape.model.__pydantic_serializer__.to_json
            self._read = shape.model.__pydantic_validator__.validate_json
            self._null = has_float(shape)

    @property
    def type_text(self) -> str:
        """The type as people write it."""
        return self.shape.text

    def dump(self, value: Any, /) -> str:
        """JSON text; equal values give equal text. DataError CP202 or CP843 with the path of what does not fit."""
        if self._alias and (twice := doubles([(self.shape, value)])):
            return self.write(value, Packing(twice))
        if self._fast is not None and value.__class__ is self._cls:
            try:
                text = self._fast(value).decode()
            except PydanticSerializationError:
                return self.write(value, None)
            if '"$' not in text and not (self._null and "null" in text):
                return text
        return self.write(value, None)

    def load(self, text: str, /) -> Any:
        """The value, built anew. DataError CP403 when the text does not fit."""
        if self._read is not None and '"$' not in text:
            try:
                return self._read(text, strict=True)
            except ValidationError:
                pass
        return self.read(text, Unpacking() if '"$id"' in text else None)

    def write(self, value: Any, marks: Marks | None) -> str:
        """JSON text by shape, with marks where objects are met twice."""
        try:
            return to_json(self.shape.pack(value, marks)).decode()
        except Misfit as why:
            raise self._refusal(why) from None
        except RecursionError:
            raise self._refusal(_cycle(self.shape, value)) from None
        except (PydanticSerializationError, UnicodeError, ValueError) as why:
            raise self._refusal(_unwritable(self.shape.pack(value, marks), why)) from None

    def read(self, text: str, marks: Marks | None) -> Any:
        """The value by shape."""
        try:
            return self.shape.unpack(from_json(text), marks)
        except Misfit as why:
            raise DataError(
                "CP403",
                f"{self.shape.text}{why.path}: {why.text}"[:500],
                path=why.path,
                expected=why.expected,
                got=why.got,
            ) from None
        except ValueError as why:
            raise DataError("CP403", f"{self.shape.text}: {why}"[:500], expected=self.shape.text) from None

    def _refusal(self, why: Misfit) -> DataError:
        return DataError(
            self._code,
            f"{self.shape.text}{why.path}: {why.text}"[:500],
            path=why.path,
            expected=why.expected or self.shape.text,
            got=why.got,
            fix="keep a model, a dataclass or a plain value",
        )

    def __repr__(self) -> str:
        return f"<codec {self.shape.text}>"


class Registry:
    """Types by name. Satisfies `core.world.Types`."""

    def __init__(self) -> None:
        self.messages: dict[str, MessageType] = {}
        self.steps: dict[str, StepType] = {}
        self._names: dict[str, type] = {}
        self._shapes: dict[type, Shape] = {}
        self._entries: dict[type, MessageType] = {}
        self._codecs: dict[Any, Codec] = {}
        self._exceptions: dict[type, str] = {}
        self._builder = Builder(self)
        for cls in (Timeout, Failed):
            self._builder.shape(cls)
        self._names.update(standard())
        self._exceptions.update({error: name for name, error in standard().items()})
        self._exception = Codec(Raised(BaseException, self, self._builder.anything, self.name_of))
        self.any = Codec(self._builder.anything)

    def message_of(self, cls: type, /) -> MessageType:
        """By class; DataError CP402 for a class outside."""
        entry = self._entries.get(cls)
        if entry is None:
            raise DataError(
                "CP402", f"{cls.__name__} is no registered message", got=cls.__name__, fix="annotate with it"
            )
        return entry

    def dump_exception(self, exc: BaseException, /) -> str:
        """JSON text of an exception with its chain."""
        return self._exception.dump(exc)

    def load_exception(self, text: str, /) -> BaseException:
        """Rebuilt without its constructor; a type that is not registered came as `OpaqueError`."""
        found: BaseException = self._exception.load(text)
        return found

    def codec(self, tp: Any, /, *, code: str = "CP202") -> Codec:
        """The codec of a type. DataError with `code` for one whose values cannot be stored."""
        try:
            found = self._codecs.get((tp, code))
        except TypeError:
            return self._made(tp, code)
        if found is None:
            found = self._codecs[(tp, code)] = self._made(tp, code)
        return found

    def _made(self, tp: Any, code: str) -> Codec:
        try:
            return Codec(self._builder.shape(tp), code=code)
        except NoShape as why:
            raise DataError(
                code,
                f"{type_text(tp)}: {why.text}",
                expected="a model, a dataclass or a plain type",
                got=type_text(tp),
            ) from None

    def can_store(self, tp: Any, /) -> str:
        """Empty, or the reason why values of a type cannot be stored."""
        try:
            self._builder.shape(tp)
        except NoShape as why:
            return why.text
        return ""

    def add(self, tp: Any, /) -> None:
        """Register what an annotation reaches. DataError CP205 for a type that cannot travel, CP208 for a name twice."""
        for part in _members(tp):
            if isinstance(part, type) and issubclass(part, Event) and part not in (Event, Command):
                self.add_message(part)
            else:
                self.codec(part, code="CP205")

    def add_message(self, cls: type[Event], /) -> MessageType:
        """Register an event or command class with its replies."""
        entry = self._entries.get(cls)
        if entry is not None:
            return entry
        spec = message_spec(cls)
        self.codec(cls, code="CP205")
        entry = MessageType(
            name=spec.name,
            cls=cls,
            topic=spec.topic,
            key=spec.key,
            replies=tuple(message_spec(r).name for r in spec.replies),
            command=spec.command,
            sensitive=spec.sensitive,
            returns=bool(getattr(cls, "__contrapas_returns__", False)),
            transient=spec.transient,
        )
        self._entries[cls] = self.messages[spec.name] = entry
        for reply in spec.replies:
            self.add_message(reply)
        return entry

    def add_exception(self, cls: type[BaseException], /) -> None:
        """Register an exception class under its name."""
        if not issubclass(cls, NEVER):
            self._register(cls, self._builder.name(cls))

    def add_step(self, step: Any, /) -> StepType:
        """Register a `@step` with the types of its arguments and its result."""
        known = self.steps.get(step.name)
        if known is not None:
            if known.fn is not step.fn:
                raise _twice(step.name, known.fn, step.fn)
            return known
        signature, hints = inspect.signature(step.fn), hints_of(step.fn)
        delivery = delivery_of(step.fn)
        if delivery:
            hints.pop(delivery)
        supplied = supplied_of(step.fn)
        for name, _ in supplied:
            hints.pop(name)
        apart = {delivery, *(name for name, _ in supplied)}
        if delivery or supplied:
            rest = [p for p in signature.parameters.values() if p.name not in apart]
            signature = signature.replace(parameters=rest)
        for name, hint in hints.items():
            try:
                self.add(hint)
            except DataError as why:
                raise _where(why, step.fn, f"@step {step.name}", name) from None
        result = hints.get("return", Any)
        entry = StepType(
            name=step.name,
            fn=step.fn,
            is_async=step.is_async,
            retry=step.retry,
            timeout_ms=step.timeout_ms,
            undo=step.undo,
            args=Codec(Arguments(step.name, signature, hints, self), code="CP205"),
            result=self.codec(result, code="CP843"),
            observe=step.observe,
            delivery=delivery,
            supplied=tuple([(name, mark.dependency) for name, mark in supplied]),
            store=next((s for _, mark in supplied if (s := store_of(mark)) is not None), None),
        )
        self.steps[step.name] = entry
        return entry

    def claim(self, cls: type, name: str, shape: Shape, /) -> None:
        """Give a name to a class, once and for all. DataError CP208 when another class has it."""
        self._register(cls, name)
        self._shapes[cls] = shape

    def _register(self, cls: type, name: str) -> None:
        other = self._names.setdefault(name, cls)
        if other is not cls:
            raise _twice(name, other, cls)
        if issubclass(cls, BaseException):
            self._exceptions[cls] = name

    def name_of(self, cls: type, /) -> str | None:
        """The registered name of a class; None for one outside."""
        kind: type[Any] = cls
        if issubclass(cls, BaseException):
            return self._exceptions.get(cls)
        shape = self._shapes.get(kind)
        return shape.tag if shape is not None else None

    def of_class(self, cls: type[Any], /) -> Shape | None:
        """The shape of a registered class, or of a container of anything."""
        shape = self._shapes.get(cls)
        if shape is None and cls in self._exceptions:
            return self._exception.shape
        if shape is None and cls in _BARE:
            return self._builder.shape(cls)
        return shape or self._builder.leaves.get(cls)

    def of_class_name(self, name: str, /) -> type | None:
        """The registered class of a name."""
        return self._names.get(name)

    def subclasses(self, cls: type, /) -> None:
        """Register the known subclasses of a message class, for a slot typed as `Event`.

        A class whose name is taken belongs to something else that this process has loaded: it is left out.
        """
        found: list[type[Any]] = cls.__subclasses__()
        for below in found:
            if issubclass(below, Event) and below.__contrapas_key__ and self._free(below):
                self.add_message(below)
            self.subclasses(below)

    def _free(self, cls: type[Event]) -> bool:
        """Whether the names of a message and of its replies are its own."""
        try:
            kin = (cls, *message_spec(cls).replies)
        except DataError:
            return False
        return all(self._names.get(each.__contrapas_name__, each) is each for each in kin)

    def tag(self, value: Any, marks: Marks | None, /) -> Json:
        """`{"$type": name, ...}` of a value of any registered class."""
        cls: Any = value.__class__
        shape = self.of_class(cls)
        if shape is None:
            if isinstance(value, BaseException):
                return self._exception.shape.pack(value, marks)
            raise Misfit(
                f"{short(value)} is of no registered type", expected="a registered type", got=cls.__name__
            )
        data = shape.pack(value, marks)
        if data.__class__ is dict and ("$type" in data or "$ref" in data):
            return data
        if cls in self._shapes:
            return tagged(shape, data)
        return {"$type": cls.__name__, "$value": data}

    def untag(self, data: dict[str, Json], marks: Marks | None, /) -> Any:
        """The value of `{"$type": name, ...}`."""
        name = data["$type"]
        cls = self._names.get(name) or _BARE_NAMES.get(name) or self._leaf(name)
        if cls is None:
            raise Misfit(f"no type is registered as {name!r}", expected="a registered name", got=str(name))
        shape = self.of_class(cls)
        if shape is None:
            raise Misfit(f"values of {name!r} are not stored", expected="a registered name", got=str(name))
        if isinstance(shape, Raised):
            return shape.unpack(data, marks)
        return shape.unpack(untagged(data), marks)

    def _leaf(self, name: str) -> type | None:
        return next(
            (cls for cls in self._builder.leaves if isinstance(cls, type) and cls.__name__ == name), None
        )


_BARE: Mapping[Any, str] = {c: c.__name__ for c in (tuple, set, frozenset, dict, list)}
_BARE_NAMES: Mapping[str, Any] = {name: c for c, name in _BARE.items()}


class Arguments(Shape):
    """`(args, kwargs)` of a step, by its signature."""

    frozen = False
    kinds = frozenset({"object"})

    def __init__(
        self, name: str, signature: inspect.Signature, hints: Mapping[str, Any], registry: Registry
    ) -> None:
        self.text = self.tag = f"arguments of {name}"
        anything = registry.any.shape
        self.positional: list[Shape] = []
        self.named: dict[str, Shape] = {}
        self.rest = self.others = anything
        self.optional: set[str] = set()
        """Names of parameters with a default."""
        for parameter in signature.parameters.values():
            shape = (
                registry.codec(hints[parameter.name], code="CP205").shape
                if parameter.name in hints
                else anything
            )
            if parameter.kind is parameter.VAR_POSITIONAL:
                self.rest = shape
            elif parameter.kind is parameter.VAR_KEYWORD:
                self.others = shape
            else:
                if parameter.default is not parameter.empty:
                    self.optional.add(parameter.name)
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    self.positional.append(shape)
                if parameter.kind is not parameter.POSITIONAL_ONLY:
                    self.named[parameter.name] = shape

    def parts(self) -> Iterable[tuple[Shape, bool]]:
        return [(s, False) for s in (*self.positional, *self.named.values(), self.rest, self.others)]

    def _at(self, place: int) -> Shape:
        return self.positional[place] if place < len(self.positional) else self.rest

    def pack(self, value: Any, marks: Marks | None) -> Json:
        args, kwargs = value
        data: dict[str, Json] = {}
        name: Any = 0
        packed: list[Json] = []
        named: dict[str, Json] = {}
        try:
            if args:
                data["args"] = packed
                for name, item in enumerate(args):
                    packed.append(self._at(name).pack(item, marks))
            if kwargs:
                data["kwargs"] = named
                for name, item in kwargs.items():
                    named[name] = self.named.get(name, self.others).pack(item, marks)
        except Misfit as why:
            why.parts.append(name)
            raise
        return data

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        if data.__class__ is not dict:
            raise self.misfit(data)
        args = tuple([self._at(i).unpack(item, marks) for i, item in enumerate(data.get("args", ()))])
        kwargs = {
            n: self.named.get(n, self.others).unpack(d, marks) for n, d in data.get("kwargs", {}).items()
        }
        return args, kwargs

    def visit(self, value: Any, met: Callable[[Any], bool]) -> None:
        args, kwargs = value
        for place, item in enumerate(args):
            self._at(place).visit(item, met)
        for name, item in kwargs.items():
            self.named.get(name, self.others).visit(item, met)


def build_registry(
    sagas: Iterable[Any] = (),
    services: Iterable[Any] = (),
    steps: Iterable[Any] = (),
    *,
    events: Iterable[type[Event]] = (),
    exceptions: Iterable[type[BaseException]] = (),
    ambients: Iterable[Any] = (),
) -> Registry:
    """The registry of an app: what the annotations of its sagas, reactions and steps reach.

    sagas: `SagaDef`s. services: `Service`s. steps: `StepDef`s. ambients: types that are supplied anew at each activation
    and never stored. DataError CP205, CP208.
    """
    registry = Registry()
    never = list(ambients)
    for saga in sagas:
        hints = hints_of(saga.fn)
        for name in list(inspect.signature(saga.fn).parameters)[:1]:
            hints.pop(name, None)
        for hint in hints.values():
            if not _ambient(hint, never):
                registry.add(hint)
    for service in services:
        for cls, reaction in service.reactions.items():
            registry.add(cls)
            answer = hints_of(reaction.fn).get("return")
            for part in _members(answer):
                registry.add(get_args(part)[0] if get_origin(part) is list else part)
    for step in steps:
        registry.add_step(step)
    for event in events:
        registry.add_message(event)
    for error in exceptions:
        registry.add_exception(error)
    return registry


def hints_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """The resolved annotations of a function. DataError CP205 when a name in them does not exist."""
    try:
        return annotations_of(fn)
    except NameError as why:
        raise DataError("CP205", f"{fn.__name__}: {why}", fix="import the name at module level") from None


def _ambient(hint: Any, never: list[Any]) -> bool:
    if hint in never:
        return True
    marks = getattr(hint, "__metadata__", ())
    return any(type(mark).__name__ == "Depends" for mark in marks)


def _members(tp: Any) -> tuple[Any, ...]:
    if tp is None:
        return (type(None),)
    if get_origin(tp) in (Union, types.UnionType):
        return get_args(tp)
    return (tp,)


def _where(why: DataError, fn: Any, whose: str, name: str) -> DataError:
    """The same error with its place: the function whose annotation it is."""
    code = fn.__code__
    what = "its result" if name == "return" else f"parameter {name}"
    return DataError(
        why.code,
        f"{whose}, {what}: {why.text}",
        path=why.path,
        expected=why.expected,
        got=why.got,
        fix=why.fix or "use a pydantic model, a dataclass, an enum or a plain type",
        place=why.place or f"{code.co_filename}:{code.co_firstlineno}:1",
    )


def _twice(name: str, one: Any, other: Any) -> DataError:
    def where(thing: Any) -> str:
        return f"{thing.__module__}.{thing.__qualname__}"

    return DataError(
        "CP208",
        f"two types have the name {name}: {where(one)} and {where(other)}",
        expected="one type per name",
        got=where(other),
        fix=f"give one of them another name, for an event with name={name + '2'!r}",
    )


def _cycle(shape: Shape, value: Any) -> Misfit:
    try:
        shape.pack(value, Packing(set()))
    except Misfit as why:
        return why
    except RecursionError:
        pass
    return Misfit("the value is nested too deeply", expected="a flatter value", got=short(value))


def _unwritable(data: Json, why: Exception) -> Misfit:
    """Where the text is that cannot be written."""

    def look(part: Json) -> Misfit | None:
        items: Any = ()
        inner: Any = part
        if part.__class__ is dict:
            items = inner.items()
        elif part.__class__ is list:
            items = enumerate(inner)
        elif part.__class__ is str:
            try:
                part.encode()
            except UnicodeEncodeError:
                return Misfit(
                    "the text holds a lone surrogate", expected="Unicode text", got="a lone surrogate"
                )
        elif part.__class__ is int:
            try:
                str(part)
            except ValueError:
                return Misfit("the integer has too many digits", expected="at most 4,300 digits", got="more")
        for name, item in items:
            found = look(name) if name.__class__ is str else None
            found = found or look(item)
            if found is not None:
                found.parts.append(name)
                return found
        return None

    return look(data) or Misfit(str(why)[:200])
