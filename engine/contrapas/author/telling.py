"""`Telling`, the handle of a one-way message that leaves later: `s.untell` takes it back while it is not sent."""

from __future__ import annotations

from typing import Any


class Telling:
    """What `s.tell(…, after=…)` gives. It is data, and may be kept in locals, containers, and the fields of an entity."""

    __slots__ = ("text",)
    text: str
    """Id of the message: `saga/key@run.version#t0`."""

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "text", text)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a handle does not change: {name}")

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Telling) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __copy__(self) -> Telling:
        return self

    def __deepcopy__(self, memo: object) -> Telling:
        return self

    def __repr__(self) -> str:
        return f"<Telling {self.text}>"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema as made

        text = made.no_info_after_validator_function(read, made.str_schema(max_length=1_000))
        return made.json_or_python_schema(
            json_schema=text,
            python_schema=made.union_schema([made.is_instance_schema(cls), text]),
            serialization=made.plain_serializer_function_ser_schema(lambda handle: handle.text),
        )


def read(data: Any) -> Telling:
    """From its text. ValueError for what is none."""
    instance, at, _ = data.rpartition("@") if data.__class__ is str else ("", "", "")
    if not at or not instance:
        raise ValueError("expected the id of a message that leaves later")
    return Telling(data)
