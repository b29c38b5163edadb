"""A machine without its code, as JSON-shaped data and back: what is published under its fingerprint, and compared later.

`portable(machine)` is what survives; data to machine to data is the identity, and so is machine to data to machine for a
portable one. Unknown fields, wrong types and other formats are errors, never skipped (R8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from contrapas.errors import DataError
from contrapas.machine import Edge, Machine, Slot, State, Undo

FORMAT: Final = 1
LIMIT: Final = 4_000_000
"""Characters of a machine's JSON text that are looked at."""
T = TypeVar("T")
Json = Any


def gone(*_: Any) -> Any:
    """Stands for code that is not here."""
    raise DataError("CP312", "this machine came without its code")


def portable(machine: Machine) -> Machine:
    """The machine without functions, codecs and intermediate form."""
    states = {label: replace(state) for label, state in machine.states.items()}
    by_index: list[State | None] = [None] * (max((s.index for s in states.values()), default=0) + 1)
    for state in states.values():
        by_index[state.index] = state
    return Machine(
        name=machine.name,
        graph=machine.graph,
        params=tuple(_bare(s) for s in machine.params),
        ambients=tuple((name, None) for name, _ in machine.ambients),
        starts=machine.starts,
        outcomes=machine.outcomes,
        states=states,
        by_index=tuple(by_index),
        slots={name: _bare(s) for name, s in machine.slots.items()},
        undos={
            label: replace(u, function=gone, captures=tuple(_bare(s) for s in u.captures))
            for label, u in machine.undos.items()
        },
        later=dict(machine.later),
        edges=machine.edges,
        types=machine.types,
        exits=machine.exits,
        positions=machine.positions,
        line=machine.line,
        stored=frozenset(n for n, s in machine.slots.items() if s.codec is not None) or machine.stored,
    )


def _bare(slot: Slot) -> Slot:
    return Slot(name=slot.name, role=slot.role, type_text=slot.type_text, frozen=slot.frozen)


def to_data(machine: Machine) -> dict[str, Json]:
    """JSON-shaped: everything of `portable(machine)` that is not a default."""
    flat = portable(machine)
    return {
        "format": FORMAT,
        "name": flat.name,
        "graph": flat.graph,
        "params": [s.name for s in flat.params],
        "ambients": [name for name, _ in flat.ambients],
        "starts": list(flat.starts),
        "outcomes": list(flat.outcomes),
        "line": flat.line,
        "slots": [_made(s, _SLOT) for s in flat.slots.values()],
        "stored": sorted(flat.stored),
        "states": [_made(s, _STATE) for s in flat.states.values()],
        "undos": [
            {
                "label": u.label,
                "of": u.of,
                "needs_reply": u.needs_reply,
                "captures": [_made(s, _SLOT) for s in u.captures],
                "line": u.line,
            }
            for u in flat.undos.values()
        ],
        "later": {label: sorted(types) for label, types in flat.later.items()},
        "edges": [_made(e, _EDGE) for e in flat.edges],
        "types": dict(flat.types),
        "exits": {slot: list(names) for slot, names in flat.exits.items()},
        "positions": dict(flat.positions),
    }


def from_data(data: Json) -> Machine:
    """The portable machine. DataError CP314 names what does not fit."""
    body = _object(data, "", _MACHINE)
    if body["format"] != FORMAT:
        raise _wrong(
            "/format", f"format {FORMAT}", body["format"], "use the release that wrote it, or a newer one"
        )
    slots = {s.name: s for s in _each(body, "slots", lambda d, at: _read(Slot, d, _SLOT, at))}
    states = {s.label: s for s in _each(body, "states", lambda d, at: _read(State, d, _STATE, at))}
    params = _texts(body["params"], "/params")
    if not set(params) <= set(slots):
        raise _wrong("/params", "names of slots", params)
    undos = {u.label: u for u in _each(body, "undos", _undo)}
    made = Machine(
        name=_text(body["name"], "/name"),
        graph=_text(body["graph"], "/graph"),
        params=tuple(slots[n] for n in params),
        ambients=tuple((n, None) for n in _texts(body["ambients"], "/ambients")),
        starts=_texts(body["starts"], "/starts"),
        outcomes=_texts(body["outcomes"], "/outcomes"),
        states=states,
        slots=slots,
        undos=undos,
        later={
            label: frozenset(_texts(types, f"/later/{label}"))
            for label, types in _mapping(body["later"], "/later").items()
        },
        edges=tuple(_each(body, "edges", lambda d, at: _read(Edge, d, _EDGE, at))),
        types=_mapping(body["types"], "/types"),
        exits={n: _texts(v, f"/exits/{n}") for n, v in _mapping(body["exits"], "/exits").items()},
        positions={
            n: _text(v, f"/positions/{n}") for n, v in _mapping(body["positions"], "/positions").items()
        },
        line=_number(body["line"], "/line"),
        stored=frozenset(_texts(body["stored"], "/stored")),
    )
    return portable(made)


