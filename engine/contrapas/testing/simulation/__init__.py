"""Deterministic simulation: the real runtime under a seed, in virtual time, with everything around it going wrong.

`play_seed` runs one world: workers with clocks of their own, a log that forgets to answer, a group that is late and wrong,
steps and services that fail in every way, people who cancel. Every invariant is looked at while it happens. The same seed
gives the same trace on every interpreter.
"""

from __future__ import annotations

from contrapas.testing.simulation.chance import Chance
from contrapas.testing.simulation.load import Load
from contrapas.testing.simulation.options import CALM, Options, Rates
from contrapas.testing.simulation.play import Outcome, Play
from contrapas.testing.simulation.universe import Wrong

__all__ = ["CALM", "Chance", "Load", "Options", "Outcome", "Play", "Rates", "Wrong"]
