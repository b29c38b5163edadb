"""Compiled once more in one process: the machine of before, if nothing that its compilation read has changed.

Held by the saga itself, so that both go together. What was read is compared by identity: the source as it is now, the
function's code and defaults, every name its text mentions, and what these reach: classes, functions, steps, containers.
Where that cannot be told (an object that changes unseen), nothing is kept. The registry may be another one: what was
registered is registered again, and the types must come out the same.
"""

from __future__ import annotations

import ast
import builtins
import enum
import linecache
import operator
import sys
import types
import typing
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final, get_args, get_origin

from contrapas.author.saga import SagaDef
from contrapas.codec.registry import Codec, Registry
from contrapas.compiler import portable, sharing, source, trees
from contrapas.machine import Machine, Refusal, Slot
from contrapas.machine.ir import Program

HELD: Final = "__contrapas_compiled__"
REACH_MAX: Final = 4000
_HEAP: Final = 1 << 9
_PLAIN: Final = (
    str, bytes, int, float, complex, bool, types.NoneType, type(...), type(NotImplemented), range,
    types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType,
    types.GetSetDescriptorType, types.MemberDescriptorType, types.ClassMethodDescriptorType, types.CodeType, ContextVar,
    typing.TypeVar, enum.Enum,
)  # fmt: skip
"""Values that do not change, or of which only the identity matters."""
_EXACT: Final = frozenset(
    (str, bytes, int, float, bool, types.NoneType, types.BuiltinFunctionType, types.CodeType, object)
)
"""Of these, the usual ones."""
_OURS: Final = frozenset(
    ("contrapas", "pydantic", "pydantic_core", "typing", "typing_extensions", "builtins", "abc", "enum", "types",
     "collections", "dataclasses", "datetime", "decimal", "uuid", "fractions", "re", "pathlib")
)  # fmt: skip
"""Modules whose classes and functions nobody changes."""
_FIXED: Final = _OURS - {"builtins", "collections"}
"""Modules whose objects without a `__dict__` do not change, as far as a compilation looks."""
_ABSENT: Final = object()
_BUILTINS: Final = vars(builtins)


class Unsure(Exception):
    """Something was read of which nobody can tell whether it changes."""


class Recorder(Registry):
    """A registry that remembers what one compilation asks of it."""

    def __init__(self, real: Registry) -> None:
        self.real = real
        self.messages, self.steps, self.any = real.messages, real.steps, real.any
        self.asked: list[tuple[str, Any, Any]] = []
        self._marks: set[tuple[str, int]] = set()
        """Of arguments that `asked` keeps alive."""

    def _note(self, name: str, argument: Any) -> Any:
        answer = getattr(self.real, name)(argument)
        mark = (name, id(argument))
        if mark not in self._marks or name == "name_of":
            self._marks.add(mark)
            self.asked.append((name, argument, answer))
        return answer

    def codec(self, tp: Any, /, *, code: str = "CP202") -> Codec:
        """Asked of the real one."""
        found: Codec = self._note("codec", tp) if code == "CP202" else self.real.codec(tp, code=code)
        return found

    def can_store(self, tp: Any, /) -> str:
        """Asked of the real one."""
        return str(self._note("can_store", tp))

    def add(self, tp: Any, /) -> None:
        """Asked of the real one."""
        self._note("add", tp)

    def add_step(self, step: Any, /) -> Any:
        """Asked of the real one."""
        return self._note("add_step", step)

    def add_exception(self, cls: type[BaseException], /) -> None:
        """Asked of the real one."""
        self._note("add_exception", cls)

    def name_of(self, cls: type, /) -> str | None:
        """Asked of the real one."""
        found: str | None = self._note("name_of", cls)
        return found


