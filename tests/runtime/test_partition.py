"""What a partition decides, without a loop: batches, aborts, order of one take, bounds of memory."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from contrapas.core.control import new_control
from contrapas.core.envelope_item import decode_item, encode_item, head_of, owner_bytes, renumbered
from contrapas.core.lane import Commit, Record
from contrapas.core.rendezvous import Rendezvous
from contrapas.core.transition import transition
from contrapas.core.world import Input
from contrapas.log.memory import MemoryLog
from contrapas.runtime import heal, processor
from contrapas.runtime.batch import Batch, Duties
from contrapas.runtime.careful import Care
from contrapas.runtime.doors import event_draft, plain_draft, value_of
from contrapas.runtime.partition import Partition
from contrapas.runtime.worker import setting_of
from tests.runtime.machines import Began, Go, definition_of, world_of

WORLD = world_of()
NOW = 1_000


class Stage:
    """One partition, its inputs and its commits, by hand."""

    def __init__(self, *, fence: Any = "refuse") -> None:
        log = MemoryLog("t", 1, fence=fence)
        self.setting = setting_of(log, definition_of(), WORLD, writer="w")
        self.p = Partition(0, self.setting, epoch=1, control=new_control(1))
        self.p.release_at = 0
        self.offset = 0
        self.log_end = 0

    def feed(
        self, kind: str, to: str, event: Any = None, *, at: int = 0, ident: str = "", verb: str = ""
    ) -> Record:
        key = to.partition("/")[2]
        if event is None:
            d = plain_draft(
                self.setting, kind, to, {"verb": verb}, event_id=ident or str(self.offset), reply_to="memory"
            )
        else:
            cls: type = event.__class__
            message = WORLD.types.message_of(cls)
            d = event_draft(
                self.setting,
                message,
                value_of(message, event),
                kind=kind,
                key=key,
                to=to,
                event_id=ident or f"id{self.offset}",
                at=0,
                reply_to="memory",
            )
        record = Record(0, self.offset, d.key, d.value, d.headers, at)
        self.offset += 1
        self.p.feed([record], self.offset)
        return record

    def decide(self, now: int = NOW) -> Batch:
        return processor.decide(self.p, now, lambda: 0.0)

    def commit(self, batch: Batch) -> Duties:
        first = self.log_end
        self.log_end += len(batch.log)
        control = self.p.next_control(batch)
        return self.p.committed(batch, Commit(first, self.log_end - 1, NOW, True), control)

    def go(self, now: int = NOW) -> Duties:
        return self.commit(self.decide(now))


def _result(call: Any, value: str = "1") -> Input:
    from contrapas.core.envelope import Cause

    cause = Cause(kind="result", type=call.step, source="local", id=call.key)
    return Input(
        cause=cause, instance=call.instance, at=0, body=value, in_reply_to=call.key, attempt=call.attempt
    )


def test_a_start_gives_its_first_step_and_tells_the_door_only_after_the_commit() -> None:
    stage = Stage()
    stage.feed("start", "seq/a", Began(id="a", n=2))
    batch = stage.decide()
    assert [d.key for d in batch.log] == [b"seq/a"]
    duties = stage.commit(batch)
    assert [c.step for c in duties.steps] == ["one"]
    assert [(a.verdict, a.id) for a in duties.answers] == [("applied", "id0")]


def test_an_abort_puts_bytes_inputs_results_and_timers_back() -> None:
    stage = Stage()
    stage.feed("start", "seq/a", Began(id="a", n=2))
    stage.feed("start", "pay/b", Began(id="b", n=2))
    (call,) = stage.go().steps
    before = dict(stage.p.entries)
    stage.p.results.append(_result(call))
    stage.feed("start", "seq/c", Began(id="c", n=1))
    stage.p.complete_until = 10**9
    batch = stage.decide(NOW + 40_000)
    assert len(batch.log) == 3
    stage.p.abort(batch)
    assert stage.p.entries == before
    again = stage.decide(NOW + 40_000)
    assert [(d.key, d.value) for d in again.log] == [(d.key, d.value) for d in batch.log]


def test_the_control_record_speaks_of_commits_that_have_returned() -> None:
    stage = Stage()
    stage.feed("start", "seq/a", Began(id="a", n=1))
    batch = stage.decide()
    assert stage.p.next_control(batch).cursor == {}
    stage.commit(batch)
    assert stage.p.next_control(None).cursor == {("in", 0): 1}
    assert stage.p.behind()


def test_positions_wait_for_messages_that_have_not_left() -> None:
    stage = Stage(fence="order")
    stage.feed("start", "pay/a", Began(id="a", n=1))
    duties = stage.go()
    assert [d.to for d in duties.out] == ["pay.commands"]
    assert not stage.p.published("pay/a")
    assert stage.p.next_control(None).cursor == {} and stage.p.relayed == 0
    stage.p.left()
    assert stage.p.published("pay/a")
    assert stage.p.next_control(None).cursor == {("in", 0): 1} and stage.p.relayed == 1


def test_what_was_known_behind_messages_that_have_not_left_counts_once_they_have() -> None:
    """Else the cursor of a partition that falls quiet then stays behind, and retention overtakes it one day."""
    stage = Stage(fence="order")
    record = stage.feed("start", "pay/a", Began(id="a", n=1))
    stage.go()
    stage.p.feed([record._replace(offset=1)], 2)
    batch = stage.decide()
    assert batch.empty
    stage.p.passed(batch)
    assert stage.p.next_control(None).cursor == {}
    stage.p.left()
    assert stage.p.next_control(None).cursor == {("in", 0): 2} and stage.p.relayed == 1


def test_a_message_that_has_not_left_rides_in_the_next_record() -> None:
    stage = Stage(fence="order")
    stage.feed("start", "pay/a", Began(id="a", n=1))
    stage.go()
    stage.feed("operate", "pay/a", verb="pause")
    stage.go()
    record = stage.p.load("pay/a")
    assert record is not None and [m.to for m in record.unsent] == ["pay.commands"]


def test_results_come_first_then_inputs_and_timers_by_log_time() -> None:
    stage = Stage()
    for key in "ab":
        stage.feed("start", f"pay/{key}", Began(id=key, n=1))
    stage.feed("start", "seq/c", Began(id="c", n=3))
    (call,) = stage.go().steps
    stage.p.results.append(_result(call))
    early = stage.feed("operate", "pay/a", verb="pause", at=NOW + 29_999)
    late = stage.feed("operate", "pay/b", verb="pause", at=NOW + 30_001)
    batch = stage.decide(NOW + 31_000)
    assert [(d.key, dict(d.headers)["cp-status"]) for d in batch.log] == [
        (b"seq/c", b"running"),
        (b"pay/a", b"paused"),
        (b"pay/b", b"failed"),
    ]
    assert [a.verdict for a in batch.answers] == ["applied", "refused"]
    assert [w for w in batch.taken if isinstance(w, Record)] == [early, late]


def test_a_timer_waits_until_the_lane_is_known_to_hold_nothing_earlier() -> None:
    stage = Stage()
    stage.feed("start", "pay/a", Began(id="a", n=1))
    stage.go()
    now = NOW + 31_000
    assert not stage.p.ready(now) and stage.p.must_confirm(now)
    stage.p.complete_until = now
    assert stage.p.ready(now)
    stage.p.release_at = 5
    assert not stage.p.ready(now)


def test_a_batch_ends_at_500_transitions_and_the_rest_waits() -> None:
    stage = Stage()
    for i in range(600):
        stage.feed("start", f"wait/k{i}", Began(id=f"k{i}", n=1))
    assert len(stage.decide().log) == 500
    assert len(stage.p.inputs) == 100


def test_a_batch_ends_after_20_ms() -> None:
    stage = Stage()
    for i in range(10):
        stage.feed("start", f"wait/k{i}", Began(id=f"k{i}", n=1))
    clock = iter(range(0, 1000, 8))
    batch = processor.decide(stage.p, NOW, lambda: float(next(clock)))
    assert len(batch.log) == 3


def test_an_input_read_twice_writes_nothing_and_answers_again() -> None:
    stage = Stage()
    record = stage.feed("start", "wait/a", Began(id="a", n=1))
    stage.go()
    stage.p.feed([record], stage.offset)
    batch = stage.decide()
    assert batch.empty and stage.p.counts.duplicates == 1
    assert [a.verdict for a in stage.p.passed(batch).answers] == ["duplicate"]


def test_the_census_counts_every_input_once() -> None:
    stage = Stage()
    stage.feed("start", "wait/a", Began(id="a", n=1))
    stage.feed("start", "wait/a", Began(id="a", n=1))
    stage.feed("start", "wait/a", Began(id="a", n=2))
    stage.feed("signal", "wait/a", Go(id="a"))
    stage.feed("signal", "wait/a", Go(id="a"))
    stage.feed("signal", "wait/zz", Go(id="zz"))
    stage.feed("operate", "wait/nobody", verb="cancel")
    stage.p.feed([Record(0, 90, b"x", b"junk", (), 0)], 91)
    stage.go()
    c = stage.p.counts
    ends = c.applied + c.kept + c.noop + c.duplicates + c.early + c.dead + c.ignored + c.parked
    assert (c.inputs, ends) == (8, 8)
    assert (c.applied, c.duplicates, c.dead, c.noop, c.early, c.ignored) == (2, 1, 2, 1, 1, 1)


def test_a_look_sees_only_what_is_committed() -> None:
    stage = Stage()
    stage.feed("start", "wait/a", Began(id="a", n=1))
    batch = stage.decide()
    assert stage.p.committed_record("wait/a") is None
    stage.commit(batch)
    assert stage.p.committed_record("wait/a") is not None


def test_a_waiting_instance_costs_less_than_two_kib() -> None:
    stage = Stage()
    count = 2_000
    for i in range(count):
        stage.feed("start", f"wait/order-{i:08}", Began(id=f"order-{i:08}", n=1))
    while stage.p.inputs:
        stage.go()
    entries = stage.p.entries
    size = sys.getsizeof(entries) + sum(
        sys.getsizeof(k) + sys.getsizeof(e) + sys.getsizeof(e.value) + 64 for k, e in entries.items()
    )
    assert size / count < 2_048


def test_a_broken_transition_takes_the_whole_batch_back(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    stage.feed("start", "wait/a", Began(id="a", n=1))
    stage.feed("start", "wait/b", Began(id="b", n=1))

    def broken(record: Any, event: Input, world: Any) -> Any:
        if event.instance == "wait/b":
            raise MemoryError
        return transition(record, event, world)

    monkeypatch.setattr("contrapas.runtime.apply.transition", broken)
    with pytest.raises(MemoryError):
        stage.decide()
    assert stage.p.entries == {} and len(stage.p.inputs) == 2


def test_what_follows_a_healed_rendezvous_follows_the_heal() -> None:
    """The heal's version is in the body too: the next record is counted from there, or the fold would pass over it."""
    stage = Stage(fence="order")
    batch = stage.p.open(NOW)
    stage.p.write_wait(batch, Rendezvous(type="Go", value="a"))
    key = batch.log[0].key.decode()
    stage.commit(batch)
    heal.owe(stage.p, key.encode(), 1)
    (owed,) = stage.p.heal.values()
    assert dict(owed.headers)["cp-version"] == b"2"
    after = stage.p.open(NOW)
    meeting = stage.p.load_wait(key)
    assert meeting is not None
    stage.p.write_wait(after, meeting)
    assert [dict(d.headers)["cp-version"] for d in after.log] == [b"2", b"3"]


