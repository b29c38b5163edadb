"""Every configuration of a saga, breadth first, so that the way to each is a shortest one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from contrapas.check import invariants
from contrapas.draw.model import Config, Model, Move
from contrapas.draw.outcomes import Branches
from contrapas.draw.segment import Walker

LIMIT = 200_000
"""Configurations of one saga; beyond it the checker says CP790 instead of being silent."""

_STORY = frozenset({"start", "reply", "failure", "expiry", "limit", "undo", "undone", "end"})
"""Moves that a story may go on with: nobody cancels, no late reply comes."""
_CLEAN = frozenset({"start", "reply", "expiry", "undo", "undone", "end"})
"""Moves on which nothing has to have failed (an expiry only of a sleep)."""


@dataclass(slots=True)
class Exploration:
    """What was found out about one saga."""

    model: Model
    parents: dict[Config, tuple[Config | None, Move]] = field(
        default_factory=dict[Config, tuple[Config | None, Move]]
    )
    complete: bool = True
    moves: list[tuple[Config | None, Move]] = field(default_factory=list[tuple[Config | None, Move]])
    """Every move, with where it starts from; those that only an error in the saga's own code makes come last."""
    sound: int = 0
    """How many of `moves` need no error in the saga's own code."""
    _ahead: dict[Config | None, list[Move]] | None = None
    _clean: frozenset[Config] | None = None

    def usual(self) -> Iterator[tuple[Config | None, Move]]:
        """The moves that need no error in the saga's own code."""
        return iter(self.moves[: self.sound])

    def ahead(self, config: Config | None) -> list[Move]:
        """Moves from a configuration that need no error in the saga's own code."""
        if self._ahead is None:
            self._ahead = {}
            for source, move in self.usual():
                self._ahead.setdefault(source, []).append(move)
        return self._ahead.get(config, [])

    def clean(self) -> frozenset[Config]:
        """Configurations that are reached although nothing has failed, run out or been cancelled."""
        if self._clean is None:
            todo: list[Config | None] = [None]
            seen: set[Config] = set()
            while todo:
                for move in self.ahead(todo.pop()):
                    if move.kind in _CLEAN and not move.failure and move.config not in seen:
                        seen.add(move.config)
                        todo.append(move.config)
            self._clean = frozenset(seen)
        return self._clean

    def path(self, config: Config | None) -> list[Move]:
        """The shortest way from the start to a configuration."""
        moves: list[Move] = []
        while config is not None:
            config, move = self.parents[config]
            moves.append(move)
        return moves[::-1]

    def to_end(self, config: Config) -> list[Move]:
        """A shortest way from a configuration to an end, on which nothing is cancelled and every undo
        succeeds; empty if there is none."""
        before: dict[Config, tuple[Config, Move] | None] = {config: None}
        queue = deque([config])
        while queue and len(before) < LIMIT // 20:
            current = queue.popleft()
            if current.end:
                return _back(before, current)
            for move in self.model.moves(current):
                stuck = move.failure and move.label.startswith("undo(")
                if move.kind in _STORY and not move.bug and not stuck and move.config not in before:
                    before[move.config] = (current, move)
                    queue.append(move.config)
        return []


DENSE = 2_000
"""Configurations after which a saga is explored anew, knowing of each undo only the newest, in the order of lines: where
steps with undos stand in a loop, the orders in which the oldest and the newest of each may lie are more than anybody reads."""


def explore(
    name: str,
    walkers: Mapping[str, Walker],
    *,
    limit: int = LIMIT,
    asserted: bool = True,
    first: Config | None = None,
    branches: Branches | None = None,
) -> Exploration:
    """Look at every configuration of saga `name`; called sagas in `walkers` are entered.

    asserted: with the rules that hold of every saga (`check.invariants`); BugError CP900 when one does not.
    first: what holds already when it starts. branches: what is known of called sagas that run beside others.
    """
    if limit <= DENSE:
        return _explore(Model(name, walkers, first=first, branches=branches), limit, asserted)
    found = _explore(Model(name, walkers, first=first, branches=branches), DENSE, asserted)
    if not found.complete:
        found = _explore(Model(name, walkers, first=first, branches=branches, thin=True), limit, asserted)
    return found


def _explore(model: Model, limit: int, asserted: bool) -> Exploration:
    found = Exploration(model)
    parents, moves = found.parents, found.moves
    queue: deque[Config] = deque()
    wrong: list[tuple[Config | None, Move]] = []

    def take(source: Config | None, ahead: Iterable[Move]) -> None:
        for move in ahead:
            if move.bug:
                if not move.config.end:
                    wrong.append((source, move))
                continue
            add(source, move)

    def add(source: Config | None, move: Move) -> None:
        moves.append((source, move))
        config = move.config
        if config not in parents:
            if len(parents) >= limit:
                found.complete = False
                return
            parents[config] = (source, move)
            queue.append(config)

    def run() -> None:
        while queue and found.complete:
            config = queue.popleft()
            ahead = list(model.moves(config))
            if asserted:
                invariants.hold(model, config, ahead)
            take(config, ahead)

    take(None, model.begin())
    run()
    found.sound = len(moves)
    while wrong and found.complete:
        source, move = wrong.pop()
        add(source, move)
        run()
    return found


def _back(before: dict[Config, tuple[Config, Move] | None], config: Config) -> list[Move]:
    moves: list[Move] = []
    step = before[config]
    while step is not None:
        moves.append(step[1])
        step = before[step[0]]
    return moves[::-1]
