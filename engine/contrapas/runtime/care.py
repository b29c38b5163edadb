"""Care of a store by whoever works with it: what was sent and what the inbox may forget goes, days are made ahead.

Every process that runs a store's services, steps or relay does it about once an hour (`prune=` of the store; `"off"`
leaves it to `contrapas store prune`). Several at once do no harm: each prunes in small transactions that wait for nobody.
A role that may not make or drop days does what it may.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from contrapas.errors import ContrapasError
from contrapas.participant import Store
from contrapas.runtime.clock import Clock, pause

BUDGET_MS: Final = 10_000
"""What is left after so long is for the next time."""
_logger = logging.getLogger("contrapas.runtime")


async def care(store: Store, clock: Clock, chance: Callable[[], float]) -> None:
    """Prune for ever, at first after a random part of the time, so that processes which start together do not meet."""
    if not store.prune_ms:
        return
    wait = store.prune_ms * chance()
    said = ""
    while True:
        await pause(clock, wait)
        try:
            outbox, inbox = await store.prune(budget_ms=BUDGET_MS)
        except (
            ContrapasError,
            OSError,
        ) as why:  # it is tried again; who needs the database says that it is away
            if (text := str(why)) != said:
                said = text
                _logger.warning("store %s is not pruned: %s", store.name, text)
        else:
            said = ""
            if outbox or inbox:
                _logger.info("store %s: pruned %d of the outbox, %d of the inbox", store.name, outbox, inbox)
        wait = store.prune_ms * (0.9 + 0.2 * chance())
