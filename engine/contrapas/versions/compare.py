"""`compare`: what an instance in each state of one machine can do under another (C1 to C9 of the design).

| verdict           | an instance that stands there                                                          |
|-------------------|----------------------------------------------------------------------------------------|
| `same`            | goes on exactly as before: everything reachable is unchanged                           |
| `compatible`      | goes on, perhaps another way; it moves when it is next touched                         |
| `needs migration` | its state exists, and what its record holds does not do: `migrate=` or the old code    |
| `orphaned`        | its state is gone: map it, or keep the old definition                                  |

Judged by what the old record may hold and the new code may ask for, never by names of classes or places in the source.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from contrapas.machine import Machine, State
from contrapas.versions.reads import misread

SAME: Final = "same"
COMPATIBLE: Final = "compatible"
MIGRATION: Final = "needs migration"
ORPHANED: Final = "orphaned"
GOES_ON: Final = frozenset({SAME, COMPATIBLE})
_FRAMES_IN: Final = frozenset({"child", "map", "cancel"})
"""Kinds whose sagas run as instances of their own, under their own machine."""
_PERHAPS_EMPTY: Final = frozenset({"ret", "exc"})
"""Roles of slots that the old record rightly lacks when what fills them cannot be pending there."""


class Finding(NamedTuple):
    """One reason, with what to type next."""

    code: str
    text: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One state of the old machine."""

    label: str
    to: str
    """Where it stands in the new machine; empty when it has no place there."""
    verdict: str
    findings: tuple[Finding, ...] = ()
    line: int = 0
    """Of the new await, else of the old one."""

    @property
    def goes_on(self) -> bool:
        """Whether an instance there can be continued by the new code."""
        return self.verdict in GOES_ON

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of its findings, each once."""
        return tuple(dict.fromkeys(f.code for f in self.findings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two versions of one saga."""

    saga: str
    old: str
    """Fingerprint."""
    new: str
    """Empty: the saga is gone."""
    states: Mapping[str, Fit] = field(default_factory=dict[str, Fit])
    added: tuple[str, ...] = ()
    """Labels that the old machine does not have."""

    @property
    def findings(self) -> int:
        """States in which an instance cannot go on."""
        return sum(1 for fit in self.states.values() if not fit.goes_on)


def compare_all(
    olds: Iterable[Machine],
    news: Mapping[str, Machine],
    migrations: Mapping[str, Mapping[str, str]] | None = None,
    known: Collection[str] | None = None,
) -> dict[str, Comparison]:
    """Old machines against the new ones of their names; called sagas of `olds` count for the states that call them (C8)."""
    by_name = {m.name: m for m in olds}
    done: dict[str, Comparison] = {}
    open_: set[str] = set()

    def one(name: str) -> Comparison | None:
        if name in done or name in open_ or name not in by_name:
            return done.get(name)
        open_.add(name)
        old = by_name[name]
        called = {c: one(c) for s in old.states.values() for c in framed(s)}
        made = compare(old, news.get(name), called=called, mapping=(migrations or {}).get(name), known=known)
        open_.discard(name)
        done[name] = made
        return made

    for name in by_name:
        one(name)
    return done


def framed(state: State) -> tuple[str, ...]:
    """Sagas that stand above a state as frames."""
    return () if state.kind in _FRAMES_IN else state.calls


def compare(
    old: Machine,
    new: Machine | None,
    *,
    called: Mapping[str, Comparison | None] | None = None,
    mapping: Mapping[str, str] | None = None,
    known: Collection[str] | None = None,
) -> Comparison:
    """One saga. known: commands and steps that the new app has; None: those that this saga takes steps back with.
    called: comparisons of the sagas it calls (None: recursive, or not known). mapping: `migrate=` of labels."""
    names = mapping or {}
    if known is None and new is not None:
        known = {name for state in new.states.values() for name in state.takes_back}
    states = {
        label: _Judge(old, new, state, names.get(label, label), called or {}, known or ()).fit()
        for label, state in old.states.items()
    }
    added = () if new is None else tuple(label for label in new.states if label not in old.states)
    return Comparison(
        saga=old.name, old=old.graph, new="" if new is None else new.graph, states=states, added=added
    )


def standing(machine: Machine, label: str) -> frozenset[str]:
    """Labels from which a state can be reached, itself included: whose undos may be on its stack."""
    before: dict[str, set[str]] = {}
    for state in machine.states.values():
        for after in state.next:
            before.setdefault(after, set()).add(state.label)
    found: set[str] = set()
    todo = [label]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo.extend(before.get(one, ()))
    return frozenset(found)


