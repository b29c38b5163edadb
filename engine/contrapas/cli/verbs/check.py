"""`contrapas check`: compile an app and explore every machine; what is found is told as stories. Exit 4."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from contrapas.cli import exits, fail, program, screen, text
from contrapas.cli.options import Run, command, verb
from contrapas.errors import CompileError, ContrapasError
from contrapas.machine import Refusal


@command(
    "check", "Explore every machine of an app before it runs: each failure, timeout, late reply and cancel."
)
@click.argument("target", metavar="[MODULE:APP]", required=False)
@click.option("--strict", is_flag=True, help="Warnings fail the command too.")
@click.option("--frozen", is_flag=True, help="Fail when sagas.lock.json does not match (for CI).")
@click.option("--update", is_flag=True, help="Write sagas.lock.json.")
@click.option("--against-live", "live", is_flag=True, help="Judge the instances that the log (--log) holds.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "json", "github", "sarif")),
    default="text",
    show_default=True,
)
@verb(log=True)
def check(
    run: Run, target: str | None, strict: bool, frozen: bool, update: bool, live: bool, form: str
) -> int:
    """MODULE is a dotted name or a file: sagas/order/saga.py:app."""
    name = program.target_of(target, run.settings)
    try:
        ready = program.prepare(name, run.settings)
    except CompileError as error:
        return _refused(run, form, error.refusals)
    except ContrapasError as error:
        if error.code in ("CP809", "CP801", "CP806"):
            raise
        fail.show(error, verbose=run.verbose)
        return exits.FINDINGS
    if live:
        return _against_live(run, ready, form)
    from contrapas.check.report import check_app

    report = check_app(ready.world.machines, ready.definition)
    stale = ready.stale() if frozen else []
    if update:
        ready.write_lock()
    if form == "json":
        screen.document(_data(report, ready.warnings, stale))
    elif form == "sarif":
        screen.document(_sarif((*report.findings, *report.allowed), ready.warnings, stale))
    elif form == "github":
        for one in report.findings:
            screen.line(run.look, _github(one.severity, one.file, one.line, one.column, one.code, one.text))
        for warning in ready.warnings:
            screen.line(
                run.look,
                _github("warning", warning.file, warning.line, warning.column, warning.code, warning.text),
            )
    else:
        screen.lines(run.look, report_lines(report, ready.warnings))
        for old in stale:
            screen.lines(run.look, fail.lines(old)[:2])
    errors = report.errors + len(stale)
    warnings = report.warnings + len(ready.warnings)
    return exits.FINDINGS if errors or (strict and warnings) else exits.DONE


def _against_live(run: Run, ready: program.Prepared, form: str) -> int:
    """Only the instances: the machines themselves are explored without a log."""
    from contrapas.cli import live
    from contrapas.cli.lanes import open_file

    with open_file(run.settings) as log:
        found = live.look(log, ready.world)
    if form == "json":
        screen.document({"live": live.data(found)})
    elif form == "github":
        for one in found.groups:
            words = f"{one.number} live in '{one.label}' of {one.saga}@{one.graph}: {one.words}"
            screen.line(run.look, _github("error", "sagas.lock.json", 1, 1, "CP310", words))
    elif form == "sarif":
        raise exits.Usage("CP814", "--against-live has no sarif form", fix="--format json")
    else:
        screen.lines(run.look, live.told(found, ready.world))
    return exits.FINDINGS if found.findings else exits.DONE


def report_lines(report: Any, remarks: tuple[Refusal, ...]) -> list[str]:
    """A report for people: the sagas, the stories, what was allowed, the count."""
    from contrapas.check.story import render

    width = max((len(stat.saga) for stat in report.stats), default=0)
    out = [stat.line(width) for stat in report.stats]
    for finding in report.findings:
        out += render(finding, show=near).split("\n")
    for warning in remarks:
        out += fail.refusal(warning)
    for finding in report.allowed:
        out.append(
            f"{near(finding.file)}:{finding.line}  allowed {finding.code}  {text.escape(finding.allowed)}"
        )
    if not out:
        return ["no saga is declared", "   fix  app.orchestrate(order), or app.observe(order)"]
    counts = [(report.errors, "error"), (report.warnings + len(remarks), "warning")]
    told = [text.plural(number, noun) for number, noun in counts if number]
    return [*out, ", ".join(told)] if told else out


def near(path: str) -> str:
    """A path as seen from here, when it lies below."""
    inside = os.path.relpath(path)
    return path if inside.startswith("..") else inside


def _refused(run: Run, form: str, refusals: tuple[Refusal, ...]) -> int:
    if form == "sarif":
        screen.document(_sarif((), refusals, []))
    elif form == "json":
        screen.document({"sagas": [], "findings": [_refusal(one) for one in refusals], "allowed": []})
    elif form == "github":
        for one in refusals:
            screen.line(
                run.look,
                _github(
                    "warning" if one.warning else "error", one.file, one.line, one.column, one.code, one.text
                ),
            )
    else:
        screen.lines(run.look, fail.refusals(refusals))
    return exits.FINDINGS


def _sarif(findings: Any, refusals: tuple[Refusal, ...], stale: list[Any]) -> dict[str, Any]:
    from contrapas import __version__
    from contrapas.check.sarif import sarif

    old = [Refusal(code=e.code, text=e.text, fix=e.fix, file=e.place, line=1, column=1) for e in stale]
    return sarif(findings, [*refusals, *old], version=__version__, show=near)


def _refusal(one: Refusal) -> dict[str, Any]:
    return {
        "code": one.code,
        "severity": "warning" if one.warning else "error",
        "saga": "",
        "text": one.text,
        "fix": one.fix,
        "file": one.file,
        "line": one.line,
        "column": one.column,
        "story": [],
        "allowed": None,
    }


def _data(report: Any, warnings: tuple[Refusal, ...], stale: list[Any]) -> dict[str, Any]:
    return {
        "sagas": [
            {
                "saga": s.saga,
                "graph": s.graph,
                "states": s.states,
                "undos": s.undos,
                "transitions": s.transitions,
                "outcomes": s.outcomes,
                "configurations": s.configurations,
                "findings": s.findings,
            }
            for s in report.stats
        ],
        "findings": [
            *(f.data() for f in report.findings),
            *(_refusal(w) for w in warnings),
            *(
                {
                    "code": e.code,
                    "severity": "error",
                    "saga": "",
                    "text": e.text,
                    "fix": e.fix,
                    "file": e.place,
                    "line": 1,
                    "column": 1,
                    "story": [],
                    "allowed": None,
                }
                for e in stale
            ),
        ],
        "allowed": [f.data() for f in report.allowed],
    }


def _github(kind: str, file: str, line: int, column: int, code: str, words: str) -> str:
    level = {"error": "error", "warning": "warning"}.get(kind, "notice")
    place = json.dumps(near(file))[1:-1].replace(",", "%2C").replace(":", "%3A")
    body = words.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{level} file={place},line={line},col={column},title={code}::{body}"
