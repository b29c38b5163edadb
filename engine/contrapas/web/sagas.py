"""`/sagas/...`: start an instance, ask for its state, send it an event."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncGenerator
from typing import Any, Protocol, cast, overload
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from contrapas.author.sensitive import masked, sensitive_paths
from contrapas.codec.strict import load_json, load_model
from contrapas.core.decode import object_of
from contrapas.core.world import MessageType, World
from contrapas.errors import ContrapasError, DataError, Refused, Unreachable
from contrapas.runtime.batch import Setting
from contrapas.runtime.client import Told
from contrapas.web.guard import allowed
from contrapas.web.problems import misfits, of_error, problem

PATIENCE_MS = 1000
ANSWER_S = 10.0
"""How long a command is waited for; `Prefer: wait=` says otherwise."""
WAIT_MAX_S = 60.0
_WAIT = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?\Z")


class Doors(Protocol):
    """What is needed of a `runtime.client.Client`."""

    setting: Setting

    async def start(
        self, saga: str, event: Any, *, event_id: str = "", timeout_ms: int = 0, raw: bytes = b""
    ) -> Told: ...
    async def signal(
        self, saga: str, key: str, event: Any, *, event_id: str = "", timeout_ms: int = 0, raw: bytes = b""
    ) -> Told: ...
    async def ask(
        self,
        command: Any,
        *,
        event_id: str = "",
        timeout_ms: int = 10_000,
        raw: bytes = b"",
        saga: str = "",
        wait: bool = True,
    ) -> Told: ...
    async def state(self, instance: str, *, timeout_ms: int = 5_000) -> Told: ...
    async def wait(self, instance: str, *, timeout_ms: int = 60_000) -> Told: ...


class Sagas:
    """The routes, over the doors of one namespace. token: empty where the app around it decides who may ask."""

    def __init__(self, doors: Doors, token: str = "") -> None:
        self.doors = doors
        self.token = token

    async def start(self, request: Request) -> Response:
        """202 once the log has it, 200 for a repeat, 409 for another body under the same key."""
        saga = request.path_params["saga"]
        try:
            message = self._start_type(saga, request, await request.body())
            raw = _without_type(await request.body())
            event = self._event(message, raw)
            if message.command:
                where = _place(request, f"{saga}/{getattr(event, message.key)}")
                return await self.asked(request, saga, event, raw, where)
            return await self._started(request, saga, message, event, raw)
        except _Misfit as misfit:
            return misfit.response
        except ContrapasError as error:
            return of_error(error)

    async def _started(
        self, request: Request, saga: str, message: MessageType, event: Any, raw: bytes
    ) -> Response:
        key = str(getattr(event, message.key))
        instance = f"{saga}/{key}"
        headers = {"location": _place(request, instance)}
        try:
            told = await self.doors.start(
                saga,
                event,
                event_id=request.headers.get("idempotency-key", "")[:200],
                timeout_ms=PATIENCE_MS,
                raw=raw,
            )
        except Unreachable as late:
            if late.code != "CP507":
                raise
            told = Told(instance=instance, verdict="accepted")
        wait = _preferred(request)
        if wait and not told.ended:
            told = await self._waited(instance, wait, told)
        status = 200 if told.verdict == "duplicate" or told.ended else 202
        return JSONResponse(self._data(told, instance), status, headers=headers)

    async def state(self, request: Request) -> Response:
        """State, status, outcome; `?wait=30s` waits for the end; `Accept: text/event-stream` follows it."""
        if self.token and not allowed(request, self.token):
            return problem("CP821", "this needs the token", headers={"www-authenticate": "Bearer"})
        saga, key = request.path_params["saga"], request.path_params["key"]
        instance = f"{saga}/{key}"
        try:
            self._readable(saga)
            if "text/event-stream" in request.headers.get("accept", ""):
                await self.doors.state(instance)
                return StreamingResponse(self._follow(instance), media_type="text/event-stream")
            wait = request.query_params.get("wait", "")
            told, absent = await self._state(instance)
            if wait and (
                told is None or not told.ended
            ):  # one that is on its way through an outbox is waited for, too
                told = await self._waited(instance, _seconds(wait), told)
            if told is None:
                assert absent is not None
                return of_error(absent)
            return JSONResponse(self._data(told, instance))
        except ContrapasError as error:
            return of_error(error)

    async def signal(self, request: Request) -> Response:
        """202 when the event was taken or kept; 409 if the instance has ended, 404 if there is none."""
        saga, key, name = (request.path_params[part] for part in ("saga", "key", "event"))
        instance = f"{saga}/{key}"
        try:
            self._known(saga)
            message = self.doors.setting.world.types.messages.get(name)
            if message is None:
                raise Refused("CP813", f"{saga} takes no event {name[:80]}")
            raw = _with_key(await request.body(), message, key)
            event = self._event(message, raw)
            if str(getattr(event, message.key)) != key:
                raise DataError(
                    "CP413",
                    "the body names another key than the address",
                    path=f"/{message.key}",
                    expected=key[:80],
                )
            if message.command:
                return await self.asked(request, saga, event, raw, _place(request, instance))
            told = await self.doors.signal(
                saga,
                key,
                event,
                event_id=request.headers.get("idempotency-key", "")[:200],
                timeout_ms=PATIENCE_MS,
                raw=raw,
            )
        except _Misfit as misfit:
            return misfit.response
        except ContrapasError as error:
            if isinstance(error, Unreachable) and error.code == "CP507":
                return JSONResponse({"instance": instance, "verdict": "accepted"}, 202)
            return of_error(error)
        if told.ended and told.verdict in ("no-op", "finished"):
            return problem("CP815", f"{instance} has ended {told.outcome or told.status}")
        return JSONResponse(self._data(told, instance), 202)

    async def asked(self, request: Request, saga: str, command: Any, raw: bytes, where: str) -> Response:
        """200 with the reply, 409 with a declared failure, a problem document where the engine declines; the id under
        which asking again is safe comes back in any case."""
        ident = request.headers.get("idempotency-key", "")[:200] or uuid.uuid4().hex
        headers = {"idempotency-key": ident, "location": where}
        later = "respond-async" in request.headers.get("prefer", "")
        try:
            told = await self.doors.ask(
                command,
                event_id=ident,
                timeout_ms=int(1000 * (_preferred(request) or ANSWER_S)),
                raw=raw,
                saga=saga,
                wait=not later,
            )
        except ContrapasError as error:
            return of_error(error, headers=headers)
        if later:
            return JSONResponse({"instance": told.instance, "verdict": "accepted"}, 202, headers=headers)
        if told.verdict == "declined":
            return problem(
                told.code, f"{told.instance} declined: {told.reason}", headers=headers, reason=told.reason
            )
        message = self.doors.setting.world.types.message_of(command.__class__)
        headers["ce-type"] = told.outcome
        status = 200 if told.outcome == message.replies[0] else 409
        return Response(told.outcome_body, status, headers=headers, media_type="application/json")

    async def view(self, request: Request) -> Response:
        """200 with the view that the saga shows; 404 when it shows none."""
        if self.token and not allowed(request, self.token):
            return problem("CP821", "this needs the token", headers={"www-authenticate": "Bearer"})
        saga, key = request.path_params["saga"], request.path_params["key"]
        try:
            self._readable(saga)
            told = await self.doors.state(f"{saga}/{key}")
            if not told.view:
                raise Refused("CP813", f"{saga}/{key} shows nothing")
            return JSONResponse(
                shown_view(self.doors.setting.world, saga, told), headers={"ce-type": told.view_type}
            )
        except ContrapasError as error:
            return of_error(error)

    def _known(self, saga: str) -> None:
        if saga not in self.doors.setting.world.modes:
            raise Refused("CP813", f"there is no saga {saga[:80]}")

    def _readable(self, saga: str) -> None:
        """Services by themselves know no saga; the worker that does answers for them."""
        if self.doors.setting.world.modes:
            self._known(saga)

    def _start_type(self, saga: str, request: Request, raw: bytes) -> MessageType:
        self._known(saga)
        world = self.doors.setting.world
        starts = world.machines[saga].starts
        wanted = request.headers.get("ce-type", "") or request.query_params.get("type", "") or _named(raw)
        if wanted and wanted not in starts:
            raise DataError(
                "CP402", f"{wanted[:80]} does not start {saga}", expected=", ".join(starts), got=wanted[:80]
            )
        if not wanted and len(starts) != 1:
            raise DataError(
                "CP402",
                f"{saga} starts by one of several events: name it with $type in the body, or ?type=",
                expected=", ".join(starts),
                got="nothing",
            )
        return world.types.messages[wanted or starts[0]]

    def _event(self, message: MessageType, raw: bytes) -> Any:
        try:
            return load_model(message.cls, raw, name=message.name)
        except DataError as error:
            if error.code == "CP403":
                raise _Misfit(misfits(message.cls, raw, message.name)) from None
            raise

    async def _state(self, instance: str) -> tuple[Told | None, Refused | None]:
        try:
            return await self.doors.state(instance), None
        except Refused as absent:
            return None, absent

    @overload
    async def _waited(self, instance: str, seconds: float, otherwise: Told) -> Told: ...
    @overload
    async def _waited(self, instance: str, seconds: float, otherwise: Told | None) -> Told | None: ...
    async def _waited(self, instance: str, seconds: float, otherwise: Told | None) -> Told | None:
        try:
            return await self.doors.wait(instance, timeout_ms=int(min(seconds, WAIT_MAX_S) * 1000))
        except Unreachable:
            try:
                return await self.doors.state(instance)
            except ContrapasError:
                return otherwise

    async def _follow(self, instance: str) -> AsyncGenerator[str]:
        seen = -1
        while True:
            try:
                told = await self.doors.state(instance)
            except ContrapasError as error:
                yield f"event: problem\ndata: {json.dumps({'type': f'urn:contrapas:{error.code}', 'title': error.text})}\n\n"
                return
            if told.version != seen:
                seen = told.version
                yield f"id: {seen}\ndata: {json.dumps(self._data(told, instance), ensure_ascii=False)}\n\n"
            if told.ended:
                return
            await asyncio.sleep(0.2)

    def _data(self, told: Told, instance: str) -> dict[str, Any]:
        name = told.instance or instance
        body: Any = json.loads(told.outcome_body) if told.outcome_body else None
        message = self.doors.setting.world.types.messages.get(told.outcome)
        if body is not None and message is not None and message.sensitive:
            body = masked(body, sensitive_paths(message.cls))
        return {
            "instance": name,
            "saga": name.partition("/")[0],
            "key": name.partition("/")[2],
            "verdict": told.verdict,
            "status": told.status,
            "state": told.state,
            "version": told.version,
            "outcome": told.outcome or None,
            "body": body,
            "error": told.reason or None,
        }


class _Misfit(Exception):
    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


def _with_key(raw: bytes, message: MessageType, key: str) -> bytes:
    """The body with its key field, which the address names already."""
    found = load_json(raw or b"{}")
    if isinstance(found, dict) and message.key not in found:
        return json.dumps({message.key: key, **found}, ensure_ascii=False).encode()
    return raw


def shown_view(world: World, saga: str, told: Told) -> Any:
    """A view as JSON, what is sensitive in it masked."""
    body: Any = json.loads(told.view)
    cls = world.machines[saga].show if saga in world.machines else None
    return masked(body, sensitive_paths(cls)) if cls is not None else body


def _place(request: Request, instance: str) -> str:
    """The address of an instance, from where the app is mounted: whatever its key holds, a header can carry it."""
    return quote(
        f"{request.scope.get('root_path', '')}/sagas/{instance}", safe="/~!$&'()*+,;=:@", errors="replace"
    )


def _named(raw: bytes) -> str:
    """`$type` of the body, where one of several starts is to be named."""
    name = _object(raw).get("$type", "") if b"$type" in raw else ""
    return name if isinstance(name, str) else ""


def _without_type(raw: bytes) -> bytes:
    found = _object(raw) if b"$type" in raw else {}
    if "$type" not in found:
        return raw
    return json.dumps({n: v for n, v in found.items() if n != "$type"}, ensure_ascii=False).encode()


def _object(raw: bytes) -> dict[str, Any]:
    found: object = load_json(raw)
    return object_of(cast("object", found)) if isinstance(found, dict) else {}


def _preferred(request: Request) -> float:
    for part in request.headers.get("prefer", "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "wait":
            return _seconds(value)
    return 0.0


def _seconds(text: str) -> float:
    found = _WAIT.match(text)
    if found is None:
        raise DataError(
            "CP403", "wait is no duration", path="?wait", expected="10, 30s, 500ms", got=text[:40]
        )
    return min(float(found[1]) * {"ms": 0.001, "m": 60.0}.get(found[2] or "s", 1.0), WAIT_MAX_S)
