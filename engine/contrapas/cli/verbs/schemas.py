"""`contrapas schema`: the Avro schemas of an app's messages: list them, show one, judge them against a registry, publish."""

from __future__ import annotations

from typing import Any

import click

from contrapas.cli import exits, program, screen, text
from contrapas.cli.options import Run, command, verb
from contrapas.errors import Refused


def _schemas(run: Run, target: str | None) -> tuple[Any, list[Any]]:
    from contrapas.check.schemas import schema_of

    ready = program.prepare(program.target_of(target, run.settings), run.settings)
    types = ready.world.types.messages
    return ready, [schema_of(types[name], ready.definition.namespace) for name in sorted(types)]


def _registry(ready: Any) -> Any:
    from contrapas.runtime.registry import Registry

    if ready.definition.registry is None:
        raise Refused(
            "CP801",
            "no schema registry is configured",
            fix='registry = "https://…" in [tool.contrapas], or CONTRAPAS_REGISTRY',
        )
    return Registry(ready.definition.registry)


@command("list", "The schemas of an app's messages, with subject and fingerprint.")
@click.argument("target", metavar="[MODULE:APP]", required=False)
@verb()
def schema_list(run: Run, target: str | None) -> int:
    """MODULE is a dotted name or a file."""
    from contrapas.codec.avro_forms import fingerprint_of

    _, found = _schemas(run, target)
    for one in found:
        said = fingerprint_of(one.text) if one.text else f"no Avro: {one.why}"
        screen.line(run.look, text.escape(f"{one.name:24} {one.subject:40} {said}"))
    return exits.DONE


@command("show", "One schema, as Avro has it.")
@click.argument("name")
@click.argument("target", metavar="[MODULE:APP]", required=False)
@verb()
def schema_show(run: Run, name: str, target: str | None) -> int:
    """NAME is the registered name of a message."""
    _, found = _schemas(run, target)
    for one in found:
        if one.name == name and one.text:
            screen.line(run.look, text.escape(one.text))
            return exits.DONE
        if one.name == name:
            raise Refused("CP205", one.why)
    raise Refused("CP402", f"no message is named {text.escape(name)}", fix="contrapas schema list")


@command("check", "Judge the schemas of an app against every version in the registry.")
@click.argument("target", metavar="[MODULE:APP]", required=False)
@verb()
def schema_check(run: Run, target: str | None) -> int:
    """FULL_TRANSITIVE: every version reads every other. Nothing is written."""
    from contrapas.check.schemas import breaks

    ready, found = _schemas(run, target)
    registry = _registry(ready)
    wrong = 0
    for one in found:
        if not one.text:
            continue
        versions = [said for _, _, said in registry.versions(one.subject)]
        why = breaks(one.text, versions)
        wrong += bool(why)
        word = "breaking" if why else "new" if not versions else "compatible"
        screen.line(
            run.look, text.escape(f"{one.name:24} {word:12} {len(versions)} versions of {one.subject}")
        )
        for line in why:
            screen.line(run.look, text.escape(f"  CP606 {line}"))
    return exits.FINDINGS if wrong else exits.DONE


@command("publish", "Register the schemas of an app; shows what it would do without --apply.")
@click.argument("target", metavar="[MODULE:APP]", required=False)
@click.option("--apply", is_flag=True, help="Register them.")
@verb()
def schema_publish(run: Run, target: str | None, apply: bool) -> int:
    """At deploy time, never at run time. A subject that is new asks for FULL_TRANSITIVE."""
    from contrapas.check.schemas import MODE, breaks

    ready, found = _schemas(run, target)
    registry = _registry(ready)
    for one in found:
        if not one.text:
            continue
        versions = [said for _, _, said in registry.versions(one.subject)]
        if why := breaks(one.text, versions):
            raise Refused("CP606", f"{one.subject}: {why[0]}", fix="contrapas schema check")
        known = registry.lookup(one.subject, one.text) if versions else None
        if known is not None:
            screen.line(run.look, text.escape(f"{one.subject}: id {known}, as it is"))
        elif not apply:
            screen.line(
                run.look, text.escape(f"{one.subject}: version {len(versions) + 1} would be registered")
            )
        else:
            if not versions:
                registry.set_mode(one.subject, MODE)
            ident = registry.register(one.subject, one.text)
            screen.line(run.look, text.escape(f"{one.subject}: id {ident}, version {len(versions) + 1}"))
    return exits.DONE
