"""Where a key lives: the Java client's murmur2, for ever."""

from __future__ import annotations

import pytest

from contrapas.core.partition import murmur2, partition


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("o-9", 984536358),
    ],
)
def test_murmur2_is_the_one_of_the_java_client(key: str, hashed: int) -> None:
    assert murmur2(key.encode()) == hashed


def test_more_vectors_of_the_java_client_s_own_test() -> None:
    # org.apache.kafka.common.utils.UtilsTest.testMurmur2
    known = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    assert {key: murmur2(key) for key in known} == known


def test_the_sign_is_cut_off_and_not_folded() -> None:
    assert partition(b"o-9", 8) == 6 and partition(b"o-9", 24) == 6
    assert partition(b"foobar", 8) == (-790332482 & 0x7FFFFFFF) % 8


def test_every_length_of_tail_is_hashed() -> None:
    assert len({murmur2(b"abcdefgh"[:n]) for n in range(9)}) == 9


def test_a_changed_count_would_move_most_keys() -> None:
    moved = sum(partition(b"k%d" % n, 8) != partition(b"k%d" % n, 12) for n in range(3000))
    assert 0.6 < moved / 3000 < 0.72
