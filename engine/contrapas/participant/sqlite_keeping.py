"""What people ask of a service's SQLite file: whether it can be used, what is in it, what may be dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from contrapas.core.finding import Finding
from contrapas.errors import ContrapasError, Retriable
from contrapas.participant import Claim, StoreStatus
from contrapas.participant.sqlite_base import ROLLBACK, ROTTEN, VERSION, connect, explain, missing, version_of

OLD_OUTBOX: Final = (
    "delete from contrapas_outbox where seq in (select seq from contrapas_outbox where seq <= "
    "(select coalesce(min(last_seq), 0) from contrapas_relay) and created_at <= ? order by seq limit ?)"
)
OLD_INBOX: Final = (
    "delete from contrapas_inbox where (ns, consumer, source, id) in (select ns, consumer, source, id "
    "from contrapas_inbox where received_at < ? order by received_at limit ?)"
)
"""Both take: older than (ms), and how many at once."""


def examined(path: str) -> Sequence[Finding]:
    """What `doctor` says of the file."""
    try:
        con = connect(path)
    except ContrapasError as why:
        return (Finding(True, why.code, why.text, why.fix or "in dev: await store.prepare()", path),)
    try:
        version = version_of(con)
        con.execute("begin immediate")
        con.execute(ROLLBACK)
    except ROTTEN as why:
        said = explain(why, path)
        return (Finding(not isinstance(said, Retriable), said.code, said.text, said.fix, path),)
    finally:
        con.close()
    if version == 0:
        none = missing(path)
        return (Finding(True, none.code, none.text, none.fix, path),)
    if version != VERSION:
        text = f"{path} has tables of version {version}, this contrapas knows {VERSION}"
        fix = "upgrade contrapas" if version > VERSION else "apply the migrations of contrapas store sql"
        return (Finding(True, "CP514", text, fix, path),)
    return ()


def counted(path: str, now: int) -> StoreStatus:
    """What is in the file."""
    try:
        con = connect(path)
    except ContrapasError:
        return StoreStatus(0, 0, 0, 0, 0, {})
    try:
        if (version := version_of(con)) == 0:
            return StoreStatus(0, 0, 0, 0, 0, {})
        relays = con.execute("select name, epoch, last_seq from contrapas_relay").fetchall()
        low = min((r[2] for r in relays), default=0)
        count, oldest = con.execute(
            "select count(*), min(created_at) from contrapas_outbox where seq > ?", (low,)
        ).fetchone()
        known, first = con.execute("select count(*), min(received_at) from contrapas_inbox").fetchone()
    except ROTTEN as why:
        raise explain(why, path) from why
    finally:
        con.close()
    return StoreStatus(
        version,
        count,
        now - oldest if oldest else 0,
        known,
        now - first if first else 0,
        {name: Claim(epoch, last) for name, epoch, last in relays},
    )