class _Judge:
    """One state of the old machine, and the state of the new one that it would stand in."""

    def __init__(
        self,
        old: Machine,
        new: Machine | None,
        state: State,
        to: str,
        called: Mapping[str, Comparison | None],
        known: Collection[str],
    ) -> None:
        self.old = old
        self.new = new
        self.state = state
        self.to = to
        self.called = called
        self.known = known
        self.found: list[Finding] = []
        self.differs = False

    def fit(self) -> Fit:
        """The verdict."""
        target = None if self.new is None else self.new.states.get(self.to)
        if target is None or self.new is None or not self._same_kind(target):
            if self.new is None:
                self._note(
                    "CP302", f"{self.old.name} is gone", "keep the saga until its instances have ended"
                )
            elif target is None:
                self._note("CP302", f"state '{self.to}' is gone", self._map_it())
            return self._made(ORPHANED, "")
        if self.state.kind != "begin":  # in flight: its frame stands elsewhere, and is judged there
            self._slots(target, self.new)
            self._structure(target, self.new)
        self._operation(target, self.new)
        self._regions(target, self.new)
        self._calls(target)
        if self.found:
            return self._made(MIGRATION, target.label, target.line)
        if target.reach != self.state.reach or self.differs or target.label != self.state.label:
            self._follows(target)
            return self._made(COMPATIBLE, target.label, target.line)
        return self._made(SAME, target.label, target.line)

    def _made(self, verdict: str, to: str, line: int = 0) -> Fit:
        return Fit(
            label=self.state.label,
            to=to,
            verdict=verdict,
            findings=tuple(dict.fromkeys(self.found)),
            line=line or self.state.line,
        )

    def _note(self, code: str, words: str, fix: str = "") -> None:
        self.found.append(Finding(code, words, fix))

    # ---- C1, C4

    def _same_kind(self, target: State) -> bool:
        state = self.state
        named = state.kind in ("local", "frame", "all", "first", "map", "child", "some")
        if target.kind == state.kind and not (named and target.operation != state.operation):
            return True
        words = f"'{self.state.label}' awaited {state.operation}, '{target.label}' awaits {target.operation}"
        self._note("CP302", words, self._map_it())
        return False

    def _map_it(self) -> str:
        assert self.new is not None
        kin = [s for s in self.new.states.values() if s.kind == self.state.kind]
        alike = [s.label for s in kin if s.operation == self.state.operation]
        near = alike or difflib.get_close_matches(self.state.label, [s.label for s in kin], 1, 0.4)
        keep = f'keep the old definition: @saga(name="{self.old.name}", retired="{self.old.graph}")'
        return f'migrate={{"{self.state.label}": "{near[0]}"}}' if near else keep

    def _operation(self, target: State, new: Machine) -> None:
        state = self.state
        lost = [r for r in state.replies if r not in target.replies]
        if lost:
            self._note(
                "CP304", f"{lost[0]} may still come and is not accepted any more", f"accept {lost[0]} again"
            )
        elif _answered(state) and state.replies[:1] != target.replies[:1]:
            self._note(
                "CP304", f"{state.replies[0]} is not the success any more", "keep the command's success"
            )
        elif state.kind in ("all", "first") and set(state.replies) != set(target.replies):
            self._note("CP304", "a branch accepts other replies", "give the await another label=")
        for name in state.steps:
            for what in (f"arguments of {name}", f"result of {name}"):
                if what not in self.old.types:
                    continue
                if what not in new.types:
                    self._note("CP304", f"step {name} is not awaited any more", "keep the step")
                elif why := misread(new.types[what], self.old.types[what], new.types, self.old.types):
                    self._note("CP303", f"{what}{why}", "only widen the types of a step")
        self.differs = self.differs or set(state.replies) != set(target.replies)

    # ---- C2, C3, C5

    def _slots(self, target: State, new: Machine) -> None:
        state = self.state
        have = set(state.slots)
        for name in sorted(target.live):
            slot = new.slots.get(name)
            if slot is None or (name in have and (name in state.sure or name not in target.sure)):
                continue
            if slot.role == "local":
                how = "may be missing" if name in have else "is missing"
                self._note(
                    "CP301", f"'{name}' {how} in records of @{self.old.graph}", self._renamed(name, target)
                )
            elif name in target.needs or (name not in have and slot.role not in _PERHAPS_EMPTY):
                self._note("CP305", f"the {_ROLES.get(slot.role, slot.role)} '{name}' is new here", _KEEP)
        for name in state.slots:
            if name in target.slots:
                self._type(name, new)

    def _renamed(self, name: str, target: State) -> str:
        assert self.new is not None
        kind = self.new.slots[name].type_text
        gone = [
            n
            for n in self.state.slots
            if n not in target.slots
            and self.old.slots[n].role == "local"
            and self.old.slots[n].type_text == kind
        ]
        if gone:
            near = (difflib.get_close_matches(name, gone, 1, 0.0) or gone)[0]
            return f"renamed? migrate= with locals['{name}'] = locals.pop('{near}')"
        return f"migrate= that gives '{name}', or a default before the await that is not needed after it"

    def _type(self, name: str, new: Machine) -> None:
        mine, theirs = new.slots[name], self.old.slots.get(name)
        if theirs is None:
            return
        form, before = new.types.get(mine.type_text, "?"), self.old.types.get(theirs.type_text, "?")
        why = misread(form, before, new.types, self.old.types)
        hidden = mine.role != "local"
        if why:
            code = "CP305" if hidden else "CP303"
            self._note(code, f"'{name}'{why}", "only widen the type, or convert the value with migrate=")
        elif hidden and new.positions.get(name) != self.old.positions.get(name):
            self._note("CP305", f"the loop '{name}' counts in another collection", _KEEP)
        self.differs = (
            self.differs or form != before or misread(before, form, self.old.types, new.types) != ""
        )

    def _structure(self, target: State, new: Machine) -> None:
        for name in self.state.slots:
            lost = set(self.old.exits.get(name, ())) - set(new.exits.get(name, ()))
            if name in target.slots and lost:
                self._note("CP305", f"the finally '{name}' has no exit '{min(lost)}' any more", _KEEP)
        if self.state.handling != target.handling:
            self._note("CP305", "another exception is being handled there", _KEEP)

    # ---- C6, C8, C7

    def _regions(self, target: State, new: Machine) -> None:
        before, now = (_enclosing(s) for s in (self.state, target))
        if before != now:
            words = f"it stood in {', '.join(before) or 'no region'}, now in {', '.join(now) or 'none'}"
            self._note("CP306", words, "keep the try or scope around this await, or the old definition")
        elif self.state.scope_depth != target.scope_depth:
            self._note(
                "CP306", "another number of scopes is open there", "keep the scopes, or the old definition"
            )
        labels = standing(self.old, self.state.label)
        for label in dict.fromkeys(u for s in self.old.states.values() if s.label in labels for u in s.undos):
            self._undo(label, new)
        ready = [n for s in self.old.states.values() if s.label in labels for n in s.takes_back]
        for name in dict.fromkeys(ready):
            if name not in self.known:
                self._note("CP306", f"{name} may be on the stack and is gone", f"keep {name} in the app")

    def _undo(self, label: str, new: Machine) -> None:
        before, now = self.old.undos.get(label), new.undos.get(label)
        if before is None or not before.needs_reply:
            return  # it was evaluated when the step was issued
        if now is None:
            self._note("CP306", f"{label} may be on the stack and is gone", "keep the step's undo=")
            return
        have = {slot.name: slot for slot in before.captures}
        for slot in now.captures:
            if slot.name not in have:
                self._note(
                    "CP306", f"{label} needs '{slot.name}', which was not captured", "keep what undo= reads"
                )
                continue
            form = new.types.get(slot.type_text, "?")
            if why := misread(
                form, self.old.types.get(have[slot.name].type_text, "?"), new.types, self.old.types
            ):
                self._note("CP306", f"{label}: '{slot.name}'{why}", "only widen its type")

    def _calls(self, target: State) -> None:
        for name in framed(self.state):
            below = self.called.get(name)
            if below is None:
                continue
            bad = [fit for fit in below.states.values() if not fit.goes_on]
            if bad:
                words = f"{name} does not fit in '{bad[0].label}' ({', '.join(bad[0].codes)})"
                self._note("CP308", words, f"see {name}")
            self.differs = self.differs or any(f.verdict != SAME for f in below.states.values())

    def _follows(self, target: State) -> None:
        gone = [n for n in self.state.next if n not in target.next]
        added = [n for n in target.next if n not in self.state.next]
        told = [f"then no more {n}" for n in gone] + [f"then also {n}" for n in added]
        self._note("CP307", "; ".join(told) or "the code that follows changed")


def _answered(state: State) -> bool:
    """A command waits for an answer here, or for one that was begun."""
    return state.kind in ("command", "ask") or state.operation.startswith(("begin step ", "begin ask "))


def _enclosing(state: State) -> tuple[str, ...]:
    """What catches, cleans up or takes back around a state; loops are judged by their slots."""
    return tuple(r for r in state.regions if not r.startswith("loop"))


_KEEP: Final = "keep the structure around this await, or the old definition"
_ROLES: Final = {
    "iter": "loop",
    "pend": "finally",
    "exc": "handled exception",
    "arg": "argument",
    "acc": "comprehension",
    "var": "comprehension's variable",
    "subj": "match subject",
    "ret": "return value",
    "par": "results",
}
