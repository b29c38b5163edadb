"""`contrapas explain CODE`: the long form of an error or finding, with an example where one exists."""

from __future__ import annotations

import textwrap

import click

from contrapas import codes
from contrapas.cli import exits, screen, text
from contrapas.cli.examples import EXAMPLES
from contrapas.cli.options import Run, command, verb
from contrapas.errors import Refused


@command("explain", "The long form of an error or finding; without CODE the list of all.")
@click.argument("code", required=False)
@verb(data=True)
def explain(run: Run, code: str | None) -> int:
    """Print one entry of the table of codes, or all titles."""
    if code is None:
        found = [{"code": one.code, "kind": one.kind, "title": one.title} for one in codes.table().values()]
        screen.rows(run.look, found, [("CODE", _code), ("KIND", _kind), ("", _title)], id="code")
        return exits.DONE
    name = code.upper() if code.upper().startswith("CP") else f"CP{code}"
    entry = codes.table().get(name)
    if entry is None:
        near = text.nearest(name, list(codes.table()))
        raise Refused(
            "CP813", f"there is no code '{text.escape(code)}'", fix=f"contrapas explain {near or 'CP101'}"
        )
    example = EXAMPLES.get(name)
    if run.look.form in ("json", "jsonl"):
        value = {
            "code": entry.code,
            "kind": entry.kind,
            "title": entry.title,
            "explanation": entry.explanation,
            "fix": entry.fix,
            "example": example.shown if example else "",
        }
        (screen.document if run.look.form == "json" else screen.stream)(value)
        return exits.DONE
    out = [f"{entry.code}  {entry.kind}  {entry.title}"]
    if entry.explanation:
        out += ["", *textwrap.wrap(entry.explanation, 100, initial_indent="  ", subsequent_indent="  ")]
    if entry.fix:
        out += ["", *textwrap.wrap(entry.fix, 94, initial_indent="  fix   ", subsequent_indent="        ")]
    if example:
        out += ["", "  example", *(f"    {row}".rstrip() for row in example.shown.strip("\n").split("\n"))]
    screen.lines(run.look, out)
    return exits.DONE


def _code(row: screen.Row) -> str:
    return str(row["code"])


def _kind(row: screen.Row) -> str:
    return str(row["kind"])


def _title(row: screen.Row) -> str:
    return str(row["title"])
