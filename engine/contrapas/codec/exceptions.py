"""Exceptions as data: type by registered name, arguments, attributes, notes, cause, context, suppress flag, trace text.

An exception that is alive across an await is rebuilt without its constructor: `__new__` of its built-in base, then the
arguments and the attributes that were stored. One object stays one, chains and groups included. A type that the registry
does not know becomes an `OpaqueError`; an argument or attribute that cannot be stored becomes an `OpaqueValue`.
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final, cast

from pydantic_core import to_json

from contrapas.codec.anything import Anything, Shapes
from contrapas.codec.marks import ANYTHING, Packing
from contrapas.codec.shapes import Json, Marks, Misfit, Shape, short
from contrapas.errors import Cancelled, OpaqueError, StepFailed

NEVER: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)
"""They abort the transition and are never stored."""
TRACE: Final = "__contrapas_trace__"
IDENTITY: Final = "__contrapas_id__"
"""By which a copy of an exception is known: a called saga keeps one of what its caller handles, in a chain of its own."""
OWN: Final = frozenset({"__notes__", TRACE, IDENTITY})
"""What is kept in an exception's `__dict__` and is no attribute of the author's."""
FRAMES_MAX: Final = 12
_HEAP_TYPE: Final = 1 << 9
_NAMED: Final = ("name", "path", "value", "code")
"""Attributes that built-in exceptions keep outside of their `__dict__` and of their arguments."""


@functools.cache
def standard() -> Mapping[str, type[BaseException]]:
    """The exceptions that every registry knows."""
    found: dict[str, type[BaseException]] = {c.__name__: c for c in (StepFailed, Cancelled, OpaqueError)}
    for name, cls in vars(builtins).items():
        if isinstance(cls, type) and issubclass(cls, BaseException) and not issubclass(cls, NEVER):
            found[name] = cls
    for alias in ("IOError", "EnvironmentError"):
        found.pop(alias, None)
    return found


class OpaqueValue:
    """Stands for a value within an exception that cannot be stored: what people would have read."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpaqueValue) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class Raised(Shape):
    """Exceptions of one class and its subclasses."""

    frozen = False
    token: Any = ANYTHING
    kinds = frozenset({"object"})
    merges = True

    def __init__(
        self,
        cls: type[BaseException],
        book: Shapes,
        anything: Anything,
        name_of: Callable[[type], str | None],
    ) -> None:
        self.cls = cls
        self.text = self.tag = name_of(cls) or cls.__name__
        if cls in (StepFailed, Cancelled):
            self.token = (BaseException, "")  # made by the engine, from values of its own
        self.book = book
        self.anything = anything
        self.name_of = name_of

    def classes(self) -> tuple[type, ...]:
        return (self.cls,)

    def pack(self, value: Any, marks: Marks | None) -> Json:
        if not isinstance(value, self.cls):
            raise self.misfit(value)
        if isinstance(value, NEVER):
            raise Misfit(
                f"{type(value).__name__} is never stored", expected="an exception", got=type(value).__name__
            )
        if isinstance(marks, Packing) and (ref := marks.enter(value, cyclic=True)) is not None:
            return ref
        name = self.name_of(type(value))
        data: dict[str, Json] = {"$type": name or "OpaqueError"}
        if name is None:
            opaque = OpaqueError(type(value).__name__, _message(value), trace_of(value))
            self._facts(opaque, data, marks)
        else:
            self._facts(value, data, marks)
        own = to_json(data, inf_nan_mode="strings")
        self._chain(value, data, marks)
        data["id"] = _identity(value, own)
        return marks.mark(value, data) if marks is not None else data

    def _facts(self, value: BaseException, data: dict[str, Json], marks: Marks | None) -> None:
        arguments: tuple[Any, ...] = value.args
        if (group := _group(value)) is not None:
            arguments = (group.message,)
            data["exceptions"] = [_any_exception(self, e).pack(e, marks) for e in group.exceptions]
        data["args"] = [self._loose(a, marks) for a in arguments]
        names = _files(value)
        if names:
            data["files"] = [self._loose(f, marks) for f in names]
        attributes = {k: self._loose(v, marks) for k, v in vars(value).items() if k not in OWN}
        for word in _NAMED:
            if word not in attributes and type(getattr(value, word, None)) is str and _slotted(value, word):
                attributes[word] = getattr(value, word)
        if attributes:
            data["attributes"] = attributes

    def _chain(self, value: BaseException, data: dict[str, Json], marks: Marks | None) -> None:
        trace = trace_of(value)
        notes = [n for n in getattr(value, "__notes__", ()) if n != _note(trace)]
        if notes:
            data["notes"] = [str(n) for n in notes]
        if value.__cause__ is not None:
            data["cause"] = _any_exception(self, value.__cause__).pack(value.__cause__, marks)
        if value.__context__ is not None and not isinstance(value.__context__, NEVER):
            data["context"] = _any_exception(self, value.__context__).pack(value.__context__, marks)
        if value.__suppress_context__:
            data["suppress"] = True
        if trace:
            data["trace"] = trace

    def _loose(self, value: Any, marks: Marks | None) -> Json:
        try:
            return self.anything.pack(value, marks)
        except (Misfit, RecursionError):
            return {"$type": "OpaqueValue", "$value": short(value)}

    def unpack(self, data: Json, marks: Marks | None) -> Any:
        number = 0
        if marks is not None:
            done, value, data, number = marks.known(data)
            if done:
                return value
        if data.__class__ is not dict or data.get("args").__class__ is not list:
            raise self.misfit(data)
        cls = self.book.of_class_name(data.get("$type", self.tag))
        if cls is None or not issubclass(cls, BaseException) or issubclass(cls, NEVER):
            raise Misfit(
                f"no exception is registered as {data.get('$type')!r}", expected=self.text, got=short(data)
            )
        return self._rebuilt(cls, data, marks, number)

    def _rebuilt(
        self, cls: type[BaseException], data: dict[str, Json], marks: Marks | None, number: int
    ) -> BaseException:
        base = _builtin(cls)
        inner = [self.unpack(e, marks) for e in data.get("exceptions", ())]
        if issubclass(base, BaseExceptionGroup):
            try:
                made = _bare(base, cls, data["args"][0], inner)
            except (
                TypeError,
                ValueError,
                IndexError,
            ) as why:  # a group of nothing, or of what may not be in one
                raise Misfit(f"{cls.__name__}: {why}", expected=self.text, got=short(data)) from None
        elif base in (Exception, BaseException):
            made = _bare(base, cls)
        else:
            made = _with_fields(
                base, cls, [self.anything.unpack(a, marks) for a in (*data["args"], *data.get("files", ()))]
            )
        if number and marks is not None:
            marks.remember(number, made)
        if not inner:
            made.args = tuple([self.anything.unpack(a, marks) for a in data["args"]])
        for name, item in data.get("attributes", {}).items():
            value = self.anything.unpack(item, marks)
            try:
                object.__setattr__(made, name, value)
            except AttributeError:
                vars(made)[name] = value
        trace = data.get("trace", "")
        notes = [*data.get("notes", ()), *([_note(trace)] if trace else ())]
        if trace:
            vars(made)[TRACE] = trace
        if "id" in data:
            vars(made)[IDENTITY] = data["id"]
        if notes:
            vars(made)["__notes__"] = notes
        if "cause" in data:
            made.__cause__ = self.unpack(data["cause"], marks)
        if "context" in data:
            made.__context__ = self.unpack(data["context"], marks)
        made.__suppress_context__ = bool(data.get("suppress", False))
        return made

    def visit(self, value: Any, met: Callable[[Any], bool]) -> None:
        if not isinstance(value, BaseException) or not met(value):
            return
        if isinstance(value, BaseExceptionGroup):
            for one in cast("BaseExceptionGroup[BaseException]", value).exceptions:
                self.visit(one, met)
        else:
            for item in value.args:
                self.anything.visit(item, met)
        for name, item in vars(value).items():
            if name not in OWN:
                self.anything.visit(item, met)
        self.visit(value.__cause__, met)
        self.visit(value.__context__, met)


