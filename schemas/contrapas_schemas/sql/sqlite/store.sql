-- Outbox, inbox and relay in a service's own SQLite file; version 1 (table contrapas_store).
-- One writer at a time: numbers are handed out in the order of commits, and are never used again.
create table if not exists contrapas_store(version integer not null);
create table if not exists contrapas_outbox(
  seq integer primary key autoincrement, id text not null, aggregatetype text not null, aggregateid text not null,
  type text not null, payload blob not null, source text not null, specversion text not null default '1.0',
  content_type text not null default 'application/json', traceparent text, headers text not null default '{}',
  created_at integer not null);
create table if not exists contrapas_inbox(
  ns text not null, consumer text not null, source text not null, id text not null, digest blob not null,
  outcome text not null check (outcome in ('done', 'undone')), reply blob, reply_type text,
  received_at integer not null, primary key (ns, consumer, source, id)) without rowid;
create index if not exists contrapas_inbox_received_at on contrapas_inbox(received_at);
create table if not exists contrapas_relay(
  name text primary key, epoch integer not null default 0, owner text not null default '',
  last_seq integer not null default 0, updated_at integer not null) without rowid;
