"""A transfer between two banks: taken at one, given at the other, then booked; three services, three databases."""

from contrapas import FOREVER, App, Command, Event, Saga, StepFailed, saga


class Withdrawn(Event, topic="giro.replies", key="transfer_id"):
    transfer_id: str


class Returned(Event, topic="giro.replies", key="transfer_id"):
    transfer_id: str


class Deposited(Event, topic="giro.replies", key="transfer_id"):
    transfer_id: str


class Recalled(Event, topic="giro.replies", key="transfer_id"):
    transfer_id: str


class Booked(Event, topic="giro.replies", key="transfer_id"):
    transfer_id: str


class Declined(Event, topic="giro.replies", key="transfer_id"):
    transfer_id: str
    reason: str


class Withdraw(Command[Withdrawn, Declined], topic="north.commands", key="transfer_id"):
    transfer_id: str
    account: str
    cents: int


class Return(Command[Returned], topic="north.commands", key="transfer_id"):
    transfer_id: str


class Deposit(Command[Deposited, Declined], topic="south.commands", key="transfer_id"):
    transfer_id: str
    account: str
    cents: int


class Recall(Command[Recalled], topic="south.commands", key="transfer_id"):
    transfer_id: str


class Book(Command[Booked], topic="office.commands", key="transfer_id"):
    transfer_id: str
    cents: int


class TransferAsked(Event, topic="giro.events", key="transfer_id"):
    transfer_id: str
    payer: str
    payee: str
    cents: int


class TransferDone(Event, topic="giro.events", key="transfer_id"):
    transfer_id: str


class TransferRefused(Event, topic="giro.events", key="transfer_id"):
    transfer_id: str
    reason: str


@saga
async def transfer(s: Saga, asked: TransferAsked) -> TransferDone | TransferRefused:
    ident = asked.transfer_id
    try:
        await s.step(
            Withdraw(transfer_id=ident, account=asked.payer, cents=asked.cents),
            undo=Return(transfer_id=ident),
            within="20s",
        )
        await s.step(
            Deposit(transfer_id=ident, account=asked.payee, cents=asked.cents),
            undo=Recall(transfer_id=ident),
            within="20s",
        )
        s.point_of_no_return()
        await s.step(Book(transfer_id=ident, cents=asked.cents), retry=FOREVER)
    except StepFailed as why:
        await s.compensate()
        return TransferRefused(transfer_id=ident, reason=why.reason)
    return TransferDone(transfer_id=ident)


app = App("giro")
app.orchestrate(transfer)
