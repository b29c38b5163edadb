"""Examples for `contrapas explain`: each is short, and each is run by a test that sees its code come out.

An example of kind `saga` is appended to `PRELUDE` and compiled or checked; `json` is a body at the door; `command` is a
command line; `config` is a configuration, `lock` a lock file; `python` is a statement that raises.
"""

from __future__ import annotations

from typing import NamedTuple

from contrapas.cli.examples_check import FINDINGS, PARTS

PRELUDE = """
import asyncio
import time
import threading
from contextvars import ContextVar
from typing import Any

from contrapas import FOREVER, App, Command, Event, Retry, Saga, StepFailed, saga, step

class Started(Event, topic="demo.events", key="id"):
    id: str
    names: list[str] = []

class Done(Event, topic="demo.events", key="id"):
    id: str

class SoldOut(Event, topic="demo.events", key="id"):
    id: str
    reason: str = ""

class Charged(Event, topic="pay.events", key="id"):
    id: str
    charge: str

class Declined(Event, topic="pay.events", key="id"):
    id: str

class Refunded(Event, topic="pay.events", key="id"):
    id: str

class Charge(Command[Charged, Declined], topic="pay.commands", key="id"):
    id: str

class Refund(Command[Refunded], topic="pay.commands", key="id"):
    id: str
    charge: str

class Reserve(Command[Done, SoldOut], topic="stock.commands", key="id"):
    id: str

@step(undo=None)
async def work(text: str) -> str:
    return text

app = App("demo")
"""


class Example(NamedTuple):
    """What is shown, and how a test runs it."""

    shown: str
    kind: str = "saga"


def _saga(
    body: str,
    *,
    before: str = "",
    after: str = "",
    head: str = "async def demo(s: Saga, e: Started) -> Done:",
) -> Example:
    lines = "\n".join(f"    {line}" if line else "" for line in body.strip("\n").split("\n"))
    start = f"{before.strip()}\n\n" if before else ""
    return Example(f"{start}@saga\n{head}\n{lines}\n{after}")


