"""`contrapas graph`: the machine of a saga as text, picture or data."""

from __future__ import annotations

import click

from contrapas.cli import exits, machines, program, screen, text
from contrapas.cli.options import Run, command, verb
from contrapas.draw.graph import Graph
from contrapas.errors import Refused


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
@verb(log=True)
def graph(run: Run, target: str | None, wanted: str | None, form: str) -> int:
    """Of an app (shop:app, sagas/order/saga.py:app), or of a saga that workers run on the log here."""
    found = (
        _known(run, target)
        if target and ":" not in target and "/" not in target and not target.endswith(".py")
        else None
    )
    if found is None:
        from contrapas.draw.edges import graph_of

        ready = program.prepare(program.target_of(target, run.settings), run.settings)
        found = [graph_of(ready.world.machines[use.saga.name]) for use in ready.definition.sagas]
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
    if form == "json":
        from contrapas.draw.data import data

        screen.document([data(one) for one in found] if len(found) != 1 else data(found[0]))
        return exits.DONE
    drawn = [_drawn(one, form) for one in found]
    screen.line(run.look, "\n".join(drawn).rstrip("\n"))
    return exits.DONE


def _known(run: Run, target: str) -> list[Graph] | None:
    """Graphs of a saga from the note beside the log; None: the target is a module."""
    from contrapas.cli.lanes import open_file
    from contrapas.errors import ContrapasError

    try:
        with open_file(run.settings) as log:
            note = machines.read(log.path, log.namespace)
    except ContrapasError:
        return None
    found = [one for one in note.graphs.values() if one.name == target]
    return found[-1:] or None


def _drawn(one: Graph, form: str) -> str:
    match form:
        case "mermaid":
            from contrapas.draw.mermaid import mermaid

            return mermaid(one)
        case "svg":
            from contrapas.draw.svg import svg

            return svg(one)
        case "dot":
            from contrapas.draw.dot import dot

            return dot(one)
        case _:
            from contrapas.draw.text import text as table

            return table(one)
