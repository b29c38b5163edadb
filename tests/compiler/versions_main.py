"""A process of some Python: tells its machines, writes records stopped in every state, or finishes those of another (T5, T7).

python tests/compiler/versions_main.py machines
python tests/compiler/versions_main.py write records.jsonl
python tests/compiler/versions_main.py finish records.jsonl
"""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import base64
import contextlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "engine"), str(ROOT / "schemas")]

from contrapas.core.envelope import Pending
from contrapas.core.envelope_avro import decode
from contrapas.core.timers import timers
from contrapas.errors import CompileError, StepFailed
from contrapas.machine.data import to_data
from contrapas.runtime import find
from contrapas.runtime.build import build
from contrapas.testing.differential import Pair, pair_of
from contrapas.testing.differential_prelude import EXCEPTIONS, Go
from contrapas.testing.differential_programs import loaded, source_of
from contrapas.testing.differential_values import Chance, make
from tests.compiler.differential.cases import ALL
from tests.core.stage import Stage

RANDOM = range(700_000, 700_024)
STEPS_MAX = 40
ENDED = ("done", "compensated", "failed", "parked", "settling")


def pairs() -> Iterator[tuple[str, Pair]]:
    """Hand-written and random sagas."""
    for saga, others in ALL:
        yield saga.name, pair_of(saga, *others, exceptions=EXCEPTIONS)
    for seed in RANDOM:
        sagas = loaded(source_of(seed, further=False), f"<program {seed}>")
        called = [s for n, s in sagas.items() if n != "main"]
        with contextlib.suppress(CompileError):
            yield f"random {seed}", pair_of(sagas["main"], *called, exceptions=EXCEPTIONS)


def machines() -> Iterator[str]:
    """A line for each machine: all of it as JSON."""
    for name, pair in pairs():
        for machine in pair.machines.values():
            yield f"{name} {machine.name} {json.dumps(to_data(machine), sort_keys=False)}"
    for path in sorted((ROOT / "sagas").glob("*/saga.py")):
        for machine in build(find.app(f"{path}:app").definition()).machines.values():
            data = json.dumps(to_data(machine)).replace(str(ROOT), "")
            yield f"{path.parent.name} {machine.name} {data}"


class Walk:
    """One instance, answered by chance that depends on nothing but its version."""

    def __init__(self, name: str, pair: Pair) -> None:
        self.name = name
        first = pair.machines[pair.saga.name]
        others = [m for n, m in pair.machines.items() if n != pair.saga.name]
        self.pair = pair
        self.on = Stage(first, *others, registry=pair.registry)

    def start(self, n: int) -> None:
        """The first transition."""
        self.on.start(Go(k="o-9", n=n))

    def step(self) -> bool:
        """One more; False when there is none."""
        on = self.on
        if on.value is None or on.status in ENDED:
            return False
        chance = Chance(self.name, on.record.version)
        flying = [p for p in on.record.operations() if p.retry_at is None and self.known(p)]
        if not flying:
            due = timers(on.record)
            if not due:
                return False
            return bool(on.later(max(0, min(t.at for t in due) - on.now)))
        self.answer(chance.one(flying), chance)
        return True

    def known(self, p: Pending) -> bool:
        """Whether an end can be made up for it: maps and children end by records of their own."""
        types = self.on.world.types
        return p.kind == "wait" or (p.kind != "sleep" and (p.name in types.messages or p.name in types.steps))

    def answer(self, p: Pending, chance: Chance) -> None:
        """An end for one operation in flight."""
        on = self.on
        fails = chance.share(0.15)
        if p.kind == "wait":
            cls: Any = on.world.types.messages[chance.one(p.types)].cls
            on.event(_keyed(cls, chance))
        elif p.name in on.world.types.messages:
            names = on.world.types.messages[p.name].replies
            reply: Any = on.world.types.messages[names[-1 if fails else 0]].cls
            on.reply(_keyed(reply, chance), key=p.key)
        else:
            outcome = "error" if fails else "ok"
            event = on._input("result", in_reply_to=p.key, outcome=outcome, attempt=p.attempt)
            event.position, event.digest = "", b""
            if fails:
                event.error = on.world.types.dump_exception(StepFailed("no", step=p.name))
            else:
                value = make(self.pair.results.get(p.name, int), chance)
                event.body = on.world.types.steps[p.name].result.dump(value)
            on.feed(event)

    def held(self) -> list[Any]:
        """Where it stands."""
        value = self.on.value
        return [self.on.now, self.on.offset, None if value is None else base64.b64encode(value).decode()]

    def resume(self, held: list[Any]) -> None:
        """Stand there."""
        self.on.now, self.on.offset, value = held
        self.on.value = None if value is None else base64.b64decode(value)
        self.on.warm = None if self.on.value is None else decode(self.on.value)


def told(held: list[Any]) -> Any:
    """What must be equal: all but the marks under a traceback's lines, which every Python sets in its own way."""
    now, offset, value = held
    if value is None:
        return held
    return now, offset, re.sub(r"\\n *[~^]+(?=\\n)", "", repr(decode(base64.b64decode(value))))


def _keyed(cls: Any, chance: Chance) -> Any:
    """A message of the instance's key."""
    return make(cls, chance).model_copy(update={"k": "o-9"})


def write(out: Path) -> None:
    """All records on the way of each saga, twice."""
    with out.open("w", encoding="utf-8") as file:
        for name, pair in pairs():
            for n in (1, 4):
                walk = Walk(f"{name} {n}", pair)
                walk.start(n)
                way = [walk.held()]
                while len(way) < STEPS_MAX and walk.step():
                    way.append(walk.held())
                file.write(json.dumps([name, n, way]) + "\n")


def finish(path: Path) -> None:
    """From every second record on: the records that follow must be the same, byte for byte."""
    made = dict(pairs())
    resumed = differs = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        name, n, way = json.loads(line)
        for place in range(0, len(way) - 1, 2):
            walk = Walk(f"{name} {n}", made[name])
            walk.resume(way[place])
            resumed += 1
            for expected in way[place + 1 : place + 9]:
                if not walk.step() or told(walk.held()) != told(expected):
                    differs += 1
                    print(f"{name} {n}: differs behind record {place}: {walk.on.path}", file=sys.stderr)
                    break
    print(json.dumps({"resumed": resumed, "differs": differs}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["machines"]:
            print("\n".join(machines()))
        case ["write", file]:
            write(Path(file))
        case ["finish", file]:
            finish(Path(file))
        case _:
            raise SystemExit(__doc__)
