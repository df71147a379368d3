-- System tables: what the stand-in writes down itself, and views over PostgreSQL's catalog.
create table pg_catalog.stl_load_errors (
    userid integer, slice integer, tbl integer, starttime timestamp, session integer, query integer, filename character(256), line_number bigint,
    colname character(127), type character(10), col_length character(10), position integer, raw_line character(1024), raw_field_value character(1024),
    err_code integer, err_reason character(100), is_partial integer, start_offset bigint
);
grant select on pg_catalog.stl_load_errors to public;
create view pg_catalog.sys_load_error_detail as
select userid as user_id, query as query_id, 0::bigint as transaction_id, session as session_id, 'polku'::text as database_name, tbl as table_id,
    starttime as start_time, filename as file_name, line_number, trim(colname) as column_name, trim(type) as column_type, trim(col_length) as column_length,
    position, err_code as error_code, trim(err_reason) as error_message, trim(raw_line) as raw_line, trim(raw_field_value) as raw_field_value
from pg_catalog.stl_load_errors;
grant select on pg_catalog.sys_load_error_detail to public;

-- How Redshift would store a table: written down when it is made.
create table pg_redshift.storage (relation oid not null, diststyle text not null, distkey text not null, sortkey text not null, encodings text not null);
grant select on pg_redshift.storage to public;
create function pg_redshift.note_storage(relation text, diststyle text, distkey text, sortkey text, encodings text) returns void
language sql security definer as $$
    insert into pg_redshift.storage
    select to_regclass(relation)::oid, diststyle, distkey, sortkey, encodings
    where to_regclass(relation) is not null
        and not exists (select 1 from pg_redshift.storage as s where s.relation = to_regclass(note_storage.relation)::oid)
$$;

create view pg_catalog.pg_table_def as
select
    n.nspname as schemaname, c.relname as tablename, a.attname as "column", format_type(a.atttypid, a.atttypmod) as type,
    coalesce(
        (select split_part(e, '=', 2) from unnest(string_to_array(s.encodings, ',')) as e where split_part(e, '=', 1) = a.attname), 'none'
    )::varchar(32) as encoding,
    coalesce(s.distkey, '') = a.attname as distkey,
    coalesce(array_position(string_to_array(s.sortkey, ','), a.attname::text), 0) as sortkey,
    a.attnotnull as "notnull"
from pg_class as c
inner join pg_namespace as n on n.oid = c.relnamespace
inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_redshift.storage as s on s.relation = c.oid
where c.relkind = 'r' and n.nspname = any (current_schemas(true)) and n.nspname <> 'pg_redshift';
grant select on pg_catalog.pg_table_def to public;

create view pg_catalog.svv_tables as
select
    table_catalog::varchar(128), table_schema::varchar(128), table_name::varchar(128),
    case table_type when 'LOCAL TEMPORARY' then 'LOCAL TEMPORARY' else table_type end::varchar(128) as table_type, null::varchar as remarks
from information_schema.tables
where table_schema <> 'pg_redshift';
grant select on pg_catalog.svv_tables to public;
create view pg_catalog.svv_all_tables as
select table_catalog as database_name, table_schema as schema_name, table_name,
    case table_type when 'BASE TABLE' then 'TABLE' else table_type end as table_type, null::varchar as table_acl, remarks
from pg_catalog.svv_tables;
grant select on pg_catalog.svv_all_tables to public;
create view pg_catalog.svv_redshift_tables as select * from pg_catalog.svv_all_tables;
grant select on pg_catalog.svv_redshift_tables to public;

create view pg_catalog.svv_columns as
select
    current_database()::varchar(128) as table_catalog, n.nspname::varchar(128) as table_schema, c.relname::varchar(128) as table_name,
    a.attname::varchar(128) as column_name, a.attnum::integer as ordinal_position, pg_get_expr(d.adbin, d.adrelid)::varchar(4000) as column_default,
    case when a.attnotnull then 'NO' else 'YES' end::varchar(3) as is_nullable, format_type(a.atttypid, null)::varchar(128) as data_type,
    information_schema._pg_char_max_length(a.atttypid, a.atttypmod)::integer as character_maximum_length,
    information_schema._pg_numeric_precision(a.atttypid, a.atttypmod)::integer as numeric_precision,
    information_schema._pg_numeric_scale(a.atttypid, a.atttypmod)::integer as numeric_scale, null::varchar as remarks
from pg_class as c
inner join pg_namespace as n on n.oid = c.relnamespace
inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relkind in ('r', 'v') and n.nspname not in ('pg_redshift', 'pg_toast');
grant select on pg_catalog.svv_columns to public;
create view pg_catalog.svv_all_columns as
select table_catalog as database_name, table_schema as schema_name, table_name, column_name, ordinal_position, column_default, is_nullable, data_type,
    character_maximum_length, numeric_precision, numeric_scale, remarks
from pg_catalog.svv_columns;
grant select on pg_catalog.svv_all_columns to public;
create view pg_catalog.svv_redshift_columns as select * from pg_catalog.svv_all_columns;
grant select on pg_catalog.svv_redshift_columns to public;

create view pg_catalog.svv_all_schemas as
select current_database()::varchar(128) as database_name, n.nspname::varchar(128) as schema_name, n.nspowner::integer as schema_owner,
    'local'::varchar(128) as schema_type, null::varchar as schema_acl, null::varchar as source_database, null::varchar as schema_option
from pg_namespace as n
where n.nspname not in ('pg_redshift', 'pg_toast') and n.nspname not like 'pg_temp%' and n.nspname not like 'pg_toast_temp%';
grant select on pg_catalog.svv_all_schemas to public;

create view pg_catalog.svv_table_info as
select
    current_database()::text as database, n.nspname::text as schema, c.oid as table_id, c.relname::text as "table",
    case when coalesce(s.encodings, '') = '' then 'N' else 'Y' end::text as encoded,
    case when coalesce(s.distkey, '') <> '' then 'KEY(' || s.distkey || ')' when coalesce(s.diststyle, '') in ('', 'AUTO') then 'AUTO(ALL)' else s.diststyle end::text
        as diststyle,
    nullif(split_part(coalesce(s.sortkey, ''), ',', 1), '')::text as sortkey1,
    cardinality(string_to_array(nullif(s.sortkey, ''), ','))::integer as sortkey_num,
    ceil(pg_total_relation_size(c.oid) / 1048576.0)::bigint as size,
    greatest(c.reltuples, 0)::numeric(38, 0) as tbl_rows, greatest(c.reltuples, 0)::numeric(38, 0) as estimated_visible_rows
from pg_class as c
inner join pg_namespace as n on n.oid = c.relnamespace
left join pg_redshift.storage as s on s.relation = c.oid
where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema', 'pg_redshift', 'pg_toast');
grant select on pg_catalog.svv_table_info to public;

create view pg_catalog.stv_sessions as
select backend_start::timestamp as starttime, pid as process, usename::character(50) as user_name, datname::character(50) as db_name
from pg_stat_activity where datname = current_database();
grant select on pg_catalog.stv_sessions to public;
