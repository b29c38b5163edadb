"""Numbers and words as Avro writes them; those that recur are encoded once."""

from __future__ import annotations

from typing import Final

_KEPT_MAX: Final = 20_000
BOOL: Final = (b"\x00", b"\x01")
NONE: Final = b"\x00"
SOME: Final = b"\x02"
EMPTY: Final = b"\x00"


def varint(n: int) -> bytes:
    """A zigzag number."""
    n = (n << 1) ^ (n >> 63)
    if 127 < n < 1 << 14:
        return bytes((n & 127 | 128, n >> 7))
    if 127 < n < 1 << 21:
        return bytes((n & 127 | 128, n >> 7 & 127 | 128, n >> 14))
    out = bytearray()
    while n > 127:
        out.append((n & 127) | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


LONG: Final = {n: varint(n) for n in range(-1, 512)}
"""Numbers that recur (lengths, versions, counts), encoded once."""
WORD: Final[dict[str, bytes]] = {}
"""Words of ours that recur (labels, kinds, names of types and slots), encoded once."""
TIMES: Final[dict[int, bytes]] = {}
FOREIGN: Final[dict[str, bytes]] = {}
"""Words of others that recur: names of headers and sources."""


def learn(unknown: object) -> None:
    """Take in a number or word that `encode` did not find. KeyError where it was there: that is no miss but a defect."""
    if isinstance(unknown, int) and unknown not in LONG:
        if len(LONG) >= _KEPT_MAX:
            LONG.clear()
        LONG[unknown] = varint(unknown)
    elif isinstance(unknown, str) and unknown not in WORD:
        if len(WORD) >= _KEPT_MAX:
            WORD.clear()
        WORD[unknown] = text(unknown)
    else:
        raise KeyError(unknown)


def long(n: int) -> bytes:
    """A number that may be large or new each time."""
    return LONG.get(n) or varint(n)


def time(ms: int) -> bytes:
    """A moment: the transitions of one batch share theirs."""
    found = TIMES.get(ms)
    if found is None:
        if len(TIMES) >= 64:
            TIMES.clear()
        found = TIMES[ms] = varint(ms)
    return found


def maybe(n: int | None) -> bytes:
    """A number or null."""
    return NONE if n is None else SOME + long(n)


def raw(value: bytes) -> bytes:
    """Bytes with their length."""
    return long(len(value)) + value


def text(value: str) -> bytes:
    """UTF-8 with its length."""
    if not value:
        return EMPTY
    data = value.encode()
    return long(len(data)) + data


def foreign(word: str) -> bytes:
    """A word of others; there is no end to them."""
    found = FOREIGN.get(word)
    if found is None:
        if len(FOREIGN) >= _KEPT_MAX:
            FOREIGN.clear()
        found = FOREIGN[word] = text(word)
    return found
