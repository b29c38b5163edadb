"""Maps over a saga: every item is a record of its own, beside its parent's, with frames, timers and an undo stack.

It is moved by the same transitions as any instance (`nested` has what differs). Its key is the parent's with what it is
an item of behind `ITEM`, so that it lives on the parent's partition and whatever is addressed to it finds the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from contrapas.core.envelope import Cause, InstanceRecord, Pending
from contrapas.core.outcomes import words_of
from contrapas.core.partition import ITEM
from contrapas.core.work import Unfit, Work
from contrapas.core.world import Input, World
from contrapas.errors import DataError, StepFailed
from contrapas.machine import Machine

if TYPE_CHECKING:
    from contrapas.core.items import Item, Progress

NESTED: Final = "@saga"
"""In the place of a map's key: its items run sagas."""


def of_saga(pending: Pending) -> bool:
    """Do the items of this map run a saga?"""
    return pending.kind == "map" and pending.target == NESTED


def name_of(record: InstanceRecord, pending: Pending, position: int) -> str:
    """The instance that runs one item."""
    head, _, visit = pending.key.rpartition("/")
    rest = head.removeprefix(f"{record.instance}/{record.run}/").replace(ITEM, "")
    return f"{pending.name}/{record.key}{ITEM}{record.saga}/{record.run}/{rest}[{position}]/{visit}"


def machine_of(world: World, name: str) -> Machine:
    """What the items of a map run; Unfit where there is no code of it, or it takes no argument."""
    machine = world.machines.get(name)
    if machine is None or not machine.params or machine.params[0].codec is None:
        raise Unfit(f"no saga {name!r} here")
    return machine


def texts_of(world: World, name: str, items: list[Any]) -> list[str]:
    """The arguments of the items as a record keeps them."""
    codec = machine_of(world, name).params[0].codec
    assert codec is not None
    return [codec.dump(item) for item in items]


# -- one item ----------------------------------------------------------------------------------------------------


def birth(progress: Progress, record: InstanceRecord, position: int) -> Input:
    """What begins an item, for `transition`."""
    key = progress.pending.key
    text = progress.texts[position]
    cause = Cause(kind="start", type="", source="map", id=f"{key}[{position}]", value=text.encode())
    return Input(
        cause=cause,
        instance=name_of(record, progress.pending, position),
        at=0,
        parent=f"{record.instance}/{record.run}",
        map=key,
        item=position,
        body=text,
    )


def giving_up(item: InstanceRecord, reason: str) -> Input:
    """What tells an item that its map is given up."""
    cause = Cause(kind="operate", type="cancel", source="map", id=f"{item.map}[{item.item}]!cancel")
    return Input(cause=cause, instance=item.instance, at=0, outcome="cancel", reason=reason)


def named(record: InstanceRecord, event: Input) -> None:
    """A record being born is an item's: who its parent is, and that nobody waits for an answer by message."""
    record.parent, record.parent_ops = event.parent, [event.map]
    record.run = event.parent.rpartition("/")[2]


def by_key(work: Work, label: str) -> DataError:
    """A wait for an event of the saga's key, which is the same for all items."""
    return DataError(
        "CP127",
        f"{label} in an item of a map: all of them have the key {work.saga.key!r}",
        expected="correlate= with a value of the item's own",
        got="the saga's key",
        fix="correlate=…, or wait in the saga that maps",
    )


def ended(world: World, label: str, record: InstanceRecord) -> Item:
    """What the map is to know of an item whose record has ended."""
    from contrapas.core.items import Item

    if record.root.result is not None:
        return Item("done", record.root.result, "", 1, None, record.version)
    why = world.types.load_exception(record.root.error or "")
    if not isinstance(why, StepFailed):  # a cancel of the item alone is a failure to who maps
        why = StepFailed(words_of(why).removeprefix("Cancelled: "), step=label, unknown=bool(record.owed))
    why.unknown = why.unknown or bool(record.owed)
    status = "unknown" if why.unknown else "failed"
    return Item(status, world.types.dump_exception(why), why.reason, 1, None, record.version)
