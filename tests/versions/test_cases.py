"""Tricky case 75: a record of one version under the next at every label, with exits of a `finally` added and reordered."""

from __future__ import annotations

import pytest

from contrapas.core import moves
from tests.versions.driver import Script, Version, resumed, start

HEAD = """
from contrapas import App, Event, Saga, saga, step

class Go(Event, topic="go.events", key="k"):
    k: str
    n: int = 0

class Ended(Event, topic="go.events", key="k"):
    k: str
    text: str

@step(undo=None)
async def num(n: int) -> int:
    return n

@step(undo=None)
async def word(n: int) -> str:
    return str(n)

app = App("shop")

@saga
async def main(s: Saga, go: Go) -> Ended:
    seen: list[str] = []
    for x in [1, 2, 3]:
        try:
            a = await num(x)
{body}
        finally:
            seen.append(await word(x))
    return Ended(k=go.k, text=",".join(seen))

app.orchestrate(main)
"""
ONE = "            if a == 99: break"
MORE = '            if a == 98: return Ended(k=go.k, text="out")\n            if a == 97: continue\n            if a == 99: break'
TURNED = '            if a == 99: break\n            if a == 97: continue\n            if a == 98: return Ended(k=go.k, text="out")'


@pytest.mark.parametrize(("before", "after"), [(ONE, MORE), (MORE, TURNED), (TURNED, MORE)])
def test_case_75_exits_may_be_added_and_reordered_under_every_record(before: str, after: str) -> None:
    old = Version.of(HEAD.replace("{body}", before), "main")
    new = Version.of(HEAD.replace("{body}", after), "main", old.lock)
    new.over(old)
    script = Script(5)
    run = start(old, script)
    stood = 0
    for step in run.steps[:-1]:
        assert moves.unfit(step.record, new.world) == ""
        assert resumed(new, step, script).after(step) == run.after(step) or (
            resumed(new, step, script).last.outcome_body == run.last.outcome_body
        )
        stood += 1
    assert stood >= 2


def test_case_75_an_exit_that_is_pending_may_not_go_away() -> None:
    old = Version.of(HEAD.replace("{body}", MORE), "main")
    new = Version.of(HEAD.replace("{body}", ONE), "main", old.lock)
    new.over(old)
    verdicts = {s.record.state: moves.unfit(s.record, new.world) for s in start(old, Script(5)).steps[:-1]}
    assert verdicts["num"] == ""
    assert "CP305" in verdicts["word"]
