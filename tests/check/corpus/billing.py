"""Billing for years, insurance claims, transfers between accounts. `# CPnnn` marks a mistake."""

# ruff: noqa: ASYNC210, ASYNC251, BLE001
from __future__ import annotations

import time
from urllib.request import urlopen

from contrapas import FOREVER, Command, Event, Retry, Saga, StepFailed, Timeout, saga, step


class Subscribed(Event, topic="subs.events", key="sub_id"):
    sub_id: str
    cents: int


class Unsubscribed(Event, topic="subs.events", key="sub_id"):
    sub_id: str


class Lapsed(Event, topic="subs.events", key="sub_id"):
    sub_id: str


class Ended(Event, topic="subs.events", key="sub_id"):
    sub_id: str


class Paid(Event, topic="bills.events", key="sub_id"):
    sub_id: str


class NotPaid(Event, topic="bills.events", key="sub_id"):
    sub_id: str


class PaidBack(Event, topic="bills.events", key="sub_id"):
    sub_id: str


class Bill(Command[Paid, NotPaid], topic="bills.commands", key="sub_id"):
    sub_id: str
    month: int


class PayBack(Command[PaidBack], topic="bills.commands", key="sub_id"):
    sub_id: str
    month: int


class Held(Event, topic="bank.events", key="sub_id"):
    sub_id: str


class Overdrawn(Event, topic="bank.events", key="sub_id"):
    sub_id: str


class LetGo(Event, topic="bank.events", key="sub_id"):
    sub_id: str


class Hold(Command[Held, Overdrawn], topic="bank.commands", key="sub_id"):
    sub_id: str


class Unhold(Command[LetGo], topic="bank.commands", key="sub_id"):
    sub_id: str


class Credited(Event, topic="bank.events", key="sub_id"):
    sub_id: str


class Credit(Command[Credited, Overdrawn], topic="bank.commands", key="sub_id"):
    sub_id: str


class TakeBack(Command[LetGo], topic="bank.commands", key="sub_id"):
    sub_id: str


class DocumentCame(Event, topic="claims.events", key="sub_id"):
    sub_id: str
    kind: str


@step(undo=None)
async def open_pages(cursor: str) -> str:
    return cursor


@step(undo=None)
async def write_letter(sub_id: str) -> None: ...


# -- right ------------------------------------------------------------------------------------------------------------


@saga
async def bills_every_month(s: Saga, e: Subscribed) -> Ended | Lapsed:
    month = 0
    while True:
        gone = await s.wait(Unsubscribed, within="30d")
        if isinstance(gone, Unsubscribed):
            return Ended(sub_id=e.sub_id)
        month += 1
        try:
            await s.step(Bill(sub_id=e.sub_id, month=month), undo=None, within="5d")
        except StepFailed:
            return Lapsed(sub_id=e.sub_id)


@saga
async def reads_page_after_page(s: Saga, e: Subscribed) -> Ended:
    cursor = e.sub_id
    while True:
        cursor = await open_pages(cursor)
        if not cursor:
            return Ended(sub_id=e.sub_id)


@saga
async def asks_with_pauses(s: Saga, e: Subscribed) -> Ended | Lapsed:
    for _ in range(10):
        answer = await s.ask(Bill(sub_id=e.sub_id, month=1), undo=None, within="1h")
        if isinstance(answer, Paid):
            return Ended(sub_id=e.sub_id)
        await s.sleep("1d")
    return Lapsed(sub_id=e.sub_id)


@saga
async def keeps_the_newest_only(s: Saga, e: Subscribed) -> Ended:
    newest: list[str] = []
    while True:
        got = await s.wait(DocumentCame, within="90d")
        if isinstance(got, Timeout):
            return Ended(sub_id=e.sub_id)
        newest.append(got.kind)
        if newest[0] == "final":
            newest.pop()


@saga
async def works_through_a_list(s: Saga, e: Subscribed) -> Ended:
    left = ["a", "b", "c"]
    while left:
        await write_letter(left.pop())
    return Ended(sub_id=e.sub_id)


@saga
async def waits_for_each_document(s: Saga, e: Subscribed) -> Ended | Lapsed:
    missing = {"police", "photo", "bill"}
    while missing:
        got = await s.wait(DocumentCame, within="60d")
        if isinstance(got, Timeout):
            return Lapsed(sub_id=e.sub_id)
        missing.discard(got.kind)
    return Ended(sub_id=e.sub_id)


