"""Findings as SARIF 2.1.0 (OASIS), the form that code hosts and editors read: rules from the code table, stories as code flows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote

from contrapas import codes
from contrapas.check.finding import Finding, StoryLine
from contrapas.machine import Refusal

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "information": "note", "info": "note"}


def sarif(
    findings: Iterable[Finding],
    refusals: Iterable[Refusal] = (),
    *,
    version: str,
    show: Callable[[str], str],
) -> dict[str, Any]:
    """One log with one run; allowed findings stand in it as suppressed. show: a file as it is to be named."""
    told = [*findings]
    refused = [*refusals]
    names = sorted({*(f.code for f in told), *(r.code for r in refused)})
    index = {name: number for number, name in enumerate(names)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "contrapas",
                        "semanticVersion": version,
                        "rules": [_rule(name) for name in names],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [
                    *(_finding(f, index[f.code], show) for f in told),
                    *(_refusal(r, index[r.code], show) for r in refused),
                ],
            }
        ],
    }


def _rule(name: str) -> dict[str, Any]:
    entry = codes.table().get(name)
    if entry is None:
        return {"id": name}
    rule: dict[str, Any] = {
        "id": name,
        "shortDescription": {"text": entry.title},
        "defaultConfiguration": {"level": _LEVELS[entry.kind]},
    }
    if entry.explanation:
        rule["fullDescription"] = {"text": entry.explanation}
    if entry.fix:
        rule["help"] = {"text": entry.fix}
    return rule


def _finding(finding: Finding, rule: int, show: Callable[[str], str]) -> dict[str, Any]:
    made = _result(
        finding.code, rule, _LEVELS[finding.severity], f"{finding.text}. Fix: {finding.fix}",
        _place(finding.file, finding.line, finding.column, show),
    )  # fmt: skip
    if finding.saga:
        made["locations"][0]["logicalLocations"] = [{"name": finding.saga, "kind": "function"}]
    if finding.story:
        made["codeFlows"] = [{"threadFlows": [{"locations": _flow(finding, finding.story, show)}]}]
    if finding.allowed:
        made["suppressions"] = [{"kind": "inSource", "justification": finding.allowed}]
    return made


def _refusal(refusal: Refusal, rule: int, show: Callable[[str], str]) -> dict[str, Any]:
    level = "warning" if refusal.warning else "error"
    place = _place(refusal.file, refusal.line, refusal.column, show)
    return _result(refusal.code, rule, level, f"{refusal.text}. Fix: {refusal.fix}", place)


def _result(code: str, rule: int, level: str, text: str, place: dict[str, Any]) -> dict[str, Any]:
    return {
        "ruleId": code,
        "ruleIndex": rule,
        "level": level,
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    }


def _flow(finding: Finding, story: Sequence[StoryLine], show: Callable[[str], str]) -> list[dict[str, Any]]:
    line = finding.line
    found: list[dict[str, Any]] = []
    for number, part in enumerate(story, 1):
        line = part.line or line
        words = " ".join(word for word in (part.what, part.how, part.note and f"({part.note})") if word)
        location = {"physicalLocation": _place(finding.file, line, 1, show), "message": {"text": words}}
        found.append({"location": location, "executionOrder": number})
    return found


def _place(file: str, line: int, column: int, show: Callable[[str], str]) -> dict[str, Any]:
    shown = show(file).replace("\\", "/")
    uri = f"file://{quote(shown)}" if shown.startswith("/") else quote(shown)
    return {
        "artifactLocation": {"uri": uri},
        "region": {"startLine": max(line, 1), "startColumn": max(column, 1)},
    }
