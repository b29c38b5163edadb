"""What a seed chooses: the size of the world, the character of its log, how often what goes wrong."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How often something goes wrong, as a share of what it can happen to."""

    crash: float = 0.0205
    """Per transition: a worker dies, at a place of a commit that chance chooses."""
    unknown: float = 0.0125
    """Per transition of a commit: it is not answered; written, not written, a prefix, or later."""
    retriable: float = 0.006
    """Per commit, publish, acquire."""
    io: float = 0.0014
    """Per transition of a commit: disk full, or an error of the disk; a while of it."""
    claim: float = 0.03
    """Per acquire: the same as `unknown`."""
    publish: float = 0.012
    """Per publish."""
    pause: float = 0.007
    """Per transition of a commit: the worker stands still past its lease, before or after it."""
    rebalance: float = 0.0115
    """Per transition."""
    jump: float = 0.0015
    """Per transition: a worker's wall clock jumps."""
    compact: float = 0.0038
    """Per transition."""
    duplicate: float = 0.006
    """Per delivered message."""
    stale: float = 0.0064
    """Per transition: an old stretch of a lane comes again."""
    corrupt: float = 0.0010
    """Per transition."""
    release: float = 0.0012
    """Per transition: a worker is replaced by one of another release."""
    foreign: float = 0.0006
    """Per transition: somebody else writes to the inbound lane."""
    rival: float = 0.04
    """Per acquire under the order fence: somebody else claims between the look at the end and the claim."""
    refuses: float = 0.002
    """Per transition of a commit with messages, where they are part of it: their topic is not there."""
    inside: float = 0.001
    """Per transition of a commit under the order fence: somebody else's claim comes in the middle of it."""
    unread: float = 0.02
    """Per gap before a commit under the order fence: it cannot be read now."""
    checkpoint: float = 0.004
    """Per transition: somebody keeps a checkpoint of a partition; no fault, and not counted."""
    step: float = 0.075
    """Per attempt of a step or command: it fails, hangs, answers late or twice, or its answer is lost."""


CALM = Rates(
    crash=0, unknown=0, retriable=0, io=0, claim=0, publish=0, pause=0, rebalance=0, jump=0, compact=0,
    duplicate=0, stale=0, corrupt=0, release=0, foreign=0, step=0, rival=0, inside=0, refuses=0,
    unread=0, checkpoint=0,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One world."""

    seed: int
    load: str
    partitions: int
    workers: int
    instances: int
    fence: Literal["refuse", "order"]
    atomic: bool
    """Messages become visible with the commit."""
    gaps: float
    """Share of offsets left out."""
    batch: int
    """Transitions per commit at most."""
    history_ms: int
    """Compaction leaves alone what is younger."""
    spread_ms: int
    """Starts come within this time."""
    lag_ms: int = 6
    """How long what came waits at most until its partition looks: what comes meanwhile is one batch."""
    skew_ms: int
    """How far workers' clocks are apart."""
    long: bool = False
    """The end is waited for until what ended is buried."""
    rates: Rates = field(default_factory=Rates)

    @classmethod
    def drawn(cls, seed: int, loads: Sequence[str], *, fence: str = "") -> Options:
        """What this seed says; with that fence, if one is named."""
        draw = random.Random(f"{seed}:options")
        drawn: Literal["refuse", "order"] = "refuse" if draw.random() < 0.5 else "order"
        wanted: dict[str, Literal["refuse", "order"]] = {"refuse": "refuse", "order": "order"}
        named = wanted.get(fence, drawn)
        instances = int(2 ** draw.uniform(5, 10.5)) if draw.random() < 0.97 else draw.randint(500, 2000)
        most = 16 if draw.random() < 0.1 else 4
        return cls(
            seed=seed,
            load=draw.choice(sorted(loads)),
            partitions=draw.randint(1, most),
            workers=draw.choice([1, 2, 2, 3, 3, 4, 6]),
            instances=instances,
            fence=named,
            atomic=named == "refuse" and draw.random() < 0.7,
            gaps=draw.choice([0.0, 0.0, 0.02, 0.1]) if named == "refuse" else 0.0,
            batch=draw.choice([1, 5, 20, 100, 500]),
            history_ms=draw.choice([1_000, 30_000, 600_000, 7 * 86_400_000]),
            spread_ms=draw.choice([200, 2_000, 2_000, 20_000]),
            skew_ms=draw.choice([0, 500, 10_000]),
            long=draw.random() < 0.15,
            lag_ms=draw.choice([6, 40, 200, 400]),
        )

    def but(self, sizes: Mapping[str, int], rates: Mapping[str, float] | None = None) -> Options:
        """The same with other sizes (`instances`, `spread_ms`, `atomic` as 0 or 1, …), and other rates of faults."""
        other: Mapping[str, Any] = {name: bool(n) if name == "atomic" else n for name, n in sizes.items()}
        return replace(self, **other, rates=replace(self.rates, **rates) if rates else self.rates)

    def words(self) -> str:
        """In one line, as a run prints it."""
        return " ".join(
            f"{name}={getattr(self, name)}"
            for name in (
                "seed", "load", "partitions", "workers", "instances", "fence", "atomic", "gaps", "batch",
                "history_ms", "spread_ms", "lag_ms", "skew_ms", "long",
            )
        )  # fmt: skip
