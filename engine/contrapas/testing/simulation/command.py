"""The command line of the simulation: seeds over processes, the figures, and what a failing run needs to be repeated.

`--seeds N` worlds from `--first`, or for `--time` seconds; `--seed` one, with its last events; `--keep` only these faults.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice

from contrapas.testing.simulation import floors, invariants
from contrapas.testing.simulation.chance import Chance
from contrapas.testing.simulation.guard import guarded
from contrapas.testing.simulation.load import Load
from contrapas.testing.simulation.options import Options
from contrapas.testing.simulation.planted import BUGS, Bug
from contrapas.testing.simulation.planted_async import ASYNC_BUGS
from contrapas.testing.simulation.play import Outcome, Play
from contrapas.testing.simulation.rows import ROWS, come_to
from contrapas.testing.simulation.shrink import shrink
from contrapas.testing.simulation.stage import Stage

FEW = 4
"""Worlds that a process is handed at a time."""
INSTANCES_MAX = 60
"""Of a world of ring 2."""
TOLD = 40
"""Faults of a failing world that are named."""
Loads = Mapping[str, Load]


def play(loads: Loads, options: Options, keep: frozenset[int] | None = None, *, ring: int = 1) -> Outcome:
    """One world."""
    kind = Play if ring == 1 else Stage
    with guarded():
        return kind(loads[options.load], options, Chance(options.seed, keep)).run()


def play_seed(
    loads: Loads, seed: int, *, load: str = "", keep: frozenset[int] | None = None, ring: int = 1
) -> Outcome:
    """The world of a seed."""
    return play(loads, drawn(seed, [load] if load else sorted(loads), ring), keep, ring=ring)


def drawn(seed: int, loads: Sequence[str], ring: int, *, fence: str = "") -> Options:
    """What a seed says; worlds of ring 2 are smaller, for they cost more."""
    options = Options.drawn(seed, loads, fence=fence)
    return options if ring == 1 else options.but({"instances": min(options.instances, INSTANCES_MAX)})


@dataclass(slots=True)
class Sum:
    """What many worlds come to."""

    worlds: int = 0
    transitions: int = 0
    cpu_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter[str])
    seen: Counter[str] = field(default_factory=Counter[str])
    sometimes: Counter[str] = field(default_factory=Counter[str])
    wrong: list[Outcome] = field(default_factory=list[Outcome])

    def add(self, other: Sum) -> None:
        """And those."""
        self.worlds += other.worlds
        self.transitions += other.transitions
        self.cpu_s += other.cpu_s
        self.faults.update(other.faults)
        self.seen.update(other.seen)
        self.sometimes.update(other.sometimes)
        self.wrong += other.wrong


def several(loads_of: Callable[[], Loads], load: str, ring: int, seeds: Sequence[int]) -> Sum:
    """Some worlds, in this process."""
    began, found, loads = time.process_time(), Sum(), loads_of()
    for seed in seeds:
        done = play_seed(loads, seed, load=load, ring=ring)
        found.worlds += 1
        found.transitions += done.transitions
        found.faults.update(done.faults)
        found.seen.update(done.seen)
        found.sometimes.update(done.sometimes)
        if done.wrong:
            found.wrong.append(done)
    found.cpu_s = time.process_time() - began
    return found


def campaign(
    loads_of: Callable[[], Loads],
    *,
    first: int,
    seeds: int,
    seconds: float,
    jobs: int,
    load: str = "",
    ring: int = 1,
) -> Sum:
    """So many worlds, or as many as fit into the time; ends with the first that is wrong."""
    whole, until = Sum(), time.monotonic() + seconds if seconds else float("inf")
    numbers = islice(count(first), seeds) if seeds else count(first)
    parts: Iterator[list[int]] = iter(lambda: list(islice(numbers, FEW)), [])
    work = partial(several, loads_of, load, ring)
    if jobs < 2:
        for part in parts:
            whole.add(work(part))
            if whole.wrong or time.monotonic() > until:
                break
        return whole
    with ProcessPoolExecutor(jobs) as pool:
        running = [pool.submit(work, part) for part in islice(parts, jobs * 2)]
        while running:
            whole.add(running.pop(0).result())
            if not whole.wrong and time.monotonic() < until:
                running += [pool.submit(work, part) for part in islice(parts, 1)]
    return whole


def main(arguments: Sequence[str], loads_of: Callable[[], Loads], module: str) -> int:
    """Run what the arguments say. 0: all is well; 1: an invariant does not hold; 3: too little went wrong."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=__doc__)
    parser.add_argument("--ring", type=int, choices=(1, 2), default=1, help="2: the runtime's own coroutines")
    parser.add_argument("--seeds", type=int, default=0, help="so many worlds")
    parser.add_argument("--time", type=float, default=0, help="or as many as fit into so many seconds")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--load", default="", help="this kind of world only")
    parser.add_argument("--seed", type=int, default=None, help="this world, with its last events")
    parser.add_argument("--keep", default=None, help="only the faults of these numbers: 3,17,18")
    parser.add_argument("--with", dest="more", default="", help="other options: instances=3,workers=1")
    parser.add_argument("--floors", action="store_true", help="fail below the floors of faults")
    parser.add_argument("--planted", nargs="*", default=None, help="hunt planted bugs: these, or all")
    said = parser.parse_args(arguments)
    if said.planted is not None:
        return 1 if hunts(loads_of(), said.planted or list(BUGS if said.ring == 1 else ASYNC_BUGS)) else 0
    if said.seed is not None:
        return _one(loads_of(), said, module)
    whole = campaign(
        loads_of, first=said.first, seeds=said.seeds or (0 if said.time else 200), seconds=said.time,
        jobs=said.jobs, load=said.load, ring=said.ring,
    )  # fmt: skip
    reached = _print(whole, said.floors)
    for failed in whole.wrong[:3]:
        _tell(loads_of(), failed, module, said.load, said.ring)
    return 1 if whole.wrong else 0 if reached or not said.floors else 3


