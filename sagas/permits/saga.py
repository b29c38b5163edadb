"""Following the receipt phase of permit applications, as a municipality recorded it: 1,434 cases, 8,577 events.

The office's people and systems do their work; this saga only watches (`app.observe`). A case begins with the
confirmation of receipt; it is through the receipt phase once the confirmation was sent (T05) and somebody determined
whether the application must be stopped (T10), in either order; what follows then belongs to the same case. A case that
is quiet for 180 days has ended.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from contrapas import App, Event, Saga, Timeout, saga


class PermitEvent(Event, topic="permits.events", key="case"):
    """One row: what happened in a case, when, and who did it. Columns that the saga does not use are ignored.

    Each class below is one recorded kind: `name=` is the kind as recorded, so that rows need no translation.
    """

    case: str = Field(alias="case:concept:name")
    kind: str = Field(alias="concept:name")
    at: datetime = Field(alias="time:timestamp")
    by: str = Field(alias="org:resource", default="")


# fmt: off
class Confirmation(PermitEvent, name="Confirmation of receipt"): ...
class T02(PermitEvent, name="T02 Check confirmation of receipt"): ...
class T03(PermitEvent, name="T03 Adjust confirmation of receipt"): ...
class T04(PermitEvent, name="T04 Determine confirmation of receipt"): ...
class T05(PermitEvent, name="T05 Print and send confirmation of receipt"): ...
class T06(PermitEvent, name="T06 Determine necessity of stop advice"): ...
class T07a(PermitEvent, name="T07-1 Draft intern advice aspect 1"): ...
class T07b(PermitEvent, name="T07-2 Draft intern advice aspect 2"): ...
class T07c(PermitEvent, name="T07-3 Draft intern advice hold for aspect 3"): ...
class T07d(PermitEvent, name="T07-4 Draft internal advice to hold for type 4"): ...
class T07e(PermitEvent, name="T07-5 Draft intern advice aspect 5"): ...
class T08(PermitEvent, name="T08 Draft and send request for advice"): ...
class T09a(PermitEvent, name="T09-1 Process or receive external advice from party 1"): ...
class T09b(PermitEvent, name="T09-2 Process or receive external advice from party 2"): ...
class T09c(PermitEvent, name="T09-3 Process or receive external advice from party 3"): ...
class T09d(PermitEvent, name="T09-4 Process or receive external advice from party 4"): ...
class T10(PermitEvent, name="T10 Determine necessity to stop indication"): ...
class T11(PermitEvent, name="T11 Create document X request unlicensed"): ...
class T12(PermitEvent, name="T12 Check document X request unlicensed"): ...
class T13(PermitEvent, name="T13 Adjust document X request unlicensed"): ...
class T14(PermitEvent, name="T14 Determine document X request unlicensed"): ...
class T15(PermitEvent, name="T15 Print document X request unlicensed"): ...
class T16(PermitEvent, name="T16 Report reasons to hold request"): ...
class T17(PermitEvent, name="T17 Check report Y to stop indication"): ...
class T18(PermitEvent, name="T18 Adjust report Y to stop indicition"): ...
class T19(PermitEvent, name="T19 Determine report Y to stop indication"): ...
class T20(PermitEvent, name="T20 Print report Y to stop indication"): ...
# fmt: on


class PermitSettled(Event, topic="permits.outcomes", key="case"):
    """Nothing has happened for half a year after the receipt phase was over."""

    case: str
    path: tuple[str, ...]


class PermitStalled(Event, topic="permits.outcomes", key="case"):
    """Nothing has happened for half a year, and the receipt phase is not over."""

    case: str
    path: tuple[str, ...]
    confirmed: bool
    decided: bool


@saga
async def follow_permit(s: Saga, receipt: Confirmation) -> PermitSettled | PermitStalled:
    path: list[str] = [receipt.kind]
    confirmed, decided = False, False
    while not (confirmed and decided):
        seen = await s.wait(
            T02, T03, T04, T05, T06, T07a, T07b, T07c, T07d, T07e, T08, T09a, T09b, T09c, T09d,
            T10, T11, T12, T13, T14, T15, T16, T17, T18, T19, T20,
            within="180d", label="receipt",
        )  # fmt: skip
        if isinstance(seen, Timeout):
            return PermitStalled(case=s.key, path=tuple(path), confirmed=confirmed, decided=decided)
        path.append(seen.kind)  # allow CP720: the longest recorded case has 25 steps
        confirmed = confirmed or isinstance(seen, T05)
        decided = decided or isinstance(seen, T10)
    while True:
        later = await s.wait(
            T02, T03, T04, T05, T06, T07a, T07b, T07c, T07d, T07e, T08, T09a, T09b, T09c, T09d,
            T10, T11, T12, T13, T14, T15, T16, T17, T18, T19, T20,
            within="180d", label="afterwards",
        )  # fmt: skip
        if isinstance(later, Timeout):
            return PermitSettled(case=s.key, path=tuple(path))
        path.append(later.kind)  # allow CP720: the longest recorded case has 25 steps


app = App("permits")
app.observe(follow_permit)
