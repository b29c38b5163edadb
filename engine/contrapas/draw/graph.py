"""`Graph`: what every picture of a machine shows, taken from the machine once.

A picture is a function of this value alone, so the same machine gives the same bytes whatever the form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from contrapas.machine import Edge, State

START = "START"
UNWINDS = frozenset({"compensate", "unwind"})
"""Kinds of states that take back what was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One step that a state may take back, newest first in `Graph.unwinds`."""

    of: str
    """Label of the step."""
    undo: str
    """The undo as people know it: a command's or step's name."""
    certain: bool
    """Issued for sure when this state is reached by its longest way, and known to have been done."""
    word: str
    """What the step did, as an adjective: `reserved`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """States, arrows and what is taken back where."""

    name: str
    graph: str
    """Fingerprint of the machine."""
    states: Mapping[str, State]
    edges: tuple[Edge, ...]
    undos: tuple[tuple[str, str], ...]
    """(label of the step, its undo as people know it), in order of issue."""
    pivots: frozenset[tuple[str, str]] = frozenset()
    """(source, target) of arrows that cross the point of no return."""
    before_pivot: tuple[str, ...] = ()
    """States from which nothing is undone any more: the first ones after the pivot."""
    unwinds: Mapping[str, tuple[Taken, ...]] = field(default_factory=dict[str, tuple[Taken, ...]])
    """Label of a `compensate` or `unwind` state -> what it takes back, newest first."""
    outcomes: tuple[str, ...] = ()
    undo_states: tuple[str, ...] = ()
    """Beside `undos`: label of the state that issues the step, for a step in an `all` the state of that."""
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Label of a state that runs several operations side by side -> their names."""
    scopes: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Label of a state in scopes -> the names of these, outermost first."""
    partial: str = ""
    """What is missing, because there was too much to look at; empty: nothing."""

    @property
    def heading(self) -> str:
        """Name and fingerprint, and what is missing."""
        return f"{self.name}@{self.graph}" + (f": {self.partial}" if self.partial else "")

    @property
    def targets(self) -> tuple[str, ...]:
        """Ends of the machine, in the order in which arrows reach them."""
        return tuple(dict.fromkeys(e.target for e in self.edges if e.target not in self.states))


def shown(target: str) -> str:
    """A target as people read it: outcomes without the word `return`."""
    return target.removeprefix("return ")


def element_id(label: str) -> str:
    """A label as an id of XML and of CSS: letters, digits, `-` and `_` stay, all else is `.` and its hex code."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda m: f".{ord(m.group()):x}", label)
