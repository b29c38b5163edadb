"""Runs one instance on the core alone: a script answers every operation, by seed, name and how often it was asked."""

from __future__ import annotations

import hashlib
import linecache
import random
import sys
import types
import typing
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, cast

from pydantic import BaseModel

from contrapas.compiler.lock import LockFile
from contrapas.core.envelope import Cause, InstanceRecord, Pending
from contrapas.core.envelope_avro import decode, encode
from contrapas.core.outcomes import dump_body
from contrapas.core.timers import timers
from contrapas.core.transition import transition
from contrapas.core.world import Input, World
from contrapas.draw.edges import program_of
from contrapas.errors import StepFailed
from contrapas.runtime.build import compiled
from contrapas.runtime.graphs import judged

MOST = 40
"""Answers after which a run that goes on for ever is left."""


@dataclass
class Version:
    """A module's sagas, compiled."""

    world: World
    lock: LockFile
    saga: str

    @staticmethod
    def of(text: str, saga: str, lock: LockFile | None = None) -> Version:
        """Compile a module's text, under a lock file."""
        name = f"<edited {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        module = sys.modules[name] = types.ModuleType(name)  # pydantic looks classes up in it
        namespace: dict[str, Any] = module.__dict__
        exec(compile(text, name, "exec", dont_inherit=True), namespace)  # noqa: S102  the project's own sagas
        built = compiled(replace(namespace["app"].definition(), file=""), lock=lock)
        pairs = [(program_of(m), m) for m in built.world.machines.values()]
        unsigned = replace(built.world, links=None)  # links are the same each time
        return Version(unsigned, (lock or LockFile()).updated(pairs), saga)

    def over(self, old: Version) -> None:
        """Judge the other version's states, as a worker does that finds its graphs on the log."""
        for machine in old.world.machines.values():
            now = self.world.machines.get(machine.name)
            if now is None or now.graph != machine.graph:
                self.world.older[(machine.name, machine.graph)] = judged(machine, self.world)


@dataclass
class Step:
    """One record of a run, and what had been asked by then."""

    value: bytes
    asked: Counter[str]
    said: int
    """How much of `Run.said` came before it."""

    @property
    def record(self) -> InstanceRecord:
        return decode(self.value)


@dataclass
class Run:
    """What an instance did."""

    steps: list[Step] = field(default_factory=list[Step])
    said: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """(kind, name, body) of every operation issued and event sent, in order."""

    @property
    def last(self) -> InstanceRecord:
        return self.steps[-1].record

    def after(self, step: Step) -> list[tuple[str, str, str]]:
        """What it said after a step, and its end."""
        return [*self.said[step.said :], ("end", self.last.status, self.last.outcome_body)]


