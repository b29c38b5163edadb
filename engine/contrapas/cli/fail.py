"""How an error looks: the user's thing first, one cause, one fix, no traceback unless `-v` asks for it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from contrapas import codes
from contrapas.cli import exits, text
from contrapas.errors import CompileError, ContrapasError, DataError

if TYPE_CHECKING:
    import click

    from contrapas.machine import Refusal


def show(error: ContrapasError, *, verbose: bool = False) -> int:
    """Write an error to stderr and give its exit code."""
    write(lines(error))
    if verbose:
        import traceback

        write(traceback.format_exc().splitlines())
    return exits.exit_of(error)


def lines(error: ContrapasError) -> list[str]:
    """An error as lines: at most six, but for a compile error, whose refusals all stand there."""
    if isinstance(error, CompileError):
        return refusals(error.refusals)
    place = f"{text.escape(error.place)}  " if error.place else ""
    head, *rest = error.text.split("\n")
    out = [f"{place}error {error.code}  {text.escape(head, cut=400)}"]
    out += [f"   {text.escape(line, cut=160)}" for line in rest]
    if isinstance(error, DataError) and error.expected and error.expected not in error.text:
        at = f"{text.escape(error.path)}: " if error.path else ""
        out.append(f"   {at}expected {text.escape(error.expected)}, got {text.escape(error.got)}")
    fix = error.fix or _fix(error.code)
    if fix:
        out.append(f"   fix   {text.escape(fix, cut=400)}")
    if error.code in codes.table():
        out.append(f"   more  contrapas explain {error.code}")
    return out


def _fix(name: str) -> str:
    entry = codes.table().get(name)
    return entry.fix if entry else ""


def refusals(found: Sequence[Refusal]) -> list[str]:
    """All problems of an app at once, with their lines and carets, and the count at the end."""
    out: list[str] = []
    for one in found:
        out += refusal(one)
    errors = sum(not one.warning for one in found)
    warnings = len(found) - errors
    counts = [text.plural(n, noun) for n, noun in ((errors, "error"), (warnings, "warning")) if n]
    return [*out, ", ".join(counts)]


def refusal(one: Refusal) -> list[str]:
    """`file:line:col  error CPnnn  sentence`, the line with a caret, the fix."""
    kind = "warning" if one.warning else "error"
    head, *rest = one.text.split("\n")
    out = [f"{one.place}  {kind} {one.code}  {text.escape(head, cut=400)}"]
    if one.story:
        width = max(len(what) for what, _, _ in one.story)
        hows = max(len(how) for _, how, _ in one.story)
        for number, (what, how, where) in enumerate(one.story, 1):
            out.append(f"   {number}  {what.ljust(width)}  {how.ljust(hows)}  {where}".rstrip())
    elif one.source:
        gutter = f"   {one.line} | "
        out.append(gutter + text.escape(one.source, cut=160))
        if one.column:
            out.append(
                " " * (len(gutter) + one.column - 1) + "^" + (f" {text.escape(rest[0])}" if rest else "")
            )
            rest = rest[1:]
    out += [f"   {text.escape(line, cut=160)}" for line in rest]
    if one.fix:
        out.append(f"   fix  {text.escape(one.fix, cut=400)}")
    return out


def write(rows: Sequence[str]) -> None:
    """To stderr; words never mix with data."""
    out = "\n".join(rows)
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(out.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stderr.flush()


def unknown(what: str, word: str, known: Sequence[str], path: str) -> exits.Usage:
    """An unknown name, with the nearest known one."""
    near = text.nearest(word, known)
    fix = f"{path} {near}" if near else f"{path} --help"
    return exits.Usage(
        "CP814",
        f"there is no {what} '{text.escape(word)}'" + (f", the nearest is '{near}'" if near else ""),
        fix=fix,
    )


def from_click(error: click.UsageError) -> exits.Usage:
    """click's words in our form."""
    import click

    path = error.ctx.command_path if error.ctx else "contrapas"
    if isinstance(error, click.NoSuchOption):
        near = (error.possibilities or [""])[0] or _near_option(error)
        tail = f", the nearest is '{near}'" if near else ""
        return exits.Usage(
            "CP814", f"there is no option '{text.escape(error.option_name)}'{tail}", fix=f"{path} --help"
        )
    words = error.format_message().rstrip(".")
    return exits.Usage("CP814", words[:1].lower() + words[1:], fix=f"{path} --help")


def _near_option(error: click.NoSuchOption) -> str:
    known: list[str] = []
    if error.ctx is not None:
        for parameter in error.ctx.command.params:
            known += parameter.opts
    return text.nearest(error.option_name, known)


def bug(error: BaseException, args: Sequence[str], *, verbose: bool = False) -> int:
    """Our own mistake: one line for people, the rest in a file that a report can carry."""
    import traceback

    trace = "".join(traceback.format_exception(error))
    path = _bundle(trace, args)
    write(
        [
            f"error CP901  a bug in contrapas: {type(error).__name__}: {text.escape(str(error))}",
            f"   fix   please report it with {path}"
            if path
            else "   fix   please report it, with the output of -v",
            "   more  contrapas explain CP901",
        ]
    )
    if verbose:
        write(trace.splitlines())
    return exits.FAILED


def _bundle(trace: str, args: Sequence[str]) -> str:
    path = os.path.join(".contrapas", f"bug-{int(time.time())}.txt")
    try:
        os.makedirs(".contrapas", mode=0o700, exist_ok=True)
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8"
        ) as out:
            out.write(f"python {sys.version}\ncommand {list(args)!r}\n\n{trace}")
    except OSError:
        return ""
    return path


def step_failure(error: Any) -> list[str]:
    """A message of a `ContrapasError` or any other exception, in one line."""
    if isinstance(error, ContrapasError):
        return lines(error)
    return [f"{type(error).__name__}: {text.escape(str(error))}"]
