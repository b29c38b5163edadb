"""What goes wrong with the world at large: deaths, rebalances, cleaners, damage, other releases, strangers, old messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrapas.errors import ContrapasError

if TYPE_CHECKING:
    from contrapas.testing.simulation.play import Play
    from contrapas.testing.simulation.worker import SimWorker

EVERY_MS = 100
PEOPLE_MS = 1_800_000
ROUNDS = 8
TRIMMED = 0.3
"""Share of cleanings that also remove what the inbound lane has before the cursor."""
CAREFUL_ENDS = 0.1


class Worries:
    """Chance with a bigger hand. It looks after every few commits, so that its rates are per commit."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.u = play.universe
        self._looked = 0
        self._rounds = ROUNDS
        self.strangers: list[tuple[str, int, int]] = []
        """Where on the inbound lane somebody wrote who knows nothing of us."""
        self._damaged: dict[int, list[tuple[int, bytes]]] = {}

    def begin(self) -> None:
        """Start looking."""
        self._next_death()
        self.u.at(EVERY_MS, self._look)

    def heal(self) -> None:
        """The liveness phase begins: whoever stands still goes on, what is damaged is repaired."""
        play = self.play
        play.killer.left = -1
        play.store.faults.sick.clear()
        for worker in play.workers:
            worker.paused_until = 0
        for number in list(self._damaged):
            self._restore(number)
        play.group.deal()
        self._restart()
        self._rounds = ROUNDS
        self.u.at(PEOPLE_MS, self._people)

    def _people(self) -> None:
        """Somebody looks at what is parked, and tries again."""
        play = self.play
        self._rounds -= 1
        again = False
        for shadow in play.watch.shadows:
            for key, counted in sorted(shadow.keys.items()):
                if counted.status == b"parked" or counted.status == b"paused":
                    again = True
                    self.u.sometimes["instance redriven"] += 1
                    play.operate(key.decode(), "retry" if counted.status == b"parked" else "resume", 0)
        if again and self._rounds:
            self.u.at(PEOPLE_MS, self._people)

    def _next_death(self) -> None:
        rates, killer, chance = self.u.rates, self.play.killer, self.u.chance
        if not rates.crash:
            return
        each = (killer.passed + 100) / (self.u.transitions + 25)  # places that a transition passes
        killer.left = chance.gap(each / rates.crash)
        killer.on_kill = self._kills

    def _kills(self, place: str) -> bool:
        self._next_death()
        if not self.u.chance.strike("crash"):
            return False
        self.u.chance.faults[f"crash: {place}"] += 1
        self.u.note(f"killed at {place}")
        return True

    def _look(self) -> None:
        u = self.u
        if u.chance.calm:
            return
        u.at(EVERY_MS, self._look)
        moved, self._looked = u.transitions - self._looked, u.transitions
        rates, chance = u.rates, u.chance
        self._restart()
        for _ in range(moved):
            if chance.fault("rebalance", rates.rebalance):
                self.play.group.shuffle()
            if chance.fault("compaction", rates.compact):
                self._clean()
            if chance.fault("stale delivery", rates.stale):
                self._repeat()
            if chance.fault("foreign message", rates.foreign):
                self._stranger()
            if chance.fault("corruption", rates.corrupt):
                self._damage()
            if chance.order() < rates.checkpoint:
                self.play.store.disk.keep(chance.below(self.play.store.partitions))
            if chance.fault("release", rates.release):
                self._deploy()

    def _restart(self) -> None:
        """Somebody sees an owner that goes one input at a time, and starts it again in order: the next one does not."""
        for worker in self.play.workers:
            for s in list(worker.all):
                if s.partition.care is not None and (
                    self.u.chance.calm or self.u.chance.order() < CAREFUL_ENDS
                ):
                    s.leave()

    # ---- the log

    def _clean(self) -> None:
        """The cleaner goes over a partition, as its owner or the broker lets it."""
        play = self.play
        store = play.store
        number = self.u.chance.below(store.partitions)
        part = store.parts[number]
        horizon = store.offset_at("log", number, self.u.now - play.options.history_ms)
        if part.hold is not None and not part.hold.gone and self.u.chance.order() < TRIMMED:
            store.trim("in", number, part.hold.control.cursor.get(("in", number), 0))
        if store.fence == "refuse":
            if part.hold is not None and not part.hold.gone:
                store.compact(part.hold, horizon)
            return
        owed = play.watch.shadows[number].topped  # a heal comes within the cleaner's lag, an hour at least
        store.clean(number, horizon, lambda record: record.key not in owed and self.u.chance.order() < 0.7)

    def _repeat(self) -> None:
        """An old stretch of the inbound lane, or of a topic, comes again."""
        store, chance = self.play.store, self.u.chance
        names = sorted(n for n in store.lanes if n not in ("log",) and not n.endswith(".dlq"))
        name = chance.pick(names) if chance.order() < 0.4 else "in"
        number = chance.below(len(store.lanes[name]))
        shelf = store.lanes[name][number]
        if not shelf.records:
            return
        first = chance.below(len(shelf.records))
        for record in shelf.records[first : first + 1 + chance.below(3)]:
            store.append(name, number, record.key, record.value, record.headers)

    def _stranger(self) -> None:
        """Somebody who knows nothing of us writes to the inbound lane."""
        store, chance = self.play.store, self.u.chance
        number = chance.below(store.partitions)
        junk = chance.pick(
            [b"", b"\x00\xff junk", b'{"order_id": 1', b'{"a": NaN}', b"[" * 90 + b"]" * 90, b'{"x": 1}']
        )
        kind = chance.pick([b"event", b"start", b"bogus"])
        headers = (("ce_type", b"Nothing"), ("ce_id", self.play.ident().encode()), ("cp-kind", kind))
        key = f"stranger-{chance.below(1000)}".encode()
        record = store.append("in", number, key, junk, headers)
        self.strangers.append((f"{store.namespace}.in", number, record.offset))

    def _damage(self) -> None:
        """A bit flips in a record of the log lane; the partition changes hands, so that somebody reads it."""
        store, chance = self.play.store, self.u.chance
        number = chance.below(store.partitions)
        shelf = store.lanes["log"][number]
        newest = {
            r.key: i
            for i, r in enumerate(shelf.records)
            if r.value is not None and dict(r.headers).get("cp-kind") == b"instance"
        }
        shadow = self.play.watch.shadows[number]
        standing = sorted(
            i for key, i in newest.items()
            if key in shadow.keys and shadow.keys[key].offset == shelf.records[i].offset
        )  # fmt: skip
        if not standing or number in self._damaged:
            return
        index = chance.pick(standing)
        record = shelf.records[index]
        value = bytearray(record.value or b"")
        value[chance.below(len(value))] ^= 1 << chance.below(8)
        self._damaged.setdefault(number, []).append((record.offset, record.value or b""))
        self.play.watch.damaged[number] = (record.key, record.offset)
        store.swap(number, index, record._replace(value=bytes(value)))
        self.u.note(f"damaged {number}@{record.offset}")
        for worker in list(self.play.workers):
            if number in worker.stations:
                worker.die()

    def repair(self, worker: SimWorker, number: int, why: ContrapasError) -> None:
        """A partition stopped: an operator puts the record back from a backup, and lets it go on."""
        if why.code != "CP520" or number not in self._damaged:
            return
        self.u.sometimes["damaged record found and restored"] += 1
        self.u.at(self.u.chance.below(5_000), lambda: self._repaired(worker, number))

    def _repaired(self, worker: SimWorker, number: int) -> None:
        self._restore(number)
        worker.want(number, 0)

    def _restore(self, number: int) -> None:
        store = self.play.store
        for offset, value in self._damaged.pop(number, []):
            shelf = store.lanes["log"][number]
            index = shelf.index(offset)
            if index < len(shelf.records) and shelf.records[index].offset == offset:
                store.swap(number, index, shelf.records[index]._replace(value=value))
        self.play.watch.damaged.pop(number, None)

    # ---- people

    def _deploy(self) -> None:
        """A worker is replaced by one of another release."""
        play = self.play
        if not play.workers:
            return
        worker = self.u.chance.pick(play.workers)
        other = play.load.other if self.u.chance.order() < 0.5 else None
        play.hire(other)
        self.u.note(f"{worker.name} is stopped for another release")
        play.group.leave(worker)
        worker.assign(())
        play.workers.remove(worker)
