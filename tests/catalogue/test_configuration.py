"""Rows of the catalogue about configuration, as a command meets them."""

from __future__ import annotations

import pytest

from tests.catalogue.shell import Cli


def written(cli: Cli, text: str) -> None:
    (cli.here / "pyproject.toml").write_text(f"[tool.contrapas]\n{text}\n")


def test_b52_everything_that_is_wrong_is_said_at_once_with_its_source(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(
        cli,
        'lgo = "x"\nport = "many"\nnamespace = "shop"\n[tool.contrapas.topics."a.b"]\nkye = "x"\nstale = 1',
    )
    monkeypatch.setenv("CONTRAPAS_PROT", "7070")
    monkeypatch.setenv("CONTRAPAS_DRAIN", "\x1b[31msoon")
    monkeypatch.setenv("CONTRAPAS_NAMESPACE", "prod")
    ran = cli("ls")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("CP801") == 2  # the head, and the line that explains it
    for words in (
        "pyproject.toml:2: [tool.contrapas] has no key 'lgo', the nearest is 'log'",
        "pyproject.toml:3: port: expected number, got 'many'",
        "has no key 'kye', the nearest is 'key'",
        "expected accept or refuse, got 1",
        "CONTRAPAS_PROT is no setting, the nearest is 'CONTRAPAS_PORT'",
        "environment CONTRAPAS_DRAIN: drain: expected duration",
        "namespace: environment CONTRAPAS_NAMESPACE says 'prod', pyproject.toml:4 says 'shop'",
    ):
        assert words in ran.err
    assert "\x1b" not in ran.err


@pytest.mark.parametrize("text", ["port = 1\nport = 2", 'log = "a"\n[tool.contrapas]\nlog = "b"', "port = "])
def test_b52_a_key_that_stands_twice_or_a_file_that_is_none_exits_2(cli: Cli, text: str) -> None:
    written(cli, text)
    ran = cli("ls")
    assert (ran.code, "CP801" in ran.err, "pyproject.toml" in ran.err) == (2, True, True), ran


def test_b52_a_worker_does_not_begin_with_a_configuration_that_is_not_understood(cli: Cli) -> None:
    written(cli, "concurency = 3")
    ran = cli("worker", "desk:app")
    assert (ran.code, "the nearest is 'concurrency'" in ran.err) == (2, True), ran
    assert not (cli.here / ".contrapas").exists()


@pytest.mark.parametrize("text", ['session = "5s"\nheartbeat = "2s"', 'heartbeat = "4s"', 'session = "8s"'])
def test_b57_a_session_of_less_than_three_heartbeats_exits_2_with_the_arithmetic(cli: Cli, text: str) -> None:
    written(cli, text)
    ran = cli("ls")
    assert (ran.code, "CP806" in ran.err, "three heartbeats" in ran.err) == (2, True, True), ran
    assert "pyproject.toml:2" in ran.err


def test_b57_a_step_that_may_outlive_the_drain_is_a_warning(cli: Cli) -> None:
    (cli.here / "slow_to_end.py").write_text(
        "from contrapas import App, Event, Saga, saga, step\n\n\n"
        "class Asked(Event, topic='x.events', key='id'):\n    id: str\n\n\n"
        "@step(undo=None, timeout='2m')\nasync def export(id: str) -> str:\n    return id\n\n\n"
        "@saga\nasync def tell(s: Saga, e: Asked) -> None:\n    await export(e.id)\n\n\n"
        "app = App('x')\napp.orchestrate(tell)\n"
    )
    (cli.here / ".contrapas").mkdir()
    (cli.here / ".contrapas" / "x.db").write_text("no log, so that the worker ends at once")
    ran = cli.process("worker", "slow_to_end:app", "--drain", "30s")
    assert ran.code == 9, ran
    assert "warning CP806  step export may take 2m00s, --drain is 30s" in ran.err