EXAMPLES: dict[str, Example] = {
    "CP100": _saga(
        'options = {"within": "30s"}\nawait s.step(Charge(id=e.id), undo=None, **options)\nreturn Done(id=e.id)'
    ),
    "CP101": _saga("await asyncio.sleep(5)\nreturn Done(id=e.id)"),
    "CP102": _saga(
        "await fetch(e.id)\nreturn Done(id=e.id)", before="async def fetch(id: str) -> str:\n    return id"
    ),
    "CP103": _saga("async def inner() -> None: ...\nawait work(e.id)\nreturn Done(id=e.id)"),
    "CP104": _saga("texts = list((await work(n)) for n in e.names)\nreturn Done(id=e.id)"),
    "CP105": _saga("def inner(x: str = await work(e.id)) -> str:\n    return x\nreturn Done(id=inner())"),
    "CP106": _saga("yield Done(id=e.id)", head="async def demo(s: Saga, e: Started) -> Any:"),
    "CP107": _saga("async for n in e.names:\n    await work(n)\nreturn Done(id=e.id)"),
    "CP108": _saga("async with asyncio.Lock():\n    await work(e.id)\nreturn Done(id=e.id)"),
    "CP109": _saga('with open("x") as f:\n    await work(e.id)\nreturn Done(id=e.id)'),
    "CP110": _saga("try:\n    await work(e.id)\nexcept* ValueError:\n    pass\nreturn Done(id=e.id)"),
    "CP111": _saga("try:\n    await work(e.id)\nfinally:\n    return Done(id=e.id)"),
    "CP113": _saga("await work(e.id)\nraise"),
    "CP114": _saga('match e.id:\n    case "x" if await work(e.id):\n        pass\nreturn Done(id=e.id)'),
    "CP116": _saga("await work(e.id)\nprint(locals())\nreturn Done(id=e.id)"),
    "CP115": _saga(
        "job = s.begin(work(e.id))\nother = await both(job)\nreturn Done(id=other + await job)",
        before="@step(undo=None)\nasync def both(job: Any) -> str:\n    return str(job)\n",
    ),
    "CP117": _saga("work(e.id)\nreturn Done(id=e.id)"),
    "CP118": _saga('await s.step(Charge(id=e.id), undo="refund")\nreturn Done(id=e.id)'),
    "CP119": Example(
        "@saga\nasync def final(s: Saga, name: str) -> str:\n    s.point_of_no_return()\n    return await work(name)\n\n"
        "@saga\nasync def demo(s: Saga, e: Started) -> Done:\n"
        "    one, _ = await s.all(final(s, e.id), work(e.id))\n    return Done(id=one)\n\n"
        "app.orchestrate(demo)\n"
    ),
    "CP120": _saga("global total\ntotal = await work(e.id)\nreturn Done(id=e.id)", before='total = ""'),
    "CP121": _saga(
        "await STEPS[e.id](e.id)\nreturn Done(id=e.id)", before='STEPS = {"one": work, "two": work}'
    ),
    "CP122": _saga("await work(e.id)\nprint(super())\nreturn Done(id=e.id)"),
    "CP123": _saga("other = s\nawait work(e.id)\nreturn Done(id=e.id)"),
    "CP124": _saga("await work(e.id)\nreturn Done(id=e.id)", head="async def demo(s: Saga, e) -> Done:"),
    "CP125": _saga("names = iter(e.names)\nfor n in names:\n    await work(n)\nreturn Done(id=e.id)"),
    "CP126": Example(
        "@saga\nasync def other(s: Saga, e: Started) -> Done:\n    await work(e.id)\n    return Done(id=e.id)\n\n"
        "@saga\nasync def demo(s: Saga, e: Started) -> Done:\n    return await s.child(other, e)\n\n"
        "app.orchestrate(demo)\n"
    ),
    "CP127": Example(
        "@saga\nasync def other(s: Saga, name: str) -> str:\n    await s.wait(Charged)\n    return await work(name)\n\n"
        "@saga\nasync def demo(s: Saga, e: Started) -> Done:\n    await s.map(other, e.names)\n    return Done(id=e.id)\n\n"
        "app.orchestrate(demo)\n"
    ),
    "CP140": Example(
        "scope = dict(globals())\nexec('''\n@saga\nasync def demo(s: Saga, e: Started) -> Done:\n    await work(e.id)\n"
        "    return Done(id=e.id)\n''', scope)\napp.orchestrate(scope['demo'])\n"
    ),
    "CP142": _saga(
        "await work(e.id)\nreturn Done(id=e.id)",
        after="\n# the file is edited after it was loaded, before the app is built\nfile = Path(__file__)\n"
        'file.write_text(file.read_text().replace("await work(e.id)", "await work(e.id.upper())"))\n',
        before="from pathlib import Path",
    ),
    "CP143": Example(
        '@saga(name="demo")\nasync def one(s: Saga, e: Started) -> Done:\n    await work(e.id)\n    return Done(id=e.id)\n\n'
        '@saga(name="demo")\nasync def two(s: Saga, e: Started) -> Done:\n    await work(e.id)\n    return Done(id=e.id)\n\n'
        "app.orchestrate(one, two)\n"
    ),
    "CP144": Example(
        'class Paid(Event, topic="pay.events", key="order"):\n    order_id: str\n\nmessage_spec(Paid)',
        "python",
    ),
    "CP201": _saga(
        "value = unknown(e.id)\nawait work(e.id)\nprint(value)\nreturn Done(id=e.id)",
        before="def unknown(x):  # type: ignore\n    return x",
    ),
    "CP202": _saga("lock = threading.Condition()\nawait work(e.id)\nlock.notify()\nreturn Done(id=e.id)"),
    "CP203": _saga(
        "late = lateness()\nawait work(e.id)\nprint(late)\nreturn Done(id=e.id)",
        before="class TooLate(Exception):\n    pass\n\ndef lateness() -> TooLate:\n    return TooLate()",
    ),
    "CP205": _saga(
        "await hold(e.id)\nreturn Done(id=e.id)",
        before="@step(undo=None)\nasync def hold(id: str) -> threading.Thread:\n    return threading.Thread()",
    ),
    "CP141": Example(
        "def logged(fn):  # type: ignore\n    return fn\n\n@saga\n@logged\nasync def demo(s: Saga, e: Started) -> Done:\n"
        "    await work(e.id)\n    return Done(id=e.id)\n"
    ),
    "CP204": _saga('text = open("greeting").read() + await work(e.id)\nreturn Done(id=text)'),
    "CP206": _saga("later = work(e.id)\nawait work(e.id)\nprint(later)\nreturn Done(id=e.id)"),
    "CP207": _saga(
        'command = [Charge(id=e.id)][0]\nawait s.step(command, undo=None, within="30s")\nreturn Done(id=e.id)'
    ),
    "CP208": _saga(
        "await work(e.id)\ns.emit(Finished(id=e.id))\nreturn Done(id=e.id)",
        before='class Finished(Event, topic="demo.events", key="id", name="Done"):\n    id: str',
    ),
    "CP209": _saga(
        'await s.step(s.sleep("3s"), undo=lambda ok: Refund(id=e.id, charge=ok))\nreturn Done(id=e.id)'
    ),
    "CP210": _saga(
        "names = list(e.names)\ntodo = names\nwhile todo:\n    await work(todo.pop())\n"
        "print(len(names))\nreturn Done(id=e.id)"
    ),
    "CP311": Example(
        '@saga(migrate={"pay": "work2"})\nasync def demo(s: Saga, e: Started) -> Done:\n'
        "    await work(e.id)\n    return Done(id=e.id)\n"
    ),
    "CP313": Example(
        '@saga(name="demo", retired="k7Q2")\nasync def demo_before(s: Saga, e: Started) -> Done:\n'
        "    await work(e.id)\n    return Done(id=e.id)\n\n"
        "@saga\nasync def demo(s: Saga, e: Started) -> Done:\n    await work(e.id)\n    return Done(id=e.id)\n\n"
        "app.orchestrate(demo, demo_before)\n"
    ),
    "CP322": _saga(
        'await s.step(work(e.id), label="first")\nawait s.step(work(e.id), label="first")\nreturn Done(id=e.id)'
    ),
    "CP731": _saga("for n in e.names:\n    s.begin(work(n))\nreturn Done(id=e.id)"),
    "CP211": _saga(
        'name = e.id\nawait s.step(Charge(id=e.id), undo=lambda ok: Refund(id=name, charge=ok.charge), within="30s")\n'
        'name = "other"\nawait work(name)\nreturn Done(id=name)'
    ),
    "CP212": _saga(
        "await work(e.id)\ntotals.append(e.id)\nreturn Done(id=e.id)", before="totals: list[str] = []"
    ),
    "CP321": Example('<<<<<<< ours\n{"format": 1}\n=======\n{"format": 1}\n>>>>>>> theirs', "lock"),
    "CP703": _saga(
        'await s.step(Charge(id=e.id), within="30s")\nawait s.step(Reserve(id=e.id), undo=None, within="30s")\nreturn Done(id=e.id)'
    ),
    "CP712": _saga("await s.wait(Charged)\nreturn Done(id=e.id)"),
    "CP723": _saga(
        'urllib.request.urlopen("http://pay.example.com")\nawait work(e.id)\nreturn Done(id=e.id)',
        before="import urllib.request",
    ),
    "CP724": _saga("await work(e.id)\ntime.sleep(5)\nreturn Done(id=e.id)"),
    "CP721": Example(
        "@step\nasync def pay(id: str) -> str:\n    return id\n\n"
        "@saga\nasync def demo(s: Saga, e: Started) -> Done:\n    await pay(e.id)\n    return Done(id=e.id)\n\n"
        "app.observe(demo)\n"
    ),
    "CP401": Example("{not json", "json"),
    "CP405": Example('{"id": "a", "id": "b"}', "json"),
    "CP406": Example("[" * 65 + "]" * 65, "json"),
    "CP407": Example('{"n": 123456789012345678901234567890}', "json"),
    "CP408": Example('{"id": "\\ud800"}', "json"),
    "CP403": Example("Started.model_validate_json('{\"id\": 42}')", "start"),
    "CP801": Example('[tool.contrapas]\nlgo = "sqlite:///shop.db"', "config"),
    "CP806": Example('[tool.contrapas]\nsession = "5s"\nheartbeat = "3s"', "config"),
    "CP807": Example("contrapas topic read orders.events --from yesterday", "command"),
    "CP808": Example("contrapas ls --where 'stat=parked'", "command"),
    "CP809": Example("contrapas check nowhere:app", "command"),
    "CP813": Example("contrapas explain CP999", "command"),
    "CP814": Example("contrapas instance lst", "command"),
    "CP850": Example("Retry(0)", "python"),
}
EXAMPLES.update((code, _saga(*found[:1], **found[1])) for code, found in FINDINGS.items())
EXAMPLES.update((code, Example(whole)) for code, whole in PARTS.items())
