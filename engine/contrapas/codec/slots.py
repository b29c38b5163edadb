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
from contrapas.machine import Slot, SlotCodec

Groups = tuple[tuple[str, ...], ...]


def dump_slots(values: Mapping[str, Any], slots: Mapping[str, Slot], groups: Groups) -> dict[str, str]:
    """JSON texts of bound slots. DataError CP202 names slot and path of what does not fit.

    values: by slot name; a slot without codec is left out. groups: `State.shared`.
    """
    texts: dict[str, str] = {}
    for group in groups:
        texts.update(dump_group({name: slots[name].codec for name in group}, values))
    for name, value in values.items():
        if name not in texts and (codec := slots[name].codec) is not None:
            texts[name] = _named(name, codec.dump, value)
    return texts


def load_slots(texts: Mapping[str, str], slots: Mapping[str, Slot], groups: Groups) -> dict[str, Any]:
    """The values of slots, built anew. DataError CP403 names the slot whose text does not fit."""
    values: dict[str, Any] = {}
    for group in groups:
        values.update(load_group({name: slots[name].codec for name in group}, texts))
    for name, text in texts.items():
        if name not in values and (codec := slots[name].codec) is not None:
            values[name] = _named(name, codec.load, text)
    return {name: values[name] for name in texts if name in values}


def dump_group(codecs: Mapping[str, SlotCodec | None], values: Mapping[str, Any]) -> dict[str, str]:
    """Texts of slots that may share an object, those that are bound; marked only where they do share one."""
    held = {n: codec for n, codec in codecs.items() if n in values and isinstance(codec, Codec)}
    twice = doubles([(codec.shape, values[n]) for n, codec in held.items()])
    if not twice:
        return {n: _named(n, codec.dump, values[n]) for n, codec in held.items()}
    marks = Packing(twice)
    return {n: _named(n, codec.write, values[n], marks) for n, codec in held.items()}


def load_group(codecs: Mapping[str, SlotCodec | None], texts: Mapping[str, str]) -> dict[str, Any]:
    """The values of slots that may share an object."""
    held = {n: codec for n, codec in codecs.items() if n in texts and isinstance(codec, Codec)}
    if not any('"$id"' in texts[n] for n in held):
        return {n: _named(n, codec.load, texts[n]) for n, codec in held.items()}
    marks = Unpacking()
    return {n: _named(n, codec.read, texts[n], marks) for n, codec in held.items()}


def closed(touched: Iterable[str], groups: Groups) -> frozenset[str]:
    """The slots to decode: those touched, and what shares a group with one of them."""
    found = set(touched)
    for group in groups:
        if not found.isdisjoint(group):
            found.update(group)
    return frozenset(found)


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
