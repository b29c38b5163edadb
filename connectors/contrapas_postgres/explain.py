"""What an error of PostgreSQL, or of the way to it, means: one of the seam's three errors, or why nothing can go on."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import asyncpg

from contrapas.errors import (
    ContrapasError,
    Damaged,
    Fenced,
    Indeterminate,
    LogError,
    Refused,
    Retriable,
    Unreachable,
)

# SQLSTATEs after which the server has undone the whole transaction.
_AGAIN: Final = frozenset(
    [
        "40001",  # serialization failure
        "40P01",  # deadlock
        "55P03",  # a lock was not to be had in time
        "57014",  # cancelled
        "53000",
        "53200",  # out of memory
        "53300",  # too many connections
        "53400",
    ]
)
_READ_ONLY: Final = "25006"
_FULL: Final = "53100"
_GONE: Final = frozenset(["42P01", "3F000", "42703"])
_DAMAGED: Final = frozenset(["XX001", "XX002"])
_OTHERS: Final = frozenset(["26000", "42P05"])
"""A prepared statement is not there, or is there already: it is another session's connection."""
_LOST: Final = frozenset(["57P01", "57P02", "57P03", "57P05", "25P03"])
"""The server ended the session; with classes 08 and what the client itself found out."""

FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server said goodbye while the connection was idle, and was used then
    OSError,
    TimeoutError,
)
"""What a call of the client may raise."""


ADDRESS_FIX: Final = (
    "write postgresql://user:password@host:5432/database, signs like / # ? @ of a password as %2F %23 %3F %40"
)


def lost(error: BaseException) -> bool:
    """Whether the connection is gone, or its answer did not come in time."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state.startswith("08") or state in _LOST
    return isinstance(error, FAILURES)


def explain(error: Exception, place: str, *, sent: bool) -> ContrapasError:
    """The error as ours. sent: a change was on its way, so that nobody knows what became of it if no answer came."""
    if isinstance(error, ContrapasError):
        return error
    words = _words(error)
    if lost(error):
        if sent:
            return Indeterminate(f"no answer from PostgreSQL: {words}", place=place)
        return Retriable(f"PostgreSQL does not answer: {words}", place=place)
    state = getattr(error, "sqlstate", "") or ""
    if state in _AGAIN:
        return Retriable(f"PostgreSQL undid the transaction ({state}): {words}", place=place)
    if state == _READ_ONLY:
        return Fenced(f"the server takes no more writes, another is the primary now: {words}", place=place)
    if state == _FULL:
        fix = "free some space, then start the worker again: what was acknowledged is there"
        return Unreachable("CP524", f"PostgreSQL has no space: {words}", again=True, fix=fix, place=place)
    if state in _GONE:
        text = f"tables of the log are missing: {words}"
        return LogError(
            "CP506", text, fix="restore them from a backup; contrapas doctor --log URL", place=place
        )
    if state in _OTHERS:
        return pooled(place, words)
    if state == "42501":
        return Refused(
            "CP822", f"PostgreSQL refuses: {words}", fix="grant what the message names", place=place
        )
    if state in _DAMAGED:
        text = f"PostgreSQL found damaged data: {words}"
        return Damaged("CP520", text, expected="a whole page", got=words, fix="restore a backup", place=place)
    return Unreachable(
        "CP501",
        f"PostgreSQL cannot do it ({state or type(error).__name__}): {words}",
        again=False,
        place=place,
    )


def explain_connecting(error: Exception, place: str) -> ContrapasError:
    """Why there is no connection."""
    if isinstance(error, ContrapasError):
        return error
    if isinstance(error, ValueError):  # its words may quote a piece of the password
        text = "the address cannot be read: a port or an option in it is none"
        return Refused("CP501", text, fix=ADDRESS_FIX, place=place)
    words, state = _words(error), getattr(error, "sqlstate", "") or ""
    if state == "3D000":
        return Refused(
            "CP501",
            f"there is no such database: {words}",
            fix="create it (createdb NAME), or correct the address",
            place=place,
        )
    if state.startswith("28"):
        return Unreachable(
            "CP501",
            f"the server lets nobody in: {words}",
            again=False,
            fix="correct user or password",
            place=place,
        )
    if state == "08P01" and "startup" in words:
        return pooled(place, words)
    if lost(error) or state.startswith("53"):
        fix = "start it, correct the address, or use the built-in log"
        return Unreachable("CP501", f"the server does not answer: {words}", fix=fix, place=place)
    return explain(error, place, sent=False)


def pooled(place: str, words: str) -> Refused:
    """A proxy that hands out a server connection per transaction."""
    return Refused(
        "CP514",
        f"between us and {place} is a proxy that changes server connections between transactions ({words}): "
        "locks that say who owns what would not hold",
        fix="connect to the server itself, or set the proxy to session pooling (pool_mode = session)",
        place=place,
    )


def shown(url: str) -> str:
    """An address without the password that may stand in it."""
    hidden = re.sub(
        r"(//[^:/@?]*):.*@", r"\1:***@", url
    )  # to the last @: a password may have been left unescaped
    return re.sub(r"(password=)[^&]*", r"\1***", hidden)[:200]


def _words(error: Exception) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    return (str(error) or type(error).__name__).split("\n")[0][:300]
