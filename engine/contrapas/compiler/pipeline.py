"""The whole of a compilation: one saga to its machine, all sagas of an app together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from contrapas.author.event import message_spec
from contrapas.author.saga import SagaDef
from contrapas.codec.registry import Registry
from contrapas.compiler import (
    assigned,
    cache,
    canonical,
    labels,
    liveness,
    portable,
    recover,
    types,
    warnings,
)
from contrapas.compiler.build import Built
from contrapas.compiler.emit import Emitter
from contrapas.compiler.entities import HandlerSaga
from contrapas.compiler.front import Front, outcomes, starts
from contrapas.compiler.inflight import BEGIN
from contrapas.compiler.lock import LockFile, SagaLock
from contrapas.compiler.mapped import by_key
from contrapas.compiler.operations import UNRESOLVED
from contrapas.compiler.pivots import in_branches
from contrapas.compiler.refusals import Refusals
from contrapas.compiler.saving import Plan, ahead, plan
from contrapas.compiler.summaries import Summary, summarise
from contrapas.compiler.type_rules import bind_target, iterated
from contrapas.compiler.typeof import Typing
from contrapas.errors import ContrapasError
from contrapas.machine import Machine, Refusal, Slot, State, Undo
from contrapas.machine.ir import Await, Facts, Program, Site, UndoSite


@dataclass(slots=True, kw_only=True)
class Compiled:
    """What became of several sagas: machines by name, everything refused, everything warned about."""

    machines: dict[str, Machine] = field(default_factory=dict[str, Machine])
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    warnings: list[Refusal] = field(default_factory=list[Refusal])
    programs: dict[str, Program] = field(default_factory=dict[str, Program])
    kept: dict[tuple[str, str], Machine] = field(default_factory=dict[tuple[str, str], Machine])
    """(saga, fingerprint) -> an earlier version whose definition is kept (`retired=`)."""


def compile_saga(
    saga: SagaDef[..., Any],
    *,
    registry: Registry,
    lock: LockFile | None = None,
    strict: bool = True,
    provided: frozenset[Any] = frozenset(),
) -> Machine | list[Refusal]:
    """One saga: its machine, or why there is none, by line."""
    one = _One(saga, registry, lock, strict=strict, provided=provided)
    if one.machine is not None and one.program is not None:
        return one.machine
    return [r for r in one.refusals.in_order() if not r.warning]


def compile_all(
    sagas: Iterable[SagaDef[..., Any]],
    *,
    registry: Registry,
    lock: LockFile | None = None,
    strict: bool = True,
    provided: frozenset[Any] = frozenset(),
    anew: bool = False,
) -> Compiled:
    """All sagas of an app, and those they call; the problems of all of them together. CP143: two of one name.

    anew: compile also what this process has compiled before and nothing has changed since, as who tests the compiler wants.
    """
    done = Compiled()
    seen: dict[str, SagaDef[..., Any]] = {}
    work = list(sagas)
    while work:
        saga = work.pop(0)
        if saga.retired:
            _keep(saga, done, seen, registry, lock, strict=strict, provided=provided)
            continue
        known = seen.setdefault(saga.name, saga)
        if known is not saga:
            done.refusals.append(_same_name(saga))
        if known is not saga or saga.name in done.machines or saga.name in done.programs:
            continue
        one = (_One if anew else _known)(saga, registry, lock, strict=strict, provided=provided)
        found = one.refusals.in_order()
        done.warnings.extend(r for r in found if r.warning)
        done.refusals.extend(r for r in found if not r.warning)
        if one.program is not None:
            done.programs[saga.name] = one.program
            work.extend(called(one.program))
        elif one.partial is not None:
            work.extend(called(one.partial))
        if one.machine is not None:
            done.machines[saga.name] = one.machine
    done.refusals.extend(in_branches(done.programs))
    done.refusals.extend(by_key(done.programs))
    done.machines = _with_called(done.machines, done.programs)
    return done


@dataclass(slots=True)
class _Again:
    """What a compilation gave before."""

    machine: Machine | None
    program: Program | None
    refusals: Refusals
    partial: Program | None = None


def _known(
    saga: SagaDef[..., Any],
    registry: Registry,
    lock: LockFile | None,
    *,
    strict: bool,
    provided: frozenset[Any],
) -> _One | _Again:
    """A compilation, or what it gave before if nothing that it depends on has changed."""
    key = (strict, provided, repr(_locked(saga, lock)), repr(saga.migrate))
    before = cache.again(saga, key, registry)
    if before is not None:
        refusals = Refusals(before.program.file, before.program.source)
        refusals.found.extend(before.found)
        return _Again(before.machine, before.program, refusals)
    recorder = cache.Recorder(registry)
    one = _One(saga, recorder, lock, strict=strict, provided=provided)
    if one.machine is not None and one.program is not None:
        result = cache.Result(
            machine=one.machine,
            program=one.program,
            found=tuple(one.refusals.found),
            captures=one.captures,
            slots=one.slots,
        )
        cache.keep(saga, key, result, recorder)
    return one


def _keep(
    saga: SagaDef[..., Any],
    done: Compiled,
    seen: dict[str, SagaDef[..., Any]],
    registry: Registry,
    lock: LockFile | None,
    *,
    strict: bool,
    provided: frozenset[Any],
) -> None:
    """An earlier version, under the names it had. CP313 when the code is not that version's."""
    name = f"{saga.name}@{saga.retired}"
    known = seen.setdefault(name, saga)
    if known is not saga:
        done.refusals.append(_same_name(saga))
    if known is not saga or (saga.name, saga.retired) in done.kept:
        return
    one = _One(saga, registry, lock, strict=strict, provided=provided)
    found = one.refusals.in_order()
    done.refusals.extend(r for r in found if not r.warning)
    if one.machine is None:
        return
    if one.machine.graph != saga.retired:
        code = getattr(saga.fn, "__code__", None)
        done.refusals.append(
            Refusal(
                code="CP313",
                text=f"this definition of {saga.name} is @{one.machine.graph}, not @{saga.retired}",
                fix=f"take its code from version control as it was, or retired={one.machine.graph!r}",
                file=saga.file,
                line=code.co_firstlineno if code is not None else 1,
                column=1,
            )
        )
        return
    done.kept[(saga.name, saga.retired)] = one.machine


