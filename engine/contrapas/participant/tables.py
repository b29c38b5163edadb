"""The outbox and inbox tables as numbered migrations: SQL files of `contrapas_schemas`, printed for the team to run.

A file is plain SQL with our names unqualified and a JSON payload; another schema and a binary payload are put in here.
Statements end at an empty line, so that they can be run one by one (an `a; b` inside a block stays whole).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Final, Literal, NamedTuple

from contrapas.errors import Refused

Payload = Literal["jsonb", "bytea"]
OURS: Final = re.compile(r"\bcontrapas_(?:outbox|inbox|relay|store)\w*")
"""Every name in a migration that is a table of ours; sequences and indexes take theirs from the tables."""
_SCHEMA: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")
_FILE: Final = re.compile(r"store_(\d{4})(\.down)?\.sql")
_PAYLOAD: Final = "  payload       jsonb,"


class Migration(NamedTuple):
    """From version `number - 1` to `number`."""

    number: int
    up: str
    down: str


def migrations(dialect: str = "postgresql") -> tuple[Migration, ...]:
    """Every migration of the store's tables, in order."""
    found: dict[int, dict[bool, str]] = {}
    for entry in files("contrapas_schemas").joinpath("sql", dialect).iterdir():
        if (match := _FILE.fullmatch(entry.name)) is not None:
            found.setdefault(int(match[1]), {})[bool(match[2])] = entry.read_text(encoding="utf-8")
    return tuple(Migration(n, found[n][False], found[n].get(True, "")) for n in sorted(found))


def version(dialect: str = "postgresql") -> int:
    """Of the newest tables that this release knows."""
    return migrations(dialect)[-1].number


def upgrade(*, start: int = 0, to: int = 0, payload: Payload = "jsonb", schema: str = "") -> str:
    """The SQL that leads from version `start` (0: no tables) to `to` (0: the newest), without `begin` and `commit`.

    Refused CP514 for versions that do not exist, CP801 for a schema that is no plain name.
    """
    known = migrations()
    last = to or known[-1].number
    if not 0 <= start <= last <= known[-1].number:
        raise Refused(
            "CP514",
            f"there are no tables from version {start} to {last}: this release knows 0 to {known[-1].number}",
            fix="contrapas store sql --from N, N as contrapas store status prints it",
        )
    whole = "\n".join(m.up for m in known if start < m.number <= last)
    if payload == "bytea":
        whole = whole.replace(_PAYLOAD, _PAYLOAD.replace("jsonb", "bytea"))
    return qualified(whole, schema)


def downgrade(*, start: int, to: int = 0, schema: str = "") -> str:
    """The SQL that leads back; what was not sent is lost with the tables."""
    known = migrations()
    whole = "\n".join(m.down for m in reversed(known) if to < m.number <= start)
    return qualified(whole, schema)


def qualified(sql: str, schema: str) -> str:
    """Our tables' names with their schema before them; unchanged without one."""
    if not schema:
        return sql
    if _SCHEMA.fullmatch(schema) is None:
        raise Refused("CP801", f"{schema!r:.80} is no name of a schema", fix="letters, digits, '_' and '$'")
    return OURS.sub(lambda name: f'"{schema}".{name[0]}', sql)


def statements(sql: str) -> Iterator[str]:
    """Statements one by one, without their closing semicolon; comments alone are none."""
    for part in re.split(r"\n\s*\n", sql):
        text = part.strip()
        if any(line and not line.startswith("--") for line in text.splitlines()):
            yield text.removesuffix(";")


RIGHTS: Final = """\
-- Rights, for a role APP that publishes and handles, RELAY that sends, CARE that runs `contrapas store prune` (the tables' owner):
-- grant select on contrapas_store to APP, RELAY;
-- grant select, insert on contrapas_outbox to APP;
-- grant select, insert, update, delete on contrapas_inbox to APP;
-- grant select on contrapas_outbox, contrapas_outbox_seq_seq, contrapas_inbox to RELAY;
-- grant select, insert, update on contrapas_relay to RELAY;
"""


def script(*, start: int = 0, payload: Payload = "jsonb", schema: str = "") -> str:
    """What `contrapas store sql` prints: one transaction, and the rights that roles need, as comments."""
    body = upgrade(start=start, payload=payload, schema=schema)
    if not body.strip():
        return f"-- contrapas: the tables are of version {start}, the newest\n"
    return f"begin;\n\n{body.rstrip()}\n\ncommit;\n\n{qualified(RIGHTS, schema)}"
