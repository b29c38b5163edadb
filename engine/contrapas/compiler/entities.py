"""Entities: each handler compiled like a saga, and around them one machine that takes one call after the other.

A handler becomes `(s, self, …) -> (self, result)`: the fields come back with the result, and a handler that fails leaves
them as they were. The machine around it waits for calls, runs one as a called saga in a scope of its own, and replies.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import types
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Union, cast

from contrapas.author.entity import Call, Entity, EntitySpec, keyed, look, spec_of
from contrapas.author.op import Op
from contrapas.author.saga import Saga, SagaDef
from contrapas.author.timeout import Timeout
from contrapas.compiler.refusals import Refusals
from contrapas.errors import Cancelled, DataError, StepFailed
from contrapas.machine import AWAIT, DONE, Machine, Refusal, Slot, State

if TYPE_CHECKING:
    from contrapas.codec.registry import Registry

IDLE: Final = "idle"
UNWIND: Final = "unwind"
QUEUE_MAX: Final = 1_000
"""Calls that wait for their turn."""
_SAGA: Final = "@saga"


class HandlerSaga(SagaDef[..., Any]):
    """A handler as the saga that it is compiled as."""

    def __init__(self, spec: EntitySpec, call: Call) -> None:
        super().__init__(call.definition.fn, name=call.command.__contrapas_name__)
        self.call = call
        self.entity = spec.cls

    @property
    def saga_name(self) -> str:
        """Name of the first parameter of what is compiled."""
        return self.call.saga or _SAGA

    def hints(self) -> dict[str, Any]:
        """Annotations of what is compiled."""
        hints = dict(self.call.hints)
        result = hints.pop("return")
        whole = types.GenericAlias(tuple, (self.entity, types.NoneType if result is None else result))
        return {self.saga_name: Saga, "self": self.entity, **hints, "return": whole}

    def reshape(self, node: ast.AsyncFunctionDef, refusals: Refusals) -> None:
        """Change the tree of the handler, in place."""
        args = node.args
        if not args.args or args.args[0].arg != "self":
            refusals.add(
                node, "CP124", f"{self.name}: the first parameter is not self", "async def name(self, …)"
            )
            return
        rest = args.args[2:] if self.call.saga else args.args[1:]
        first, me = ast.arg(self.saga_name, _name("Saga", node)), ast.arg("self", _name("Entity", node))
        for made in (first, me):
            ast.copy_location(made, node)
        args.args = [first, me, *rest]
        _Fields(self.saga_name, refusals, self.entity.__name__).visit_body(node.body)
        if not node.body or not isinstance(node.body[-1], ast.Return | ast.Raise):
            last = ast.Return(_pair(None, node.body[-1] if node.body else node))
            node.body.append(ast.copy_location(last, node.body[-1] if node.body else node))
        ast.fix_missing_locations(node)


def _name(text: str, at: ast.AST) -> ast.Name:
    return ast.copy_location(ast.Name(text, ast.Load()), at)


def _pair(value: ast.expr | None, at: ast.AST) -> ast.Tuple:
    made = ast.Tuple([_name("self", at), value or ast.Constant(None)], ast.Load())
    return ast.copy_location(made, at)


class _Fields(ast.NodeTransformer):
    """`return x` gives the fields too; `self.key` is the saga's key; what an entity cannot do is refused."""

    def __init__(self, saga: str, refusals: Refusals, owner: str) -> None:
        self.saga = saga
        self.refusals = refusals
        self.owner = owner
        self.inner = 0

    def visit_body(self, body: list[ast.stmt]) -> None:
        """All statements of a handler."""
        for at, stmt in enumerate(body):
            body[at] = self.visit(stmt)

    def _nested(self, node: Any) -> Any:
        self.inner += 1
        found = self.generic_visit(node)
        self.inner -= 1
        return found

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = _nested

    def visit_Return(self, node: ast.Return) -> ast.AST:
        """Give the fields too."""
        self.generic_visit(node)
        if not self.inner:
            node.value = _pair(node.value, node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`self.key`, mangled names, the pivot."""
        self.generic_visit(node)
        name = node.attr
        if name.startswith("__") and not name.endswith("__"):
            text = f"{name} is mangled in a class, and not in a compiled handler"
            self.refusals.add(node, "CP122", text, "one underscore, or a module-level function")
        if isinstance(node.value, ast.Name) and node.value.id == self.saga and name == "point_of_no_return":
            self.refusals.add(
                node, "CP119", "an entity has no point of no return: it goes on", "leave it out"
            )
        if isinstance(node.value, ast.Name) and node.value.id == "self" and name == "key":
            if not isinstance(node.ctx, ast.Load):
                self.refusals.add(node, "CP122", "the key of an entity does not change", "another field")
            node.value = _name(self.saga, node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Mangled names."""
        if node.id.startswith("__") and not node.id.endswith("__"):
            self.refusals.add(node, "CP122", f"{node.id} is mangled in a class", "another name")
        if node.id == "self" and not isinstance(node.ctx, ast.Load):
            self.refusals.add(node, "CP122", "self is rebound: the fields would be lost", "set its fields")
        return node


def handlers_of(cls: type[Entity]) -> list[HandlerSaga]:
    """The handlers of an entity, to be compiled with the sagas. DataError CP124 for a signature that is not complete."""
    spec = spec_of(cls)
    return [HandlerSaga(spec, call) for call in spec.calls.values() if not call.definition.query]


def with_key(machine: Machine) -> Machine:
    """A handler's machine, so that methods that the handler calls know the key too."""
    inner = machine.function
    if inner is None:
        return machine

    def function(
        pc: int, value: Any, thrown: BaseException | None, slots: Any, s: Saga, *ambients: Any
    ) -> Any:
        with keyed(s.key):
            return inner(pc, value, thrown, slots, s, *ambients)

    return replace(machine, function=function)


def check(cls: type[Entity], registry: Registry) -> list[Refusal]:
    """What is wrong with the fields and queries of an entity."""
    spec = spec_of(cls)
    found: list[Refusal] = []
    file, line = _place(cls)

    def refuse(code: str, text: str, fix: str) -> None:
        found.append(Refusal(code=code, text=text, fix=fix, file=file, line=line, column=1))

    for name, info in cls.model_fields.items():
        if info.is_required():
            refuse(
                "CP124",
                f"{spec.name}.{name} has no default: an entity begins by its first call",
                f"{name}: … = …",
            )
    why = registry.can_store(cls)
    if why:
        refuse("CP205", f"{spec.name}: {why}", "fields of models, dataclasses and plain types")
    try:
        if not spec.calls:
            refuse("CP124", f"{spec.name} has no handler", "@handler above an async def")
        for call in spec.calls.values():
            registry.add_message(call.command)
    except DataError as bad:
        refuse(bad.code, bad.text, bad.fix or "models, dataclasses and plain types")
    return found


def _place(cls: type[Any]) -> tuple[str, int]:
    try:
        return inspect.getsourcefile(cls) or "", _lines(cls)[1]
    except (OSError, TypeError):
        return "", 1


def entity_machine(cls: type[Entity], registry: Registry) -> Machine:
    """The machine that takes one call after the other."""
    spec = spec_of(cls)
    calls = list(spec.calls.values())
    names = tuple(c.command.__contrapas_name__ for c in calls)
    commands = tuple(c.command for c in calls)
    slots = {
        "self": _slot("self", cls, registry),
        "call": _slot("call", Union[commands], registry),  # noqa: UP007
        "why": _slot("why", str, registry),
        "unknown": _slot("unknown", bool, registry),
    }
    states = [_state(IDLE, "wait", 1, f"wait {'|'.join(names)}", ("self",), takes=names)]
    number = 2
    index: dict[type[Any], int] = {}
    for call in calls:
        if not call.definition.query:
            index[call.command] = number
            name = call.command.__contrapas_name__
            states.append(_state(name, "frame", number, f"frame {name}", ("self", "call"), scopes=1))
            number += 1
    states.append(_state(UNWIND, "unwind", number, "unwind", ("self", "call", "why", "unknown"), scopes=1))
    by_index: list[State | None] = [None] * (number + 1)
    for state in states:
        by_index[state.index] = state
    later = frozenset(names)
    return Machine(
        name=spec.name,
        graph=hashlib.sha256(f"entity {spec.name}".encode()).hexdigest()[
            :6
        ],  # calls come and go, the fields stay
        params=(Slot(name="call", type_text=slots["call"].type_text, codec=slots["call"].codec),),
        starts=names,
        states={s.label: s for s in states},
        by_index=tuple(by_index),
        slots=slots,
        later={label: later for label in ("START", *(s.label for s in states))},
        function=_function(spec, index, number),
        retention_ms=0,
        again="deliver",
        queue=QUEUE_MAX,
        entity=cls,
        file=_place(cls)[0],
        line=_place(cls)[1],
    )


def _slot(name: str, tp: Any, registry: Registry) -> Slot:
    codec = registry.codec(tp)
    return Slot(name=name, type_text=codec.type_text, codec=codec, frozen=codec.frozen)


def _state(
    label: str,
    kind: str,
    index: int,
    operation: str,
    slots: tuple[str, ...],
    *,
    takes: tuple[str, ...] = (),
    scopes: int = 0,
) -> State:
    return State(
        label=label,
        kind=kind,
        index=index,
        operation=operation,
        replies=takes,
        takes=takes,
        slots=slots,
        touches=frozenset(slots),
        needs=frozenset(slots),
        scope_depth=scopes,
        shape=label,
    )


def _made(cls: Any, fields: dict[str, Any]) -> Any:
    """An answer, of values that are checked when they are stored."""
    return cls.model_construct(**fields)


def _function(spec: EntitySpec, index: dict[type[Any], int], unwind: int) -> Callable[..., tuple[Any, ...]]:
    cls, key = spec.cls, spec.key
    by_command = {call.command: call for call in spec.calls.values()}
    commands = tuple(by_command)

    def idle(s: Saga, me: Any) -> tuple[Any, ...]:
        op: Op[Any] = s.wait(*commands)
        op.within_ms = spec.expires_ms
        return AWAIT, 1, op, {"self": me}

    def begin(s: Saga, me: Any, asked: Any) -> tuple[Any, ...]:
        call = by_command[asked.__class__]
        args = [getattr(asked, name) for name in call.params]
        if call.definition.query:
            value = look(call, me, s.key, args)
            s.reply(asked, _made(call.returned, {key: s.key, "value": value}))
            return idle(s, me)
        s._enter("scope")  # pyright: ignore[reportPrivateUsage]
        op: Op[Any] = Op("frame", call.command.__contrapas_name__, ((me, *args), {}))
        return AWAIT, index[call.command], op, {"self": me, "call": asked}

    def function(
        pc: int, value: Any, thrown: BaseException | None, slots: dict[str, Any], s: Saga, *ambients: Any
    ) -> tuple[Any, ...]:
        if pc == 0:
            return begin(s, cls(), slots["call"])
        if pc == 1:
            if thrown is not None:
                raise thrown
            return (DONE, None) if isinstance(value, Timeout) else begin(s, slots["self"], value)
        asked = slots["call"]
        call = by_command[asked.__class__]
        if pc == unwind:
            s._leave("scope")  # pyright: ignore[reportPrivateUsage]
            why = {key: s.key, "reason": slots["why"], "unknown": slots["unknown"]}
            s.reply(asked, _made(call.failed, why))
            return idle(s, slots["self"])
        if thrown is None:
            me, result = value
            s._leave("scope")  # pyright: ignore[reportPrivateUsage]
            s._activation.effects.append(("forget",))  # pyright: ignore[reportPrivateUsage]
            s.reply(asked, _made(call.returned, {key: s.key, "value": result}))
            return idle(s, me)
        if isinstance(thrown, StepFailed | Cancelled):
            reason = thrown.reason if isinstance(thrown, StepFailed) else "cancelled"
            unknown = isinstance(thrown, StepFailed) and thrown.unknown
            kept = {"self": slots["self"], "call": asked, "why": str(reason), "unknown": unknown}
            return AWAIT, unwind, Op("unwind", "unwind"), kept
        raise thrown

    return cast("Callable[..., tuple[Any, ...]]", function)


def _lines(cls: type) -> tuple[list[str], int]:
    """The source of a class; again where CPython 3.11 lost count of the depth of its parses (see `source`)."""
    try:
        return inspect.getsourcelines(cls)
    except SystemError:
        return inspect.getsourcelines(cls)