def called(program: Program) -> list[SagaDef[..., Any]]:
    """Sagas that a saga calls: they are compiled with it."""
    return list({saga.name: saga for site in program.sites for saga in _sagas(site)}.values())


def _sagas(site: Site) -> list[SagaDef[..., Any]]:
    """Sagas called by an operation, or by those within it."""
    target: Any = site.target
    own: list[SagaDef[..., Any]] = [target] if target.__class__ is SagaDef else []
    return [*own, *(saga for child in site.children for saga in _sagas(child))]


def _same_name(saga: SagaDef[..., Any]) -> Refusal:
    code = getattr(saga.fn, "__code__", None)
    return Refusal(
        code="CP143",
        text=f"two sagas are called {saga.name}",
        fix='give one of them another name: @saga(name="…")',
        file=saga.file,
        line=code.co_firstlineno if code is not None else 1,
        column=1,
    )


class _One:
    """One compilation."""

    def __init__(
        self,
        saga: SagaDef[..., Any],
        registry: Registry,
        lock: LockFile | None,
        *,
        strict: bool,
        provided: frozenset[Any],
    ) -> None:
        self.saga = saga
        self.registry = registry
        self.machine: Machine | None = None
        self.partial: Program | None = None
        self.slots: dict[str, Slot] = {}
        self.captures: tuple[tuple[Slot, ...], ...] = ()
        front = Front(saga, provided)
        self.refusals = front.refusals
        self.partial = front.partial
        self.program = program = front.program
        if program is None:
            if front.partial is not None:
                self._further(front.partial, front.doubtful, strict=strict)
            return
        self.summaries = summarise(program)
        facts = analyse(program, self.summaries)
        found = self.refusals.found
        found.extend(labels.align(program, facts, _locked(saga, lock)))
        self._migration(program, _locked(saga, lock))
        _undo_labels(program)
        inferred = types.infer(program, registry)
        slots, refused = types.slots(program, facts, inferred, registry, strict=strict)
        found.extend(refused)
        warnings.sharing(program, facts, slots, self.refusals)
        _functions(program, facts, self.refusals)
        captures: list[tuple[Slot, ...]] = []
        for undo in program.undos:
            made, refused = types.captures(program, undo, _inside(program, undo, inferred), registry)
            captures.append(made)
            found.extend(refused)
        if not self.refusals.fatal:
            self._build(program, facts, slots, captures, front.flags)

    def _further(self, program: Program, doubtful: set[str], *, strict: bool) -> None:
        """What is wrong besides with values that are kept, as far as what was refused leaves it certain."""
        facts = analyse(program, summarise(program))
        labels.align(program, facts, None)
        _undo_labels(program)
        inferred = types.infer(program, self.registry)
        _, found = types.slots(program, facts, inferred, self.registry, strict=strict)
        for undo in program.undos:
            found = [
                *found, *types.captures(program, undo, _inside(program, undo, inferred), self.registry)[1]
            ]  # fmt: skip
        known = {(r.code, r.line) for r in self.refusals.found}
        self.refusals.found.extend(
            r for r in found if recover.sure(r, doubtful) and (r.code, r.line) not in known
        )

    def _migration(self, program: Program, locked: SagaLock | None) -> None:
        """CP311: `migrate=` names a state that is not there, or one that never was."""
        if callable(self.saga.migrate) or not self.saga.migrate:
            return
        mapping: Mapping[str, str] = self.saga.migrate
        labels_now = {s.label for s in program.sites}
        ever = labels_now if locked is None else {*(s.label for s in locked.states), *locked.retired}
        for old, new in mapping.items():
            if new not in labels_now:
                near = difflib.get_close_matches(new, labels_now, 1, 0.4)
                text = f"migrate= sends {old!r} to {new!r}, and {program.name} has no such state"
                fix = f'migrate={{"{old}": "{near[0]}"}}' if near else "contrapas graph lists the states"
                self.refusals.add(program.node, "CP311", text, fix)
            elif locked is not None and old not in ever:
                text = f"migrate= names {old!r}, a state that {program.name} never had"
                near = difflib.get_close_matches(old, ever, 1, 0.4)
                self.refusals.add(
                    program.node, "CP311", text, f"did you mean {near[0]!r}?" if near else "take it out"
                )

    def _build(
        self,
        program: Program,
        facts: Facts,
        slots: dict[str, Slot],
        captures: list[tuple[Slot, ...]],
        flags: int,
    ) -> None:
        made = plan(program, self.summaries, facts, slots)
        emitter = Emitter(program, made, slots, _names(program), facts.live)
        try:
            built = Built(program, emitter, flags)
        except (SyntaxError, RecursionError) as why:  # more nested than CPython compiles
            self.refusals.add(program.node, "CP100", f"{program.name} cannot be compiled: {why}", "split it")
            return
        saga = self.saga
        read = portable.forms(program, slots, captures, self.registry)
        following = ahead(program)
        prints = canonical.Prints(program, slots)
        states = _states(program, made, slots, facts, following, prints)
        by_index: list[State | None] = [None] * (len(program.sites) + 1)
        for state in states:
            by_index[state.index] = state
        undos = [
            Undo(
                label=u.label,
                of=u.of,
                needs_reply=u.needs_reply,
                captures=captures[u.index],
                function=built.undos[u.index],
                line=u.line,
            )
            for u in program.undos
        ]
        hint = program.hints.get("return")
        self.slots, self.captures = slots, tuple(captures)
        self.machine = Machine(
            name=program.name,
            graph=prints.graph(read),
            params=tuple(slots[n] for n in program.params),
            ambients=program.ambients,
            starts=tuple(message_spec(c).name for c in starts(program)),
            result=None if hint in (None, type(None)) else self.registry.codec(hint),
            outcomes=tuple(message_spec(c).name for c in outcomes(program)),
            states={s.label: s for s in states},
            by_index=tuple(by_index),
            slots={s.name: s for s in slots.values()},
            undos={u.label: u for u in undos},
            later=_later(program, following),
            blocks=tuple(program.order()),
            program=program,
            function=built.main,
            bind=built.bind,
            native=None if isinstance(saga, HandlerSaga) else saga.fn,
            deadline_ms=saga.deadline_ms,
            late_replies_ms=saga.late_replies_ms,
            retention_ms=saga.retention_ms,
            file=program.file,
            line=program.node.lineno,
            text=built.text,
            migrate=saga.migrate,
            types=read,
            exits=portable.exits(program, _names(program)),
            positions=portable.positions(program, slots),
            again=saga.again,
            show=saga.show,
            adopt=saga.adopt,
        )


