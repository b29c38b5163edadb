"""Events meet waits: whichever comes second triggers the delivery, and nothing is lost on the way."""

from __future__ import annotations

from contrapas.core import rendezvous as rv
from contrapas.core.envelope import Cause
from contrapas.core.envelope_rendezvous import decode, encode
from contrapas.core.rendezvous import Bound, Deliver, Rendezvous


def _meeting() -> Rendezvous:
    return Rendezvous(type="Go", value="v")


def _event(r: Rendezvous, ident: str = "1", offset: int = 0, value: bytes = b"{}", at: int = 0) -> rv.Meeting:
    cause = Cause(kind="event", type="Go", source="in", id=ident, partition=0, offset=offset, value=value)
    return rv.event_arrives(r, cause, identity=f"/x\0{ident}", position="in/0", at=at)


def _bind(r: Rendezvous, wait: str = "w1", instance: str = "s/a", at: int = 0) -> rv.Meeting:
    return rv.bind(r, wait_id=wait, instance=instance, at=at)


def test_an_event_that_came_first_waits_and_is_delivered_to_the_bind() -> None:
    r = _meeting()
    assert _event(r).verdict == "parked"
    done = _bind(r)
    assert [type(d) for d in done.duties] == [Bound, Deliver]


def test_a_bind_that_came_first_gets_the_event() -> None:
    r = _meeting()
    _bind(r)
    done = _event(r)
    assert done.verdict == "delivering" and isinstance(done.duties[0], Deliver)


def test_an_applied_delivery_is_forgotten_and_the_event_stays_known() -> None:
    r = _meeting()
    _bind(r)
    _event(r)
    assert rv.delivered(r, wait_id="w1", outcome="applied", at=1).changed
    assert r.empty
    assert _event(r).verdict == "duplicate"
    assert not rv.delivered(r, wait_id="w1", outcome="applied", at=1).changed


def test_a_refused_delivery_is_early_again_with_its_time_running_on() -> None:
    r = _meeting()
    _event(r, at=5)
    until = r.early[0].until
    _bind(r)
    rv.delivered(r, wait_id="w1", outcome="refused", at=9)
    assert [e.until for e in rv.waiting(r)] == [until] and not r.binds
    assert isinstance(_bind(r, "w2").duties[1], Deliver)


def test_an_unbind_frees_what_was_under_delivery() -> None:
    r = _meeting()
    _bind(r)
    _event(r)
    done = rv.unbind(r, wait_id="w1", instance="s/a", at=1)
    assert done.duties[0] == Bound("s/a", "w1", "gone") and len(rv.waiting(r)) == 1
    assert not rv.unbind(r, wait_id="w1", instance="s/a", at=1).changed


def test_a_second_instance_is_refused_and_the_first_one_named() -> None:
    r = _meeting()
    _bind(r)
    done = _bind(r, "w2", "s/b")
    assert done.code == "CP848" and isinstance(done.duties[0], Bound) and "s/a" in done.duties[0].reason
    assert not _bind(r).changed


def test_a_delivery_is_sent_again_until_it_is_answered() -> None:
    r = _meeting()
    _bind(r)
    _event(r)
    gaps: list[int] = []
    at = 0
    for _ in range(9):
        at = rv.next_deadline(r)
        assert rv.timer(r, at=at - 1).duties == ()
        assert len(rv.timer(r, at=at).duties) == 1
        gaps.append(rv.next_deadline(r) - at)
    assert gaps[0] == 2_000 and gaps[-1] == 60_000


def test_an_event_nobody_came_for_is_a_dead_letter_at_its_time() -> None:
    r = _meeting()
    _event(r)
    done = rv.timer(r, at=rv.EARLY_TTL_MS)
    assert done.code == "CP414" and len(done.dead) == 1 and r.empty


def test_room_is_bounded_by_count_and_bytes() -> None:
    r = _meeting()
    for i in range(100):
        assert _event(r, str(i), i).verdict == "parked"
    assert _event(r, "x", 1000).code == "CP414"
    r = _meeting()
    assert _event(r, "1", 0, b"x" * 200_000).verdict == "parked"
    assert _event(r, "2", 1, b"x" * 100_000).code == "CP414"


def test_the_same_id_with_other_bytes_is_a_conflict() -> None:
    r = _meeting()
    _event(r, "1", 0)
    assert _event(r, "1", 1, b"{1}").code == "CP412"
    assert _event(r, "2", 0).verdict == "duplicate"


def test_it_comes_back_from_its_bytes() -> None:
    r = _meeting()
    r.version, r.epoch, r.writer = 3, 7, "w"
    _bind(r)
    _event(r, at=11)
    _event(r, "2", 4)
    again = decode(encode(r))
    assert encode(again) == encode(r)
    assert (again.binds, [e.until for e in again.early], again.seen) == (
        r.binds,
        [e.until for e in r.early],
        r.seen,
    )