def _undo(data: Json, at: str) -> Undo:
    body = _object(data, at, frozenset({"label", "of", "needs_reply", "captures", "line"}))
    captures = _each(body, "captures", lambda d, below: _read(Slot, d, _SLOT, f"{at}{below}"))
    return Undo(
        label=_text(body["label"], f"{at}/label"),
        of=_text(body["of"], f"{at}/of"),
        needs_reply=_truth(body["needs_reply"], f"{at}/needs_reply"),
        captures=tuple(captures),
        function=gone,
        line=_number(body["line"], f"{at}/line"),
    )


# ---- field by field


def _text(value: Json, at: str) -> str:
    if value.__class__ is not str:
        raise _wrong(at, "text", value)
    return value


def _truth(value: Json, at: str) -> bool:
    if value.__class__ is not bool:
        raise _wrong(at, "true or false", value)
    return value


def _number(value: Json, at: str) -> int:
    if value.__class__ is not int:
        raise _wrong(at, "a whole number", value)
    return value


def _list(value: Json, at: str) -> list[Json]:
    if value.__class__ is not list:
        raise _wrong(at, "an array", value)
    return value


def _mapping(value: Json, at: str) -> dict[str, Json]:
    if value.__class__ is not dict:
        raise _wrong(at, "an object", value)
    return value


def _texts(value: Json, at: str) -> tuple[str, ...]:
    return tuple([_text(v, f"{at}/{i}") for i, v in enumerate(_list(value, at))])


def _numbers(value: Json, at: str) -> tuple[int, ...]:
    return tuple([_number(v, f"{at}/{i}") for i, v in enumerate(_list(value, at))])


def _set(value: Json, at: str) -> frozenset[str]:
    return frozenset(_texts(value, at))


def _groups(value: Json, at: str) -> tuple[tuple[str, ...], ...]:
    return tuple([_texts(v, f"{at}/{i}") for i, v in enumerate(_list(value, at))])


Reader = Callable[[Json, str], Any]
_SLOT: Final[Mapping[str, Reader]] = {"name": _text, "role": _text, "type_text": _text, "frozen": _truth}
_EDGE: Final[Mapping[str, Reader]] = {
    "source": _text,
    "target": _text,
    "cause": _text,
    "failure": _truth,
    "lines": _numbers,
}
_STATE: Final[Mapping[str, Reader]] = {
    **dict.fromkeys(("label", "kind", "operation", "into_type", "within", "path", "shape", "reach"), _text),
    **dict.fromkeys(("index", "scope_depth", "line"), _number),
    **dict.fromkeys(
        ("replies", "slots", "handling", "regions", "takes", "next", "steps", "calls", "undos", "takes_back"),
        _texts,
    ),
    **dict.fromkeys(("touches", "needs", "live", "sure"), _set),
    "shared": _groups,
    "forever": _truth,
}
_MACHINE: Final = frozenset(
    [
        "format",
        "name",
        "graph",
        "params",
        "ambients",
        "starts",
        "outcomes",
        "line",
        "slots",
        "stored",
        "states",
        "undos",
        "later",
        "edges",
        "types",
        "exits",
        "positions",
    ]
)


def _made(value: Any, readers: Mapping[str, Reader]) -> dict[str, Json]:
    """Fields that are not at their defaults; sets in order."""
    defaults = {f.name: f.default for f in fields(value)}
    made: dict[str, Json] = {}
    for name in readers:
        item = getattr(value, name)
        if item != defaults[name]:
            made[name] = sorted(item) if isinstance(item, frozenset) else _plain(item)  # pyright: ignore[reportUnknownArgumentType]
    return made


def _plain(value: Any) -> Json:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownVariableType]


def _read(cls: Callable[..., T], data: Json, readers: Mapping[str, Reader], at: str) -> T:
    body = _object(data, at, frozenset(readers), whole=False)
    try:
        return cls(**{name: readers[name](value, f"{at}/{name}") for name, value in body.items()})
    except TypeError:
        raise _wrong(at, "all its fields", sorted(body)) from None


def _each(body: Mapping[str, Json], name: str, read: Callable[[Json, str], T]) -> list[T]:
    return [read(d, f"/{name}/{i}") for i, d in enumerate(_list(body[name], f"/{name}"))]


def _object(data: Json, at: str, known: frozenset[str], *, whole: bool = True) -> dict[str, Json]:
    body = _mapping(data, at)
    unknown = sorted(set(body) - known)
    missing = sorted(known - set(body)) if whole else []
    if unknown or missing:
        words = f"unknown {unknown[0]}" if unknown else f"no {missing[0]}"
        raise _wrong(f"{at}/{(unknown or missing)[0]}", "the fields of this format", words)
    return body


def _wrong(at: str, expected: str, got: Any, fix: str = "") -> DataError:
    return DataError(
        "CP314",
        f"a machine graph cannot be read at {at or '/'}: expected {expected}, got {str(got)[:80]!r}",
        path=at,
        expected=expected,
        got=str(got)[:80],
        fix=fix or "a worker of the release that wrote it writes it again",
    )
