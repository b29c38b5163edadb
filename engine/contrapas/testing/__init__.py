"""Help for tests of sagas and of connectors. Nothing that runs in production may import it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contrapas.testing.conformance import exercise_log
    from contrapas.testing.conformance_store import exercise_store
    from contrapas.testing.sagas import Run, Sagas, Seen
    from contrapas.testing.simulation.scene import End, Scene
    from contrapas.testing.simulation.users import Simulation

__all__ = ["End", "Run", "Sagas", "Scene", "Seen", "Simulation", "exercise_log", "exercise_store"]

_HOME = {
    "End": "contrapas.testing.simulation.scene",
    "Scene": "contrapas.testing.simulation.scene",
    "Simulation": "contrapas.testing.simulation.users",
    "Run": "contrapas.testing.sagas",
    "Sagas": "contrapas.testing.sagas",
    "Seen": "contrapas.testing.sagas",
    "exercise_log": "contrapas.testing.conformance",
    "exercise_store": "contrapas.testing.conformance_store",
}


def __getattr__(name: str) -> Any:
    if (home := _HOME.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
