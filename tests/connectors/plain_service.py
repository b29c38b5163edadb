"""A service that knows nothing of us: plain Python and confluent-kafka, started as a process of its own.

python plain_service.py ADDRESS COMMANDS EVENTS GROUP

It answers commands by what the wire format says of headers alone: CloudEvents in binary mode in and out, the record key
unchanged, `cp-in-reply-to` and `cp-run` echoed. Amounts above 1000 are declined. It says how often each id came.
"""

import json
import sys
import uuid
from typing import Any

from confluent_kafka import Consumer, Producer

address, commands, events, group = sys.argv[1:5]
consumer: Any = Consumer(
    {
        "bootstrap.servers": address,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 6000,
        "isolation.level": "read_committed",
    }
)
producer: Any = Producer({"bootstrap.servers": address, "linger.ms": 0, "enable.idempotence": True})
answered: dict[bytes, tuple[str, bytes]] = {}
consumer.subscribe([commands])
assert "contrapas" not in sys.modules
print("ready", flush=True)
while True:
    message = consumer.poll(0.2)
    if message is None or message.error() is not None:
        continue
    headers = dict(message.headers() or [])
    if headers.get("ce_type") not in (b"Charge", b"Refund") or headers.get("ce_specversion") != b"1.0":
        continue
    body = json.loads(message.value())
    ident = headers["ce_id"]
    if ident not in answered:
        if headers["ce_type"] == b"Refund":
            said = {"id": body["id"]}
            name = "Refunded"
        elif body["cents"] > 1000:
            said, name = {"id": body["id"], "reason": "too much"}, "Declined"
        else:
            said, name = {"id": body["id"], "charge": "c-1"}, "Charged"
        answered[ident] = (name, json.dumps(said).encode())
    name, value = answered[ident]
    reply = [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(uuid.uuid5(uuid.NAMESPACE_URL, ident.decode())).encode()),
        ("ce_source", b"/plain/bank"),
        ("ce_type", name.encode()),
        ("content-type", b"application/json"),
        ("cp-in-reply-to", ident),
        ("ce_correlationid", headers["ce_correlationid"]),
    ]
    if "cp-run" in headers:
        reply.append(("cp-run", headers["cp-run"]))
    producer.produce(events, value, message.key(), headers=reply)
    producer.flush()
    print(json.dumps([headers["ce_type"].decode(), ident.decode(), int(headers["cp-attempt"])]), flush=True)
