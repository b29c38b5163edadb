"""`app.asgi()` inside FastAPI and Starlette, and served by itself."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Message

from contrapas import App, Event, Saga, saga


class Rung(Event, topic="bell.events", key="id"):
    id: str


class Answered(Event, topic="bell.events", key="id"):
    id: str


@saga
async def ring(s: Saga, e: Rung) -> Answered:
    return Answered(id=e.id)


def _app() -> App:
    made = App("bell")
    made.orchestrate(ring)
    return made


@pytest.fixture(autouse=True)
def _log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTRAPAS_LOG", f"sqlite:///{tmp_path}/bell.db")


def _caller(asgi: ASGIApp, host: str = "localhost") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=asgi), base_url=f"http://{host}")


async def test_a_saga_is_started_and_looked_at_through_the_mount_and_the_way_back_names_the_mount() -> None:
    app = _app()
    api = FastAPI(lifespan=lambda _: app.lifespan())
    api.mount("/contrapas", app.asgi())
    async with api.router.lifespan_context(api), _caller(api) as http:
        started = await http.post("/contrapas/sagas/ring", json={"id": "a"}, headers={"prefer": "wait=10"})
        assert started.status_code in (200, 202)
        assert started.headers["location"] == "/contrapas/sagas/ring/a"
        told = await http.get(started.headers["location"] + "?wait=10s")
        assert (told.json()["status"], told.json()["outcome"]) == ("done", "Answered")
        assert (await http.get("/contrapas/readyz")).status_code == 200


async def test_starlette_mounts_it_too() -> None:
    app = _app()
    outer = Starlette(routes=[Mount("/inner", app.asgi())], lifespan=lambda _: app.lifespan())
    async with outer.router.lifespan_context(outer), _caller(outer) as http:
        assert (await http.post("/inner/sagas/ring", json={"id": "b"})).status_code in (200, 202)


async def test_before_the_lifespan_it_says_that_the_app_does_not_run() -> None:
    async with _caller(_app().asgi()) as http:
        answer = await http.get("/sagas/ring/a")
    assert answer.status_code == 503
    assert "lifespan" in answer.json()["title"] + answer.json().get("detail", "")


async def test_another_host_must_be_listed_and_a_token_is_asked_for_where_one_is_set() -> None:
    app = _app()
    open_to_all, closed = app.asgi(hosts=["shop.example"]), app.asgi(token="0123456789abcdef")
    async with app.lifespan():
        async with _caller(open_to_all, "other.example") as http:
            assert (await http.post("/sagas/ring", json={"id": "c"})).status_code == 403
        async with _caller(open_to_all, "shop.example") as http:
            assert (await http.post("/sagas/ring", json={"id": "c"})).status_code in (200, 202)
        async with _caller(closed) as http:
            assert (await http.get("/sagas/ring/c")).status_code == 401
            known = {"authorization": "Bearer 0123456789abcdef"}
            assert (await http.get("/sagas/ring/c", headers=known)).status_code == 200


async def test_served_by_itself_it_runs_the_app() -> None:
    app = _app()
    asgi = app.asgi()
    sent: list[str] = []
    turns = iter(("lifespan.startup", "lifespan.shutdown"))

    async def receive() -> dict[str, str]:
        kind = next(turns)
        if kind == "lifespan.shutdown":
            async with _caller(asgi) as http:
                sent.append(str((await http.get("/healthz")).status_code))
        return {"type": kind}

    async def send(message: Message) -> None:
        sent.append(str(message["type"]))

    await asgi({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "200", "lifespan.shutdown.complete"]
