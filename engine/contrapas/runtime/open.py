"""A log by its URL: `sqlite:///file.db` and `memory:` are built in, every other scheme is a connector's entry point."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from contrapas.errors import ContrapasError, Refused, Unreachable
from contrapas.log import Log

GROUP: Final = "contrapas.connectors"
_EXTRAS: Final = {"kafka": "kafka", "nats": "nats", "postgresql": "postgres"}


async def open_log(
    url: str, namespace: str, *, partitions: int | None = None, make: bool = True, dev: bool = False
) -> Log:
    """Open a namespace's log. Refused CP510: no connector for the scheme, with the line that installs it;
    Unreachable CP501: it does not answer. make: lanes that do not exist are made where the log is our own file; dev: on
    a server too, and what a server for production must have is not asked for."""
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        from contrapas.log.memory import MemoryLog

        return MemoryLog(namespace, partitions or 8)
    if scheme == "sqlite":
        from contrapas.log.sqlite import SqliteLog

        path = sqlite_path(url)
        try:
            return SqliteLog(path, namespace, partitions or None, make=make)
        except OSError as why:
            words = f"{path} cannot be used: {why.strerror or why}"
            raise Unreachable(
                "CP516", words, again=False, fix="check the folder, its owner and mode"
            ) from why
    if not rest or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise Refused(
            "CP501",
            f"{shown(url)!r} is no log's address",
            fix="use sqlite:///path/to/file.db, kafka://host:9092, nats://host:4222 or postgresql://…",
        )
    return await _connected(url, namespace, partitions, make and dev, dev or not make)


async def _connected(url: str, namespace: str, partitions: int | None, make: bool, lenient: bool) -> Log:
    """lenient: the server may be one that an engine in production refuses; a door has no engine to start."""
    connector = connector_of(url)
    try:
        log: Log = await connector.open(url, namespace, partitions=partitions, make=make, dev=lenient)
    except ContrapasError:
        raise
    except OSError as why:
        raise Unreachable(
            "CP501", f"{shown(url)} does not answer: {why}", fix="is the address right, and the server up?"
        ) from why
    return log


def connector_of(url: str) -> Any:
    """The connector of an address: `open`, `plan`, `apply`, `examine`, `namespaces`. Refused CP510 when it is missing,
    with the line that installs it."""
    scheme = url.partition(":")[0]
    extra = _EXTRAS.get(scheme)
    line = (
        f"pip install 'contrapas[{extra}]'" if extra else f"install a package with the connector {scheme!r}"
    )
    found = list(entry_points(group=GROUP, name=scheme))
    if not found:
        raise Refused("CP510", f"no connector for {scheme}:// is installed", fix=line)
    try:
        connector: Any = found[0].load()
    except ImportError as why:
        raise Refused(
            "CP510", f"the connector for {scheme}:// needs a package that is missing: {why}", fix=line
        ) from why
    return connector


def sqlite_path(url: str) -> str:
    """`sqlite:///shop.db` is a file here, `sqlite:////var/lib/shop.db` one from the root."""
    parts = urlsplit(url)
    if parts.netloc:
        raise Refused(
            "CP501",
            f"{shown(url)!r} names a host, a SQLite file has none",
            fix=f"write sqlite:///{parts.netloc}{parts.path}",
        )
    path = unquote(parts.path.removeprefix("/"))
    if not path:
        raise Refused("CP501", f"{shown(url)!r} names no file", fix="write sqlite:///shop.db")
    return path


def shown(url: str) -> str:
    """An address without the password that may stand in it."""
    hidden = re.sub(
        r"(//[^:/@?]*):.*@", r"\1:***@", url
    )  # to the last @: a password may have been left unescaped
    return re.sub(r"(password=)[^&]*", r"\1***", hidden)[:200]
