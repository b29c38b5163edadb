"""The last look at a world that has come to rest: everything ended, nothing lost, nothing half done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.core.fold import Fold, Verdict, fold
from contrapas.core.lane import Record
from contrapas.testing.simulation.checkers import Copy, copies, folded
from contrapas.testing.simulation.load import nothing_more
from contrapas.testing.simulation.station import RUNNING
from contrapas.testing.simulation.universe import Wrong

if TYPE_CHECKING:
    from contrapas.testing.simulation.mailbox import Effect
    from contrapas.testing.simulation.play import Play
    from contrapas.testing.simulation.station import SimStation


INSTANCE = ("cp-kind", b"instance")


def look(play: Play) -> None:
    """Every check that waits for the end."""
    seen = play.universe.seen
    records = play.ended = _records(play)
    _again(play)
    _dead(play)
    _copied(play)
    for worker in play.workers:
        for s in worker.stations.values():
            play.watch.census(s.partition.counts)
            _level(play, s)
    for ident, instance in play.watch.acked.items():
        seen["I-01"] += 1
        seen["I-34"] += play.chance.faults["crash"] > 0
        if instance not in records:
            raise Wrong("I-01", f"{instance} was acknowledged (start {ident}), and is not there")
    for instance, record in records.items():
        seen["I-31"] += 1
        if record.status not in ENDED and record.saga not in play.entities:
            parked = record.parked
            if parked is not None and parked.code in play.load.parks:
                continue
            why = f" {parked.code} {parked.error}" if parked is not None else ""
            raise Wrong(
                "I-31", f"{instance} is {record.status}{why} in {record.state}, and nothing will happen"
            )
        if record.status == "done" and instance in play.cancelled:
            play.universe.sometimes["a cancel came to what was done"] += 1
        _undone(play, instance, record)
    seen["I-35"] += play.chance.faults["duplicate start"]
    seen["I-18"] += play.load.final is not nothing_more
    for text in play.load.final(play):
        raise Wrong("I-18", text)


def _records(play: Play) -> dict[str, InstanceRecord]:
    found: dict[str, InstanceRecord] = {}
    memo = play.watch.memo
    for worker in play.workers:
        for s in worker.all:
            memo.learn(s.partition)
    for shadow in play.watch.shadows:
        for key, counted in (*shadow.buried.items(), *shadow.keys.items()):
            if key[:1] != b"$" and counted.value is not None:
                found[key.decode()] = memo.known.get(counted.value) or decode(counted.value)
    return found


def _again(play: Play) -> None:
    """I-01, I-05: whoever folds what is left of the log comes to what counted while it was written."""
    owned = {n for worker in play.workers for n, s in worker.stations.items() if s.phase == RUNNING}
    for number, shadow in enumerate(play.watch.shadows):
        play.universe.seen["I-05"] += 1
        topped = [key for key in shadow.topped if (number, key) not in play.watch.excused]
        if number in owned and topped:
            key = min(topped)
            raise Wrong(
                "I-05", f"a loser lies on {key.decode()} at rest: a cleaner would keep it, not the owner's"
            )
        shelf = play.store.lanes["log"][number]
        _, states = fold(shelf.records, floor=shelf.end)
        _tampered(play, shelf.records)
        mine = {k: c.value for k, c in shadow.keys.items()}
        theirs = {k: r.value for k, r in states.items() if not k.startswith((b"$part", b"$claim"))}
        if mine != theirs:
            raise Wrong("I-05", f"partition {number}: {folded(theirs, mine)[:3]}")


def _copied(play: Play) -> None:
    """I-20: of every outcome that an instance came to, its topic holds one message by id, repeats alike."""
    output: list[Copy] = []
    wanted: dict[str, int] = {}
    types = play.world.types.messages
    for instance, record in play.ended.items():
        if record.outcome and types[record.outcome].topic and record.mode == "orchestrate":
            wanted[instance] = 1
    for lane in sorted({types[r.outcome].topic for r in play.ended.values() if r.outcome} - {""}):
        for shelf in play.store.lanes[lane]:
            for sent in shelf.records:
                headers = dict(sent.headers)
                instance = headers.get("ce_correlationid", b"").decode()
                mine = play.ended.get(instance)
                if (
                    mine is not None
                    and headers.get("ce_type", b"").decode() == mine.outcome
                    and instance in wanted
                ):
                    output.append(Copy(headers["ce_id"].decode(), instance, sent.value or b"", 0))
    play.universe.seen["I-20"] += len(wanted)
    for text in copies(wanted, output):
        raise Wrong("I-20", text)


def _level(play: Play, s: SimStation) -> None:
    """I-06: at rest the cursor on the log has come to the end of the lane."""
    play.universe.seen["I-06"] += 1
    end = play.store.bounds("in", s.number)[1]
    at = s.lease.control.cursor.get(("in", s.number), 0)
    if end and at != end:
        raise Wrong("I-06", f"at rest the cursor of partition {s.number} says {at}, its lane ends at {end}")


def _tampered(play: Play, records: list[Record]) -> None:
    """I-02: a fold over a log with one version twice, or one left out, stops and says so."""
    mine = (r for r in reversed(records) if r.value is not None and INSTANCE in r.headers)
    last = next(mine, None)
    if last is None:
        return
    version = int(dict(last.headers)["cp-version"])
    for number in (version, version + 2):
        judge = Fold()
        judge.known[last.key] = version
        judge.epoch = 0
        headers = tuple(
            (n, b"%d" % number if n == "cp-version" else v) for n, v in last.headers if n != "cp-cause"
        )
        if judge.judge(last._replace(headers=headers)) is not Verdict.STOP:
            raise Wrong(
                "I-02", f"a fold took version {number} of {last.key.decode()} after version {version}"
            )


def _dead(play: Play) -> None:
    """I-39, I-09: dead letters are what was sent, bit for bit; what strangers sent is among them."""
    seen, store = play.universe.seen, play.store
    found: set[tuple[str, int, int]] = set()
    ids: set[str] = set()
    for shelf in store.lanes[f"{play.load.definition.namespace}.dlq"]:
        for record in shelf.records:
            seen["I-39"] += 1
            headers = dict(record.headers)
            topic = headers["cp-dlq-topic"].decode()
            place = topic, int(headers["cp-dlq-partition"]), int(headers["cp-dlq-offset"])
            play.universe.sometimes["a dead letter came twice"] += place in found
            found.add(place)
            if place[2] < 0:  # a message that its destination refused: it was never stored
                continue
            first = store.shelf(topic, place[1])
            index = first.index(place[2])
            if index < len(first.records) and first.records[index].offset == place[2]:
                original = first.records[index]
                kept = [h for h in record.headers if not h[0].startswith("cp-dlq-")]
                more = [h for h in original.headers if h not in kept and not h[0].startswith("cp-source")]
                if (original.value or b"") != (record.value or b"") or more:
                    raise Wrong("I-39", f"the dead letter of {place} is not what was sent: {more}")
            ids.add(headers.get("ce_id", b"").decode(errors="replace"))
    for ident in play.mutated:
        seen["I-24"] += 1
        if ident not in ids:
            raise Wrong("I-24", f"other bytes came under the id {ident}, and nobody was told")
    for place in play.worries.strangers:
        seen["I-09"] += 1
        if place not in found:
            raise Wrong("I-09", f"what a stranger wrote at {place} is not among the dead letters")


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
    _pivoted(play, instance, effects)
    undos = ledger.undos.get(instance)
    if undos and load.sequential and len(undos) > 1:
        seen["I-27"] += 1
        orders = [visit_of(ident) for ident in undos]
        if orders != sorted(orders, reverse=True):
            raise Wrong("I-27", f"{instance} took back in the order {undos}")


def _pivoted(play: Play, instance: str, effects: list[Effect]) -> None:
    """I-30: after the point of no return nothing is taken back."""
    beyond = [e for e in effects if e.name in play.load.after_pivot]
    for effect in effects if beyond else ():
        play.universe.seen["I-30"] += 1
        if effect.undone:
            raise Wrong(
                "I-30", f"{effect.id} was taken back: {beyond[0].id} is beyond the point of no return"
            )


def visit_of(key: str) -> int:
    """The version that issued an operation, from its idempotency key."""
    return int(key.rpartition("/")[2].partition(".")[0])
