"""The worlds that the simulation runs: every saga of `sagas/`, observed ones, entities, children, capricious ones, the bank."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from contrapas.author.event import Event
from contrapas.errors import StepFailed
from contrapas.testing.simulation import Load, Play
from sagas.bank import saga as bank
from sagas.claim import saga as claim
from sagas.index import saga as index
from sagas.order import observed
from sagas.order import saga as order
from sagas.refunds import saga as refunds
from sagas.subscription import saga as subscription
from sagas.travel import saga as travel
from tests.simulation import apps


def _quiet(*args: Any) -> None:
    """A step that does nothing."""


def _same(value: Any) -> Any:
    """A step that gives back what it was given."""
    return value


# ---- orders


def _order(play: Play, number: int) -> Event:
    """Two of them have keys that differ by case alone."""
    ident = f"{'oO'[number % 2]}{number // 2}"
    return order.OrderPlaced(order_id=ident, sku="s", cents=1 + play.chance.below(60_000))


def _cancels(saga: str) -> Callable[[Play, int, str], None]:
    def later(play: Play, number: int, key: str) -> None:
        roll = play.chance.order()
        if roll < 0.12:
            verb = "cancel" if roll < 0.08 else "kill"
            play.operate(f"{saga}/{key}", verb, play.chance.below(3_000))

    return later


ORDERS = Load(
    name="order",
    definition=order.app.definition(),
    saga="place_order",
    start=_order,
    later=_cancels("place_order"),
    undone_by=frozenset({"ChargeCard", "ReserveStock"}),
    after_pivot=frozenset({"ShipOrder"}),
    sequential=True,
    parks=frozenset({"CP709"}),  # a charge that was never answered in its time: nobody knows what to refund
)
OBSERVED = Load(
    name="observed",
    definition=observed.app.definition(),
    saga="place_order",
    start=_order,
    door=0.0,
)

# ---- the bank


class Books:
    """The bank's books in memory: each operation of a transfer happens at most once, an undo bars it."""

    def __init__(self, accounts: int = 10, cents: int = 1_000) -> None:
        self.cents = {f"a{n}": cents for n in range(accounts)}
        self.held = dict.fromkeys(self.cents, 0)
        self.total = accounts * cents
        self.states: dict[str, dict[str, tuple[str, str, int]]] = {}

    def do(self, transfer: str, operation: str, account: str, cents: int) -> None:
        """Once; after its undo nothing."""
        mine = self.states.setdefault(transfer, {})
        if operation in mine:
            return
        if operation == "hold":
            if self.cents[account] - self.held[account] < cents:
                raise StepFailed("not enough money")
            self.held[account] += cents
        elif operation == "debit":
            self.cents[account] -= cents
            self.held[account] -= cents
        elif operation == "credit":
            if account == "a9":
                raise StepFailed("account closed")
            self.cents[account] += cents
        mine[operation] = ("done", account, cents)

    def undo(self, transfer: str, operation: str) -> None:
        """Take it back, once, or bar it."""
        mine = self.states.setdefault(transfer, {})
        state, account, cents = mine.get(operation, ("barred", "", 0))
        if state == "done":
            if operation == "hold":
                self.held[account] -= cents
            elif operation == "debit":
                self.cents[account] += cents
                self.held[account] += cents
            elif operation == "credit":
                self.cents[account] -= cents
        mine[operation] = ("undone" if state == "done" else state, account, cents)

    def faults(self) -> list[str]:
        """What must not be."""
        bad = [f"account {n} holds {h}" for n, h in self.held.items() if h]
        if sum(self.cents.values()) != self.total:
            bad.append(f"the bank has {sum(self.cents.values())} cents, it began with {self.total}")
        for transfer, mine in self.states.items():
            done = {o for o, (state, _, _) in mine.items() if state == "done"}
            if done and len(done) < 4:
                bad.append(f"transfer {transfer} is half done: {sorted(done)}")
        return bad


def _bank_steps(play: Play) -> Mapping[str, Callable[..., Any]]:
    books = play.books = Books()

    def doing(operation: str) -> Callable[..., Any]:
        def do(transfer_id: str, account: str, cents: int) -> None:
            books.do(transfer_id, operation, account, cents)

        return do

    found: dict[str, Callable[..., Any]] = {n: doing(n) for n in ("hold", "debit", "credit", "confirm")}
    return {**found, "take_back": books.undo}


def _transfer(play: Play, number: int) -> Event:
    source, target = play.chance.below(10), play.chance.below(10)
    return bank.TransferAsked(
        transfer_id=f"t{number}", source=f"a{source}", target=f"a{target}", cents=1 + play.chance.below(400)
    )


BANK = Load(
    name="bank",
    definition=bank.app.definition(),
    saga="transfer",
    start=_transfer,
    later=_cancels("transfer"),
    steps=_bank_steps,
    final=lambda play: play.books.faults(),
)

# ---- trips, claims, subscriptions, refunds, documents


def _trip(play: Play, number: int) -> Event:
    return travel.TripRequested(
        trip_id=f"r{number}", traveller="t", outbound="a", homebound="b", hotel="h", nights=2,
        car=play.chance.order() < 0.7,
    )  # fmt: skip


