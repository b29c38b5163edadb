"""What a codec can read, as plain data: the part of a type that records depend on, for machines that outlive their code.

A leaf is its name; everything else an object whose first key says what it is. Classes stand once in a table under their
registered name and are referred to by it, so that types may mention themselves. `versions.reads` compares two of them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

from contrapas.codec.anything import Anything
from contrapas.codec.cursor import CursorShape
from contrapas.codec.exceptions import Raised
from contrapas.codec.models import Dataclass, Fields, Model, Typed
from contrapas.codec.registry import Arguments, Codec
from contrapas.codec.shapes import Dict, Later, Scalar, Sequence, Shape, Text, Tuple, Union

Json = Any


def forms_of(codecs: Iterable[tuple[str, Any]]) -> dict[str, Json]:
    """Forms by the names given, and of the classes that they mention under `class NAME`; codecs of others give `?`."""
    table = _Table()
    found = {name: table.form(c.shape) if isinstance(c, Codec) else "?" for name, c in codecs}
    return {**dict(sorted(table.classes.items())), **found}


class _Table:
    """Classes met on the way."""

    def __init__(self) -> None:
        self.classes: dict[str, Json] = {}

    def form(self, shape: Shape) -> Json:
        """One shape as data."""
        if isinstance(shape, Later):
            return self.form(shape.target) if shape.target is not None else {"ref": f"class {shape.text}"}
        if isinstance(shape, Anything):
            return "Any"
        if isinstance(shape, Scalar):
            return shape.text
        if isinstance(shape, Text):
            return self._enum(shape) if issubclass(shape.cls, enum.Enum) else _leaf(shape)
        if isinstance(shape, Union):
            members = list(shape.members)
            owner = {kind: members.index(m) for kind, m in sorted(shape.owner.items())}
            return {
                "union": [self.form(m) for m in members],
                "tags": [m.tag for m in members],
                "owner": owner,
            }
        if isinstance(shape, Sequence):
            return {"list": shape.cls.__name__, "item": self.form(shape.item)}
        if isinstance(shape, Tuple):
            return {"tuple": [self.form(item) for item in shape.items]}
        if isinstance(shape, Dict):
            return {"dict": shape.plain_keys, "key": self.form(shape.key), "value": self.form(shape.value)}
        if isinstance(shape, Fields | Typed):
            return self._fields(shape)
        return self._other(shape)

    def _other(self, shape: Shape) -> Json:
        if isinstance(shape, Raised):
            return {"raised": shape.text}
        if isinstance(shape, CursorShape):
            of = None if shape.sequence is None else self.form(shape.sequence)
            return {
                "cursor": _kind(shape),
                "of": of,
                "item": self.form(shape.item),
                "inner": [self.form(i) for i in shape.inner],
            }
        if isinstance(shape, Arguments):
            return {
                "args": [self.form(s) for s in shape.positional],
                "named": {n: self.form(s) for n, s in shape.named.items()},
                "rest": self.form(shape.rest),
                "optional": sorted(shape.optional),
            }
        return {"leaf": shape.text, "kinds": sorted(shape.kinds)}

    def _enum(self, shape: Text) -> Json:
        name = f"class {shape.tag}"
        if name not in self.classes:
            members = [shape.write(member) for member in shape.cls]
            self.classes[name] = {"enum": members, "kinds": sorted(shape.kinds)}
        return {"ref": name}

    def _fields(self, shape: Fields | Typed) -> Json:
        name = f"class {shape.tag}"
        if name not in self.classes:
            self.classes[name] = {}  # while its own fields are looked at
            self.classes[name] = {
                "fields": {n: self.form(f) for n, f in shape.fields.items()},
                "required": sorted(n for n in shape.fields if _required(shape, n)),
                "tag": shape.tag,
                **({"partial": True} if isinstance(shape, Typed) else {}),
            }
        return {"ref": name}


def _leaf(shape: Text) -> Json:
    kinds = sorted(shape.kinds)
    return shape.text if kinds == ["string"] else {"leaf": shape.text, "kinds": kinds}


def _kind(shape: CursorShape) -> str:
    """`enumerate`, `zip`, `reversed`, `range`, or `over` a sequence or view."""
    text = shape.text.removeprefix("Cursor[")
    for word in ("enumerate", "zip", "reversed", "range"):
        if text.startswith((f"{word}[", f"{word}]")):
            return word
    return "over"


def _required(shape: Fields | Typed, name: str) -> bool:
    """A field that the text of a value must hold."""
    if isinstance(shape, Typed):
        return name in shape.required
    if isinstance(shape, Model):
        return bool(shape.model.model_fields[name].is_required())
    if isinstance(shape, Dataclass):
        from dataclasses import MISSING

        spec = shape.specs[name]
        return spec.default is MISSING and spec.default_factory is MISSING
    return True
