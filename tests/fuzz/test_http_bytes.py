"""The doors on a real socket, under bytes that no client sends: every connection ends, nobody else waits, memory is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import strategies as st

from contrapas.runtime.engine import Engine
from contrapas.web import sagas
from contrapas.web.server import create
from contrapas.web.serving import CONNECTIONS_MAX, HEAD_MAX, Patient, Server, serve, server_of
from tests.catalogue.desk import TOKEN, definition_of
from tests.fuzz.fuzzing import damaged, fuzz

HEAD_S, BODY_S, ENDS_S = 0.5, 0.5, 30.0
"""How long a request may take here, and when we give up on a server."""


OPEN: list[Doors] = []
"""The server that the drawn bytes go to."""


class Hasty(Patient):
    """As served, with less patience."""

    head_s = HEAD_S


class Doors:
    """A server in a thread of its own, with a worker behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.address: tuple[str, int] = self.listening.getsockname()
        self.server: Server | None = None
        self.engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: asyncio.Task[None] | None = None
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._up.wait(60)

    async def _run(self) -> None:
        url = f"sqlite:///{self.folder}/desk.db"
        async with Engine.opened(definition_of(), url) as engine, engine.working(1_000):
            app = create(engine.client, token=TOKEN, health=engine.worker.health, body_s=BODY_S)
            self.engine, self.server, self._loop = engine, server_of(app, Hasty), asyncio.get_running_loop()
            self._work = asyncio.ensure_future(serve(self.server, [self.listening]))
            while not self.server.started:
                await asyncio.sleep(0.01)
            self._up.set()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work

    def close(self) -> None:
        """End it."""
        assert self._loop is not None and self._work is not None
        self._loop.call_soon_threadsafe(self._work.cancel)
        self._thread.join(60)

    def connections(self) -> int:
        """How many the server holds."""
        assert self.server is not None
        return len(self.server.server_state.connections)

    def connect(self) -> socket.socket:
        """One more."""
        return socket.create_connection(self.address, timeout=ENDS_S)

    def says(self, *parts: bytes, over: bool = True) -> bytes:
        """Send, piece by piece, and read until the server hangs up. over: say that nothing follows."""
        with self.connect() as conn:
            with contextlib.suppress(OSError):
                for part in parts:
                    conn.sendall(part)
                if over:
                    conn.shutdown(socket.SHUT_WR)
            return rest(conn)

    def well(self) -> None:
        """Somebody else is answered, and at once as far as the machine goes."""
        found = self.says(request("GET /healthz", "connection: close"), over=False)
        assert found.startswith(b"HTTP/1.1 200 "), found

    def empties(self) -> None:
        """No connection stays."""
        until = time.monotonic() + ENDS_S
        while self.connections() and time.monotonic() < until:
            time.sleep(0.02)
        assert self.connections() == 0


