"""The last look at a world that has come to rest: everything ended, nothing lost, nothing half done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.core.fold import fold
from contrapas.testing.simulation.universe import Wrong

if TYPE_CHECKING:
    from contrapas.testing.simulation.play import Play


def look(play: Play) -> None:
    """Every check that waits for the end."""
    seen = play.universe.seen
    records = _records(play)
    _again(play)
    for worker in play.workers:
        for s in worker.stations.values():
            play.watch.census(s.partition.counts)
    for ident, instance in play.watch.acked.items():
        seen["I-01"] += 1
        if instance not in records:
            raise Wrong("I-01", f"{instance} was acknowledged (start {ident}), and is not there")
    for instance, record in records.items():
        seen["I-31"] += 1
        if record.status not in ENDED:
            parked = record.parked
            if parked is not None and parked.code in play.load.parks:
                continue
            why = f" {parked.code} {parked.error}" if parked is not None else ""
            raise Wrong(
                "I-31", f"{instance} is {record.status}{why} in {record.state}, and nothing will happen"
            )
        _undone(play, instance, record)
    for text in play.load.final(play):
        raise Wrong("I-18", text)


def _records(play: Play) -> dict[str, InstanceRecord]:
    found: dict[str, InstanceRecord] = {}
    for shadow in play.watch.shadows:
        for key, counted in (*shadow.buried.items(), *shadow.keys.items()):
            if key[:1] != b"$" and counted.value is not None:
                found[key.decode()] = decode(counted.value)
    return found


def _again(play: Play) -> None:
    """I-01, I-05: whoever folds what is left of the log comes to what counted while it was written."""
    for number, shadow in enumerate(play.watch.shadows):
        play.universe.seen["I-05"] += 1
        shelf = play.store.lanes["log"][number]
        _, states = fold(shelf.records, floor=shelf.end)
        mine = {k: c.value for k, c in shadow.keys.items()}
        theirs = {k: r.value for k, r in states.items() if not k.startswith((b"$part", b"$claim"))}
        if mine != theirs:
            odd = [k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k)]
            raise Wrong("I-05", f"partition {number} folds to something else: {sorted(odd)[:3]}")


def _undone(play: Play, instance: str, record: InstanceRecord) -> None:
    """I-27, I-28, I-30: what a compensated saga did is taken back, in order; a done one took nothing back."""
    seen, load, ledger = play.universe.seen, play.load, play.mailbox.ledger
    effects = ledger.of.get(instance, [])
    if record.status == "compensated":
        for effect in effects:
            if effect.name in load.undone_by:
                seen["I-28"] += 1
                if effect.applied and not effect.undone:
                    raise Wrong(
                        "I-28", f"{effect.id} happened and was not taken back: {instance} is compensated"
                    )
    elif record.status == "done" and load.kept:
        for effect in effects:
            seen["I-30"] += 1
            if effect.undone:
                raise Wrong("I-30", f"{effect.id} was taken back: {instance} is done")
    undos = ledger.undos.get(instance)
    if undos and load.sequential and len(undos) > 1:
        seen["I-27"] += 1
        orders = [visit_of(ident) for ident in undos]
        if orders != sorted(orders, reverse=True):
            raise Wrong("I-27", f"{instance} took back in the order {undos}")


def visit_of(key: str) -> int:
    """The version that issued an operation, from its idempotency key."""
    return int(key.rpartition("/")[2].partition(".")[0])
