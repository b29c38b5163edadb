"""The rules of racing owners, each broken in turn, and the command that runs the race: `python -m contrapas.testing.races_broken`.

`--runs N` with every rule kept: none may be wrong. Then each rule is broken, and some run must be wrong within `--within`
seeds; how many it took is printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any, NamedTuple
from unittest import mock

from contrapas.core import fold as folding
from contrapas.core.control import decode_control
from contrapas.core.lane import Draft, Record
from contrapas.errors import ContrapasError
from contrapas.log import order
from contrapas.runtime import heal
from contrapas.runtime.checkpoint import State
from contrapas.runtime.partition import Partition
from contrapas.testing.races import Race
from contrapas.testing.races_referee import Habits, Weather, Wrong

Wrongly = Callable[[Any], Any]


class Broken(NamedTuple):
    """One rule, broken."""

    what: str
    habits: Mapping[str, bool] = {}
    places: tuple[tuple[Any, str, Wrongly], ...] = ()
    """(where, name, the wrong one made from the right one)."""
    within: int = 3_000
    weather: Weather | None = None
    """In which it matters; None: as each seed draws it."""


def _not_read(right: Any) -> Any:
    def read_back(epoch: int, end: int, at: int, between: Any) -> None:
        return

    return read_back


def _no_tie(right: Any) -> Any:
    def read_back(epoch: int, end: int, at: int, between: Any) -> None:
        right(epoch + 1, end, at, between)

    return read_back


def _no_hole(right: Any) -> Any:
    def strangers(epoch: int, expected: int, upto: int, mine: Any, found: Any) -> Any:
        others = [r for r in found if r.offset not in mine]
        missing = set(range(expected, upto)) - set(mine) - {r.offset for r in others}
        filled = [*others, *(order_record(o) for o in missing)]
        return tuple(r for r in right(epoch, expected, upto, mine, filled) if r.key != b"hole")

    return strangers


def _no_hole_before(right: Any) -> Any:
    def read_back(epoch: int, end: int, at: int, between: Any) -> None:
        there = {r.offset for r in between}
        right(epoch, end, at, [*between, *(order_record(o) for o in range(end, at) if o not in there)])

    return read_back


def _believing(right: Any) -> Any:
    """Who wrote without an epoch is taken for the owner."""

    def judge(self: Any, record: Any) -> Any:
        if not any(name == "cp-epoch" for name, _ in record.headers):
            record = record._replace(headers=(*record.headers, ("cp-epoch", b"%d" % self.epoch)))
        return right(self, record)

    return judge


def _no_jump(right: Any) -> Any:
    """What the cleaner did is taken for damage."""

    def may_jump(self: Any, *what: Any) -> Any:
        floor, self.floor = self.floor, 0
        try:
            return right(self, *what)
        finally:
            self.floor = floor

    return may_jump


def _no_heal_jump(right: Any) -> Any:
    def may_jump(self: Any, record: Any, version: int, known: int, headers: Any) -> Any:
        owed, self.owed = self.owed, {}
        try:
            return right(self, record, version, known, {})
        finally:
            self.owed = owed

    return may_jump


def _deaf(right: Any) -> Any:
    """An epoch begins with its first commit, not with its claim."""

    def judge(self: Any, record: Any, epoch: int) -> Any:
        before = self.epoch
        verdict = right(self, record, epoch)
        if record.key.startswith(order.CLAIM_PREFIX):
            self.epoch = before
        return verdict

    return judge


def order_record(offset: int) -> Record:
    """What stands for a hole that nobody asks about."""
    return Record(0, offset, b"hole", b"", (), 0)


def _no_epoch(right: Any) -> Any:
    def judge(self: Any, record: Any) -> Any:
        self.epoch = 0
        return right(self, record)

    return judge


def _nothing(right: Any) -> Any:
    def nothing(*_: object) -> list[str]:
        return []

    return nothing


def _always(right: Any) -> Any:
    def follows(expected: int, offsets: Any) -> bool:
        return True

    return follows


def _low(right: Any) -> Any:
    """The owner's next version, whatever the loser's."""

    def owe(p: Any, key: bytes, version: int) -> None:
        right(p, key, 0)

    return owe


def _one_key(right: Any) -> Any:
    def claim_draft(partition: int, claim: Any, nonce: bytes) -> Draft:
        draft: Draft = right(partition, claim, b"one")
        return draft

    return claim_draft


def _without_epoch(right: Any) -> Any:
    def bury(self: Any, batch: Any, key: str) -> None:
        right(self, batch, key)
        last = batch.log[-1]
        batch.log[-1] = last._replace(headers=tuple(h for h in last.headers if h[0] != "cp-epoch"))

    return bury


def _forgetful(right: Any) -> Any:
    def fold(self: Any, name: str, floor: int) -> Any:
        judge = right(self, name, floor)
        judge.owed = {}
        return judge

    return fold


GRAVES = Weather(4, 4, 90, 0.04, 0.25, 0.08, 0.9, 0.0)
"""Claims are buried and cleaned away while somebody stands still who has not read them."""
BROKEN: Mapping[str, Broken] = {
    "offsets": Broken("offsets of a commit are not compared", places=((order, "follows", _always),)),
    "dispatch": Broken("effects leave before the offsets are compared", {"dispatch_first": True}),
    "read back": Broken("a claim is not read back", places=((order, "read_back", _not_read),)),
    "tie": Broken("a tie of two claims is not broken", places=((order, "read_back", _no_tie),)),
    "epoch": Broken("the fold compares no epochs", places=((folding.Fold, "judge", _no_epoch),)),
    "old epoch": Broken("the next commit after an unclear one comes under the old epoch", {"goes_on": True}),
    "heal": Broken("losers are not healed", places=((heal, "owe", _nothing),)),
    "heal in a gap": Broken("a loser met at work is not healed", places=((heal, "lose", _nothing),)),
    "heal above both": Broken("a heal takes the owner's next version, whatever the loser's", places=((heal, "owe", _low),)),
    "tombstone": Broken("a tombstone has no epoch", places=((Partition, "bury", _without_epoch),)),
    "claim keys": Broken("claims share one key", places=((order, "claim_draft", _one_key),), within=20_000),
    "hole": Broken("a hole in a gap is passed over", places=((order, "strangers", _no_hole),), weather=GRAVES),
    "hole before": Broken("a hole before a claim is passed over", places=((order, "read_back", _no_hole_before),), weather=GRAVES),
    "stranger": Broken("a record without an epoch is believed", places=((folding.Fold, "judge", _believing),)),
    "jump": Broken("a jump over what the cleaner took stops the fold", places=((folding.Fold, "_may_jump", _no_jump),)),
    "heal's jump": Broken("a heal's version may not jump", places=((folding.Fold, "_may_jump", _no_heal_jump),)),
    "claims": Broken("the fold does not look at the epochs of claims", places=((folding.Fold, "_judge_control", _deaf),)),
    "lag": Broken("the cleaner does not wait for the heals", {"no_lag": True}),
    "floor": Broken("a checkpoint below the history floor is used", {"no_floor": True}),
    "checkpoint": Broken("a checkpoint forgets the heals owed", places=((State, "fold", _forgetful),)),
    "prefix": Broken("a later batch is stored without the earlier", {"no_prefix": True}),
}  # fmt: skip
"""By what is broken."""


@contextmanager
def broken(rule: Broken) -> Generator[type[Habits]]:
    """For as long as the block lasts; gives the habits that runs in it have."""
    with ExitStack() as stack:
        for where, name, wrongly in rule.places:
            stack.enter_context(mock.patch.object(where, name, wrongly(getattr(where, name))))
        yield type("Broken", (Habits,), dict(rule.habits))


@contextmanager
def remembered() -> Generator[None]:
    """The same control record is read by everybody: decode it once."""
    decode = lru_cache(maxsize=4096)(decode_control)
    with (
        mock.patch.object(order, "decode_control", decode),
        mock.patch.object(folding, "decode_control", decode),
    ):
        yield


def run(
    first: int, count: int, habits: type[Habits] = Habits, weather: Weather | None = None
) -> tuple[int, str, Counter[str]]:
    """(seed of the first wrong run or -1, what is wrong, what happened) of `count` runs from a seed on."""
    total: Counter[str] = Counter()
    with remembered():
        for seed in range(first, first + count):
            try:
                total += Race(seed, habits, weather).run()
            except Wrong as why:
                return seed, str(why), total
            except ContrapasError as why:
                return seed, f"it ended with {why}", total
    return -1, "", total


def hunt(name: str, first: int = 0, within: int = 0) -> tuple[int, str]:
    """(seeds needed, what was wrong) until a broken rule shows; 0: it does not."""
    rule = BROKEN[name]
    with broken(rule) as habits:
        seed, wrong, _ = run(first, within or rule.within, habits, rule.weather)
    return (seed - first + 1, wrong) if seed >= 0 else (0, "")


def main(args: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m contrapas.testing.races_broken", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000, help="with every rule kept")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--rule", nargs="*", help="break these; none named: all")
    parser.add_argument("--within", type=int, default=0, help="seeds for each broken rule")
    asked = parser.parse_args(args)
    began = time.process_time()
    seed, wrong, total = run(asked.first, asked.runs)
    if seed >= 0:
        print(f"WRONG seed {seed}: {wrong}")
        return 1
    spent = time.process_time() - began
    print(
        f"{asked.runs} runs, 0 wrong, {spent:.0f} s of CPU: {', '.join(f'{n} {k}' for k, n in total.most_common())}"
    )
    survived = 0
    for name in BROKEN if asked.rule is None else asked.rule:
        needed, wrong = hunt(name, within=asked.within)
        survived += not needed
        found = f"seed {needed:>5}  {wrong[:110]}" if needed else "SURVIVES"
        print(f"{name:<16} {BROKEN[name].what:<62} {found}", flush=True)
    print(f"{len(BROKEN) if asked.rule is None else len(asked.rule)} broken, {survived} survive")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
