"""`s.map` in random programs: over items of any number, at most so many at a time, failures raised or collected."""

from __future__ import annotations

from typing import Any

from contrapas.author.timeout import Failed
from contrapas.testing.forms import number, statement, words

Lines = list[str]
words(Failed=Failed)


def options(p: Any) -> str:
    """How the items are worked off; of no consequence to what comes of them."""
    return str(
        p.random.choice(
            ("", "", ", concurrency=1", ", concurrency=2", ", rate='5/s'", ", concurrency=3, rate='9/10s'")
        )
    )


def items(p: Any, depth: int, *, still: bool = False) -> str:
    """Some, or none."""
    awaits, p.awaits = p.awaits, p.awaits and not still
    made = p.random.choice(
        (f"{p.several(depth)}[:4]", f"range({p.random.randrange(4)})", f"[{p.number(depth)}]", "[]", "xs")
    )
    p.awaits = awaits
    return str(made)


@number
def summed(p: Any, depth: int) -> str:
    """The first failing position's error, or all results."""
    return f"sum(await s.map(num, {items(p, depth)}{options(p)}))"


@number
def texts(p: Any, depth: int) -> str:
    """Results that are no numbers, by position."""
    return f"len(''.join(await s.map(word, {items(p, depth)}{options(p)})))"


@number
def joined(p: Any, depth: int) -> str:
    """A map beside others."""
    each = f"s.map(num, {items(p, 1, still=True)}{options(p)})"
    if p.chance(0.5):
        return f"sum((await s.all({each}, num({p.still(1)})))[0])"
    return f"sum(await s.first({each}, nums({p.still(1)})))"


@statement
def collected(p: Any, depth: int) -> Lines:
    """Failures as values, across further awaits; some are looked at, in a `match` and by their class."""
    found, one = p.fresh("h"), p.fresh("v")
    lines = [
        f"{found} = await s.map({p.random.choice(('num', 'num', 'paid'))}, {items(p, 2)}, on_error='collect'{options(p)})"
    ]
    if p.chance(0.6):
        body: Lines = p.block(depth + 1)
        lines += body
        if p.leaves(body):
            return lines
    if p.chance(0.5):
        inner = [
            f"match {one}:",
            "    case Failed(reason=t):",
            f"        a = {p.number(1)}",
            "    case int(v):",
            "        a += v",
        ]
        return [*lines, f"for {one} in {found}:", *p.inside(inner), f"log({found})"]
    return [
        *lines,
        f"b = sum([{one} for {one} in {found} if not isinstance({one}, Failed)])",
        f"log({found})",
    ]


@statement
def handled(p: Any, depth: int) -> Lines:
    """A map whose failure is handled, its items changed by whoever goes on."""
    lines = ["try:", f"    ys = await s.map(num, {items(p, 2)}{options(p)})"]
    if p.chance(0.5):
        lines += p.inside(p.block(depth + 1))
    lines += [
        "except StepFailed as why:",
        "    log('none of them', why)",
        f"    xs = xs[:3] + [{p.number(1)}]",
    ]
    return lines


@statement
def begun(p: Any, depth: int) -> Lines:
    """A map in flight; its items are those of the moment when it was begun."""
    handle = p.fresh("h")
    body: Lines = p.block(depth + 1)
    lines = [f"{handle} = s.begin(s.map(num, xs{options(p)}))", "if len(xs) < 6: xs.append(1)", *body]
    if p.leaves(body):
        return lines
    if p.chance(0.25):
        lines.append(f"if {p.cond(1)}: {handle}.cancel()")
    return [*lines, f"b = len(await {handle})"] if p.chance(0.8) else lines
