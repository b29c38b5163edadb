"""What all fuzz targets share: so many examples in CI, the same each time; with FUZZ_TIME fresh ones for so many seconds.

`damaged` turns good bytes into bad ones; `within_bounds` holds a decoder to its time and memory.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

TIME_S = float(os.environ.get("FUZZ_TIME", "0"))
"""Seconds for each target; 0: the short form."""
DECODE_MS = 10
BASE = 64 << 10
"""Bytes that any decoder may take, however small its input."""
TIMES = 10
"""Bytes that it may take for each byte of input."""
_CHECKS = (
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
)
_PHASES = (Phase.explicit, Phase.generate, Phase.target, Phase.shrink)


def fuzz(
    examples: int, *strategies: Any, **named: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test over drawn values. examples: how many in the short form, drawn from the same seed each time."""

    def wrap(test: Callable[..., None]) -> Callable[..., None]:
        long = TIME_S > 0
        chosen: Any = settings(
            max_examples=max(examples, 500) if long else examples,
            derandomize=not long,
            database=None,
            deadline=None,
            print_blob=True,
            phases=_PHASES,
            suppress_health_check=_CHECKS,
        )
        drawn: Any = given(*strategies, **named)
        held: Callable[[], None] = chosen(drawn(test))

        def target() -> None:
            until = time.monotonic() + TIME_S
            held()
            while time.monotonic() < until:
                held()

        target.__name__ = test.__name__
        target.__doc__ = test.__doc__
        target.__module__ = test.__module__
        return target

    return wrap


def damaged(seeds: Sequence[bytes], *, edits: int = 4) -> st.SearchStrategy[bytes]:
    """One of the seeds after a few edits; now and then it stays whole, or is something else altogether."""
    return st.one_of(
        st.builds(_edited, st.sampled_from(seeds), st.lists(_EDIT, min_size=0, max_size=edits)),
        st.builds(_spliced, st.sampled_from(seeds), st.sampled_from(seeds), st.integers(0, 999)),
        st.builds(_headed, st.sampled_from(seeds), st.binary(max_size=200)),
    )


_EDIT = st.tuples(
    st.sampled_from(("flip", "set", "cut", "drop", "double", "insert", "number")),
    st.integers(0, 9999),
    st.binary(min_size=1, max_size=8),
)
"""What, where in ten thousandths, with what."""
_NUMBERS = (
    b"\xff" * 9 + b"\x01",
    b"\xfe\xff\xff\xff\x0f",
    b"\x80\x80\x04",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
)


def _edited(seed: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    data = bytearray(seed)
    for what, where, with_ in edits:
        at = where * len(data) // 10_000
        match what:
            case "flip" if data:
                data[at] ^= 1 << (with_[0] & 7)
            case "set":
                data[at : at + len(with_)] = with_
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + with_[0]]
            case "double":
                data[at:at] = data[at : at + with_[0]]
            case "insert":
                data[at:at] = with_
            case _:
                data[at : at + 1] = _NUMBERS[with_[0] & 3]
    return bytes(data)


def _headed(seed: bytes, tail: bytes) -> bytes:
    return seed[:10] + tail


def _spliced(left: bytes, right: bytes, where: int) -> bytes:
    return left[: where * len(left) // 1000] + right[where * len(right) // 1000 :]


def in_time(act: Callable[[], Any]) -> Any:
    """What `act` gives. It is held to its time; where the machine was busy it may try again."""
    spent: list[float] = []
    for _ in range(3):
        began = time.thread_time()
        found = act()
        spent.append((time.thread_time() - began) * 1000)
        if spent[-1] < DECODE_MS:
            return found
    raise AssertionError(f"it took {min(spent):.1f} ms, {DECODE_MS} are allowed")


def peak_of(act: Callable[[], Any]) -> int:
    """Bytes of Python's memory that `act` took at its worst."""
    act()  # what is made once is not counted
    tracemalloc.start()
    try:
        found = act()
        peak = tracemalloc.get_traced_memory()[1]
        del found
    finally:
        tracemalloc.stop()
    return peak
