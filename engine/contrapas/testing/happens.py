"""Runs the story of a finding on the in-memory log, to show that it really happens.

The explorer knows no data, so a branch on data goes both ways for it. Here messages get values by chance, anew with each
try, until the saga takes the branches of the story; `NotSeen` says how far it came when it never did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

from contrapas.author.event import Event, message_spec
from contrapas.author.saga import SagaDef
from contrapas.author.step import StepDef
from contrapas.check.finding import Finding
from contrapas.core.envelope import ENDED, Pending
from contrapas.draw.model import UNDOABLE, Config, Move
from contrapas.draw.native import type_name
from contrapas.draw.outcomes import of_saga, outcomes
from contrapas.errors import StepFailed
from contrapas.machine.ir import Program, Site
from contrapas.testing.differential_values import Chance, make
from contrapas.testing.sagas import Run, Sagas, Seen

TRIES = 60
TIMERS_MAX = 200
ITEMS_MAX = 16
"""Commands of one kind that the items of a map may send."""
KEY = "o-9"


class NotSeen(AssertionError):
    """The story did not happen in any try."""


class _Otherwise(Exception):
    """This try took another branch."""


async def happens(
    saga: SagaDef[..., Any], finding: Finding, *, mode: str = "orchestrate", tries: int = TRIES
) -> Run[Any]:
    """Play the path of a finding until it comes out as told, and assert its end. NotSeen after so many tries."""
    path = cast("tuple[Move, ...]", finding.path)
    if not path:
        raise ValueError(f"{finding.code} at {finding.place} tells no story")
    far: list[str] = []
    for seed in range(tries):
        play = _Play(saga, path, seed, mode)
        try:
            return await play.through()
        except _Otherwise as why:
            far.append(f"{play.at}: {why}")
        finally:
            play.sagas.close()
    best = max(far, key=lambda text: int(text.partition(":")[0]))
    raise NotSeen(f"{finding.code} at {finding.place} did not happen in {tries} tries; the best: step {best}")


class _Play:
    """One try."""

    def __init__(self, saga: SagaDef[..., Any], path: Sequence[Move], seed: int, mode: str) -> None:
        self.saga = saga
        self.path = path
        self.chance = Chance(saga.name, seed)
        self.at = 0
        self.sagas = Sagas(mode="compiled")
        if mode == "observe":
            self.sagas.observe(saga, on_late="compensate")
        else:
            self.sagas.orchestrate(saga)
        self.machines = self.sagas.bench.world.machines
        self.endings: dict[str, list[list[str]]] = {}
        """Name of a step -> how its calls end, in order: `[ending, attempts left]`."""
        self.sent: dict[tuple[str, str], Seen[Any]] = {}
        """Commands whose answer may still come, by machine and label."""
        self.met: set[int] = set()
        """Moves whose operation in flight has ended already."""
        self._stub()
        self.run: Run[Any] = Run(self.sagas, saga.name, KEY)

    # ---- values

    def event(self, cls: type[Event]) -> Event:
        """Some value of a message class, under the key of the run."""
        key = message_spec(cls).key
        fields: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            fields[name] = (
                KEY if name == key and field.annotation is str else make(field.annotation, self.chance)
            )
        return cls.model_validate(fields) if not _aliased(cls) else cls.model_construct(**fields)

    def program(self, machine: str) -> Program:
        return cast(Program, self.machines[machine].program)

    def site(self, move: Move) -> Site:
        """The await at which a move begins."""
        return next(s for s in self.program(move.machine).sites if s.label == move.label)

    # ---- local steps

    def _stub(self) -> None:
        for machine in self.machines:
            for top in self.program(machine).sites:
                for site in _flat(top):
                    for step in (site.target, site.undo_target, getattr(site.target, "undo", None)):
                        if isinstance(step, StepDef):
                            self._answer(cast("StepDef[..., Any, Any]", step))
        for move in self.path:
            if move.kind in ("reply", "failure", "expiry") and not move.label.startswith("undo("):
                for site, cause in self._parts(move):
                    if site.kind == "local":
                        self.endings.setdefault(site.target.name, []).append([cause, ""])

        last = self.path[-1].config
        if last.frames and not last.end and last.unwinding is None:  # the story ends where nothing answers
            at = last.frames[-1]
            site = next(s for s in self.program(at.machine).sites if s.index == at.site)
            if site.kind == "local":
                self.endings.setdefault(site.target.name, []).append(["gave up", ""])

    def _answer(self, step: StepDef[..., Any, Any]) -> None:
        hint = self.sagas.bench.world.types.steps[step.name].fn.__annotations__.get("return")

        def call(*args: Any, **kwargs: Any) -> Any:
            waiting = self.endings.get(step.name)
            cause = waiting[0][0] if waiting else "ok"
            if cause == "failed" and waiting:
                waiting.pop(0)
                raise StepFailed("no")
            if cause == "gave up" or cause.startswith("after "):
                raise OSError("away")
            if waiting:
                waiting.pop(0)
            return make(_result_of(step, hint), self.chance)

        self.sagas.stub(step, calls=call)

    # ---- the path

    async def through(self) -> Run[Any]:
        """Every move in turn. _Otherwise where the saga goes another way."""
        start = self.sagas.bench.world.types.messages[self._start()].cls
        self.run = await self.sagas.start(self.saga, self.event(start))
        self._look(self.path[0])
        for number, move in enumerate(self.path[1:], 1):
            self.at = number
            await self._move(move)
            if move.kind != "undo":
                self._look(move)
        end = self.path[-1].config
        if end.end.startswith("return"):
            self._stands(end)
        return self.run

    def _start(self) -> str:
        starts = self.machines[self.saga.name].starts
        env = dict(self.path[0].config.frames[0].env) if self.path[0].config.frames else {}
        told = [type_name(value[1]) for value in env.values() if value and value[0] == "c"]
        return next((name for name in told if name in starts), starts[0])

    def _parts(self, move: Move) -> Iterator[tuple[Site, str]]:
        """Operations that a move settles, with how each ends."""
        site = self.site(move)
        if site.kind not in ("all", "first"):
            yield site, move.cause
            return
        failed = False
        for child in site.children:
            causes = [o for o in outcomes(child)]
            status = next(
                (e.status for e in move.config.stack if e.label == (child.label or child.text)), "done"
            )
            mine = next((o for o in causes if o.cause == move.cause), None)
            if mine is not None and not failed and move.cause != "all":
                failed = True
                yield child, move.cause
            else:
                yield child, next((o.cause for o in causes if status in o.statuses), causes[0].cause)

    async def _move(self, move: Move) -> None:
        if move.kind in ("undone", "end"):
            return
        if move.kind == "cancel":
            await self.run.cancel()
        elif move.kind == "kill":
            await self.run.kill()
        elif move.kind == "undo":
            await self._undo(move)
        elif move.kind == "late":
            seen = self.sent.pop((move.machine, move.label))
            await self._reply(seen, self.site(move), good=move.cause == "late done")
        elif move.label.startswith("undo("):
            raise _Otherwise("an undo that fails is not played")
        else:
            for site, cause in self._parts(move):
                await self._end(move, site, cause)

    async def _end(self, move: Move, site: Site, cause: str) -> None:
        """One operation ends in one way."""
        if site.kind in ("command", "ask"):
            seen = await self._seen(site)
            if cause in [type_name(r) for r in site.replies]:
                cls = next(r for r in site.replies if type_name(r) == cause)
                await seen.reply(self.event(cls))
            else:
                self.sent[(move.machine, move.label)] = seen
                await self._pass(site)
        elif site.kind == "wait" and not cause.startswith("after "):
            cls = next(r for r in site.replies if type_name(r) == cause)
            await self.run.send(self.event(cls))
        elif site.kind == "local":
            if cause == "gave up" or cause.startswith("after "):
                await self._pass(site)
                waiting = self.endings.get(site.target.name)
                if waiting:
                    waiting.pop(0)
        elif site.kind in ("sleep", "wait") or site.kind == "next" and cause.startswith("after "):
            await self._pass(site)
        elif site.kind == "next":
            result = next(
                (m for m in self.path[self.at :] if m.kind != "start" and self.site(m).kind == "result"), None
            )
            if result is None:
                raise _Otherwise("nothing in flight is said to end")
            await self._begun(result)
            self.met.add(id(result))
        elif site.kind == "result":
            if id(move) not in self.met:
                await self._begun(move)
        elif site.kind == "join":
            for one in self.program(move.machine).sites:
                if one.kind == "begin" and isinstance(one.children[0].target, type):
                    with suppress(AssertionError, _Otherwise):
                        await self._end(move, one.children[0], type_name(one.children[0].replies[0]))
        elif site.kind == "frame" or of_saga(site):
            await self._inside(move, type_name(site.target), well=cause == "returned")
        else:
            raise _Otherwise(f"{site.kind} is not played")

    async def _inside(self, move: Move, name: str, *, well: bool) -> None:
        """A called saga beside others, line by line: all in it goes well, or its first step fails."""
        for site in self.program(name).sites:
            if site.kind in ("command", "ask"):
                for _ in range(ITEMS_MAX):
                    with suppress(_Otherwise):
                        seen = await self._seen(site)
                        await self._reply(seen, site, good=well)
                        continue
                    break
                if not well:
                    return
            elif site.kind in ("wait", "sleep") and site.has_within:
                with suppress(_Otherwise):
                    await self._pass(site)
            elif site.kind in ("frame", "wait", "all", "first", "some", "begin", "map"):
                raise _Otherwise(f"{site.kind} in {name} is not played")

    async def _begun(self, move: Move) -> None:
        """What was begun ends as the move that meets it says."""
        begins = [s for s in self.program(move.machine).sites if s.kind == "begin"]
        for one in begins:
            if move.cause in [o.cause for o in outcomes(one.children[0])]:
                await self._end(move, one.children[0], move.cause)
                return
        raise _Otherwise(f"nothing in flight ends by {move.cause}")

    async def _seen(self, site: Site) -> Seen[Any]:
        try:
            return await self.run.expect(site.target)
        except AssertionError as why:
            raise _Otherwise(str(why)) from None

    async def _reply(self, seen: Seen[Any], site: Site, *, good: bool) -> None:
        if not good and len(site.replies) < 2:
            raise _Otherwise("there is no failure reply")
        await seen.reply(self.event(site.replies[0 if good else 1]))

    async def _undo(self, move: Move) -> None:
        """The undo that is under way succeeds."""
        of = move.label.removeprefix("undo(").removesuffix(")")
        sites = [s for top in self.program(move.machine).sites for s in _flat(top)]
        target: Any = next(s.undo_target for s in sites if (s.label or s.text) == of)
        if isinstance(target, type):
            try:
                seen = await self.run.expect(cast("type[Any]", target))
            except AssertionError as why:
                raise _Otherwise(str(why)) from None
            await seen.reply(self.event(message_spec(cast("type[Event]", target)).replies[0]))

    async def _pass(self, site: Site) -> None:
        """Let timers fire until an operation is no longer pending."""
        label = site.label or site.text
        keys = {p.key for p in self._pending() if p.label == label or p.name == label}
        for _ in range(TIMERS_MAX):
            if not keys & {p.key for p in self._pending()}:
                return
            at = self.sagas.bench.p.next_timer()
            if at is None:
                raise _Otherwise(f"{label} has no timer")
            await self.sagas.skip(f"{max(1, at - self.sagas.clock())}ms")
        raise _Otherwise(f"{label} does not end")

    def _pending(self) -> list[Pending]:
        record = self.run.record
        return [] if record.status in ENDED else list(record.operations())

    # ---- what came of it

    def _look(self, move: Move) -> None:
        """Whether the instance stands where the path says."""
        after, record = move.config, self.run.record
        if after.end:
            self._ended(after)
            return
        if after.frames and not after.flight and self._label(*after.frames[-1][:2]) == "join":
            return  # nothing is left to wait for: it is passed at once
        if after.unwinding is not None:  # with nothing to take back it is through at once
            return
        if record.status in ENDED or record.status == "parked":
            raise _Otherwise(f"it has ended: {record.status} {record.outcome}")
        if after.frames:
            labels = [frame.label for frame in record.root.frames]
            told = [self._label(at.machine, at.site) for at in after.frames]
            if labels != told and not (
                told and self._label(*after.frames[-1][:2]) in ("compensate", "unwind")
            ):
                raise _Otherwise(f"it stands at {labels}, not at {told}")

    def _label(self, machine: str, index: int) -> str:
        return next((s.label for s in self.program(machine).sites if s.index == index), "")

    def _ended(self, after: Config) -> None:
        record = self.run.record
        verb, _, name = after.end.partition(" ")
        if verb == "return":
            if record.outcome != name or record.status not in (*ENDED, "settling"):
                raise _Otherwise(f"it is {record.status}, outcome {record.outcome or 'none'}, not {name}")
        elif verb == "parked":
            if record.status != "parked":
                raise _Otherwise(f"it is {record.status}, not parked")
        elif record.outcome or record.status not in (*ENDED, "settling"):
            raise _Otherwise(f"it is {record.status}, outcome {record.outcome}")

    def _stands(self, end: Config) -> None:
        """What the story says stands was not taken back: no command for it was ever sent."""
        byhand = {(e.machine, e.label) for e in end.byhand}
        for entry in end.stack:
            if not entry.undo or entry.status not in UNDOABLE or (entry.machine, entry.label) in byhand:
                continue
            sites = [s for top in self.program(entry.machine).sites for s in _flat(top)]
            own = [s for s in sites if (s.label or s.text) == entry.label]
            begun = [s for s in sites if s.undo_target is not None and type_name(s.undo_target) == entry.undo]
            target: Any = (own or begun)[0].undo_target
            if not isinstance(target, type):
                continue
            spec = message_spec(cast("type[Event]", target))
            sent = [
                r
                for r in self.sagas.bench.topic(spec.topic or "in")
                if dict(r.headers).get("ce_type") == spec.name.encode()
            ]
            assert not sent or byhand, f"{entry.undo} was sent: {entry.label} does not stand"


def _flat(site: Site) -> Iterator[Site]:
    yield site
    for child in site.children:
        yield from _flat(child)


def _aliased(cls: type[Event]) -> bool:
    return any(field.alias for field in cls.model_fields.values())


def _result_of(step: StepDef[..., Any, Any], hint: Any) -> Any:
    from contrapas.codec.registry import hints_of

    return hints_of(step.fn).get("return", hint)
