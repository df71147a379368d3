-- Redshift's functions that PostgreSQL lacks.
create function pg_catalog.redshift_getdate() returns timestamp language sql stable as $$ select date_trunc('second', statement_timestamp() at time zone 'UTC') $$;
create function pg_catalog.redshift_sysdate() returns timestamp language sql stable as $$ select transaction_timestamp() at time zone 'UTC' $$;
create function pg_catalog.json_parse(varchar) returns pg_catalog.super language sql immutable strict as $$ select $1::json::super $$;
create function pg_catalog.json_serialize(pg_catalog.super) returns varchar language sql immutable strict as $$ select $1::json::text $$;
create function pg_catalog.len(varchar) returns integer language sql immutable strict as $$ select length($1) $$;
