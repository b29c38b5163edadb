"""Every way one operation may end, from what is known of its await: replies, failures, expiry, giving up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any, Final, NamedTuple

from contrapas.author.op import MISSING
from contrapas.author.retry import Retry
from contrapas.author.saga import SagaDef
from contrapas.author.timeout import Timeout
from contrapas.draw.native import Value, type_name, written
from contrapas.errors import StepFailed
from contrapas.machine.ir import Site

FAILED: Value = ("x", StepFailed, False)
_COMBINATIONS = 24
_SUBSETS = 4


KNOWN: Final = frozenset(
    {
        "command",
        "ask",
        "local",
        "map",
        "child",
        "some",
        "begin",
        "result",
        "next",
        "join",
        "cancel",
        "wait",
        "sleep",
        "all",
        "first",
        "frame",
        "compensate",
        "unwind",
    }
)
"""Kinds of operations whose every end is known here; of any other the explorer says so (CP790)."""


class Issued(NamedTuple):
    """An operation as the undo stack knows it."""

    machine: str
    label: str
    undo: str
    """What takes it back; empty: no `undo=` was written."""
    text: str
    line: int
    status: str = "issued"
    word: str = "done"
    """What it did, as an adjective: `charged`."""


class Outcome(NamedTuple):
    """One end of an awaited operation."""

    cause: str
    value: Value = None
    raises: Value = None
    statuses: tuple[str, ...] = ()
    """Of its entries, in the order of `issued`."""
    failure: bool = False
    unknown: bool = False
    """Of a failure: nobody knows whether the effect is there."""

    @property
    def kind(self) -> str:
        """`reply`, `failure` or `expiry`."""
        if self.cause.startswith("after "):
            return "expiry"
        return "failure" if self.failure else "reply"


class Branch(NamedTuple):
    """What a called saga that runs as a branch may leave on the stack, and how it may end."""

    entries: tuple[Issued, ...]
    ends: tuple[Outcome, ...]
    """The good ones first; `undone` for an entry that an end does not leave."""


Branches = Mapping[str, Branch]
"""Called sagas that were looked into, by name; one that is not there is a step that leaves nothing."""
_NONE: Final[Branches] = {}


def branch_of(site: Site, branches: Branches) -> Branch | None:
    """What is known of the saga that an operation runs beside others."""
    return branches.get(type_name(site.target)) if site.kind == "frame" or of_saga(site) else None


def undo_of(site: Site) -> str:
    """`none`, `missing`, `op` or `lambda`: what was written at the await, else what the `@step` says."""
    if of_saga(site):
        return "none" if site.undo == "missing" else site.undo
    if site.undo == "missing" and site.kind in ("local", "map"):
        default = getattr(site.target, "undo", MISSING)
        return "none" if default is None else "missing" if default is MISSING else "op"
    return site.undo


def undo_text(site: Site) -> str:
    """What takes the step back, as people know it."""
    if site.undo_text:
        return site.undo_text
    default = getattr(site.target, "undo", None)
    return str(getattr(default, "name", None) or getattr(default, "__name__", None) or "undo")


def is_step(site: Site) -> bool:
    """Whether the operation has an effect elsewhere that could be taken back."""
    if of_saga(site):
        return site.undo != "missing"
    return site.kind in ("command", "ask", "local", "map", "child")


def of_saga(site: Site) -> bool:
    """A map whose items run a saga: its steps have the effects."""
    return site.kind == "map" and isinstance(site.target, SagaDef)


def issued(machine: str, site: Site, branches: Branches = _NONE) -> tuple[Issued, ...]:
    """Entries that issuing the operation puts on the undo stack, steps without `undo=` included."""
    if site.kind in ("all", "first", "some"):
        children = tuple(entry for child in site.children for entry in issued(machine, child, branches))
        return tuple(e._replace(label=site.label) if not e.label else e for e in children)
    branch = branch_of(site, branches)
    inner = () if branch is None else branch.entries
    how = undo_of(site)
    if not is_step(site) or how == "none":
        return inner
    undo = "" if how == "missing" else undo_text(site)
    name = type_name(site.target) if site.target else site.text
    return (Issued(machine, site.label or site.text, undo, name, site.line, word=participle(site)), *inner)


def words(name: str) -> list[str]:
    """`ReserveStock` as `reserve`, `stock`."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]


