"""Handles of operations in flight: text in the slots of the function that began them, and nowhere else (CP115)."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from contrapas.author.flight import Pending
from contrapas.author.telling import Telling, read
from contrapas.codec.shapes import Misfit, Text, named


def handle_shape() -> Text:
    """`label/visit`; what the result's type is does not show."""
    return Text(Pending, "Pending", lambda handle: handle.text, _read)


def telling_shape() -> Text:
    """A message that leaves later, by its id: data, which may be kept anywhere."""
    return Text(Telling, "Telling", lambda handle: handle.text, _telling)


def _telling(data: Any) -> Telling:
    try:
        return read(data)
    except ValueError:
        got = named(data)
        raise Misfit(
            f"expected the id of a message, got {got}", expected="saga/key@run.version#t0", got=got
        ) from None


def holds_handles(tp: Any) -> bool:
    """Is a handle among the values of an annotation, as far as it says?"""
    return (get_origin(tp) or tp) is Pending or any(holds_handles(a) for a in get_args(tp))


def _read(data: Any) -> Pending[Any]:
    label, slash, visit = data.rpartition("/") if data.__class__ is str else ("", "", "")
    if not slash or not label:
        raise Misfit(f"expected label/visit, got {named(data)}", expected="label/visit", got=named(data))
    return Pending(label, visit)