def _one(loads: Loads, said: argparse.Namespace, module: str) -> int:
    options = drawn(said.seed, [said.load] if said.load else sorted(loads), said.ring)
    more = {k: int(v) for k, _, v in (p.partition("=") for p in said.more.split(",") if p)}
    keep = None if said.keep is None else frozenset(int(n) for n in said.keep.split(",") if n)
    done = play(loads, options.but(more), keep, ring=said.ring)
    print(done.options.words())
    print(f"{done.transitions} transitions, {floors.total(done.faults)} faults, trace {done.trace}")
    if done.wrong:
        print(*done.events, sep="\n")
        print(done.wrong)
    return 1 if done.wrong else 0


def _tell(loads: Loads, failed: Outcome, module: str, load: str, ring: int) -> None:
    """What somebody needs who wants to see it again."""
    print(f"\nseed {failed.options.seed}: {failed.wrong}\n  {failed.options.words()}")
    options, keep, best = shrink(failed, partial(play, loads, ring=ring), seconds=60)
    print(*best.events, sep="\n")
    print(
        f"{best.wrong}\nfaults that it takes: {', '.join(f'{n} {name}' for n, name in best.tape) or 'none'}"
    )
    more = [
        f"{name}={getattr(options, name)}"
        for name in ("instances", "workers", "partitions")
        if getattr(options, name) != getattr(failed.options, name)
    ]
    print(
        "repeat: "
        + " ".join(
            [
                f"python -m {module} --seed {options.seed}",
                *(["--ring 2"] if ring == 2 else []),
                *([f"--load {load}"] if load else []),
                *([f"--with {','.join(more)}"] if more else []),
                f"--keep '{','.join(str(n) for n in sorted(keep))}'",
            ]
        )
    )


def _print(whole: Sum, strict: bool) -> bool:
    each = whole.cpu_s / max(1, whole.transitions) * 1e6
    print(
        f"{whole.worlds} worlds, {whole.transitions} transitions, {floors.total(whole.faults)} faults, "
        f"{len(whole.wrong)} wrong; {each:.0f} us of CPU for each transition"
    )
    reached = True
    for what, number, wanted, good in floors.figures(whole.faults, whole.transitions):
        reached &= good
        print(f"  {'' if good else 'BELOW '}{what}: {number} (floor {wanted})")
    print(
        "invariants looked at: "
        + ", ".join(f"{n} {whole.seen[n]}" for n in (*invariants.NAMES, *invariants.ASYNC) if whole.seen[n])
    )
    never = [n for n in invariants.NAMES if not whole.seen[n]]
    print("not met: " + (", ".join(never) or "none"))
    for name, why in invariants.NOT_HERE.items():
        if whole.seen[name]:
            continue
        print(f"  {name} not here: {why}")
    print(
        "sometimes: " + ", ".join(f"{n} {whole.sometimes[n]}" for n in floors.SOMETIMES if whole.sometimes[n])
    )
    rows = come_to(whole.faults, whole.sometimes)
    print("rows of the crash table: " + ", ".join(f"{row}: {n}" for row, n in rows.items() if n))
    print(
        "rows not come to: "
        + (", ".join(f"{row} ({ROWS[row][0]})" for row, n in rows.items() if not n) or "none")
    )
    print("never came about: " + (", ".join(n for n in floors.SOMETIMES if not whole.sometimes[n]) or "none"))
    return reached


def hunt(loads: Loads, bug: Bug, *, first: int = 0, seeds: int = 0) -> tuple[int, str]:
    """How many seeds it takes to find a planted bug, and by which invariant; 0: it survives."""
    kinds = sorted(bug.loads) or sorted(loads)
    ring = 2 if bug.name in ASYNC_BUGS else 1
    for number in range(1, (seeds or bug.seeds) + 1):
        options = drawn(first + number, kinds, ring, fence=bug.fence).but(bug.sizes, bug.rates)
        with bug.planted():
            try:
                wrong = play(loads, options, ring=ring).wrong
            except Exception as why:  # noqa: BLE001  a bug may break anything, and is found by that
                wrong = f"{type(why).__name__}: {why}"
        if wrong:
            return number, wrong
    return 0, ""


def hunts(loads: Loads, names: Sequence[str]) -> int:
    """Every planted bug until it is found; prints the table. Gives how many survive."""
    left, known = 0, {**BUGS, **ASYNC_BUGS}
    for name in names:
        began = time.process_time()
        number, wrong = hunt(loads, known[name])
        left += number == 0
        said = f"seed {number:>3}  {wrong[:100]}" if number else f"SURVIVES {known[name].seeds} seeds"
        print(f"{name}  {known[name].what:<50} {said}  {time.process_time() - began:.1f} s", flush=True)
    print(f"{len(names)} planted, {left} survive")
    return left
