"""SARIF as its standard has it: what must be there is there, and every index points at something."""

from __future__ import annotations

from typing import Any

from contrapas.check.sarif import sarif
from contrapas.machine import Refusal
from tests.check import wrong
from tests.check.compiled import check
from tests.check.corpus import orders


def log(*sagas: Any, refusals: tuple[Refusal, ...] = ()) -> dict[str, Any]:
    report = check(*sagas)
    return sarif((*report.findings, *report.allowed), refusals, version="1.2.3", show=lambda path: path)


def test_it_is_one_run_of_version_2_1_0_with_a_rule_for_each_code() -> None:
    made = log(orders.forgets_to_compensate, orders.has_two_pivots, orders.sells)
    assert made["version"] == "2.1.0" and "sarif-schema-2.1.0" in made["$schema"]
    (run,) = made["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "contrapas" and driver["semanticVersion"] == "1.2.3"
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        assert result["level"] in ("none", "note", "warning", "error")
        (place,) = result["locations"]
        region = place["physicalLocation"]["region"]
        assert region["startLine"] >= 1 and region["startColumn"] >= 1
        assert place["physicalLocation"]["artifactLocation"]["uri"].startswith("file:///")


def test_a_story_is_a_code_flow_in_order() -> None:
    (run,) = log(orders.forgets_to_compensate)["runs"]
    (result,) = run["results"]
    steps = result["codeFlows"][0]["threadFlows"][0]["locations"]
    assert [step["executionOrder"] for step in steps] == list(range(1, len(steps) + 1))
    assert steps[0]["location"]["message"]["text"] == "Charge Charged (undo noted: Refund)"


def test_what_is_allowed_is_suppressed_with_its_reason() -> None:
    (run,) = log(wrong.means_it)["runs"]
    (result,) = run["results"]
    assert result["suppressions"] == [
        {"kind": "inSource", "justification": "seats lapse by themselves after an hour"}
    ]


def test_refusals_of_the_compiler_are_results_too() -> None:
    refusal = Refusal(code="CP101", text="no operation", fix="await one", file="a b.py", line=3, column=5)
    (run,) = log(refusals=(refusal,))["runs"]
    assert run["results"][0]["level"] == "error"
    assert run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a%20b.py"