def trace_of(value: BaseException) -> str:
    """Where it was raised first: `shop.py:31 in place_order`, outermost frame first; of a rebuilt one, as it was stored."""
    stored = vars(value).get(TRACE)
    if isinstance(stored, str):
        return stored
    lines: list[str] = []
    step = value.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        lines.append(f"{_last(code.co_filename)}:{step.tb_lineno} in {code.co_name}")
        step = step.tb_next
    return "\n".join(lines[-FRAMES_MAX:])


def relink(values: Iterable[Any], outer: BaseException) -> None:
    """Put `outer`, which a caller handles, in place of its copies in the chains of a called saga's exceptions."""
    if vars(outer).get(IDENTITY) is None:
        return
    met = {id(outer)}
    stack = [v for v in values if isinstance(v, BaseException)]
    while stack:
        exc = stack.pop()
        if id(exc) in met:
            continue
        met.add(id(exc))
        for word in ("__cause__", "__context__"):
            inner: BaseException | None = getattr(exc, word)
            if inner is None or inner is outer:
                continue
            if _copy_of(inner, outer):
                suppress = exc.__suppress_context__
                setattr(exc, word, outer)
                exc.__suppress_context__ = suppress
            else:
                stack.append(inner)


def _copy_of(one: BaseException | None, other: BaseException | None) -> bool:
    """Equal all along their chains: two failures of one step may be equal in themselves, as neither was raised yet when
    they were stored first, but not in what they were raised in afterwards."""
    met: set[tuple[int, int]] = set()
    pairs = [(one, other)]
    while pairs:
        a, b = pairs.pop()
        if a is b or (id(a), id(b)) in met:
            continue
        if a is None or b is None or vars(a).get(IDENTITY) != vars(b).get(IDENTITY):
            return False
        met.add((id(a), id(b)))
        pairs += [(a.__cause__, b.__cause__), (a.__context__, b.__context__)]
    return True


