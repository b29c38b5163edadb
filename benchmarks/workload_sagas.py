"""The sagas of the workloads: `seq fan map wait saga crash long`, the same shapes as elsewhere, so that ratios can be compared.

A step gives a JSON object of about 200 bytes. Only `long`, `wait` and `crash` have a side effect: one line appended to a
ledger file, which survives SIGKILL.
"""

from __future__ import annotations

import asyncio
import os
import time

from pydantic import BaseModel

from contrapas import App, Event, Saga, StepFailed, saga, step


class Payload(BaseModel, frozen=True):
    """What every step gives."""

    step: int
    status: str
    reference: str
    blob: str


def payload(number: int) -> Payload:
    """About 200 bytes as JSON."""
    return Payload(step=number, status="ok", reference=f"ref-{number:08d}", blob="x" * 135)


class Ledger:
    """Lines of `time instance step`, one write each; the kernel has it before the call returns."""

    fd = -1

    @classmethod
    def effect(cls, instance: str, number: int) -> None:
        """Note that a step ran."""
        if cls.fd < 0:
            cls.fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(cls.fd, b"%d %s %d\n" % (time.monotonic_ns(), instance.encode(), number))


async def gate() -> None:
    """Wait until the parent has made the gate file."""
    while not os.path.exists(os.environ["GATE"]):
        await asyncio.sleep(0.02)


@step(undo=None)
async def noop(number: int) -> Payload:
    return payload(number)


@step(undo=None)
async def effect(instance: str, number: int) -> Payload:
    Ledger.effect(instance, number)
    return payload(number)


@step(undo=None, timeout="10m")
async def crash_step(instance: str, number: int) -> Payload:
    Ledger.effect(instance, number)
    if number == 1:
        await gate()
    return payload(number)


@step(undo=None)
async def fail() -> None:
    raise StepFailed("card declined")


class Done(Event, key="id"):
    """The outcome of every workload."""

    id: str
    result: int = 0


class SeqStarted(Event, key="id"):
    id: str
    n: int


class FanStarted(Event, key="id"):
    id: str
    n: int


class MapStarted(Event, key="id"):
    id: str
    n: int


class LongStarted(Event, key="id"):
    id: str
    n: int


class WaitStarted(Event, key="id"):
    id: str


class SagaStarted(Event, key="id"):
    id: str


class CrashStarted(Event, key="id"):
    id: str
    n: int


class Go(Event, key="id"):
    id: str


@saga(name="seq")
async def seq(s: Saga, e: SeqStarted) -> Done:
    for number in range(e.n):
        await noop(number)
    return Done(id=e.id, result=e.n)


@saga(name="fan")
async def fan(s: Saga, e: FanStarted) -> Done:
    results = await s.all(*[noop(number) for number in range(e.n)])
    return Done(id=e.id, result=len(results))


@saga(name="map")
async def mapped(s: Saga, e: MapStarted) -> Done:
    results = await s.map(noop, range(e.n))
    return Done(id=e.id, result=len(results))


@saga(name="long")
async def long(s: Saga, e: LongStarted) -> Done:
    for number in range(1, e.n + 1):
        await effect("long", number)
    return Done(id=e.id, result=e.n)


@saga(name="wait")
async def wait(s: Saga, e: WaitStarted) -> Done:
    await s.wait(Go, within="1h")
    await effect(e.id, 1)
    return Done(id=e.id, result=1)


@saga(name="saga")
async def compensated(s: Saga, e: SagaStarted) -> Done:
    try:
        await s.step(noop(1), undo=noop(1))
        await s.step(noop(2), undo=noop(2))
        await s.step(noop(3), undo=noop(3))
        await fail()
    except StepFailed:
        await s.compensate()
        return Done(id=e.id, result=321)
    return Done(id=e.id, result=0)


@saga(name="crash")
async def crash(s: Saga, e: CrashStarted) -> Done:
    for number in range(1, e.n + 1):
        await crash_step(e.id, number)
    return Done(id=e.id, result=e.n)


app = App(os.environ.get("BENCH_NAMESPACE", "bench"))
app.orchestrate(seq, fan, mapped, long, wait, compensated, crash)