def test_a_healed_item_says_its_version_in_its_body() -> None:
    head = head_of("m/a", "m/a/1/map/2", "map", "one")
    value = encode_item(head, 3, 1, owner_bytes(1, "w", NOW), "done", 1, 4, "7", "", None)
    item = decode_item(renumbered(value, 5, 9, "x"))
    assert (item.version, item.epoch, item.writer, item.position, item.text) == (5, 9, "x", 3, "7")


def test_no_timer_wakes_a_partition_that_is_careful_with_a_step_in_hand_or_draining() -> None:
    stage = Stage()
    stage.feed("start", "pay/a", Began(id="a", n=1))
    stage.go()
    assert stage.p.wakes_at() == stage.p.next_timer() is not None
    stage.p.care = Care("", 0)
    stage.p.care.in_hand = "seq/b/1/one/1"
    assert stage.p.wakes_at() is None
    stage.p.care = None
    stage.p.draining = True
    assert stage.p.wakes_at() is None


def test_a_timer_that_moves_at_every_turn_leaves_no_heap_behind() -> None:
    stage = Stage()
    for key in "ab":
        stage.feed("start", f"pay/{key}", Began(id=key, n=1))
    stage.go()
    for turn in range(10_000):
        stage.p.postpone("pay/a", NOW + 40_000 + turn)
        stage.go()
    assert len(stage.p.timers) < 2_000
    assert stage.p.next_timer() == NOW + 30_000
    stage.p.postpone("pay/b", NOW + 10**9)
    assert stage.p.next_timer() == NOW + 40_000 + 9_999


