"""The doors over HTTP, against a worker in this process on a log in a file."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from contrapas.cli import scene
from contrapas.runtime import find
from contrapas.runtime.engine import Engine
from contrapas.web.guard import token_at
from contrapas.web.server import create

TOKEN = "0123456789abcdef"
ORDER = {"order_id": "o-1", "sku": "mug", "cents": 4200}


@pytest_asyncio.fixture
async def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONTRAPAS_LOG", raising=False)
    template = Path(scene.__file__).parent / "templates" / "order_saga.py"
    definition = find.app(f"{template}:app").definition()
    async with (
        Engine.opened(definition, f"sqlite:///{tmp_path}/shop.db") as engine,
        engine.working(1000) as worker,
    ):
        app = create(engine.client, token=TOKEN, health=worker.health, body_s=0.3)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:7070"
        ) as client:
            yield client


async def test_a_start_is_accepted_repeated_and_refused_with_another_body(http: httpx.AsyncClient) -> None:
    first = await http.post("/sagas/place_order", json=ORDER)
    assert first.status_code == 202
    assert first.headers["location"] == "/sagas/place_order/o-1"
    again = await http.post("/sagas/place_order", json=ORDER, headers={"prefer": "wait=10"})
    assert (again.status_code, again.json()["outcome"]) == (200, "OrderConfirmed")
    other = await http.post("/sagas/place_order", json={**ORDER, "cents": 1})
    assert (other.status_code, other.json()["type"]) == (409, "urn:contrapas:CP412")


async def test_prefer_wait_answers_with_the_outcome(http: httpx.AsyncClient) -> None:
    done = await http.post(
        "/sagas/place_order", json={**ORDER, "sku": "unicorn"}, headers={"prefer": "respond-async, wait=10"}
    )
    assert done.status_code == 200
    assert done.json() | {"version": 0} == {
        "instance": "place_order/o-1",
        "saga": "place_order",
        "key": "o-1",
        "verdict": "state",
        "status": "compensated",
        "state": "",
        "version": 0,
        "outcome": "OrderRejected",
        "body": {"order_id": "o-1", "reason": "OutOfStock"},
        "error": None,
    }


@pytest.mark.parametrize(
    ("body", "status", "code", "errors"),
    [
        (
            '{"order_id":"o-9","sku":"mug"}',
            422,
            "CP403",
            [{"at": "/cents", "expected": "integer", "got": "nothing"}],
        ),
        (
            '{"order_id":"o-9","sku":"mug","cents":"42"}',
            422,
            "CP403",
            [{"at": "/cents", "expected": "integer", "got": "string"}],
        ),
        (
            '{"order_id":7,"cents":true}',
            422,
            "CP403",
            [
                {"at": "/order_id", "expected": "string", "got": "integer"},
                {"at": "/sku", "expected": "string", "got": "nothing"},
                {"at": "/cents", "expected": "integer", "got": "boolean"},
            ],
        ),
        ("{not json", 422, "CP401", None),
        ('{"order_id":"o-9","order_id":"o-8","sku":"mug","cents":1}', 400, "CP405", None),
        ('{"order_id":"o-9","sku":"mug","cents":NaN}', 400, "CP405", None),
        ('{"order_id":"o-9","sku":"mug","cents":1,"x":' + "[" * 70 + "]" * 70 + "}", 400, "CP406", None),
        ('{"order_id":"o-9","sku":"mug","cents":' + "9" * 5000 + "}", 400, "CP407", None),
        ('{"order_id":"\\ud800","sku":"mug","cents":1}', 400, "CP408", None),
        (b'{"order_id":"\xff","sku":"mug","cents":1}', 400, "CP408", None),
        ('{"order_id":"","sku":"mug","cents":1}', 400, "CP413", None),
        ('{"order_id":"' + "k" * 300 + '","sku":"mug","cents":1}', 400, "CP413", None),
        ('{"order_id":"o-9","sku":"' + "x" * 950_000 + '","cents":1}', 413, "CP409", None),
        ("x" * 2_000_000, 413, "CP825", None),
    ],
)
async def test_bad_input_is_refused_at_the_door(
    http: httpx.AsyncClient, body: str | bytes, status: int, code: str, errors: list[dict[str, str]] | None
) -> None:
    answer = await http.post("/sagas/place_order", content=body)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:contrapas:{code}")
    assert answer.headers["content-type"] == "application/problem+json"
    if errors is not None:
        assert answer.json()["errors"] == errors


async def test_unknown_fields_are_ignored_and_unknown_sagas_not_found(http: httpx.AsyncClient) -> None:
    assert (await http.post("/sagas/place_order", json={**ORDER, "colour": "red"})).status_code == 202
    assert (await http.post("/sagas/nothing", json=ORDER)).status_code == 404
    assert (await http.get("/nothing")).json()["type"] == "urn:contrapas:CP813"
    assert (await http.get("/sagas/place_order")).status_code == 405


async def test_state_needs_the_token_and_waits_for_the_end(http: httpx.AsyncClient) -> None:
    await http.post("/sagas/place_order", json=ORDER)
    assert (await http.get("/sagas/place_order/o-1")).status_code == 401
    assert (
        await http.get("/sagas/place_order/o-1", headers={"authorization": "Bearer wrong"})
    ).status_code == 401
    bearer = {"authorization": f"Bearer {TOKEN}"}
    told = await http.get("/sagas/place_order/o-1?wait=10s", headers=bearer)
    assert (told.status_code, told.json()["status"]) == (200, "done")
    assert (await http.get(f"/sagas/place_order/o-1?token={TOKEN}")).status_code == 200
    assert (await http.get("/sagas/place_order/o-404", headers=bearer)).status_code == 404
    assert (await http.get("/sagas/place_order/o-404?wait=1s", headers=bearer)).status_code == 404


async def test_who_waits_for_an_instance_that_is_on_its_way_gets_its_end(http: httpx.AsyncClient) -> None:
    bearer = {"authorization": f"Bearer {TOKEN}"}
    waiting = asyncio.ensure_future(http.get("/sagas/place_order/o-77?wait=20s", headers=bearer))
    await asyncio.sleep(0.2)  # the question is on its way before the start
    assert not waiting.done()
    await http.post("/sagas/place_order", json={**ORDER, "order_id": "o-77"})
    assert (await waiting).json()["status"] == "done"
    assert (await http.get("/sagas/place_order/o-1?wait=soon", headers=bearer)).status_code in (200, 422)


async def test_state_is_followed_as_events(http: httpx.AsyncClient) -> None:
    await http.post("/sagas/place_order", json=ORDER)
    told = await http.get(
        "/sagas/place_order/o-1",
        headers={"authorization": f"Bearer {TOKEN}", "accept": "text/event-stream"},
        timeout=20,
    )
    assert told.headers["content-type"].startswith("text/event-stream")
    last = [line for line in told.text.splitlines() if line.startswith("data: ")][-1]
    assert json.loads(last[6:])["status"] == "done"


async def test_a_signal_to_an_ended_or_absent_instance_is_refused(http: httpx.AsyncClient) -> None:
    await http.post("/sagas/place_order", json=ORDER, headers={"prefer": "wait=10"})
    late = await http.post("/sagas/place_order/o-1/StockReserved", json={})
    assert late.status_code == 409, late.text
    early = await http.post("/sagas/place_order/o-404/StockReserved", json={})
    assert early.status_code == 202, "an event that the saga takes is kept for its start"
    assert (await http.post("/sagas/place_order/o-1/Nothing", json={})).status_code == 404
    other = await http.post("/sagas/place_order/o-1/StockReserved", json={"order_id": "o-2"})
    assert other.json()["type"] == "urn:contrapas:CP413"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example.com"},
        {"host": "127.0.0.1.evil.example.com"},
        {"origin": "https://evil.example.com"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
async def test_foreign_hosts_and_pages_are_refused(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await http.post("/sagas/place_order", json=ORDER, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:contrapas:CP824")
    assert "access-control-allow-origin" not in answer.headers


async def test_own_pages_and_plain_clients_pass(http: httpx.AsyncClient) -> None:
    for headers in (
        {"origin": "http://127.0.0.1:7070"},
        {"sec-fetch-site": "same-origin"},
        {"host": "localhost:7070"},
    ):
        assert (await http.get("/healthz", headers=headers)).status_code == 200


async def test_requests_are_bounded(http: httpx.AsyncClient) -> None:
    many = "&".join("a" for _ in range(1_001))
    assert (await http.get(f"/healthz?{many}")).json()["type"] == "urn:contrapas:CP825"

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(1)
        yield b"}"

    answer = await http.post("/sagas/place_order", content=slow())
    assert (answer.status_code, answer.json()["type"]) == (408, "urn:contrapas:CP825")


async def test_health_tells_how_the_worker_is(http: httpx.AsyncClient) -> None:
    assert (await http.get("/healthz")).json() == {
        "status": "green",
        "reasons": [],
        "partitions": 8,
        "steps": 0,
    }
    ready = await http.get("/readyz")
    assert ready.json()["ready"] is True
    assert ready.headers["x-content-type-options"] == "nosniff"
    assert ready.headers["x-frame-options"] == "DENY"


def test_the_token_is_drawn_once_and_only_ours_to_read(tmp_path: Path) -> None:
    folder = str(tmp_path / "state")
    token = token_at(folder)
    assert token_at(folder) == token
    assert stat.S_IMODE((tmp_path / "state" / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    (tmp_path / "state" / "token").chmod(0o644)
    assert token_at(folder) != token


def test_a_link_in_place_of_the_token_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "secret").write_text("0123456789abcdef0123")
    (tmp_path / "state" / "token").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError):
        token_at(str(tmp_path / "state"))
