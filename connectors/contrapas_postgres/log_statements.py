"""The statements of the log, for one namespace's schema. Values are parameters; the schema's name is of an allow-list."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files
from typing import Final

from contrapas.errors import Refused

VERSION: Final = 1
"""Of the tables."""
NAMESPACE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def schema_of(namespace: str) -> str:
    """The schema that holds a namespace: `contrapas_` and the name, `-` as `_`. Refused CP504 for another form."""
    if not NAMESPACE.fullmatch(namespace):
        raise Refused(
            "CP504",
            f"{namespace[:60]!r} is no namespace's name",
            fix="use a to z, 0 to 9 and -, at most 40, not - at first",
        )
    return "contrapas_" + namespace.replace("-", "_")


def definition(namespace: str) -> str:
    """The SQL that makes an empty log's tables."""
    text = files("contrapas_schemas").joinpath("sql/postgresql/log.sql").read_text(encoding="utf-8")
    return text.replace("contrapas_shop", schema_of(namespace))


_NOW: Final = "coalesce({0}::bigint, (extract(epoch from clock_timestamp()) * 1000)::bigint)"
"""The log's time; a parameter takes its place in tests."""

# The rows of `part` and `topic_part` that a statement moves are locked in one order everywhere: topics by (t, p), then the
# log lane's head. Two owners that send to each other's partitions cannot wait for each other.
_COMMIT: Final = """
with h as (
  update S.part set log_head = log_head + $3, owner = $4, relayed = greatest(relayed, $5), control = $6,
    ts = greatest(ts, NOW7)
  where p = $1 and epoch = $2
  returning p, log_head - $3 as base, ts
), rows as (
  insert into S.lane_log(p, o, key, value, headers, ts)
  select $1, h.base + u.i - 1, u.key, u.value, u.headers, h.ts
  from h, unnest($8::bytea[], $9::bytea[], $10::bytea[]) with ordinality u(key, value, headers, i)
)
select p, base, ts from h
"""
# Several partitions at once. Who has lost its partition has no row in `h`, and so neither records nor messages; the
# offsets of its messages stay empty.
_COMMITS: Final = """
with wanted as materialized (
  select * from unnest($1::int[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bytea[])
    w(p, epoch, n, owner, relayed, control)
), places as materialized (
  select tp.t, tp.p, w.n from S.topic_part tp
  join unnest($12::int[], $13::int[], $14::bigint[]) w(t, p, n) on tp.t = w.t and tp.p = w.p
  order by tp.t, tp.p for update of tp
), owned as materialized (
  select l.p from S.part l join wanted w on l.p = w.p and l.epoch = w.epoch
  where (select count(*) from places) = cardinality($12::int[])
  order by l.p for update of l
), h as (
  update S.part l set log_head = l.log_head + w.n, owner = w.owner, relayed = greatest(l.relayed, w.relayed),
    control = w.control, ts = greatest(l.ts, NOW7)
  from wanted w where l.p = w.p and l.epoch = w.epoch and w.p in (select p from owned)
  returning l.p, l.log_head - w.n as base, l.ts
), rows as (
  insert into S.lane_log(p, o, key, value, headers, ts)
  select u.p, h.base + row_number() over (partition by u.p order by u.i) - 1, u.key, u.value, u.headers, h.ts
  from unnest($8::int[], $9::bytea[], $10::bytea[], $11::bytea[]) with ordinality u(p, key, value, headers, i)
  join h on h.p = u.p
), heads as (
  update S.topic_part tp set head = tp.head + places.n, ts = greatest(tp.ts, (select max(ts) from h))
  from places where tp.t = places.t and tp.p = places.p and exists (select 1 from h)
  returning tp.t, tp.p, tp.head - places.n as base, tp.ts
), sent as (
  insert into S.lane_topic(t, p, o, key, value, headers, ts)
  select heads.t, heads.p, heads.base + u.i, u.key, u.value, u.headers, heads.ts
  from unnest($15::int[], $16::int[], $17::int[], $18::bigint[], $19::bytea[], $20::bytea[], $21::bytea[])
    u(source, t, p, i, key, value, headers)
  join heads on heads.t = u.t and heads.p = u.p join h on h.p = u.source
)
select p, base, ts from h
"""
_PUBLISH: Final = """
with places as materialized (
  select tp.t, tp.p, w.n from S.topic_part tp
  join unnest($1::int[], $2::int[], $3::bigint[]) w(t, p, n) on tp.t = w.t and tp.p = w.p
  order by tp.t, tp.p for update of tp
), heads as (
  update S.topic_part tp set head = tp.head + places.n, ts = greatest(tp.ts, NOW4)
  from places where tp.t = places.t and tp.p = places.p
    and (select count(*) from places) = cardinality($1::int[])
  returning tp.t, tp.p, tp.head - places.n as base, tp.ts
), sent as (
  insert into S.lane_topic(t, p, o, key, value, headers, ts)
  select heads.t, heads.p, heads.base + u.i, u.key, u.value, u.headers, heads.ts
  from unnest($5::int[], $6::int[], $7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[])
    u(t, p, i, key, value, headers)
  join heads on heads.t = u.t and heads.p = u.p
)
select count(*) from heads
"""
# One snapshot over head and rows: the end that is told is the end of what is given. The sum is over lengths as stored.
_READ_LOG: Final = """
select h.head, 0::bigint as start, r.o, r.key, r.value, r.headers, r.ts
from (select log_head as head from S.part where p = $1) h left join lateral (
  select * from (
    select o, key, value, headers, ts, row_number() over w as n,
      sum(octet_length(key) + coalesce(octet_length(value), 0)) over w as size
    from (select * from S.lane_log where p = $1 and o >= $2 and o < h.head order by o limit $3) l
    window w as (order by o)
  ) s where n = 1 or size <= $4
) r on true order by r.o
"""
_READ_TOPIC: Final = """
select h.head, h.start, r.o, r.key, r.value, r.headers, r.ts
from (select head, start from S.topic_part where t = $5 and p = $1) h left join lateral (
  select * from (
    select o, key, value, headers, ts, row_number() over w as n,
      sum(octet_length(key) + coalesce(octet_length(value), 0)) over w as size
    from (select * from S.lane_topic where t = $5 and p = $1 and o >= $2 and o < h.head order by o limit $3) l
    window w as (order by o)
  ) s where n = 1 or size <= $4
) r on true order by r.o
"""
# A record goes when a newer one of its key lies below the horizon, too; a tombstone that is the newest, when it is old.
_SWEEP: Final = """
with chunk as materialized (
  select o, key, value is null and ts < $5 as ended from S.lane_log
  where p = $1 and o >= $2 and o < $3 order by o limit $4
), gone as (
  delete from S.lane_log l using chunk c where l.p = $1 and l.o = c.o and (
    exists (select 1 from S.lane_log n where n.p = $1 and n.key = c.key and n.o > c.o and n.o < $3)
    or (c.ended and not exists (select 1 from S.lane_log n where n.p = $1 and n.key = c.key and n.o > c.o)))
  returning 1
)
select max(o) as last, count(*) as seen, (select count(*) from gone) as gone from chunk
"""


