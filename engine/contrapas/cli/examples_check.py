"""Examples of what `check` finds, for `contrapas explain`: body of the saga, and what stands before it or instead of its head."""

from __future__ import annotations

_OUT = "async def demo(s: Saga, e: Started) -> Done | SoldOut:"
_CHARGE = 'await s.step(Charge(id=e.id), undo=lambda ok: Refund(id=e.id, charge=ok.charge), within="30s")'
_RESERVE = 'await s.step(Reserve(id=e.id), undo=None, within="30s")'
_VOTE = 'class Vote(Event, topic="demo.events", key="id"):\n    id: str\n    by: str = ""'
_ADD = """class Added(Event, key="id"):
    id: str

class Add(Command[Added], key="id"):
    id: str"""
_OTHER = 'class Recalled(Event, topic="law.events", key="id"):\n    id: str'

FINDINGS: dict[str, tuple[str, dict[str, str]]] = {
    "CP702": ("while True:\n    if e.names:\n        await work(e.id)\n        return Done(id=e.id)", {}),
    "CP704": (
        f'{_CHARGE}\ns.point_of_no_return()\nawait s.step(Reserve(id=e.id), within="30s")\nreturn Done(id=e.id)',
        {},
    ),
    "CP705": (
        f"try:\n    {_RESERVE}\nexcept StepFailed:\n    return None\nreturn Done(id=e.id)",
        {"head": "async def demo(s: Saga, e: Started) -> Done | None:"},
    ),
    "CP706": (
        (
            f"try:\n    {_CHARGE}\n    {_RESERVE}\nexcept StepFailed:\n"
            '    await s.step(Refund(id=e.id, charge=""), undo=None, within="30s")\n'
            "    await s.compensate()\n    return SoldOut(id=e.id)\nreturn Done(id=e.id)"
        ),
        {"head": _OUT},
    ),
    "CP707": (
        f"try:\n    {_CHARGE}\n    {_RESERVE}\nexcept StepFailed:\n    return SoldOut(id=e.id)\nreturn Done(id=e.id)",
        {"head": _OUT},
    ),
    "CP708": (
        "await s.step(work(e.id), undo=undo_it(e.id))\nreturn Done(id=e.id)",
        {"before": "@step(undo=None, retry=Retry(1))\nasync def undo_it(id: str) -> None: ..."},
    ),
    "CP709": (
        "await s.step(work(e.id), undo=lambda number: free(number))\nreturn Done(id=e.id)",
        {"before": "@step(undo=None)\nasync def free(number: str) -> None: ..."},
    ),
    "CP710": (
        (
            f"for attempt in range(3):\n    try:\n        {_CHARGE}\n        return Done(id=e.id)\n"
            '    except StepFailed:\n        await s.sleep("5s")\nawait s.compensate()\nreturn Done(id=e.id)'
        ),
        {},
    ),
    "CP711": (
        'first = await s.wait(Vote, within="1d")\nsecond = await s.wait(Vote, within="1d")\nreturn Done(id=e.id)',
        {"before": _VOTE},
    ),
    "CP713": (
        (
            'while True:\n    try:\n        await s.step(Reserve(id=e.id), undo=None, within="30s")\n'
            "        return Done(id=e.id)\n    except StepFailed:\n        pass"
        ),
        {},
    ),
    "CP714": (
        'try:\n    await s.sleep("1h")\nexcept StepFailed:\n    return SoldOut(id=e.id)\nreturn Done(id=e.id)',
        {"head": _OUT},
    ),
    "CP715": (
        'await s.wait(Started, within="1d")\nreturn Done(id=e.id)',
        {"before": _VOTE, "head": "async def demo(s: Saga, e: Started | Vote) -> Done:"},
    ),
    "CP716": (
        'await s.all(s.wait(Vote, within="1d"), s.wait(Vote, within="2d"))\nreturn Done(id=e.id)',
        {"before": _VOTE},
    ),
    "CP717": (
        (
            'got = await s.wait(Vote, Recalled, within="1d")\nif isinstance(got, Vote):\n    return Done(id=e.id)\n'
            "return SoldOut(id=e.id)"
        ),
        {"before": f"{_VOTE}\n\n{_OTHER}", "head": _OUT},
    ),
    "CP718": (
        f"try:\n    {_CHARGE}\nfinally:\n    await s.step(Reserve(id=e.id), undo=None, retry=FOREVER)\nreturn Done(id=e.id)",
        {},
    ),
    "CP719": (
        'await s.wait(Parcel, within="1d")\nreturn Done(id=e.id)',
        {"before": 'class Parcel(Event, topic="parcels", key="parcel"):\n    parcel: str\n    id: str'},
    ),
    "CP720": (
        (
            'votes: list[str] = []\nwhile True:\n    got = await s.wait(Vote, within="30d")\n'
            "    if not isinstance(got, Vote):\n        return Done(id=e.id)\n    votes.append(got.by)"
        ),
        {"before": _VOTE},
    ),
    "CP722": (
        "s.log.info(e.card)\nawait work(e.id)\nreturn Done(id=e.id)",
        {
            "before": "from typing import Annotated\nfrom contrapas import Sensitive\n\n"
            'class Card(Event, topic="demo.events", key="id"):\n    id: str\n    card: Annotated[str, Sensitive]',
            "head": "async def demo(s: Saga, e: Card) -> Done:",
        },
    ),
    "CP725": (
        'got = await s.wait(Add, within="1h")\nreturn Done(id=e.id)',
        {"before": _ADD},
    ),
    "CP726": ("await work(e.id)\ns.emit(Done(id=e.id))\nreturn Done(id=e.id)", {}),
    "CP727": (
        (
            'for name in ("ann", "bob"):\n    await work(name)\n    got = await s.wait(Vote, within="1d")\n'
            "    if isinstance(got, Vote):\n        return Done(id=e.id)\nreturn Done(id=e.id)"
        ),
        {"before": _VOTE},
    ),
    "CP728": (
        (
            "for name in set(e.names):\n    await s.step(Charge(id=e.id), undo=lambda ok: Refund(id=e.id, charge=ok.charge),"
            ' within="30s")\nreturn Done(id=e.id)'
        ),
        {},
    ),
    "CP730": (
        (
            'got = await s.wait(Add, within="1h")\nif isinstance(got, Add):\n    s.reply(got, Added(id=e.id))\n'
            "    s.reply(got, Added(id=e.id))\nreturn Done(id=e.id)"
        ),
        {"before": _ADD},
    ),
}

