"""What is never reached, never comes, or comes by chance: CP701, CP714, CP715, CP716 and CP717."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from contrapas.check.finding import Finding
from contrapas.check.study import Study, listed, members
from contrapas.draw.inflight import MEETS
from contrapas.draw.model import Config
from contrapas.draw.native import type_name
from contrapas.draw.segment import Walker
from contrapas.errors import Cancelled, StepFailed
from contrapas.machine import trees
from contrapas.machine.ir import Branch, Site


def stuck(study: Study) -> Iterator[Finding]:
    """CP701: nothing that can happen here moves the saga on."""
    seen: set[tuple[str, int]] = set()
    for config, (source, move) in study.explored.parents.items():
        if config.end or config.unwinding is not None or not config.frames:
            continue
        at = config.top
        if (at.machine, at.site) in seen or study.explored.model.ends(at):
            continue
        if study.explored.model.site(at).kind in MEETS:
            continue
        seen.add((at.machine, at.site))
        site = study.explored.model.site(at)
        path = [*study.explored.path(source), move]
        yield study.find(
            "CP701", "error", f"{site.label} can never end: nothing that it waits for can come",
            "give it a within=, or something to wait for", site.line, column=site.column, machine=at.machine,
            story=study.told(path), path=path,
        )  # fmt: skip


def unreachable(study: Study) -> Iterator[Finding]:
    """CP714: handlers, cases, tests and awaits that no way leads to."""
    if study.explored.model.unknown or not study.explored.complete:
        return
    for machine in study.machines():
        walker = study.walkers[machine]
        found = [
            *_handlers(study, machine, walker),
            *_cases(study, machine, walker),
            *_tests(study, machine, walker),
        ]
        yield from found
        missing = [
            site
            for site in walker.program.sites
            if site.index
            and site.label
            and site.kind not in ("unwind", "begin", "join")
            and (machine, site.index) not in study.places
            and not _after_cancel(walker, site)
        ]
        if missing and not found:
            yield study.find(
                "CP714", "warning", f"{missing[0].label} is never reached", "remove it, or what keeps from it",
                missing[0].line, column=missing[0].column, machine=machine, hint="no way leads here",
            )  # fmt: skip


def _after_cancel(walker: Walker, site: Site) -> bool:
    """Whether an await stands in a clause that takes a cancel: a second one, after the grace period, may lead there."""
    for node in trees.walk(walker.program.node):
        if isinstance(node, ast.ExceptHandler) and node.lineno <= site.line <= (node.end_lineno or 0):
            found = None if node.type is None else walker.native.resolve(node.type)
            if found is None or (isinstance(found, type) and issubclass(Cancelled, found)):
                return True
    return False


def _handlers(study: Study, machine: str, walker: Walker) -> Iterator[Finding]:
    for block in walker.program.blocks.values():
        term = block.term
        if not isinstance(term, Branch) or term.kind != "except":
            continue
        test = (
            term.test.args[1] if isinstance(term.test, ast.Call) and len(term.test.args) == 2 else term.test
        )
        parts = test.elts if isinstance(test, ast.Tuple) else [test]
        types = [walker.native.resolve(part) for part in parts]
        if not all(isinstance(t, type) and issubclass(t, StepFailed) for t in types):
            continue
        answers = walker.native.decisions.get(id(term.test), (None, set[bool | None]()))[1]
        if answers <= {False}:
            yield study.find(
                "CP714", "warning", f"except {ast.unparse(test)}: nothing in this try can fail that way",
                "remove the clause, or declare the failure that it handles", test.lineno, machine=machine,
                hint="never entered",
            )  # fmt: skip


def _cases(study: Study, machine: str, walker: Walker) -> Iterator[Finding]:
    cases: list[tuple[ast.match_case, bool]] = []
    for block in walker.program.blocks.values():
        term = block.term
        if isinstance(term, Branch) and term.kind == "case" and term.pattern is not None:
            cases.append((term.pattern, block.id in walker.visited))
        for tree in block.native:
            for node in trees.walk(tree):
                if isinstance(node, ast.Match):
                    met = any(id(case) in walker.native.decisions for case in node.cases)
                    cases += [(case, met) for case in node.cases]
    for case, met in cases:
        if not met or _irrefutable(case.pattern) or _unreachable_on_purpose(case):
            continue
        answers = walker.native.decisions.get(id(case), (None, set[bool | None]()))[1]
        if answers <= {False}:
            yield study.find(
                "CP714", "warning", f"case {ast.unparse(case.pattern)}: nothing that comes here is one",
                "remove the case, or wait for what it handles", case.pattern.lineno, column=case.pattern.col_offset,
                machine=machine, hint="never taken",
            )  # fmt: skip


def _tests(study: Study, machine: str, walker: Walker) -> Iterator[Finding]:
    tests = [
        b.term.test
        for b in walker.program.blocks.values()
        if isinstance(b.term, Branch) and b.term.kind == "data"
    ]
    known = {id(test): test for test in tests}
    for key, (node, answers) in walker.native.decisions.items():
        test = node.test if isinstance(node, ast.If) else known.get(key)
        if isinstance(test, ast.Call) and getattr(test.func, "id", "") == "isinstance" and answers == {False}:
            yield study.find(
                "CP714", "warning", f"{ast.unparse(test)} is never true", "remove the test, or wait for what it handles",
                test.lineno, column=test.col_offset, machine=machine, hint="what stands under it is never reached",
            )  # fmt: skip


def _irrefutable(pattern: ast.pattern) -> bool:
    return isinstance(pattern, ast.MatchAs) and pattern.pattern is None


def _unreachable_on_purpose(case: ast.match_case) -> bool:
    first = case.body[0] if case.body else None
    if isinstance(first, ast.Raise):
        return True
    call = first.value if isinstance(first, ast.Expr) else None
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") == "assert_never"


def untaken(study: Study) -> Iterator[Finding]:
    """CP715: one of several events that start the saga is not taken once another one has."""
    machine = study.machine
    if len(machine.starts) < 2:
        return
    taken = {name for state in machine.states.values() for name in state.takes}
    ahead = set(machine.later.get("START", frozenset[str]()))
    for name in machine.starts:
        if name not in taken | ahead:
            others = listed([other for other in machine.starts if other != name])
            yield study.find(
                "CP715", "information", f"{name} starts the saga, and no state takes it where {others} came first",
                f"s.wait({name}, …) where it may come second", study.program().node.lineno,
                hint="it would be refused, or dropped",
            )  # fmt: skip


def contended(study: Study) -> Iterator[Finding]:
    """CP716: branches beside each other wait for one event of one key."""
    for machine, site, _ in study.stood():
        if site.kind not in ("all", "first", "some") or site.starred:
            continue
        each = [_waits(study, child, frozenset()) for child in site.children]
        for number, mine in enumerate(each):
            for other in each[number + 1 :]:
                shared = [cls for cls, key in mine.items() if cls in other and other[cls] == key]
                if shared:
                    name = type_name(shared[0])
                    yield study.find(
                        "CP716", "error", f"two branches of {site.label} wait for {name} of the same key",
                        "wait once and share the result, or give each its correlate=", site.line, column=site.column,
                        machine=machine, hint="which of them gets it is left to chance",
                    )  # fmt: skip
                    break
            else:
                continue
            break


def _waits(study: Study, site: Site, inside: frozenset[str]) -> dict[Any, str]:
    """Event classes that a branch waits for, with the key expression."""
    found: dict[Any, str] = {}
    if site.kind == "wait":
        key = ast.unparse(site.correlated) if isinstance(site.correlated, ast.AST) else ""
        found.update(dict.fromkeys(site.replies, key))
    for child in site.children:
        found.update(_waits(study, child, inside))
    called = type_name(site.target) if site.kind == "frame" else ""
    if called in study.walkers and called not in inside:
        for other in study.walkers[called].program.sites:
            found.update(_waits(study, other, inside | {called}))
    return found


def raced(study: Study) -> Iterator[Finding]:
    """CP717: two events that different parts of the world send; which comes first decides the outcome."""
    for machine, site, configs in study.stood():
        events = _raced(site)
        topics = {cls: getattr(cls, "__contrapas_topic__", "") for cls in events}
        if len(set(topics.values())) < 2:
            continue
        ends: dict[str, frozenset[str]] = {}
        goes: dict[str, set[str]] = {}
        for config in configs:
            if config.cancelled or config.top.site != site.index:
                continue
            for move in study.explored.ahead(config):
                if move.kind == "reply":
                    goes.setdefault(move.cause, set()).update(_ends(study, move.config))
        ends = {cause: frozenset(found) for cause, found in goes.items()}
        told = [cls for cls in events if type_name(cls) in ends]
        for one in told:
            rival = next(
                (
                    o
                    for o in told
                    if topics[o] != topics[one] and not ends[type_name(o)] & ends[type_name(one)]
                ),
                None,
            )
            if rival is not None:
                yield study.find(
                    "CP717", "information",
                    f"{type_name(one)} or {type_name(rival)}: whichever comes first decides the outcome",
                    "take the other one too where it may come second, or let one service decide",
                    site.line, column=site.column, machine=machine,
                    hint=f"they come from {topics[one] or 'the lane'} and {topics[rival] or 'the lane'}, in no order",
                )  # fmt: skip
                break


def _raced(site: Site) -> list[Any]:
    if site.kind == "wait":
        return list(site.replies)
    if site.kind == "first":
        return [cls for child in site.children for cls in child.replies if child.kind == "wait"]
    return []


def _ends(study: Study, config: Config) -> set[str]:
    """Outcomes that are ahead."""
    todo, seen, found = [config], {config}, set[str]()
    while todo:
        current = todo.pop()
        if current.end.startswith("return"):
            found.add(current.end)
        for move in study.explored.ahead(current):
            if move.config not in seen and not move.config.cancelled:
                seen.add(move.config)
                todo.append(move.config)
    return found


def starts_of(study: Study) -> tuple[Any, ...]:
    """Classes that start the saga."""
    program = study.program()
    return members(program.hints.get(program.params[0])) if program.params else ()
