-- The services' own tables, in each of the three databases. No unique constraint guards an entry: the inbox does.
create table account (name text primary key, cents bigint not null check (cents >= 0), open boolean not null default true);
create table entry (transfer text not null, what text not null, account text not null, cents bigint not null);
create index on entry (transfer);
create table booking (transfer text not null, cents bigint not null);
