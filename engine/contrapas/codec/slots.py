"""The slots of one state to JSON texts and back: groups that may share an object together, all others one by one.

A slot that the code between two awaits cannot touch stays the text it is. A group is touched as a whole: where one of
its slots is decoded, all are, so that one object stays one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from contrapas.codec.marks import Packing, Unpacking, doubles
from contrapas.codec.registry import Codec
from contrapas.errors import DataError
from contrapas.machine import Slot

Groups = tuple[tuple[str, ...], ...]


def dump_slots(values: Mapping[str, Any], slots: Mapping[str, Slot], groups: Groups) -> dict[str, str]:
    """JSON texts of bound slots. DataError CP202 names slot and path of what does not fit.

    values: by slot name; a slot without codec is left out. groups: `State.shared`.
    """
    texts: dict[str, str] = {}
    done: set[str] = set()
    for group in groups:
        held = [
            (name, codec) for name in group if name in values and (codec := _codec(slots, name)) is not None
        ]
        twice = doubles([(codec.shape, values[name]) for name, codec in held])
        marks = Packing(twice) if twice else None
        for name, codec in held:
            value = values[name]
            texts[name] = (
                _dumped(name, codec, value) if marks is None else _written(name, codec, value, marks)
            )
            done.add(name)
    for name, value in values.items():
        if name not in done and (any_codec := slots[name].codec) is not None:
            texts[name] = _dumped(name, any_codec, value)
    return texts


def load_slots(texts: Mapping[str, str], slots: Mapping[str, Slot], groups: Groups) -> dict[str, Any]:
    """The values of slots, built anew. DataError CP403 names the slot whose text does not fit."""
    values: dict[str, Any] = {}
    for group in groups:
        held = [name for name in group if name in texts]
        if not any('"$ref"' in texts[name] for name in held):
            continue
        marks = Unpacking()
        for name in held:
            codec = _codec(slots, name)
            if codec is not None:
                values[name] = _named(name, codec.read, texts[name], marks)
    for name, text in texts.items():
        if name not in values and (codec := slots[name].codec) is not None:
            values[name] = _named(name, codec.load, text)
    return {name: values[name] for name in texts if name in values}


def closed(touched: Iterable[str], groups: Groups) -> frozenset[str]:
    """The slots to decode: those touched, and what shares a group with one of them."""
    found = set(touched)
    for group in groups:
        if not found.isdisjoint(group):
            found.update(group)
    return frozenset(found)


def _codec(slots: Mapping[str, Slot], name: str) -> Codec | None:
    codec = slots[name].codec
    return codec if isinstance(codec, Codec) else None


def _dumped(name: str, codec: Any, value: Any) -> str:
    text: str = _named(name, codec.dump, value)
    return text


def _written(name: str, codec: Codec, value: Any, marks: Packing) -> str:
    text: str = _named(name, codec.write, value, marks)
    return text


def _named(name: str, do: Any, *args: Any) -> Any:
    try:
        return do(*args)
    except DataError as why:
        raise DataError(
            why.code,
            f"{name}: {why.text}",
            path=f"/{name}{why.path}",
            expected=why.expected,
            got=why.got,
            fix=why.fix,
        ) from None
