"""The server that `contrapas dev` runs: the routes of one app behind the guard."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contrapas.runtime.client import Client
from contrapas.runtime.worker import Health
from contrapas.web.entities import Entities
from contrapas.web.guard import BODY_MAX, BODY_S, LOOPBACK, Guard
from contrapas.web.links import Links
from contrapas.web.problems import problem
from contrapas.web.sagas import Sagas


def create(
    doors: Client,
    *,
    token: str,
    health: Callable[[], Health],
    hosts: Collection[str] = LOOPBACK,
    body_max: int = BODY_MAX,
    body_s: float = BODY_S,
) -> Starlette:
    """Start, signal and state of every saga of an app, and how the worker is."""
    sagas = Sagas(doors, token)
    entities = Entities(doors)
    links = Links(doors)

    async def healthz(request: Request) -> Response:
        now = health()
        body: dict[str, Any] = {
            "status": now.colour,
            "reasons": now.reasons,
            "partitions": len(now.owned),
            "steps": now.steps,
        }
        if now.relays:
            body["outboxes"] = [
                {
                    "store": one.store,
                    "relaying": one.holds,
                    "epoch": one.epoch,
                    "last": one.last,
                    "sent": one.sent,
                    "horizon_ms": one.horizon.age_ms,
                    "held_by": one.horizon.pid,
                }
                for one in now.relays
            ]
        return JSONResponse(body, 503 if now.colour == "red" else 200)

    async def readyz(request: Request) -> Response:
        now = health()
        ready = bool(now.owned or not doors.setting.world.machines) and now.colour != "red"
        return JSONResponse({"ready": ready, "partitions": len(now.owned)}, 200 if ready else 503)

    async def nothing(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 500)
        if status == 405:
            return problem(
                "CP814",
                "this address takes another method",
                status=405,
                headers=getattr(error, "headers", None),
            )
        return problem("CP813", "there is nothing at this address", status=404)

    async def broken(request: Request, error: Exception) -> Response:
        return problem("CP901", "a bug in contrapas; the server's log tells more", status=500)

    return Starlette(
        routes=[
            Route("/sagas/{saga}", sagas.start, methods=["POST"]),
            Route("/sagas/{saga}/{key:path}/{event}", sagas.signal, methods=["POST"]),
            Route("/sagas/{saga}/{key:path}/view", sagas.view, methods=["GET"]),
            Route("/sagas/{saga}/{key:path}", sagas.state, methods=["GET"]),
            Route("/entities/{entity}/{key:path}/{handler}", entities.call, methods=["GET", "POST"]),
            Route("/link/{token}", links.answer, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ],
        middleware=[Middleware(Guard, hosts=hosts, body_max=body_max, body_s=body_s)],
        exception_handlers={404: nothing, 405: nothing, 500: broken},
    )
