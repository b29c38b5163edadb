"""The pytest plugin: the fixture `sagas`, the mark `crash_everywhere`, and `--contrapas-coverage`.

A test is run as often as it takes: once side by side with the function itself, and under `crash_everywhere` twice more
for each of its transitions, with the worker killed before or after that commit. Fixtures other than `sagas` are shared by
these runs. Async tests run under whichever plugin runs the others: pytest-asyncio (`auto`) or anyio.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from contrapas.testing.coverage import Coverage
    from contrapas.testing.sagas import Sagas

MODES = ("both", "compiled", "native")
CRASHES_MAX = 400
"""Transitions of one test under `crash_everywhere`; each costs two runs."""
_COVERAGE: pytest.StashKey[Coverage] = pytest.StashKey()
_AGAIN: pytest.StashKey[bool] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and settings of the plugin."""
    group = parser.getgroup("contrapas", "sagas")
    group.addoption(
        "--contrapas-coverage",
        action="store_true",
        default=False,
        help="print states and transitions that no test has walked, and draw them",
    )
    group.addoption(
        "--contrapas-coverage-dir",
        default="build/sagas",
        help="where --contrapas-coverage puts its pictures (default: build/sagas)",
    )
    group.addoption("--contrapas-mode", choices=MODES, default=None, help="over the setting contrapas_mode")
    parser.addini("contrapas_mode", f"how sagas run in tests: {', '.join(MODES)}", default="both")


def pytest_configure(config: pytest.Config) -> None:
    """Marks, and where coverage is collected."""
    config.addinivalue_line(
        "markers",
        "crash_everywhere: repeat the test once before and once after each of its transitions' commits, "
        "with the worker killed there",
    )
    config.addinivalue_line("markers", "sagas(mode=...): how this test's sagas run: both, compiled or native")
    if config.getoption("--contrapas-coverage"):
        from contrapas.testing.coverage import Coverage

        config.stash[_COVERAGE] = Coverage()


@pytest.fixture
def sagas(request: pytest.FixtureRequest) -> Generator[Sagas]:
    """The sagas of this test, in memory, with time in its hands."""
    made = _made(cast(pytest.Item, request.node), None)
    try:
        yield made
    finally:
        made.close()


def _made(item: pytest.Item, crash: tuple[int, str] | None) -> Sagas:
    from contrapas.testing.sagas import Sagas

    return Sagas(mode=_mode(item), crash=crash, coverage=item.config.stash.get(_COVERAGE, None))


def _mode(item: pytest.Item) -> Any:
    mark = item.get_closest_marker("sagas")
    asked: Any = mark.kwargs.get("mode") if mark is not None else None
    mode = item.config.getoption("--contrapas-mode") or asked or item.config.getini("contrapas_mode")
    if mode not in MODES:
        raise pytest.UsageError(f"contrapas_mode = {mode!r}: expected one of {', '.join(MODES)}")
    return mode


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """The test itself, then again with a crash at each place."""
    result = yield
    mine = pyfuncitem.funcargs.get("sagas")
    if mine is None or pyfuncitem.stash.get(_AGAIN, False):
        return result
    cast("Sagas", mine).close()
    if pyfuncitem.get_closest_marker("crash_everywhere") is not None:
        _crashes(pyfuncitem, cast("Sagas", mine))
    return result


def _crashes(item: pytest.Function, first: Sagas) -> None:
    transitions = first.bench.commits
    if transitions > CRASHES_MAX:
        raise pytest.UsageError(
            f"{item.name}: {transitions} transitions are too many for crash_everywhere, {CRASHES_MAX} at most"
        )
    item.stash[_AGAIN] = True
    try:
        for number in range(1, transitions + 1):
            for side in ("before", "after"):
                again = item.funcargs["sagas"] = _made(item, (number, side))
                try:
                    item.ihook.pytest_pyfunc_call(pyfuncitem=item)
                except BaseException as why:
                    why.add_note(
                        f"the worker was killed {side} the commit of transition {number} of {transitions}"
                    )
                    raise
                finally:
                    again.close()
    finally:
        item.stash[_AGAIN] = False
        item.funcargs["sagas"] = first


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What no test has walked."""
    coverage = config.stash.get(_COVERAGE, None)
    if coverage is None:
        return
    terminalreporter.section("sagas: what no test has walked")
    where = Path(cast(str, config.getoption("--contrapas-coverage-dir")))
    for name, walked in sorted(coverage.sagas.items()):
        done, everything = walked.counts()
        terminalreporter.write_line(f"{name}@{walked.graph.graph}  {done} of {everything}")
        for line in walked.missing():
            terminalreporter.write_line(f"  {line}")
        terminalreporter.write_line(f"  picture     {_picture(where, name, walked)}")


def _picture(where: Path, name: str, walked: Any) -> Path:
    from contrapas.draw.svg import svg

    where.mkdir(parents=True, exist_ok=True)
    file = where / f"{name}.svg"
    file.write_text(svg(walked.graph, classes=walked.classes()), encoding="utf-8")
    return file
