"""`External`: a participant outside of the app, named so that what it takes and emits is drawn and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contrapas.author.event import Event, message_spec
from contrapas.errors import DataError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a participant was named, as a function's code says it."""

    co_filename: str
    co_firstlineno: int


@dataclass(frozen=True, slots=True)
class Named:
    """Stands for the function that nobody here sees."""

    __code__: Place


@dataclass(frozen=True, slots=True)
class Outside:
    """What an outside participant makes of one message; as a service's reaction is read."""

    name: str
    message: type[Event]
    emits: tuple[type[Event], ...]
    fn: Named


@dataclass(frozen=True, slots=True)
class External:
    """One outside participant."""

    name: str
    takes: tuple[type[Event], ...]
    emits: tuple[type[Event], ...]
    place: Place

    @property
    def reactions(self) -> tuple[Outside, ...]:
        """One for each message that it takes; one of nothing in particular if it only emits."""
        return tuple(
            [Outside(self.name, cls, self.emits, Named(self.place)) for cls in self.takes or (Event,)]
        )


def external(
    name: str, takes: Sequence[type[Event]], emits: Sequence[type[Event]], file: str, line: int
) -> External:
    """A checked one. DataError CP850 or CP144 for what is no message."""
    for cls in (*takes, *emits):
        if not (isinstance(cls, type) and issubclass(cls, Event)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(
                "CP850", f"external {name}: {cls!r:.80} is no event or command", fix="name the class"
            )
        message_spec(cls)
    if not takes and not emits:
        raise DataError("CP850", f"external {name} takes and emits nothing", fix="takes=[…], emits=[…]")
    return External(name, tuple(takes), tuple(emits), Place(file, line))
