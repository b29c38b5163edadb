"""Loops as the author wrote them: CP702 spins, CP713 no bound or pause, CP720 growth, CP711 a repeated event counts twice."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from contrapas.author.event import message_spec
from contrapas.author.step import StepDef
from contrapas.check.finding import Finding
from contrapas.check.study import Study, flat
from contrapas.check.tree import looping, walked
from contrapas.draw.model import Config
from contrapas.machine.ir import Await, Program, Site

_GROWS = frozenset({"append", "extend", "add", "insert", "update", "appendleft", "setdefault"})
_SHRINKS = frozenset({"pop", "popleft", "popitem", "clear", "remove", "discard"})
_CLOCKS = frozenset({"time", "monotonic", "perf_counter", "now", "utcnow", "today"})
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq)
_STEPS = frozenset({"command", "ask", "local"})
Loop = ast.While | ast.For


def loops(program: Program) -> list[Loop]:
    """The loops of the function, outermost first, inner functions apart."""
    return looping(program.node.body)


def unbounded(loop: Loop) -> bool:
    """Whether nothing in the loop's own words says when it ends: no sequence, no count, nothing that gets shorter."""
    if isinstance(loop, ast.For):
        return False
    if isinstance(loop.test, ast.Constant):
        return bool(loop.test.value) and not _counted(loop)
    if any(isinstance(n, ast.Compare) for n in ast.walk(loop.test)):
        return False
    names = {n.id for n in ast.walk(loop.test) if isinstance(n, ast.Name)}
    return not (names & _shrunk(loop)) and not _counted(loop)


def endless_sites(program: Program) -> frozenset[int]:
    """Indexes of the awaits that stand in a loop without a bound."""
    spans = [(n.lineno, n.end_lineno or n.lineno) for n in loops(program) if unbounded(n)]
    return frozenset(s.index for s in program.sites if any(a <= s.line <= b for a, b in spans))


def within(program: Program, loop: Loop) -> list[Site]:
    """The awaits that stand in a loop."""
    return [s for s in program.sites if loop.lineno <= s.line <= (loop.end_lineno or loop.lineno)]


def spins(study: Study) -> Iterator[Finding]:
    """CP702: a way round a loop on which nothing is awaited and nothing changes."""
    for machine in study.machines():
        for loop in loops(study.program(machine)):
            if isinstance(loop, ast.While) and _spins(loop):
                clock = _reads_clock(loop.test)
                yield study.find(
                    "CP702",
                    "error",
                    "waits for the clock in a loop: no other instance runs meanwhile"
                    if clock
                    else "goes round without awaiting anything, and nothing changes on the way",
                    'await s.sleep("…")' if clock else "await something in each round, or leave the loop",
                    loop.lineno,
                    column=loop.col_offset,
                    machine=machine,
                    hint="the worker never comes out of here",
                )


def _spins(loop: ast.While) -> bool:
    if isinstance(loop.test, ast.Constant) and not loop.test.value:
        return False
    stored = {n.id for n in walked(loop.body) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    stored |= _shrunk(loop) | _changed(loop.body)
    names = {n.id for n in ast.walk(loop.test) if isinstance(n, ast.Name)}
    calls = any(isinstance(n, ast.Call) for n in ast.walk(loop.test))
    awaits = any(isinstance(n, ast.Await | ast.AsyncWith) for n in (*walked(loop.body), *ast.walk(loop.test)))
    if _reads_clock(loop.test) and not awaits:
        return True
    if calls or (names & stored):
        return False
    return _idles(loop.body)


def _idles(body: list[ast.stmt]) -> bool:
    """Whether some way through statements comes to their end, or to `continue`, and does nothing that could matter."""
    for statement in body:
        if isinstance(statement, ast.Continue):
            return True
        if isinstance(statement, ast.Pass):
            continue
        if isinstance(statement, ast.If) and not _does(statement.test):
            if _leaves(statement.body) and _leaves(statement.orelse) and statement.orelse:
                return False
            if not any(_passes(part) for part in (statement.body, statement.orelse)):
                return False
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        return False
    return True


def _passes(body: list[ast.stmt]) -> bool:
    return not body or _idles(body)


def _leaves(body: list[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], ast.Break | ast.Return | ast.Raise)


def _does(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Await | ast.Call | ast.NamedExpr) for n in ast.walk(node))


def _reads_clock(test: ast.expr) -> bool:
    return any(
        isinstance(n, ast.Call)
        and (n.func.attr if isinstance(n.func, ast.Attribute) else getattr(n.func, "id", "")) in _CLOCKS
        for n in ast.walk(test)
    )