def participle(site: Site) -> str:
    """What a step did, from the name of its success reply: `CardCharged` of `ChargeCard` is `charged`; else `done`."""
    if site.kind in ("local", "map", "child") or not site.replies or site.target is None:
        return "done"
    own = words(type_name(site.target))
    told = [word for word in words(type_name(site.replies[0])) if word not in own]
    return told[-1] if told else "done"


def effect_of(site: Site) -> frozenset[Any] | None:
    """What a step does elsewhere: two steps with a common member do the same. None: nothing that matters."""
    if not is_step(site) or undo_of(site) == "none" or site.target is None:
        return None
    return frozenset({site.target, *site.replies[:1]})


def gives_up(site: Site) -> bool:
    """Whether `retry=` of a command ends: so many attempts, each limited by `each=`."""
    policy = site.retry
    return isinstance(policy, Retry) and policy.attempts is not None and policy.each_ms is not None


def outcomes(site: Site, branches: Branches = _NONE) -> Iterator[Outcome]:
    """Every end, the hopeful one first; a cancel is the explorer's."""
    counts = is_step(site) and undo_of(site) != "none"
    branch = branch_of(site, branches)
    if branch is not None:
        yield from _branch(site, branch, counts=counts)
        return
    for outcome in _outcomes(site, branches):
        yield outcome if counts or site.kind in ("all", "first", "some") else outcome._replace(statuses=())


def after(site: Site) -> str:
    """How its time is over: `after 30d`; of a limit that is computed the expression, if it is short."""
    return f"after {site.within or written(site.limit)}"


def _gave_up(cause: str = "gave up") -> Outcome:
    return Outcome(cause, None, FAILED, ("unknown",), failure=True, unknown=True)


def _branch(site: Site, branch: Branch, *, counts: bool) -> Iterator[Outcome]:
    """A called saga beside others; or a map over one: its items end well alike, or some of them fail and are taken back."""
    own = ("done",) if counts else ()
    good = [o for o in branch.ends if o.raises is None] or [
        Outcome("returned", statuses=("undone",) * len(branch.entries))
    ]
    if of_saga(site):
        for one in good:
            yield Outcome("returned", _single(site.result), statuses=own + one.statuses)
        if not site.collects and len(good) < len(branch.ends):
            for one in good:
                yield Outcome("failed", raises=FAILED, statuses=own + one.statuses, failure=True)
        return
    for one in branch.ends:
        yield one._replace(
            value=_single(site.result) if one.raises is None else None, statuses=own + one.statuses
        )


def _outcomes(site: Site, branches: Branches = _NONE) -> Iterator[Outcome]:
    kind = site.kind
    if kind == "command":
        yield from _command(site)
    elif kind == "ask":
        for index, reply in enumerate(site.replies):
            yield Outcome(
                type_name(reply), ("c", reply), statuses=("failed" if index else "done",), failure=index > 0
            )
        if site.has_within:
            yield Outcome(after(site), ("c", Timeout), None, ("unknown",), failure=True, unknown=True)
    elif of_saga(site):
        yield Outcome("returned", _single(site.result), statuses=("done",))
        if not site.collects:
            yield Outcome("failed", raises=FAILED, statuses=("done",), failure=True)
    elif kind == "local" or kind == "map":
        yield Outcome("ok", _single(site.result), statuses=("done",))
        if not site.forever and not site.collects:
            yield Outcome(
                "failed", raises=FAILED, statuses=("done" if kind == "map" else "failed",), failure=True
            )
            yield _gave_up()
        if site.has_within:
            yield _gave_up(after(site))
    elif kind == "wait":
        for event in site.replies:
            yield Outcome(type_name(event), ("c", event))
        if site.has_within:
            yield Outcome(after(site), ("c", Timeout), failure=True)
    elif kind == "sleep":
        yield Outcome(after(site) if site.within else "later")
    elif kind == "child":
        yield Outcome("returned", _single(site.result), statuses=("done",))
        yield Outcome("failed", raises=FAILED, statuses=("failed",), failure=True)
        if site.has_within:
            yield _gave_up(after(site))
    elif kind == "frame":
        yield Outcome("returned", _single(site.result))
        yield Outcome("failed", raises=FAILED, failure=True)
    elif kind == "all":
        yield from _all(site, branches)
    elif kind == "first":
        yield from _first(site, branches)
    elif kind == "some":
        yield from _some(site, branches)
    elif kind == "cancel":
        yield Outcome("ended")
    elif kind in KNOWN:
        yield Outcome("")
    else:
        yield Outcome("ended", _single(site.result))
        yield Outcome("failed", raises=FAILED, failure=True)


