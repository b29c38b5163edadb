"""Every configuration of a saga, breadth first, so that the way to each is a shortest one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from contrapas.draw.model import Config, Model, Move
from contrapas.draw.segment import Walker

LIMIT = 200_000
"""Configurations of one saga; beyond it the checker says CP790 instead of being silent."""

Visitor = Callable[[Config | None, Move], None]
"""Is shown every move once, with the configuration it starts from (None: the start)."""

_STORY = frozenset({"start", "reply", "failure", "expiry", "undo", "undone", "end"})
"""Moves that a story may go on with: nobody cancels, no late reply comes."""


@dataclass(slots=True)
class Exploration:
    """What was found out about one saga."""

    model: Model
    parents: dict[Config, tuple[Config | None, Move]] = field(
        default_factory=dict[Config, tuple[Config | None, Move]]
    )
    complete: bool = True

    def path(self, config: Config | None) -> list[Move]:
        """The shortest way from the start to a configuration."""
        moves: list[Move] = []
        while config is not None:
            config, move = self.parents[config]
            moves.append(move)
        return moves[::-1]

    def to_end(self, config: Config) -> list[Move]:
        """A shortest way from a configuration to an end, on which nothing is cancelled; empty if there is none."""
        before: dict[Config, tuple[Config, Move] | None] = {config: None}
        queue = deque([config])
        while queue and len(before) < LIMIT // 20:
            current = queue.popleft()
            if current.end:
                return _back(before, current)
            for move in self.model.moves(current):
                if move.kind in _STORY and not move.bug and move.config not in before:
                    before[move.config] = (current, move)
                    queue.append(move.config)
        return []


def explore(
    name: str, walkers: Mapping[str, Walker], visitors: Iterable[Visitor] = (), *, limit: int = LIMIT
) -> Exploration:
    """Look at every configuration of saga `name`; called sagas in `walkers` are entered."""
    found = Exploration(Model(name, walkers))
    watching = tuple(visitors)
    queue: deque[Config] = deque()

    def take(source: Config | None, move: Move) -> None:
        if move.bug and move.config.end:
            return
        for visit in watching:
            visit(source, move)
        if move.config in found.parents:
            return
        if len(found.parents) >= limit:
            found.complete = False
            return
        found.parents[move.config] = (source, move)
        queue.append(move.config)

    for first in found.model.begin():
        take(None, first)
    while queue and found.complete:
        config = queue.popleft()
        for move in found.model.moves(config):
            take(config, move)
    return found


def _back(before: dict[Config, tuple[Config, Move] | None], config: Config) -> list[Move]:
    moves: list[Move] = []
    step = before[config]
    while step is not None:
        moves.append(step[1])
        step = before[step[0]]
    return moves[::-1]