class Script:
    """Answers, by seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def chance(self, name: str, number: int) -> float:
        """From 0 to 1, the same for the same question."""
        return random.Random(f"{self.seed}/{name}/{number}").random()


def start(version: Version, script: Script) -> Run:
    """From the start event to the end, or to MOST answers."""
    machine = version.world.machines[version.saga]
    mt = version.world.types.messages[machine.starts[0]]
    body = sample(mt.cls, mt.key)
    data = dump_body(body).encode()
    cause = Cause(kind="start", type=mt.name, source="in", id="start", partition=0, offset=0, value=data)
    event = Input(cause=cause, instance=f"{version.saga}/k-1", at=1_000_000, type=mt.name, body=body)
    run = Run()
    made = transition(None, event, version.world)
    assert made.record is not None
    _note(run, made.record, Counter())
    return go_on(version, run, script)


def resumed(version: Version, step: Step, script: Script) -> Run:
    """The same from a record of another version."""
    run = Run([Step(step.value, Counter(step.asked), 0)])
    return go_on(version, run, script)


def go_on(version: Version, run: Run, script: Script) -> Run:
    """Answer until the instance ends, parks, or nothing is asked any more."""
    for number in range(MOST):
        record, asked = run.last, Counter(run.steps[-1].asked)
        if record.ended_at is not None or record.parked is not None:
            break
        event = _answer(version, record, asked, script, number)
        if event is None:
            break
        made = transition(record, event, version.world)
        if made.record is None:
            break
        _note(run, made.record, asked)
    return run


def _note(run: Run, record: InstanceRecord, asked: Counter[str]) -> None:
    before = {p.key for p in run.last.operations()} if run.steps else set[str]()
    for pending in record.operations():
        if pending.key not in before and pending.kind != "wait":
            kind = "undo" if pending.undoes else pending.kind
            run.said.append((kind, pending.name, pending.body))
    for message in record.out:
        named = dict(message.headers).get("ce_type", b"").decode()
        if named and dict(message.headers).get("cp-kind", b"") != b"command":
            run.said.append(("out", named, message.value.decode()))
    run.steps.append(Step(encode(record), asked, len(run.said)))


def _answer(
    version: Version, record: InstanceRecord, asked: Counter[str], script: Script, number: int
) -> Input | None:
    waiting = ("result", "next", "join")  # for what is in flight, which is answered itself
    pending = next((p for p in record.operations() if p.retry_at is None and p.kind not in waiting), None)
    due = sorted(timers(record), key=lambda t: (t.at, t.name))
    if pending is None or pending.kind == "sleep":
        return _timer(record, due[0].at, due[0].name) if due else None
    asked[pending.name] += 1
    luck = script.chance(pending.name, asked[pending.name])
    if pending.kind == "local":
        return _result(version, record, pending, luck)
    if luck < 0.12 and pending.deadline is not None and not pending.undoes:
        return _timer(record, pending.deadline, f"within:{pending.key}")
    names = pending.types or ()
    if not names:
        return None
    name = names[0] if luck < 0.8 or len(names) == 1 else names[1 + int(luck * 1000) % (len(names) - 1)]
    if pending.kind == "wait":
        name = names[int(luck * 1000) % len(names)]
    mt = version.world.types.messages.get(name)
    if mt is None:  # the new app does not know the type: it would be a dead letter, and the deadline comes
        return None if not due else _timer(record, due[0].at, due[0].name)
    body = sample(mt.cls, mt.key)
    flags = {n: int(luck * 10_000) % 2 == 0 for n, f in mt.cls.model_fields.items() if f.annotation is bool}
    body = body.model_copy(update=flags)
    data = dump_body(body).encode()
    kind = "event" if pending.kind == "wait" else "reply"
    cause = Cause(kind=kind, type=name, source="in", id=f"e{record.version}", partition=0, value=data)
    cause.offset = record.version
    reply_to = "" if pending.kind == "wait" else pending.key
    made = Input(
        cause=cause, instance=record.instance, at=record.at + 1, type=name, body=body, in_reply_to=reply_to
    )
    if pending.kind == "wait" and pending.wait_id:
        cause.kind, made.wait_id = "deliver", pending.wait_id
    return made


def _timer(record: InstanceRecord, at: int, name: str) -> Input:
    cause = Cause(kind="timer", type=name, id=f"t{record.version}")
    return Input(cause=cause, instance=record.instance, at=max(at, record.at), timer=name)


def _result(version: Version, record: InstanceRecord, pending: Pending, luck: float) -> Input:
    step = version.world.types.steps.get(pending.name)
    if step is None:  # a result that the old release's worker sent
        cause = Cause(kind="result", type=pending.name, source="local", id=pending.key)
        return Input(
            cause=cause, instance=record.instance, at=record.at + 1, body="null", in_reply_to=pending.key
        )
    cause = Cause(kind="result", type=pending.name, source="local", id=pending.key)
    made = Input(
        cause=cause,
        instance=record.instance,
        at=record.at + 1,
        type=pending.name,
        in_reply_to=pending.key,
        attempt=pending.attempt,
    )
    if luck < 0.1 and not pending.undoes:
        made.outcome, made.error = "error", version.world.types.dump_exception(StepFailed("no luck"))
        return made
    hint = typing.get_type_hints(step.fn).get("return", type(None))
    made.body = step.result.dump(sample(hint, ""))
    return made


def sample(tp: Any, key: str, name: str = "") -> Any:
    """A value of a type, always the same."""
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if tp is None or tp is type(None):
        return None
    if origin is typing.Annotated:
        return sample(args[0], key, name)
    if origin is typing.Literal:
        return args[0]
    if origin in (typing.Union, types.UnionType):
        return sample(args[0], key, name)
    if origin in (list, tuple, set, frozenset):
        inner = [sample(a, key, name) for a in args if a is not Ellipsis]
        whole: Any = tuple(inner) if origin is tuple else cast(Any, origin)(inner)
        return whole
    if origin is dict:
        return {}
    return _plain(tp, key, name)


def _plain(tp: Any, key: str, name: str) -> Any:
    if isinstance(tp, type) and issubclass(tp, BaseModel):
        fields = {n: sample(f.annotation, key, n) for n, f in tp.model_fields.items()}
        values: dict[str, Any] = {**fields, **({key: "k-1"} if key in fields else {})}
        return cast(Any, tp).model_construct(**values)
    if isinstance(tp, type) and issubclass(tp, Enum):
        return next(iter(tp))
    known: dict[Any, Any] = {
        str: f"{name}-1",
        int: 7,
        float: 1.5,
        bool: True,
        Decimal: Decimal("1.50"),
        datetime: datetime(2026, 1, 1, tzinfo=UTC),
        timedelta: timedelta(seconds=5),
    }
    return known.get(tp)