class Statements:
    """The statements over one schema."""

    def __init__(self, namespace: str) -> None:
        self.schema = schema_of(namespace)
        self.commit = self._over(_COMMIT)
        self.commits = self._over(_COMMITS)
        self.publish = self._over(_PUBLISH)
        self.read_log = self._over(_READ_LOG)
        self.read_topic = self._over(_READ_TOPIC)
        self.sweep = self._over(_SWEEP)

        def over(text: str) -> str:
            return self._over(text)

        self.exists = "select to_regclass($1) is not null"
        self.meta = over("select name, value from S.meta")
        self.topics = over("select t, name, partitions from S.topic where t > 0 order by name")
        self.topic = over("select t, partitions from S.topic where name = $1")
        self.bounds_log = over("select 0::bigint as start, log_head as head from S.part where p = $1")
        self.bounds_topic = over("select start, head from S.topic_part where t = $2 and p = $1")
        self.ends = over(
            "select -1 as t, p, log_head as head from S.part where p = any($1::int[]) union all "
            "select tp.t, tp.p, tp.head from S.topic_part tp join unnest($2::int[], $3::int[]) w(t, p) "
            "on tp.t = w.t and tp.p = w.p"
        )
        # a key's newest record by its index; then in order of offsets, some at a time
        self.latest = over(
            "select o from (select distinct on (key) o from S.lane_log where p = $1 and o >= $2 and o < $3 "
            "order by key, o desc) n order by o"
        )
        self.picked = over(
            "select o, key, value, headers, ts from S.lane_log where p = $1 and o = any($2::bigint[]) order by o"
        )
        self.newest = over(
            "select o, key, value, headers, ts from S.lane_log where p = $1 and key = $2 order by o desc limit 1"
        )
        self.history = over(
            "select o, key, value, headers, ts from S.lane_log where p = $1 and key = $2 order by o"
        )
        self.between = over(
            "select distinct on (key) o, key, value, headers, ts from S.lane_log "
            "where p = $1 and key > $2 and key < $3 order by key, o desc"
        )
        self.lag = over(
            "select position.grp, sum(tp.head - position.o)::bigint from S.position join S.topic using (t) "
            "join S.topic_part tp on tp.t = position.t and tp.p = position.p where topic.name = $1 group by grp"
        )
        self.look_log = over("select o, ts from S.lane_log where p = $1 and o >= $2 order by o limit 1")
        self.look_topic = over(
            "select o, ts from S.lane_topic where t = $3 and p = $1 and o >= $2 order by o limit 1"
        )
        self.positions = over(
            "select topic.name, topic.t, position.p, position.o from S.position join S.topic using (t) where grp = $1"
        )
        self.save_positions = over(
            "insert into S.position(grp, t, p, o) select $1, u.t, u.p, u.o "
            "from unnest($2::int[], $3::int[], $4::bigint[]) u(t, p, o) "
            "on conflict (grp, t, p) do update set o = excluded.o"
        )
        self.parts = over(
            "select l.p, l.epoch, l.owner, l.log_head, l.horizon, l.relayed, l.control, i.start as in_start, "
            "i.head as in_head from S.part l join S.topic_part i on i.p = l.p and i.t = 0 order by l.p"
        )
        self.part = over("select epoch, control, horizon from S.part where p = $1")
        self.fence = over(
            "update S.part set epoch = $3, owner = $4, control = $5, ts = greatest(ts, NOW6) "
            "where p = $1 and epoch = $2 returning epoch"
        ).replace("NOW6", _NOW.format("$6"))
        self.depose = over("update S.part set epoch = epoch + 1 where p = $1")
        self.horizon = over(
            "update S.part set horizon = greatest(horizon, least($3, relayed)) where p = $1 and epoch = $2 "
            "returning horizon"
        )
        self.epochs = over("select p, epoch from S.part")
        self.stale_input = over(
            "select max(o) from (select o, ts from S.lane_topic where t = 0 and p = $1 and o < $2 order by o limit $4) l "
            "where ts < $3"
        )
        self.trim = over("update S.topic_part set start = greatest(start, $2) where t = 0 and p = $1")
        self.trimmed = over(
            "delete from S.lane_topic where t = 0 and p = $1 and o < "
            "(select start from S.topic_part where t = 0 and p = $1)"
        )
        self.create_topic = over(
            "with made as (insert into S.topic(name, partitions) values ($1, $2) on conflict (name) do nothing "
            "returning t, partitions) insert into S.topic_part(t, p, head, start, ts) "
            "select t, p, 0, 0, 0 from made, generate_series(0, partitions - 1) p"
        )
        self.begin_session = over(
            "insert into S.session(grp, name, owner, host, pid, backend, beat) "
            "values ($1, $2, $3, $4, $5, pg_backend_pid(), clock_timestamp()) returning id"
        )
        # an advisory lock (oid of a table, number): free of collisions with other namespaces and other programs' tables
        self.lock_session = (
            f"select pg_advisory_lock('{self.schema}.session'::regclass::oid::bigint::bit(32)::int, $1)"
        )
        self.unlock_session = (
            f"select pg_advisory_unlock('{self.schema}.session'::regclass::oid::bigint::bit(32)::int, $1)"
        )
        self.lock_part = (
            f"select pg_try_advisory_lock('{self.schema}.part'::regclass::oid::bigint::bit(32)::int, $1)"
        )
        self.unlock_part = (
            f"select pg_advisory_unlock('{self.schema}.part'::regclass::oid::bigint::bit(32)::int, $1)"
        )
        locks = (
            "pg_locks l where l.locktype = 'advisory' and l.objsubid = 2 and l.granted "
            "and l.database = (select oid from pg_database where datname = current_database()) "
            f"and l.classid = '{self.schema}.%s'::regclass::oid"
        )
        self.living = (
            over("select name from S.session where grp = $1 and id in (select l.objid::bigint from ")
            + locks % "session"
            + ")"
        )
        self.end_session = over("delete from S.session where id = $1")
        self.beat = over("update S.session set beat = clock_timestamp() where backend = pg_backend_pid()")
        self.holders = (
            over(
                "select l.objid::bigint::int as p, l.pid as backend, coalesce(s.owner, '') as owner, "
                "coalesce(s.host, '') as host, coalesce(s.pid, 0) as pid, "
                "coalesce((extract(epoch from clock_timestamp() - s.beat) * 1000)::bigint, 0) as silent_ms "
                "from (select l.objid, l.pid from "
            )
            + locks % "part"
            + over(") l left join S.session s on s.backend = l.pid and s.grp = ''")
        )
        self.forget_dead = (
            over("delete from S.session where id not in (select l.objid::bigint from ")
            + locks % "session"
            + ") and beat < clock_timestamp() - interval '1 minute'"
        )

    def _over(self, text: str) -> str:
        for n in ("4", "7"):
            text = text.replace(f"NOW{n}", _NOW.format(f"${n}"))
        return re.sub(r"\bS\.", f"{self.schema}.", text)


@lru_cache(maxsize=64)
def statements(namespace: str) -> Statements:
    """The statements of a namespace."""
    return Statements(namespace)
