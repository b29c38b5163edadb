"""Billing and delivery, written without contrapas: commands are read and answered by their headers alone.

    python sagas/billing/services.py HOST:PORT

What it answers to an id it answers again when the same id comes again; orders of more than 1,000.00 are not billed, and
nobody lives where an order's number begins with X.
"""

import json
import sys
from typing import Any

from confluent_kafka import Consumer, Producer


def bill(command: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if command["cents"] > 1_000_00:
        return "BillRefused", {"number": command["number"], "reason": "limit"}
    return "Billed", {"number": command["number"], "invoice": f"inv-{command['number']}"}


def cancel(command: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "BillCancelled", {"number": command["number"]}


def deliver(command: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "AddressUnknown" if command["number"].startswith("X") else "Delivered", {
        "number": command["number"]
    }


HANDLERS = {b"Bill": bill, b"CancelBill": cancel, b"Deliver": deliver}


def main(address: str) -> None:
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": "billing-services", "auto.offset.reset": "earliest"}
    )
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 0})
    answered: dict[bytes, tuple[str, dict[str, Any]]] = {}  # a table of the service's database, in earnest
    consumer.subscribe(["billing.commands", "delivery.commands"])
    print("ready", flush=True)
    while True:
        message: Any = consumer.poll(0.2)
        if message is None or message.error() is not None:
            continue
        headers = dict(message.headers() or [])
        if headers.get("ce_type") not in HANDLERS:
            continue
        ident = headers["ce_id"]
        if ident not in answered:
            answered[ident] = HANDLERS[headers["ce_type"]](json.loads(message.value()))
        name, body = answered[ident]
        producer.produce(
            headers["cp-reply-to"].decode(),
            json.dumps(body).encode(),
            message.key(),
            headers=[
                ("ce_specversion", b"1.0"),
                ("ce_type", name.encode()),
                ("ce_id", b"re:" + ident),
                ("ce_source", b"/billing"),
                ("content-type", b"application/json"),
                ("cp-in-reply-to", ident),
                ("cp-run", headers.get("cp-run", b"")),
            ],
        )
        producer.flush()
        print(headers["ce_type"].decode(), body["number"], "->", name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