def _locked(saga: SagaDef[..., Any], lock: LockFile | None) -> SagaLock | None:
    """What is locked of a saga; of a kept version what was locked of it while it was the current one."""
    if lock is None:
        return None
    if not saga.retired:
        return lock.saga(saga.name)
    current = lock.saga(saga.name)
    return lock.saga(f"{saga.name}@{saga.retired}") or (
        current if current is not None and current.graph == saga.retired else None
    )


def analyse(program: Program, summaries: Mapping[int, Summary]) -> Facts:
    """What the analyses find about a lowered program."""
    facts = Facts(live=liveness.live(program, summaries), touches=liveness.touches(program, summaries))
    for site, (sure, maybe) in assigned.whole(program, summaries).items():
        facts.sure[site], facts.bound[site] = sure, maybe
    params = frozenset(program.params)
    for site in facts.live:  # behind what always raises nothing is ever bound
        facts.sure.setdefault(site, frozenset())
        facts.bound.setdefault(site, frozenset())
    facts.sure[0] = facts.bound[0] = params
    return facts


def _inside(program: Program, undo: UndoSite, inferred: Mapping[str, Any]) -> Mapping[str, Any]:
    """Types as an undo sees them: of the comprehensions around it too."""
    names = dict(inferred)
    for generator in undo.around:
        typing = Typing(names, program.namespace, program.saga_name)
        bind_target(generator.target, iterated(typing.iterable(generator.iter)), names)
    return names


