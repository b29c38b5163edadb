"""The old shop: an order as JSON of its own, keyed by customer, no headers.

python sagas/billing/shop.py HOST:PORT NUMBER CENTS
"""

import json
import sys

from confluent_kafka import Producer


def main(address: str, number: str, cents: int) -> None:
    value = {"kind": "order_created", "eventId": f"o-{number}", "order": {"number": number, "total": cents}}
    producer = Producer({"bootstrap.servers": address})
    producer.produce("legacy.orders", json.dumps(value).encode(), b"customer-7")
    if producer.flush(10):
        sys.exit(f"{address} did not take it")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
