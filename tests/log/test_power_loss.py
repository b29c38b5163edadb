"""R-11, short: the states that a power loss can leave of a log's files; the long form is a command in `power.py`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.log import power
from tests.log.power import Act, applied


def test_r11_every_state_a_power_loss_can_leave_has_all_that_was_acknowledged_and_nothing_half(
    tmp_path: Path,
) -> None:
    shim = power.recorder(tmp_path)
    if shim is None:
        pytest.skip("no C compiler: the layer between SQLite and the disk cannot be built")
    opened, wrong = power.searched(shim, commits=12, states=200, seed=1)
    if not opened:
        pytest.skip("this Python's SQLite is linked in, its calls cannot be watched")
    assert wrong == []
    assert opened > 100


def test_r11_a_log_that_acknowledges_before_its_sync_would_be_found(tmp_path: Path) -> None:
    """The checker itself: without the last syncs, what was acknowledged is missing."""
    shim = power.recorder(tmp_path)
    done = power.recorded(shim, tmp_path, 6) if shim else []
    if not any(one.kind == "s" for one in done):
        pytest.skip("the calls of SQLite cannot be watched here")
    first = next(n for n, one in enumerate(done) if one.kind == "a" and one.data.startswith(b"ack 1 "))
    lying = [one for n, one in enumerate(done) if one.kind != "s" or n < first]
    wrong = [power.fault(loss, tmp_path / "after") for loss in power.losses(lying, random.Random(1), 60)]
    assert any("was acknowledged" in bad or "it does not" in bad for bad in wrong)


def test_writes_and_cuts_are_applied_as_a_disk_does() -> None:
    done = [Act("w", "f", 2, b"ab"), Act("t", "f", 3, b""), Act("w", "f", 5, b"z")]
    assert applied(b"", done) == b"\0\0a\0\0z"
