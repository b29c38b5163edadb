from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest

from contrapas import App, Depends, Event, Saga, Timeout, saga, step
from contrapas.errors import CompileError, ContrapasError, Refused
from contrapas.runtime import find


class Opened(Event, topic="door.events", key="id"):
    id: str
    n: int = 1


class Knocked(Event, topic="door.events", key="id"):
    id: str


class Closed(Event, topic="door.events", key="id"):
    id: str
    total: int


ENDED: dict[str, asyncio.Future[int]] = {}


@step(undo=None)
async def double(n: int) -> int:
    return 2 * n


@step(undo=None)
def tell(id: str, total: int) -> None:
    future = ENDED[id]
    future.get_loop().call_soon_threadsafe(future.set_result, total)


class Bell:
    tone: int = 40


@saga
async def visit(s: Saga, e: Opened, bell: Bell, other: Annotated[int, Depends(lambda: 1)]) -> Closed:
    total: int = await double(e.n)
    knock = await s.wait(Knocked, within="1m")
    if isinstance(knock, Timeout):
        total = -1
    total += bell.tone + other
    await tell(e.id, total)
    return Closed(id=e.id, total=total)


def app() -> App:
    made = App("door")
    made.orchestrate(visit)
    made.provide(Bell, Bell)
    return made


def ending(key: str) -> asyncio.Future[int]:
    ENDED[key] = asyncio.get_running_loop().create_future()
    return ENDED[key]


async def test_a_saga_runs_inside_the_block_and_gets_what_the_app_provides(folder: Path) -> None:
    shop, end = app(), ending("d-1")
    async with shop.lifespan():
        told = await shop.start(visit, Opened(id="d-1", n=3), within="10s")
        assert (told.instance, told.verdict) == ("visit/d-1", "applied")
        await shop.signal(visit, "d-1", Knocked(id="d-1"))
        assert await asyncio.wait_for(end, 10) == 6 + 40 + 1
    assert (folder / ".contrapas" / "door.db").exists()


async def test_what_was_begun_goes_on_in_the_next_block() -> None:
    end = ending("d-2")
    async with app().lifespan():
        await app_start("d-2")
    shop = app()
    async with shop.lifespan():
        await shop.signal(visit, "d-2", Knocked(id="d-2"))
        assert await asyncio.wait_for(end, 10) == 2 + 40 + 1


async def app_start(key: str) -> None:
    shop = app()
    told = await shop.start(visit, Opened(id=key))  # beside the running block, through the log
    assert told.instance == f"visit/{key}"


async def test_a_start_without_a_block_waits_on_the_log() -> None:
    end = ending("d-3")
    await app_start("d-3")
    shop = app()
    async with shop.lifespan():
        await shop.signal(visit, "d-3", Knocked(id="d-3"), within="10s")
        assert await asyncio.wait_for(end, 10) == 43


async def test_the_same_key_with_another_payload_is_refused_and_the_same_again_is_not() -> None:
    shop = app()
    async with shop.lifespan():
        await shop.start(visit, Opened(id="d-4", n=1), within="10s")
        again = await shop.start(visit, Opened(id="d-4", n=1), within="10s")
        assert again.verdict == "duplicate"
        with pytest.raises(Refused) as refused:
            await shop.start(visit, Opened(id="d-4", n=2), within="10s")
        assert refused.value.code == "CP412"


async def test_one_process_has_one_block_at_a_time() -> None:
    shop = app()
    async with shop.lifespan():
        with pytest.raises(Refused, match="runs in this process already"):
            async with shop.lifespan():
                pass


async def test_a_saga_that_does_not_compile_never_runs() -> None:
    wrong = App("wrong")
    wrong.orchestrate(awaits_nonsense)
    with pytest.raises(CompileError) as refused:
        async with wrong.lifespan():
            raise AssertionError("not reached")
    assert {r.code for r in refused.value.refusals} == {"CP101"}


@saga
async def awaits_nonsense(s: Saga, e: Opened) -> None:
    await asyncio.sleep(1)


CONFIGURATIONS: list[tuple[str, Callable[[pytest.MonkeyPatch], None]]] = [
    ('log = "sqlite:///here/file.db"', lambda patch: None),
    ('log = "sqlite:///there.db"', lambda patch: patch.setenv("CONTRAPAS_LOG", "sqlite:///here/file.db")),
]


@pytest.mark.parametrize(("text", "environment"), CONFIGURATIONS)
async def test_the_log_is_the_configured_one(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    environment: Callable[[pytest.MonkeyPatch], None],
) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.contrapas]\n{text}\n")
    environment(monkeypatch)
    async with app().lifespan():
        pass
    assert (folder / "here" / "file.db").exists()
    assert not (folder / "there.db").exists()


async def test_a_mistake_in_the_configuration_is_said_before_anything_is_made(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.contrapas]\nlgo = "x"\nport = "many"\n')
    with pytest.raises(ContrapasError) as refused:
        async with app().lifespan():
            raise AssertionError("not reached")
    assert refused.value.code == "CP801"
    assert "lgo" in refused.value.text
    assert "port" in refused.value.text
    assert not (folder / ".contrapas").exists()


async def test_the_names_of_states_are_those_of_the_lock_file_beside_the_app(folder: Path) -> None:
    file = folder / "locked_door.py"
    file.write_text(
        "from contrapas import App, Event, Saga, saga\n\n"
        "class Rung(Event, topic='bell.events', key='id'):\n    id: str\n\n"
        "@saga\nasync def answer(s: Saga, e: Rung) -> None:\n    await s.sleep('1h')\n\n"
        "app = App('bell')\napp.orchestrate(answer)\n"
    )
    bell = find.find(f"{file}:app")
    async with bell.lifespan(log="memory:"):
        pass
    (folder / "sagas.lock.json").write_text("torn")
    with pytest.raises(ContrapasError) as refused:
        async with bell.lifespan(log="memory:"):
            raise AssertionError("not reached")
    assert refused.value.code == "CP321"
