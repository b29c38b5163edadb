"""What one transition costs, encoding included: a command's reply that issues a local step, after two steps with undo.

Prints one JSON line: microseconds per transition and per encode, bytes of the record, medians of the best rounds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from contrapas.core.envelope import Cause
from contrapas.core.envelope_avro import decode, encode
from contrapas.core.headers import headers_of
from contrapas.core.outcomes import dump_body
from contrapas.core.transition import transition
from contrapas.core.world import Input
from tests.core import shop
from tests.core.lines import Await, machine
from tests.core.stage import Stage

ORDER = machine(
    "place_order",
    [
        Await(
            label="ChargeCard",
            op=lambda env, s: s.step(
                shop.ChargeCard(order_id="o-9", cents=1), undo=shop.RefundCard(order_id="o-9")
            ),
            into="ok",
        ),
        Await(
            label="ReserveStock",
            op=lambda env, s: s.step(
                shop.ReserveStock(order_id="o-9"), undo=shop.ReleaseStock(order_id="o-9"), within="1m"
            ),
            into="stock",
        ),
        Await(label="price", kind="local", op=lambda env, s: shop.price(env["order"].order_id), into="n"),
        Await(
            label="ShipOrder",
            op=lambda env, s: s.step(shop.ShipOrder(order_id="o-9"), undo=None),
            into="parcel",
        ),
    ],
    shop.REGISTRY,
    slots={
        "order": shop.OrderPlaced,
        "ok": shop.CardCharged,
        "stock": shop.StockReserved,
        "n": int,
        "parcel": shop.Shipped,
    },
    result=lambda env, s: shop.OrderConfirmed(order_id="o-9"),
)


def timed(what: Callable[[], Any], *, rounds: int = 15, calls: int = 1000) -> float:
    """Best microseconds of CPU per call."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            what()
        best = min(best, (time.process_time() - began) / calls * 1e6)
    return best


def main() -> None:
    stage = Stage(ORDER)
    stage.start()
    stage.reply(shop.CardCharged(order_id="o-9", charge_id="ch-1"))
    record = stage.record
    reply = shop.StockReserved(order_id="o-9")
    body = dump_body(reply).encode()
    headers = record.out[0].headers
    cause = Cause(
        kind="reply",
        type="StockReserved",
        source="in",
        id="x-1",
        partition=0,
        offset=9,
        headers=headers,
        value=body,
    )
    event = Input(
        cause=cause,
        instance=record.instance,
        at=2_000_000,
        type="StockReserved",
        body=reply,
        in_reply_to=stage.pending().key,
        epoch=1,
        writer="w",
        position="in/0",
        digest=b"0" * 16,
    )
    local = transition(record, event, stage.world).record
    assert local is not None
    pending = next(local.operations())
    result = Input(
        cause=Cause(kind="result", type="price", id=pending.key, value=b""),
        instance=record.instance,
        at=2_000_100,
        body="3",
        in_reply_to=pending.key,
        epoch=1,
        writer="w",
    )
    value = encode(local)
    made = {
        "bench": "transition",
        "reply_to_local_us": timed(lambda: transition(record, event, stage.world)),
        "result_to_command_us": timed(lambda: transition(local, result, stage.world)),
        "encode_us": timed(lambda: encode(local)),
        "decode_us": timed(lambda: decode(value)),
        "headers_us": timed(lambda: headers_of(local, value)),
        "bytes": len(value),
    }
    print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in made.items()}))


if __name__ == "__main__":
    main()
