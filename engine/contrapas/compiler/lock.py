"""`sagas.lock.json`: the names that awaits and hidden slots have for ever, committed beside the source (section 12).

`dev` writes it, workers and CI only read it. A file that is torn, edited by hand into something else, or left with conflict
marks is an error with its line, never read in part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from contrapas.errors import DataError
from contrapas.machine import Machine
from contrapas.machine.ir import Program

NAME: Final = "sagas.lock.json"
FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StateLock:
    """One await, as it was when it was last locked."""

    label: str
    path: str
    operation: str
    replies: tuple[str, ...] = ()
    shape: str = ""
    slots: Mapping[str, str] = field(default_factory=dict[str, str])
    hidden: Mapping[str, str] = field(default_factory=dict[str, str])
    regions: tuple[str, ...] = ()
    undo: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenLock:
    """One hidden slot."""

    name: str
    role: str
    path: str
    hint: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoLock:
    """One compiled `undo=`."""

    label: str
    captures: Mapping[str, str] = field(default_factory=dict[str, str])
    needs_reply: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaLock:
    """One saga."""

    name: str
    graph: str = ""
    states: tuple[StateLock, ...] = ()
    hidden: tuple[HiddenLock, ...] = ()
    undos: tuple[UndoLock, ...] = ()
    retired: tuple[str, ...] = ()
    retired_hidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LockFile:
    """All sagas of an app by name. Sagas that are gone stay: their names are not free."""

    sagas: Mapping[str, SagaLock] = field(default_factory=dict[str, SagaLock])
    place: str = NAME

    def saga(self, name: str) -> SagaLock | None:
        """What is locked of a saga."""
        return self.sagas.get(name)

    def updated(
        self, compiled: Iterable[tuple[Program, Machine]], kept: Iterable[tuple[Program, Machine]] = ()
    ) -> LockFile:
        """The file after a build: names of today, everything that is gone retired. kept: earlier versions (`retired=`)."""
        sagas = dict(self.sagas)
        for program, machine in kept:
            name = f"{program.name}@{machine.graph}"
            sagas[name] = locked(program, machine, None)
        for program, machine in compiled:
            sagas[program.name] = locked(program, machine, self.sagas.get(program.name))
        return LockFile(sagas, self.place)

    def check(self, compiled: Iterable[tuple[Program, Machine]]) -> list[DataError]:
        """CP321 for each saga whose source does not match what is locked; for workers and CI, which only read."""
        found: list[DataError] = []
        for program, machine in compiled:
            known = self.sagas.get(program.name)
            same = known is not None and _names(locked(program, machine, known)) == _names(known)
            if known is None or known.graph != machine.graph or not same:
                what = "is not in" if known is None else "does not match"
                found.append(
                    DataError(
                        "CP321",
                        f"{program.name} {what} {self.place}",
                        expected="nothing" if known is None else known.graph,
                        got=machine.graph,
                        fix="run contrapas dev, or contrapas check --update, and commit the file",
                        place=self.place,
                    )
                )
        return found

    def dump(self) -> str:
        """JSON text: sagas by name, everything in an order of its own, so that the same build gives the same bytes."""
        body = {name: _saga_json(saga) for name, saga in sorted(self.sagas.items())}
        return _indented({"format": FORMAT, **body}) + "\n"

    def save(self, path: Path) -> bool:
        """Write the file whole, or not at all; False when it says so already."""
        text = self.dump()
        try:
            if path.read_text(encoding="utf-8") == text:
                return False
        except (OSError, UnicodeDecodeError):
            pass
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
        return True


def load(path: Path) -> LockFile | None:
    """The file, None when there is none. DataError CP321 when it cannot be read whole."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as why:
        raise _damaged(str(path), 1, str(why)) from None
    return parse(text, str(path))


