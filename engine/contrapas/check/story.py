"""Findings as people read them: the story with its lines, or the line with its caret."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from contrapas.check.finding import Finding, StoryLine
from contrapas.draw.model import Move
from contrapas.draw.outcomes import Issued


def _same(path: str) -> str:
    return path


def render(finding: Finding, *, show: Callable[[str], str] = _same) -> str:
    """A finding in full, without colour; `show` shortens its file. Ends without a line feed."""
    return _told(finding, show) if finding.story else _pointed(finding, show)


def _told(finding: Finding, show: Callable[[str], str]) -> str:
    head = f"{show(finding.file)}:{finding.line}  {finding.severity} {finding.code}  {finding.text}"
    first = max(len(part.what) for part in finding.story)
    second = max(len(part.how) for part in finding.story)
    lines = [head]
    for number, part in enumerate(finding.story, 1):
        where = f":{part.line}" if part.line else ""
        lines.append(
            f"   {number}  {part.what:<{first}}  {part.how:<{second}}   {where:<5} {part.note}".rstrip()
        )
    return "\n".join([*lines, f"   fix  {finding.fix}"])


def _pointed(finding: Finding, show: Callable[[str], str]) -> str:
    place = f"{show(finding.file)}:{finding.line}:{finding.column}"
    lines = [f"{place}  {finding.severity} {finding.code}  {finding.text}"]
    if finding.source:
        gutter = f"   {finding.line} | "
        lines.append(gutter + finding.source)
        lines.append(f"{' ' * (len(gutter) + finding.column - 1)}^ {finding.hint}".rstrip())
    lines.append(f"   fix  {finding.fix}")
    return "\n".join(lines)


def story(
    moves: Sequence[Move], *, stands: str = "", sources: Mapping[str, Sequence[str]] | None = None
) -> tuple[StoryLine, ...]:
    """What happened along a path: steps, undos that ran, the end; `stands`: the note beside the end.

    sources: the lines of each program; then the clauses that took an exception are told too.
    """
    told: list[StoryLine] = []
    for move in moves:
        if move.kind in ("reply", "failure", "expiry", "limit", "cancel", "kill", "late"):
            told.append(StoryLine(move.label, _how(move), move.line, _note(move)))
        elif move.kind == "undo":
            told.append(StoryLine(move.label, move.cause, move.line, "taken back"))
        elif move.kind == "undone" and sources is not None:
            told.append(StoryLine(move.label, "", move.line))
        if sources is not None:
            told += [StoryLine(_clause(line, sources), "", line) for line in move.excepts]
        if move.config.end:
            told.append(_end(move, stands, sources is not None))
    return tuple(told)


def _how(move: Move) -> str:
    if move.kind == "limit":
        return f"over {move.cause}"
    if move.kind == "expiry" and move.failure:
        return f"no answer in {move.cause.removeprefix('after ')}"
    return {"cancel": "cancelled", "kill": "killed"}.get(move.kind, move.cause)


def _clause(line: int, sources: Mapping[str, Sequence[str]]) -> str:
    """`except StepFailed`, from the line."""
    for lines in sources.values():
        text = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        if text.startswith("except"):
            return text.partition(":")[0].partition(" as ")[0]
    return "except"


def _note(move: Move) -> str:
    if move.status == "unknown":
        return "outcome unknown"
    if move.status != "done" or move.config.pivoted:
        return ""
    entry = _entry(move)
    if entry is None:
        return ""
    return f"undo noted: {entry.undo}" if entry.undo else "no undo noted"


def _entry(move: Move) -> Issued | None:
    """The entry that the step left on the stack."""
    return next(
        (e for e in reversed(move.config.stack) if (e.machine, e.label) == (move.machine, move.label)), None
    )


def _end(move: Move, stands: str, spoken: bool) -> StoryLine:
    verb, _, name = move.config.end.partition(" ")
    if verb == "return":
        if spoken:
            return StoryLine(f"return {name}".rstrip(), "", move.end_line, stands)
        return StoryLine(name or "the saga", "returned", move.end_line, stands)
    if verb == "raise":
        return StoryLine(name, "left the saga", move.end_line, stands)
    return StoryLine("the saga", verb, move.end_line, stands)
