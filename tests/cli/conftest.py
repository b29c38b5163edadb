"""A command line run in this process, in an empty folder and with an empty environment; records written by hand."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contrapas.cli.main import main
from contrapas.core.envelope import (
    Cause,
    Frame,
    InstanceRecord,
    Join,
    Message,
    Node,
    Parked,
    Pending,
    UndoEntry,
    Unwinding,
)
from contrapas.core.envelope_avro import encode
from contrapas.core.headers import headers_of
from contrapas.core.lane import Draft
from contrapas.core.partition import partition
from contrapas.log.sqlite import SqliteLog

T0 = 1_700_000_000_000


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("CONTRAPAS_"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def cli(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def run(*args: str) -> Ran:
        capsys.readouterr()
        code = main(list(args))
        out = capsys.readouterr()
        return Ran(code, out.out, out.err)

    return run


def pending(
    label: str, types: tuple[str, ...], *, kind: str = "command", at: int = T0, key: str = "", **more: object
) -> Pending:
    made = Pending(
        key=key or f"place_order/o-9/4f1c09e2/{label}/1",
        label=label,
        visit=1,
        kind=kind,
        name=label,
        types=types,
        since=at,
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made


def record(
    version: int,
    status: str,
    cause: Cause,
    *,
    at: int,
    key: str = "o-9",
    saga: str = "place_order",
    **more: object,
) -> InstanceRecord:
    made = InstanceRecord(
        instance=f"{saga}/{key}",
        saga=saga,
        key=key,
        version=version,
        epoch=12,
        writer="host:1",
        run="4f1c09e2",
        mode="orchestrate",
        status=status,
        root=Node(),
        cause=cause,
        at=at,
        started_at=T0,
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made


def cause(
    kind: str, type: str, *, source: str = "", partition: int = -1, offset: int = -1, note: str = ""
) -> Cause:
    return Cause(
        kind=kind,
        type=type,
        source=source,
        partition=partition,
        offset=offset,
        note=note,
        id="x",
        value=b"{}",
        headers=(("ce_id", b"x"),),
    )


def frame(label: str) -> Frame:
    return Frame(
        saga="place_order",
        graph="k7Q2",
        label=label,
        slots={"order": '{"order_id":"o-9","sku":"mug","cents":4200}'},
    )


def standing(
    label: str, *operations: Pending, undo: tuple[UndoEntry, ...] = (), unwinding: Unwinding | None = None
) -> Node:
    first = operations[0] if operations else None
    return Node(frames=[frame(label)], pending=first, undo=list(undo), unwinding=unwinding)


def charge(status: str, **more: object) -> UndoEntry:
    made = UndoEntry(
        number=0,
        label="ChargeCard",
        visit=1,
        key="place_order/o-9/4f1c09e2/ChargeCard/1",
        status=status,
        kind="lambda",
        name="undo(ChargeCard)",
        types=("CardCharged", "CardDeclined"),
        needs_reply=True,
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made


def compensated() -> list[InstanceRecord]:
    """o-9: charged, out of stock, refunded, rejected."""
    first = pending("ChargeCard", ("CardCharged", "CardDeclined"), deadline=T0 + 30_000)
    second = pending("ReserveStock", ("StockReserved", "OutOfStock"), at=T0 + 41, deadline=T0 + 60_041)
    back = pending("undo(ChargeCard)", ("CardRefunded",), at=T0 + 79, undoes=first.key)
    back.name = "RefundCard"
    message = Message(to="payments.commands", key=b"o-9", value=b"{}", headers=(), id=first.key)
    return [
        record(
            1,
            "waiting",
            cause("start", "OrderPlaced", source="in", partition=6, offset=1),
            at=T0,
            root=standing("ChargeCard", first, undo=(charge("issued"),)),
            out=[message],
        ),
        record(
            2,
            "waiting",
            cause("reply", "CardCharged", source="payments.events@a1", partition=0, offset=199),
            at=T0 + 41,
            root=standing("ReserveStock", second, undo=(charge("done", reply="{}"),)),
        ),
        record(
            3,
            "unwinding",
            cause("reply", "OutOfStock", source="stock.events@b2", partition=0, offset=371),
            at=T0 + 79,
            root=standing(
                "compensate",
                undo=(charge("undoing", pending=back),),
                unwinding=Unwinding(floor=0, then="resume", whole=True),
            ),
        ),
        record(
            4,
            "compensated",
            cause("reply", "CardRefunded", source="payments.events@a1", partition=0, offset=200),
            at=T0 + 134,
            root=Node(frames=[]),
            ended_at=T0 + 134,
            outcome="OrderRejected",
            outcome_body='{"order_id":"o-9","reason":"OutOfStock"}',
        ),
    ]


def parked() -> InstanceRecord:
    """A saga whose own code failed, with everything a record can hold."""
    made = compensated()[2]
    made.status = "parked"
    made.parked = Parked(
        reason="KeyError: 'x'",
        code="CP847",
        error="KeyError: 'x'",
        trace="shop.py:4",
        input=cause("reply", "A"),
        status="running",
    )
    made.root.join = Join(
        kind="all",
        label="all(A,B)",
        visit=3,
        fail_fast=True,
        children=[standing("A", pending("A", ("AOk",))), Node(result="1")],
        done_order=[1],
    )
    made.owed = [charge("owed", owed_until=T0 + 99, branches=[[charge("done")], []])]
    made.kept = [cause("event", "Approved", source="refunds.events@c", partition=2, offset=5)]
    made.positions = {"payments.events@a1/0": 199}
    made.seen = [b"0123456789abcdef"]
    made.binds = [pending("wait(A)", ("A",), kind="wait")]
    made.retain_until = -(2**40)
    return made


@pytest.fixture
def compensated_records() -> list[InstanceRecord]:
    return compensated()


@pytest.fixture
def parked_record() -> InstanceRecord:
    return parked()


async def stored(path: Path, records: list[InstanceRecord]) -> None:
    log = SqliteLog(path, "shop")
    await log.create_topics({"payments.commands": 2, "payments.events": 2})
    now = time.time_ns() // 1_000_000
    leases: dict[int, Any] = {}
    for record in records:
        number = partition(record.key.encode(), log.partitions)
        if number not in leases:
            leases[number] = await log.acquire(number, "host:1")
        value = encode(record)
        draft = Draft("", number, record.instance.encode(), value, headers_of(record, value))
        control = leases[number].control
        await leases[number].commit([draft], [], control._replace(serial=control.serial + 1))
        if record.out:
            await log.publish(
                [
                    Draft(
                        m.to, -1, m.key, m.value, (("ce_id", m.id.encode()), ("ce_type", b"ChargeCard")), m.id
                    )
                    for m in record.out
                ]
            )
    await log.publish(
        [Draft("payments.events", -1, b"o-9", b"\x1b[2J\xff\x00", (("ce_type", b"Junk"),), f"j{now}")]
    )
    await log.close()


async def note(path: Path, said: Mapping[str, bytes | None]) -> None:
    """Machine graphs on a log, as a worker leaves them; None: let go."""
    log = SqliteLog(path, "shop")
    lease = await log.acquire(0, "host:1")
    headers = (("cp-kind", b"graph"), ("cp-version", b"1"), ("cp-epoch", b"%d" % lease.epoch))
    await lease.commit([Draft("", 0, k.encode(), v, headers) for k, v in said.items()], [], lease.control)
    await lease.release()
    await log.close()


@pytest.fixture
def shop(here: Path) -> Path:
    """A folder with the log of a shop: o-9 compensated, o-7 waiting, o-5 parked."""
    waiting = [replace(r, instance="place_order/o-7", key="o-7") for r in compensated()[:2]]
    stuck = replace(parked(), instance="place_order/o-5", key="o-5", version=1)
    (here / ".contrapas").mkdir(mode=0o700)
    asyncio.run(stored(here / ".contrapas" / "shop.db", [*compensated(), *waiting, stuck]))
    return here
