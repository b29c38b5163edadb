"""Looking at entities: what a query gives of the last committed fields, where their owner is in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contrapas.author.entity import Call, look
from contrapas.core.partition import partition as partition_of
from contrapas.machine import Machine

if TYPE_CHECKING:
    from contrapas.runtime.client import Client


def look_at(client: Client, machine: Machine, call: Call, key: str, command: Any) -> str | None:
    """The result of a query as JSON text; None: its owner is in another process, and it is to be asked like a handler."""
    worker = client.worker
    number = partition_of(key.encode(), client.setting.doors.partitions)
    station = worker.stations.get(number) if worker is not None else None
    if station is None:
        return None
    record = station.partition.committed_record(f"{machine.name}/{key}")
    text = record.root.frames[0].slots.get("self") if record is not None and record.root.frames else None
    codec = machine.slots["self"].codec
    me = machine.entity() if text is None or codec is None else codec.load(text)
    value = look(call, me, key, [getattr(command, name) for name in call.params])
    returned: Any = call.returned
    whole: str = returned.model_construct(value=value).model_dump_json(include={"value"})
    return whole.removeprefix('{"value":').removesuffix("}")