def _identity(value: BaseException, own: bytes) -> str:
    """Given once, from what it is and what it was raised in: so it differs from all that its chain holds."""
    known = vars(value).get(IDENTITY)
    if known is None:
        chain = [
            vars(e).get(IDENTITY, "") if e is not None else "" for e in (value.__cause__, value.__context__)
        ]
        text = b"\0".join([own, trace_of(value).encode(), *[str(c).encode() for c in chain]])
        known = vars(value)[IDENTITY] = blake2b(text, digest_size=6).hexdigest()
    return str(known)


def _note(trace: str) -> str:
    """What a rebuilt exception says of the time before."""
    return "raised at " + trace.rpartition("\n")[2].partition(" in ")[0] if trace else ""


def _any_exception(shape: Raised, value: BaseException) -> Raised:
    return (
        shape
        if isinstance(value, shape.cls)
        else Raised(BaseException, shape.book, shape.anything, shape.name_of)
    )


def _last(path: str) -> str:
    """The name of a file without its folders, whichever way they are written."""
    return path.replace("\\", "/").rpartition("/")[2]


def _message(value: BaseException) -> str:
    try:
        return str(value)[:8000]
    except Exception:  # noqa: BLE001  an author's __str__ may raise anything
        return "…"


def _group(value: BaseException) -> BaseExceptionGroup[BaseException] | None:
    return cast("BaseExceptionGroup[BaseException]", value) if isinstance(value, BaseExceptionGroup) else None


def _files(value: BaseException) -> tuple[Any, ...]:
    """What `OSError` takes after its arguments."""
    if not isinstance(value, OSError) or value.filename is None:
        return ()
    return (value.filename,) if value.filename2 is None else (value.filename, None, value.filename2)


def _bare(base: Any, cls: type[BaseException], *arguments: Any) -> BaseException:
    """By `__new__` of the built-in base: no constructor of the author's runs."""
    made: BaseException = base.__new__(cls, *arguments)
    return made


def _builtin(cls: type) -> Any:
    """The first class of its line that Python itself brings."""
    return next(c for c in cls.__mro__ if not c.__flags__ & _HEAP_TYPE)


def _with_fields(base: Any, cls: type[BaseException], arguments: list[Any]) -> BaseException:
    """An exception whose built-in base keeps fields of its own (OSError, UnicodeDecodeError, StopIteration)."""
    try:
        made = _bare(base, cls, *arguments)
        base.__init__(made, *arguments)
    except (TypeError, ValueError):
        made = _bare(base, cls)
    return made


def _slotted(value: BaseException, word: str) -> bool:
    """Whether a field is kept by the built-in base, outside of the arguments."""
    kind = getattr(_builtin(type(value)), word, None)
    return kind is not None and type(kind).__name__ in ("member_descriptor", "getset_descriptor")
