"""A project that is not ours: its own folder, pytest, and the installed package; nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest

from contrapas.testing import Sagas
from shop import CardCharged, CardRefunded, ChargeCard, OrderPlaced, OutOfStock, RefundCard, ReserveStock, place_order

ORDER = OrderPlaced(order_id="o-1", sku="mug", cents=4200)
{marks}

@pytest.mark.crash_everywhere
async def test_out_of_stock_refunds_the_card(sagas: Sagas) -> None:
    run = await sagas.start(place_order, ORDER)
    await (await run.expect(ChargeCard)).reply(CardCharged(order_id="o-1", charge_id="ch_1"))
    await (await run.expect(ReserveStock)).reply(OutOfStock(order_id="o-1", sku="mug"))
    await (await run.expect(RefundCard)).reply(CardRefunded(order_id="o-1"))
    assert run.status == {status!r}
"""


def project(
    path: Path, *, status: str = "compensated", ini: str = 'asyncio_mode = "auto"', marks: str = ""
) -> Path:
    path.mkdir()
    shutil.copy(ROOT / "sagas" / "order" / "saga.py", path / "shop.py")
    (path / "pyproject.toml").write_text(f'[tool.pytest.ini_options]\npythonpath = ["."]\n{ini}\n')
    (path / "test_shop.py").write_text(TESTS.format(status=status, marks=marks))
    return path


def ran_in(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    known = any(e.name == "contrapas" for e in entry_points(group="pytest11"))
    load = [] if known else ["-p", "contrapas.testing.plugin"]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", *load, *arguments],
        cwd=path,
        env=env,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_the_fixture_is_there_once_the_package_is_installed(tmp_path: Path) -> None:
    ran = ran_in(project(tmp_path / "shop"))
    assert ran.returncode == 0, ran.stdout
    assert "1 passed" in ran.stdout


def test_it_works_under_anyio_too(tmp_path: Path) -> None:
    marks = "pytestmark = pytest.mark.anyio\n\n@pytest.fixture\ndef anyio_backend() -> str:\n    return 'asyncio'\n"
    ran = ran_in(project(tmp_path / "shop", ini="", marks=marks), "-p", "no:asyncio")
    assert ran.returncode == 0, ran.stdout
    assert "1 passed" in ran.stdout


def test_a_failure_under_a_crash_says_which(tmp_path: Path) -> None:
    path = project(tmp_path / "shop")
    saga = path / "test_shop.py"
    text = saga.read_text().replace(
        "    assert run.status", "    assert len(RUNS) < 4\n    assert run.status"
    )
    text = text.replace("    run = await", "    RUNS.append(1)\n    run = await").replace(
        "ORDER =", "RUNS = []\nORDER ="
    )
    saga.write_text(text)
    ran = ran_in(path)
    assert ran.returncode == 1
    assert "the worker was killed before the commit of transition 2 of " in ran.stdout
    assert "1 failed" in ran.stdout


def test_coverage_names_what_no_test_has_walked_and_draws_it(tmp_path: Path) -> None:
    path = project(tmp_path / "shop")
    ran = ran_in(path, "--contrapas-coverage")
    assert ran.returncode == 0, ran.stdout
    out = ran.stdout
    assert "place_order@" in out
    assert "state       ShipOrder" in out
    assert "transition  ChargeCard → compensate  after 30s" in out
    assert "undo        undo(ReserveStock)" in out
    assert "state       ReserveStock" not in out
    assert "transition  ChargeCard → ReserveStock" not in out
    picture = path / "build" / "sagas" / "place_order.svg"
    drawn = picture.read_text()
    assert drawn.startswith("<svg")
    marks = dict(re.findall(r'id="((?:state|edge)-[^"]+)" class="[^"]*?(covered|missed)"', drawn))
    assert marks["state-ChargeCard"] == marks["edge-ChargeCard-ReserveStock"] == "covered"
    assert marks["state-ShipOrder"] == marks["edge-ReserveStock-ShipOrder"] == "missed"
    assert marks["edge-ChargeCard-compensate"] == "missed"  # no test has waited until it was too late
    assert (marks["state-undo.28ChargeCard.29"], marks["state-undo.28ReserveStock.29"]) == (
        "covered",
        "missed",
    )
    assert (marks["state-OrderRejected"], marks["state-OrderConfirmed"]) == ("covered", "missed")


@pytest.mark.parametrize("mode", ["compiled", "native", "both"])
def test_the_mode_is_a_setting(tmp_path: Path, mode: str) -> None:
    ran = ran_in(project(tmp_path / "shop", ini=f'asyncio_mode = "auto"\ncontrapas_mode = "{mode}"'))
    assert ran.returncode == 0, ran.stdout


def test_a_mode_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    ran = ran_in(project(tmp_path / "shop", ini='asyncio_mode = "auto"\ncontrapas_mode = "quick"'))
    assert ran.returncode != 0
    assert "contrapas_mode = 'quick': expected one of both, compiled, native" in ran.stdout


def test_the_test_in_the_readme_runs(tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text()
    (text,) = [
        b.split("```")[0] for b in page.split("```python\n")[1:] if "crash_everywhere" in b.split("```")[0]
    ]
    path = tmp_path / "readme"
    path.mkdir()
    (path / "test_readme.py").write_text(text)
    (path / "pyproject.toml").write_text(
        f'[tool.pytest.ini_options]\nasyncio_mode = "auto"\npythonpath = ["{ROOT}"]\n'
    )
    ran = ran_in(path)
    assert ran.returncode == 0, ran.stdout