TRAVEL = Load(
    name="travel",
    definition=travel.app.definition(),
    saga="book_trip",
    start=_trip,
    later=_cancels("book_trip"),
    undone_by=frozenset({"BookFlight", "BookHotel", "ReserveCar", "InsureCar"}),
    kept=False,  # without a car, the car's part is taken back
    parks=frozenset({"CP709"}),
    weight=3,
)


def _claim(play: Play, number: int) -> Event:
    return claim.ClaimFiled(claim_id=f"c{number}", policy="p", cents=5, report_no=f"n{number}")


def _claim_goes_on(play: Play, number: int, key: str) -> None:
    roll, chance = play.chance.order(), play.chance
    if roll < 0.9:
        at = chance.below(30_000) if roll < 0.3 else chance.below(3_000)
        play.tell(claim.PoliceReport(report_no=f"n{number}", at_fault=roll < 0.2), at)
    if chance.order() < 0.8:
        decided: Event = claim.Approved(claim_id=key, by="x", cents=4)
        if chance.order() < 0.3:
            decided = claim.Denied(claim_id=key, by="x", why="no")
        play.tell(decided, chance.below(60_000))
    _cancels("handle_claim")(play, number, key)


CLAIMS = Load(
    name="claim",
    definition=claim.app.definition(),
    saga="handle_claim",
    start=_claim,
    later=_claim_goes_on,
    steps=lambda play: {"write_to": _quiet},
    undone_by=frozenset({"HoldFunds"}),
    after_pivot=frozenset({"PayFunds"}),
    parks=frozenset({"CP709"}),
    days=130,
)


def _subscribed(play: Play, number: int) -> Event:
    return subscription.Subscribed(customer=f"u{number}", plan="a", cents=5)


def _subscription_goes_on(play: Play, number: int, key: str) -> None:
    chance = play.chance
    if chance.order() < 0.5:
        play.tell(subscription.PlanChanged(customer=key, plan="b", cents=7), chance.below(40_000))
    play.tell(subscription.Unsubscribed(customer=key), chance.below(30 * 86_400_000))


SUBSCRIPTIONS = Load(
    name="subscription",
    definition=subscription.app.definition(),
    saga="subscription",
    start=_subscribed,
    later=_subscription_goes_on,
    weight=2,
    days=70,
)


def _refund(play: Play, number: int) -> Event:
    return refunds.RefundRequested(refund_id=f"q{number}", cents=3, approvers=("ann", "bob"))


def _refund_goes_on(play: Play, number: int, key: str) -> None:
    if play.chance.order() < 0.7:
        play.tell(refunds.Approved(refund_id=key, by="ann"), play.chance.below(50_000))
    _cancels("approve_refund")(play, number, key)


REFUNDS = Load(
    name="refunds",
    definition=refunds.app.definition(),
    saga="approve_refund",
    start=_refund,
    later=_refund_goes_on,
    steps=lambda play: {"ask_by_mail": _quiet},
)


def _embed(doc: index.Doc) -> int:
    return len(doc.url)


def _docs(bucket: str) -> list[index.Doc]:
    return [index.Doc(url=f"{bucket}/{n}") for n in range(12)]


INDEX = Load(
    name="index",
    definition=index.app.definition(),
    saga="index_bucket",
    start=lambda play, number: index.IndexRequested(job_id=f"j{number}", bucket="b"),
    later=_cancels("index_bucket"),
    steps=lambda play: {"list_docs": _docs, "embed": _embed},
    weight=6,
)

# ---- written for this


def _whim_steps(play: Play) -> Mapping[str, Callable[..., Any]]:
    apps.DRAWS[:] = [play.chance.whim]
    given: dict[tuple[str, int], int] = {}
    back_again: dict[tuple[str, int], int] = {}
    play.books = given, back_again

    def give(id: str, number: int, amount: int) -> int:
        if given.setdefault((id, number), amount) != amount:
            raise AssertionError(f"{id} is given {amount} and {given[id, number]}")
        return amount

    def back(id: str, number: int, amount: int) -> None:
        """One of five fails for good, twice: its instance stands still until somebody has looked at it twice."""
        tries = back_again.get((id, number), 0)
        if tries < 2 and (len(id) + number + amount) % 5 == 0:
            play.universe.sometimes["an undo failed, and its instance stood still"] += 1
            back_again[id, number] = tries + 1
            raise StepFailed("not now")
        back_again[id, number] = 9

    return {"give": give, "give_back": back}


def _given_back(play: Play) -> list[str]:
    """I-29: where a saga says that it is compensated, everything was given back."""
    given, back = play.books
    bad: list[str] = []
    for id, number in given:
        record = play.ended.get(f"capricious/{id}")
        if record is not None and record.status == "compensated":
            play.universe.seen["I-29"] += 1
            if back.get((id, number)) != 9:
                bad.append(f"capricious/{id} is compensated, and {number} was not given back")
    return bad


