"""`KafkaLog`: the seam over a Kafka cluster. The partition's order is the fence; no transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contrapas.log import Capabilities

DAY_MS: Final = 86_400_000
CAPS: Final = Capabilities(
    atomic_external=False,
    max_commit_records=1000,
    max_record_bytes=990_000,
    compaction="broker",
    joins_user_sql=False,
)


class KafkaLog:
    """One namespace's lanes on Kafka. `contrapas_kafka.connector.open` checks topics and settings first."""

    def __init__(
        self,
        settings: Mapping[str, object],
        namespace: str,
        partitions: int,
        *,
        place: str = "kafka",
        durable: bool = True,
        history_ms: int = 7 * DAY_MS,
    ) -> None:
        """settings: what every client of ours is given, `bootstrap.servers` and security; the rest is ours to set.

        partitions: of either lane, as recorded. place: the address as errors show it, without a password. durable: the
        lanes' settings were seen to keep what they acknowledge. history_ms: `min.compaction.lag.ms` of `<ns>.log`.
        """
        self.settings = dict(settings)
        self.namespace = namespace
        self.partitions = partitions
        self.place = place
        self.durable = durable
        self.history_ms = history_ms
        self.caps = CAPS
