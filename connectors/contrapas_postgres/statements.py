"""Every statement over the store's tables, with `$n` for values; one round trip each.

Columns whose type depends on the table (JSON or bytes) are cast here, so that a caller gives and gets bytes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from contrapas.participant.tables import qualified

VERSION: Final = 1
"""Of the tables this release works with."""

TABLES: Final = """\
select s.version, s.readable_from, t.typname, pg_backend_pid()
from contrapas_store s, pg_attribute a join pg_type t on t.oid = a.atttypid
where a.attrelid = 'contrapas_outbox'::regclass and a.attname = 'payload'"""

_TAKE: Final = """\
insert into contrapas_inbox (ns, consumer, source, id, digest, outcome)
values ($1, $2, $3, $4, $5, 'done') on conflict do nothing returning {idle}"""

# The own row first: a repeated undo must not wait for anything but itself.
_TAKE_UNDO: Final = """\
with own as (
  insert into contrapas_inbox (ns, consumer, source, id, digest, outcome)
  values ($1, $2, $3, $4, $5, 'done') on conflict do nothing returning ns, consumer, source
), step as (
  insert into contrapas_inbox (ns, consumer, source, id, digest, outcome)
  select ns, consumer, source, $6, ''::bytea, 'undone' from own on conflict do nothing
)
select {idle} from own"""

# A worker that is stopped in a transaction holds its keys for no longer; no round trip of its own, and the stricter wins.
_IDLE: Final = """\
case when current_setting('idle_in_transaction_session_timeout') = '0'
  then set_config('idle_in_transaction_session_timeout', '{}', true) end"""

_KNOWN: Final = """\
select outcome, digest, reply, reply_type from contrapas_inbox
where ns = $1 and consumer = $2 and source = $3 and id = $4"""

# Whoever waits for this row looks at it anew, and finds another reply or none.
_RETAKE: Final = """\
update contrapas_inbox set reply = null, reply_type = null
where ns = $1 and consumer = $2 and source = $3 and id = $4 and reply = $5 and reply_type = $6 returning {idle}"""

_ANSWER: Final = """\
update contrapas_inbox set reply = $5, reply_type = $6
where ns = $1 and consumer = $2 and source = $3 and id = $4"""

# In the order given: `seq` is drawn row by row, after the transaction's id.
_ADD: Final = """\
insert into contrapas_outbox
  (id, aggregatetype, aggregateid, type, payload, source, content_type, traceparent, headers)
select i::uuid, t, k, n, {payload}, s, c, nullif(p, ''), h::jsonb
from unnest({values}) with ordinality as u(i, t, k, n, v, s, c, p, h, at) order by at"""
# One row, by far the most frequent: planned once, while the form above is planned each time for its arrays.
_ADD_ONE: Final = """\
insert into contrapas_outbox
  (id, aggregatetype, aggregateid, type, payload, source, content_type, traceparent, headers)
