"""Avro schemas of an app's messages judged against the versions that others have written and read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from contrapas.codec.avro_forms import text_of
from contrapas.core.world import MessageType
from contrapas.errors import DataError

MODE = "FULL_TRANSITIVE"
"""Of users' messages: every version reads every other."""


class Schema(NamedTuple):
    """What a message would be registered as."""

    name: str
    subject: str
    """`<topic>-<name>`, since a topic carries many types."""
    text: str
    """Empty: it has no form in Avro."""
    why: str = ""
    """Then why not."""


def schema_of(message: MessageType, namespace: str) -> Schema:
    """The schema of a registered message."""
    subject = f"{message.topic or f'{namespace}.in'}-{message.name}"
    try:
        return Schema(message.name, subject, text_of(message.cls, message.name))
    except DataError as why:
        return Schema(message.name, subject, "", why.text)


def breaks(new: str, versions: Sequence[str], mode: str = MODE) -> list[str]:
    """Why a schema does not go with older versions, oldest first, under a registry's mode; empty: it does."""
    from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
    from avro.schema import parse

    checker: Any = ReaderWriterCompatibilityChecker
    considered = list(enumerate(versions, 1))
    if not mode.endswith("_TRANSITIVE"):
        considered = considered[-1:]
    found: list[str] = []
    for number, old in considered:
        ways: list[tuple[str, Any, Any]] = []
        if mode.startswith(("BACKWARD", "FULL")):
            ways.append((f"cannot read version {number}", parse(new), parse(old)))
        if mode.startswith(("FORWARD", "FULL")):
            ways.append((f"cannot be read by version {number}", parse(old), parse(new)))
        for what, reader, writer in ways:
            judged = checker().get_compatibility(reader, writer)
            if judged.compatibility is not SchemaCompatibilityType.compatible:
                found.append(f"{what}: {'; '.join(sorted(judged.messages))}")
    return found
