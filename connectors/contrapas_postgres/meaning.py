"""What an error of PostgreSQL, of a driver or of the network means to the seam; texts hold no address and no value."""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any, Final

from contrapas.errors import ContrapasError, DataError, Indeterminate, Refused, Retriable

_LOST: Final = ("08", "57P01", "57P02", "57P03", "57P05", "53300", "53400")
"""The server is there, but not for us; or the connection is gone."""
_AGAIN: Final = ("40", "55P03", "57014", "25P03", "25P04")
"""Serialization, deadlock, a lock or statement that took too long, a session that the server ended for idleness."""
_PROXY: Final = ("26000", "42P05", "08P01")
"""A prepared statement that is not there, or there already: somebody shares out sessions behind our back."""
PROXY_FIX: Final = (
    "give asyncpg statement_cache_size=0 (SQLAlchemy: connect_args={'statement_cache_size': 0, "
    "'prepared_statement_cache_size': 0, 'prepared_statement_name_func': lambda: str(uuid4())}), and the relay an address without the proxy"
)


def sqlstate(error: BaseException) -> str:
    """The five characters of PostgreSQL, through whatever a driver wrapped around them; `""` when there are none."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if isinstance(state, str) and len(state) == 5:
            return state
        seen.append(one)
        one = getattr(one, "orig", None) or one.__cause__
    return ""


def severity(error: BaseException) -> str:
    """`ERROR` where the server refused and goes on; `FATAL` or `PANIC` where the session ends; `""` unknown."""
    one: BaseException | None = error
    while one is not None:
        said = getattr(one, "severity_en", None) or getattr(one, "severity", None)
        diag = getattr(one, "diag", None)
        said = said or getattr(diag, "severity_nonlocalized", None)
        if isinstance(said, str):
            return said
        one = getattr(one, "orig", None) or one.__cause__
    return ""


def meaning(error: BaseException, name: str) -> ContrapasError | None:
    """One of the seam's errors, or None: it is the caller's own. Nothing was written, as far as this call goes."""
    state = sqlstate(error)
    if state:
        return _by_state(state, error, name)
    if _network(error):
        return Retriable(f"cannot reach PostgreSQL {name} ({_words(error)})", code="CP501")
    return None


def exhausted(error: BaseException, name: str) -> ContrapasError | None:
    """What the server says of itself in the middle of a handler's own statements: no space, no memory, no writes. That is no
    outcome of the handler, which runs again once there is room."""
    state = sqlstate(error)
    return _by_state(state, error, name) if state.startswith("53") or state == "25006" else None


def _by_state(state: str, error: BaseException, name: str) -> ContrapasError | None:
    where = f"PostgreSQL {name}"
    if state in _PROXY:
        text = f"{where} is behind a proxy that shares out sessions by transaction: prepared statements break ({state})"
        return Refused("CP514", text, fix=PROXY_FIX)
    if state.startswith(_LOST):
        return Retriable(f"cannot reach {where} ({_words(error)}, {state})", code="CP501")
    if state.startswith(_AGAIN):
        return Retriable(f"{where}: {_words(error)} ({state}); nothing was written")
    if state.startswith("53"):
        full = "its disk is full" if state == "53100" else _words(error)
        return Retriable(f"{where}: {full} ({state}); nothing was written, free space on the server")
    return _refused(state, error, where)


def _refused(state: str, error: BaseException, where: str) -> ContrapasError | None:
    if state == "25006":
        text = f"{where} takes no writes: a standby, or default_transaction_read_only (25006)"
        return Refused("CP514", text, fix="give the address of the primary")
    if state in ("42P01", "42703", "3F000") and "contrapas_" in str(error):
        text = f"{where} has no outbox and inbox tables, or others than this release knows ({state})"
        return Refused(
            "CP514", text, fix="contrapas store sql | psql, or contrapas store status for their version"
        )
    if state == "42501":
        return Refused(
            "CP822", f"{where}: {_words(error)} (42501)", fix="contrapas store sql prints the rights"
        )
    if state in ("28000", "28P01"):
        return Refused("CP822", f"{where} does not let this role in ({state})", fix="check role and password")
    if state == "3D000":
        return Refused(
            "CP501", f"{where}: there is no such database (3D000)", fix="createdb, or correct the name"
        )
    if state == "23514" and "no partition" in str(error):
        return Refused(
            "CP514", f"{where}: the outbox has no partition for today", fix="contrapas store prune --yes"
        )
    if state in ("22P02", "22P05", "22021") or state.startswith("22") and "json" in str(error).lower():
        text = f"{where} cannot store a payload or header: it is no JSON, or has a NUL in it ({state})"
        return DataError("CP408", text, fix="for Avro: contrapas store sql --payload bytea")
    return None


def _network(error: BaseException) -> bool:
    one: BaseException | None = error
    while one is not None:
        kind = type(one)
        if isinstance(one, OSError | TimeoutError | asyncio.IncompleteReadError):
            return True
        # SQLAlchemy, of a connection that was lost before; asyncpg, of one that was told its end while it was idle.
        if kind.__name__ in ("PendingRollbackError", "InternalClientError"):
            return True
        if kind.__name__ in ("InterfaceError", "OperationalError") and _says_lost(one):
            return True
        one = getattr(one, "orig", None) or one.__cause__
    return bool(getattr(error, "connection_invalidated", False))


def _says_lost(error: BaseException) -> bool:
    said = str(error).lower()
    return any(word in said for word in ("closed", "closing", "connection", "terminat"))


def _words(error: BaseException) -> str:
    """What the server or the system said, in one line without its details: those may hold values or addresses."""
    inner: Any = error
    while getattr(inner, "orig", None) is not None:
        inner = inner.orig
    if isinstance(inner, TimeoutError):
        return "no answer in time"
    if isinstance(inner, OSError) and inner.errno is not None:
        at = re.search(r"\('([^']+)', (\d+)", str(inner))
        return (f"{at[1]}:{at[2]}: " if at else "") + os.strerror(inner.errno).lower()
    said = getattr(inner, "message", None) or getattr(getattr(inner, "diag", None), "message_primary", None)
    text = str(said or inner).split("\n")[0]
    return text.split(">: ", 1)[-1][:200]


class told:
    """Errors inside as errors of the seam; what is none passes."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, ContrapasError):
            found = meaning(error, self.name)
            if found is not None:
                raise found from error


class committing(told):
    """As `told`, for COMMIT: a refusal of the server is one, everything else leaves open what happened."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception):
            return
        if severity(error) == "ERROR" or sqlstate(error)[:2] in ("23", "40"):
            super().__exit__(kind, error, trace)
            return
        raise Indeterminate(f"PostgreSQL {self.name} did not answer COMMIT: it may have happened") from error
