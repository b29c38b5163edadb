"""Types of a saga's locals and hidden slots, and the slots with their codecs; what cannot be stored is refused (A6).

A name's type is what its annotation says, else the union of what is bound to it anywhere. Inference runs in rounds until
nothing changes; whatever is then unknown and alive across an await is CP201.
"""

from __future__ import annotations

import ast
import types as kinds
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin

from contrapas.author.op import Op
from contrapas.author.step import StepDef
from contrapas.author.timeout import Timeout
from contrapas.codec.builder import type_text
from contrapas.codec.handles import holds_handles
from contrapas.codec.kinds import generic, is_kind
from contrapas.codec.registry import Registry
from contrapas.compiler import trees
from contrapas.compiler.handles import check_handle, check_travel, results_of
from contrapas.compiler.refusals import Refusals
from contrapas.compiler.type_rules import BOTTOM, UNKNOWN, bind_target, iterated, members, merge, settle
from contrapas.compiler.typeof import Typing
from contrapas.errors import DataError
from contrapas.machine import Refusal, Slot
from contrapas.machine.ir import Await, Facts, Hidden, Program, Site, UndoSite

ROUNDS: Final = 12
_GROWS: Final = {
    "append": 0,
    "add": 0,
    "appendleft": 0,
    "insert": 1,
    "extend": -1,
    "update": -1,
    "extendleft": -1,
}


def infer(program: Program, registry: Registry | None = None) -> dict[str, Any]:
    """Type of every local and hidden variable; `UNKNOWN` where nothing tells.

    registry: exceptions named in handlers and raises are registered there, so that a handler may await.
    """
    inference = _Inference(program)
    if registry is not None:
        for cls in _exceptions(program, inference.typing):
            registry.add_exception(cls)
    return inference.run()


def slots(
    program: Program, facts: Facts, types: Mapping[str, Any], registry: Registry, *, strict: bool = True
) -> tuple[dict[str, Slot], list[Refusal]]:
    """A slot for every variable that may be bound at some await; without codec for one that is dead at all of them.

    By variable; a hidden one carries its stable name from alignment. What is alive across an await and cannot be stored
    is refused: CP201, CP202, CP204, CP206, what travels with operations CP205, CP208; CP203 is a warning. strict: an
    unknown type is refused; else the value passes if it is JSON-shaped, and is checked when it is encoded.
    """
    refusals = Refusals(program.file, program.source)
    _check_signature(program, registry, refusals)
    _check_operations(program, registry, refusals)
    found: dict[str, Slot] = {}
    live = frozenset[str]().union(*facts.live.values())
    bound = frozenset[str]().union(*facts.bound.values()) | frozenset(program.params)
    for name in (*program.locals, *program.hidden):
        if name not in bound and name not in live:
            continue
        hidden = program.hidden.get(name)
        if name in program.recreated or name in program.aliases or (hidden is not None and name not in live):
            continue
        tp = settle(types.get(name, UNKNOWN))
        codec, text = None, "?" if tp is UNKNOWN else type_text(tp)
        why = _reason(tp, registry)
        if not why:
            codec = registry.codec(tp)
            text = codec.type_text
            if name in live:
                _unregistered(program, name, tp, registry, refusals)
        elif name in live and tp is UNKNOWN and not strict:
            codec, text = registry.any, "json"
        elif name in live:
            _refuse(program, facts, name, tp, why, refusals)
        found[name] = Slot(
            name=name if hidden is None else hidden.slot or name,
            role="local" if hidden is None else hidden.role,
            type_text=text,
            codec=codec,
            frozen=codec is not None and codec.frozen,
        )
    return found, refusals.in_order()


def captures(
    program: Program, site: UndoSite, types: Mapping[str, Any], registry: Registry
) -> tuple[tuple[Slot, ...], list[Refusal]]:
    """The slots of the names that an `undo=` copies at issue. CP202 for one that cannot be stored."""
    refusals = Refusals(program.file, program.source)
    made: list[Slot] = []
    for name in site.captures:
        tp = settle(types.get(name, UNKNOWN))
        if not check_travel(refusals, _place(site.line, site.column), "undo=", tp):
            continue
        why = _reason(tp, registry)
        if why:
            at = _place(site.line, site.column)
            refusals.add(
                at, "CP202", f"undo= needs `{name}` later, but {why}", "capture its id, or annotate it"
            )
            continue
        codec = registry.codec(tp)
        made.append(Slot(name=name, type_text=codec.type_text, codec=codec, frozen=codec.frozen))
    return tuple(made), refusals.in_order()


