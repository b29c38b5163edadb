"""What is found is told as a story with its lines, in one form."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from contrapas.check.story import render
from tests.check import wrong
from tests.check.compiled import check

ORDER = Path(__file__).parents[2] / "sagas" / "order" / "saga.py"


@pytest.fixture
def without_refund(tmp_path: Path) -> ModuleType:
    """The order saga, its refund deleted as a newcomer would."""
    lines = [line for line in ORDER.read_text().splitlines(keepends=True) if "undo=lambda ok" not in line]
    path = tmp_path / "order_saga.py"
    path.write_text("".join(lines))
    spec = importlib.util.spec_from_file_location("order_saga", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["order_saga"] = module
    spec.loader.exec_module(module)
    return module


def test_a_deleted_refund_is_told_with_its_lines(without_refund: ModuleType) -> None:
    report = check(without_refund.place_order)
    (finding,) = report.findings
    charge, reserve, rejected = (part.line for part in finding.story)
    told = render(finding, show=lambda path: Path(path).name)
    assert told == (
        f"order_saga.py:{charge}  warning CP703  ChargeCard may be charged and never refunded\n"
        f"   1  ChargeCard     CardCharged   :{charge}   no undo noted\n"
        f"   2  ReserveStock   OutOfStock    :{reserve}\n"
        f"   3  OrderRejected  returned      :{rejected}   the charge stands\n"
        f"   fix  undo=…  on line {charge}, or  undo=None  if that is intended"
    )
    source = Path(without_refund.__file__ or "").read_text().splitlines()
    assert "await s.step(" in source[charge - 1] and "return OrderRejected" in source[rejected - 1]


def test_the_order_as_it_is_has_no_finding() -> None:
    from contrapas.runtime.find import find

    report = check(find(f"{ORDER}:place_order"))
    assert report.findings == ()
    assert report.stats[0].line() == "place_order  4 states, 2 undos, 9 transitions, 2 outcomes  ok"


def test_a_finding_of_one_line_points_at_it() -> None:
    (finding,) = check(wrong.waits_for_ever).findings
    line = finding.line
    assert render(finding, show=lambda path: Path(path).name) == (
        f"wrong.py:{line}:5  warning CP712  wait(Booked) may wait for ever\n"
        f"   {line} |     await s.wait(Booked)  # CP712\n"
        f"   {' ' * len(str(line))}       ^ no within=, and the saga has no deadline\n"
        "   fix  within=…, or @saga(deadline=…)"
    )
