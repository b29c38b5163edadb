"""The HTTP routes under requests that no client makes, in sequences: no 5xx, problem documents with our codes, safe headers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

import pytest
from hypothesis import strategies as st

from contrapas import codes
from contrapas.web import sagas
from contrapas.web.server import create
from tests.catalogue.desk import TOKEN, Desk, desk
from tests.fuzz.fuzzing import fuzz

KEYS = (
    "k-1",
    "k-2",
    "n-1",
    "ü∀",
    "a/b",
    "%00",
    "%ff",
    "%0d%0aX-Evil:%201",
    "x" * 300,
    "..",
    "%2e%2e",
    "a b",
    "\u202e",
    "view",
)
BODIES = (
    b"", b"{}", b"[]", b"null", b"1", b'"x"', b"{", b"\xff", b"\x80\x04N.", b'{"id":"k-1","cents":5}', b'{"id":"k-2","cents":5}',
    b'{"id":"k-1","by":"ann"}', b'{"by":"ann"}', '{"id":"ü∀","cents":1}'.encode(), b'{"id":"a/b","cents":1}', b'{"id":"","cents":1}',
    b'{"id":"k-1","cents":1e400}', b'{"id":"k-1","cents":5,"cents":6}', b'{"id":"k-1","cents":99999999999999999999}',
    b'{"id":"k-1\\ud800","cents":1}', b'{"id":"k\\u0000","cents":1}', b'{"$type":"Opened","id":"k-1","cents":5}', b'{"$type":5}',
    b'{"id":"\\r\\nX: y","cents":1}', b'{"id":"k-1","cents":"5"}', b'{"id":"k-1","cents":true}', b"[" * 5000, b'{"a":' * 500,
    b'{"id":"' + b"x" * 300 + b'","cents":1}', b'{"id":"k-1","cents":5,"x":"' + b"y" * 950_000 + b'"}',
)  # fmt: skip
PATHS = (
    "/sagas/claim", "/sagas/claim/{key}", "/sagas/claim/{key}/Approved", "/sagas/claim/{key}/view", "/sagas/nope",
    "/sagas/claim/{key}/Opened", "/sagas/claim/{key}/Nope", "/sagas/{key}", "/entities/claim/{key}/x", "/link/{key}",
    "/healthz", "/readyz", "/", "/sagas", "/sagas/", "//", "/sagas//", "/sagas/claim/", "/{key}", "/sagas/claim//Approved",
)  # fmt: skip
HEADERS = {
    "authorization": (f"Bearer {TOKEN}", "Bearer ", "Basic x", "bearer ü", "\xb2"),
    "prefer": (
        "wait=1",
        "wait=",
        "wait=x",
        "wait=" + "9" * 400,
        "wait=-1",
        "wait=1ms, respond-async",
        "wait=\xb2",
        "wait=0.1s",
    ),
    "idempotency-key": ("e-1", "", "\x01", "x" * 5000, "ü", "a\xffb"),
    "content-type": ("application/json", "text/plain", "application/cloudevents+json", "\xff"),
    "accept": ("*/*", "application/json"),
    "content-length": ("0", "-1", "\xb2", "9" * 30, "x", ""),
    "host": ("127.0.0.1", "127.0.0.1:80", "[::1]", "evil", "", "[", "\xff", "localhost:x"),
    "origin": (
        "http://127.0.0.1",
        "http://evil",
        "null",
        "http://[",
        "http://[::1",
        "\xff",
        "http://127.0.0.1:99999999",
    ),
    "ce-type": ("Opened", "Approved", "", "\xff"),
    "sec-fetch-site": ("same-origin", "cross-site"),
}
QUERIES = (
    b"",
    b"wait=1",
    b"wait=" + b"9" * 400,
    b"wait=%ff",
    b"type=Opened",
    b"type=%00",
    b"token=x",
    b"a&" * 1200,
    b"%%%",
    b"wait=1ms",
)


@pytest.fixture(autouse=True, scope="module")
def short_waits() -> Iterator[None]:
    """The doors wait by the real clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sagas, "WAIT_MAX_S", 0.05)
        yield


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    query: bytes
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


def _at(path: str, key: str) -> str:
    return path.replace("{key}", key)


REQUESTS = st.builds(
    Asked,
    st.sampled_from(("GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "X")),
    st.builds(_at, st.sampled_from(PATHS), st.sampled_from(KEYS)),
    st.sampled_from(QUERIES),
    st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in HEADERS.items()}),
    st.one_of(st.sampled_from(BODIES), st.binary(max_size=40)),
)  # fmt: skip


