"""Commands addressed to a running saga: answered, declined, repeated, kept, taken back."""

from __future__ import annotations

import asyncio

from contrapas.runtime.build import build
from contrapas.runtime.client import Client, Told
from tests.runtime.cart import AddItem, CheckOut, definition
from tests.runtime.rig import Rig, rig_of


async def ask(rig: Rig, client: Client, command: object, **more: object) -> Told:
    """Ask while time passes."""
    task = asyncio.ensure_future(client.ask(command, **more))  # type: ignore[arg-type]
    await rig.until(task.done)
    return task.result()


async def test_a_command_starts_the_saga_and_is_answered_in_its_middle() -> None:
    what = definition()
    async with rig_of(what, build(what)) as rig:
        await rig.worker()
        client = rig.client()
        first = await ask(rig, client, AddItem(cart_id="c-1", sku="mug"))
        assert (first.verdict, first.outcome) == ("reply", "CartChanged")
        assert first.outcome_body == '{"cart_id":"c-1","items":["mug"]}'
        again = await ask(rig, client, AddItem(cart_id="c-1", sku="hat"))
        assert again.outcome_body == '{"cart_id":"c-1","items":["mug","hat"]}'
        done = await ask(rig, client, CheckOut(cart_id="c-1"))
        assert done.outcome == "CheckedOutAck"
        assert rig.status("cart/c-1") == "done"
