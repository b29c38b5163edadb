"""`Simulation`: your own sagas, services and steps under everything that can go wrong, in memory, from a seed."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from contrapas.testing.simulation import floors
from contrapas.testing.simulation.chance import Chance
from contrapas.testing.simulation.guard import virtual
from contrapas.testing.simulation.options import CALM, Options
from contrapas.testing.simulation.play import Outcome, Play, world_of
from contrapas.testing.simulation.scene import End, Ended, Scene
from contrapas.testing.simulation.shrink import shrink

VARIABLE = "CONTRAPAS_SIMULATE"
TOLD = 12
"""Last events of a failing world that are told."""
SHRINK_S = 20.0


@dataclass(slots=True)
class Figures:
    """What a simulation went through."""

    worlds: int = 0
    transitions: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    """By kind: `crash`, `unknown commit`, `pause`, `duplicate delivery` …"""
    sometimes: Counter[str] = field(default_factory=Counter[str])
    """Rare things, and how often they came about: `undo overtook its command` …"""

    def __str__(self) -> str:
        faults = floors.total(self.faults)
        return f"{self.worlds} worlds, {self.transitions} transitions, {faults} faults, nothing wrong"


@dataclass(frozen=True, slots=True)
class _World:
    """Which world: a seed, and at which place, counted from its beginning, its one worker dies; 0: by chance."""

    options: Options
    place: int = 0
    keep: frozenset[int] | None = None


class Simulation:
    """Run an app's sagas, services and steps through crashes, takeovers, doubled, late and reordered messages.

    app: the `App` under test. scene: fills one world; it is called anew for each, so what it makes (a fake bank, a list of
    mails) is that world's own. Time is virtual, chance comes from the seed, sockets and threads raise.

        def shop(scene: Scene) -> None:
            bank = Bank()
            scene.start(lambda n: OrderPlaced(order_id=f"o-{n}", cents=100))
            scene.stub(charge, bank.charge)
            scene.reply(ReserveStock, lambda c: StockReserved(order_id=c.order_id))

            @scene.check
            def charged_once(end: End) -> None:
                for order in end.instances.values():
                    assert bank.charges(order.instance) <= 1

        def test_orders() -> None:
            Simulation(app, shop).run(worlds=50)

    `run` first kills the worker at every place that one instance passes (before a transition is written, after it is
    written and before anybody knows, before its messages leave …), then plays worlds in which everything goes wrong by
    chance: several workers that stand still, lose their partitions and do not know it, logs that do not answer, messages
    that come twice, late and out of order, steps and participants whose answer is lost. In all of them the engine's own
    promises are looked at, every instance must come to an end, and your checks must hold.

    A finding is an AssertionError with one report: what does not hold, the smallest world it was found in, what went wrong
    there, and one command that repeats it.
    """

    def __init__(
        self, app: Any, scene: Callable[[Scene], None], *, instances: int = 20, days: int = 40
    ) -> None:
        self._definition = app.definition()
        self._scene = scene
        self._instances = instances
        self._days = days

    def run(self, worlds: int = 50, *, first: int = 0, seconds: float = 0) -> Figures:
        """Every place one instance passes, then so many worlds, or as many as fit into the time.

        worlds: how many by chance, from seed `first` on. seconds: of the clock; 0: no end. Gives what was gone through.
        AssertionError: the first finding. With CONTRAPAS_SIMULATE in the environment, as a report says it, only that world.
        """
        figures, until = Figures(), time.monotonic() + seconds if seconds else float("inf")
        if text := os.environ.get(VARIABLE):
            self._judge(_read(text, self._options), figures)
            return figures
        for fence in ("refuse", "order"):
            place = 1
            while time.monotonic() < until:
                done = self._judge(_World(self._calm(fence), place), figures)
                if not done.faults.get("crash"):
                    break
                place += 1
        for seed in range(first, first + worlds):
            if time.monotonic() > until:
                break
            self._judge(_World(self._options(seed)), figures)
        return figures

    # ---- worlds

    def _options(self, seed: int) -> Options:
        drawn = Options.drawn(seed, [self._definition.namespace])
        return drawn.but({"instances": min(drawn.instances, self._instances)})

    def _calm(self, fence: str) -> Options:
        """Nothing goes wrong but what is asked for."""
        drawn = Options.drawn(0, [self._definition.namespace], fence=fence)
        return replace(
            drawn, rates=CALM, instances=1, workers=1, partitions=1, gaps=0.0, atomic=fence == "refuse", batch=500,
            spread_ms=200, lag_ms=6, long=False,
        )  # fmt: skip

    def _play(self, which: _World) -> Outcome:
        options = which.options
        scene = Scene(self._definition, world_of(self._definition), options.seed)
        self._scene(scene)
        play = Play(scene.load(self._days), options, Chance(options.seed, which.keep))
        scene.play = play
        if which.place:
            play.killer.left = which.place
            play.killer.on_kill = lambda place: _strike(play, place)
        with virtual(options.seed, play.universe):
            return play.run()

    def _judge(self, which: _World, figures: Figures) -> Outcome:
        done = self._play(which)
        figures.worlds += 1
        figures.transitions += done.transitions
        figures.faults.update(done.faults)
        figures.sometimes.update(done.sometimes)
        if done.wrong:
            if which.place == 0 and which.keep is None:
                which, done = self._smaller(which, done)
            raise AssertionError(_report(self._definition.namespace, which, done))
        return done

    def _smaller(self, which: _World, failed: Outcome) -> tuple[_World, Outcome]:
        again = partial(self._again, which)
        options, keep, best = shrink(failed, again, seconds=SHRINK_S)
        return _World(options, 0, keep), best

    def _again(self, which: _World, options: Options, keep: frozenset[int] | None) -> Outcome:
        return self._play(_World(options, which.place, keep))


def _strike(play: Play, place: str) -> bool:
    if not play.chance.strike("crash"):
        return False
    play.chance.faults[f"crash: {place}"] += 1
    play.universe.note(f"killed at {place}")
    return True


# ---- the report


def _report(name: str, which: _World, done: Outcome) -> str:
    options = which.options
    number, _, text = done.wrong.partition(": ")
    said = text if number == "I-18" else done.wrong
    faults = ", ".join(what for _, what in done.tape) or "nothing"
    more = "; ".join(sorted(what for what in done.faults if ": " in what))
    lines = [
        f"{name}: {said}",
        f"  the world: seed {options.seed}, {options.instances} instances, {options.workers} workers, "
        f"{options.partitions} partitions" + (f", {options.fence} fence" if which.place else ""),
        f"  what went wrong there: {faults}" + (f" ({more})" if more else ""),
        "  its last events (ms since it began):",
        *[f"    {event}" for event in done.events[-TOLD:]],
        f"  repeat: {VARIABLE}='{_words(which)}' {_command()}",
    ]
    return "\n".join(lines)


def _command() -> str:
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    return f"pytest '{test}'" if test else f"python {sys.argv[0]}"


def _words(which: _World) -> str:
    o = which.options
    words = [
        f"seed={o.seed}",
        f"instances={o.instances}",
        f"workers={o.workers}",
        f"partitions={o.partitions}",
    ]
    if which.place:
        words += [f"fence={o.fence}", f"place={which.place}"]
    if which.keep is not None:
        words.append(f"keep={'+'.join(str(n) for n in sorted(which.keep))}")
    return " ".join(words)


def _read(text: str, options_of: Callable[[int], Options]) -> _World:
    """What a report said. ValueError where it is something else."""
    said = dict(part.split("=", 1) for part in text.split())
    options = options_of(int(said["seed"]))
    place = int(said.get("place", "0"))
    if place:
        raise_fence = "order" if said.get("fence") == "order" else "refuse"
        drawn = Options.drawn(options.seed, [options.load], fence=raise_fence)
        options = replace(
            drawn,
            rates=CALM,
            gaps=0.0,
            atomic=raise_fence == "refuse",
            batch=500,
            spread_ms=200,
            lag_ms=6,
            long=False,
        )
    sizes: dict[str, int] = {n: int(said[n]) for n in ("instances", "workers", "partitions") if n in said}
    keep = frozenset(int(n) for n in said["keep"].split("+") if n) if "keep" in said else None
    return _World(options.but(sizes), place, keep)


__all__ = ["End", "Ended", "Figures", "Scene", "Simulation"]
