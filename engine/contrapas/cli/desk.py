"""What `doctor` says of the schema registry: whether it answers, and whether what an app writes fits what is registered there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from contrapas.core.finding import Finding
from contrapas.errors import ContrapasError
from contrapas.runtime.settings import Settings, registry_address

if TYPE_CHECKING:
    from contrapas.runtime.registry import Registry

TIMEOUT_S = 3.0


def registry_findings(target: str | None, settings: Settings) -> Iterator[Finding]:
    """Of the registry that is configured, or that the app names; nothing where there is none. target: MODULE:APP, whose
    schemas are judged against every version that is registered."""
    from contrapas.runtime.registry import Registry

    try:
        address, found = _asked(target, settings)
        if address is None:
            return
        registry = Registry(address, timeout_s=TIMEOUT_S)
        registry.subjects()
        for one in found:
            yield from _judged(registry, one, target or "MODULE:APP")
    except ContrapasError as why:
        fix = "correct registry, registry_auth or registry_ca: where it is configured; then contrapas doctor"
        yield Finding(True, why.code, why.text, why.fix if why.code != "CP525" else fix)


def _asked(target: str | None, settings: Settings) -> tuple[Any, list[Any]]:
    """The address, and the schemas of the app."""
    from contrapas.runtime import find

    if target is None:
        return registry_address(settings), []
    module, name = find.load(target, default="app")
    if not callable(getattr(getattr(module, name, None), "definition", None)):
        return registry_address(settings), []
    from contrapas.check.schemas import schema_of
    from contrapas.cli.program import prepare

    ready = prepare(target, settings)
    if ready.definition.registry is None:
        return None, []
    types = ready.world.types.messages
    return ready.definition.registry, [
        schema_of(types[name], ready.definition.namespace) for name in sorted(types)
    ]


def _judged(registry: Registry, one: Any, target: str) -> Iterator[Finding]:
    """One schema, where its subject is known: an app that writes JSON registers nothing."""
    from contrapas.check.schemas import breaks

    if not one.text:
        return
    versions = [said for _, _, said in registry.versions(one.subject)]
    if why := breaks(one.text, versions):
        text = f"{one.subject}: the app's schema breaks a registered version: {why[0]}"
        yield Finding(True, "CP606", text, f"contrapas schema check {target}", one.subject)
    elif versions and registry.lookup(one.subject, one.text) is None:
        text = f"{one.subject}: the app's schema is newer than what is registered, and not registered itself"
        yield Finding(False, "CP606", text, f"contrapas schema publish {target} --apply", one.subject)
