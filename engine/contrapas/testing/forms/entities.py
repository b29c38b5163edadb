"""Calls of entities in random programs: their handlers and queries, as steps, in joins, in flight, one way, with undo."""

from __future__ import annotations

from typing import Any

from contrapas.author.entity import Entity, handler, query
from contrapas.author.saga import Saga
from contrapas.testing.differential_prelude import num
from contrapas.testing.forms import number, statement, words

Lines = list[str]


class Shelf(Entity, key="id"):
    """Some numbers."""

    held: list[int] = []

    @handler
    async def put(self, s: Saga, n: int, *, by: int = 1) -> int:
        """Keep one."""
        self.held.append(await num(n, by))
        return len(self.held)

    @handler
    async def take(self, many: list[int]) -> list[int]:
        """Give some back."""
        kept, self.held = self.held, many
        return kept

    @handler
    async def drop(self) -> None:
        """Forget all."""
        self.held.clear()

    @query
    def total(self) -> int | None:
        """The sum, if there is anything."""
        return sum(self.held) if self.held else None


words(Shelf=Shelf)


def call(p: Any, depth: int, *, still: bool = False) -> str:
    """A call that gives a number."""
    inner = p.still if still else p.number
    known = "go.k" if "go.n" in p.ints else "'k'"
    at = p.random.choice(("'k'", known, "('k' + t)[:3]", f"str({inner(depth)})"))
    by = f", by={inner(depth)}" if p.chance(0.5) else ""
    return f"Shelf.at({at}).put({inner(depth)}{by})"


@number
def put(p: Any, depth: int) -> str:
    """A handler's result."""
    return f"(await {call(p, depth)})"


@number
def total(p: Any, depth: int) -> str:
    """A query's, perhaps none."""
    return f"((await Shelf.at('k').total()) or {p.number(depth)})"


@number
def stepped(p: Any, depth: int) -> str:
    """With the options of a step."""
    undo = p.random.choice(
        (
            "undo=None",
            f"undo=Refund(k='k', cents={p.sure()})",
            f"undo=lambda n: Refund(k='k', cents=n + {p.sure()})",
        )
    )
    within = p.random.choice(("", ", within='1m'"))
    return f"(await s.step({call(p, depth)}, {undo}{within}))"


@number
def joined(p: Any, depth: int) -> str:
    """Beside others."""
    if p.chance(0.5):
        return f"sum(await s.all({call(p, 1, still=True)}, num({p.still(1)}), {call(p, 1, still=True)}))"
    return f"(await s.first({call(p, 1, still=True)}, num({p.still(1)})))"


@statement
def swapped(p: Any, depth: int) -> Lines:
    """A list that is given and one that is got, both changed afterwards."""
    lines = [f"ys = await Shelf.at('k').take({p.random.choice(('xs', p.several(2)))})"]
    lines += [f"if len(ys) < 6: ys.append({p.number(1)})", "log(xs, ys)"]
    if p.chance(0.3):
        lines.append("log(await Shelf.at('k').drop())")
    return lines


@statement
def failing(p: Any, depth: int) -> Lines:
    """A handler that fails is told apart by what it answers."""
    name = p.fresh("e")
    p.handling += 1
    inner: Lines = p.block(depth + 1)
    p.handling -= 1
    lines = [
        "try:",
        f"    a = await {call(p, 2)}",
        *p.inside(p.block(depth + 1)),
        f"except StepFailed as {name}:",
    ]
    return [*lines, f"    log({name}.reason, {name}.reply, {name}.unknown)", *p.inside(inner)]


@statement
def begun(p: Any, depth: int) -> Lines:
    """In flight, or one way, perhaps later and taken back."""
    h = p.fresh("h")
    body: Lines = p.block(depth + 1)
    if p.chance(0.4):
        lines = [f"{h} = s.tell(Shelf.at('k').drop(), after='1h')", *body]
        return lines if p.leaves(body) else [*lines, f"s.untell({h})"]
    lines = [f"{h} = s.begin({call(p, 1, still=True)})", *body]
    return lines if p.leaves(body) else [*lines, f"a = await {h}"]