def _check_signature(program: Program, registry: Registry, refusals: Refusals) -> None:
    """Parameters travel with the start, the result with the outcome."""
    for name in (*program.params, "return"):
        if name in program.hints and program.hints[name] is not Any:
            at = _binding(program, name) or program.node
            if not check_travel(refusals, at, name, program.hints[name]):
                continue
            try:
                registry.add(program.hints[name])
            except DataError as why:
                fix = why.fix or "a model, a dataclass or a plain type"
                refusals.add(_binding(program, name) or program.node, why.code, f"{name}: {why.text}", fix)


def _check_operations(program: Program, registry: Registry, refusals: Refusals) -> None:
    """Register what travels with every operation: commands, replies, arguments and results of steps."""
    for site in program.sites:
        stack = [site]
        while stack:
            one = stack.pop()
            stack.extend(one.children)
            at = _place(one.line, one.column)
            if one.kind == "result":
                check_handle(refusals, at, one)
            if not all(check_travel(refusals, at, one.operation, tp) for tp in (*one.arguments, one.result)):
                continue
            try:
                for tp in (*one.arguments, *one.replies):
                    if tp is not Any:
                        registry.add(tp)
                target: Any = one.target
                for choice in one.choices:
                    registry.add_step(choice)
                if one.kind in ("local", "map") and isinstance(one.target, StepDef):
                    registry.add_step(target)
            except DataError as why:
                code = "CP205" if why.code == "CP843" else why.code
                fix = why.fix or "a model, a dataclass or a plain type"
                refusals.add(at, code, f"{one.operation}: {why.text}", fix)


def _unregistered(program: Program, name: str, tp: Any, registry: Registry, refusals: Refusals) -> None:
    """CP203. A warning for a variable that may hold anything: what it does not know is kept as `OpaqueError`."""
    if name in program.hidden:
        return
    for member in members(tp):
        if not is_kind(member, BaseException):
            continue
        at = _binding(program, name) or program.node
        if member in (BaseException, Exception):
            text = f"`{name}` may hold any exception: one of an unregistered class comes back as OpaqueError"
            fix = "name the classes that you expect, or keep str(…) of it"
            refusals.add(at, "CP203", text, fix, warning=True)
        elif registry.name_of(member) is None:
            text = f"`{name}` may hold a {member.__name__}, which is not registered: it would come back as OpaqueError"
            fix = (
                f"name {member.__name__} in an except or a raise of this saga, or convert it before the await"
            )
            refusals.add(at, "CP203", text, fix)


def _exceptions(program: Program, typing_: Typing) -> list[type[BaseException]]:
    """Exception classes that the source names in handlers and raises."""
    found: dict[type[BaseException], None] = {}
    for node in program.nodes:
        named: list[ast.expr] = []
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            named = list(node.type.elts) if isinstance(node.type, ast.Tuple) else [node.type]
        elif isinstance(node, ast.Raise):
            named = [
                n.func if isinstance(n, ast.Call) else n for n in (node.exc, node.cause) if n is not None
            ]
        for one in named:
            value = typing_.value(one)
            several: Any = value if value.__class__ is tuple else (value,)
            for cls in several:
                if is_kind(cls, BaseException):
                    found.setdefault(cls)
    return list(found)