def _undo_labels(program: Program) -> None:
    """Two undos of one operation, in a list that several lines filled, get names of their own."""
    taken: dict[str, int] = {}
    for undo in program.undos:
        number = taken[undo.label] = taken.get(undo.label, 0) + 1
        if number > 1:
            undo.label = f"{undo.label}#{number}"


def _functions(program: Program, facts: Facts, refusals: Refusals) -> None:
    """A local function that lives across an await is made again after it, so it must be there for certain (A4)."""
    for name, stmt in {**program.recreated, **program.aliases}.items():
        for site in program.sites:
            if name in facts.live.get(site.index, ()) and name not in facts.sure.get(site.index, frozenset()):
                refusals.add(
                    stmt,
                    "CP202",
                    f"`{name}` may not exist yet at the await of {site.text} in line {site.line}, and is used after it",
                    "define it before the await on every way",
                )


def _names(program: Program) -> dict[str, str]:
    """Final names of what stands in the tree under a placeholder: undo labels, exits named by their loop's cursor."""
    names = {f"@undo{u.index}": u.label for u in program.undos}
    names |= {f"{BEGIN}{s.index}": s.label for s in program.sites if s.kind == "begin"}
    for hidden in program.hidden.values():
        if hidden.role == "iter":
            final = hidden.slot or f"iter.{hidden.hint}"
            names[f"break {hidden.name}"] = f"break {final}"
            names[f"continue {hidden.name}"] = f"continue {final}"
    return names


