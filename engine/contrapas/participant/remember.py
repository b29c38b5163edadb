"""Whether an inbox remembers long enough: a duplicate that comes later than that would be handled again."""

from __future__ import annotations

from typing import Final

from contrapas.core.finding import Finding

DAY_MS: Final = 86_400_000
RETRY_MS: Final = DAY_MS
"""How long senders go on sending a message that was not answered: the runtime's own attempts end within a day."""
OUTAGE_MS: Final = 7 * DAY_MS
"""How long a consumer, a relay or a broker may be away before its backlog, and with it every repeat, is read."""


def too_short(
    name: str, inbox_ms: int, *, outage_ms: int = OUTAGE_MS, retry_ms: int = RETRY_MS
) -> Finding | None:
    """CP805 with the arithmetic, when repeats can be older than what the inbox remembers."""
    if inbox_ms >= retry_ms + outage_ms:
        return None
    text = (
        f"{name}: the inbox remembers {_days(inbox_ms)}, a duplicate can be {_days(retry_ms + outage_ms)} old "
        f"(retries {_days(retry_ms)} + outage {_days(outage_ms)}): it would be handled again"
    )
    return Finding(True, "CP805", text, f"inbox_ms={retry_ms + outage_ms} or more, or a shorter outage_ms")


def _days(ms: int) -> str:
    return f"{ms / DAY_MS:.3g} d"
