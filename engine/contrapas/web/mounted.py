"""The routes of an app inside another ASGI app: `api.mount("/contrapas", app.asgi())`.

The app around it decides who may ask, by authentication in front of the mount. What stays ours: names of hosts that are
listed, no foreign page, limits of a request, and the token for reading states where one is set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from contrapas.runtime.client import Client
from contrapas.runtime.worker import Health
from contrapas.web.guard import LOOPBACK
from contrapas.web.problems import problem
from contrapas.web.server import create


class Mounted:
    """Answers while the app runs in this process; 503 before and after. Served by itself it runs the app meanwhile.

    client: what the running app's doors are, None while it does not run. lifespan: runs the app, for `uvicorn`.
    """

    def __init__(
        self,
        client: Callable[[], Client | None],
        lifespan: Callable[[], AbstractAsyncContextManager[None]],
        *,
        hosts: Collection[str] = (),
        token: str = "",
    ) -> None:
        self._client = client
        self._hosts = (*LOOPBACK, *hosts)
        self._token = token
        self._alone = Starlette(lifespan=lambda _: lifespan())
        self._made: tuple[Client, ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._alone(scope, receive, send)
            return
        client = self._client()
        if client is None:
            if scope["type"] == "http":
                told = problem(
                    "CP501", "the app does not run in this process: is its lifespan entered?", status=503
                )
                await told(scope, receive, send)
            return
        if self._made is None or self._made[0] is not client:
            routes = create(client, token=self._token, health=lambda: _health(client), hosts=self._hosts)
            self._made = (client, routes)
        await self._made[1](scope, receive, send)


def _health(client: Client) -> Health:
    worker: Any = client.worker
    return Health() if worker is None else worker.health()
