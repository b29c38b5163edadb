"""Whether somebody shares out our sessions. A name of a prepared statement then means whatever another client gave it:
at best the server refuses, at worst it runs a statement of theirs with values of ours. So it is looked up before."""

from __future__ import annotations

from typing import Any

from contrapas.errors import Refused
from contrapas_postgres.meaning import PROXY_FIX
from contrapas_postgres.transaction import Link

PID = "select pg_backend_pid()"


async def shared_out(one: Link, other: Link) -> bool:
    """Whether the server's process under `one` changes while `other` is at work in a transaction."""
    before = (await one.rows(PID))[0][0]
    await other.rows("begin")
    try:
        busy = (await other.rows(PID))[0][0]
        after = (await one.rows(PID))[0][0]
    finally:
        await other.rows("rollback")
    return bool(busy == before or after != before)


def refused(name: str, what: str) -> Refused:
    """CP514, with who cannot work so."""
    text = f"PostgreSQL {name} is behind a proxy that shares out sessions by transaction: {what}"
    return Refused("CP514", text, fix=PROXY_FIX)


def caches(raw: Any) -> bool:
    """Whether a connection of asyncpg keeps prepared statements; True where it does not tell."""
    kept: Any = getattr(getattr(raw, "_con", raw), "_stmt_cache", None)
    size = getattr(kept, "get_max_size", None)
    return bool(size()) if size is not None else True
