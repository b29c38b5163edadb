"""The worlds that the simulation runs: every saga of `sagas/`, observed ones, entities, children, capricious ones, the bank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from contrapas.author.event import Event
from contrapas.errors import StepFailed
from contrapas.testing.simulation import Load, Play
from sagas.bank import saga as bank
from sagas.order import observed
from sagas.order import saga as order

# ---- orders


def _order(play: Play, number: int) -> Event:
    return order.OrderPlaced(order_id=f"o{number}", sku="s", cents=1 + play.chance.below(60_000))


def _cancels(saga: str) -> Callable[[Play, int, str], None]:
    def later(play: Play, number: int, key: str) -> None:
        roll = play.chance.order()
        if roll < 0.06:
            verb = "cancel" if roll < 0.04 else "kill"
            play.operate(f"{saga}/{key}", verb, play.chance.below(3_000))

    return later


ORDERS = Load(
    name="order",
    definition=order.app.definition(),
    saga="place_order",
    start=_order,
    later=_cancels("place_order"),
    undone_by=frozenset({"ChargeCard", "ReserveStock"}),
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

LOADS: dict[str, Load] = {load.name: load for load in (ORDERS, OBSERVED, BANK)}
