"""`/link/{token}`: the answer of one person, delivered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from contrapas.author.link import verify
from contrapas.codec.strict import load_model
from contrapas.errors import ContrapasError, Refused, Unreachable
from contrapas.runtime.client import Client
from contrapas.runtime.links import SECRET
from contrapas.web.problems import of_error, problem

PATIENCE_MS = 1_000


class Links:
    """The route. secret: where it stands; read at each use."""

    def __init__(
        self,
        doors: Client,
        secret: Callable[[], str] = lambda: os.environ.get(SECRET, ""),
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.doors = doors
        self.secret = secret
        self.now = now

    async def answer(self, request: Request) -> Response:
        """202 when the event was taken or kept, and for a repeat; 403, 410 for a token that does not hold; 404, 409 when
        the instance is gone or has ended."""
        try:
            claims = verify(self.secret(), request.path_params["token"], self.now())
            message = self.doors.setting.world.types.messages.get(claims.type)
            saga, _, key = claims.instance.partition("/")
            if message is None or saga not in self.doors.setting.world.modes:
                raise Refused("CP813", f"nobody here takes {claims.type[:80]}")
            event = load_model(message.cls, claims.body.encode(), name=message.name)
            told = await self.doors.signal(
                saga,
                key,
                event,
                event_id=claims.id,
                timeout_ms=PATIENCE_MS,
                raw=claims.body.encode(),
                run=claims.run,
            )
        except Unreachable as late:
            if late.code != "CP507":
                return of_error(late)
            return JSONResponse({"verdict": "accepted"}, 202)
        except ContrapasError as error:
            return of_error(error)
        if told.ended and told.verdict in ("no-op", "finished"):
            return problem("CP815", f"{told.instance} has ended {told.outcome or told.status}")
        return JSONResponse({"instance": told.instance, "verdict": told.verdict}, 202)