def restless(study: Study) -> Iterator[Finding]:
    """CP713: the same operation again and again, with neither a bound nor a pause."""
    for machine in study.machines():
        program = study.program(machine)
        for loop in loops(program):
            if not unbounded(loop):
                continue
            sites = within(program, loop)
            inner = [n for n in loops(program) if n is not loop and _inside(n, loop)]
            if (
                not sites
                or any(s.kind not in _STEPS for s in sites)
                or any(within(program, n) for n in inner)
            ):
                continue
            stored = _stored(loop)
            if any(s.forever or _reads(loop, s) & stored for s in sites):
                continue
            if not any(_comes_again(study, machine, s) for s in sites):
                continue
            names = " and ".join(dict.fromkeys(s.label or s.text for s in sites))
            yield study.find(
                "CP713",
                "warning",
                f"{names} is asked for again and again, without bound or pause",
                'for attempt in range(5): …, await s.sleep("…") between the rounds, or retry= on the step',
                sites[0].line,
                column=sites[0].column,
                machine=machine,
                hint="nothing that it is asked with changes from round to round",
            )


def _comes_again(study: Study, machine: str, site: Site) -> bool:
    """Whether some end of an operation leads to it once more."""
    return any(
        move.kind in ("reply", "failure", "expiry") and _reaches(study, move.config, machine, site)
        for config in study.places.get((machine, site.index), ())[:1]
        for move in study.explored.ahead(config)
    )


def grows(study: Study) -> Iterator[Finding]:
    """CP720: a local, or the undo stack, grows in a loop that nothing bounds."""
    for machine in study.machines():
        program = study.program(machine)
        for loop in loops(program):
            sites = within(program, loop)
            if not sites or not unbounded(loop):
                continue
            kept = _shrunk(loop) | _renewed(loop)
            seen: set[str] = set()
            for name, node in _growth(program, loop):
                if name not in kept and name not in seen:
                    seen.add(name)
                    yield study.find(
                        "CP720", "information", f"{name} grows in a loop that nothing bounds",
                        "keep only what later rounds need, or end the instance and start the next one",
                        node.lineno, column=node.col_offset, machine=machine,
                        hint="it is part of every record: from 64 kB on a warning, at 900 kB refused",
                    )  # fmt: skip
            if _settled(program, loop):
                continue
            for one in (o for s in sites for o in flat(s) if o.undo in ("op", "lambda")):
                yield study.find(
                    "CP720", "information",
                    f"an undo of {one.label or one.text} is registered in each round of a loop that nothing bounds",
                    "s.point_of_no_return() once a round is settled, or a child saga for each round",
                    one.line, column=one.column, machine=machine, hint="all of them stand until the saga ends",
                )  # fmt: skip


def repeats(study: Study) -> Iterator[Finding]:
    """CP711: the same event, sent once more under a new id, is taken for a second one."""
    for machine in study.machines():
        program = study.program(machine)
        if _compares_events(program):
            continue
        waits = [s for s in program.sites if s.kind == "wait" and not s.correlate and s.index]
        for site in waits:
            later = [s for s in waits if s.line > site.line and set(s.replies) & set(site.replies)]
            follows = [s for s in later if _follows(study, machine, site, s)]
            counted = any(
                _inside_site(site, loop)
                and within(program, loop) == [site]
                and (isinstance(loop, ast.For) or _counts(loop))
                for loop in loops(program)
            ) and _follows(study, machine, site, site)
            if follows or counted:
                again = follows[0] if follows else site
                names = [c.__name__ for c in site.replies if c in again.replies]
                yield study.find(
                    "CP711", "information",
                    f"{names[0]} sent twice under two ids counts as two",
                    "compare who sent it, or correlate= on the round",
                    again.line, column=again.column, machine=machine,
                    hint="the id tells repetitions apart, the content does not",
                )  # fmt: skip


def _follows(study: Study, machine: str, site: Site, other: Site) -> bool:
    """Whether an event that both take leads from one wait to the other, with nothing else awaited of that type."""
    shared = {c.__name__ for c in site.replies if c in other.replies}
    for config in study.places.get((machine, site.index), ()):
        for move in study.explored.ahead(config):
            if move.kind == "reply" and move.cause in shared and _reaches(study, move.config, machine, other):
                return True
    return False


