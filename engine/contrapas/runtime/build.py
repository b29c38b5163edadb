"""From a definition to a world: every saga compiled, every refusal at once, what the core needs as values."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from contrapas.author.entity import Entity, spec_of
from contrapas.author.service import Depends, mark_of
from contrapas.codec.registry import Registry, build_registry
from contrapas.compiler import compile_all
from contrapas.compiler.entities import check, entity_machine, handlers_of, with_key
from contrapas.core.world import World
from contrapas.errors import CompileError
from contrapas.machine import Machine, Refusal
from contrapas.runtime.definition import Definition
from contrapas.runtime.links import linker
from contrapas.runtime.reach import reach

LOCK = "sagas.lock.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A world, and what the compiler remarked."""

    world: World
    registry: Registry
    warnings: tuple[Refusal, ...]


def build(definition: Definition, *, lock: Any = None, strict: bool = True) -> World:
    """Compile an app. CompileError with all refusals."""
    return compiled(definition, lock=lock, strict=strict).world


def compiled(definition: Definition, *, lock: Any = None, strict: bool = True) -> Built:
    """The same, with the compiler's warnings."""
    found = reach((use.saga for use in definition.sagas), definition.entities)
    registry = build_registry(
        sagas=found.sagas,
        services=definition.services,
        steps=found.steps,
        events=[*found.events, *[cls for one in definition.externals for cls in (*one.takes, *one.emits)]],
        exceptions=found.exceptions,
        ambients=tuple(definition.provided),
    )
    handlers = [h for cls in found.entities for h in handlers_of(cls)]
    wrong = [r for cls in found.entities for r in check(cls, registry)]
    done = compile_all(
        [*found.sagas, *handlers],
        registry=registry,
        lock=lock,
        strict=strict,
        provided=frozenset(definition.provided),
    )
    machines: dict[str, Machine] = dict(done.machines)
    refusals = [*done.refusals, *wrong, *_orphans(machines, definition)]
    refusals += _unserved(found.entities, definition)
    if refusals:
        raise CompileError(tuple(refusals))
    for one in handlers:
        machines[one.name] = with_key(machines[one.name])
    for cls in definition.entities:
        machine = entity_machine(cls, registry)
        machines[machine.name] = machine
    world = World(
        namespace=definition.namespace,
        machines=machines,
        types=registry,
        modes={
            **{use.saga.name: (use.mode, use.on_late) for use in definition.sagas if not use.saga.retired},
            **{spec_of(cls).name: ("orchestrate", "alert") for cls in definition.entities},
        },
        ambient=_ambient(definition),
        log=_logger(definition.namespace),
        links=linker(),
        unmatched={use.saga.name: use.unmatched for use in definition.sagas if use.unmatched != "park"},
        kept=done.kept,
        judged=True,
    )
    return Built(world=world, registry=registry, warnings=tuple(done.warnings))


def _unserved(entities: list[type[Entity]], definition: Definition) -> Iterator[Refusal]:
    """Two of one name, and entities that are called and that nobody serves."""
    names = {use.saga.name for use in definition.sagas}
    for cls in entities:
        name = spec_of(cls).name
        code = inspect.getsourcefile(cls) or ""
        if name in names:
            text, fix = f"two sagas or entities are called {name}", 'class Chat(Entity, name="…")'
            yield Refusal(code="CP143", text=text, fix=fix, file=code, line=1, column=1)
        names.add(name)
        if cls not in definition.entities:
            text = f"{name} is called, and the app does not serve it"
            yield Refusal(
                code="CP126", text=text, fix=f"app.serve({cls.__name__})", file=code, line=1, column=1
            )


def _orphans(machines: dict[str, Machine], definition: Definition) -> Iterator[Refusal]:
    """CP126: a child is an instance of its own, and somebody must run it."""
    run = {use.saga.name for use in definition.sagas}
    for machine in machines.values():
        if machine.program is None:
            continue
        source = machine.program.source
        stack = list(machine.program.sites)
        while stack:
            site = stack.pop()
            stack += site.children
            if site.kind == "child" and site.target.name not in run:
                name = site.target.name
                yield Refusal(
                    code="CP126",
                    text=f"the app does not run {name}, which is begun here as a child",
                    fix=f"app.orchestrate({name})",
                    file=machine.file,
                    line=site.line,
                    column=site.column + 1,
                    source=source[site.line - 1] if site.line <= len(source) else "",
                )


def lock_path(definition: Definition) -> Path | None:
    """Where the labels of this app are locked: beside the file that declares it."""
    return Path(definition.file).with_name(LOCK) if definition.file else None


def _ambient(definition: Definition) -> Callable[[Machine], tuple[Any, ...]]:
    provided = definition.provided

    def ambient(machine: Machine) -> tuple[Any, ...]:
        if not machine.ambients:
            return ()
        return tuple([_made(kind, provided) for _, kind in machine.ambients])

    return ambient


def _made(kind: Any, provided: Any) -> Any:
    """A value for one ambient parameter, made anew."""
    if (mark := mark_of(kind)) is not None:
        return mark.dependency()
    if isinstance(kind, Depends):
        return cast(Any, kind).dependency()
    return provided[kind]()


def _logger(namespace: str) -> Callable[[str, str], Any]:
    base = logging.getLogger(f"contrapas.{namespace}")

    def logger(instance: str, state: str) -> Any:
        return logging.LoggerAdapter(base, {"instance": instance, "state": state})

    return logger