WHIMS = Load(
    name="capricious",
    definition=apps.whims.definition(),
    saga="capricious",
    start=lambda play, number: apps.Wished(id=f"w{number}"),
    steps=_whim_steps,
    final=_given_back,
)
FAMILY = Load(
    name="family",
    definition=apps.family.definition(),
    saga="trip",
    start=lambda play, number: apps.Trip(id=f"f{number}", back=play.chance.order() < 0.2),
    later=_cancels("trip"),
    steps=lambda play: {"pack": _same, "unpack": _quiet},
    parks=frozenset({"CP709"}),  # cancelled while it packed, and its owner died: nobody knows what to unpack
)


def _tallied(play: Play) -> list[str]:
    """What the shelves hold is what the sales that are done have put there."""
    wanted: dict[str, int] = {}
    for instance, event in play.started.items():
        record = play.ended[instance]
        if record.status == "done" and isinstance(event, apps.Sale):
            wanted[event.shelf] = wanted.get(event.shelf, 0) + event.n
    bad: list[str] = []
    for instance, record in play.ended.items():
        saga, _, key = instance.partition("/")
        if saga == "Tally":
            count = json.loads(record.root.frames[0].slots["self"])["count"]
            if count != wanted.get(key, 0):
                bad.append(f"shelf {key} holds {count}, sales of {wanted.get(key, 0)} are done")
    return bad


TALLY = Load(
    name="entity",
    definition=apps.tallies.definition(),
    saga="sell",
    start=lambda play, number: apps.Sale(
        id=f"s{number}",
        shelf=f"shelf{number // 20}",
        n=1 + play.chance.below(4),
    ),
    final=_tallied,
)


def _hot(play: Play, number: int) -> Event:
    return apps.Sale(id=f"s{number}", shelf=f"shelf{play.chance.below(3)}", n=1 + play.chance.below(4))


def _hot_goes_on(play: Play, number: int, key: str) -> None:
    """Whoever is stopped and goes on writes a newer record over its call: what a takeover sends again is out of order."""
    if play.chance.order() < 0.5:
        at = play.chance.below(2_000)
        play.operate(f"sell/{key}", "pause", at)
        play.operate(f"sell/{key}", "resume", at + play.chance.below(500))


HOT = replace(TALLY, name="hot", start=_hot, later=_hot_goes_on)
"""Three shelves for everybody: an entity hears of more in a takeover's time than the 64 ids it remembers."""


def _rings(play: Play, number: int) -> Event:
    return apps.Ring(id=f"r{number}", till=f"till{number % 3}", n=1 + play.chance.below(4))


def _rung(play: Play) -> list[str]:
    """Each till has heard once of everybody who rang."""
    wanted: dict[str, int] = {}
    for instance, event in play.started.items():
        if isinstance(event, apps.Ring) and play.ended[instance].status == "done":
            wanted[event.till] = wanted.get(event.till, 0) + event.n
    return [
        f"{instance} holds {total}, {wanted.get(instance.partition('/')[2], 0)} were rung"
        for instance, record in play.ended.items()
        if instance.startswith("till/") and record.status == "done"
        and (total := json.loads(record.outcome_body)["total"]) != wanted.get(instance.partition("/")[2], 0)
    ]  # fmt: skip


TILLS = Load(name="till", definition=apps.tills.definition(), saga="ring", start=_rings, final=_rung)
COPIES = Load(
    name="copies",
    definition=apps.copies.definition(),
    saga="copier",
    start=lambda play, number: apps.Numbered(id=f"n{number}", number=number),
    steps=lambda play: {"copy": _same},
)

VISITS = Load(
    name="stubborn",
    definition=apps.visits.definition(),
    saga="stubborn",
    start=lambda play, number: apps.Visit(id=f"v{number}", rooms=2 + play.chance.below(4)),
    later=_cancels("stubborn"),
    undone_by=frozenset({"Open"}),
    parks=frozenset({"CP709"}),
)


def _clue_comes(play: Play, number: int, key: str) -> None:
    play.tell(apps.Clue(clue=f"c{number}", by="x"), play.chance.below(20_000))


def _solved(play: Play) -> list[str]:
    """Every clue was there within seconds, and each of them is kept for a day: nobody has missed one."""
    return [
        f"{instance} has missed its clue"
        for instance, record in play.ended.items()
        if record.status == "done" and json.loads(record.outcome_body)["by"] != "x"
    ]


CASES = Load(
    name="patient",
    definition=apps.cases.definition(),
    saga="patient",
    start=lambda play, number: apps.Case(id=f"k{number}", clue=f"c{number}"),
    later=_clue_comes,
    final=_solved,
    weight=12,
)

LOADS: dict[str, Load] = {
    load.name: load
    for load in (
        ORDERS, OBSERVED, BANK, TRAVEL, CLAIMS, SUBSCRIPTIONS, REFUNDS, INDEX, WHIMS, FAMILY, TALLY, HOT, TILLS, COPIES, VISITS, CASES,
    )
}  # fmt: skip


def loads() -> dict[str, Load]:
    """All of them, for a process of a campaign."""
    return LOADS
