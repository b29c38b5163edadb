"""Operations in flight in random programs: begun, awaited, named to `next`, given up, ended with their scope; limits in time."""

from __future__ import annotations

from typing import Any

from contrapas.testing.forms import number, statement

Lines = list[str]


def operation(p: Any) -> str:
    """An operation that gives a number."""
    if p.subs and p.chance(0.4):
        return f"{p.random.choice(p.subs)}(s, {p.still(1)}, [{p.still(0)}])"
    return str(p.random.choice((f"num({p.still(1)})", f"paid({p.still(1)})", f"num({p.sure()}, {p.sure()})")))


@statement
def begun(p: Any, depth: int) -> Lines:
    """Something else is done while an operation is in flight; then it is awaited, cancelled or forgotten."""
    handle = p.fresh("h")
    body: Lines = p.block(depth + 1)
    lines = [f"{handle} = s.begin({operation(p)}, undo=None)", *body]
    if p.leaves(body):
        return lines
    if p.chance(0.25):
        lines.append(f"if {p.cond(1)}: {handle}.cancel()")
    if p.chance(0.8):
        lines.append(f"a = await {handle}")
    return lines


@statement
def raced(p: Any, depth: int) -> Lines:
    """Whoever ends first, until all have ended or it takes too long."""
    many, done, one = p.fresh("h"), p.fresh("h"), p.fresh("h")
    limit = ", within='1h'" if p.chance(0.6) else ""
    lines = [f"{many} = [s.begin(num(v, {p.sure()})) for v in {p.several(1)}[:3]]", f"while {many}:"]
    inner = [f"{done} = await s.next(*{many}{limit})"]
    if limit:
        inner += [f"if isinstance({done}, Timeout):", f"    for {one} in {many}: {one}.cancel()", "    break"]
    inner += [f"{many}.remove({done})", "try:", f"    a += await {done}"]
    inner += ["except StepFailed as why:", "    log('not', why)", f"    b = {p.number(1)}"]
    return [*lines, *p.inside(inner)]


@statement
def scoped(p: Any, depth: int) -> Lines:
    """A scope with something in flight, perhaps limited in time."""
    handle = p.fresh("h")
    limit = p.random.choice(("", "", "within='5m'", "within='10m'"))
    inner: Lines = []
    if p.chance(0.7):
        inner.append(f"{handle} = s.begin({operation(p)})")
    if p.chance(0.3):
        inner.append(p.random.choice(("s.begin(s.wait(Approved, Rejected))", "s.begin(s.sleep('1h'))")))
    body: Lines = p.block(depth + 1)
    inner += body
    if inner[0].startswith(handle) and not p.leaves(body) and p.chance(0.5):
        inner.append(f"a = await {handle}")
    return [f"async with s.scope({limit}):", *p.inside(inner)]


@number
def enough(p: Any, depth: int) -> str:
    """Some of several."""
    ops = [operation(p) for _ in range(p.random.randrange(1, 4))]
    rest = p.random.choice(("", ", rest='ignore'"))
    return f"sum([v for _, v in await s.some({p.random.randrange(len(ops) + 1)}, {', '.join(ops)}{rest})])"


@number
def limited(p: Any, depth: int) -> str:
    """A called saga or a join with a limit of its own."""
    if p.subs and p.calls < 4 and p.chance(0.6):
        p.calls += 1
        return f"(await s.step({p.random.choice(p.subs)}(s, {p.number(1)}, [1]), within='1h'))"
    return f"sum(await s.step(s.all(num({p.still(1)}), num({p.still(1)})), within='2h'))"
