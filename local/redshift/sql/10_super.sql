-- SUPER: PostgreSQL's json under Redshift's name and number, so that drivers know it (oid 4000).
-- The text stays as it came; what clients see is that text.
create type pg_catalog.super;
update pg_catalog.pg_depend set objid = 4000
where classid = 'pg_catalog.pg_type'::pg_catalog.regclass and objid = (select oid from pg_catalog.pg_type where typname = 'super');
update pg_catalog.pg_type set oid = 4000 where typname = 'super';
create function pg_catalog.super_in(cstring) returns pg_catalog.super language internal immutable strict parallel safe as 'json_in';
create function pg_catalog.super_out(pg_catalog.super) returns cstring language internal immutable strict parallel safe as 'json_out';
create function pg_catalog.super_recv(internal) returns pg_catalog.super language internal immutable strict parallel safe as 'json_recv';
create function pg_catalog.super_send(pg_catalog.super) returns bytea language internal immutable strict parallel safe as 'json_send';
create type pg_catalog.super (
    input = pg_catalog.super_in, output = pg_catalog.super_out, receive = pg_catalog.super_recv, send = pg_catalog.super_send,
    internallength = variable, storage = extended, alignment = int4, category = 'U'
);
create cast (pg_catalog.super as json) without function;
create cast (json as pg_catalog.super) without function;

-- Redshift has these names for VARCHAR and SUPER; PostgreSQL's own step aside.
update pg_catalog.pg_proc set proname = 'pg_json_typeof' where oid = 'pg_catalog.json_typeof(json)'::regprocedure;
update pg_catalog.pg_proc set proname = 'pg_json_array_length' where oid = 'pg_catalog.json_array_length(json)'::regprocedure;
update pg_catalog.pg_proc set proname = 'pg_json_extract_path_text' where oid = 'pg_catalog.json_extract_path_text(json, text[])'::regprocedure;

-- JSON in and out
create function pg_catalog.json_parse(varchar) returns pg_catalog.super language sql immutable strict parallel safe as $$ select $1::json::super $$;
create function pg_catalog.json_serialize(pg_catalog.super) returns varchar language sql immutable strict parallel safe as $$ select $1::json::text::varchar $$;
create function pg_catalog.can_json_parse(varchar) returns boolean language sql immutable strict parallel safe as $$ select pg_input_is_valid($1, 'json') $$;
create function pg_catalog.is_valid_json(varchar) returns boolean language sql immutable strict parallel safe as $$
    select pg_input_is_valid($1, 'json') and left(ltrim($1, E' \t\r\n'), 1) = '{'
$$;
create function pg_catalog.is_valid_json_array(varchar) returns boolean language sql immutable strict parallel safe as $$
    select pg_input_is_valid($1, 'json') and left(ltrim($1, E' \t\r\n'), 1) = '['
$$;
create function pg_catalog.json_array_length(varchar) returns integer language sql immutable strict parallel safe as $$ select pg_json_array_length($1::json) $$;
create function pg_catalog.json_extract_path_text(varchar, variadic varchar[]) returns varchar language sql immutable strict parallel safe as $$
    select ($1::json #>> $2::text[])::varchar
$$;
create function pg_catalog.json_extract_array_element_text(varchar, integer) returns varchar language sql immutable strict parallel safe as $$
    select ($1::json ->> $2)::varchar
$$;

-- navigation: what is not there is NULL
create function pg_catalog.pg_redshift_step(pg_catalog.super, text) returns pg_catalog.super language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) = 'object' then ($1::json -> $2)::super end
$$;
create function pg_catalog.pg_redshift_step(pg_catalog.super, bigint) returns pg_catalog.super language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) = 'array' and $2 >= 0 then ($1::json -> $2::integer)::super end
$$;

