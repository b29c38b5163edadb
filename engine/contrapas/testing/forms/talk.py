"""Talk in random programs: commands that the saga answers, its view and notes, messages one way, the end of another saga."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from contrapas.testing.forms import children, number, statement, words

Lines = list[str]


class View(BaseModel):
    """What is shown."""

    n: int
    xs: list[int] = []


words(View=View, Leg=children.Leg, leg=children.leg)
_REPLY = {
    "Charge": ("Charged(k='k', cents={})", "Declined(k='k', reason=str({}))"),
    "Refund": ("Refunded(k='k')",),
}


def reply(p: Any, to: str, kind: str, depth: int = 1) -> str:
    """An answer to a local."""
    text = p.random.choice(_REPLY[kind]).format(p.number(depth))
    given = to if p.chance(0.75) else f"{to}.model_copy()"
    return f"s.reply({given}, {text})"


@statement
def answered(p: Any, depth: int) -> Lines:
    """A command is waited for, and answered sooner or later, twice or never."""
    got = p.fresh("q")
    body: Lines = p.block(depth + 1)
    inner = [reply(p, got, "Charge")] if p.chance(0.3) else []
    inner += body
    if not p.leaves(body) and p.chance(0.8):
        inner.append(reply(p, got, "Charge", 2))
    late = p.random.choice((["log('late')"], p.block(depth + 1)))
    return [
        "match await s.wait(Charge, Refund, within='1h'):",
        *p.inside([f"case Charge() as {got}:", *p.inside(inner)]),
        *p.inside(["case Refund() as asked:", f"    {reply(p, 'asked', 'Refund')}"]),
        *p.inside(["case Timeout():", *p.inside(late)]),
    ]


@statement
def asked_once(p: Any, depth: int) -> Lines:
    """One command, read and answered in a `try` that may fail before."""
    got = p.fresh("q")
    p.handling += 1
    why: Lines = p.block(depth + 1)
    p.handling -= 1
    return [
        f"{got} = await s.wait(Charge)",
        "try:",
        *p.inside(p.block(depth + 1)),
        f"    {reply(p, got, 'Charge')}",
        "except StepFailed as why:",
        f"    s.reply({got}, Declined(k='k', reason=why.reason))",
        *p.inside(why),
    ]


@statement
def kept(p: Any, depth: int) -> Lines:
    """Commands in a list and in a dict, answered later in another order."""
    many, one = p.fresh("q"), p.fresh("q")
    shape = p.chance(0.5)
    start = f"{many}: list[Charge] = []" if shape else f"{many}: dict[str, Charge] = {{}}"
    add = f"{many}.append({one})" if shape else f"{many}[{p.text(1)}] = {one}"
    each = f"reversed({many})" if shape else f"list({many}.values())"
    count = p.random.randrange(1, 4)
    loop = [f"{one} = await s.wait(Charge)", add]
    if p.chance(0.5):
        loop += p.looped(depth)
    after = [f"for {one} in {each}:"]
    after += p.inside([f"b = {p.number(2)}"] if p.chance(0.5) else [])
    return [
        start,
        f"for {p.fresh('i')} in range({count}):",
        *p.inside(loop),
        *after,
        f"    {reply(p, one, 'Charge')}",
    ]


@statement
def wrong(p: Any, depth: int) -> Lines:
    """What cannot be answered, and what is no answer."""
    got = p.fresh("q")
    mistake = p.random.choice(
        (
            "s.reply(Charge(k='k', cents=1), Charged(k='k', cents=1))",
            f"s.reply({got}, Done(k='k'))",
            f"s.reply({got}, Refunded(k='k'))",
        )
    )
    lines = [
        f"{got} = await s.wait(Charge)",
        "try:",
        f"    {mistake}",
        "except (TypeError, RuntimeError) as no:",
    ]
    lines += [f"    log(str(no), {p.number(2)})", f"    b = {p.number(1)}"]
    return [*lines, reply(p, got, "Charge")]


@statement
def shown(p: Any, depth: int) -> Lines:
    """A view and a note, built over awaits."""
    forms = (
        lambda: f"s.show(View(n={p.number(2)}, xs=xs))",
        lambda: f"s.show(View(n={p.number(2)}, xs={p.several(2)}))",
        lambda: f"s.note(f'at {{{p.bare(1)}}}')",
        lambda: f"s.note({p.text(2)} or 'nothing')",
    )
    return [p.random.choice(forms)() for _ in range(p.random.randrange(1, 3))]


@statement
def told(p: Any, depth: int) -> Lines:
    """Messages that leave at once or later; some are taken back, from a local, a list, or one that is perhaps none."""
    h = p.fresh("h")
    command = f"Refund(k='k', cents={p.number(2)})"
    shape = p.random.randrange(3)
    if shape == 0:
        return [f"s.tell({command})"]
    body: Lines = p.block(depth + 1)
    if shape == 1:
        lines = [f"{h} = s.tell({command}, after='10m')", *body]
        return (
            lines
            if p.leaves(body)
            else [*lines, f"s.untell({h})", *([f"s.untell({h})"] if p.chance(0.3) else [])]
        )
    lines = [
        f"{h} = [s.tell(Refund(k='k', cents=v + {p.sure()}), after='1h') for v in {p.several(1)}[:3]]",
        *body,
    ]
    return lines if p.leaves(body) else [*lines, f"if {h}:", f"    s.untell({h}.pop())", f"log(len({h}))"]


@number
def ended(p: Any, depth: int) -> str:
    """How another instance ended, which is told to."""
    reason = f", reason={p.text(1)}" if p.chance(0.5) else ""
    return f"len(await s.cancel(leg, 'k'{reason}) or '')"
