-- contrapas: outbox, inbox and relay of a participant, version 1. PostgreSQL 13 or newer; run by the team, in one transaction.
-- Statements end at an empty line.

-- The outbox: Debezium's five columns, then ours. Insert only; days are dropped when the relay has passed them.
create table contrapas_outbox (
  id            uuid         not null default gen_random_uuid(),
  aggregatetype varchar(255) not null,                              -- destination topic
  aggregateid   varchar(255) not null,                              -- record key
  type          varchar(255) not null,                              -- CloudEvents type
  payload       jsonb,
  xid           xid8         not null default pg_current_xact_id(), -- before seq: the id is taken first
  seq           bigint       not null generated always as identity,
  source        text         not null,
  specversion   text         not null default '1.0',
  content_type  text         not null default 'application/json',
  traceparent   text,
  headers       jsonb        not null default '{}',
  created_at    timestamptz  not null default now(),
  primary key (created_at, id)
) partition by range (created_at);

create index on contrapas_outbox (seq);

create index on contrapas_outbox (xid, seq);

-- Takes the rows of a day that nobody made in time; `contrapas store prune` makes days ahead.
create table contrapas_outbox_default partition of contrapas_outbox default;

do $$
declare
  today date := (now() at time zone 'UTC')::date;
begin
  for n in 0..7 loop
    execute 'create table contrapas_outbox_' || to_char(today + n, 'YYYYMMDD')
      || ' partition of contrapas_outbox for values from (' || quote_literal((today + n)::text || ' 00:00+00')
      || ') to (' || quote_literal((today + n + 1)::text || ' 00:00+00') || ')';
  end loop;
end
$$;

-- The inbox: what was delivered, and what was answered.
create table contrapas_inbox (
  ns          text        not null,
  consumer    text        not null,
  source      text        not null,
  id          text        not null,
  digest      bytea       not null,                                 -- sha-256 of type, content type and value
  outcome     text        not null check (outcome in ('done', 'undone')),
  reply       bytea,
  reply_type  text,
  received_at timestamptz not null default now(),
  primary key (ns, consumer, source, id)
);

create index on contrapas_inbox (received_at);

-- The relay: how far the outbox has been acknowledged, and under which epoch.
create table contrapas_relay (
  name       text primary key,
  epoch      bigint not null default 0,
  owner      text,
  last_seq   bigint not null default 0,
  updated_at timestamptz
);

-- Which tables these are: one row. A release that knows `readable_from` or newer may work with them.
create table contrapas_store (
  one           boolean     primary key default true check (one),
  version       integer     not null,
  readable_from integer     not null,
  migrated_at   timestamptz not null default now()
);

insert into contrapas_store (version, readable_from) values (1, 1);
