"""The user's app, found, compiled under its lock file, and explored: what `check`, `graph`, `dev` and `worker` share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from contrapas.author.duration import duration_ms
from contrapas.cli import text
from contrapas.compiler import lock as lock_file
from contrapas.core.world import World
from contrapas.draw.edges import program_of
from contrapas.errors import DataError, Refused
from contrapas.machine import Refusal
from contrapas.runtime import find
from contrapas.runtime.build import compiled, lock_path
from contrapas.runtime.definition import Definition
from contrapas.runtime.settings import Settings, registry_address, topic_mappings


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An app, ready to run."""

    target: str
    definition: Definition
    world: World
    warnings: tuple[Refusal, ...]
    lock: lock_file.LockFile | None
    """As it was read."""

    def updated(self) -> lock_file.LockFile:
        """The lock file as this build wants it."""
        return (self.lock or lock_file.LockFile()).updated(
            self._programs(), [(program_of(m), m) for m in self.world.kept.values()]
        )

    def stale(self) -> list[DataError]:
        """CP321 for each saga that the lock file does not match; without a file, one for all."""
        if self.lock is None:
            return [
                DataError(
                    "CP321",
                    f"there is no {lock_file.NAME} beside the app",
                    expected="a lock file",
                    got="none",
                )
            ]
        return self.lock.check(self._programs())

    def write_lock(self) -> bool:
        """Write the lock file; False when it says so already, or the app stands in no file."""
        path = lock_path(self.definition)
        return path is not None and self.updated().save(path)

    def _programs(self) -> list[tuple[Any, Any]]:
        return [
            (program_of(machine), machine)
            for machine in self.world.machines.values()
            if machine.entity is None
        ]


def target_of(given: str | None, settings: Settings) -> str:
    """MODULE:APP as given or configured; Usage-like Refused CP809 when neither is there."""
    target = given or settings.get("app")
    if not target:
        raise Refused(
            "CP809", "no app is named", fix="contrapas check shop:app, or app = in [tool.contrapas]"
        )
    return str(target)


def prepare(target: str, settings: Settings) -> Prepared:
    """Import, compile. Refused CP809, CP810; CompileError with every refusal; DataError CP321 for a torn lock file."""
    definition: Definition = find.app(target).definition()
    wanted = settings.get("namespace")
    if wanted and wanted != definition.namespace:
        source = settings.values["namespace"].source
        raise Refused(
            "CP801",
            f"the app's namespace is '{definition.namespace}', {source} says '{text.escape(str(wanted))}'",
            fix="leave it to the app",
        )
    if not definition.topics:
        definition = replace(definition, topics=topic_mappings(settings))
    if definition.registry is None:
        definition = replace(definition, registry=registry_address(settings))
    if (outage := settings.get("outage")) is not None:
        definition = replace(definition, outage_ms=duration_ms(outage, what="outage"))
    path = lock_path(definition)
    lock = lock_file.load(path) if path is not None else None
    built = compiled(definition, lock=lock)
    return Prepared(
        target=target, definition=definition, world=built.world, warnings=built.warnings, lock=lock
    )
