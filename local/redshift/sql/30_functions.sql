-- Redshift's functions that PostgreSQL lacks, under their own names.
create function pg_catalog.getdate() returns timestamp language sql stable as $$ select date_trunc('second', statement_timestamp() at time zone 'UTC') $$;
create function pg_catalog.sysdate() returns timestamp language sql stable as $$ select transaction_timestamp() at time zone 'UTC' $$;

create function pg_catalog.len(varchar) returns integer language sql immutable strict parallel safe as $$ select length($1) $$;
create function pg_catalog.charindex(varchar, varchar) returns integer language sql immutable strict parallel safe as $$ select strpos($2, $1) $$;
create function pg_catalog.sha2(varchar, integer) returns varchar language sql immutable strict parallel safe as $$
    select case $2
        when 224 then encode(sha224(convert_to($1, 'UTF8')), 'hex')
        when 256 then encode(sha256(convert_to($1, 'UTF8')), 'hex')
        when 0 then encode(sha256(convert_to($1, 'UTF8')), 'hex')
        when 384 then encode(sha384(convert_to($1, 'UTF8')), 'hex')
        when 512 then encode(sha512(convert_to($1, 'UTF8')), 'hex')
    end
$$;
create function pg_catalog.round(double precision, integer) returns double precision language sql immutable strict parallel safe as $$
    select round($1::numeric, $2)::double precision
$$;
create function pg_catalog.trunc(timestamp) returns date language sql immutable strict parallel safe as $$ select $1::date $$;

-- dates
create function pg_catalog.dateadd(part text, amount bigint, moment timestamp) returns timestamp language sql immutable strict parallel safe as $$
    select case part
        when 'year' then moment + make_interval(years => amount::int)
        when 'quarter' then moment + make_interval(months => 3 * amount::int)
        when 'month' then moment + make_interval(months => amount::int)
        when 'week' then moment + make_interval(weeks => amount::int)
        when 'day' then moment + make_interval(days => amount::int)
        when 'hour' then moment + amount * interval '1 hour'
        when 'minute' then moment + amount * interval '1 minute'
        when 'second' then moment + amount * interval '1 second'
        when 'millisecond' then moment + amount * interval '1 millisecond'
        when 'microsecond' then moment + amount * interval '1 microsecond'
    end
$$;
create function pg_catalog.dateadd(part text, amount bigint, moment timestamptz) returns timestamptz language sql immutable strict parallel safe as $$
    select dateadd(part, amount, moment at time zone 'UTC') at time zone 'UTC'
$$;
create function pg_catalog.dateadd(part text, amount bigint, moment text) returns timestamp language sql immutable strict parallel safe as $$
    select dateadd(part, amount, moment::timestamp)
$$;
create function pg_catalog.datediff(part text, a timestamp, b timestamp) returns bigint language sql immutable strict parallel safe as $$
    select case part
        when 'year' then (date_part('year', b) - date_part('year', a))::bigint
        when 'quarter' then ((date_part('year', b) - date_part('year', a)) * 4 + date_part('quarter', b) - date_part('quarter', a))::bigint
        when 'month' then ((date_part('year', b) - date_part('year', a)) * 12 + date_part('month', b) - date_part('month', a))::bigint
        when 'day' then (b::date - a::date)::bigint
        when 'hour' then (extract(epoch from date_trunc('hour', b) - date_trunc('hour', a)) / 3600)::bigint
        when 'minute' then (extract(epoch from date_trunc('minute', b) - date_trunc('minute', a)) / 60)::bigint
        when 'second' then extract(epoch from date_trunc('second', b) - date_trunc('second', a))::bigint
        when 'millisecond' then (extract(epoch from date_trunc('milliseconds', b) - date_trunc('milliseconds', a)) * 1000)::bigint
        when 'microsecond' then (extract(epoch from b - a) * 1000000)::bigint
    end
$$;
create function pg_catalog.datediff(part text, a timestamptz, b timestamptz) returns bigint language sql immutable strict parallel safe as $$
    select datediff(part, a at time zone 'UTC', b at time zone 'UTC')
$$;
create function pg_catalog.datediff(part text, a text, b text) returns bigint language sql immutable strict parallel safe as $$
    select datediff(part, a::timestamp, b::timestamp)
$$;
create function pg_catalog.convert_timezone(zone text, moment timestamp) returns timestamp language sql stable strict parallel safe as $$
    select moment at time zone 'UTC' at time zone zone
$$;
create function pg_catalog.convert_timezone(source text, target text, moment timestamp) returns timestamp language sql stable strict parallel safe as $$
    select moment at time zone source at time zone target