class Watch:
    """What was read, as it was."""

    def __init__(self, fn: types.FunctionType, names: frozenset[str]) -> None:
        self.wanted = names
        self.views: list[tuple[Callable[[], Any], tuple[Any, ...]]] = []
        self.names: list[tuple[Mapping[str, Any], str, Any]] = []
        self.seen: dict[int, Any] = {}
        self.work: list[Any] = [fn]
        for name in names:
            self._name(fn.__globals__, name)
        self.settle()

    def settle(self) -> None:
        """Look at all that is reached."""
        while self.work:
            value = self.work.pop()
            if id(value) not in self.seen:
                self.seen[id(value)] = value
                if len(self.seen) > REACH_MAX:
                    raise Unsure
                self._look(value)

    def same(self) -> bool:
        """Whether all of it is as it was."""
        for scope, name, value in self.names:
            if scope.get(name, _ABSENT) is not value:
                return False
        for view, before in self.views:
            now = tuple(view())
            if len(now) != len(before) or not all(map(operator.is_, now, before)):
                return False
        return True

    def _name(self, scope: Mapping[str, Any], name: str) -> None:
        value = scope.get(name, _ABSENT)
        self.names.append((scope, name, value))
        if value is not _ABSENT:
            self.work.append(value)
        elif scope is not _BUILTINS:
            self._name(_BUILTINS, name)

    def _view(self, view: Callable[[], Any]) -> None:
        now = tuple(view())
        self.views.append((view, now))
        self.work.extend(now)

    def _look(self, value: Any) -> None:
        if value.__class__ in _EXACT:
            return
        if _is(value, type) and get_origin(value) is None:
            self._class(value)
        elif _is(value, types.FunctionType):
            self._function(value)
        elif _is(value, staticmethod, classmethod):
            self.work.append(value.__func__)
        elif _is(value, property):
            self.work += [value.fget, value.fset]
        elif _is(value, types.MethodType):
            self.work += [value.__func__, value.__self__]
        elif _is(value, types.ModuleType):
            scope: dict[str, Any] = value.__dict__
            for name in self.wanted:
                if name in scope:
                    self._name(scope, name)
        elif _is(value, list, tuple, set, frozenset):
            self._view(lambda: value)
        elif value.__class__ is dict or _is(value, types.MappingProxyType):
            self._view(value.keys)
            self._view(value.values)
        elif _is(value, types.CellType):
            self._view(lambda: _content(value))
        elif not _is(value, *_PLAIN) and value.__class__ is not object:
            self._object(value)

    def _class(self, cls: type) -> None:
        for each in cls.__mro__:
            if each.__flags__ & _HEAP and each.__module__.partition(".")[0] not in _OURS and self._new(each):
                self._view(_attributes(each))
                written: dict[str, Any] = vars(each).get("__annotations__", {})
                self._view(written.values)
                self._name(sys.modules, each.__module__)
                self._texts(written, vars(sys.modules.get(each.__module__, builtins)))

    def _new(self, cls: type) -> bool:
        key = id(vars(cls).get("__dict__", cls)) + 1
        known = key in self.seen
        self.seen[key] = cls
        return not known

    def _function(self, fn: types.FunctionType) -> None:
        if fn.__module__.partition(".")[0] in _OURS and fn.__module__ in sys.modules:
            return
        self._view(lambda: (fn.__code__, fn.__defaults__, fn.__kwdefaults__, *(fn.__closure__ or ())))
        self._view(lambda: fn.__annotations__.values())
        self._view(vars(fn).values)
        self._texts(fn.__annotations__, fn.__globals__)

    def _texts(self, annotations: Mapping[str, Any], scope: Mapping[str, Any]) -> None:
        """Names in annotations that are texts: what they mean is asked for when they are read."""
        for text in annotations.values():
            if isinstance(text, str):
                for name in _names_in(text):
                    self._name(scope, name)

    def _object(self, value: Any) -> None:
        args = get_args(value)
        if args or get_origin(value) is not None:
            self.work += [get_origin(value), *args]
            return
        kind: Any = value.__class__
        module = str(kind.__module__).partition(".")[0]
        held: Any = getattr(value, "__dict__", None)
        rules: Any = getattr(kind, "__dataclass_params__", None)
        if held.__class__ is dict:
            self._view(lambda: [v for n, v in held.items() if n != HELD])
        elif (rules is None or not rules.frozen) and module not in _FIXED:
            raise Unsure


_LAZY: Final = frozenset(
    ("__abstractmethods__", "_abc_impl", "__weakref__", "__dict__", "__doc__", "__pydantic_serializer__",
     "__pydantic_validator__", "__signature__", "__class_vars__", "__private_attributes__", "__pydantic_decorators__")
)  # fmt: skip
"""Of a class: what the compiler does not read, or what follows from the rest."""


def _is(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds)


def _attributes(cls: type) -> Callable[[], list[Any]]:
    return lambda: [v for n, v in vars(cls).items() if n not in _LAZY]


def _content(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _names_in(text: str) -> list[str]:
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        raise Unsure from None
    if any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in trees.walk(tree)):
        raise Unsure
    return [n.id for n in trees.walk(tree) if isinstance(n, ast.Name)] + [
        n.attr for n in trees.walk(tree) if isinstance(n, ast.Attribute)
    ]


