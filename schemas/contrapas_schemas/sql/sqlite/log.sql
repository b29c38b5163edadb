-- One namespace's lanes and topics in one SQLite file; schema version 1 (pragma user_version).
-- An offset of the lanes is the low 48 bits of i; the partition stands above it.
create table meta(name text primary key, value text not null) without rowid;
create table part(p integer primary key, epoch int not null, owner text not null, log_head int not null,
                  in_head int not null, in_start int not null, horizon int not null, relayed int not null,
                  ts int not null, control blob not null);
create table lane_log(i integer primary key, key blob not null, value blob, headers blob not null, ts int not null);
create table lane_in(i integer primary key, key blob not null, value blob, headers blob not null, ts int not null);
create table latest(p int not null, key blob not null, i int not null, deadline int, primary key(p, key)) without rowid;
create index latest_deadline on latest(p, deadline) where deadline is not null;
create table topic(t integer primary key autoincrement, name text not null unique, partitions int not null);
create table topic_part(t int not null, p int not null, head int not null, start int not null, ts int not null,
                        primary key(t, p)) without rowid;
create table lane_topic(t int not null, p int not null, o int not null, key blob not null, value blob,
                        headers blob not null, ts int not null, primary key(t, p, o)) without rowid;
create table position(grp text not null, t int not null, p int not null, o int not null,
                      primary key(grp, t, p)) without rowid;
