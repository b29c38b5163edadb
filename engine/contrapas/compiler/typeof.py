"""The type of an expression, from what is known of the names in it (A6): displays, arithmetic, attributes, calls.

Two answers are no types: `BOTTOM`, not known yet (a later round of the analysis may tell), and `UNKNOWN`, not known.
An element type that nothing has told yet is `Never`, as in `[]`.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, Never, TypeVar, get_args, get_origin

from contrapas.author.link import Link
from contrapas.author.op import Op
from contrapas.author.saga import SagaDef
from contrapas.author.step import StepDef
from contrapas.author.telling import Telling
from contrapas.codec.cursor import Backward, Cursor, Enumerated, Zipped
from contrapas.codec.kinds import generic, is_kind
from contrapas.compiler import builtin_types as table
from contrapas.compiler.inflight import begun_type
from contrapas.compiler.narrowing import narrow
from contrapas.compiler.type_rules import (
    BOTTOM,
    UNKNOWN,
    arithmetic,
    bind_target,
    declared_method,
    field,
    hashable,
    if_known,
    item,
    iterated,
    members,
    merge,
    part_type,
    returned,
    type_of_value,
)
from contrapas.machine.ir import Site

Env = Mapping[str, Any]
_COMPOSED: Final[dict[str, Any]] = {"@enumerate": enumerate, "@zip": zip, "@reversed": reversed}
_OPERATIONS: Final = frozenset(
    {
        "step", "ask", "wait", "sleep", "all", "first", "map", "child", "cancel", "compensate", "next", "some",
    }
)  # fmt: skip


class Typing:
    """Types of expressions of one function."""

    def __init__(
        self, names: Env, namespace: Mapping[str, Any], saga_name: str, sites: list[Site] | None = None
    ) -> None:
        self.sites: list[Site] = [] if sites is None else sites
        """Of the program: what is begun tells the type of its handle."""
        self.names = names
        """Local or hidden name -> type; absent: BOTTOM."""
        self.namespace = namespace
        self.saga = saga_name
        self.own: frozenset[str] = frozenset(names)

    def of(self, node: ast.expr | None) -> Any:
        """The type of an expression. What comes out of a container whose elements nothing told yet is BOTTOM."""
        if node is None:
            return types.NoneType
        rule = getattr(self, f"_{type(node).__name__.lower()}", None)
        found = UNKNOWN if rule is None else rule(node)
        return BOTTOM if found is Never else found

    def value(self, node: ast.expr) -> Any:
        """What a dotted name means outside of the function; UNKNOWN for a local."""
        if isinstance(node, ast.Name):
            if node.id in self.own or node.id == self.saga:
                return UNKNOWN
            return self.namespace.get(node.id, getattr(builtins, node.id, UNKNOWN))
        if isinstance(node, ast.Attribute):
            base = self.value(node.value)
            if base is UNKNOWN or not isinstance(base, types.ModuleType | type):
                return UNKNOWN
            return inspect.getattr_static(base, node.attr, getattr(base, node.attr, UNKNOWN))
        if isinstance(node, ast.Subscript):
            base, inner = self.value(node.value), self.value(node.slice)
            if isinstance(base, type) and isinstance(inner, type):
                try:
                    return base[inner]  # type: ignore[index]
                except TypeError:
                    return UNKNOWN
        return UNKNOWN

    # -- leaves and displays -------------------------------------------------------------------------------

    def _constant(self, node: ast.Constant) -> Any:
        return type(node.value)

    def _joinedstr(self, node: ast.JoinedStr) -> Any:
        return str

    def _formattedvalue(self, node: ast.FormattedValue) -> Any:
        return str

    def _name(self, node: ast.Name) -> Any:
        if node.id in self.names:
            return self.names[node.id]
        value = self.value(node)
        return UNKNOWN if value is UNKNOWN else type_of_value(value)

    def _namedexpr(self, node: ast.NamedExpr) -> Any:
        return self.of(node.value)

    def _starred(self, node: ast.Starred) -> Any:
        return UNKNOWN

    def _lambda(self, node: ast.Lambda) -> Any:
        return types.FunctionType

    def _tuple(self, node: ast.Tuple) -> Any:
        if any(isinstance(e, ast.Starred) for e in node.elts):
            return self._many(node.elts, lambda element: generic(tuple, element, ...))
        items = [self.of(e) for e in node.elts]
        return if_known(items, lambda: generic(tuple, *items))

    def _list(self, node: ast.List) -> Any:
        return self._many(node.elts, lambda element: generic(list, element))

    def _set(self, node: ast.Set) -> Any:
        return self._many(node.elts, lambda element: generic(set, element))

    def _many(self, elts: list[ast.expr], make: Callable[[Any], Any]) -> Any:
        items = [self._iterated(e.value) if isinstance(e, ast.Starred) else self.of(e) for e in elts]
        return if_known(items, lambda: make(merge(items)))

    def _dict(self, node: ast.Dict) -> Any:
        keys: list[Any] = []
        values: list[Any] = []
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                mapping = self.of(value)
                found = get_args(mapping) if get_origin(mapping) is dict else ()
                if mapping is BOTTOM:
                    return BOTTOM
                if len(found) != 2:
                    return UNKNOWN
                keys.append(found[0])
                values.append(found[1])
            else:
                keys.append(self.of(key))
                values.append(self.of(value))
        return if_known([*keys, *values], lambda: generic(dict, merge(keys), merge(values)))

    def _comprehended(self, node: Any, *parts: ast.expr) -> list[Any]:
        inner = Typing(dict(self.names), self.namespace, self.saga, self.sites)
        inner.own = self.own
        names: dict[str, Any] = dict(self.names)
        inner.names = names
        for generator in node.generators:
            bind_target(generator.target, inner._iterated(generator.iter), names)
            for test in generator.ifs:
                narrow(test, names, inner.value)
        return [inner.of(p) for p in parts]

    def _listcomp(self, node: ast.ListComp) -> Any:
        (element,) = self._comprehended(node, node.elt)
        return if_known([element], lambda: generic(list, element))

    def _setcomp(self, node: ast.SetComp) -> Any:
        (element,) = self._comprehended(node, node.elt)
        return if_known([element], lambda: generic(set, element))

    def _dictcomp(self, node: ast.DictComp) -> Any:
        key, value = self._comprehended(node, node.key, node.value)
        return if_known([key, value], lambda: generic(dict, key, value))

    def _generatorexp(self, node: ast.GeneratorExp) -> Any:
        return types.GeneratorType

    # -- operators -----------------------------------------------------------------------------------------

    def _compare(self, node: ast.Compare) -> Any:
        return bool

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not):
            return bool
        tp = self.of(node.operand)
        return int if tp is bool else tp

    def _boolop(self, node: ast.BoolOp) -> Any:
        found = [self.of(v) for v in node.values]
        if isinstance(node.op, ast.Or):  # what is None goes on to the next
            found[:-1] = [_without_none(tp) for tp in found[:-1]]
        return merge(found)

    def _ifexp(self, node: ast.IfExp) -> Any:
        return merge([self.of(node.body), self.of(node.orelse)])

    def _binop(self, node: ast.BinOp) -> Any:
        return self.binary(self.of(node.left), type(node.op), self.of(node.right))

    def binary(self, left: Any, op: type[ast.operator], right: Any) -> Any:
        """The type of `left op right`."""
        if BOTTOM in (left, right):
            return BOTTOM
        if UNKNOWN in (left, right):
            return UNKNOWN
        if Any in (left, right):
            return Any
        found = [
            arithmetic(a, op, b) for a in members(_without_none(left)) for b in members(_without_none(right))
        ]
        return merge(found) if found else UNKNOWN

    # -- access --------------------------------------------------------------------------------------------

    def _attribute(self, node: ast.Attribute) -> Any:
        if isinstance(node.value, ast.Name) and node.value.id == self.saga:
            return str if node.attr == "key" else UNKNOWN
        value = self.value(node)
        if value is not UNKNOWN:
            return type_of_value(value)
        return self.attribute(self.of(node.value), node.attr)

    def attribute(self, tp: Any, name: str) -> Any:
        """The type of `.name` of a value; of a union, of those members that have it."""
        if tp is BOTTOM or tp is UNKNOWN:
            return tp
        found = [
            f for f in (field(m, name) for m in members(tp) if m is not types.NoneType) if f is not UNKNOWN
        ]
        return merge(found) if found else UNKNOWN

    def _subscript(self, node: ast.Subscript) -> Any:
        tp = self.of(node.value)
        if tp is BOTTOM or tp is UNKNOWN:
            return tp
        found = [item(m, node.slice) for m in members(tp) if m is not types.NoneType]
        return merge(found) if found else UNKNOWN

    def _iterated(self, node: ast.expr) -> Any:
        """What a `for` over an expression gives."""
        return iterated(self.iterable(node))

    def iterable(self, node: ast.expr) -> Any:
        """The type of what a loop goes over; `enumerate`, `zip`, `reversed` as their own forms."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            func = _COMPOSED.get(node.func.id) or self.value(node.func)
            inner = [self.iterable(a) for a in node.args]
            if func is enumerate and inner:
                return if_known(inner[:1], lambda: generic(Enumerated, inner[0]))
            if func is reversed and inner:
                return if_known(inner[:1], lambda: generic(Backward, inner[0]))
            if func is zip:
                return if_known(inner, lambda: generic(Zipped, generic(tuple, *inner)))
            if func is iter and inner:
                return inner[0]
        if isinstance(node, ast.GeneratorExp):
            (element,) = self._comprehended(node, node.elt)
            return if_known([element], lambda: typing.Iterable[element])  # type: ignore[valid-type]
        return self.of(node)

    # -- calls ---------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Any:
        func = node.func
        if isinstance(func, ast.Name) and func.id.startswith("@"):
            return self._helper(func.id, node)
        if (
            isinstance(func, ast.Attribute)
            and isinstance(func.value, ast.Name)
            and func.value.id == self.saga
        ):
            if func.attr == "begin":
                return begun_type(node, self.sites)
            if func.attr == "link":
                return Link
            if func.attr == "tell":
                return _telling(node)
            return Op if func.attr in _OPERATIONS else types.NoneType
        value = self.value(func)
        if value is UNKNOWN and isinstance(func, ast.Name) and func.id in self.names:
            return UNKNOWN
        if value is not UNKNOWN:
            return self._result(value, node)
        if isinstance(func, ast.Attribute):
            found = self._method(self.of(func.value), func.attr)
            if func.attr in ("get", "pop") and len(node.args) == 2:  # of a dict, with a default
                return merge([_without_none(found), self.of(node.args[1])])
            return found
        return UNKNOWN

    def _helper(self, name: str, node: ast.Call) -> Any:
        if name in ("@str", "@repr", "@ascii"):
            return str
        if name == "@set":
            return set[Never]
        if name == "@slice":
            return slice
        if name in ("@matches", "@unwinds", "@bug"):
            return bool
        if name == "@handle":
            return Op
        if name in ("@cursor", "@named") and node.args:
            tp = self.iterable(node.args[0])
            return if_known([tp], lambda: Cursor[tp])  # type: ignore[valid-type]
        if name == "@take" and node.args:
            return iterated(self.of(node.args[0]))
        return bool if name == "@more" else UNKNOWN

    def _method(self, tp: Any, name: str) -> Any:
        if tp is BOTTOM or tp is UNKNOWN or tp is Any:
            return tp
        found: list[Any] = []
        for member in members(tp):
            if member is types.NoneType:
                continue
            origin = get_origin(member) or member
            if origin is Cursor:
                found.append(iterated(get_args(member)[0]) if name == "take" else bool)
                continue
            try:
                found.append(table.method(origin, get_args(member), member, name))
            except (KeyError, TypeError):
                found.append(declared_method(member, name))
        return merge([types.NoneType if f is None else f for f in found]) if found else UNKNOWN

    def _result(self, func: Any, node: ast.Call) -> Any:
        if isinstance(func, StepDef | SagaDef):
            return Op
        if isinstance(func, type) or isinstance(get_origin(func), type):
            return self._made(func, node)
        if is_kind(func.__class__, staticmethod, classmethod):
            return returned(func.__func__, Any)
        found = table.FUNCTIONS.get(func, UNKNOWN) if hashable(func) else UNKNOWN
        if found is not UNKNOWN:
            return types.NoneType if found is None else found
        if isinstance(func, types.BuiltinFunctionType):
            return self._builtin(func, node)
        if isinstance(func, types.MethodDescriptorType | types.ClassMethodDescriptorType):
            owner = func.__objclass__
            try:
                return table.method(owner, (), owner, func.__name__)
            except KeyError:
                return UNKNOWN
        return returned(func, UNKNOWN)

    def _builtin(self, func: Any, node: ast.Call) -> Any:
        args = [self.of(a) for a in node.args if not isinstance(a, ast.Starred)]
        if BOTTOM in args:
            return BOTTOM
        if func is sorted and node.args:
            element = self._iterated(node.args[0])
            return if_known([element], lambda: generic(list, element))
        if func in (max, min):
            if len(node.args) == 1:
                default = [self.of(k.value) for k in node.keywords if k.arg == "default"]
                return merge([self._iterated(node.args[0]), *default])
            return merge(args) if args else UNKNOWN
        if func is sum and node.args:
            start = self.of(node.args[1]) if len(node.args) > 1 else int
            element = self._iterated(node.args[0])
            return self.binary(merge([start, int]) if element is int else start, ast.Add, element)
        if func is abs and args:
            return int if args[0] is bool else args[0]
        if func is round and args:
            return args[0] if len(node.args) > 1 and args[0] is not bool else int
        if func is pow and len(args) == 2:
            return self.binary(args[0], ast.Pow, args[1])
        if func is next and args and (get_origin(args[0]) is Cursor):
            return iterated(get_args(args[0])[0])
        owner = getattr(func, "__self__", None)
        if isinstance(owner, type):
            try:
                return table.method(owner, (), owner, func.__name__)
            except KeyError:
                return UNKNOWN
        module = getattr(func, "__module__", "")
        if module in ("time", "math", "random", "_random"):
            return {"time": float, "monotonic": float, "time_ns": int, "floor": int, "ceil": int}.get(
                func.__name__, float if module == "math" else UNKNOWN
            )
        return UNKNOWN

    def _made(self, cls: Any, node: ast.Call) -> Any:
        """The type of `cls(...)`."""
        if cls in (list, set, frozenset, tuple) and node.args:
            element = self._iterated(node.args[0])
            return if_known(
                [element], lambda: generic(cls, *((element, ...) if cls is tuple else (element,)))
            )
        if cls in (list, set, frozenset):
            return generic(cls, Never)
        if cls is tuple:
            return tuple[()]
        if cls is dict:
            return self._made_dict(node)
        if cls is type:
            return type
        if cls in (enumerate, zip, reversed, map, filter):
            return cls
        if getattr(cls, "__parameters__", ()) and dataclasses.is_dataclass(cls):
            return self._generic(cls, node)
        return cls

    def _made_dict(self, node: ast.Call) -> Any:
        values = [self.of(k.value) for k in node.keywords if k.arg is not None]
        keys: list[Any] = [str] if values else []
        if node.args:
            tp = self.of(node.args[0])
            if tp is BOTTOM:
                return BOTTOM
            pair = get_args(tp) if get_origin(tp) is dict else get_args(self._iterated(node.args[0]))
            if len(pair) != 2:
                return UNKNOWN
            keys.append(pair[0])
            values.append(pair[1])
        return if_known([*keys, *values], lambda: generic(dict, merge(keys), merge(values)))

    def _generic(self, cls: Any, node: ast.Call) -> Any:
        """`Box(1)` is a `Box[int]`."""
        hints = typing.get_type_hints(cls)
        names = [f.name for f in dataclasses.fields(cls) if f.init]
        given = dict(zip(names, node.args, strict=False))
        given.update({k.arg: k.value for k in node.keywords if k.arg is not None})
        bound: dict[Any, Any] = {}
        for name, value in given.items():
            if isinstance(hints.get(name), TypeVar):
                bound.setdefault(hints[name], self.of(value))
        if BOTTOM in bound.values():
            return BOTTOM
        args = tuple(bound.get(p, Any) for p in cls.__parameters__)
        return UNKNOWN if UNKNOWN in args else cls[args]

    # -- with, match ---------------------------------------------------------------------------------------

    def entered(self, node: ast.expr) -> Any:
        """What `with value as name` binds."""
        tp = self.of(node)
        if tp is BOTTOM or tp is UNKNOWN:
            return tp
        return declared_method(tp, "__enter__")

    def captures(self, pattern: ast.pattern, subject: Any) -> dict[str, Any]:
        """The names that a pattern binds, for a subject of a type."""
        names: dict[str, Any] = {}
        self._pattern(pattern, subject, names)
        return names

    def _pattern(self, pattern: ast.pattern, subject: Any, names: dict[str, Any]) -> Any:
        """Bind captures; gives the type of a subject that matches."""
        if isinstance(pattern, ast.MatchAs):
            inner = subject if pattern.pattern is None else self._pattern(pattern.pattern, subject, names)
            if pattern.name is not None:
                names[pattern.name] = merge([names[pattern.name], inner]) if pattern.name in names else inner
            return inner
        if isinstance(pattern, ast.MatchOr):
            return merge([self._pattern(p, subject, names) for p in pattern.patterns])
        if isinstance(pattern, ast.MatchClass):
            return self._class_pattern(pattern, subject, names)
        if isinstance(pattern, ast.MatchSequence):
            self._sequence_pattern(pattern, subject, names)
            return subject
        if isinstance(pattern, ast.MatchMapping):
            self._mapping_pattern(pattern, subject, names)
            return subject
        if isinstance(pattern, ast.MatchSingleton):
            return type(pattern.value)
        return subject

    def _class_pattern(self, pattern: ast.MatchClass, subject: Any, names: dict[str, Any]) -> Any:
        cls = self.value(pattern.cls)
        if not isinstance(cls, type):
            return UNKNOWN
        known = [m for m in members(subject) if m not in (BOTTOM, UNKNOWN, Any)]
        narrowed = [m for m in known if (get_origin(m) or m) is cls or _below(m, cls)]
        matched = merge(narrowed) if narrowed else cls
        fields: tuple[str, ...] = getattr(cls, "__match_args__", ())
        for place, inner in enumerate(pattern.patterns):
            plain = cls in (bool, bytes, bytearray, dict, float, frozenset, int, list, set, str, tuple)
            part = (
                matched
                if plain
                else self.attribute(matched, fields[place])
                if place < len(fields)
                else UNKNOWN
            )
            self._pattern(inner, part, names)
        for name, inner in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
            self._pattern(inner, self.attribute(matched, name), names)
        return matched

    def _sequence_pattern(self, pattern: ast.MatchSequence, subject: Any, names: dict[str, Any]) -> None:
        sequences = [m for m in _solid(subject) if (get_origin(m) or m) not in (str, bytes, dict, set, int)]
        tp = merge(sequences) if sequences else subject
        elts: list[ast.expr] = [
            ast.Starred(ast.Name("_"), ast.Store()) if isinstance(p, ast.MatchStar) else ast.Name("_")
            for p in pattern.patterns
        ]
        for place, inner in enumerate(pattern.patterns):
            fitting = [m for m in _solid(tp) if _length_fits(m, elts)]
            part = part_type(merge(fitting) if fitting else tp, place, elts)
            if isinstance(inner, ast.MatchStar):
                if inner.name is not None:
                    names[inner.name] = part
            else:
                self._pattern(inner, part, names)

    def _mapping_pattern(self, pattern: ast.MatchMapping, subject: Any, names: dict[str, Any]) -> None:
        for key, inner in zip(pattern.keys, pattern.patterns, strict=True):
            found = [
                item(m, key)
                for m in _solid(subject)
                if (get_origin(m) or m) is dict or hasattr(m, "__required_keys__")
            ]
            self._pattern(inner, merge(found) if found else UNKNOWN, names)
        if pattern.rest is not None:
            dicts = [m for m in _solid(subject) if get_origin(m) is dict]
            names[pattern.rest] = merge(dicts) if dicts else UNKNOWN


def _without_none(tp: Any) -> Any:
    """A union without None; another type as it is."""
    if tp is BOTTOM or tp is UNKNOWN:
        return tp
    kept = [m for m in members(tp) if m is not types.NoneType]
    return merge(kept) if kept and len(kept) < len(members(tp)) else tp


def _solid(tp: Any) -> list[Any]:
    return [m for m in members(tp) if m not in (BOTTOM, UNKNOWN, types.NoneType)]


def _below(tp: Any, cls: type) -> bool:
    origin = get_origin(tp) or tp
    return isinstance(origin, type) and issubclass(origin, cls)


def _length_fits(tp: Any, elts: list[ast.expr]) -> bool:
    args = get_args(tp)
    if get_origin(tp) is not tuple or Ellipsis in args:
        return True
    if any(isinstance(e, ast.Starred) for e in elts):
        return len(args) >= len(elts) - 1
    return len(args) == len(elts)


def _telling(node: ast.Call) -> Any:
    """What `s.tell` gives: a handle where the message leaves later."""
    after = next((k.value for k in node.keywords if k.arg == "after"), None)
    if after is None or (isinstance(after, ast.Constant) and after.value is None):
        return types.NoneType
    return Telling if isinstance(after, ast.Constant) else Telling | None
