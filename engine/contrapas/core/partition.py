"""Which partition a key lives on: murmur2 as the Java client applies it, the same for ever, in every language."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

ITEM: Final = "↳"
"""Before it stands the key of an instance, behind it which item of a map of it; items live where their instance does."""
_ITEM: Final = ITEM.encode()

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Signed 32-bit murmur2 of `data` with Kafka's seed. Source: Kafka's Utils.murmur2; vectors in the tests."""
    length = len(data)
    h = (0x9747B28C ^ length) & _MASK
    tail = length & ~3
    for i in range(0, tail, 4):
        k = int.from_bytes(data[i : i + 4], "little")
        k = (k * _M) & _MASK
        k ^= k >> 24
        k = (k * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    rest = length & 3
    if rest == 3:
        h ^= data[tail + 2] << 16
    if rest >= 2:
        h ^= data[tail + 1] << 8
    if rest >= 1:
        h ^= data[tail]
        h = (h * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    h ^= h >> 15
    return h - 0x100000000 if h & 0x80000000 else h


@lru_cache(maxsize=65536)
def partition(key: bytes, count: int) -> int:
    """Partition of a key; the same for ever.

    key: UTF-8, 1 to 200 bytes, the saga's key; of an item of a map what stands before `ITEM` counts. count: as recorded
    when the lane was created, at least 1. Gives 0 … count - 1. Raises nothing.
    """
    return (murmur2(key.partition(_ITEM)[0]) & 0x7FFFFFFF) % count


def home_of(instance: str) -> str:
    """The instance whose item this one is; empty: it is none."""
    key, sign, item = instance.partition("/")[2].rpartition(ITEM)
    return f"{item.partition('/')[0]}/{key}" if sign else ""
