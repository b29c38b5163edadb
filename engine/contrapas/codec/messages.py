"""What the registry keeps of a message class and of a `@step`; `core.world` gives them on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageType:
    """A registered event or command class, as the core needs it."""

    name: str
    cls: Any
    topic: str
    """Empty: it travels on `<ns>.in`."""
    key: str
    """Name of the field that is the key."""
    replies: tuple[str, ...] = ()
    """Of a command: success first."""
    command: bool = False
    sensitive: bool = False
    transient: bool = False
    """Applied if somebody waits, else a recorded no-op; never kept."""
    returns: bool = False
    """The answer of an entity: what is awaited gives its `value`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepType:
    """A registered `@step`, as the core and the step runner need it."""

    name: str
    fn: Callable[..., Any]
    is_async: bool
    retry: Any
    timeout_ms: int
    undo: Any
    """MISSING, None or a callable giving an Op from the result."""
    args: Any
    """Codec of (args, kwargs): `dump((args, kwargs)) -> str`, `load(str) -> (args, kwargs)`."""
    result: Any
    """Codec of the result."""
    observe: bool = False
    """Runs under `observe` too."""
    delivery: str = ""
    """The parameter that takes the `Delivery`; it is no argument."""
    supplied: tuple[tuple[str, Callable[[], Any]], ...] = ()
    """Parameters that are supplied anew at each attempt, and how; they are no arguments."""
    store: Any = None
    """The store in whose transaction it runs (`participant.Store`); None: in none."""