@saga
async def transfers_money(s: Saga, e: Subscribed) -> Ended | Lapsed:
    try:
        await s.step(Hold(sub_id=e.sub_id), undo=Unhold(sub_id=e.sub_id), within="30s")
        await s.step(Credit(sub_id=e.sub_id), undo=TakeBack(sub_id=e.sub_id), within="30s")
    except StepFailed as why:
        await s.compensate()
        if why.unknown:
            await write_letter(e.sub_id)
        return Lapsed(sub_id=e.sub_id)
    return Ended(sub_id=e.sub_id)


@saga
async def credits_for_ever_once_held(s: Saga, e: Subscribed) -> Ended:
    await s.step(Hold(sub_id=e.sub_id), undo=Unhold(sub_id=e.sub_id), within="30s")
    s.point_of_no_return()
    await s.step(Credit(sub_id=e.sub_id), retry=FOREVER)
    return Ended(sub_id=e.sub_id)


@saga
async def takes_back_in_the_end(s: Saga, e: Subscribed) -> Lapsed:
    await s.step(Hold(sub_id=e.sub_id), undo=Unhold(sub_id=e.sub_id), within="30s")
    await s.sleep("7d")
    await s.compensate()
    return Lapsed(sub_id=e.sub_id)


@saga
async def bills_each_month_and_closes_the_books(s: Saga, e: Subscribed) -> Ended:
    for month in range(12):
        await s.sleep("30d")
        await s.step(
            Bill(sub_id=e.sub_id, month=month),
            undo=PayBack(sub_id=e.sub_id, month=month),
            retry=Retry(5, each="1h"),
            within="5d",
        )
    return Ended(sub_id=e.sub_id)


@saga
async def takes_its_time_to_think(s: Saga, e: Subscribed) -> Ended:
    try:
        await s.step(Hold(sub_id=e.sub_id), undo=Unhold(sub_id=e.sub_id), within="30s")
    except StepFailed as why:
        if why.unknown:
            await s.compensate()
        await s.step(Credit(sub_id=e.sub_id), undo=TakeBack(sub_id=e.sub_id), within="30s")
    return Ended(sub_id=e.sub_id)


# -- wrong ------------------------------------------------------------------------------------------------------------


@saga
async def registers_for_ever(s: Saga, e: Subscribed) -> Ended:
    month = 0
    while True:
        gone = await s.wait(Unsubscribed, within="30d")
        if isinstance(gone, Unsubscribed):
            return Ended(sub_id=e.sub_id)
        month += 1
        await s.step(  # CP720
            Bill(sub_id=e.sub_id, month=month), undo=PayBack(sub_id=e.sub_id, month=month), within="5d"
        )


@saga
async def tries_without_a_pause(s: Saga, e: Subscribed) -> Ended:
    done = False
    while not done:
        try:
            await s.step(Bill(sub_id=e.sub_id, month=1), undo=None, within="1m")  # CP713
            done = True
        except StepFailed:
            pass
    return Ended(sub_id=e.sub_id)


@saga
async def calls_the_bank_itself(s: Saga, e: Subscribed) -> Ended:
    with urlopen("http://bank.example/hold") as page:  # CP723
        held = bool(page.read())
    await s.step(Credit(sub_id=e.sub_id), undo=None, within="30s")
    return Ended(sub_id=e.sub_id if held else "")


@saga
async def sleeps_with_its_eyes_open(s: Saga, e: Subscribed) -> Ended:
    await write_letter(e.sub_id)
    time.sleep(60)  # CP724
    await write_letter(e.sub_id)
    return Ended(sub_id=e.sub_id)


@saga
async def lets_go_in_the_wrong_order(s: Saga, e: Subscribed) -> Ended | Lapsed:
    try:
        await s.step(Hold(sub_id=e.sub_id), undo=Unhold(sub_id=e.sub_id), within="30s")
        await s.step(Credit(sub_id=e.sub_id), undo=TakeBack(sub_id=e.sub_id), within="30s")
        await s.step(Bill(sub_id=e.sub_id, month=1), undo=None, within="30s")
    except StepFailed:
        await s.step(Unhold(sub_id=e.sub_id), undo=None, retry=FOREVER)  # CP706
        await s.step(TakeBack(sub_id=e.sub_id), undo=None, retry=FOREVER)
        return Lapsed(sub_id=e.sub_id)
    return Ended(sub_id=e.sub_id)


@saga
async def ignores_being_cancelled(s: Saga, e: Subscribed) -> Ended:
    while True:
        try:
            gone = await s.wait(Unsubscribed, within="30d")  # CP718
            if isinstance(gone, Unsubscribed):
                return Ended(sub_id=e.sub_id)
        except BaseException:
            s.log.warning("go on")


@saga
async def goes_round_for_nothing(s: Saga, e: Subscribed) -> Ended:
    while True:  # CP702
        if e.cents > 0:
            await write_letter(e.sub_id)
            return Ended(sub_id=e.sub_id)
