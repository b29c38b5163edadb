"""PostgreSQL for contrapas: the log (`postgresql://…`) and the participant's store."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contrapas_postgres.log import PostgresLog
    from contrapas_postgres.store import PostgresStore

__all__ = ["PostgresLog", "PostgresStore"]

_HOME = {"PostgresLog": "contrapas_postgres.log", "PostgresStore": "contrapas_postgres.store"}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used. Refused CP510: its client is not installed."""
    if (home := _HOME.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(home), name)
    except ModuleNotFoundError as missing:
        if missing.name != "asyncpg":
            raise
        from contrapas.errors import Refused

        raise Refused("CP510", f"{name} needs asyncpg", fix="pip install 'contrapas[postgres]'") from None
