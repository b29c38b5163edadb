"""`contrapas graph`: the machine of a saga as text, picture or data; one instance laid over it; who sends what to whom."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from contrapas.cli import exits, machines, program, screen, text
from contrapas.cli.options import Run, command, verb
from contrapas.draw.graph import Graph
from contrapas.errors import Refused

if TYPE_CHECKING:
    from contrapas.cli.way import Laid


@command("graph", "Print or draw the machines of an app, or of one saga.")
@click.argument("target", metavar="[MODULE:APP|SAGA]", required=False)
@click.option("--saga", "wanted", metavar="NAME", help="Only this one.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "mermaid", "svg", "dot", "json")),
    default="text",
    show_default=True,
)
@click.option("--choreography", is_flag=True, help="All sagas and services: who sends what to whom.")
@click.option("--instance", metavar="KEY", help="Lay the way of one instance on the log over its machine.")
@click.option(
    "--at", metavar="POS", help="The instance as it was then: 1041, -2, +3, @-1h, @2026-11-20T09:00Z."
)
@verb(log=True)
def graph(
    run: Run,
    target: str | None,
    wanted: str | None,
    form: str,
    choreography: bool,
    instance: str | None,
    at: str | None,
) -> int:
    """Of an app (shop:app, sagas/order/saga.py:app), or of a saga that workers run on the log here."""
    if choreography and (instance or wanted):
        raise exits.Usage(
            "CP814", "--choreography is of the whole app", fix="leave --saga and --instance out"
        )
    if at is not None and not instance:
        raise exits.Usage("CP814", "--at needs --instance KEY")
    if choreography:
        return _choreography(run, target, form)
    if instance:
        from contrapas.cli.way import laid

        name = wanted or (target if _is_name(target) else None)
        module = None if _is_name(target) else target
        way = laid(run, instance, at, name, module, time.time_ns() // 1_000_000)
        return _shown(run, [way.graph], form, way)
    found = _known(run, target) if target and _is_name(target) else None
    if found is None:
        found = of_module(run, target)
    if wanted is not None:
        names = [one.name for one in found]
        found = [one for one in found if one.name == wanted]
        if not found:
            near = text.nearest(wanted, names)
            raise Refused(
                "CP813",
                f"there is no saga '{text.escape(wanted)}'",
                fix=f"--saga {near or names[0]}" if names else "",
            )
    return _shown(run, found, form, None)


def of_module(run: Run, target: str | None) -> list[Graph]:
    """Graphs of the sagas of an app."""
    from contrapas.draw.edges import graph_of

    ready = program.prepare(program.target_of(target, run.settings), run.settings)
    uses = [use for use in ready.definition.sagas if not use.saga.retired]
    return [graph_of(ready.world.machines[use.saga.name]) for use in uses]


def _is_name(target: str | None) -> bool:
    """Whether it names a saga, not a module."""
    return target is not None and ":" not in target and "/" not in target and not target.endswith(".py")


def _shown(run: Run, found: list[Graph], form: str, way: Laid | None) -> int:
    if form == "json":
        from contrapas.draw.data import data

        documents = [data(one) for one in found]
        if way is not None:
            documents[0]["instance"] = way.data()
        screen.document(documents if len(documents) != 1 else documents[0])
        return exits.DONE
    drawn = [_drawn(run, one, form, way) for one in found]
    screen.line(run.look, "\n".join(drawn).rstrip("\n"))
    return exits.DONE


def _known(run: Run, target: str) -> list[Graph] | None:
    """Graphs of a saga from the note beside the log; None: the target is a module."""
    from contrapas.cli.lanes import open_file
    from contrapas.errors import ContrapasError

    try:
        with open_file(run.settings) as log:
            note = machines.read(log)
    except ContrapasError:
        return None
    found = [one for one in note.graphs.values() if one.name == target]
    return found[-1:] or None


def _drawn(run: Run, one: Graph, form: str, way: Laid | None) -> str:
    classes = None if way is None else way.marks
    match form:
        case "mermaid":
            from contrapas.draw.mermaid import mermaid

            return mermaid(one, classes=classes)
        case "svg":
            from contrapas.draw.svg import svg

            return svg(one, classes=classes)
        case "dot":
            from contrapas.draw.dot import dot

            return dot(one, classes=classes)
        case _:
            from contrapas.draw.text import text as table

            return table(one) if way is None else "\n".join([*way.lines(run.look.ascii), "", table(one)])


def _choreography(run: Run, target: str | None, form: str) -> int:
    """All sagas and services of an app, from their annotations."""
    from contrapas.draw import exports
    from contrapas.draw.services import choreography, scheme_of_all

    ready = program.prepare(program.target_of(target, run.settings), run.settings)
    definition: Any = ready.definition
    modes = [(use.saga.name, use.mode, use.on_late) for use in definition.sagas]
    made = choreography(
        definition.namespace, ready.world.machines, modes, definition.services, definition.externals
    )
    if form == "json":
        screen.document(exports.data(made))
        return exits.DONE
    match form:
        case "mermaid":
            drawn = exports.mermaid(made)
        case "svg":
            from contrapas.draw.svg import drawing

            drawn = drawing(scheme_of_all(made))
        case "dot":
            drawn = exports.dot(made)
        case _:
            drawn = exports.table(made)
    screen.line(run.look, drawn.rstrip("\n"))
    return exits.DONE
