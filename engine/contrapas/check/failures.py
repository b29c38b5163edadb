"""What becomes of failures: CP704, CP705, CP706, CP707, CP710 and CP718, asked of the paths of one saga."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from contrapas.check.finding import Finding
from contrapas.check.loops import endless_sites
from contrapas.check.properties import bounded
from contrapas.check.study import Study, flat, listed, trees
from contrapas.draw.model import UNDOABLE, Config, Failure, Move
from contrapas.draw.outcomes import Issued, outcomes
from contrapas.machine.ir import Site


def swallowed(study: Study) -> Iterator[Finding]:
    """CP707: the saga returns normally after a failure, while effects of steps stand. CP706: some were taken back by hand.

    Of all ways to one `return` the one is told on which most effects stand for certain, and of these a shortest.
    """
    clean = _clean_ends(study)
    found: dict[tuple[str, int], tuple[int, list[Move], list[Issued]]] = {}
    for source, move in study.explored.usual():
        after = move.config
        if not after.end.startswith("return") or after.cancelled or not after.failed:
            continue
        if not any(_unanswered(f, after.end in clean) for f in after.failed):
            continue
        standing = [e for e in reversed(after.stack) if e.undo and e.status in UNDOABLE]
        gone = {(e.machine, e.label) for e in after.byhand}
        forgotten = [e for e in standing if (e.machine, e.label) not in gone]
        code = "CP706" if after.byhand else "CP707"
        before = found.get((code, move.end_line))
        sure = sum(e.status == "done" for e in forgotten)
        if forgotten and (before is None or sure > before[0]):
            found[(code, move.end_line)] = sure, [*study.explored.path(source), move], forgotten
    for (code, line), (_, path, forgotten) in found.items():
        if code == "CP706" or ("CP706", line) not in found:
            yield _standing(study, code, path, forgotten, path[-1].config.byhand)


def _standing(
    study: Study, code: str, path: list[Move], standing: list[Issued], byhand: tuple[Issued, ...]
) -> Finding:
    names = list(dict.fromkeys(e.label for e in standing))
    many = len(names) > 1
    stands = (
        "both effects stand" if len(names) == 2 else f"{len(names)} effects stand" if many else "it stands"
    )
    if not many:
        stands = f"the effect of {names[0]} stands"
    if code == "CP706":
        done = listed(list(dict.fromkeys(e.label for e in byhand)))
        text = f"takes back {done} by hand, and forgets {listed(names)}"
        fix = "await s.compensate() instead: it takes back everything that stands, newest first"
    else:
        text = f"returns normally while {len(names)} effect{'s stand' if many else ' stands'}: {', '.join(names)}"
        fix = "await s.compensate() before the return, or let the failure leave the function"
    return study.find(
        code, "warning", text, fix, path[-1].end_line, machine=path[-1].machine,
        story=study.told(path, stands=stands), path=path,
    )  # fmt: skip


def _unanswered(failure: Failure, usual: bool) -> bool:
    """Whether a caught failure was let go; `usual`: the outcome is one of those that need no failure."""
    if failure.pivoted:
        return False
    return not (usual and (failure.answered or not failure.raised))


def _clean_ends(study: Study) -> frozenset[str]:
    """Ends that are reached although nothing has failed."""
    return frozenset(config.end for config in study.explored.clean() if config.end)


def nothing(study: Study) -> Iterator[Finding]:
    """CP705: after a failure the saga returns nothing, although it has outcomes to return."""
    clean = _clean_ends(study)
    if not any(end.startswith("return ") for end in clean) or "return" in clean:
        return
    seen: set[int] = set()
    for source, move in study.explored.usual():
        after = move.config
        if after.end != "return" or after.cancelled or not after.failed or move.end_line in seen:
            continue
        seen.add(move.end_line)
        path = [*study.explored.path(source), move]
        last = after.failed[-1]
        yield study.find(
            "CP705",
            "error",
            f"after {last.label} has failed the saga ends without an outcome",
            "return one of its outcomes, await s.compensate(), or let the failure leave the function",
            move.end_line or last.line,
            machine=move.machine,
            story=study.told(path, stands="no outcome: nobody learns of it"),
            path=path,
        )


def unmatched(study: Study) -> Iterator[Finding]:
    """CP705: a `match` on the outcome of an operation has no case for a failure or a timeout of it."""
    for machine in study.machines():
        walker = study.walkers[machine]
        for node, classes in walker.unmatched():
            missed = [c for c in classes if c.__name__ == "Timeout" or _fails(study, machine, c)]
            if missed and len(node.cases) > 1:
                names = listed([c.__name__ for c in missed])
                yield study.find(
                    "CP705",
                    "warning",
                    f"no case takes {names}: the saga goes on as if nothing had happened",
                    f"add  case {missed[0].__name__}(): …",
                    node.lineno,
                    column=node.col_offset,
                    machine=machine,
                    hint=f"{names} falls through",
                )


def _fails(study: Study, machine: str, cls: type) -> bool:
    return any(
        cls in one.replies[1:]
        for top in study.program(machine).sites
        for one in flat(top)
        if one.kind == "ask"
    )


def behind_pivot(study: Study) -> Iterator[Finding]:
    """CP704: what may fail, is registered in vain, or is declared twice behind the point of no return."""
    yield from _fails_behind(study)
    yield from _in_flight(study)
    seen: set[int] = set()
    for source, move in study.explored.usual():
        for fact in move.facts:
            if fact[0] == "pivot" and fact[1] not in seen:
                seen.add(fact[1])
                path = [*study.explored.path(source), move]
                yield study.find(
                    "CP704", "error", "a second point of no return on one path",
                    "keep the one behind which the saga only goes forward", fact[1], machine=move.machine,
                    story=study.told(path), path=path,
                )  # fmt: skip
    for machine, site, configs in study.stood():
        for one in flat(site):
            if one.undo in ("op", "lambda") and all(config.pivoted for config in configs):
                yield study.find(
                    "CP704", "error", f"undo= of {one.label or one.text} stands behind the point of no return",
                    "remove it, or move the step before the point", one.line, column=one.column, machine=machine,
                    hint="nothing is registered here any more",
                )  # fmt: skip


def _fails_behind(study: Study) -> Iterator[Finding]:
    clean = _clean_ends(study)
    seen: set[tuple[str, str]] = set()
    for source, move in study.explored.usual():
        after = move.config
        if not after.end or not after.pivoted:
            continue
        guilty: tuple[str, str, int] | None = None
        if after.end == "parked" and move.raised:
            guilty = (move.machine, move.label, move.line)
        elif after.end.startswith("return") and after.end not in clean:
            told = [f for f in after.failed if f.pivoted and f.raised]
            guilty = (told[0].machine, told[0].label, told[0].line) if told else None
        if guilty is None or guilty[:2] in seen:
            continue
        seen.add(guilty[:2])
        path = [*study.explored.path(source), move]
        yield study.find(
            "CP704", "error", f"{guilty[1]} can fail behind the point of no return",
            "retry=FOREVER, or move the step before the point", guilty[2], machine=guilty[0],
            story=study.told(path, stands="what was done before stands"), path=path,
        )  # fmt: skip


def _in_flight(study: Study) -> Iterator[Finding]:
    """The point of no return is passed while something that was begun can still fail. Where the function cancels
    handles it is a warning: whether this one was cancelled before is not followed."""
    seen: set[tuple[str, int]] = set()
    for source, move in study.explored.usual():
        if not move.pivot or move.config.end:
            continue
        for one in move.config.flight:
            site = study.walkers[one.machine].sites[one.site]
            op = site.children[0] if site.children else site
            if (one.machine, one.site) in seen or all(o.raises is None for o in outcomes(op)):
                continue
            seen.add((one.machine, one.site))
            gives_up = any(
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "cancel"
                and not node.args
                for node in trees(study.program(one.machine))
            )
            path = [*study.explored.path(source), move]
            yield study.find(
                "CP704", "warning" if gives_up else "error",
                f"{site.label} is in flight at the point of no return and can still fail",
                "await it before the point, cancel it, or retry=FOREVER", site.line, column=site.column,
                machine=one.machine, story=study.told(path), path=path,
                hint="behind the point nothing is taken back",
            )  # fmt: skip


def by_hand(study: Study) -> Iterator[Finding]:
    """CP706: undos that the saga sends itself, out of order or besides the registered ones."""
    seen: set[tuple[str, str]] = set()
    for source, move in study.explored.usual():
        for fact in move.facts:
            if fact[0] not in ("order", "twice") or (fact[0], fact[1].label) in seen:
                continue
            seen.add((fact[0], fact[1].label))
            entry: Issued = fact[1]
            path = [*study.explored.path(source), move]
            sent = next((m for m in reversed(path) if m.label == entry.undo), None)
            if fact[0] == "order":
                line = study.explored.model.site(move.config.top).line
                text = f"{entry.undo} is sent by hand while {fact[2].label}, which came later, still stands"
            else:
                line = sent.line if sent is not None else move.line
                text = f"{entry.label} is taken back twice: by hand, and because it is registered"
            yield study.find(
                "CP706", "warning", text,
                "leave it to undo= and await s.compensate(): newest first, each once",
                line, machine=move.machine, story=study.told([*path, *study.explored.to_end(move.config)]), path=path,
            )  # fmt: skip


def asked_again(study: Study) -> Iterator[Finding]:
    """CP710: a step whose outcome is unknown is taken for failed, and the same effect asked for again."""
    seen: set[tuple[str, int]] = set()
    for source, move in study.explored.usual():
        for fact in move.facts:
            if fact[0] != "again" or not move.config.frames:
                continue
            failure: Failure = fact[1]
            at = move.config.top
            site = study.explored.model.site(at)
            if (failure.label, at.site) in seen:
                continue
            seen.add((failure.label, at.site))
            path = [*study.explored.path(source), move]
            again = "again" if site.label == failure.label else f"once more by {site.label}"
            after = next((m for m in study.explored.ahead(move.config) if m.kind == "reply"), None)
            told = study.told(path if after is None else [*path, after])
            yield study.find(
                "CP710", "warning",
                f"{failure.label} may have happened, and is asked for {again}",
                "retry=Retry(…, each=…) asks again under the same key; or take it back first; or test why.unknown",
                site.line, column=site.column, machine=at.machine, story=told, path=path,
            )  # fmt: skip


def stays(study: Study) -> Iterator[Finding]:
    """CP718: after a cancel the saga waits, or goes round, without an end."""
    seen: set[tuple[str, int]] = set()
    rounds: dict[str, frozenset[int]] = {}
    for config, (source, move) in study.explored.parents.items():
        if not config.cancelled or config.end or config.unwinding is not None or not config.frames:
            continue
        at = config.top
        site = study.explored.model.site(at)
        if (at.machine, at.site) in seen:
            continue
        if at.machine not in rounds:
            rounds[at.machine] = endless_sites(study.program(at.machine))
        waits = not config.limited and (not bounded(site) or _forever(site))
        if not waits and not (at.site in rounds[at.machine] and _returns(study, config)):
            continue
        seen.add((at.machine, at.site))
        path = [*study.explored.path(source), move]
        text = f"{site.label} may wait for ever" if waits else f"the saga goes round {site.label} for ever"
        yield study.find(
            "CP718", "warning", f"once it is cancelled, {text}",
            "give it a within=, or let Cancelled leave the function", site.line, column=site.column,
            machine=at.machine, story=study.told(path), path=path,
        )  # fmt: skip


def _forever(site: Site) -> bool:
    return site.forever and not site.has_within and site.kind in ("command", "ask", "local")


def _returns(study: Study, config: Config) -> bool:
    """Whether a configuration can come round to itself."""
    todo, seen = [config], set[Config]()
    while todo:
        for move in study.explored.ahead(todo.pop()):
            if move.config == config:
                return True
            if move.config not in seen and not move.config.end:
                seen.add(move.config)
                todo.append(move.config)
    return False
