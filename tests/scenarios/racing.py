"""What a worker of a race does beside its work: its records say under which claim they were written, and it can be greedy.

Greedy means that it takes every partition for its own for a while, whatever the group says: two that believe they own one
are what the fence is for. SIGUSR2 begins it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any, Final

from contrapas.core.lane import Control, Draft
from contrapas.runtime.keeper import Keeper

WRITER: Final = "x-writer"
"""Header of every record of the log lane: the nonce of the claim that its writer had made."""
GREED_S: Final = 1.5
CHECKPOINT_MS: Final = 4_000


def join() -> None:
    """From now on this process races. Within no loop yet."""
    _tag()
    _be_greedy()
    Keeper.keep.__defaults__ = (CHECKPOINT_MS,)


def _tag() -> None:
    claim: Any = import_module("contrapas_kafka.claim")
    lease: Any = import_module("contrapas_kafka.lease")
    nonces: dict[tuple[int, int], bytes] = {}
    claim_draft, control_draft, checked = claim.claim_draft, lease.control_draft, lease.KafkaLease._checked

    def tagged_claim(partition: int, control: Control, nonce: bytes) -> Draft:
        nonces[partition, control.epoch] = nonce
        return tagged(claim_draft(partition, control, nonce), nonce)

    def tagged_control(partition: int, control: Control) -> Draft:
        return tagged(control_draft(partition, control), nonces[partition, control.epoch])

    def tagged_rest(self: Any, *drafts: Any) -> list[Draft]:
        return [tagged(d, nonces[self.partition, self.epoch]) for d in checked(self, *drafts)]

    claim.__dict__["claim_draft"] = tagged_claim
    lease.__dict__["control_draft"] = tagged_control
    setattr(lease.KafkaLease, "_checked", tagged_rest)  # noqa: B010 - over a method


def tagged(draft: Draft, nonce: bytes) -> Draft:
    """With its writer in a header."""
    return draft._replace(headers=(*draft.headers, (WRITER, nonce)))


def _be_greedy() -> None:
    membership: Any = import_module("contrapas_kafka.membership")
    said = membership.KafkaMembership.assignments

    async def assignments(self: Any) -> AsyncIterator[frozenset[tuple[str, int]]]:
        if not self._owns:
            async for slots in said(self):
                yield slots
            return
        greedy = [0.0]

        def begin() -> None:
            greedy[0] = time.monotonic() + GREED_S

        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, begin)
        all_ = frozenset(("in", p) for p in range(self.home.partitions))
        real: frozenset[tuple[str, int]] | None = None
        last: frozenset[tuple[str, int]] | None = None
        shares = aiter(said(self))
        coming = asyncio.ensure_future(anext(shares, None))
        while True:
            await asyncio.wait({coming}, timeout=0.1)
            if coming.done():
                if (found := coming.result()) is None:
                    return
                real, coming = found, asyncio.ensure_future(anext(shares, None))
            now = all_ if time.monotonic() < greedy[0] else real
            if now is not None and now != last:
                last = now
                yield now

    setattr(membership.KafkaMembership, "assignments", assignments)  # noqa: B010 - over a method