def test_timers_that_stand_twice_in_the_heap_are_one_when_it_is_made_anew() -> None:
    stage = Stage()
    stage.feed("start", "pay/a", Began(id="a", n=1))
    stage.go()
    for _ in range(5_000):
        stage.p.timers.add(NOW + 30_000, "pay/a")
    stage.p.timers.tidy()
    assert len(stage.p.timers) == 1 and stage.p.next_timer() == NOW + 30_000


def test_entries_at_rest_are_nothing_for_the_garbage_collector() -> None:
    stage = Stage()
    for i in range(50):
        stage.feed("start", f"pay/{i}", Began(id=f"{i}", n=1))
    stage.go()
    gc.collect()
    for holder in (vars_of(stage.p.entries, "_held"), vars_of(stage.p.timers, "_heap")):
        held: list[Any] = [h for h in gc.get_referents(holder) if type(h) is tuple]
        assert len(held) == 50 and not any(gc.is_tracked(h) for h in held)


def vars_of(thing: object, name: str) -> Any:
    """What is behind the door."""
    return getattr(thing, name)


def test_a_position_passes_what_is_no_record_once_all_before_it_is_decided() -> None:
    stage = Stage()
    stage.p.release_at = 3  # the lane's end at the takeover, behind the marker of somebody's transaction
    stage.feed("start", "seq/a", Began(id="a", n=1))
    stage.p.skip(3)
    assert stage.p.timers_held and stage.p.position == 0, "what was read is not decided"
    stage.go()
    assert not stage.p.timers_held
    assert stage.p.next_control(None).cursor == {("in", 0): 3}
    stage.p.skip(5)
    assert (stage.p.position, stage.p.fetched) == (5, 5)
    assert stage.p.behind(), "the cursor comes level when there is time"


def test_a_position_that_passes_markers_does_not_pass_messages_that_have_not_left() -> None:
    stage = Stage(fence="order")
    stage.feed("start", "pay/a", Began(id="a", n=1))
    stage.go()
    stage.p.skip(2)
    assert stage.p.position == 2 and stage.p.next_control(None).cursor == {}
    stage.p.left()
    assert stage.p.next_control(None).cursor == {("in", 0): 2}
