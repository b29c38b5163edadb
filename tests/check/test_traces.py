"""What really happens was foreseen: every trace of a compiled saga in the core is a path of the explorer."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest

from contrapas import App
from contrapas.author.retry import Retry
from contrapas.author.saga import SagaDef
from contrapas.check.study import flat
from contrapas.core.envelope import ENDED, InstanceRecord, Node, Pending
from contrapas.draw.edges import program_of
from contrapas.draw.model import UNDOABLE, Config, Model
from contrapas.draw.native import type_name
from contrapas.draw.segment import Walker
from contrapas.errors import StepFailed
from contrapas.runtime.build import compiled
from contrapas.runtime.find import find
from tests.check import wrong
from tests.check.corpus import approvals, billing, flights, orders, travel
from tests.core import flights as flying
from tests.core.stage import Stage
from tests.draw import shapes

ROOT = Path(__file__).parents[2]
SEEDS = 4
INPUTS = 40


def order() -> Any:
    return find(f"{ROOT}/sagas/order/saga.py:place_order")


NOT_RUN = {
    "watches_the_clock",
    "goes_round_for_nothing",
    "sleeps_with_its_eyes_open",
    "calls_the_bank_itself",
}
"""They spin, sleep or call out where they should not: that is their mistake."""

SAGAS: dict[str, Callable[[], Any]] = {
    "place_order": order,
    "transfer": lambda: find(f"{ROOT}/sagas/bank/saga.py:transfer"),
    "handle_claim": lambda: find(f"{ROOT}/sagas/claim/saga.py:handle_claim"),
    "book_trip": lambda: find(f"{ROOT}/sagas/travel/saga.py:book_trip"),
    "subscription": lambda: find(f"{ROOT}/sagas/subscription/saga.py:subscription"),
    "index_bucket": lambda: find(f"{ROOT}/sagas/index/saga.py:index_bucket"),
    **{
        f"{module.__name__.rpartition('.')[0][6:]}.flights.{name}": partial(getattr, module, name)
        for module in (flying, flights)
        for name, value in vars(module).items()
        if isinstance(value, SagaDef) and value.module == module.__name__
    },
    "winding": lambda: shapes.winding,
    "decides": lambda: shapes.decides,
    "many": lambda: shapes.many,
    "nested": lambda: shapes.nested,
    "forgets_in_a_branch": lambda: wrong.forgets_in_a_branch,
    "is_past_the_pivot": lambda: wrong.is_past_the_pivot,
    "ends_by_itself": lambda: wrong.ends_by_itself,
    **{
        f"{module.__name__.rpartition('.')[2]}.{name}": partial(getattr, module, name)
        for module in (orders, travel, approvals, billing)
        for name, value in vars(module).items()
        if isinstance(value, SagaDef) and value.module == module.__name__ and name not in NOT_RUN
    },
}


class Follower:
    """The configurations in which a record may be, as the explorer sees it."""

    def __init__(self, saga: Any, machines: Any) -> None:
        self.model = Model(saga.name, {name: Walker(program_of(m)) for name, m in machines.items()})
        self.here: set[Config] = set()
        self.inside = {label for name in self._branches(machines) for label in machines[name].states}
        """Labels of sagas that run as branches: one step for the explorer, which says so (CP790)."""

    def _branches(self, machines: Any) -> set[str]:
        found: set[str] = set()
        todo = list(self.model.walkers)
        while todo:
            for top in self.model.walkers[todo.pop()].program.sites:
                for site in flat(top):
                    name = type_name(site.target) if site.kind == "frame" else ""
                    if site is not top and name in machines:
                        found.add(name)
        return found

    def follow(self, record: InstanceRecord) -> bool:
        """Go on to every configuration that fits the record; False: there is none."""
        ahead = {move.config for move in self.model.begin()} if not self.here else set(self.here)
        reached = set(ahead)
        for _ in range(5):
            ahead = {move.config for config in ahead for move in self.model.moves(config)} - reached
            reached |= ahead
        self.here = {config for config in reached if self.fits(config, record)}
        return bool(self.here)

    def fits(self, config: Config, record: InstanceRecord) -> bool:
        """Whether a record can be what a configuration stands for."""
        if record.status == "parked":
            return True
        if record.status in ENDED or record.status == "settling":
            if record.outcome:
                return config.end == f"return {record.outcome}"
            return bool(config.end) and not config.end.startswith("return ")
        if config.end:
            return False
        unwinding = record.root.unwinding is not None
        if unwinding != (config.unwinding is not None):
            return False
        if not unwinding:
            labels = tuple(frame.label for frame in record.root.frames)
            if labels != tuple(self.model.site(at).label for at in config.frames):
                return False
        told = {e.label for e in config.stack if e.undo and e.status in UNDOABLE}
        return standing(record.root) - self.inside == told - self.inside


def standing(node: Node) -> set[str]:
    """Labels of steps that would be taken back."""
    found = {e.label for e in node.undo if e.status in ("done", "unknown") and e.kind != "group"}
    for entry in node.undo:
        if entry.kind == "group":
            for branch in entry.branches:
                found |= {e.label for e in branch if e.status in ("done", "unknown")}
    return found


def sample(cls: Any, chance: random.Random) -> Any:
    """Some value of a message class or a plain type."""
    if cls is int:
        return chance.randrange(6)
    if cls in (None, type(None)):
        return None
    if cls is str:
        return "o-9"
    if cls is bool:
        return chance.random() < 0.5
    origin, args = get_origin(cls), get_args(cls)
    if origin is Annotated:
        return sample(args[0], chance)
    if origin in (tuple, list, set, frozenset):
        several: Any = origin
        return several([sample(args[0], chance) for _ in range(chance.randrange(3))])
    fields = {name: sample(field.annotation, chance) for name, field in cls.model_fields.items()}
    return cls(**fields)


def act(stage: Stage, chance: random.Random) -> None:
    """One thing that may happen to the instance."""
    pending = list(stage.record.operations())
    if not pending or chance.random() < 0.15:
        stage.later(chance.choice([1_000, 40_000, 600_000]))
        return
    if chance.random() < 0.05:
        stage.operate(chance.choice(["cancel", "kill"]))
        return
    one = chance.choice(pending)
    if one.kind == "local":
        result(stage, one, chance)
    elif one.types:
        answer(stage, one, chance)
    else:
        stage.later(100_000)


def result(stage: Stage, one: Pending, chance: random.Random) -> None:
    """A local step ends, well or badly."""
    if one.retry_at is not None:
        stage.later(100_000)
    elif chance.random() < 0.75:
        hint = get_type_hints(stage.world.types.steps[one.name].fn).get("return")
        stage.result(sample(hint, chance), key=one.key)
    elif chance.random() < 0.5:
        stage.fails(StepFailed("no"), one.label)
    else:
        stage.fails(OSError("away"), one.label)


def answer(stage: Stage, one: Pending, chance: random.Random) -> None:
    """A reply, or an awaited event."""
    name = one.types[0] if chance.random() < 0.7 else chance.choice(one.types)
    message = sample(stage.world.types.messages[name].cls, chance)
    if one.kind == "wait":
        stage.event(message)
    else:
        stage.reply(message, key=one.key)


@pytest.mark.parametrize("name", sorted(SAGAS))
@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_trace_is_a_path_of_the_explorer(name: str, seed: int) -> None:
    saga = SAGAS[name]()
    app = App("trial")
    app.orchestrate(saga)
    built = compiled(app.definition())
    own = built.world.machines[saga.name]
    others = [m for m in built.world.machines.values() if m is not own]
    stage = Stage(own, *others, registry=built.registry)
    follower = Follower(saga, built.world.machines)
    chance = random.Random(f"{name} {seed}")
    start = built.world.types.messages[own.starts[0]].cls
    stage.start(sample(start, chance))
    path = [(stage.record.status, stage.record.state)]
    assert follower.follow(stage.record), path
    for _ in range(INPUTS):
        version = stage.record.version
        act(stage, chance)
        if gone(stage):
            break
        if stage.record.version == version:
            continue
        path.append((stage.record.status, stage.record.state))
        assert follower.follow(stage.record), (path, stage.record)
        if stage.record.status in (*ENDED, "parked"):
            break


def gone(stage: Stage) -> bool:
    """The instance's retention is over: there is no record any more."""
    return stage.value is None


def test_the_default_policy_of_a_step_is_the_one_the_explorer_assumes() -> None:
    assert wrong.send_letter.retry == Retry(5)
