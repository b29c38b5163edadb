"""Entities over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio

from contrapas.runtime.engine import Engine
from contrapas.web.server import create
from tests.runtime import entities


@pytest_asyncio.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    entities.RAN.clear()
    async with (
        Engine.opened(entities.app.definition(), f"sqlite:///{tmp_path}/e.db") as engine,
        engine.working(1000) as worker,
    ):
        app = create(engine.client, token="0123456789abcdef", health=worker.health)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:7070"
        ) as client:
            yield client


async def test_a_handler_is_called_and_a_query_looks(http: httpx.AsyncClient) -> None:
    assert (await http.get("/entities/cart/s-42/total")).json() == 0
    done = await http.post("/entities/cart/s-42/add", json={"what": "mug", "cents": 5})
    assert (done.status_code, done.json()) == (200, 1)
    assert (await http.post("/entities/Cart/s-42/add", json={"what": "cup"})).json() == 2
    assert (await http.get("/entities/cart/s-42/total")).json() == 6
    assert (await http.get("/entities/cart/s-42/total?more=10")).json() == 16
    assert (await http.post("/entities/cart/s-42/total", content="3")).json() == 9
    assert (await http.get("/entities/cart/s-42/whole")).json()[1] == {"what": "cup", "cents": 1}
    closed = await http.post("/entities/cart/s-42/close")
    assert (closed.status_code, closed.json()) == (200, None)


async def test_one_argument_is_the_body_and_what_does_not_fit_is_said_with_its_place(
    http: httpx.AsyncClient,
) -> None:
    up = await http.post("/entities/brief/a/up", content="5")
    assert (up.status_code, up.json()) == (200, 5)
    assert (await http.post("/entities/brief/a/up")).json() == 6
    bad = await http.post("/entities/brief/a/up", content='"5"')
    assert bad.status_code == 422
    assert bad.json()["errors"] == [{"at": "", "expected": "integer", "got": "string"}]
    bad = await http.post("/entities/cart/a/add", json={"what": 3})
    assert [e["at"] for e in bad.json()["errors"]] == ["/what"]
    assert (await http.post("/entities/cart/a/add", json=["mug"])).status_code == 422
    assert (await http.post("/entities/cart/a/add", content="{")).status_code in (400, 422)


async def test_what_is_not_there_is_said(http: httpx.AsyncClient) -> None:
    assert (await http.post("/entities/nothing/a/add")).status_code == 404
    assert (await http.post("/entities/cart/a/nothing")).status_code == 404
    assert (await http.get("/entities/cart/a/add")).status_code == 405


async def test_a_failure_is_a_conflict_and_a_repeat_gets_the_first_answer(http: httpx.AsyncClient) -> None:
    failed = await http.post("/entities/cart/a/checked", content='"mug"')
    assert failed.status_code == 409 and failed.json()["reason"] == "no such thing"
    for _ in range(2):
        done = await http.post("/entities/brief/k/up", content="2", headers={"idempotency-key": "same"})
        assert done.json() == 2 and done.headers["idempotency-key"] == "same"
    together = await asyncio.gather(*[http.post("/entities/brief/m/up", content="1") for _ in range(20)])
    assert sorted(json.loads(one.text) for one in together) == list(range(1, 21))