-- types
create function pg_catalog.json_typeof(pg_catalog.super) returns varchar language sql immutable strict parallel safe as $$ select pg_json_typeof($1::json)::varchar $$;
create function pg_catalog.is_object(pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$ select pg_json_typeof($1::json) = 'object' $$;
create function pg_catalog.is_array(pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$ select pg_json_typeof($1::json) = 'array' $$;
create function pg_catalog.is_scalar(pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$
    select pg_json_typeof($1::json) not in ('object', 'array')
$$;
create function pg_catalog.is_varchar(pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$ select pg_json_typeof($1::json) = 'string' $$;
create function pg_catalog.is_boolean(pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$ select pg_json_typeof($1::json) = 'boolean' $$;
create function pg_catalog.is_integer(pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$
    select pg_json_typeof($1::json) = 'number' and pg_input_is_valid($1::json #>> '{}', 'integer')
$$;
create function pg_catalog.is_bigint(pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$
    select pg_json_typeof($1::json) = 'number' and pg_input_is_valid($1::json #>> '{}', 'bigint')
$$;
create function pg_catalog.get_array_length(pg_catalog.super) returns bigint language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) = 'array' then pg_json_array_length($1::json) end
$$;

-- casts: of a scalar, its value; NULL where it does not fit (cast_super_null_on_error is on by default)
create function pg_catalog.super_text(pg_catalog.super) returns text language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) not in ('object', 'array') then $1::json #>> '{}' end
$$;
create function pg_catalog.super_varchar(pg_catalog.super, integer, boolean) returns varchar language sql immutable strict parallel safe as $$
    select varchar(case when pg_json_typeof($1::json) not in ('object', 'array') then ($1::json #>> '{}')::varchar end, $2, true)
$$;
create function pg_catalog.super_boolean(pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) = 'boolean' then ($1::json #>> '{}')::boolean end
$$;
create function pg_catalog.super_numeric(pg_catalog.super) returns numeric language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) in ('number', 'string') and pg_input_is_valid($1::json #>> '{}', 'numeric') then ($1::json #>> '{}')::numeric end
$$;
create function pg_catalog.super_float(pg_catalog.super) returns double precision language sql immutable strict parallel safe as $$
    select super_numeric($1)::double precision
$$;
create function pg_catalog.super_bigint(pg_catalog.super) returns bigint language sql immutable strict parallel safe as $$
    select case when pg_input_is_valid(super_numeric($1)::text, 'numeric') and abs(super_numeric($1)) < 9223372036854775807 then round(super_numeric($1))::bigint end
$$;
create function pg_catalog.super_integer(pg_catalog.super) returns integer language sql immutable strict parallel safe as $$
    select case when abs(super_numeric($1)) < 2147483647 then round(super_numeric($1))::integer end
$$;
create function pg_catalog.super_timestamp(pg_catalog.super) returns timestamp language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) = 'string' and pg_input_is_valid($1::json #>> '{}', 'timestamp') then ($1::json #>> '{}')::timestamp end
$$;
create function pg_catalog.super_date(pg_catalog.super) returns date language sql immutable strict parallel safe as $$ select super_timestamp($1)::date $$;
create cast (pg_catalog.super as text) with function pg_catalog.super_text(pg_catalog.super);
create cast (pg_catalog.super as varchar) with function pg_catalog.super_varchar(pg_catalog.super, integer, boolean) as assignment;
create cast (pg_catalog.super as boolean) with function pg_catalog.super_boolean(pg_catalog.super) as assignment;
create cast (pg_catalog.super as numeric) with function pg_catalog.super_numeric(pg_catalog.super) as assignment;
create cast (pg_catalog.super as double precision) with function pg_catalog.super_float(pg_catalog.super) as assignment;
create cast (pg_catalog.super as bigint) with function pg_catalog.super_bigint(pg_catalog.super) as assignment;
create cast (pg_catalog.super as integer) with function pg_catalog.super_integer(pg_catalog.super) as assignment;
create cast (pg_catalog.super as timestamp) with function pg_catalog.super_timestamp(pg_catalog.super) as assignment;
create cast (pg_catalog.super as date) with function pg_catalog.super_date(pg_catalog.super) as assignment;
create function pg_catalog.to_super(text) returns pg_catalog.super language sql immutable strict parallel safe as $$ select to_json($1)::super $$;
create function pg_catalog.to_super(varchar) returns pg_catalog.super language sql immutable strict parallel safe as $$ select to_json($1::text)::super $$;
create function pg_catalog.to_super(bigint) returns pg_catalog.super language sql immutable strict parallel safe as $$ select to_json($1)::super $$;
create function pg_catalog.to_super(integer) returns pg_catalog.super language sql immutable strict parallel safe as $$ select to_json($1)::super $$;
create function pg_catalog.to_super(numeric) returns pg_catalog.super language sql immutable strict parallel safe as $$ select to_json($1)::super $$;
create function pg_catalog.to_super(double precision) returns pg_catalog.super language sql immutable strict parallel safe as $$ select to_json($1)::super $$;
create function pg_catalog.to_super(boolean) returns pg_catalog.super language sql immutable strict parallel safe as $$ select to_json($1)::super $$;
create cast (text as pg_catalog.super) with function pg_catalog.to_super(text) as assignment;
create cast (varchar as pg_catalog.super) with function pg_catalog.to_super(varchar) as assignment;
create cast (bigint as pg_catalog.super) with function pg_catalog.to_super(bigint) as assignment;
create cast (integer as pg_catalog.super) with function pg_catalog.to_super(integer) as assignment;
create cast (numeric as pg_catalog.super) with function pg_catalog.to_super(numeric) as assignment;
create cast (double precision as pg_catalog.super) with function pg_catalog.to_super(double precision) as assignment;
create cast (boolean as pg_catalog.super) with function pg_catalog.to_super(boolean) as assignment;

-- comparisons with what is not SUPER
create function pg_catalog.super_eq(pg_catalog.super, text) returns boolean language sql immutable strict parallel safe as $$
    select pg_json_typeof($1::json) = 'string' and $1::json #>> '{}' = $2
$$;
create function pg_catalog.super_ne(pg_catalog.super, text) returns boolean language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) <> 'null' then not super_eq($1, $2) end
$$;
create function pg_catalog.super_eq(pg_catalog.super, numeric) returns boolean language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) = 'number' then ($1::json #>> '{}')::numeric = $2 when pg_json_typeof($1::json) <> 'null' then false end
$$;
create function pg_catalog.super_lt(pg_catalog.super, numeric) returns boolean language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) = 'number' then ($1::json #>> '{}')::numeric < $2 end
$$;
create function pg_catalog.super_gt(pg_catalog.super, numeric) returns boolean language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) = 'number' then ($1::json #>> '{}')::numeric > $2 end
$$;
create function pg_catalog.super_le(pg_catalog.super, numeric) returns boolean language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) = 'number' then ($1::json #>> '{}')::numeric <= $2 end
$$;
create function pg_catalog.super_ge(pg_catalog.super, numeric) returns boolean language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) = 'number' then ($1::json #>> '{}')::numeric >= $2 end
$$;
create function pg_catalog.super_eq(pg_catalog.super, boolean) returns boolean language sql immutable strict parallel safe as $$
    select case when pg_json_typeof($1::json) = 'boolean' then ($1::json #>> '{}')::boolean = $2 when pg_json_typeof($1::json) <> 'null' then false end
$$;
create operator pg_catalog.= (leftarg = pg_catalog.super, rightarg = text, function = pg_catalog.super_eq);
create operator pg_catalog.<> (leftarg = pg_catalog.super, rightarg = text, function = pg_catalog.super_ne);
create operator pg_catalog.= (leftarg = pg_catalog.super, rightarg = numeric, function = pg_catalog.super_eq);
create operator pg_catalog.= (leftarg = pg_catalog.super, rightarg = boolean, function = pg_catalog.super_eq);
create operator pg_catalog.< (leftarg = pg_catalog.super, rightarg = numeric, function = pg_catalog.super_lt);
create operator pg_catalog.> (leftarg = pg_catalog.super, rightarg = numeric, function = pg_catalog.super_gt);
create operator pg_catalog.<= (leftarg = pg_catalog.super, rightarg = numeric, function = pg_catalog.super_le);
create operator pg_catalog.>= (leftarg = pg_catalog.super, rightarg = numeric, function = pg_catalog.super_ge);

-- GROUP BY, DISTINCT and ORDER BY: by the text of the value
create function pg_catalog.super_cmp(pg_catalog.super, pg_catalog.super) returns integer language sql immutable strict parallel safe as $$
    select case when $1::json::text < $2::json::text then -1 when $1::json::text > $2::json::text then 1 else 0 end
$$;
create function pg_catalog.super_same(pg_catalog.super, pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$ select $1::json::text = $2::json::text $$;
create function pg_catalog.super_before(pg_catalog.super, pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$ select $1::json::text < $2::json::text $$;
create function pg_catalog.super_before_or_same(pg_catalog.super, pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$ select $1::json::text <= $2::json::text $$;
create function pg_catalog.super_after(pg_catalog.super, pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$ select $1::json::text > $2::json::text $$;
create function pg_catalog.super_after_or_same(pg_catalog.super, pg_catalog.super) returns boolean language sql immutable strict parallel safe as $$ select $1::json::text >= $2::json::text $$;
create operator pg_catalog.<<# (leftarg = pg_catalog.super, rightarg = pg_catalog.super, function = pg_catalog.super_before);
create operator pg_catalog.<=# (leftarg = pg_catalog.super, rightarg = pg_catalog.super, function = pg_catalog.super_before_or_same);
create operator pg_catalog.=# (leftarg = pg_catalog.super, rightarg = pg_catalog.super, function = pg_catalog.super_same);
create operator pg_catalog.>=# (leftarg = pg_catalog.super, rightarg = pg_catalog.super, function = pg_catalog.super_after_or_same);
create operator pg_catalog.>># (leftarg = pg_catalog.super, rightarg = pg_catalog.super, function = pg_catalog.super_after);
create operator class pg_catalog.super_ops default for type pg_catalog.super using btree as
    operator 1 <<#, operator 2 <=#, operator 3 =#, operator 4 >=#, operator 5 >>#, function 1 pg_catalog.super_cmp(pg_catalog.super, pg_catalog.super);
