"""What a simulated world runs: an app, who starts its sagas, what its services and steps do, what must be true at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from contrapas.author.event import Event
from contrapas.runtime.definition import Definition

if TYPE_CHECKING:
    from contrapas.testing.simulation.play import Play

Start = Callable[["Play", int], Event]
Later = Callable[["Play", int, str], None]
Steps = Callable[["Play"], Mapping[str, Callable[..., Any]]]
Final = Callable[["Play"], list[str]]
Reply = Callable[["Play", dict[str, Any]], tuple[str, dict[str, Any]]]


def no_steps(play: Play) -> Mapping[str, Callable[..., Any]]:
    """The steps as they are written."""
    return {}


def nothing_later(play: Play, number: int, key: str) -> None:
    """Nothing but the start."""


def nothing_more(play: Play) -> list[str]:
    """No promise of its own."""
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One kind of world."""

    name: str
    definition: Definition
    saga: str
    """Registered name of the saga that is started; empty: the one that its event starts."""
    start: Start
    """The n-th start."""
    later: Later = nothing_later
    """What else happens to the n-th instance: events, cancels, people."""
    steps: Steps = no_steps
    """Bodies of local steps by name, over what a play holds."""
    replies: Mapping[str, Reply] = field(default_factory=dict[str, Reply])
    """Command -> its reply type and body; others get a success with 85 %, else a failure if they have one."""
    undone_by: frozenset[str] = frozenset()
    """Commands whose effect must be taken back where their saga is compensated."""
    after_pivot: frozenset[str] = frozenset()
    """Commands that come after the point of no return: once one is asked for, nothing is taken back."""
    kept: bool = True
    """Where the saga is done nothing was taken back."""
    sequential: bool = False
    """Undos come in the reverse order of the steps they take back."""
    door: float = 0.5
    """Share of starts that come through a door; the others come as events on a topic."""
    final: Final = nothing_more
    other: Definition | None = None
    """Another release of the same app."""
    days: int = 20
    """By then, without faults, everything has ended."""
    weight: int = 1
    """Instances are divided by it: a heavy saga has fewer."""
    parks: frozenset[str] = frozenset()
    """Codes under which instances of it may be left parked."""