def _reaches(study: Study, config: Config, machine: str, site: Site) -> bool:
    todo, seen = [config], {config}
    while todo:
        current = todo.pop()
        frames = current.frames
        if frames and (frames[-1].machine, frames[-1].site) == (machine, site.index):
            return True
        for move in study.explored.ahead(current):
            if move.config not in seen and not move.config.cancelled:
                seen.add(move.config)
                todo.append(move.config)
    return False


def _compares_events(program: Program) -> bool:
    """Whether the saga looks at who sent an event, or keeps a set of those seen."""
    into = {s.index for s in program.sites if s.kind == "wait"}
    names = {
        block.term.into
        for block in program.blocks.values()
        if isinstance(block.term, Await) and block.term.site in into
    }
    for node in walked(program.node.body):
        if isinstance(node, ast.Compare):
            for part in ast.walk(node):
                if (
                    isinstance(part, ast.Attribute)
                    and isinstance(part.value, ast.Name)
                    and part.value.id in names
                ):
                    return True
            if any(isinstance(op, ast.In | ast.NotIn) for op in node.ops):
                return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add":
            return True
    return False


def _counts(loop: Loop) -> bool:
    return isinstance(loop, ast.While) and (
        any(isinstance(n, ast.Compare) for n in ast.walk(loop.test)) or _counted(loop)
    )


def _counted(loop: Loop) -> bool:
    """Whether a number goes up or down in the loop, and is compared in it."""
    steps = {
        n.target.id
        for n in walked(loop.body)
        if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)
    }
    grown = {
        n.func.value.id
        for n in walked(loop.body)
        if isinstance(n, ast.Call)
        and isinstance(n.func, ast.Attribute)
        and n.func.attr in _GROWS
        and isinstance(n.func.value, ast.Name)
    }
    tests = [
        n
        for n in walked(loop.body)
        if isinstance(n, ast.Compare) and any(isinstance(op, _ORDER) for op in n.ops)
    ]
    parts = [part for n in tests for part in (n.left, *n.comparators)]
    compared = {part.id for part in parts if isinstance(part, ast.Name)}
    lengths = {
        n.id
        for part in parts
        if isinstance(part, ast.Call) and getattr(part.func, "id", "") == "len"
        for n in ast.walk(part)
        if isinstance(n, ast.Name)
    }
    return bool(steps & compared or grown & lengths)


def _growth(program: Program, loop: Loop) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
    """(local, place) of everything that gets longer in a loop."""
    inside = set(map(id, walked(loop.body)))
    lists = {
        target.id
        for n in walked(program.node.body)
        if isinstance(n, ast.Assign | ast.AnnAssign) and id(n) not in inside and _sequence(n.value)
        for target in (n.targets if isinstance(n, ast.Assign) else [n.target])
        if isinstance(target, ast.Name)
    }
    outside = {
        n.id for n in walked(program.node.body)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and id(n) not in inside
    }  # fmt: skip
    for n in walked(loop.body):
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in _GROWS:
            if isinstance(n.func.value, ast.Name) and n.func.value.id in outside:
                yield n.func.value.id, n
        elif isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name) and n.target.id in lists:
            yield n.target.id, n
        elif isinstance(n, ast.Assign) and len(n.targets) == 1:
            target = n.targets[0]
            if (
                isinstance(target, ast.Subscript)
                and isinstance(target.value, ast.Name)
                and target.value.id in lists
            ):
                yield target.value.id, n
            elif isinstance(target, ast.Name) and target.id in lists and _extends(n.value, target.id):
                yield target.id, n


def _sequence(value: ast.expr | None) -> bool:
    return isinstance(value, ast.List | ast.Dict | ast.Set | ast.Tuple | ast.JoinedStr) or (
        isinstance(value, ast.Constant) and isinstance(value.value, str)
    )


def _extends(value: ast.expr, name: str) -> bool:
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        return any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(value))
    return any(
        isinstance(n, ast.Starred) and isinstance(n.value, ast.Name) and n.value.id == name
        for n in ast.walk(value)
    )


def _settled(program: Program, loop: Loop) -> bool:
    return any(
        isinstance(n, ast.Attribute)
        and n.attr in ("point_of_no_return", "compensate")
        and isinstance(n.value, ast.Name)
        and n.value.id == program.saga_name
        for n in walked(loop.body)
    )


def _shrunk(loop: Loop) -> set[str]:
    """Names of what gets shorter in a loop."""
    found: set[str] = set()
    for n in walked(loop.body):
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in _SHRINKS:
            found |= {m.id for m in ast.walk(n.func.value) if isinstance(m, ast.Name)}
        elif isinstance(n, ast.Delete):
            found |= {m.id for t in n.targets for m in ast.walk(t) if isinstance(m, ast.Name)}
    return found


