"""Wrong ones of what fences by order and heals: patches that `planted` puts in place of the right ones."""

from __future__ import annotations

from typing import Any

from contrapas.core.lane import Commit
from contrapas.errors import Fenced


def not_read_back(right: Any) -> Any:
    def check(self: Any, claim: Any) -> Any:
        claim.end = claim.offset
        return right(self, claim)

    return check


def tie(right: Any) -> Any:
    def check(self: Any, claim: Any) -> Any:
        epoch, claim.epoch = claim.epoch, claim.epoch + 1
        try:
            hold = right(self, claim)
        finally:
            claim.epoch = epoch
        hold.epoch = epoch
        return hold

    return check


def not_compared(right: Any) -> Any:
    def commit(self: Any, hold: Any, log: Any, control: Any, fault: str) -> Any:
        hold.expected = self.lanes["log"][hold.partition].end
        try:
            return right(self, hold, log, control, fault)
        except Fenced:
            end = self.lanes["log"][hold.partition].end
            return Commit(end - len(log) - 1, end - 1, self.clock(), True)

    return commit


def none_lost(right: Any) -> Any:
    def lose(p: Any, records: Any) -> list[str]:
        return []

    return lose


def looked_away(right: Any) -> Any:
    async def look(s: Any) -> None:
        s.stood((await s.lease.look())[:0])

    return look
