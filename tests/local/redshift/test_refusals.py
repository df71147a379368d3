"""What PostgreSQL can do and Redshift cannot, and what Redshift can do and we cannot yet."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "sql",
    [
        "insert into t values (1) on conflict do nothing",
        "insert into t values (1) returning a",
        "create index i on t (a)",
        "create unique index i on t (a)",
        "create extension hstore",
        "create trigger x before insert on t for each row execute function f()",
        "create sequence s",
        "create type mood as enum ('a')",
        "create table x (a jsonb)",
        "create table x (a json)",
        "create table x (a uuid)",
        "create table x (a int[])",
        "create table x (a serial)",
        "create table x (a bytea)",
        "create table x (a int check (a > 0))",
        "create table x (a int) partition by range (a)",
        "create table x (a varchar(65536))",
        "create table x (a decimal(39, 0))",
        "create unlogged table x (a int)",
        "select a::jsonb from t",
        "select distinct on (a) a from t",
        "select count(*) filter (where a > 1) from t",
        "select * from t, lateral (select 1) as x",
        "select a from t for update",
        "select array[1, 2]",
        "select array_agg(a) from t",
        "select string_agg(a, ',') from t",
        "select gen_random_uuid()",
        "select a from t where a = any('{1,2}')",
        "select * from (values (1), (2)) as x (a)",
        "values (1)",
        "select a from t fetch first 1 rows only",
        "select sum(a) over (order by a) from t",
        "select first_value(a) over (partition by a order by a) from t",
        "select sum(a) over (order by a range unbounded preceding) from t",
        "select sum(a) over w from t window w as (partition by a)",
        "with x as (insert into t values (1)) select 1",
        "insert into t select generate_series(1, 3)",
        "delete from t as x where x.a = 1",
        "truncate t, u",
        "lock t in share mode",
        "savepoint one",
        "explain analyze select 1",
        "listen x",
        "do $$ begin end $$",
        "drop index i",
        "alter table t add column b int, add column c int",
        "alter table t alter column a type bigint",
        "alter table t add column b int not null",
        "set work_mem to '1GB'",
        "selekt 1",
    ],
)
def test_redshift_refuses_it(run, refusal, sql):
    """With an error of the classes that Redshift gives: syntax, unknown name, not supported."""
    run("create table t (a int)")
    code, message = refusal(sql)
    assert code in ("42601", "42704", "42883", "0A000", "22023"), message
    assert "local Redshift" not in message


@pytest.mark.parametrize(
    "sql",
    [
        "unload ('select 1') to 's3://bucket/x' iam_role default",
        "call procedure()",
        "create materialized view v as select 1",
        "create function f() returns int stable as $$ select 1 $$ language sql",
        "create external table s.t (a int)",
        "create user somebody password 'Abcd1234'",
        "create table x (a geometry)",
        "create table x (a varbyte)",
        "select a from t qualify row_number() over (order by a) = 1",
        "select lag(a) ignore nulls over (order by a) from t",
        "alter table t append from u",
        "set enable_case_sensitive_identifier to true",
        "select datediff(week, a, a) from u",
        "show tables",
    ],
)
def test_what_we_cannot_do_says_so(server, run, refusal, sql):
    """0A000, and never a wrong answer."""
    run("create table t (a int)")
    run("create table u (a timestamp)")
    code, message = refusal(sql)
    assert code == "0A000"
    assert message.endswith("is not supported by the local Redshift")


@pytest.mark.parametrize(
    "sql",
    [
        "select 'on conflict do nothing; create index'",
        "select 'it''s \\' returning'",
        "select 1 -- returning\n",
        "select 1 /* for update /* nested */ */",
        'select 1 as "returning"',
        "select sum(a) over (partition by a) from t",
        "select sum(a) over (order by a rows unbounded preceding) from t",
        "select row_number() over (order by a) from t",
        "select a from t where a = any (select a from t)",
        "select a from t where 'x' ilike 'X%' limit 1 offset 0",
        "insert into t values (1), (default)",
        "insert into t default values",
        "insert into t (select 1)",
        "update t set a = 2 from u where t.a = u.b",
        "delete from t using u where t.a = u.b",
        "delete t",
        "select top 1 a from t order by a",
        "create table x (like t)",
        "create table x (a int) backup no diststyle even",
        "create temporary table x distkey (a) sortkey (a) as select a from t",
        "select a into temp x from t",
        "with recursive n (i) as (select 1 union all select i + 1 from n where i < 3) select * from n",
        "merge into t using u on t.a = u.b when matched then update set a = u.b when not matched then insert values (u.b)",
        "grant select on t to public",
        "comment on table t is 'x'",
        "analyze t",
        "vacuum full t to 99 percent",
        "explain select 1",
        "set query_group to 'x'",
        "set statement_timeout to 1000",
        "show server_version",
    ],
)
def test_redshift_takes_it(run, sql):
    """And so do we."""
    run("create table t (a int)")
    run("create table u (b int)")
    run(sql)
