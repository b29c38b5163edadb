"""Compaction where the owner removes what is superseded: in the background, a few milliseconds at a time.

The horizon is the history age, and never above `relayed`: a message that is not known to have left is never removed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from contrapas.errors import LogError
from contrapas.failpoints import NAMES, failpoint
from contrapas.runtime.clock import pause

if TYPE_CHECKING:
    from contrapas.runtime.station import Station

NAMES["sweep.before"] = "superseded records are about to be removed"
EVERY_MS = 60_000
BUDGET_MS = 20
HISTORY_MS = 7 * 86_400_000


async def sweep(s: Station, *, history_ms: int = HISTORY_MS) -> None:
    """Compact this partition now and then, for as long as the station lives."""
    if s.setting.caps.compaction != "owner":
        return
    while True:
        await pause(s.clock, EVERY_MS * (0.5 + s.chance()))
        try:
            horizon = await s.log.offset_at("log", s.number, s.now() - history_ms)
            horizon = min(horizon, s.partition.relayed)
            if horizon > s.lease.control.horizon:
                failpoint("sweep.before")
                await s.lease.compact(horizon, budget_ms=BUDGET_MS)
        except asyncio.CancelledError:
            raise
        except LogError:
            continue
        except BaseException as why:  # noqa: BLE001  a failure here ends the station, whatever it is
            s.fail(why)
            return
