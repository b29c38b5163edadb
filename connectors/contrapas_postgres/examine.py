"""What `doctor` says of a store's database: whether it keeps what it confirms, its tables, its days, what holds it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from contrapas.participant import Finding
from contrapas.participant.tables import qualified
from contrapas_postgres import care
from contrapas_postgres.outbox import horizon
from contrapas_postgres.statements import VERSION
from contrapas_postgres.transaction import Link

OLDEST_SERVER: Final = 130_000
HORIZON_MS: Final = 10_000
_SETTINGS: Final = ("fsync", "full_page_writes", "synchronous_commit")
_SERVER: Final = """\
select current_setting('server_version_num')::int, current_setting('server_version'), pg_is_in_recovery(),
  current_setting('transaction_read_only') = 'on', """ + ", ".join(
    f"current_setting('{s}')" for s in _SETTINGS
)

_NEEDED: Final = (
    ("contrapas_store", "SELECT"),
    ("contrapas_outbox", "SELECT"),
    ("contrapas_outbox", "INSERT"),
    ("contrapas_outbox_seq_seq", "SELECT"),
    ("contrapas_inbox", "SELECT"),
    ("contrapas_inbox", "INSERT"),
    ("contrapas_inbox", "UPDATE"),
    ("contrapas_inbox", "DELETE"),
    ("contrapas_relay", "SELECT"),
    ("contrapas_relay", "INSERT"),
    ("contrapas_relay", "UPDATE"),
)


class Store(Protocol):
    """The store that is looked at."""

    name: str
    schema: str


def tables_wrong(name: str, version: int, readable_from: int) -> Finding | None:
    """CP514 when this release cannot work with tables of this version."""
    if version < VERSION:
        text = f"PostgreSQL {name}: the tables are of version {version}, this release needs {VERSION}"
        return Finding(True, "CP514", text, f"contrapas store sql --from {version} | psql")
    if readable_from > VERSION:
        text = f"PostgreSQL {name}: the tables are of version {version}, this release knows {VERSION}"
        return Finding(True, "CP514", text, "update contrapas here")
    return None


async def findings(link: Link, store: Store) -> Sequence[Finding]:
    """Everything at once; what hides the rest (no server of that age, no tables) comes alone."""
    found: list[Finding] = []
    version, words, standby, read_only, *settings = (await link.rows(_SERVER))[0]
    name = f"PostgreSQL {store.name}"
    if version < OLDEST_SERVER:
        text = f"{name}: the server is PostgreSQL {words}, 13 is the oldest that works"
        return [Finding(True, "CP518", text, "update the server")]
    for setting, value in zip(_SETTINGS, settings, strict=True):
        if value == "off":
            text = f"{name}: {setting} is off: what was confirmed can be lost"
            fix = f"alter system set {setting} = on; select pg_reload_conf()"
            found.append(Finding(True, "CP514", text, fix))
    if standby or read_only:
        why = "is a standby" if standby else "takes no writes (default_transaction_read_only)"
        found.append(Finding(True, "CP514", f"{name} {why}", "give the address of the primary"))
    tables = await _tables(link, store)
    found += tables
    if not any(one.refused for one in tables):
        found += await _rights(link, store)
    if not any(one.refused for one in found):
        found += await _days(link, store)
        found += await _relays(link, store)
    found += await held_back(link, store.name)
    return found


async def _tables(link: Link, store: Store) -> list[Finding]:
    def q(name: str) -> str:
        return qualified(name, store.schema)

    name = f"PostgreSQL {store.name}"
    tables = ("contrapas_store", "contrapas_outbox", "contrapas_inbox", "contrapas_relay")
    there = (await link.rows("select " + ", ".join(f"to_regclass('{q(t)}') is not null" for t in tables)))[0]
    missing = [table for table, is_there in zip(tables, there, strict=True) if not is_there]
    if missing:
        fix = "contrapas store sql | psql" + (f"   (--schema {store.schema})" if store.schema else "")
        return [Finding(True, "CP514", f"{name}: there is no {', '.join(missing)}", fix)]
    may = (await link.rows(f"select has_table_privilege('{q('contrapas_store')}', 'SELECT')"))[0][0]
    if not may:
        return []
    rows = await link.rows(q("select version, readable_from from contrapas_store"))
    wrong = tables_wrong(store.name, *(rows[0] if rows else (0, 0)))
    if wrong is not None:
        return [wrong]
    cache = await link.rows(
        f"select seqcache from pg_sequence where seqrelid = '{q('contrapas_outbox_seq_seq')}'::regclass"
    )
    if cache and cache[0][0] != 1:
        text = f"{name}: contrapas_outbox_seq_seq hands out {cache[0][0]} numbers at once: rows would be passed over"
        return [Finding(True, "CP514", text, "alter sequence contrapas_outbox_seq_seq cache 1")]
    return []


async def _rights(link: Link, store: Store) -> list[Finding]:
    asked = ", ".join(
        f"has_{'sequence' if t.endswith('_seq') else 'table'}_privilege('{qualified(t, store.schema)}', '{right}')"
        for t, right in _NEEDED
    )
    have = (await link.rows(f"select {asked}"))[0]
    lacking = [
        f"{right.lower()} on {table}" for (table, right), has in zip(_NEEDED, have, strict=True) if not has
    ]
    if not lacking:
        return []
    role = (await link.rows("select current_user::text"))[0][0]
    text = f"PostgreSQL {store.name}: the role {role} lacks {', '.join(lacking)}"
    # A role that only publishes, or only relays, needs less: what it does without a right says CP822 then.
    may_write = not any(one.endswith(("on contrapas_store", "insert on contrapas_outbox")) for one in lacking)
    return [Finding(not may_write, "CP822", text, "contrapas store sql prints the rights")]


async def _days(link: Link, store: Store) -> list[Finding]:
    now, there = await care.today(link), await care.days(link, store.schema)
    ahead = [one.day for one in there if one.day > now]
    name, fix = f"PostgreSQL {store.name}", "contrapas store prune --yes, once a day, with the tables' owner"
    found: list[Finding] = []
    if not ahead:
        text = f"{name}: no day of the outbox is made ahead; rows will lie in the default partition"
        found.append(Finding(False, "CP514", text, fix))
    default = qualified("contrapas_outbox_default", store.schema)
    may = (await link.rows(f"select has_table_privilege('{default}', 'SELECT')"))[0][0]
    if may and await link.rows(f"select 1 from {default} limit 1"):
        text = f"{name}: rows lie in the outbox's default partition; they are sent, but deleted one by one"
        found.append(Finding(False, "CP514", text, fix))
    return found


async def _relays(link: Link, store: Store) -> list[Finding]:
    sql = "select name, last_seq from contrapas_relay order by last_seq"
    relays = await link.rows(qualified(sql, store.schema))
    if len(relays) < 2 or relays[0][1] == relays[-1][1]:
        return []
    names = ", ".join(f"{name} at {last}" for name, last in relays)
    text = f"PostgreSQL {store.name}: several relays ({names}); days go when the slowest has passed them"
    return [Finding(False, "CP515", text, "delete the row of a relay that is no more from contrapas_relay")]


async def held_back(link: Link, name: str) -> list[Finding]:
    """CP515 for the oldest transaction with an id, when it is old."""
    oldest = await horizon(link)
    if oldest.age_ms < HORIZON_MS:
        return []
    age = f"{oldest.age_ms / 1000:.0f} s"
    if not oldest.pid:
        gid = oldest.query.removeprefix("prepared transaction ")
        text = f"PostgreSQL {name}: {oldest.query}, {age} old, holds back the outbox"
        return [Finding(False, "CP515", text, f"rollback prepared '{gid}', or commit it")]
    text = f"PostgreSQL {name}: a transaction of pid {oldest.pid}, {age} old, holds back the outbox: {oldest.query}"
    return [Finding(False, "CP515", text, f"end it, or select pg_terminate_backend({oldest.pid})")]


def proxied(name: str, said: int, found: int) -> Finding | None:
    """A warning when somebody stands between us and the server: other process ids than were said at connecting."""
    if said == found or not said:
        return None
    text = f"PostgreSQL {name} is behind a proxy; one that shares out sessions by transaction breaks prepared statements"
    return Finding(
        False, "CP514", text, "statement_cache_size=0, and an address without the proxy for the relay"
    )
