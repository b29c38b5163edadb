"""`Scene`: what a user's test puts into one simulated world: who starts, what participants and steps do, what must hold."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from contrapas.author.duration import Duration, duration_ms
from contrapas.author.event import Command, Event
from contrapas.author.step import StepDef
from contrapas.codec.strict import load_model
from contrapas.core.world import World
from contrapas.runtime.definition import Definition
from contrapas.runtime.doors import value_of
from contrapas.testing.simulation.load import Load, Reply

if TYPE_CHECKING:
    from contrapas.testing.simulation.play import Play

Ok = TypeVar("Ok", bound=Event)
Fail = TypeVar("Fail", bound=Event)
C = TypeVar("C", bound=Command[Any, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One instance when a world has come to rest."""

    instance: str
    """`place_order/o-1`."""
    status: str
    """`done`, `compensated`, `failed`, `parked`; of an entity `waiting`."""
    outcome: Event | None
    """What it returned."""
    event: Event | None
    """What started it; None: an event or another saga of the app."""
    locals: Mapping[str, Any]
    """The variables of its innermost frame, as the record holds them."""


@dataclass(frozen=True, slots=True)
class End:
    """All instances of a world that has come to rest, by name."""

    instances: Mapping[str, Ended] = field(default_factory=dict[str, Ended])


class Scene:
    """One world in the making. Your function is given a new one for each world, and fills it."""

    def __init__(self, definition: Definition, world: World, seed: int) -> None:
        self.seed = seed
        self._definition = definition
        self._world = world
        self._make: Callable[[int], Event] | None = None
        self._steps: dict[str, Callable[..., Any]] = {}
        self._replies: dict[str, Reply] = {}
        self._undone: set[str] = set()
        self._checks: list[Callable[[End], object]] = []
        self._parks: set[str] = set()
        self.play: Play | None = None

    # ---- what a test says

    def start(self, make: Callable[[int], Event]) -> None:
        """How the n-th instance begins, from 0. Called when its time has come: what it sends itself comes later."""
        self._make = make

    def random(self) -> float:
        """0 … 1, from the seed: the same again when the world is repeated."""
        return self._running().chance.order()

    def send(self, event: Event, *, after: Duration = "0s") -> None:
        """An event of a class with a topic, published so much later: by then its instance may have ended, or not be there."""
        self._running().tell(event, duration_ms(after))

    def cancel(self, instance: str, *, after: Duration = "0s", kill: bool = False) -> None:
        """People cancel an instance (`place_order/o-1`) so much later, or kill it."""
        self._running().operate(instance, "kill" if kill else "cancel", duration_ms(after))

    def stub(self, step: StepDef[..., Any], calls: Callable[..., Any]) -> None:
        """What a local step does here; the others do what is written in them. An attempt may be repeated, or be lost on
        the way back: this is called each time, as the real one would be."""
        self._steps[step.name] = calls

    def reply(self, command: type[C], answer: Callable[[C], Event]) -> None:
        """How a participant answers a command: with one of its reply types. Called once for each id, as an inbox would see
        to it; without it nine of ten commands succeed, and the others fail if they can."""
        name = self._world.types.message_of(command).name
        cls: Any = command

        def said(play: Play, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
            asked = load_model(cls, json.dumps(body).encode(), name=name)
            event = answer(asked)
            message = play.world.types.message_of(type(event))
            return message.name, json.loads(value_of(message, event))

        self._replies[name] = said

    def takes_back(self, *commands: type[Command[Any, Any]]) -> None:
        """What these commands did must be taken back wherever their saga ends compensated."""
        self._undone |= {self._world.types.message_of(c).name for c in commands}

    def may_park(self, *codes: str) -> None:
        """Instances may be left standing with these codes (`CP709`); with any other that is a finding."""
        self._parks |= set(codes)

    def check(self, holds: Callable[[End], object]) -> None:
        """What must be true when everything has come to rest: an assertion in it that fails is a finding."""
        self._checks.append(holds)

    # ---- what the simulation makes of it

    def load(self, days: int) -> Load:
        """The scene as a load."""
        return Load(
            name=self._definition.namespace,
            definition=self._definition,
            saga="",
            start=self._starts,
            steps=lambda play: {name: plain(fn) for name, fn in self._bodies().items()},
            replies=self._replies,
            undone_by=frozenset(self._undone),
            kept=False,
            final=self._final,
            days=days,
            parks=frozenset(self._parks),
        )

    def _starts(self, play: Play, number: int) -> Event:
        assert self._make is not None
        return self._make(number)

    def _bodies(self) -> dict[str, Callable[..., Any]]:
        own = {name: step.fn for name, step in self._world.types.steps.items()}
        return {**own, **self._steps}

    def _running(self) -> Play:
        if self.play is None:
            raise TypeError("nothing happens yet: say this in what `start`, `stub` or `reply` calls")
        return self.play

    def _final(self, play: Play) -> list[str]:
        types = play.world.types.messages
        found: dict[str, Ended] = {}
        for instance, record in play.ended.items():
            mine = types.get(record.outcome)
            outcome: Any = None
            if mine is not None:
                outcome = load_model(mine.cls, record.outcome_body.encode(), name=mine.name)
            slots = record.root.frames[-1].slots if record.root.frames else {}
            found[instance] = Ended(
                instance=instance, status=record.status, outcome=outcome, event=play.started.get(instance),
                locals={name: json.loads(text) for name, text in slots.items()},
            )  # fmt: skip
        bad: list[str] = []
        for holds in self._checks:
            try:
                holds(End(found))
            except AssertionError as why:
                name = getattr(holds, "__name__", "a check")
                bad.append(f"{name} does not hold{f': {why}' if str(why) else ''}")
        return bad


def plain(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A step's body, called and over at once: an `async` one may await nothing that takes time."""
    if not inspect.iscoroutinefunction(fn):
        return fn

    def call(*args: Any, **kwargs: Any) -> Any:
        made = fn(*args, **kwargs)
        try:
            made.send(None)
        except StopIteration as done:
            return done.value
        made.close()
        raise TypeError(
            f"{fn.__qualname__} waits for something real, and nothing is real in a simulation: stub it, "
            f"`scene.stub({fn.__name__}, …)`"
        )

    return call
