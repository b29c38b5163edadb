"""The short form of the race on a real broker, and that its judge sees what is planted. The long form is `kafka_races.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from contrapas.core.lane import Record
from tests.kafka import StartKafka
from tests.scenarios.kafka_races import race
from tests.scenarios.races_witness import CLAIM, Effects, Witness, Witnesses, equal, missing
from tests.scenarios.racing import WRITER
from tests.scenarios.telling import Line


def record(
    offset: int, writer: bytes, epoch: int, key: bytes, value: bytes | None = b"v", version: int = 1
) -> Record:
    headers = {"cp-epoch": b"%d" % epoch, "cp-version": b"%d" % version, WRITER: writer}
    return Record(0, offset, key, value, tuple(headers.items()), 1)


LANE = (
    record(0, b"a", 0, CLAIM + b"a", b""),
    record(1, b"a", 0, b"k", b"one"),
    record(2, b"b", 2, CLAIM + b"b", b""),
    record(3, b"a", 0, b"k", b"late", 2),
    record(4, b"c", 2, CLAIM + b"c", b""),
    record(5, b"b", 2, b"l", b"two"),
)


def seen(lane: Sequence[Record] = LANE) -> Witness:
    w = Witness()
    for one in lane:
        if not one.key.startswith(CLAIM):
            one = one._replace(headers=(*one.headers, ("cp-kind", b"rendezvous")))
        w.see(one)
    return w


def test_the_witness_knows_the_writers_and_needs_no_epoch_but_a_claims() -> None:
    w = seen()
    assert [*w.counted] == [1, 1, 1, 0, 0, 1] and set(w.states) == {b"k", b"l"}
    assert (w.saw["claims"], w.saw["equal"], w.saw["late"]) == (3, 1, 1)
    lying = seen(
        [r._replace(headers=(("cp-epoch", b"9"), (WRITER, b"a"))) if r.offset == 3 else r for r in LANE]
    )
    assert lying.states == w.states and lying.plain.states != w.states
    assert any("a plain consumer differs" in one for one in equal([lying], [[]]))


def test_the_judge_rejects_a_hole_an_effect_without_a_record_and_a_commit_that_is_void() -> None:
    w = seen(LANE[2:])
    assert w.missed == 2 and any("were not seen" in one for one in equal([w], [[]]))
    effects = Effects([Line(0.0, 1, "committed", 0, 0, [3, 3, 1])], {"s/k/0/a/1"}, {"s/k@1#0"})
    assert len(missing([seen()], effects)) == 3
    assert not missing([seen()], Effects([Line(0.0, 1, "committed", 0, 0, [0, 1, 1])]))


@pytest.mark.slow
async def test_owners_race_on_a_real_broker_and_what_is_left_is_what_counted(
    tmp_path: Path, own_kafka: StartKafka
) -> None:
    tried: list[str] = []

    def plant(witnesses: Witnesses, left: list[list[Record]], effects: Effects) -> None:
        """The same judge, shown a bad end of the same race."""
        for n, w in enumerate(witnesses.of):
            newest = {r.key: r for r in left[n]}
            for key in [key for key in w.states if key in newest][:1]:
                lost = [*left[:n], [r for r in left[n] if r is not newest[key]], *left[n + 1 :]]
                assert equal(witnesses.of, lost), "a record is gone"
                tried.append("gone")
            void = next((r for r in left[n] if not w.counted[r.offset] and not r.key.startswith(b"$")), None)
            if void is not None and void.value is not None:
                on_top = [*left[n], void._replace(offset=w.next, headers=newest[b"$part"].headers)]
                assert equal(witnesses.of, [*left[:n], on_top, *left[n + 1 :]]), "a loser has won"
                tried.append("loser")
            if 0 in w.counted:
                line = Line(0.0, 1, "committed", n, 0, [w.counted.index(0)] * 2)
                assert missing(witnesses.of, Effects([line], effects.steps, effects.messages))
                tried.append("void")
        assert missing(witnesses.of, Effects([], {*effects.steps, "transfer/t0/0/a/9"}, set()))
        assert missing(witnesses.of, Effects([], set(), {*effects.messages, "transfer/t0@99#0"}))
        assert effects.committed and effects.steps and effects.messages

    verdict = await race(tmp_path, own_kafka(), 0, 7, workers=2, rounds=4, pause=(0.1, 0.4), after=plant)
    print(verdict)
    assert verdict.exact, verdict
    assert verdict.told["fenced"] > 0 and verdict.saw["late"] > 0 and verdict.saw["claims"] > 10, verdict
    assert verdict.left < verdict.seen, "the cleaner was there"
    assert {"gone", "void"} <= set(tried)
