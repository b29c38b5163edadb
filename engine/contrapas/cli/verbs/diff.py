"""`contrapas diff OLD [NEW]`: two versions of an app, state by state; what an instance in each of them can do. Exit 4."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import click

from contrapas.cli import exits, screen, snapshot, text
from contrapas.cli.options import Run, command, verb
from contrapas.errors import Refused
from contrapas.versions.compare import Comparison, Fit, compare_all


class Side(NamedTuple):
    """One version: where it lies, and what of it is the app."""

    name: str
    root: str
    target: str


@command(
    "diff", "Compare two versions of an app, state by state: same, compatible, needs migration, orphaned."
)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="[NEW]", required=False)
@click.option(
    "--app", "target", metavar="MODULE:APP", help="The app, where a revision or a directory is given."
)
@verb(data=True)
def diff(run: Run, old: str, new: str | None, target: str | None) -> int:
    """Each is a git revision (HEAD~1), a file (old.py:app), MODULE:APP, or a directory; NEW is what lies here."""
    with _side(run, old, target) as before:
        first = snapshot.take(before.target, before.root)
    with _side(run, new or ".", target) as after:
        second = snapshot.take(after.target, after.root, first.lock)
    machines = {m.name: m for m in second.machines}
    found = compare_all(first.machines, machines, second.migrations, second.known)
    shown = [_saga(one, second) for one in found.values()]
    fresh = sorted(name for name in machines if name not in found)
    count = sum(not state["goes_on"] for saga in shown for state in saga["states"])
    if run.look.form == "json":
        screen.document({"old": before.name, "new": after.name, "sagas": shown, "new_sagas": fresh})
    elif run.look.form == "jsonl":
        for one in shown:
            screen.stream(one)
    else:
        for one in shown:
            screen.lines(run.look, _lines(run, one))
        for name in fresh:
            screen.line(run.look, f"{text.escape(name)}   new")
    return exits.FINDINGS if count else exits.DONE


def _saga(one: Comparison, new: snapshot.Snapshot) -> dict[str, Any]:
    states = [_state(fit, one, new) for fit in one.states.values()]
    return {"saga": one.saga, "old": one.old, "new": one.new, "states": states, "added": list(one.added)}


def _state(fit: Fit, one: Comparison, new: snapshot.Snapshot) -> dict[str, Any]:
    verdict, led = fit.verdict, ""
    if not fit.goes_on and (one.saga, one.old) in new.kept:
        led = "kept by retired="
    elif not fit.goes_on and one.saga in new.functions:
        led = "by migrate="
    return {
        "label": fit.label,
        "to": fit.to,
        "verdict": verdict,
        "led_over": led,
        "goes_on": fit.goes_on or bool(led),
        "line": fit.line,
        "findings": [{"code": f.code, "text": f.text, "fix": f.fix} for f in fit.findings],
    }


def _lines(run: Run, saga: dict[str, Any]) -> list[str]:
    states = saga["states"]
    counts: dict[str, int] = {}
    for state in states:
        counts[state["verdict"]] = counts.get(state["verdict"], 0) + 1
    told = " · ".join(f"{number} {word}" for word, number in counts.items()) or "no state"
    out = [
        f"{text.escape(saga['saga'])}   @{saga['old']} → {'@' + saga['new'] if saga['new'] else 'gone'}   {told}"
    ]
    width = max([len(s["label"]) for s in states], default=0)
    for state in states:
        words = state["verdict"] + (f", {state['led_over']}" if state["led_over"] else "")
        if state["to"] not in ("", state["label"]):
            words += f"   → {text.escape(state['to'])}"
        color = "green" if state["goes_on"] else "red"
        out.append(f"  {text.escape(state['label']).ljust(width)}  {screen.paint(run.look, words, color)}")
        for finding in state["findings"]:
            out.append(f"  {' ' * width}    {finding['code']}  {text.escape(finding['text'])}")
            if finding["fix"] and not state["goes_on"]:
                out.append(f"  {' ' * width}    fix    {text.escape(finding['fix'])}")
    out += [f"  {text.escape(label).ljust(width)}  new" for label in saga["added"]]
    return out


@contextmanager
def _side(run: Run, given: str, target: str | None) -> Generator[Side]:
    """A path, MODULE:APP, or a git revision, whose tree is laid out in a directory of its own."""
    path, _, name = given.rpartition(":")
    file = path if path and os.path.isfile(path) else given
    if os.path.isfile(file):
        app = name if file == path else "app"
        yield Side(given, os.path.dirname(os.path.abspath(file)), f"{os.path.basename(file)}:{app}")
    elif os.path.isdir(given):
        yield Side(given, os.path.abspath(given), _target(run, target))
    elif path and path.replace(".", "").replace("_", "a").isidentifier() and name.isidentifier():
        yield Side(given, os.getcwd(), given)
    else:
        with tempfile.TemporaryDirectory(prefix="contrapas-diff-") as folder:
            inside = _checked_out(given, folder)
            yield Side(given, os.path.join(folder, inside), _target(run, target))


def _target(run: Run, target: str | None) -> str:
    from contrapas.cli import program

    return program.target_of(target, run.settings)


def _checked_out(revision: str, folder: str) -> str:
    """Lay the tree of a revision out in `folder`; gives the current directory's place in it. Refused CP813."""
    if revision.startswith("-"):
        raise Refused("CP813", f"'{text.escape(revision)}' is no revision, file or directory")
    found = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not found:
        raise Refused(
            "CP813",
            f"'{text.escape(revision)}' is no git revision, file or directory here",
            fix="contrapas diff HEAD~1, or contrapas diff old.py:app new.py:app",
        )
    prefix = _git("rev-parse", "--show-prefix").decode().strip()
    top = _git("rev-parse", "--show-toplevel").decode().strip()
    archive = subprocess.run(
        ["git", "-C", top, "archive", "--format=tar", found.decode().strip()],
        capture_output=True,
        check=False,
    )
    if archive.returncode != 0:
        raise Refused("CP813", f"git cannot give the tree of '{text.escape(revision)}'")
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        if not hasattr(tarfile, "data_filter"):
            raise Refused("CP813", "this Python unpacks no archive safely", fix="use Python 3.11.4 or newer")
        tar.extractall(folder, filter="data")
    if not os.path.isdir(os.path.join(folder, prefix)):
        raise Refused(
            "CP813", f"'{text.escape(revision)}' has no {prefix}", fix="run it from the top of the repository"
        )
    return prefix


def _git(*args: str) -> bytes:
    try:
        ran = subprocess.run(["git", *args], capture_output=True, check=False)
    except OSError:
        raise Refused(
            "CP813", "git is not installed", fix="compare two files: diff old.py:app new.py:app"
        ) from None
    return ran.stdout if ran.returncode == 0 else b""
