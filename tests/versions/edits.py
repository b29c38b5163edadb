"""Random edits of real sagas, and what they do to instances that stand in the old code.

    python -m tests.versions.edits [COUNT] [SEED]

For every edit: an instance is stopped in every state it passes under the old code, and continued by the new. What `diff`
calls same or compatible must end as the new code ends that was run from the start, wherever that stands with the same
values; what it calls orphaned, or in need of a migration, must park with its machine part unchanged.
"""

from __future__ import annotations

import ast
import copy
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contrapas.core import moves
from contrapas.core.envelope import Node
from contrapas.errors import ContrapasError
from tests.versions.driver import Run, Script, Step, Version, resumed, start

ROOT = Path(__file__).parents[2] / "sagas"
SAGAS = {
    "order": "place_order",
    "claim": "handle_claim",
    "travel": "book_trip",
    "subscription": "subscription",
    "bank": "",
}
EXTRA = """
from contrapas import step as _step

@_step(undo=None)
async def extra_work(n: int) -> int:
    return n

"""


@dataclass
class Tally:
    """What came of the edits."""

    edits: Counter[str] = field(default_factory=Counter[str])
    states: Counter[str] = field(default_factory=Counter[str])
    """Stops by verdict."""
    compared: int = 0
    """Stops for which a run from the start passed the same place with the same values."""
    refused: Counter[str] = field(default_factory=Counter[str])
    """Edits that do not compile, or run natively no better."""


class Wrong(AssertionError):
    """`diff` said one thing, and another happened."""


def source_of(name: str, saga: str = "") -> tuple[str, str]:
    """(text of a worked saga's module, name of its root saga)."""
    text = (ROOT / name / "saga.py").read_text()
    saga = (
        saga
        or SAGAS[name]
        or next(
            n.name
            for n in ast.parse(text).body
            if isinstance(n, ast.AsyncFunctionDef) and any("saga" in ast.unparse(d) for d in n.decorator_list)
        )
    )
    return text, saga


# ---- edits


def _blocks(fn: ast.AsyncFunctionDef) -> list[list[ast.stmt]]:
    found: list[list[ast.stmt]] = []
    for node in ast.walk(fn):
        for name in ("body", "orelse", "finalbody"):
            value = getattr(node, name, None)
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                found.append(value)  # pyright: ignore[reportUnknownArgumentType]
    return found


def _awaiting(fn: ast.AsyncFunctionDef) -> list[tuple[list[ast.stmt], int]]:
    return [
        (block, i)
        for block in _blocks(fn)
        for i, stmt in enumerate(block)
        if isinstance(stmt, (ast.Expr, ast.Assign, ast.AnnAssign))
        and any(isinstance(n, ast.Await) for n in ast.walk(stmt))
    ]


def _new(text: str) -> ast.stmt:
    return ast.parse(f"async def f():\n {text}").body[0].body[0]  # type: ignore[attr-defined,no-any-return]


def insert(tree: ast.Module, fn: ast.AsyncFunctionDef, chance: random.Random) -> None:
    """An await of a step, or a sleep, somewhere."""
    block = chance.choice(_blocks(fn))
    line = chance.choice(["await extra_work(3)", "more = await extra_work(4)", "await s.sleep('1s')"])
    block.insert(chance.randrange(len(block) + 1), _new(line))


def delete(tree: ast.Module, fn: ast.AsyncFunctionDef, chance: random.Random) -> None:
    """One statement that awaits."""
    block, i = chance.choice(_awaiting(fn))
    block[i] = ast.Pass()


def move(tree: ast.Module, fn: ast.AsyncFunctionDef, chance: random.Random) -> None:
    """Two neighbours change places."""
    block = chance.choice([b for b in _blocks(fn) if len(b) > 1])
    i = chance.randrange(len(block) - 1)
    block[i], block[i + 1] = block[i + 1], block[i]


def duplicate(tree: ast.Module, fn: ast.AsyncFunctionDef, chance: random.Random) -> None:
    """The same await once more."""
    block, i = chance.choice(_awaiting(fn))
    block.insert(i, copy.deepcopy(block[i]))


def wrap(tree: ast.Module, fn: ast.AsyncFunctionDef, chance: random.Random) -> None:
    """A statement that awaits gets something around it."""
    block, i = chance.choice(_awaiting(fn))
    text = chance.choice(
        [
            "if s.key:\n  pass",
            "for again in [1]:\n  pass",
            "while True:\n  pass\n  break",
            "try:\n  pass\n finally:\n  s.log.info('x')",
            "try:\n  pass\n except KeyError:\n  raise",
            "async with s.scope():\n  pass",
        ]
    )
    around: Any = _new(text)
    around.body[0] = block[i]
    block[i] = around