def rest(conn: socket.socket) -> bytes:
    """What comes until the other end closes; a server that does not is found out by the time-out of the socket."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := conn.recv(65_536):
            found += part
    return found


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """One that is right."""
    lines = [
        f"{line} HTTP/1.1",
        "host: 127.0.0.1",
        *headers,
        *([f"content-length: {len(body)}"] if body else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sagas, "WAIT_MAX_S", 0.05)
        found = Doors(tmp_path_factory.mktemp("doors"))
        OPEN.append(found)
        yield found
        OPEN.clear()
        found.close()


@pytest.fixture(autouse=True)
def nobody_stays(doors: Doors) -> Iterator[None]:
    yield
    doors.empties()
    doors.well()


JSON = "content-type: application/json"
SEEDS: tuple[bytes, ...] = (
    request("POST /sagas/claim", JSON, body=b'{"id":"f-1","cents":5}'),
    request("GET /sagas/claim/f-1?wait=1s", "connection: close"),
    request("GET /healthz") + request("GET /readyz"),
    request("POST /sagas/claim", JSON, "transfer-encoding: chunked") + b'9\r\n{"id":"f-\r\n9\r\n2","cents"\r\n3\r\n:5}\r\n0\r\n\r\n',
    request("POST /sagas/claim", JSON, "transfer-encoding: chunked", body=b'{"id":"f-3","cents":5}'),
    request("POST /sagas/claim", JSON, "expect: 100-continue", body=b'{"id":"f-4","cents":5}'),
    request("GET /sagas/claim/f-1", "upgrade: websocket", "connection: upgrade", "sec-websocket-key: eA=="),
    request("GET /sagas/claim/f-1", "upgrade: h2c", "connection: upgrade, http2-settings", "http2-settings: AA"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET /\r\n", b"\r\n" * 9, b"\0" * 40,
    b"GET /healthz HTTP/1.0\r\n\r\n", b"GET /healthz HTTP/9.9\r\nhost: 127.0.0.1\r\n\r\n",
    request("GET http://evil/healthz"), request("OPTIONS *"), request("CONNECT 127.0.0.1:80"),
    request("POST /sagas/claim", "content-length: 5", "content-length: 6") + b"12345",
    request("GET /healthz", *[f"x-{n}: y" for n in range(150)]), request("GET /" + "a" * 9_000),
    request("GET /healthz", " folded: yes", "\tand: more"), request("GET /healthz", "x\x01: y"),
)  # fmt: skip


@fuzz(60, damaged(SEEDS), st.integers(1, 6))
def holds(sent: bytes, pieces: int) -> None:
    """Whatever comes, the connection ends, with answers or without, none of them a failure of ours."""
    (doors,) = OPEN
    size = -(-len(sent) // pieces) or 1
    found = doors.says(*[sent[at : at + size] for at in range(0, len(sent), size)])
    assert not found or found.startswith(b"HTTP/1.1 "), found[:200]
    for answer in found.split(b"HTTP/1.1 ")[1:]:
        assert not answer.startswith(b"5"), answer[:500]
        assert b"Traceback" not in answer and b'File "' not in answer


def test_whatever_bytes_come_the_connection_ends_and_nothing_fails(doors: Doors) -> None:
    for seed in SEEDS:
        found = doors.says(seed)
        assert not found or found.startswith(b"HTTP/1.1 "), (seed, found[:200])
    holds()


def held(doors: Doors, first: Sequence[bytes], *, drip: bytes = b"", more: int = 40) -> list[bytes]:
    """So many that send a little and then nothing, or a byte now and then; meanwhile another one is served."""
    slow = [doors.connect() for _ in range(more)]
    for number, conn in enumerate(slow):
        conn.sendall(first[number % len(first)])
    doors.well()
    for _ in range(12 if drip else 0):
        time.sleep(HEAD_S / 5)
        for conn in slow:
            with contextlib.suppress(OSError):
                conn.sendall(drip)
    doors.well()
    found = [rest(conn) for conn in slow]
    for conn in slow:
        conn.close()
    return found


def test_who_sends_half_a_head_and_waits_is_cut_off(doors: Doors) -> None:
    heads = (
        b"",
        b"G",
        b"GET /healthz HTTP/1.1\r\n",
        request("GET /healthz")[:-2],
        request("GET /healthz", "x: y")[:-7],
    )
    assert set(held(doors, heads)) <= {b""}


def test_who_sends_a_byte_now_and_then_gains_no_time_by_it(doors: Doors) -> None:
    assert set(held(doors, (b"GET /healthz HTTP/1.1\r\nx: ",), drip=b"y")) == {b""}


def test_a_second_request_that_stops_half_way_is_cut_off_like_a_first(doors: Doors) -> None:
    found = held(doors, (request("GET /healthz") + b"GET /readyz HT",), more=10)
    assert all(f.startswith(b"HTTP/1.1 200 ") and f.count(b"HTTP/1.1 ") == 1 for f in found), found
    found = held(doors, (request("GET /healthz"),), drip=b"G", more=10)
    assert all(f.startswith(b"HTTP/1.1 200 ") and b"HTTP/1.1 5" not in f for f in found), found


def test_a_head_without_an_end_is_refused_before_it_fills_memory(doors: Doors) -> None:
    line = b"x: " + b"y" * 4_093 + b"\r\n"
    with doors.connect() as conn:
        sent = 0
        with contextlib.suppress(OSError):
            conn.sendall(b"GET /healthz HTTP/1.1\r\n")
            while sent < 64 << 20:
                conn.sendall(line)
                sent += len(line)
        answer = rest(conn)
    assert sent < 64 << 20, "it was read to its end"
    assert not answer or answer.startswith(b"HTTP/1.1 4"), answer
    assert HEAD_MAX < 1 << 20


def test_a_body_that_does_not_come_is_not_waited_for_and_starts_nothing(doors: Doors) -> None:
    half = request("POST /sagas/claim", JSON, "content-length: 1000") + b'{"id":"half-1","cents":5}'
    chunk = (
        request("POST /sagas/claim", JSON, "transfer-encoding: chunked")
        + b'19\r\n{"id":"half-2","cents":5}\r\n'
    )
    found = held(doors, (half, chunk), more=10)
    assert all(f.startswith(b"HTTP/1.1 408 ") for f in found), found
    for sent in (half, chunk):
        assert b" 202 " not in doors.says(sent) and b" 200 " not in doors.says(sent[:-4])
    for ident in ("half-1", "half-2"):
        asks = request(f"GET /sagas/claim/{ident}", f"authorization: Bearer {TOKEN}", "connection: close")
        said = doors.says(asks, over=False)
        assert said.startswith(b"HTTP/1.1 404 "), said


def test_a_body_without_an_end_is_refused_at_its_limit(doors: Doors) -> None:
    part = b"10000\r\n" + b"y" * 65_536 + b"\r\n"
    with doors.connect() as conn:
        sent = 0
        with contextlib.suppress(OSError):
            conn.sendall(request("POST /sagas/claim", JSON, "transfer-encoding: chunked"))
            while sent < 64 << 20:
                conn.sendall(part)
                sent += len(part)
        answer = rest(conn)
    assert sent < 64 << 20, "it was read to its end"
    assert not answer or answer.startswith(b"HTTP/1.1 413 "), answer[:200]


def test_what_is_not_read_and_what_is_reset_leaves_nothing_behind(doors: Doors) -> None:
    many = request("GET /sagas/claim/nobody") * 50
    for _ in range(10):
        with doors.connect() as conn:
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            with contextlib.suppress(OSError):
                conn.sendall(many)
    doors.empties()


def test_more_connections_than_are_served_are_told_so_and_do_not_stay(doors: Doors) -> None:
    limit = doors.server.config.limit_concurrency if doors.server is not None else None
    assert limit == CONNECTIONS_MAX
    assert doors.server is not None
    before = doors.server.config.limit_concurrency
    try:
        doors.server.config.limit_concurrency = 5
        idle = [doors.connect() for _ in range(8)]
        said = doors.says(request("GET /healthz", "connection: close"), over=False)
        assert said.startswith((b"HTTP/1.1 503 ", b"HTTP/1.1 200 ")), said
        assert [rest(conn) for conn in idle] == [b""] * 8
    finally:
        doors.server.config.limit_concurrency = before


def test_no_other_parser_and_no_websocket_is_chosen_by_what_is_installed(doors: Doors) -> None:
    assert doors.server is not None
    config = doors.server.config
    assert issubclass(config.http_protocol_class, Patient) and config.ws_protocol_class is None
