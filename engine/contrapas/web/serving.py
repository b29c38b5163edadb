"""The socket of `contrapas dev`: requests that come too slowly, too large or too many at a time end, and cost nobody else.

A server waits for the rest of a request as long as a client likes, unless it is told otherwise: whoever opens connections
and sends a byte now and then takes them all. The head of a request has its time here, its body in the guard.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator, Sequence
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S: Final = 10.0
HEAD_MAX: Final = 64 << 10
CONNECTIONS_MAX: Final = 500
KEEP_ALIVE_S: Final = 5


class Patient(H11Protocol):
    """HTTP/1.1 on one connection. The head of each request must be whole `head_s` after its first byte, the first one that
    long after the connection was made."""

    head_s: float = HEAD_S
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        super().data_received(data)
        if self._whole():
            self._wait_no_longer()
        elif self._head is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def _whole(self) -> bool:
        return self.conn.their_state is not h11.IDLE

    def _wait(self) -> None:
        self._head = self.loop.call_later(self.head_s, self._late)

    def _wait_no_longer(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _late(self) -> None:
        self._head = None
        if not self._whole():
            self.transport.close()


class Server(uvicorn.Server):
    """Signals belong to the process that starts it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave them alone."""
        yield


def server_of(app: Any, http: type[Patient] = Patient) -> Server:
    """A server that is not started. What is not said here is left to no chance: another parser may be installed, one that
    knows no limit of a head; no address takes a WebSocket."""
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        limit_concurrency=CONNECTIONS_MAX,
        h11_max_incomplete_event_size=HEAD_MAX,
    )
    return Server(config)


async def serve(server: Server, sockets: Sequence[socket.socket]) -> None:
    """Serve until cancelled; then answers that are under way still leave."""
    listening = list(sockets)
    try:
        await server.serve(sockets=listening)
    except asyncio.CancelledError:
        server.should_exit = True
        await server.shutdown(sockets=listening)
        raise