def rename_step(tree: ast.Module, fn: ast.AsyncFunctionDef, chance: random.Random) -> None:
    """A command class or a step gets another name, everywhere."""
    names = [
        n.name for n in tree.body if isinstance(n, ast.ClassDef) and "Command" in ast.unparse(n.bases[0])
    ]
    names += [n.name for n in tree.body if isinstance(n, ast.AsyncFunctionDef) and n is not fn]
    old = chance.choice(names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == old:
            node.id = f"{old}2"
        if isinstance(node, (ast.ClassDef, ast.AsyncFunctionDef)) and node.name == old:
            node.name = f"{old}2"


def extract(tree: ast.Module, fn: ast.AsyncFunctionDef, chance: random.Random) -> None:
    """A step that reads nothing but the start event becomes a called saga."""
    first = fn.args.args[1]
    fits: list[tuple[list[ast.stmt], int]] = []
    for block, i in _awaiting(fn):
        stmt = block[i]
        loads = {n.id for n in ast.walk(stmt) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        own = {n.id for n in ast.walk(fn) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        if isinstance(stmt, ast.Expr) and not loads & own:
            fits.append((block, i))
    block, i = chance.choice(fits)
    made: Any = ast.parse(
        f"@saga\nasync def part_of_it(s: Saga, {first.arg}: {ast.unparse(first.annotation or ast.Constant(None))}) -> None:\n pass"
    ).body[0]
    made.body = [block[i]]
    block[i] = _new(f"await part_of_it(s, {first.arg})")
    tree.body.insert(tree.body.index(fn), made)


def reorder_exits(tree: ast.Module, fn: ast.AsyncFunctionDef, chance: random.Random) -> None:
    """An `if`, a `match` or the handlers of a `try` in another order."""
    tries = [n.handlers for n in ast.walk(fn) if isinstance(n, ast.Try) and len(n.handlers) > 1]
    matches = [n.cases for n in ast.walk(fn) if isinstance(n, ast.Match)]
    ifs = [n for n in ast.walk(fn) if isinstance(n, ast.If) and n.orelse]
    several: list[list[Any]] = [*tries, *matches]
    if several:
        chance.shuffle(chance.choice(several))
        return
    one = chance.choice(ifs)
    one.test, one.body, one.orelse = ast.UnaryOp(ast.Not(), one.test), one.orelse, one.body


def widen(tree: ast.Module, fn: ast.AsyncFunctionDef, chance: random.Random) -> None:
    """A field gets a wider type, or a model one more with a default."""
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    fields_ = [s for c in classes for s in c.body if isinstance(s, ast.AnnAssign)]
    if chance.random() < 0.5:
        chance.choice(classes).body.append(ast.parse("added: int = 0").body[0])
        return
    one = chance.choice([f for f in fields_ if ast.unparse(f.annotation) == "int"])
    one.annotation = ast.parse(chance.choice(["int | None", "float"]), mode="eval").body


EDITS: tuple[Callable[[ast.Module, ast.AsyncFunctionDef, random.Random], None], ...] = (
    insert,
    delete,
    move,
    duplicate,
    wrap,
    rename_step,
    extract,
    reorder_exits,
    widen,
)


def edited(text: str, saga: str, chance: random.Random) -> tuple[str, str]:
    """(name of the edit, the module's new text)."""
    tree = ast.parse(text)
    names = [
        n.name
        for n in tree.body
        if isinstance(n, ast.AsyncFunctionDef) and "saga" in str([ast.unparse(d) for d in n.decorator_list])
    ]
    name = chance.choice([n for n in names if not n.startswith("extra")])
    fn = next(n for n in tree.body if isinstance(n, ast.AsyncFunctionDef) and n.name == name)
    edit = chance.choice(EDITS)
    edit(tree, fn, chance)
    return edit.__name__, ast.unparse(ast.fix_missing_locations(tree))


# ---- what comes of them


def based(name: str) -> tuple[str, str]:
    """A worked saga with the step that edits insert."""
    text, saga = source_of(name)
    lines = text.split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith("class "))
    return "\n".join(lines[:at]) + EXTRA + "\n".join(lines[at:]), saga


def check(old: Version, new: Version, seed: int, tally: Tally) -> None:
    """Every stop of one run of the old code, continued by the new. Wrong where `diff` was wrong."""
    new.world.older.clear()
    new.over(old)
    script = Script(seed)
    before, after = start(old, script), start(new, script)
    for step in before.steps:
        record = step.record
        if record.ended_at is not None or record.parked is not None:
            continue
        why = moves.unfit(record, new.world)
        run = resumed(new, step, script)
        tally.states["stops" if why else "goes on"] += 1
        if why:
            _parked(run, step, why)
            continue
        last = run.last
        itself = after.last.parked
        own = {
            "CP847",
            "CP704",
            "" if itself is None else itself.code,
        }  # what is wrong with the new code itself
        if last.parked is not None and last.parked.code not in own:
            raise Wrong(f"said to go on from {record.state}, and {last.parked.code}: {last.parked.error}")
        _compared(old, new, step, run, after, tally)


def _parked(run: Run, step: Step, why: str) -> None:
    last = run.last
    if len(run.steps) == 1:
        return  # nothing touched it
    if last.parked is None or last.parked.code != "CP312" or last.root != step.record.root:
        raise Wrong(f"said not to go on ({why}), and it did: {last.status} in {last.state}")


def _compared(old: Version, new: Version, step: Step, run: Run, after: Run, tally: Tally) -> None:
    """With the new code's own run from where it stands as this one did, if it ever does."""
    record = step.record
    for other in after.steps:
        if not _alike(step, other, new):
            continue
        tally.compared += 1
        mine, theirs = run.after(run.steps[0]), after.after(other)
        if len(run.steps) > 30 or len(after.steps) > 30:
            length = min(len(mine), len(theirs)) - 1
            mine, theirs = mine[:length], theirs[:length]
        if mine != theirs:
            raise Wrong(f"from {record.state} it went on otherwise than the new code does:\n{mine}\n{theirs}")
        return


def _alike(step: Step, other: Step, new: Version) -> bool:
    one, two = step.record, other.record
    if one.version - two.version and step.asked != other.asked:
        return False
    return step.asked == other.asked and _same(one.root, two.root, new) and one.pivoted == two.pivoted


def _same(one: Node, two: Node, new: Version) -> bool:
    if [(f.saga, f.label, f.scopes) for f in one.frames] != [(f.saga, f.label, f.scopes) for f in two.frames]:
        return False
    for mine, theirs in zip(one.frames, two.frames, strict=True):
        state = new.world.machines[mine.saga].states.get(mine.label)
        live = state.live if state is not None else frozenset[str]()
        if {n: mine.slots.get(n) for n in live} != {n: theirs.slots.get(n) for n in live}:
            return False
    stacks = [[(e.label, e.status, e.kind, e.name, e.body, e.reply) for e in n.undo] for n in (one, two)]
    if stacks[0] != stacks[1] or (one.join is None) != (two.join is None) or one.result != two.result:
        return False
    pairs = (
        []
        if one.join is None or two.join is None
        else list(zip(one.join.children, two.join.children, strict=False))
    )
    return _asked(one) == _asked(two) and all(_same(a, b, new) for a, b in pairs)


def _asked(node: Node) -> Any:
    return None if node.pending is None else (node.pending.name, node.pending.body, node.pending.types)


def run_edits(count: int, seed: int = 0, say: Callable[[str], None] | None = None) -> Tally:
    """So many edits that compile, each with two scripts."""
    tally = Tally()
    chance = random.Random(seed)
    olds = {name: (based(name), Version.of(*based(name))) for name in SAGAS}
    while sum(tally.edits.values()) < count:
        name = chance.choice(sorted(SAGAS))
        (text, saga), old = olds[name]
        try:
            what, changed = edited(text, saga, chance)
            new = Version.of(changed, saga, old.lock)
        except (ContrapasError, IndexError, SyntaxError, NameError, ValueError, AssertionError) as no:
            tally.refused[getattr(no, "code", type(no).__name__)] += 1
            continue
        if saga not in new.world.machines:
            continue
        tally.edits[what] += 1
        for script in range(2):
            try:
                check(old, new, script + 10 * sum(tally.edits.values()), tally)
            except Wrong as why:
                raise Wrong(
                    f"edit {what} of {name}, seed {seed}, script {script}: {why}\n{changed[-6000:]}"
                ) from why
        if say is not None and sum(tally.edits.values()) % 50 == 0:
            say(str(tally))
    return tally


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(run_edits(number, int(sys.argv[2]) if len(sys.argv) > 2 else 0, print))
