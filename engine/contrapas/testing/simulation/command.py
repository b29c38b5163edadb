"""The command line of the simulation: seeds in processes, the figures, and what a failing run needs to be repeated."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from contrapas.testing.simulation.chance import Chance
from contrapas.testing.simulation.load import Load
from contrapas.testing.simulation.options import Options
from contrapas.testing.simulation.play import Outcome, Play


def play_seed(
    loads: Mapping[str, Load], seed: int, *, load: str = "", keep: frozenset[int] | None = None
) -> Outcome:
    """One world."""
    options = Options.drawn(seed, [load] if load else sorted(loads))
    return Play(loads[options.load], options, Chance(seed, keep)).run()


def main(arguments: Sequence[str], loads: Mapping[str, Load], module: str) -> int:
    """Run what the arguments say; 1 when an invariant did not hold."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--load", default="")
    parser.add_argument("--seed", type=int, default=None, help="this one, with its events")
    parser.add_argument("-v", "--verbose", action="store_true")
    said = parser.parse_args(arguments)
    first, last = (said.first, said.first + said.seeds) if said.seed is None else (said.seed, said.seed + 1)
    faults: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    sometimes: Counter[str] = Counter()
    transitions, wrong, began = 0, 0, time.process_time()
    for seed in range(first, last):
        at = time.process_time()
        done = play_seed(loads, seed, load=said.load)
        transitions += done.transitions
        faults.update(done.faults)
        seen.update(done.seen)
        sometimes.update(done.sometimes)
        if said.verbose or said.seed is not None:
            print(done.options.words(), done.transitions, sum(f for _, f in done.faults.items()), done.trace,
                  f"{(time.process_time() - at) / max(1, done.transitions) * 1e6:.0f} us")  # fmt: skip
        if done.wrong:
            wrong += 1
            print(f"seed {seed}: {done.wrong}\n  {done.options.words()}")
            if said.seed is not None:
                print("\n".join(done.events))
    cpu = time.process_time() - began
    print(f"{transitions} transitions, {cpu / max(1, transitions) * 1e6:.0f} us each, {wrong} wrong")
    print("faults", dict(faults))
    print("seen", dict(seen))
    print("sometimes", dict(sometimes))
    return 1 if wrong else 0
