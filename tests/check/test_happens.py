"""The story of a finding, run on the in-memory log, really happens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from contrapas.check.finding import Finding
from contrapas.testing.happens import NotSeen, happens
from tests.check.test_corpus import OBSERVED, WRONG, checked


def told() -> dict[str, tuple[Any, Finding]]:
    found: dict[str, tuple[Any, Finding]] = {}
    for name, saga in WRONG.items():
        for finding in checked(saga).findings:
            if finding.path:
                found[f"{name} {finding.code}:{finding.line}"] = saga, finding
    return found


STORIES = told()


def test_most_findings_tell_a_story() -> None:
    assert len(STORIES) >= 17


@pytest.mark.parametrize("name", sorted(STORIES))
async def test_a_story_really_happens(name: str) -> None:
    saga, finding = STORIES[name]
    await happens(saga, finding, mode="observe" if saga.name in OBSERVED else "orchestrate")


async def test_a_story_that_does_not_happen_is_not_seen() -> None:
    saga, finding = STORIES[next(n for n in sorted(STORIES) if "forgets_to_compensate" in n)]
    last = finding.path[-1]
    otherwise = replace(
        finding, path=(*finding.path[:-1], last._replace(config=last.config._replace(end="return Confirmed")))
    )
    with pytest.raises(NotSeen, match="did not happen in 3 tries"):
        await happens(saga, otherwise, tries=3)