def parse(text: str, place: str = NAME) -> LockFile:
    """The file from its text. DataError CP321 names the line of what is wrong."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(("<<<<<<<", "=======", ">>>>>>>")):
            fix = "git checkout --theirs sagas.lock.json, then contrapas check --update MODULE:APP"
            raise _damaged(place, number, "conflict marks: two branches changed it", fix)
    try:
        data: Any = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as why:
        raise _damaged(place, why.lineno, f"no JSON: {why.msg}") from None
    except (ValueError, RecursionError) as why:
        raise _damaged(place, 1, str(why)) from None
    if data.__class__ is not dict:
        raise _damaged(place, 1, "it holds no object")
    if data.get("format") != FORMAT:
        if "format" not in data:
            raise _damaged(place, 1, "it does not say its format")
        text = f"its format is {data.get('format')!r}, this release reads {FORMAT}"
        raise _damaged(place, 1, text, "use the release that wrote it, or a newer one")
    sagas: dict[str, SagaLock] = {}
    for name, body in data.items():
        if name != "format":
            try:
                sagas[name] = _saga(name, body)
            except (KeyError, TypeError, ValueError, AttributeError) as why:
                raise _damaged(place, _line_of(text, name), f"{name}: {type(why).__name__} {why}") from None
            _unique(place, text, sagas[name])
    return LockFile(sagas, place)


def _names(saga: SagaLock) -> tuple[object, ...]:
    """What nobody but a build may change: the names, and what they are names of."""
    return (
        [(s.label, s.operation) for s in saga.states],
        {(h.name, h.role) for h in saga.hidden},
        set(saga.retired),
        set(saga.retired_hidden),
    )


def locked(program: Program, machine: Machine, before: SagaLock | None) -> SagaLock:
    """What is to be locked of a compiled saga."""
    states: list[StateLock] = []
    undo_of = {s.index: s.undo_text for s in program.sites}
    for state in sorted(machine.states.values(), key=lambda s: s.index):
        own = {n: machine.slots[n].type_text for n in state.slots if machine.slots[n].role == "local"}
        inner = {n: machine.slots[n].type_text for n in state.slots if machine.slots[n].role != "local"}
        states.append(
            StateLock(
                label=state.label,
                path=state.path,
                operation=state.operation,
                replies=state.replies,
                shape=state.shape,
                slots=own,
                hidden=inner,
                regions=state.regions,
                undo=undo_of.get(state.index, ""),
            )
        )
    hidden = [
        HiddenLock(
            name=h.slot,
            role=h.role,
            path=h.path,
            hint=_hint(h.slot, h.role),
            type=machine.slots[h.slot].type_text,
        )
        for h in program.hidden.values()
        if h.slot and h.slot in machine.slots
    ]
    undos = [
        UndoLock(label=u.label, captures={c.name: c.type_text for c in u.captures}, needs_reply=u.needs_reply)
        for u in machine.undos.values()
    ]
    labels = {s.label for s in states}
    names = {h.name for h in hidden}
    gone = [] if before is None else [*before.retired, *(s.label for s in before.states)]
    gone_hidden = [] if before is None else [*before.retired_hidden, *(h.name for h in before.hidden)]
    return SagaLock(
        name=program.name,
        graph=machine.graph,
        states=tuple(states),
        hidden=tuple(hidden),
        undos=tuple(undos),
        retired=tuple(dict.fromkeys(label for label in gone if label not in labels)),
        retired_hidden=tuple(dict.fromkeys(name for name in gone_hidden if name not in names)),
    )


def _hint(slot: str, role: str) -> str:
    return slot.partition("#")[0].removeprefix(role).removeprefix(".")


def _saga_json(saga: SagaLock) -> dict[str, Any]:
    body: dict[str, Any] = {
        "graph": saga.graph,
        "states": [_state_json(s) for s in saga.states],
        "hidden": [
            {"name": h.name, "path": h.path, "role": h.role, "hint": h.hint, "type": h.type}
            for h in saga.hidden
        ],
        "undos": [
            {"label": u.label, "captures": dict(u.captures), "needs_reply": u.needs_reply} for u in saga.undos
        ],
        "retired": list(saga.retired),
    }
    if saga.retired_hidden:
        body["retired_hidden"] = list(saga.retired_hidden)
    return body


def _state_json(state: StateLock) -> dict[str, Any]:
    body: dict[str, Any] = {
        "label": state.label,
        "path": state.path,
        "op": state.operation,
        "replies": list(state.replies),
        "shape": state.shape,
        "slots": dict(state.slots),
        "hidden": dict(state.hidden),
        "regions": list(state.regions),
    }
    if state.undo:
        body["undo"] = state.undo
    return body


_KNOWN: Final = {
    "saga": frozenset({"graph", "states", "hidden", "undos", "retired", "retired_hidden"}),
    "state": frozenset({"label", "path", "op", "replies", "shape", "slots", "hidden", "regions", "undo"}),
    "hidden": frozenset({"name", "path", "role", "hint", "type"}),
    "undo": frozenset({"label", "captures", "needs_reply"}),
}


def _only_known(what: str, body: Mapping[str, Any]) -> None:
    unknown = sorted(set(body) - _KNOWN[what])
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no field of a {what} in this format")


def _saga(name: str, body: Mapping[str, Any]) -> SagaLock:
    _only_known("saga", body)
    for what, several in (
        ("state", body["states"]),
        ("hidden", body.get("hidden", ())),
        ("undo", body.get("undos", ())),
    ):
        for one in several:
            _only_known(what, one)
    return SagaLock(
        name=name,
        graph=_text(body["graph"]),
        states=tuple(
            StateLock(
                label=_text(s["label"]),
                path=_text(s["path"]),
                operation=_text(s["op"]),
                replies=_texts(s.get("replies", ())),
                shape=_text(s.get("shape", "")),
                slots=dict(s.get("slots", {})),
                hidden=dict(s.get("hidden", {})),
                regions=_texts(s.get("regions", ())),
                undo=_text(s.get("undo", "")),
            )
            for s in body["states"]
        ),
        hidden=tuple(
            HiddenLock(
                name=_text(h["name"]),
                role=_text(h["role"]),
                path=_text(h["path"]),
                hint=_text(h.get("hint", "")),
                type=_text(h.get("type", "")),
            )
            for h in body.get("hidden", ())
        ),
        undos=tuple(
            UndoLock(
                label=_text(u["label"]), captures=dict(u["captures"]), needs_reply=bool(u["needs_reply"])
            )
            for u in body.get("undos", ())
        ),
        retired=_texts(body.get("retired", ())),
        retired_hidden=_texts(body.get("retired_hidden", ())),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(v) for v in value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(k for i, (k, _) in enumerate(pairs) if k in [p[0] for p in pairs[:i]])
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _unique(place: str, text: str, saga: SagaLock) -> None:
    labels = [*(s.label for s in saga.states), *saga.retired]
    names = [*(h.name for h in saga.hidden), *saga.retired_hidden]
    for several in (labels, names):
        twice = next((n for i, n in enumerate(several) if n in several[:i]), None)
        if twice is not None:
            raise _damaged(place, _line_of(text, twice), f"{saga.name}: {twice} stands there twice")


def _line_of(text: str, name: str) -> int:
    at = text.find(json.dumps(name, ensure_ascii=False))
    return text.count("\n", 0, at) + 1 if at >= 0 else 1


def _damaged(
    place: str,
    line: int,
    why: str,
    fix: str = "take it from version control: git checkout sagas.lock.json",
) -> DataError:
    return DataError(
        "CP321",
        f"{place} cannot be read: {why}",
        fix=fix,
        place=f"{place}:{line}:1",
    )


def _indented(data: Any, depth: int = 0) -> str:
    """JSON with one state per line: small diffs, and readable ones."""
    pad = " " * (depth + 1)
    kind: Any = data.__class__
    if kind is dict and data and depth < 2:
        parts = [
            f"{pad}{json.dumps(k, ensure_ascii=False)}: {_indented(v, depth + 1)}" for k, v in data.items()
        ]
        return "{\n" + ",\n".join(parts) + "\n" + " " * depth + "}"
    if kind is list and data and depth == 2 and isinstance(data[0], dict):
        return (
            "[\n"
            + ",\n".join([f"{pad}{json.dumps(v, ensure_ascii=False)}" for v in data])
            + "\n"
            + " " * depth
            + "]"
        )
    return json.dumps(data, ensure_ascii=False)