values ({values})"""
_ONE: Final = ("{}::text::uuid", "{}", "{}", "{}", "{value}", "{}", "{}", "nullif({}, '')", "{}::text::jsonb")
_KINDS: Final = ("text", "text", "text", "text", "{value}", "text", "text", "text", "text")

# What lies before a row in its page is summed up, so that a page of large rows ends early; the server looks at no more
# than $3 of them for it.
_PAGE: Final = """\
select seq, id, aggregatetype, aggregateid, type, value, source, content_type, traceparent, headers, at from (
  select *, sum(octet_length(value)) over (order by seq rows unbounded preceding) - octet_length(value) as before from (
    select seq, id::text, aggregatetype, aggregateid, type, {payload} as value, source, content_type,
      coalesce(traceparent, '') as traceparent, headers::text,
      (date_part('epoch', created_at) * 1000)::bigint as at
    from contrapas_outbox where seq > $1 and seq <= $2 order by seq limit $3
  ) page
) sized where before is null or before < $4 order by seq"""

# A sequence that was never used says 1 and `is_called` false; taking that for a row would lose the first one.
_LAST: Final = "select case when is_called then last_value else 0 end from contrapas_outbox_seq_seq"

# Its own transaction, begun after `_LAST` was answered. All ids below the snapshot's floor have ended: where that
# reaches this transaction's own id, nobody who wrote when we asked is still writing.
BARRIER: Final = """\
select x::text, pg_snapshot_xmin(pg_current_snapshot()) >= x from (select pg_current_xact_id() as x) own"""
PASSED: Final = "select pg_snapshot_xmin(pg_current_snapshot()) >= ($1::text)::xid8"

_RELAY: Final = """\
select owner, epoch, last_seq, coalesce((extract(epoch from clock_timestamp() - updated_at) * 1000)::bigint, 0)
from contrapas_relay where name = $1"""
_ENTER: Final = "insert into contrapas_relay (name) values ($1) on conflict do nothing"
_CLAIM: Final = """\
update contrapas_relay set epoch = epoch + 1, owner = $2, updated_at = clock_timestamp()
where name = $1 returning epoch, last_seq"""
_ADVANCE: Final = """\
update contrapas_relay set last_seq = greatest(last_seq, $3), updated_at = clock_timestamp()
where name = $1 and epoch = $2 returning 1"""
_RELEASE: Final = "update contrapas_relay set owner = null where name = $1 and epoch = $2 returning 1"

# The key is of this database's outbox and this relay; advisory locks are per database.
_LOCK_KEY: Final = (
    "hashtextextended('contrapas_relay ' || 'contrapas_outbox'::regclass::oid::text || ' ' || $1, 0)"
)
# One claim after the other; a claimer that is stopped in the middle of one loses its transaction, and with it this lock.
_TURN: Final = f"select pg_advisory_xact_lock({_LOCK_KEY} # 1)"
_LOCK: Final = f"select pg_try_advisory_lock({_LOCK_KEY})"
_UNLOCK: Final = f"select pg_advisory_unlock({_LOCK_KEY})"
_HOLDER: Final = f"""\
select l.pid from pg_locks l, (select {_LOCK_KEY} as key) k
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_database where datname = current_database())
  and l.classid::bigint = (k.key >> 32) & 4294967295 and l.objid::bigint = k.key & 4294967295"""

# Whose transaction is the oldest that has an id, prepared ones included. Ids are counted for the whole server.
HORIZON: Final = """\
select (extract(epoch from clock_timestamp() - since) * 1000)::bigint, pid, left(query, 200) from (
  select age(backend_xid) as far, xact_start as since, pid, query
  from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
  union all
  select age(transaction), prepared, 0, 'prepared transaction ' || gid from pg_prepared_xacts
) t order by far desc limit 1"""


class Statements(NamedTuple):
    """The statements for tables as they are."""

    binary: bool
    """The payload column holds bytes, not JSON."""
    take: str
    take_undo: str
    known: str
    retake: str
    answer: str
    add: str
    """$1 … $9: arrays of the columns."""
    add_one: str
    """$1 … $9: the columns of one row."""
    finish: str
    """`answer` and `add` in one: $1 … $6 as `answer`, then the arrays."""
    finish_one: str
    page: str
    last: str
    relay: str
    enter: str
    claim: str
    advance: str
    release: str
    turn: str
    lock: str
    unlock: str
    holder: str


def statements(payload: str, schema: str, idle_ms: int = 0) -> Statements:
    """For a payload column of this type, in this schema (`""`: as the search path finds it).

    idle_ms: how long a transaction that took a key may be idle before the server ends its session; 0: as the server says.
    """
    idle = _IDLE.format(idle_ms) if idle_ms else "1"
    binary = payload == "bytea"
    give, get = ("v", "payload") if binary else ("v::jsonb", "convert_to(payload::text, 'UTF8')")

    def add(first: int) -> str:
        kinds = [k.format(value="bytea" if binary else "text") for k in _KINDS]
        values = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(kinds, first))
        return _ADD.format(payload=give, values=values)

    def one(first: int) -> str:
        kinds = [k.replace("{value}", "{}" if binary else "{}::text::jsonb") for k in _ONE]
        return _ADD_ONE.format(values=", ".join(k.format(f"${n}") for n, k in enumerate(kinds, first)))

    plain = (
        _TAKE.format(idle=idle),
        _TAKE_UNDO.format(idle=idle),
        _KNOWN,
        _RETAKE.format(idle=idle),
        _ANSWER,
        add(1),
        one(1),
        f"with answered as ({_ANSWER})\n{add(7)}",
        f"with answered as ({_ANSWER})\n{one(7)}",
        _PAGE.format(payload=get),
        _LAST,
        _RELAY,
        _ENTER,
        _CLAIM,
        _ADVANCE,
        _RELEASE,
        _TURN,
        _LOCK,
        _UNLOCK,
        _HOLDER,
    )
    return Statements(binary, *(qualified(sql, schema) for sql in plain))
