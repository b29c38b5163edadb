"""Whether a store's inbox remembers for as long as a duplicate may come: shown as a sum, refused when it does not (CP805)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from contrapas.author.duration import duration_text
from contrapas.errors import Refused
from contrapas.runtime.attempts import ATTEMPTS, BACKOFF_MS

if TYPE_CHECKING:
    from contrapas.participant import Store
    from contrapas.runtime.worker import Worker

RETRY_MS: Final = int(sum(1.5 * BACKOFF_MS * 2**n for n in range(ATTEMPTS - 1)))
"""The longest that a delivery's own attempts are apart, without their work."""


def check_memory(store: Store[Any], who: str, outage_ms: int, unread_ms: int = 0, place: str = "") -> None:
    """Refused CP805 with the arithmetic. outage_ms: the longest that is planned for; unread_ms: the age of what is to be read
    next, which may have been handled before."""
    reach_ms, words = outage_ms, "the longest outage"
    if unread_ms > outage_ms:
        reach_ms, words = unread_ms, f"the oldest record to be read again, {place}"
    needed = RETRY_MS + reach_ms
    if store.inbox_ms >= needed:
        return
    raise Refused(
        "CP805",
        f"{who}: the inbox of {store.name} remembers {duration_text(store.inbox_ms)}, a duplicate may come after "
        f"{_rounded(needed)}: {duration_text(RETRY_MS)} of retries + {_rounded(reach_ms)} ({words})",
        fix=f'give the store inbox="{-(-needed // 86_400_000)}d" or more, or plan for a shorter outage: '
        "outage of [tool.contrapas]",
        place=place,
    )


def _rounded(ms: int) -> str:
    """To the second."""
    return duration_text(-(-ms // 1000) * 1000)


def check_memories(worker: Worker) -> None:
    """Before the start: every inbox remembers for as long as the outage that is planned for. Refused CP805."""
    for service in worker.services:
        if service.store is not None:
            check_memory(service.store, f"service {service.name}", worker.definition.outage_ms)
    for name, step in worker.setting.world.types.steps.items():
        if step.store is not None:
            check_memory(step.store, f"@step {name}", worker.definition.outage_ms)
