"""Commands over HTTP, against the cart on a log in a file, and the typed doors of the app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from contrapas import App, StepFailed
from contrapas.cli.main import main
from contrapas.errors import Refused, Unreachable
from contrapas.runtime.engine import Engine
from contrapas.web.server import create
from tests.runtime.cart import AddItem, CartChanged, CartView, CheckOut, cart
from tests.runtime.test_commands import Do, Hired, clerk


@pytest_asyncio.fixture
async def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.chdir(tmp_path)
    app = App("shop")
    app.orchestrate(cart, clerk)
    async with (
        Engine.opened(app.definition(), f"sqlite:///{tmp_path}/shop.db") as engine,
        engine.working(1000) as worker,
    ):
        served = create(engine.client, token="", health=worker.health)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(served), base_url="http://127.0.0.1:7070"
        ) as client:
            yield client


async def test_a_command_is_answered_with_its_reply_and_the_id_to_repeat_it_by(
    http: httpx.AsyncClient,
) -> None:
    said = await http.post("/sagas/cart/c-1/AddItem", json={"sku": "mug"})
    assert (said.status_code, said.json()) == (200, {"cart_id": "c-1", "items": ["mug"]})
    assert said.headers["ce-type"] == "CartChanged"
    ident = said.headers["idempotency-key"]
    again = await http.post(
        "/sagas/cart/c-1/AddItem", json={"sku": "mug"}, headers={"idempotency-key": ident}
    )
    assert (again.status_code, again.json()) == (200, said.json())
    other = await http.post(
        "/sagas/cart/c-1/AddItem", json={"sku": "hat"}, headers={"idempotency-key": ident}
    )
    assert (other.status_code, other.json()["type"]) == (409, "urn:contrapas:CP412")
    view = await http.get("/sagas/cart/c-1/view")
    assert (view.status_code, view.json(), view.headers["ce-type"]) == (200, {"items": 1}, "CartView")


async def test_what_nobody_takes_is_declined_with_a_status_and_a_reason(http: httpx.AsyncClient) -> None:
    absent = await http.post("/sagas/cart/c-2/CheckOut", json={})
    assert (absent.status_code, absent.json()["reason"]) == (404, "absent")
    await http.post("/sagas/cart/c-2/AddItem", json={"sku": "mug"})
    out = await http.post("/sagas/cart/c-2/CheckOut", json={})
    assert out.status_code == 200
    closed = await http.post("/sagas/cart/c-2/CheckOut", json={})
    assert (closed.status_code, closed.json()["reason"]) == (409, "closed")
    nothing = await http.post("/sagas/cart/c-2/Nothing", json={})
    assert nothing.status_code == 404


async def test_a_caller_who_does_not_want_to_wait_gets_a_location(http: httpx.AsyncClient) -> None:
    said = await http.post(
        "/sagas/cart/c-3/AddItem", json={"sku": "mug"}, headers={"prefer": "respond-async"}
    )
    assert (said.status_code, said.headers["location"]) == (202, "/sagas/cart/c-3")
    ident = said.headers["idempotency-key"]
    reply = await http.post(
        "/sagas/cart/c-3/AddItem", json={"sku": "mug"}, headers={"idempotency-key": ident}
    )
    assert (reply.status_code, reply.json()["items"]) == (200, ["mug"])


async def test_a_start_among_several_is_named_by_its_type(http: httpx.AsyncClient) -> None:
    unnamed = await http.post("/sagas/cart", json={"cart_id": "c-4"})
    assert (unnamed.status_code, unnamed.json()["type"]) == (422, "urn:contrapas:CP402")
    opened = await http.post("/sagas/cart", json={"$type": "CartOpened", "cart_id": "c-4"})
    assert opened.status_code == 202
    added = await http.post("/sagas/cart", json={"$type": "AddItem", "cart_id": "c-4", "sku": "mug"})
    assert (added.status_code, added.json()) == (200, {"cart_id": "c-4", "items": ["mug"]})


async def test_an_answer_that_does_not_come_is_504_and_may_be_asked_for_again(
    http: httpx.AsyncClient,
) -> None:
    await http.post("/sagas/clerk", json={"id": "a"})
    late = await http.post("/sagas/clerk/a/Do", json={"how": "later"}, headers={"prefer": "wait=0.2"})
    assert (late.status_code, late.json()["type"]) == (504, "urn:contrapas:CP507")
    ident = {"idempotency-key": late.headers["idempotency-key"]}
    asked = asyncio.ensure_future(http.post("/sagas/clerk/a/Do", json={"how": "later"}, headers=ident))
    await asyncio.sleep(0)
    assert (await http.post("/sagas/clerk/a/Nod", json={})).status_code == 202
    reply = await asked
    assert (reply.status_code, reply.json()["said"]) == (200, "late")


async def test_the_app_asks_with_types(tmp_path: Path) -> None:
    app = App("shop")
    app.orchestrate(cart, clerk)
    async with app.lifespan(log=f"sqlite:///{tmp_path}/shop.db"):
        changed = await app.ask(AddItem(cart_id="c-1", sku="mug"), timeout="5s")
        assert isinstance(changed, CartChanged) and changed.items == ("mug",)
        assert await app.view(cart, "c-1") == CartView(items=1)
        await app.ask(CheckOut(cart_id="c-1"))
        with pytest.raises(StepFailed) as why:
            await app.ask(CheckOut(cart_id="c-1"))
        assert (why.value.reason, why.value.unknown, why.value.reply) == ("closed", False, None)
        with pytest.raises(Refused):
            await app.view(cart, "c-9")
        await app.start(clerk, Hired(id="a"))
        with pytest.raises(Unreachable) as late:
            await app.ask(Do(id="a", how="later"), timeout="50ms")
        assert late.value.code == "CP507" and late.value.event_id


async def test_people_see_view_and_unanswered_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/shop.db"
    app = App("shop")
    app.orchestrate(cart, clerk)
    async with app.lifespan(log=url):
        await app.ask(AddItem(cart_id="c-1", sku="mug"), timeout="5s")
        await app.start(clerk, Hired(id="a"))
        with pytest.raises(Unreachable):
            await app.ask(Do(id="a", how="later"), timeout="300ms", event_id="q-1")

    def shown(*words: str) -> str:
        capsys.readouterr()
        assert main([*words, "--log", url]) == 0
        return capsys.readouterr().out

    assert 'shows       CartView {"items":1}' in shown("instance", "describe", "cart/c-1")
    assert "asked       Do   id q-1   by a door" in shown("instance", "describe", "clerk/a")
    described = json.loads(shown("instance", "describe", "clerk/a", "-o", "json"))
    assert described["asked"] == [{"id": "q-1", "type": "Do", "by": ""}]
    rows = json.loads(shown("instance", "list", "-o", "json"))
    assert {row["note"] for row in rows} == {""}
