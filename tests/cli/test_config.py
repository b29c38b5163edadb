from pathlib import Path

import pytest

from contrapas.errors import Refused
from contrapas.runtime.settings import load


def written(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(f"[tool.contrapas]\n{text}\n")
    return folder


def test_a_flag_comes_before_the_environment_and_the_environment_before_the_file(tmp_path: Path) -> None:
    written(tmp_path, 'log = "sqlite:///file.db"')
    env = {"CONTRAPAS_LOG": "sqlite:///env.db"}
    assert load({"log": "sqlite:///flag.db"}, env, tmp_path).get("log") == "sqlite:///flag.db"
    assert load({"log": None}, env, tmp_path).get("log") == "sqlite:///env.db"
    assert load({}, {}, tmp_path).values["log"] == ("sqlite:///file.db", "pyproject.toml:2")


def test_the_file_is_found_from_a_folder_below(tmp_path: Path) -> None:
    written(tmp_path, "port = 8080")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert load({}, {}, below).get("port") == 8080


def test_everything_wrong_is_said_at_once_with_its_source(tmp_path: Path) -> None:
    written(
        tmp_path,
        'lgo = "x"\nport = "many"\nascii = 3\n[tool.contrapas.topics."a.b"]\nstale = "maybe"\nkye = "x"',
    )
    with pytest.raises(Refused) as caught:
        load({}, {"CONTRAPAS_PROT": "1", "CONTRAPAS_DRAIN": "soon"}, tmp_path)
    said = str(caught.value)
    for words in (
        "pyproject.toml:2: [tool.contrapas] has no key 'lgo', the nearest is 'log'",
        "pyproject.toml:3: port: expected number, got 'many'",
        "pyproject.toml:4: ascii: expected yes or no, got 3",
        "expected accept or refuse, got 'maybe'",
        "has no key 'kye', the nearest is 'key'",
        "CONTRAPAS_PROT is no setting, the nearest is 'CONTRAPAS_PORT'",
        "environment CONTRAPAS_DRAIN: drain: expected duration",
    ):
        assert words in said
    assert caught.value.code == "CP801"


def test_a_key_written_twice_is_wrong(tmp_path: Path) -> None:
    written(tmp_path, "port = 1\nport = 2")
    with pytest.raises(Refused, match="CP801"):
        load({}, {}, tmp_path)


def test_a_namespace_that_differs_between_file_and_environment_needs_a_flag(tmp_path: Path) -> None:
    written(tmp_path, 'namespace = "shop"')
    env = {"CONTRAPAS_NAMESPACE": "prod"}
    with pytest.raises(
        Refused, match="environment CONTRAPAS_NAMESPACE says 'prod', pyproject.toml:2 says 'shop'"
    ):
        load({}, env, tmp_path)
    assert load({"namespace": "prod"}, env, tmp_path).get("namespace") == "prod"


def test_a_session_holds_three_heartbeats(tmp_path: Path) -> None:
    written(tmp_path, 'session = "5s"\nheartbeat = "2s"')
    with pytest.raises(Refused, match="CP806"):
        load({}, {}, tmp_path)
    written(tmp_path, 'session = "6s"\nheartbeat = "2s"')
    load({}, {}, tmp_path)


def test_topic_mappings_are_taken_over(tmp_path: Path) -> None:
    written(tmp_path, '[tool.contrapas.topics."permits.events"]\ntype = "/name"\nstale = "accept"')
    assert load({}, {}, tmp_path).topics == {"permits.events": {"type": "/name", "stale": "accept"}}
