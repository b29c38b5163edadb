"""`/entities/...`: call a handler, ask a query."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from contrapas.author.entity import Call, spec_of
from contrapas.codec.strict import load_json, load_model
from contrapas.errors import ContrapasError, DataError, Refused
from contrapas.machine import Machine
from contrapas.runtime.client import Client
from contrapas.runtime.entities import look_at
from contrapas.web.problems import misfits, of_error, problem

ANSWER_MS = 30_000
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Entities:
    """The routes, over the doors of one namespace."""

    def __init__(self, doors: Client) -> None:
        self.doors = doors

    async def call(self, request: Request) -> Response:
        """200 with the result; 409 with why a handler failed; 429 when too many wait; 422 for what does not fit."""
        key = request.path_params["key"]
        ident = request.headers.get("idempotency-key", "")[:200] or uuid.uuid4().hex
        headers = {"idempotency-key": ident}
        try:
            machine, call = self._found(request)
            if request.method == "GET" and not call.definition.query:
                return problem(
                    "CP814",
                    f"{call.definition.handler} changes something: POST",
                    status=405,
                    headers={"allow": "POST"},
                )
            raw = _body(request, call, spec_of(machine.entity).key, key, await request.body())
            try:
                command = load_model(call.command, raw, name=call.command.__contrapas_name__)
            except DataError as why:
                if why.code != "CP403":
                    raise
                return _misfit(call, raw)
            if call.definition.query:
                shown = look_at(self.doors, machine, call, key, command)
                if shown is not None:
                    return Response(shown, headers=headers, media_type="application/json")
            told = await self.doors.ask(command, event_id=ident, timeout_ms=ANSWER_MS, saga=machine.name)
        except ContrapasError as error:
            return of_error(error, headers=headers)
        if told.verdict == "declined":
            return problem(
                told.code, f"{told.instance} declined: {told.reason}", headers=headers, reason=told.reason
            )
        headers["ce-type"] = told.outcome
        body: dict[str, Any] = json.loads(told.outcome_body)
        if told.outcome == call.returned.__contrapas_name__:
            text = json.dumps(body.get("value"), ensure_ascii=False, separators=(",", ":"))
            return Response(text, headers=headers, media_type="application/json")
        return Response(told.outcome_body, 409, headers=headers, media_type="application/json")

    def _found(self, request: Request) -> tuple[Machine, Call]:
        name, handler = request.path_params["entity"], request.path_params["handler"]
        for machine in self.doors.setting.world.machines.values():
            if machine.entity is not None and name in (machine.name, _WORD.sub("_", machine.name).lower()):
                call = spec_of(machine.entity).calls.get(handler)
                if call is None:
                    raise Refused("CP813", f"{machine.name} has no handler {handler[:80]}")
                return machine, call
        raise Refused("CP813", f"there is no entity {name[:80]}")


def _body(request: Request, call: Call, name: str, key: str, raw: bytes) -> bytes:
    """The call's message: one argument is the body itself, several are the fields of an object."""
    given: Any = None
    if request.method == "GET":
        given = {n: _value(v) for n, v in request.query_params.items() if n in call.params}
    elif len(call.params) == 1:
        given = {} if not raw.strip() else {call.params[0]: load_json(raw)}
    elif raw.strip():
        given = load_json(raw)
    if given is not None and not isinstance(given, dict):
        raise DataError(
            "CP403", "several arguments come as an object", expected="object", got=type(given).__name__
        )
    fields = {n: v for n, v in cast("dict[str, Any]", given or {}).items() if n in call.params}
    return json.dumps({**fields, name: key}, ensure_ascii=False).encode()


def _value(text: str) -> Any:
    """A query's parameter: JSON where it is JSON, else text."""
    try:
        return load_json(text.encode())
    except DataError:
        return text


def _misfit(call: Call, raw: bytes) -> Response:
    """Places are in the body as it came."""
    found = misfits(call.command, raw, call.command.__contrapas_name__)
    if len(call.params) != 1:
        return found
    body: dict[str, Any] = json.loads(bytes(found.body))
    for one in body.get("errors", []):
        one["at"] = str(one["at"]).removeprefix(f"/{call.params[0]}")
    return problem("CP403", str(body["title"]), errors=body.get("errors"))