def _states(
    program: Program,
    made: Plan,
    slots: Mapping[str, Slot],
    facts: Facts,
    following: Mapping[int, set[int]],
    prints: canonical.Prints,
) -> list[State]:
    reach = prints.reach()
    by_index = {s.index: s for s in program.sites}
    handling: dict[int, tuple[str, ...]] = {}
    for block in program.blocks.values():
        term = block.term
        if isinstance(term, Await):
            handling[term.site] = program.blocks[term.resume].handling
    states: list[State] = []
    for site in program.sites:
        if site.kind != "begin" and site.index not in handling:
            continue  # nothing reaches it
        stored = tuple(slots[n].name for n in made.stored.get(site.index, ()))
        touched = frozenset(slots[n].name for n in made.touches.get(site.index, ()) if n in slots)
        states.append(
            State(
                label=site.label,
                kind=site.kind,
                index=site.index,
                operation=site.operation,
                replies=_replies(site),
                slots=stored,
                touches=touched & frozenset(s.name for s in slots.values() if s.codec is not None),
                needs=frozenset(slots[n].name for n in made.needs.get(site.index, ())),
                handling=tuple(slots[n].name for n in handling.get(site.index, ()) if n in slots),
                shared=made.shared.get(site.index, ()),
                regions=tuple(_region(text, program) for text in site.regions),
                scope_depth=site.scope_depth,
                into_type=_type_text(site.result),
                within=site.within,
                forever=site.forever,
                path=site.path,
                line=site.line,
                shape=prints.shape(site, stored),
                takes=_takes(site),
                live=frozenset(slots[n].name for n in facts.live.get(site.index, ()) if n in slots),
                sure=frozenset(slots[n].name for n in made.sure.get(site.index, ()) if n in slots),
                next=tuple(by_index[n].label for n in sorted(following.get(site.index, ()))),
                reach=reach.get(site.index, ""),
                steps=portable.steps(site),
                calls=portable.calls(site),
                undos=tuple(u.label for u in program.undos if u.site == site.index),
                takes_back=portable.takes_back(program, site),
            )
        )
    return states


def _region(text: str, program: Program) -> str:
    """A region with the stable name of its cursor."""
    word, _, name = text.partition(" ")
    hidden = program.hidden.get(name)
    return text if hidden is None else f"{word} {hidden.slot or f'iter.{hidden.hint}'}"


def _replies(site: Site) -> tuple[str, ...]:
    """Registered names of what may settle an operation."""
    if site.children:
        return tuple(dict.fromkeys(n for c in site.children for n in _replies(c)))
    return tuple(message_spec(c).name for c in site.replies)


def _takes(site: Site) -> tuple[str, ...]:
    return tuple(dict.fromkeys(message_spec(c).name for c in site.takes()))


def _type_text(hint: Any) -> str:
    if hint is None or hint is UNRESOLVED:
        return ""
    return hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)


def _later(program: Program, following: Mapping[int, set[int]]) -> dict[str, frozenset[str]]:
    """A8: event types that a state ahead waits for, by label."""
    by_index = {s.index: s for s in program.sites}
    found: dict[str, frozenset[str]] = {}
    for site in following:
        reach: set[int] = set()
        stack = list(following[site])
        while stack:
            number = stack.pop()
            if number not in reach:
                reach.add(number)
                stack.extend(following.get(number, ()))
        takes = frozenset(name for number in reach for name in _takes(by_index[number]))
        found[by_index[site].label if site else "START"] = takes
    return found


def _with_called(machines: dict[str, Machine], programs: Mapping[str, Program]) -> dict[str, Machine]:
    """Events that a called saga waits for are ahead of every state from which the call can be reached."""
    waits = {n: m.later.get("START", frozenset()) for n, m in machines.items()}
    calls = {n: {s.name for s in called(programs[n])} for n in machines}
    changed = True
    while changed:
        changed = False
        for name, targets in calls.items():
            more = waits[name].union(*(waits.get(t, frozenset()) for t in targets))
            if more != waits[name]:
                waits[name], changed = more, True
    done: dict[str, Machine] = {}
    for name, machine in machines.items():
        program = programs[name]
        if not calls[name]:
            done[name] = machine
            continue
        following = ahead(program)
        by_index = {s.index: s for s in program.sites}
        later = dict(machine.later)
        for site in following:
            label = by_index[site].label if site else "START"
            reach = set(following[site])
            stack = list(reach)
            while stack:
                new = following.get(stack.pop(), set()) - reach
                reach |= new
                stack.extend(new)
            for number in reach:
                for target in _sagas(by_index[number]):
                    later[label] = later[label] | waits.get(target.name, frozenset())
        done[name] = replace(machine, later=later)
    return done


__all__ = ["Compiled", "ContrapasError", "analyse", "called", "compile_all", "compile_saga"]
