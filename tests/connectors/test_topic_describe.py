"""`contrapas topic describe` on every log: partitions and offsets, and settings where the log has any."""

from __future__ import annotations

import asyncio
import json

from contrapas.log import Draft
from tests.cli.dead_letters import Dead
from tests.cli.test_reading import fits, schema
from tests.connectors.test_dead_letters import Cli, cli, dead

__all__ = ["cli", "dead"]


def test_a_topic_is_described_with_its_partitions_and_settings(dead: Dead, cli: Cli) -> None:
    async def lay() -> None:
        log = await dead.open()
        await log.publish([Draft(dead.topic, p, b"k", b"{}", (("ce_type", b"Placed"),)) for p in (0, 0, 2)])
        await log.close()

    asyncio.run(lay())
    ran = cli("topic", "describe", dead.topic, *dead.where, "-o", "json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    fits(found, schema("topic"))
    assert [(p["start"], p["end"], p["records"]) for p in found["partitions"]] == [
        (0, 2, 2),
        (0, 0, 0),
        (0, 1, 1),
    ]
    assert (found["records"], found["types"]) == (3, [{"type": "Placed", "key": None}])
    kafka = dead.url.startswith("kafka")
    assert (found["settings"].get("cleanup.policy") == "delete") == kafka
    assert (found["bytes"] is None) == (not dead.url.startswith("sqlite"))
    lane = cli("topic", "describe", f"{dead.namespace}.log", *dead.where)
    assert lane.code == 0 and lane.out.startswith(f"{dead.namespace}.log   4 partitions")
    assert ("cleanup.policy=compact" in lane.out) == kafka
    near = cli("topic", "describe", f"{dead.topic}s", *dead.where)
    assert near.code == 3 and f"the nearest is '{dead.topic}'" in near.err