_POST = """@saga
async def demo(s: Saga, e: Started) -> Done:
    await s.wait(Weighed)
    return Done(id=e.id)

app.orchestrate(demo)"""
_WEIGHED = 'class Weighed(Event, topic="post.events", key="id"):\n    id: str'
_LABELLED = 'class Labelled(Event, topic="post.events", key="id"):\n    id: str'
_SERVED = (
    "from contrapas import Service\n\npost, depot = Service('post'), Service('depot')\napp.serve(post, depot)"
)

PARTS: dict[str, str] = {
    "CP601": f"""{_SERVED}

{_WEIGHED}

{_LABELLED}

@post.on(Started)
def label(e: Started) -> Labelled:
    return Labelled(id=e.id)

@depot.on(Labelled)
def shelve(e: Labelled) -> None: ...

{_POST.replace("s.wait(Weighed)", 's.wait(Weighed, within="1d")')}""",
    "CP603": f"""{_SERVED}

{_WEIGHED}

class Weigh(Command[Weighed], topic="post.commands", key="id"):
    id: str

@post.on(Declined)
def weigh(e: Declined) -> Weighed:
    return Weighed(id=e.id)

@saga
async def demo(s: Saga, e: Started) -> Done:
    await s.step(Weigh(id=e.id), undo=None, within="1d")
    return Done(id=e.id)

app.observe(demo)""",
    "CP604": f"""{_SERVED}

{_WEIGHED}

{_LABELLED}

@post.on(Labelled)
def weigh(e: Labelled) -> Weighed:
    return Weighed(id=e.id)

@depot.on(Weighed)
def label(e: Weighed) -> Labelled:
    return Labelled(id=e.id)

{_POST.replace("s.wait(Weighed)", 's.wait(Weighed, within="1d")')}""",
    "CP605": f"""{_SERVED}

@post.on(Charge)
def charge(c: Charge) -> Charged:
    return Charged(id=c.id, charge="1")

@depot.on(Charge)
def charge_too(c: Charge) -> Charged:
    return Charged(id=c.id, charge="2")

{_POST.replace("s.wait(Weighed)", 's.sleep("1h")')}""",
    "CP701": f"""{_SERVED}

{_WEIGHED}

{_LABELLED}

@post.on(Started)
def label(e: Started) -> Labelled:
    return Labelled(id=e.id)

@depot.on(Labelled)
def shelve(e: Labelled) -> None: ...

{_POST}""",
}
"""Whole programs, behind the prelude: what is wrong between services and sagas."""
