import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contrapas.errors import Refused
from contrapas.runtime import find

APP = "class App:\n    def definition(self):\n        return 'plain'\napp = App()\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_is_imported_under_its_dotted_path_so_that_no_class_is_loaded_twice(folder: Path) -> None:
    put(folder / "tales/order/saga.py", f"class Event: pass\n{APP}")
    put(folder / "tales/order/observed.py", f"from tales.order.saga import Event\n{APP}")
    first, _ = find.load("tales/order/observed.py:app")
    second, _ = find.load("tales/order/saga.py:app")
    assert first.Event is second.Event
    assert second.__name__ == "tales.order.saga"


def test_two_folders_may_hold_a_file_of_one_name(folder: Path) -> None:
    put(folder / "one/saga.py", f"name = 1\n{APP}")
    put(folder / "two/saga.py", f"name = 2\n{APP}")
    assert [find.load(f"{d}/saga.py")[0].name for d in ("one", "two")] == [1, 2]


def test_the_longest_entry_of_the_path_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder / "src/deep/thing.py", APP)
    monkeypatch.setattr(sys, "path", [str(folder / "src"), *sys.path])
    assert find.load("src/deep/thing.py:app")[0].__name__ == "deep.thing"


def test_a_file_outside_every_entry_is_imported_by_its_own_name(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = put(tmp_path_factory.mktemp("x-y") / "lonely.py", APP)
    assert find.load(f"{other}:app")[0].__name__ == "lonely"


def test_a_dotted_name_counts_the_current_directory_in(folder: Path) -> None:
    put(folder / "store.py", APP)
    assert find.app("store:app").definition() == "plain"
    assert find.app("store").definition() == "plain"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("stroe:app", "no module 'stroe'"),
        ("stroe.py:app", "no file stroe.py"),
        ("store:ap", "no App named 'ap'"),
        ("store:NOT_AN_APP", "no App named"),
        (":app", "no MODULE:APP"),
        ("store:a-b", "no MODULE:APP"),
    ],
)
def test_what_is_not_there_is_named_with_the_nearest(folder: Path, target: str, words: str) -> None:
    put(folder / "store.py", f"NOT_AN_APP = 3\n{APP}")
    with pytest.raises(Refused, match="CP809") as caught:
        find.app(target)
    assert words in caught.value.text
    assert "store" in caught.value.fix or "shop:app" in caught.value.fix


def test_an_import_that_fails_names_the_users_line(folder: Path) -> None:
    put(folder / "inner.py", "x = 1\nraise ValueError('no')\n")
    put(folder / "broken.py", "import inner\n")
    with pytest.raises(Refused, match="CP810") as caught:
        find.load("broken:app")
    assert caught.value.place == "inner.py:2"
    assert "ValueError: no" in caught.value.text
    assert "raise ValueError" in caught.value.text


def test_a_syntax_error_names_its_place(folder: Path) -> None:
    put(folder / "typo.py", "x = (\n")
    with pytest.raises(Refused, match="CP810") as caught:
        find.load("typo:app")
    assert caught.value.place.startswith("typo.py:1")


def test_a_missing_package_of_the_users_is_no_missing_module(folder: Path) -> None:
    put(folder / "needs.py", "import not_installed_anywhere\n")
    with pytest.raises(Refused, match="CP810.*not_installed_anywhere"):
        find.load("needs:app")
