"""`again=` in random programs: a saga that either of two events starts, and that goes on to take more of them."""

from __future__ import annotations

from typing import Any

from contrapas.testing.forms import head, statement

Lines = list[str]


@head
def either(p: Any) -> tuple[str, str]:
    """Two events start it; what a further one does is the engine's."""
    word = p.random.choice(("refuse", "deliver", "restart", "skip"))
    return f"(again={word!r})", p.random.choice(("Go | Added", "Added | Go"))


@statement
def further(p: Any, depth: int) -> Lines:
    """It takes its start events again, in a loop, and keeps the newest as the first one was kept."""
    got, last, v = p.fresh("g"), p.fresh("g"), p.fresh("v")
    more = "go" if "go.n" in p.ints else f"Added(k='k', n={p.sure()})"
    lines = [f"{last}: Go | Added = {more}", f"for {p.fresh('i')} in range({p.random.randrange(1, 4)}):"]
    inner = [f"match await s.wait(Go, Added{p.random.choice(('', ', fresh=True'))}, within='1h'):"]
    body: Lines = p.looped(depth)
    inner += p.inside([f"case Added(n={v}):", f"    log({v}, {last}.n)", *p.inside(body)])
    inner += p.inside([f"case Go() as {got}:", f"    {last} = {got}"])
    inner += p.inside(["case Timeout():", "    " + p.random.choice(("break", "a += 1", "log('late')"))])
    return [*lines, *p.inside(inner), f"log({last}.n, type({last}).__name__)"]
