"""The three services: plain asyncpg, no framework. No handler looks whether it was asked before: the inbox has done so.

Each has a database of its own, by the address in the environment: NORTH_DB, SOUTH_DB, OFFICE_DB.
"""

import os
from typing import Annotated

from asyncpg import Connection

from contrapas import App, Delivery, Depends, Service
from contrapas_postgres import PostgresStore
from sagas.clearing.saga import (
    Book,
    Booked,
    Declined,
    Deposit,
    Deposited,
    Recall,
    Recalled,
    Return,
    Returned,
    Withdraw,
    Withdrawn,
)


def _store(name: str) -> PostgresStore:
    return PostgresStore(os.environ.get(f"{name.upper()}_DB", f"postgresql:///{name}"), name=name)


north_store, south_store, office_store = _store("north"), _store("south"), _store("office")
north = Service("north", store=north_store)
south = Service("south", store=south_store)
office = Service("office", store=office_store)

North = Annotated["Connection", Depends(north_store.session)]
South = Annotated["Connection", Depends(south_store.session)]
Office = Annotated["Connection", Depends(office_store.session)]


@north.on(Withdraw)
async def withdraw(c: Withdraw, db: North) -> Withdrawn | Declined:
    taken = await db.fetchval(
        "update account set cents = cents - $2 where name = $1 and cents >= $2 returning cents",
        c.account,
        c.cents,
    )
    if taken is None:
        return Declined(transfer_id=c.transfer_id, reason="not enough money")
    await db.execute(
        "insert into entry(transfer, what, account, cents) values ($1, 'withdraw', $2, $3)",
        c.transfer_id,
        c.account,
        -c.cents,
    )
    return Withdrawn(transfer_id=c.transfer_id)


@north.on(Return)
async def give_back(c: Return, db: North, d: Delivery) -> Returned:
    await _take_back(db, c.transfer_id, "withdraw", "return")
    return Returned(transfer_id=c.transfer_id)


@south.on(Deposit)
async def deposit(c: Deposit, db: South) -> Deposited | Declined:
    given = await db.fetchval(
        "update account set cents = cents + $2 where name = $1 and open returning cents", c.account, c.cents
    )
    if given is None:
        return Declined(transfer_id=c.transfer_id, reason="the account is closed")
    await db.execute(
        "insert into entry(transfer, what, account, cents) values ($1, 'deposit', $2, $3)",
        c.transfer_id,
        c.account,
        c.cents,
    )
    return Deposited(transfer_id=c.transfer_id)


@south.on(Recall)
async def recall(c: Recall, db: South) -> Recalled:
    await _take_back(db, c.transfer_id, "deposit", "recall")
    return Recalled(transfer_id=c.transfer_id)


@office.on(Book)
async def book(c: Book, db: Office) -> Booked:
    await db.execute("insert into booking(transfer, cents) values ($1, $2)", c.transfer_id, c.cents)
    return Booked(transfer_id=c.transfer_id)


async def _take_back(db: "Connection", transfer: str, what: str, undo: str) -> None:
    """An undo accepts that there is nothing to take back: the step may never have come, and now never will."""
    row = await db.fetchrow(
        "select account, cents from entry where transfer = $1 and what = $2", transfer, what
    )
    if row is None:
        return
    await db.execute("update account set cents = cents - $2 where name = $1", row["account"], row["cents"])
    await db.execute(
        "insert into entry(transfer, what, account, cents) values ($1, $2, $3, $4)",
        transfer,
        undo,
        row["account"],
        -row["cents"],
    )


north_app, south_app, office_app = App("giro"), App("giro"), App("giro")
north_app.serve(north)
south_app.serve(south)
office_app.serve(office)
