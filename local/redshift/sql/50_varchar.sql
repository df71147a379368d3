-- VARCHAR(n) and CHAR(n) count bytes: PostgreSQL's count characters, so each such column gets a check.
-- One ALTER TABLE for all of a table's columns: it fires this trigger again, which then finds nothing left to do.
create function pg_redshift.check_name(column_number smallint, kind oid, bytes integer) returns text language sql immutable as $$
    select 'redshift_bytes_' || column_number || '_' || bytes || case kind when 1042 then '_char' else '' end
$$;
create function pg_catalog.redshift_after_ddl() returns event_trigger language plpgsql security definer set search_path = pg_catalog as $$
declare
    found record;
begin
    for found in
        select format('%I.%I', n.nspname, c.relname) as relation, string_agg(w.change, ', ') as changes
        from (select distinct objid from pg_event_trigger_ddl_commands() where classid = 'pg_class'::regclass) as d
        inner join pg_class as c on c.oid = d.objid and c.relkind = 'r'
        inner join pg_namespace as n on n.oid = c.relnamespace
        cross join lateral (
            select format('drop constraint %I', k.conname) as change
            from pg_constraint as k
            inner join pg_attribute as a on a.attrelid = c.oid and a.attnum = split_part(k.conname, '_', 3)::smallint
            where k.conrelid = c.oid and k.contype = 'c' and k.conname like 'redshift\_bytes\_%'
                and k.conname <> pg_redshift.check_name(a.attnum, a.atttypid, a.atttypmod - 4)
            union all
            select format('add constraint %I check (octet_length(%I) <= %s) not valid',
                pg_redshift.check_name(a.attnum, a.atttypid, a.atttypmod - 4), a.attname, a.atttypmod - 4)
            from pg_attribute as a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.atttypid in (1042, 1043) and a.atttypmod > 4
                and not exists (
                    select 1 from pg_constraint as k
                    where k.conrelid = c.oid and k.contype = 'c' and k.conname = pg_redshift.check_name(a.attnum, a.atttypid, a.atttypmod - 4)
                )
        ) as w
        group by 1
    loop
        execute 'alter table ' || found.relation || ' ' || found.changes;
    end loop;
end
$$;
create event trigger redshift_after_ddl on ddl_command_end when tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE')
    execute function pg_catalog.redshift_after_ddl();
