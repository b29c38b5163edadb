"""What the core works out once per machine and state: which slots to decode, which to keep as bytes, how to bind calls.

A slot that the code from here to its next awaits cannot touch stays text. A value of a frozen type that comes back as
the same object keeps its text, and its text keeps the object for the next time: nobody can have changed either (R10).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from contrapas.author.op import MISSING
from contrapas.codec.messages import StepType
from contrapas.codec.quick import dump_of, exact_arguments, load_of
from contrapas.codec.slots import dump_group, load_group
from contrapas.core.envelope import Frame
from contrapas.core.policies import policy_text
from contrapas.errors import DataError
from contrapas.machine import Machine, Slot, State

START: Final = "START"
_NOTHING: Final[dict[str, str]] = {}
_UNKNOWN: Final = object()
_CACHE_MAX: Final = 2048
_CACHED_TEXT_MAX: Final = 65_536
_CACHED_CHARS_MAX: Final = 1 << 19
"""Of one slot: what is large is read seldom, and what is read often is worth its room."""


class SlotPlan:
    """One slot of one machine: its codec's two functions, and the values it decoded lately if they are frozen."""

    __slots__ = ("cache", "dump", "frozen", "load_text", "name", "size")

    def __init__(self, slot: Slot) -> None:
        if slot.codec is None:
            raise DataError("CP202", f"{slot.name} has no codec and cannot be stored", path=slot.name)
        self.name = slot.name
        self.frozen = slot.frozen
        self.dump = dump_of(slot.codec)
        self.load_text = load_of(slot.codec)
        self.cache: dict[str, Any] = {}
        self.size = 0
        """Characters of the texts in it."""

    def remember(self, text: str, value: Any) -> None:
        """Keep a frozen value for its text."""
        size = len(text)
        if size <= _CACHED_TEXT_MAX:
            if len(self.cache) >= _CACHE_MAX or self.size > _CACHED_CHARS_MAX:
                self.cache.clear()
                self.size = 0
            self.cache[text] = value
            self.size += size


class StatePlan:
    """One state of one machine."""

    __slots__ = (
        "every",
        "groups",
        "handling",
        "index",
        "label",
        "loads",
        "machine",
        "needs",
        "saves",
        "state",
        "touches",
    )

    def __init__(self, machine: Machine, state: State, slots: Mapping[str, SlotPlan]) -> None:
        self.machine = machine
        self.state = state
        self.label = state.label
        self.index = state.index
        self.touches = state.touches
        self.loads = tuple(
            (name, slots[name]) for name in state.slots if name in state.touches and name in slots
        )
        self.saves = tuple((name, slots[name]) for name in state.slots if name in slots)
        self.every = slots
        self.needs = state.needs
        self.handling = tuple(reversed(state.handling))
        self.groups = tuple({name: machine.slots[name].codec for name in group} for group in state.shared)
        """What may hold one object between them (`codec.slots`)."""

    def load(self, frame: Frame) -> dict[str, Any]:
        """The touched slots that are bound, decoded."""
        texts = frame.slots
        values: dict[str, Any] = {}
        for group in self.groups:
            if any('"$ref"' in texts.get(name, "") for name in group) and not self.touches.isdisjoint(group):
                values.update(load_group(group, texts))
        for name, slot in self.loads:
            text = texts.get(name)
            if text is not None and name not in values:
                if slot.frozen:
                    value = slot.cache.get(text, _UNKNOWN)
                    if value is _UNKNOWN:
                        value = slot.load_text(text)
                        slot.remember(text, value)
                    values[name] = value
                else:
                    values[name] = slot.load_text(text)
        return values

    def missing(self, frame: Frame) -> list[str]:
        """What the code from here on certainly reads and a record of other code does not hold (C2)."""
        return sorted(name for name in self.needs if name not in frame.slots)

    def save(
        self,
        touched: frozenset[str] | None,
        old: Mapping[str, str],
        loaded: Mapping[str, Any],
        values: Mapping[str, Any],
    ) -> dict[str, str]:
        """Texts of the slots bound here, in lock-file order. touched: by the stretch that led here; None: all."""
        texts: dict[str, str] = {}
        together: dict[str, str] = _NOTHING
        for group in self.groups:  # what may share an object is touched together, and written together
            together = {**together, **dump_group(group, values)}
        for name, slot in self.saves:
            if name in together:
                texts[name] = together[name]
                continue
            value = values.get(name, _UNKNOWN)
            if value is _UNKNOWN:
                if touched is not None and name not in touched and name in old:
                    texts[name] = old[name]
            elif not slot.frozen:
                texts[name] = slot.dump(value)
            elif name in old and loaded.get(name, _UNKNOWN) is value:
                texts[name] = old[name]
            else:
                text = texts[name] = slot.dump(value)
                slot.remember(text, value)
        return texts


class StepPlan:
    """One `@step`: how its arguments become text, its policy as records hold it, whether it brings its own undo."""

    __slots__ = ("dump", "exact", "own_undo", "policy", "step")

    def __init__(self, step: StepType) -> None:
        self.step = step
        self.dump = dump_of(step.args)
        self.exact = exact_arguments(step.args)
        """So many arguments may be handed on as they are."""
        self.policy = "" if step.retry is None else policy_text(step.retry)
        self.own_undo = step.undo is not None and step.undo is not MISSING


class Plan:
    """One machine."""

    __slots__ = ("by_index", "by_label", "flies", "function", "graph", "machine", "params", "signature")

    def __init__(self, machine: Machine) -> None:
        if machine.function is None:
            raise DataError("CP312", f"{machine.name} has no code here", path=machine.name)
        self.machine = machine
        self.graph = machine.graph
        self.function = machine.function
        slots = {name: SlotPlan(slot) for name, slot in machine.slots.items() if slot.codec is not None}
        self.by_label = {label: StatePlan(machine, state, slots) for label, state in machine.states.items()}
        self.flies = any(state.kind == "begin" for state in machine.states.values())
        """It begins operations, so it may hold handles."""
        top = max((state.index for state in machine.states.values()), default=0)
        self.by_index: list[StatePlan | None] = [None] * (top + 1)
        for plan in self.by_label.values():
            self.by_index[plan.index] = plan
        self.params = tuple(slot.name for slot in machine.params)
        self.signature = _signature(machine)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters by name as a call of the function would bind them; TypeError as that call would raise it."""
        if self.signature is None:
            if kwargs or len(args) != len(self.params):
                raise TypeError(
                    f"{self.machine.name}() takes {len(self.params)} arguments, {len(args)} were given"
                )
            return dict(zip(self.params, args, strict=True))
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as why:
            raise TypeError(f"{self.machine.name}() {why}") from None
        bound.apply_defaults()
        return dict(bound.arguments)


_plans: dict[int, tuple[Machine, Plan]] = {}


def plan_of(machine: Machine) -> Plan:
    """The plan of a machine, made at first use."""
    known = _plans.get(id(machine))
    if known is None or known[0] is not machine:
        if len(_plans) > 4096:
            _plans.clear()
        known = _plans[id(machine)] = (machine, Plan(machine))
    return known[1]


def _signature(machine: Machine) -> inspect.Signature | None:
    """Of the author's function without `s` and the ambients; None where plain positions say the same."""
    if machine.native is None:
        return None
    whole = inspect.signature(machine.native)
    ambient = {name for name, _ in machine.ambients}
    rest = [p for p in list(whole.parameters.values())[1:] if p.name not in ambient]
    simple = all(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in rest)
    if len(rest) <= 1 and simple:
        return None if not rest or len(machine.params) == 1 else inspect.Signature(rest)
    return inspect.Signature(rest)
