"""Following the receipt phase of permit applications, as a municipality recorded it: 1,434 cases, 8,577 events.

The office's people and systems do their work; this saga only watches (`app.observe`). A case begins with the
confirmation of receipt; it is through the receipt phase once the confirmation was sent (T05) and somebody determined
whether the application must be stopped (T10), in either order; what follows then belongs to the same case. A case that
is quiet for 180 days has ended.
"""

from __future__ import annotations

from contrapas import App, Saga, Timeout, saga

# isort: off
from sagas.permits.events import (
    T02, T03, T04, T05, T06, T08, T10, T11, T12, T13, T14, T15, T16, T17, T18, T19, T20,
    Confirmation, PermitSettled, PermitStalled, T07a, T07b, T07c, T07d, T07e, T09a, T09b, T09c, T09d,
)  # fmt: skip
# isort: on


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
        path.append(seen.kind)
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
        path.append(later.kind)


app = App("permits")
app.observe(follow_permit)
