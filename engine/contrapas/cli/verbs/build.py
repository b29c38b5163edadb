"""`contrapas build`: sources and machines of an app as a side file, for deployments that ship no sources."""

from __future__ import annotations

import os
from pathlib import Path

import click

from contrapas.cli import exits, program, screen, text
from contrapas.cli.options import Run, command, verb
from contrapas.errors import Refused


@command("build", "Write the sources and machines of an app to a side file, for deployments without source.")
@click.argument("target", metavar="[MODULE:APP]", required=False)
@click.option("--out", metavar="FOLDER", help="Where to; beside the app's module unless told otherwise.")
@verb()
def build(run: Run, target: str | None, out: str | None) -> int:
    """MODULE is a dotted name or a file: sagas/order/saga.py:app."""
    import linecache

    from contrapas.compiler import sidefile
    from contrapas.machine.data import to_data

    ready = program.prepare(program.target_of(target, run.settings), run.settings)
    if ready.lock is not None and (stale := ready.stale()):
        raise stale[0]
    machines = [*ready.world.machines.values(), *ready.world.kept.values()]
    found: dict[str, tuple[str, dict[str, int]]] = {}
    for machine in machines:
        fn = machine.native
        assert fn is not None
        name = str(fn.__globals__.get("__name__"))
        lines = linecache.getlines(fn.__code__.co_filename, fn.__globals__)
        first = found.setdefault(name, ("".join(lines), {}))[1]
        first[machine.name] = fn.__code__.co_firstlineno
    folder = Path(out) if out else Path(ready.definition.file).parent
    if not folder.is_dir():
        raise Refused("CP813", f"there is no folder {text.escape(str(folder))}", fix="--out FOLDER")
    path = folder / sidefile.NAME
    said = sidefile.dump(
        [(name, body, first) for name, (body, first) in found.items()], [to_data(m) for m in machines]
    )
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(said, encoding="utf-8")
    os.replace(beside, path)
    count = text.plural(len(machines), "machine")
    screen.line(run.look, f"{text.escape(str(path))}   {count} from {text.plural(len(found), 'module')}")
    return exits.DONE
