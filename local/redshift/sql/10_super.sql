-- SUPER: PostgreSQL's json under Redshift's name and number, so that drivers know it (oid 4000).
create type pg_catalog.super;
update pg_catalog.pg_type set oid = 4000 where typname = 'super';
update pg_catalog.pg_depend set objid = 4000 where classid = 'pg_type'::regclass and objid not in (select oid from pg_catalog.pg_type)
    and objid > 16383;
create function pg_catalog.super_in(cstring) returns pg_catalog.super language internal immutable strict parallel safe as 'json_in';
create function pg_catalog.super_out(pg_catalog.super) returns cstring language internal immutable strict parallel safe as 'json_out';
create function pg_catalog.super_recv(internal) returns pg_catalog.super language internal immutable strict parallel safe as 'json_recv';
create function pg_catalog.super_send(pg_catalog.super) returns bytea language internal immutable strict parallel safe as 'json_send';
create type pg_catalog.super (
    input = pg_catalog.super_in, output = pg_catalog.super_out, receive = pg_catalog.super_recv, send = pg_catalog.super_send,
    internallength = variable, storage = extended, alignment = int4, category = 'U'
);
create cast (pg_catalog.super as json) without function as implicit;
create cast (json as pg_catalog.super) without function as assignment;