$$;
create function pg_catalog.add_months(moment timestamp, months bigint) returns timestamp language sql immutable strict parallel safe as $$
    select case
        when (moment + interval '1 day')::date = (date_trunc('month', moment) + interval '1 month')::date
            then date_trunc('month', moment) + make_interval(months => months::int + 1) - interval '1 day' + (moment - date_trunc('day', moment))
        else moment + make_interval(months => months::int)
    end
$$;
create function pg_catalog.last_day(timestamp) returns date language sql immutable strict parallel safe as $$
    select (date_trunc('month', $1) + interval '1 month' - interval '1 day')::date
$$;

-- the session
create function pg_catalog.pg_last_copy_count() returns bigint language sql stable as $$
    select coalesce(nullif(current_setting('redshift.copy_count', true), ''), '0')::bigint
$$;
create function pg_catalog.pg_last_copy_id() returns integer language sql stable as $$ select -1 $$;
create function pg_catalog.pg_last_query_id() returns integer language sql stable as $$ select -1 $$;

-- What PostgreSQL has too, with another meaning: the rewriting puts the schema before the name.
create schema pg_redshift;
grant usage on schema pg_redshift to public;
create function pg_redshift.version() returns text language sql stable as $$
    select 'PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 (Red Hat 3.4.2-6.fc3), Redshift 1.0.0 (local stand-in)'
$$;
create function pg_redshift.concat(text, text) returns text language sql immutable strict parallel safe as $$ select $1 || $2 $$;
create function pg_redshift.regexp_replace(text, text) returns text language sql immutable strict parallel safe as $$
    select pg_catalog.regexp_replace($1, $2, '', 'g')
$$;
create function pg_redshift.regexp_replace(text, text, text) returns text language sql immutable strict parallel safe as $$
    select pg_catalog.regexp_replace($1, $2, pg_catalog.regexp_replace($3, '\$(\d)', '\\\1', 'g'), 'g')
$$;

create function pg_redshift.date_part(text, timestamp) returns bigint language sql immutable strict parallel safe as $$
    select floor(pg_catalog.date_part($1, $2))::bigint
$$;
create function pg_redshift.date_part(text, timestamptz) returns bigint language sql stable strict parallel safe as $$
    select floor(pg_catalog.date_part($1, $2))::bigint
$$;
create function pg_redshift.date_part(text, time) returns bigint language sql immutable strict parallel safe as $$
    select floor(pg_catalog.date_part($1, $2))::bigint
$$;
create function pg_redshift.date_part(text, interval) returns bigint language sql immutable strict parallel safe as $$
    select floor(pg_catalog.date_part($1, $2))::bigint
$$;
create aggregate pg_redshift.listagg(text, text) (sfunc = string_agg_transfn, stype = internal, finalfunc = string_agg_finalfn);

-- AVG and SUM of integers are integers
create function pg_redshift.integer_average(bigint[]) returns bigint language sql immutable as $$
    select case when $1[1] = 0 then null else $1[2] / $1[1] end
$$;
create aggregate pg_redshift.avg(smallint) (sfunc = int2_avg_accum, stype = bigint[], finalfunc = pg_redshift.integer_average, initcond = '{0,0}');
create aggregate pg_redshift.avg(integer) (sfunc = int4_avg_accum, stype = bigint[], finalfunc = pg_redshift.integer_average, initcond = '{0,0}');
create function pg_redshift.bigint_step(numeric[], bigint) returns numeric[] language sql immutable as $$
    select case when $2 is null then $1 else array[$1[1] + 1, $1[2] + $2] end
$$;
create function pg_redshift.bigint_average(numeric[]) returns bigint language sql immutable as $$
    select case when $1[1] = 0 then null else trunc($1[2] / $1[1])::bigint end
$$;
create aggregate pg_redshift.avg(bigint) (sfunc = pg_redshift.bigint_step, stype = numeric[], finalfunc = pg_redshift.bigint_average, initcond = '{0,0}');
create aggregate pg_redshift.avg(numeric) (sfunc = numeric_avg_accum, stype = internal, finalfunc = numeric_avg);
create aggregate pg_redshift.avg(double precision) (sfunc = float8_accum, stype = double precision[], finalfunc = float8_avg, initcond = '{0,0,0}');
create aggregate pg_redshift.sum(smallint) (sfunc = int2_sum, stype = bigint);
create aggregate pg_redshift.sum(integer) (sfunc = int4_sum, stype = bigint);
create aggregate pg_redshift.sum(bigint) (sfunc = int8pl, stype = bigint);
create aggregate pg_redshift.sum(numeric) (sfunc = numeric_add, stype = numeric);
create aggregate pg_redshift.sum(double precision) (sfunc = float8pl, stype = double precision);
create aggregate pg_redshift.sum(interval) (sfunc = interval_pl, stype = interval);
create function pg_catalog.dateadd(part text, amount bigint, moment date) returns timestamp language sql immutable strict parallel safe as $$
    select dateadd(part, amount, moment::timestamp)
$$;