def _command(site: Site) -> Iterator[Outcome]:
    good = site.replies[0] if site.replies else None
    cause = type_name(good) if good is not None else "ok"
    yield Outcome(cause, ("c", good) if good is not None else None, statuses=("done",))
    if not site.forever:
        for bad in site.replies[1:]:
            yield Outcome(type_name(bad), raises=FAILED, statuses=("failed",), failure=True)
        if gives_up(site):
            yield _gave_up()
    if site.has_within:
        yield _gave_up(after(site))


def _single(tp: Any) -> Value:
    return ("c", tp) if isinstance(tp, type) else None


def _all(site: Site, branches: Branches) -> Iterator[Outcome]:
    """All done, in each way in which that may be; then every mixture with a failure, or, where there are too many, each
    child failing alone."""
    each = [list(outcomes(child, branches)) for child in site.children]
    yield from _well(each)
    size = 1
    for options in each:
        size *= len(options)
    if size <= _COMBINATIONS:
        mixtures = [mix for mix in product(*each) if any(o.raises is not None for o in mix)]
    else:
        mixtures = [
            tuple(bad if i == j else options[0] for j, options in enumerate(each))
            for i, own in enumerate(each)
            for bad in own
            if bad.raises is not None
        ]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for mix in mixtures:
        first = next(o for o in mix if o.raises is not None)
        key = (first.cause, _statuses(mix))
        if key not in seen:
            seen.add(key)
            yield Outcome(first.cause, None, FAILED, key[1], failure=True, unknown=first.unknown)


def _well(each: list[list[Outcome]]) -> Iterator[Outcome]:
    """Nothing has failed: what each may leave with what the others may, or, where that is too much, with what they most do."""
    good = [[o for o in options if o.raises is None] or options[:1] for options in each]
    size = 1
    for options in good:
        size *= len(options)
    first = tuple(options[0] for options in good)
    if size <= _COMBINATIONS:
        mixtures: Iterable[tuple[Outcome, ...]] = product(*good)
    else:
        alone = [(*first[:i], one, *first[i + 1 :]) for i, options in enumerate(good) for one in options]
        mixtures = [first, *alone]
    for statuses in dict.fromkeys(_statuses(mix) for mix in mixtures):
        yield Outcome("all", statuses=statuses)


def _first(site: Site, branches: Branches) -> Iterator[Outcome]:
    """Each child may be the winner; what the others did is taken back before the saga goes on."""
    for index, child in enumerate(site.children):
        for option in outcomes(child, branches):
            statuses = tuple(
                status
                for j, other in enumerate(site.children)
                for status in (
                    option.statuses if j == index else ("undone",) * len(issued("", other, branches))
                )
            )
            yield option._replace(statuses=statuses)


def _some(site: Site, branches: Branches) -> Iterator[Outcome]:
    """Any of the children may be those that succeed, the rest is given up; or a mixture with failures is too few."""
    sizes = [len(issued("", child, branches)) for child in site.children]
    good = [ends[0].statuses for child in site.children if (ends := list(outcomes(child, branches)))]
    for subset in sorted(product((True, False), repeat=min(len(good), _SUBSETS)), reverse=True):
        chosen = [*subset, *([True] * (len(good) - len(subset)))]
        statuses = [g if yes else ("undone",) * n for g, yes, n in zip(good, chosen, sizes, strict=True)]
        yield Outcome("some", statuses=tuple(s for each in statuses for s in each))
    yield from (outcome for outcome in _all(site, branches) if outcome.raises is not None)


def _statuses(mix: tuple[Outcome, ...]) -> tuple[str, ...]:
    return tuple(status for outcome in mix for status in outcome.statuses)
