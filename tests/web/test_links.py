"""Links: what is signed can be used by whoever has it, and nothing else can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from contrapas.author.link import Claims, sign, verify
from contrapas.errors import DataError
from contrapas.runtime.engine import Engine
from contrapas.web.server import create
from tests.runtime import linked

SECRET = "correct horse battery staple"
CLAIMS = Claims(instance="refund/a", run="0f", type="Approved", body='{"id":"a","by":"ü"}', until=1_000)


@pytest_asyncio.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    monkeypatch.setenv("CONTRAPAS_LINK_SECRET", SECRET)
    monkeypatch.setenv("CONTRAPAS_LINK_URL", "https://shop.example/")
    async with (
        Engine.opened(linked.app.definition(), f"sqlite:///{tmp_path}/l.db") as opened,
        opened.working(1000),
    ):
        yield opened


def doors(engine: Engine) -> httpx.AsyncClient:
    app = create(engine.client, token="0123456789abcdef", health=engine.worker.health)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:7070")


async def asked(engine: Engine) -> tuple[str, str]:
    linked.SENT.clear()
    await engine.client.start("refund", linked.Requested(id="a"))
    for _ in range(500):
        if linked.SENT:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    yes, no = linked.SENT
    assert no.startswith("https://shop.example/link/")
    return yes, no.rpartition("/")[2]


async def test_a_link_delivers_its_event_once(engine: Engine) -> None:
    yes, _ = await asked(engine)
    async with doors(engine) as http:
        assert (await http.get(f"/link/{yes}")).status_code == 405
        first = await http.post(f"/link/{yes}")
        assert (first.status_code, first.json()["verdict"]) == (202, "applied")
        assert (await http.post(f"/link/{yes}")).status_code == 202
        told = await engine.client.wait("refund/a", timeout_ms=10_000)
        assert told.outcome_body == '{"id":"a","by":"ü"}'


async def test_a_link_of_another_run_a_changed_one_and_a_foreign_one_are_refused(engine: Engine) -> None:
    yes, no = await asked(engine)
    async with doors(engine) as http:
        for bad in (
            yes[:-2],
            f"{yes[:-1]}{'A' if yes[-1] != 'A' else 'B'}",
            f"x{no}",
            "x",
            "unsigned.Approved",
        ):
            refused = await http.post(f"/link/{bad}")
            assert (refused.status_code, refused.json()["type"]) == (403, "urn:contrapas:CP831")
        foreign = sign("another secret of somebody", CLAIMS)
        assert (await http.post(f"/link/{foreign}")).status_code == 403
        expired = sign(SECRET, CLAIMS)
        assert (await http.post(f"/link/{expired}")).status_code == 410
        claims = verify(SECRET, yes, 0)
        late = sign(
            SECRET,
            Claims(instance="refund/a", run="00000000", type="Approved", body=claims.body, until=1 << 50),
        )
        assert (await http.post(f"/link/{late}")).status_code == 409
        gone = sign(SECRET, Claims(instance="refund/b", run="0f", type="Nothing", body="{}", until=1 << 50))
        assert (await http.post(f"/link/{gone}")).status_code == 404


async def test_a_saga_that_makes_a_link_without_a_secret_parks_and_goes_on_with_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTRAPAS_LINK_SECRET")
    await engine.client.start("refund", linked.Requested(id="a"))
    told = await engine.client.wait("refund/a", timeout_ms=10_000)
    assert (told.status, told.code) == ("parked", "CP833")
    async with doors(engine) as http:
        assert (await http.post("/link/x.y")).status_code == 503
    monkeypatch.setenv("CONTRAPAS_LINK_SECRET", SECRET)
    linked.SENT.clear()
    await engine.client.operate("refund/a", "retry")
    for _ in range(500):
        if linked.SENT:
            break
        await asyncio.sleep(0.01)
    assert verify(SECRET, linked.SENT[0], 0).instance == "refund/a"


@pytest.mark.parametrize("token", ["", ".", "a.b.c", "ü.ü", "e30.", "W10." + "A" * 43, "A" * 9000])
def test_any_text_is_no_token(token: str) -> None:
    with pytest.raises(DataError) as caught:
        verify(SECRET, token, 0)
    assert caught.value.code == "CP831"


def test_a_token_says_what_was_signed_until_its_time_is_over() -> None:
    token = sign(SECRET, CLAIMS)
    assert verify(SECRET, token, 1_000) == CLAIMS and set(token) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    )
    with pytest.raises(DataError) as caught:
        verify(SECRET, token, 1_001)
    assert caught.value.code == "CP832"
    with pytest.raises(DataError) as caught:
        sign("short", CLAIMS)
    assert caught.value.code == "CP833"
