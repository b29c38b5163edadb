"""Calls of the client that may block: each in a thread of ours, with our own deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from confluent_kafka import KafkaException

from contrapas_kafka.explain import explain
from contrapas_kafka.options import Cluster

T = TypeVar("T")
CALL_S: Final = 10.0
"""Deadline of most calls."""
ASK_S: Final = 9.0
"""What the client itself is told: a little less, so that its threads come back."""
THREADS: Final = 8
RAISED: Final = (KafkaException, OSError, TimeoutError, RuntimeError)
"""What a call of the client may raise. RuntimeError: it is closed."""


class Calls:
    """A few threads. A call that hangs keeps its thread until the client gives up, and its caller not that long."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.call_s = CALL_S
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="contrapas-kafka")

    async def run(
        self,
        work: Callable[[], T],
        *,
        sent: bool = False,
        resource: str = "",
        operation: str = "",
        deadline_s: float = 0.0,
    ) -> T:
        """Do it in a thread. sent: it changes something, so that silence is Indeterminate and not Retriable."""
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
            async with asyncio.timeout(deadline_s or self.call_s):
                return await future
        except RAISED as why:
            raise explain(why, self.cluster, sent=sent, resource=resource, operation=operation) from why

    def close(self) -> None:
        """No more calls; those that hang are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
