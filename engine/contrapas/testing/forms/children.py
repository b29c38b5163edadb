"""`s.child` and `s.link` in random programs: another saga as an instance of its own, and a signed answer for a person."""

from __future__ import annotations

from typing import Any

from contrapas.author.event import Event
from contrapas.author.saga import Saga, saga
from contrapas.testing.differential_prelude import num
from contrapas.testing.forms import number, statement, words

Lines = list[str]


class Leg(Event, key="k"):
    """Starts a leg."""

    k: str
    n: int = 0


class Arrived(Event, key="k"):
    """Its outcome."""

    k: str
    n: int
    xs: list[int]


class Lost(Event, key="k"):
    """Its other outcome."""

    k: str
    n: int


@saga
async def leg(s: Saga, e: Leg) -> Arrived | Lost:
    """One leg; how it ends is the script's."""
    return Arrived(k=e.k, n=await num(e.n), xs=[])


words(Leg=Leg, Arrived=Arrived, Lost=Lost, leg=leg)


def made(p: Any, depth: int, *, still: bool = False) -> str:
    """The call of a child."""
    inner = p.still(depth) if still else p.number(depth)
    more = p.random.choice(
        (
            "", "", ", within='1h'", ", undo=None", f", undo=Refund(k='k', cents={p.sure()})",
            f", undo=lambda got: Refund(k=got.k, cents=got.n + {p.sure()})",
        )
    )  # fmt: skip
    return f"s.child(leg, Leg(k='k', n={inner}){more})"


@number
def ended(p: Any, depth: int) -> str:
    """How it ended, as a number."""
    return f"(await {made(p, depth)}).n"


@number
def several(p: Any, depth: int) -> str:
    """Children beside one another, as many as there are items."""
    event = f"Leg(k='k', n=v + {p.sure()})"
    return f"sum([e.n for e in await s.all(*[s.child(leg, {event}) for v in {p.several(1)}[:3]])])"


@statement
def told_apart(p: Any, depth: int) -> Lines:
    """Its outcomes are told apart; one has a list that is changed."""
    v = p.fresh("v")
    p.know(v)
    return [
        f"match await {made(p, 1)}:",
        *p.inside([f"case Arrived(n={v}, xs=ys):", *p.inside(p.block(depth + 1))]),
        *p.inside([f"case Lost(n={v}):", *p.inside(p.block(depth + 1))]),
    ]


@statement
def failing(p: Any, depth: int) -> Lines:
    """Its failure is handled, while it may stand among others."""
    name = p.fresh("e")
    body = f"a = (await {made(p, 1)}).n"
    if p.chance(0.4):
        body = f"a = (await s.first({made(p, 1, still=True)}, {made(p, 1, still=True)})).n"
    p.handling += 1
    inner: Lines = p.block(depth + 1)
    p.handling -= 1
    return ["try:", f"    {body}", f"except StepFailed as {name}:", f"    log({name})", *p.inside(inner)]


@statement
def begun(p: Any, depth: int) -> Lines:
    """A child in flight."""
    handle = p.fresh("h")
    body: Lines = p.block(depth + 1)
    lines = [f"{handle} = s.begin({made(p, 1, still=True)})", *body]
    if p.leaves(body):
        return lines
    if p.chance(0.3):
        lines.append(f"{handle}.cancel()")
    return [*lines, f"b = (await {handle}).n"] if p.chance(0.8) else lines


@statement
def linked(p: Any, depth: int) -> Lines:
    """A link that is alive across awaits."""
    link = p.fresh("h")
    within = p.random.choice(("", ", within='1d'"))
    body: Lines = p.block(depth + 1)
    lines = [f"{link} = s.link(Approved(k='k', by=t){within})", *body]
    return lines if p.leaves(body) else [*lines, f"log({link}.url)"]
