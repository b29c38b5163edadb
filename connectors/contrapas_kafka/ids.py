"""Topic ids as Kafka's own tools write them."""

from __future__ import annotations


def id_of(uuid: object) -> str:
    """The id in the base64 of URLs: a `/`, which the client's own form may hold, would end the name of a source."""
    return str(uuid).replace("+", "-").replace("/", "_")