def _names(node: ast.AST) -> frozenset[str]:
    """Every name and attribute that a function's text mentions; Unsure for an annotation that holds a text."""
    found: set[str] = set()
    for inner in trees.walk(node):
        if isinstance(inner, ast.Name):
            found.add(inner.id)
        elif isinstance(inner, ast.Attribute):
            found.add(inner.attr)
        elif isinstance(inner, ast.AnnAssign):
            for part in trees.walk(inner.annotation):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    raise Unsure
        elif isinstance(inner, ast.Import | ast.ImportFrom):
            raise Unsure
    return frozenset(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one compilation gave."""

    machine: Machine
    program: Program
    found: tuple[Refusal, ...]
    captures: tuple[tuple[Slot, ...], ...]
    slots: Mapping[str, Slot]
    """By variable."""


@dataclass(slots=True, kw_only=True)
class _Kept:
    saga: Any
    """Whose it is: a copy of a saga has one of its own."""
    registry: Registry
    groups: sharing.Groups
    result: Result
    key: tuple[Any, ...]
    lines: list[str]
    watch: Watch
    asked: list[tuple[str, Any, Any]]


def keep(saga: SagaDef[..., Any], key: tuple[Any, ...], result: Result, recorder: Recorder) -> None:
    """Remember a compilation on its saga, if it can be told when it is no longer true."""
    fn: Any = saga.fn
    vars(saga).pop(HELD, None)
    lines = linecache.getlines(fn.__code__.co_filename, fn.__globals__)
    if not lines or saga.__class__ is not SagaDef:
        return
    node = source.tree_of(fn, "".join(lines))
    if node is None:
        return
    try:
        watch = Watch(fn, _names(node))
        watch.work.append(saga)
        watch.settle()
    except Exception:  # noqa: BLE001  the author's objects may answer anything: then nothing is kept
        return
    vars(saga)[HELD] = _Kept(
        saga=saga,
        registry=recorder.real,
        groups=sharing.among(result.slots.values()),
        result=result,
        key=key,
        lines=list(lines),
        watch=watch,
        asked=recorder.asked,
    )


def again(saga: SagaDef[..., Any], key: tuple[Any, ...], registry: Registry) -> Result | None:
    """The machine of before, with the codecs of this registry; None when anything it depends on may have changed."""
    kept: _Kept | None = vars(saga).get(HELD)
    if kept is None or kept.saga is not saga or kept.key != key:
        return None
    try:
        if not kept.watch.same():
            return None
    except Exception:  # noqa: BLE001  the author's objects may answer anything
        return None
    fn: Any = saga.fn
    linecache.checkcache(fn.__code__.co_filename)
    if linecache.getlines(fn.__code__.co_filename, fn.__globals__) != kept.lines:
        return None
    return kept.result if registry is kept.registry else _in(registry, kept)


def _with(slot: Slot, codec: Codec) -> Slot:
    return Slot(name=slot.name, role=slot.role, type_text=slot.type_text, codec=codec, frozen=slot.frozen)


def _in(registry: Registry, kept: _Kept) -> Result | None:
    old = kept.result
    codecs: dict[int, Any] = {}
    for name, argument, answer in kept.asked:
        try:
            now = getattr(registry, name)(argument)
        except Exception:  # noqa: BLE001  this registry refuses it: the compiler says so, at its line
            return None
        if name == "codec":
            if now.type_text != answer.type_text or now.frozen != answer.frozen:
                return None
            codecs[id(answer)] = now
        elif name in ("can_store", "name_of") and now != answer:
            return None
    made: dict[int, Slot] = {}

    def slot(one: Slot) -> Slot:
        found = made.get(id(one))
        if found is None:
            codec = one.codec
            found = one if codec is None else _with(one, codecs[id(codec)])
            made[id(one)] = found
        return found

    try:
        slots = {name: slot(one) for name, one in old.slots.items()}
        captures = tuple(tuple(slot(one) for one in several) for several in old.captures)
        machine = old.machine
        result = machine.result if machine.result is None else codecs[id(machine.result)]
        params = tuple(slot(one) for one in machine.params)
        by_name = {name: slot(one) for name, one in machine.slots.items()}
        undos = {
            label: replace(undo, captures=tuple(slot(one) for one in undo.captures))
            for label, undo in machine.undos.items()
        }
    except KeyError:  # a codec from elsewhere
        return None
    if sharing.among(slots.values()) != kept.groups:
        return None
    if portable.forms(old.program, slots, captures, registry) != machine.types:
        return None
    machine = replace(machine, slots=by_name, params=params, result=result, undos=undos)
    return replace(old, machine=machine, slots=slots, captures=captures)
