"""Bytes on a lane: what a log stores and gives back. `contrapas.log` re-exports these names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Lane = str
"""`log`, `in`, or a topic by name: the users', `<ns>.dlq`, `<ns>.tasks.<queue>`."""
Source = tuple[str, int]
"""(`orders.events@<topic id>`, partition)."""
Headers = tuple[tuple[str, bytes], ...]
"""Order is kept, names may repeat."""


class Null(bytes):
    """The null that Kafka has for a key or a header's value: empty to who reads, itself to who hands it on."""


NULL = Null()
"""A connector that meets a null gives this, and writes a null where it meets this."""


class Record(NamedTuple):
    """One stored record."""

    partition: int
    offset: int
    """Grows within (lane, partition); gaps are normal."""
    key: bytes
    value: bytes | None
    """None: a tombstone, log lane only."""
    headers: Headers
    timestamp_ms: int
    """The log's clock, not the writer's."""


class Draft(NamedTuple):
    """One record to store."""

    to: str
    """`""` the own log lane, `in`, or an external topic."""
    partition: int
    """Computed by the core; external: -1 = `partition` of the key on that topic's count."""
    key: bytes
    value: bytes | None
    headers: Headers = ()
    message_id: str = ""


class Control(NamedTuple):
    """What the owner of a partition writes with each commit."""

    epoch: int
    owner: str
    """Empty after a release."""
    partitions: int
    format: int
    """Highest record format allowed."""
    serial: int
    """One more per commit: tells an unclear commit from none."""
    cursor: Mapping[Source, int]
    """Next offset to read, of `in` and of ingress sources, as of an earlier commit that counts."""
    relayed: int
    """Every `out` below this log offset is known to be published."""
    takeovers: int
    """In a row without a release."""
    trying: str
    """Careful mode: the input or local step in hand."""
    horizon: int
    """Compaction by us has passed this offset."""


class Known(NamedTuple):
    """What a checkpoint says of a partition of the log lane: the fold of everything below an offset."""

    upto: int
    epoch: int
    """Highest epoch seen."""
    control: Control | None


class Topic(NamedTuple):
    """A topic by its own account."""

    id: str
    """Changes when the topic is recreated."""
    partitions: int


class Commit(NamedTuple):
    """What a commit was given."""

    first: int
    last: int
    timestamp_ms: int
    durable: bool
    losers: tuple[Record, ...] = ()
    """Records of former owners or strangers found before or between ours: they do not count, each key is owed a heal."""


class Capabilities(NamedTuple):
    """What a backend can do."""

    atomic_external: bool
    max_commit_records: int
    max_record_bytes: int
    compaction: Literal["broker", "owner"]
    joins_user_sql: bool
