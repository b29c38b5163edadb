"""What random programs and hand-written cases are made of: events, commands, steps, and values that tell what happens to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from contrapas.author.event import Command, Event
from contrapas.author.step import step
from contrapas.testing.native import log


class Go(Event, key="k"):
    """Starts every program."""

    k: str
    n: int = 0


class Added(Event, key="k"):
    """Starts some, and comes to those that run."""

    k: str
    n: int = 0


class Done(Event, key="k"):
    """Ends some."""

    k: str
    n: int = 0


class Charged(Event, key="k"):
    """Success."""

    k: str
    cents: int


class Declined(Event, key="k"):
    """Failure."""

    k: str
    reason: str


class Refunded(Event, key="k"):
    """Of an undo."""

    k: str


class Charge(Command[Charged, Declined], key="k"):
    """A command with both replies."""

    k: str
    cents: int


class Refund(Command[Refunded], key="k"):
    """A command that only succeeds."""

    k: str
    cents: int = 0


class Approved(Event, key="k"):
    """One of two."""

    k: str
    by: str


class Rejected(Event, key="k"):
    """The other."""

    k: str
    why: int


@step
async def num(*args: int) -> int:
    """A number."""
    return len(args)


@step
async def word(*args: int) -> str:
    """A text."""
    return str(args)


@step
async def flag(*args: int) -> bool:
    """A truth."""
    return bool(args)


@step
async def nums(*args: int) -> list[int]:
    """Several numbers."""
    return list(args)


@step
async def pair(*args: int) -> tuple[int, int]:
    """Two numbers."""
    return (len(args), 0)


@step
async def table(*args: int) -> dict[str, int]:
    """Numbers by text."""
    return {str(a): a for a in args}


@step
async def maybe(*args: int) -> int | None:
    """A number, or none."""
    return args[0] if args else None


@step(undo=lambda n: Refund(k="k", cents=n))
async def paid(*args: int) -> int:
    """A number that can be taken back."""
    return len(args)


@step
async def total(xs: list[int], *rest: int, **more: int) -> int:
    """A number from a list."""
    return sum(xs) + sum(rest) + sum(more.values())


class Odd(Exception):
    """Its constructor takes something else than its arguments."""

    def __init__(self, n: int, *, tag: str = "odd") -> None:
        super().__init__(f"{tag} {n}")
        self.n = n
        self.tag = tag


class Odder(Odd):
    """A subclass."""


@dataclass
class Cell:
    """A mutable value with attributes; its truth is told."""

    n: int = 0
    xs: list[int] = field(default_factory=list[int])

    def __bool__(self) -> bool:
        log("truth", self.n)
        return self.n % 2 == 0

    def bump(self, by: int = 1) -> int:
        """Change it."""
        self.n = (self.n + by) % 17
        return self.n


@dataclass
class Shown:
    """Tells when it is formatted."""

    n: int

    def __format__(self, spec: str) -> str:
        log("format", self.n, spec)
        return f"<{self.n}{spec}>"

    def __repr__(self) -> str:
        log("repr", self.n)
        return f"Shown({self.n})"


class Guard:
    """A context manager that tells; `swallow` keeps `Odd` inside."""

    def __init__(self, tag: int, swallow: bool = False) -> None:
        self.tag = tag
        self.swallow = swallow

    def __enter__(self) -> int:
        log("enter", self.tag)
        return self.tag

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool:
        log("exit", self.tag, None if kind is None else kind.__name__)
        return self.swallow and kind is not None and issubclass(kind, Odd)


def boom(n: int) -> int:
    """Raises for every third number."""
    if n % 3 == 0:
        raise Odd(n)
    return n


def again(n: int = 0) -> int:
    """Raises again what is being handled, from inside a called function."""
    log("again", n)
    raise  # noqa: PLE0704  in a handler of the caller


def both(a: Any, b: Any, *rest: Any, **more: Any) -> int:
    """Tells its arguments."""
    log("both", a, b, *rest, *more.items())
    return (int(a or 0) + int(b or 0) + len(rest) + len(more)) % 97


def apply(fn: Callable[[int], int], n: int) -> int:
    """Calls a function."""
    return fn(n) % 97


EXCEPTIONS = (Odd, Odder)
