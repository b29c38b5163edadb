"""Operations in flight, blocks with a limit, the first of several. `# CPnnn` marks a mistake."""

from __future__ import annotations

from contrapas import Saga, StepFailed, Timeout, saga
from tests.check.corpus.orders import (
    Charge,
    Confirmed,
    Placed,
    Recall,
    Refund,
    Rejected,
    Release,
    Reserve,
    Ship,
)

# -- right ------------------------------------------------------------------------------------------------------------


@saga
async def charges_while_it_reserves(s: Saga, e: Placed) -> Confirmed | Rejected:
    charge = s.begin(
        Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="1m"
    )
    try:
        await s.step(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="1m")
        await charge
    except StepFailed:
        await s.compensate()
        return Rejected(order_id=e.order_id)
    return Confirmed(order_id=e.order_id)


@saga
async def gives_the_whole_block_ten_minutes(s: Saga, e: Placed) -> Confirmed | Rejected:
    try:
        async with s.scope(within="10m"):
            await s.step(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id))
            await s.step(Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id))
    except StepFailed:
        return Rejected(order_id=e.order_id)
    return Confirmed(order_id=e.order_id)


@saga
async def takes_the_first_of_two(s: Saga, e: Placed) -> Confirmed:
    await s.some(
        1,
        s.step(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="1m"),
        s.step(Ship(order_id=e.order_id), undo=Recall(order_id=e.order_id), within="1m"),
    )
    return Confirmed(order_id=e.order_id)


# -- wrong ------------------------------------------------------------------------------------------------------------


@saga
async def begins_what_may_never_end(s: Saga, e: Placed) -> Confirmed:
    charge = s.begin(Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id))  # CP712
    await s.step(Reserve(order_id=e.order_id), undo=Release(order_id=e.order_id), within="1m")
    await charge
    return Confirmed(order_id=e.order_id)


@saga
async def lets_a_late_charge_stand(s: Saga, e: Placed) -> Confirmed | Rejected:
    charge = s.begin(
        Charge(order_id=e.order_id, cents=e.cents), undo=Refund(order_id=e.order_id), within="1m"
    )
    got = await s.next(charge, within="10s")
    if isinstance(got, Timeout):
        return Rejected(order_id=e.order_id)  # CP707
    await charge
    return Confirmed(order_id=e.order_id)