class _Inference:
    """The rounds."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.fixed: dict[str, Any] = {}
        self.names: dict[str, Any] = {}
        self.log: list[tuple[str, Any]] = []
        """What the statement at hand tells."""
        for name in program.params:
            if name in program.hints:
                self.fixed[name] = program.hints[name]
        for name, hidden in program.hidden.items():
            if hidden.type is not None:
                self.fixed[name] = hidden.type
        # `x = @in` stands where an await goes on; what it gives is the site's result, bound in `run`.
        self.own = frozenset(program.locals) | frozenset(program.hidden) | {"@in"}
        self.typing = Typing(self.names, program.namespace, program.saga_name, program.sites)
        self.typing.own = self.own
        for node in program.nodes:
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and node.target.id in self.own
            ):
                self._declare(node.target.id, node.annotation)
        self.handlers = _handler_types(program, self.typing)
        for name, hidden in program.hidden.items():
            if hidden.role == "exc":
                self.fixed[name] = self._handled_at(hidden)

    def _declare(self, name: str, annotation: ast.expr) -> None:
        known, further = self.program.namespace, vars(typing)
        try:
            if isinstance(annotation, ast.Name):
                hint = known[annotation.id] if annotation.id in known else further[annotation.id]
            else:
                source = annotation.value if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
                code = compile(str(source), "<annotation>", "eval")
                scope = {
                    n: known[n] if n in known else further[n]
                    for n in code.co_names
                    if n in known or n in further
                }
                hint = eval(code, self.program.fn.__globals__, scope)
        except Exception:  # noqa: BLE001  an annotation is the author's code
            return
        if get_origin(hint) is typing.Final:
            hint = get_args(hint)[0]
        if hint is not typing.Final:
            self.fixed[name] = hint

    def _handled_at(self, hidden: Hidden) -> Any:
        """What can be handled while an await stands in a handler of this `try`: what its handlers take."""
        if hidden.hint != "except":
            return BaseException
        for node in self.program.nodes:
            if isinstance(node, ast.Try) and (node.lineno, node.col_offset) == (hidden.line, hidden.column):
                return merge([_caught(h.type, self.typing) for h in node.handlers])
        return BaseException

    def run(self) -> dict[str, Any]:
        self.names.update({name: BOTTOM for name in self.own})
        self.names.update(self.fixed)
        nodes = [node for node in _statements(self.program) if _tells(node)]
        told: list[list[tuple[str, Any]]] = [[] for _ in nodes]
        reads: list[frozenset[str]] = []
        changed: frozenset[str] | None = None
        before: dict[str, Any] = {}
        for _ in range(ROUNDS):
            before = dict(self.names)
            self.found: dict[str, list[Any]] = {}
            for place, node in enumerate(nodes):
                if changed is not None and changed.isdisjoint(reads[place]):  # it tells what it told before
                    for name, tp in told[place]:
                        self.found.setdefault(name, []).append(tp)
                    continue
                self.log = told[place] = []
                self._statement(node)
            for block in self.program.blocks.values():
                if isinstance(block.term, Await) and block.term.into:
                    result = self._given(self.program.sites[block.term.site - 1], block.term.op)
                    self._bind(block.term.into, kinds.NoneType if result is None else result)
            for name, found in self.found.items():
                if name not in self.fixed:
                    self.names[name] = merge(found)
            if self.names == before:
                break
            changed = frozenset(n for n, tp in self.names.items() if not _alike(before.get(n), tp))
            reads = reads or [_reads(node) for node in nodes]
        else:
            for name in self.own - self.fixed.keys():
                if self.names[name] != before[name]:
                    self.names[name] = UNKNOWN
        for block in self.program.blocks.values():
            if isinstance(block.term, Await):
                site = self.program.sites[block.term.site - 1]
                given = self._given(site, block.term.op)
                site.result = Any if given is BOTTOM or given is UNKNOWN else given
                if site.kind not in ("result", "next"):
                    self._handed_on(site, block.term.op)
        return {name: UNKNOWN if tp is BOTTOM else tp for name, tp in self.names.items()}

    def _handed_on(self, site: Site, op: ast.expr) -> None:
        """CP115 wants to know which operations are given a handle."""
        for node in trees.walk(op):
            if isinstance(node, ast.Call):
                for value in (*node.args, *[keyword.value for keyword in node.keywords]):
                    inner = value.value if isinstance(value, ast.Starred) else value
                    tp = self.typing.of(inner)
                    if tp is not BOTTOM and tp is not UNKNOWN and holds_handles(tp):
                        site.arguments = (*site.arguments, tp)

    def _given(self, site: Site, op: ast.expr) -> Any:
        """What an await gives; of an operation in flight, its handle tells."""
        if site.kind not in ("result", "next") or not isinstance(op, ast.Call):
            return site.result
        found: list[Any] = []
        for argument in op.args:
            several = isinstance(argument, ast.Starred)
            tp = iterated(self.typing.iterable(argument.value)) if isinstance(argument, ast.Starred) else None
            found.append(tp if several else self.typing.of(argument))
        held = merge(found)
        if site.kind == "result":
            site.target = held
            return results_of(held)
        if held is BOTTOM or held is UNKNOWN:
            return held
        return merge([held, Timeout]) if site.has_within else held

    def _bind(self, name: str, tp: Any) -> None:
        if tp is not BOTTOM:
            self.found.setdefault(name, []).append(tp)
            self.log.append((name, tp))

    def _target(self, target: ast.expr, tp: Any) -> None:
        if isinstance(target, ast.Subscript):
            self._store_item(target, tp)
            return
        names: dict[str, Any] = {}
        bind_target(target, tp, names)
        for name, part in names.items():
            self._bind(name, part)
        for inner in trees.walk(target):
            if isinstance(inner, ast.Subscript):
                self._store_item(inner, UNKNOWN)

    def _store_item(self, target: ast.Subscript, tp: Any) -> None:
        """`d[k] = v` tells the elements of a local whose display told none."""
        if not isinstance(target.value, ast.Name) or tp is UNKNOWN or tp is BOTTOM:
            return
        held = self.names.get(target.value.id, BOTTOM)
        for member in members(held) if held not in (BOTTOM, UNKNOWN) else ():
            origin = get_origin(member)
            if origin is dict:
                key = self.typing.of(target.slice)
                if key not in (BOTTOM, UNKNOWN):
                    self._bind(target.value.id, generic(dict, key, tp))
            elif origin is list and not isinstance(target.slice, ast.Slice):
                self._bind(target.value.id, generic(list, tp))

    def _statement(self, node: ast.AST) -> None:
        of = self.typing.of
        if isinstance(node, ast.Call):
            self._grow(node)
        elif isinstance(node, ast.Assign):
            if not hasattr(node, "lineno"):
                return  # the compiler's own: `why = None; del why`
            tp = self._handled(node) or of(node.value)
            for target in node.targets:
                self._target(target, tp)
        elif isinstance(node, ast.AugAssign):
            self._target(
                node.target, self.typing.binary(of(_loaded(node.target)), type(node.op), of(node.value))
            )
        elif isinstance(node, ast.AnnAssign) and node.value is not None or isinstance(node, ast.NamedExpr):
            self._target(node.target, of(node.value))
        elif isinstance(node, ast.For):
            self._target(node.target, iterated(self.typing.iterable(node.iter)))
        elif isinstance(node, ast.ExceptHandler) and node.name:
            self._bind(node.name, _caught(node.type, self.typing))
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._target(node.optional_vars, self.typing.entered(node.context_expr))
        elif isinstance(node, ast.Match):
            subject = of(node.subject)
            for case in node.cases:
                for name, tp in self.typing.captures(case.pattern, subject).items():
                    self._bind(name, tp)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._bind(node.name, kinds.FunctionType)
        elif isinstance(node, ast.ClassDef):
            self._bind(node.name, type)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                self._bind(alias.asname or alias.name.partition(".")[0], UNKNOWN)

    def _handled(self, node: ast.Assign) -> Any:
        """`why = @exc1`: the types of the handlers that bind `why`."""
        if not isinstance(node.value, ast.Name) or not isinstance(node.targets[0], ast.Name):
            return None
        hidden = self.program.hidden.get(node.value.id)
        if hidden is None or hidden.role != "exc":
            return None
        return self.handlers.get(node.targets[0].id)

    def _grow(self, node: ast.Call) -> None:
        """`xs.append(x)` and its like tell the elements of `xs`."""
        func = node.func
        if not isinstance(func, ast.Attribute) or not isinstance(func.value, ast.Name):
            return
        held = self.names.get(func.value.id, UNKNOWN)
        if held in (BOTTOM, UNKNOWN):
            return
        for member in members(held):
            origin = get_origin(member)
            if origin is dict and func.attr == "setdefault" and len(node.args) == 2:
                key, value = self.typing.of(node.args[0]), self.typing.of(node.args[1])
                if not {BOTTOM, UNKNOWN} & {_mark(key), _mark(value)}:
                    self._bind(func.value.id, generic(dict, key, value))
            place = _GROWS.get(func.attr)
            if place is None or not node.args:
                continue
            if origin is dict and func.attr == "update":
                other = self.typing.of(node.args[0])
                if get_origin(other) is dict:
                    self._bind(func.value.id, other)
                continue
            if origin not in (list, set) and getattr(origin, "__name__", "") != "deque":
                continue
            argument = node.args[place] if place < len(node.args) else node.args[-1]
            item = iterated(self.typing.iterable(argument)) if place < 0 else self.typing.of(argument)
            if item not in (BOTTOM, UNKNOWN):
                self._bind(func.value.id, generic(origin, item))


def _alike(a: Any, b: Any) -> bool:
    """Equal, and read alike: unions are equal in any order."""
    return a is b or (a == b and repr(a) == repr(b))


def _mark(tp: Any) -> Any:
    return tp if tp in (BOTTOM, UNKNOWN) else None


_TELLING: Final = frozenset((
    ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr, ast.For, ast.ExceptHandler, ast.withitem, ast.Match,
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Call,
))  # fmt: skip
"""Nodes that tell the type of a name."""


def _tells(node: ast.AST) -> bool:
    """Whether it may tell the type of a name: of calls, those that put something into a container."""
    kind = node.__class__
    if kind is not ast.Call:
        return kind in _TELLING
    func: Any = node.__dict__["func"]
    return isinstance(func, ast.Attribute) and (func.attr in _GROWS or func.attr == "setdefault")


def _reads(node: ast.AST) -> frozenset[str]:
    """Names on whose types it depends what a node tells."""
    parts: list[ast.AST] = [node]
    if isinstance(node, ast.For):
        parts = [node.target, node.iter]
    elif isinstance(node, ast.Match):
        parts = [node.subject, *[case.pattern for case in node.cases]]
    elif isinstance(node, ast.ExceptHandler):
        parts = [] if node.type is None else [node.type]
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        parts = []
    return frozenset(n.id for part in parts for n in trees.walk(part) if isinstance(n, ast.Name))


_CLOSED: Final = frozenset((ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda))


def _statements(program: Program) -> Iterator[ast.AST]:
    """Every node of the native statements and terminators, without the inside of inner functions."""
    for block in program.blocks.values():
        stack: list[ast.AST] = list(block.native)
        for word in ("test", "value", "op", "stmt"):
            part = getattr(block.term, word, None)
            if isinstance(part, ast.AST):
                stack.append(part)
        for node in stack:  # grows meanwhile: breadth first
            yield node
            if node.__class__ not in _CLOSED:
                stack.extend(trees.children(node))


def _loaded(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    if isinstance(target, ast.Attribute):
        return ast.Attribute(target.value, target.attr, ast.Load())
    if isinstance(target, ast.Subscript):
        return ast.Subscript(target.value, target.slice, ast.Load())
    return target


def _handler_types(program: Program, typing_: Typing) -> dict[str, Any]:
    """Name -> union of the types of all handlers that bind it."""
    found: dict[str, list[Any]] = {}
    for node in program.nodes:
        if isinstance(node, ast.ExceptHandler) and node.name:
            found.setdefault(node.name, []).append(_caught(node.type, typing_))
    return {name: merge(types) for name, types in found.items()}


def _caught(node: ast.expr | None, typing_: Typing) -> Any:
    """What a handler of these types catches."""
    if node is None:
        return BaseException
    if isinstance(node, ast.Tuple):
        return merge([_caught(e, typing_) for e in node.elts])
    value: Any = typing_.value(node)
    if value.__class__ is tuple:
        return merge([v for v in value if isinstance(v, type)]) if value else BaseException
    return value if isinstance(value, type) and issubclass(value, BaseException) else BaseException


def _reason(tp: Any, registry: Registry) -> str:
    """Why values of a type cannot be stored; empty when they can."""
    if tp is UNKNOWN:
        return "its type is not known"
    return registry.can_store(tp)


def _refuse(program: Program, facts: Facts, name: str, tp: Any, why: str, refusals: Refusals) -> None:
    site = next(s for s in program.sites if name in facts.live.get(s.index, ()))
    hidden = program.hidden.get(name)
    if hidden is not None:
        at = _place(hidden.line, hidden.column)
        if _operates(tp):
            text = f"the operation `{_cut(hidden.text)}` is built before the await of {site.text} in line {site.line}"
            refusals.add(at, "CP206", text, "do what it waits for first, on a line of its own")
            return
        refusals.add(
            at,
            "CP204",
            f"the value of `{_cut(hidden.text or hidden.hint)}` is needed after the await of {site.text} in line "
            f"{site.line}, but {why}",
            "assign its parts on separate lines, with an annotation",
        )
        return
    at = _binding(program, name) or _place(site.line, site.column)
    until = f"`{name}` is needed after the await of {site.text} in line {site.line}"
    if tp is UNKNOWN:
        refusals.add(
            at,
            "CP201",
            f"{until}, but its type is not known",
            f"annotate it: `{name}: … = …`, or end its life before",
        )
    elif _operates(tp):
        refusals.add(
            at, "CP206", f"{until}, but it holds an operation", "build the operation where it is awaited"
        )
    else:
        refusals.add(at, "CP202", f"{until}, but {why}", "keep its id, or make it again after the await")


def _operates(tp: Any) -> bool:
    """An operation, or a container of some."""
    return (get_origin(tp) or tp) is Op or any(_operates(m) for m in get_args(tp))


def _binding(program: Program, name: str) -> ast.AST | None:
    """The first statement that binds a name."""
    if name == "return":
        return None
    if name in program.params and not any(getattr(stmt, "name", "") == name for stmt in program.node.body):
        args = program.node.args
        every = (*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg)
        return next((arg for arg in every if arg is not None and arg.arg == name), None)
    for node in program.nodes:
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            return node
        if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name == name:
            return node
        if isinstance(node, ast.arg) and node.arg == name:
            return node
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    return None


def _place(line: int, column: int) -> ast.AST:
    node = ast.Pass()
    node.lineno, node.col_offset = line, column
    return node


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