def _changed(body: Sequence[ast.AST]) -> set[str]:
    """Names whose methods are called, or whose parts are assigned."""
    found: set[str] = set()
    for n in walked(body):
        if (
            isinstance(n, ast.Call)
            or isinstance(n, ast.Attribute | ast.Subscript)
            and not isinstance(n.ctx, ast.Load)
        ):
            found |= {m.id for m in ast.walk(n) if isinstance(m, ast.Name)}
    return found


def _renewed(loop: Loop) -> set[str]:
    """Names that get a new value in a loop which does not extend the old one."""
    return {
        target.id
        for n in walked(loop.body)
        if isinstance(n, ast.Assign)
        for target in n.targets
        if isinstance(target, ast.Name) and not _extends(n.value, target.id)
    }


def _stored(loop: Loop) -> set[str]:
    return {
        n.id for n in walked(loop.body) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)
    } | _shrunk(loop)


def _reads(loop: Loop, site: Site) -> set[str]:
    """Names in the awaited expression."""
    for n in walked(loop.body):
        if isinstance(n, ast.Await) and n.lineno <= site.line <= (n.end_lineno or n.lineno):
            return {m.id for m in ast.walk(n.value) if isinstance(m, ast.Name)}
    return set()


def _inside(node: ast.stmt, loop: Loop) -> bool:
    return loop.lineno <= node.lineno and (node.end_lineno or 0) <= (loop.end_lineno or 0)


def _inside_site(site: Site, loop: Loop) -> bool:
    return loop.lineno <= site.line <= (loop.end_lineno or 0)


def stale(study: Study) -> Iterator[Finding]:
    """CP727: a wait in a loop that asks something else each round, and an answer to an earlier round would do as well."""
    for machine in study.machines():
        program = study.program(machine)
        met: set[int] = set()
        for loop in reversed(loops(program)):
            asked = _asked(loop, program)
            for site in within(program, loop):
                for one in flat(site):
                    if one.kind != "wait" or one.fresh or one.correlate or one.line in met:
                        continue
                    gives_way = one.has_within or site.kind in ("first", "some", "next")
                    if not gives_way or asked is None or asked > one.line or _compared(loop, one):
                        continue
                    met.add(one.line)
                    yield study.find(
                        "CP727",
                        "warning",
                        f"{one.label or one.text} may be ended by an answer to an earlier round",
                        "fresh=True, or correlate= on a number that each round has",
                        one.line,
                        column=one.column,
                        machine=machine,
                        hint="the round before may have ended without its answer, which comes now",
                    )


def _asked(loop: Loop, program: Program) -> int | None:
    """The line on which each round asks something of its own: a call that a name bound by the loop goes into."""
    saga = program.saga_name
    changed = {
        n.id
        for part in ((loop.target, *loop.body) if isinstance(loop, ast.For) else loop.body)
        for n in ast.walk(part)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    lines: list[int] = []
    for node in walked(loop.body):
        if not isinstance(node, ast.Call) or _is_wait(node, saga):
            continue
        asks = isinstance(node.func, ast.Attribute) and node.func.attr in (
            "emit",
            "tell",
            "link",
            "step",
            "ask",
        )
        step = isinstance(node.func, ast.Name) and isinstance(program.namespace.get(node.func.id), StepDef)
        names = {
            n.id for part in (*node.args, *node.keywords) for n in ast.walk(part) if isinstance(n, ast.Name)
        }
        if (asks or step) and names & changed:
            lines.append(node.lineno)
    return min(lines, default=None)


def _is_wait(node: ast.Call, saga: str) -> bool:
    func = node.func
    return (
        isinstance(func, ast.Attribute)
        and isinstance(func.value, ast.Name)
        and func.value.id == saga
        and (func.attr in ("wait", "sleep", "reply", "show", "note"))
    )


def _compared(loop: Loop, site: Site) -> bool:
    """Whether the saga looks at what the answer says about its round: a field of it is compared."""
    given = {
        t.id
        for n in walked(loop.body)
        if isinstance(n, ast.Assign) and n.lineno <= site.line <= (n.end_lineno or n.lineno)
        for t in n.targets
        if isinstance(t, ast.Name)
    }
    if any(message_spec(cls).command for cls in site.replies):
        return True  # its asker waits for the answer to this very command
    return any(
        isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in given
        for n in walked(loop.body)
        if isinstance(n, ast.Compare)
        for part in ast.walk(n)
    )
