"""The name of a command that a saga received: it lies beside the fields, outside of `==`, payload and copies' equality.

`s.reply` finds by it what is to be answered. A command built by hand has none.
"""

from __future__ import annotations

from typing import Any, Final

ASK: Final = "__contrapas_ask__"


def ask_of(command: Any) -> str:
    """The name of what was received; empty for a value that was built by hand."""
    name = getattr(command, "__dict__", {}).get(ASK, "")
    return name if isinstance(name, str) else ""


def received(command: Any, name: str) -> Any:
    """The same value, named as received. pydantic passes over what is no field, in `==` as in JSON, and copies it along."""
    if name:
        command.__dict__[ASK] = name
    return command
