"""A schema registry for tests: ours, in memory, over real HTTP; it speaks the documented API as far as the tests go.

It is no Confluent registry: compatibility is judged by the `avro` library, references and GUIDs are there, modes of
import, contexts and deletion are not. `stopped` refuses connections' answers, `slow` keeps them waiting.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse


class Registry:
    """What is registered, and how the server behaves."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.subjects: dict[str, list[int]] = {}
        self.modes: dict[str, str] = {}
        self.mode = "BACKWARD"
        self.asked: list[str] = []
        self.authorization = ""
        """What a caller must send; empty: nothing."""
        self.stopped = False
        self.slow = 0.0
        self.says: bytes | None = None
        """Nonsense to be answered with."""
        self.url = ""

    def register(self, subject: str, schema: Any, kind: str = "AVRO", references: Any = ()) -> int:
        """Put a schema under a subject, without asking whether it fits."""
        text = schema if isinstance(schema, str) else json.dumps(schema)
        said = {"schema": text, "schemaType": kind, "references": list(references)}
        for number, known in self.schemas.items():
            if {k: known[k] for k in said} == said:
                break
        else:
            number = len(self.schemas) + 1
            self.schemas[number] = {**said, "guid": str(uuid.uuid5(uuid.NAMESPACE_URL, text))}
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def guid(self, number: int) -> bytes:
        """The GUID of a schema as it stands in a header."""
        return b"\x01" + uuid.UUID(self.schemas[number]["guid"]).bytes

    def fits(self, subject: str, text: str) -> list[str]:
        """Why a schema does not fit the versions of its subject; empty: it does."""
        mode = self.modes.get(subject, self.mode)
        numbers = self.subjects.get(subject, [])
        if not mode.endswith("_TRANSITIVE"):
            numbers = numbers[-1:]
        wrong: list[str] = []
        for number in numbers:
            old, new = parse(self.schemas[number]["schema"]), parse(text)
            ways: list[tuple[Any, Any]] = []
            if mode.startswith(("BACKWARD", "FULL")):
                ways.append((new, old))
            if mode.startswith(("FORWARD", "FULL")):
                ways.append((old, new))
            for reader, writer in ways:
                checker: Any = ReaderWriterCompatibilityChecker
                found = checker().get_compatibility(reader, writer)
                if found.compatibility is not SchemaCompatibilityType.compatible:
                    wrong += sorted(found.messages)
        return wrong


class _Handler(BaseHTTPRequestHandler):
    registry: Registry

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    do_PUT = do_POST

    def _serve(self, body: Any) -> None:
        r = self.registry
        path = unquote(urlsplit(self.path).path)
        r.asked.append(f"{self.command} {path}")
        time.sleep(r.slow)
        if r.stopped:
            self.close_connection = True
            self.connection.close()
            return
        if r.authorization and self.headers.get("authorization") != r.authorization:
            return self._say(401, {"error_code": 40101, "message": "Unauthorized"})
        if r.says is not None:
            return self._raw(200, r.says)
        status, said = _answer(r, self.command, path, body)
        self._say(status, said)

    def _say(self, status: int, said: Any) -> None:
        self._raw(status, json.dumps(said).encode())

    def _raw(self, status: int, raw: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/vnd.schemaregistry.v1+json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that a test cuts."""


def _answer(r: Registry, method: str, path: str, body: Any) -> tuple[int, Any]:
    if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
        one = r.schemas.get(int(found[1]))
        return (200, _shown(one)) if one else (404, {"error_code": 40403, "message": "Schema not found"})
    if found := re.fullmatch(r"/schemas/guids/([0-9a-f-]+)", path):
        one = next((s for s in r.schemas.values() if s["guid"] == found[1]), None)
        return (200, _shown(one)) if one else (404, {"error_code": 40403, "message": "Schema not found"})
    if path == "/subjects":
        return 200, sorted(r.subjects)
    if found := re.fullmatch(r"/config(?:/(.+))?", path):
        subject = found[1] or ""
        if method == "PUT":
            r.modes[subject] = body["compatibility"]
            return 200, body
        return 200, {"compatibilityLevel": r.modes.get(subject, r.mode)}
    if found := re.fullmatch(r"/subjects/(.+?)(/versions(?:/(\d+))?)?", path):
        return _subject(r, method, found[1], found[2], found[3], body)
    return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}


def _subject(
    r: Registry, method: str, subject: str, versions: str | None, version: str | None, body: Any
) -> tuple[int, Any]:
    numbers = r.subjects.get(subject)
    if method == "POST" and versions:
        if wrong := r.fits(subject, body["schema"]):
            return 409, {"error_code": 409, "message": "; ".join(wrong)}
        return 200, {"id": r.register(subject, body["schema"])}
    if numbers is None:
        return 404, {"error_code": 40401, "message": "Subject not found"}
    if method == "POST":
        for number in numbers:
            if json.loads(r.schemas[number]["schema"]) == json.loads(body["schema"]):
                return 200, {"subject": subject, "id": number, "version": numbers.index(number) + 1}
        return 404, {"error_code": 40403, "message": "Schema not found"}
    if version is None:
        return 200, list(range(1, len(numbers) + 1))
    if int(version) > len(numbers):
        return 404, {"error_code": 40402, "message": "Version not found"}
    number = numbers[int(version) - 1]
    return 200, {"subject": subject, "id": number, "version": int(version), **_shown(r.schemas[number])}


def _shown(one: dict[str, Any]) -> dict[str, Any]:
    said = {"schema": one["schema"]}
    if one["schemaType"] != "AVRO":
        said["schemaType"] = one["schemaType"]
    if one["references"]:
        said["references"] = one["references"]
    return said


@contextmanager
def registry() -> Generator[Registry]:
    """A running one, on a port of its own."""
    found = Registry()
    handler = type("Handler", (_Handler,), {"registry": found})
    server = _Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def digest(value: bytes) -> str:
    """As dead letters have it."""
    return hashlib.sha256(value).hexdigest()