async def asked(app: Any, one: Asked) -> Answer:
    """Call the app as a server would that checks nothing."""
    headers = {"host": "127.0.0.1", **one.headers}
    sent: list[dict[str, Any]] = []
    given = [{"type": "http.request", "body": one.body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if given:
            return given.pop()
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": one.method, "scheme": "http",
        "path": unquote(one.path), "raw_path": unquote_to_bytes(one.path), "query_string": one.query, "root_path": "",
        "headers": [(n.encode(), v.encode("latin-1")) for n, v in headers.items()], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    found = {n.decode("latin-1"): v.decode("latin-1") for n, v in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))


async def answered(found: Desk, app: Any, one: Asked) -> Answer:
    """The same, while the worker works and time passes."""
    task = asyncio.ensure_future(asked(app, one))
    turns, until = 0, time.monotonic() + 30  # the doors wait by the real clock, and the machine may be busy
    while not task.done() and (turns < 6000 or time.monotonic() < until):
        turns += 1
        await found.rig.turn(20)
        await asyncio.sleep(0 if turns < 6000 else 0.005)
    if not task.done():
        task.cancel()
        raise AssertionError(f"no answer within two minutes: {one}")
    return task.result()


def holds(one: Asked, answer: Answer) -> None:
    """What is promised of every answer."""
    assert answer.status < 500 or (one.path == "/link/" or one.path.startswith("/link/")), answer
    assert answer.headers.get("x-content-type-options") == "nosniff"
    for name, value in answer.headers.items():
        assert not set(name + value) & set("\r\n\0"), (name, value)
    if answer.status >= 400 and answer.headers.get("content-type") == "application/problem+json":
        body = json.loads(answer.body)
        assert body["status"] == answer.status
        code = body["type"].removeprefix("urn:contrapas:")
        assert code in codes.table(), body
        assert isinstance(body["title"], str) and len(body["title"]) <= 400
        for error in body.get("errors", ()):
            assert set(error) == {"at", "expected", "got"}, body
    elif answer.status >= 400:
        assert one.path in ("/healthz", "/readyz"), answer
    elif answer.body and one.path.startswith("/sagas"):
        body = json.loads(answer.body)
        assert body["verdict"] and body["instance"].startswith("claim/"), body


async def session(requests: list[Asked]) -> None:
    """A sequence of requests to one desk, and its neighbour goes on."""
    async with desk(calm=False) as found:
        app = create(found.client, token=TOKEN, health=found.worker.health)
        for one in requests:
            holds(one, await answered(found, app, one))
        found.counted = False
        await found.settle()
        neighbour = found.record("claim/n-1")
        assert neighbour is not None and neighbour.status in ("waiting", "done")


@fuzz(25, st.lists(REQUESTS, min_size=1, max_size=10))
def test_any_requests_get_answers_that_programs_understand(requests: list[Asked]) -> None:
    asyncio.run(session(requests))


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "\xff", "http://127.0.0.1:99999999"])
def test_an_origin_that_is_no_address_is_refused_or_read(origin: str) -> None:
    asyncio.run(session([Asked("POST", "/sagas/claim", b"", {"origin": origin}, b"{}")]))


@pytest.mark.parametrize("length", ["\xb2", "9" * 30, "-1", ""])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    one = Asked("POST", "/sagas/claim", b"", {"content-length": length}, b"{}")
    asyncio.run(session([one]))


@pytest.mark.parametrize("key", ["ü∀", "a b/c?d#e", "\\u202e"])
def test_a_key_that_no_header_can_carry_is_written_as_an_address(key: str) -> None:
    async def run() -> None:
        async with desk(calm=False) as found:
            app = create(found.client, token=TOKEN, health=found.worker.health)
            body = f'{{"id":"{key}","cents":1}}'.encode()
            answer = await answered(found, app, Asked("POST", "/sagas/claim", b"", {}, body))
            assert answer.status == 202 and answer.headers["location"].isascii()
            again = await answered(
                found,
                app,
                Asked("GET", answer.headers["location"], b"", {"authorization": f"Bearer {TOKEN}"}, b""),
            )
            assert again.status == 200 and json.loads(again.body)["key"] == json.loads(f'"{key}"')

    asyncio.run(run())


@pytest.mark.parametrize("wait", ["9" * 400, "9" * 400 + "m", "100000000"])
def test_a_wait_without_end_is_cut(wait: str) -> None:
    one = Asked("POST", "/sagas/claim", b"", {"prefer": f"wait={wait}"}, b'{"id":"k-1","cents":5}')
    asyncio.run(session([one]))
