"""Verdicts as the core takes them: one `Move` for each state of another version."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from contrapas.core.moves import Move
from contrapas.machine import Machine
from contrapas.versions.compare import Comparison, Fit, compare


def moves_of(old: Machine, new: Machine | None, known: Collection[str] | None = None) -> dict[str, Move]:
    """What becomes of each state of `old`; `migrate=` of the new definition counted in. known: commands and steps of the app.

    Called sagas are left out: a record says in which version each of its frames stands, and each is judged by itself.
    """
    return {label: _move(fit, new) for label, fit in compared(old, new, known).states.items()}


def compared(old: Machine, new: Machine | None, known: Collection[str] | None = None) -> Comparison:
    """The comparison that `migrate=` of the new definition asks for."""
    given = None if new is None else new.migrate
    mapping: Mapping[str, str] | None = given if isinstance(given, Mapping) else None  # pyright: ignore[reportUnknownVariableType]
    return compare(old, new, mapping=mapping, known=known)


def _move(fit: Fit, new: Machine | None) -> Move:
    given: Mapping[str, str] | Callable[..., Any] | None = None if new is None else new.migrate
    words = "; ".join(f"{f.code} {f.text}" for f in fit.findings if f.code != "CP307")
    if fit.goes_on:
        mapped = isinstance(given, Mapping) and fit.label in given
        return Move(to=fit.to, fits=True, mapped=mapped)
    if callable(given):
        return Move(to="", fits=True, words=words, mapped=True)
    return Move(to=fit.to, fits=False, words=words)
