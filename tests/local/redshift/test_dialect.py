"""Types, functions and names as Redshift has them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import pytest


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("datediff(day, '2026-01-31', '2026-02-01')", 1),
        ("datediff(second, '2026-01-01 00:00:00.9'::timestamp, '2026-01-01 00:00:01'::timestamp)", 1),
        ("datediff(year, '2025-12-31'::date, '2026-01-01'::date)", 1),
        ("dateadd(month, 1, '2026-01-31'::timestamp)", datetime(2026, 2, 28)),
        ("dateadd('hour', -1, '2026-01-01'::date)", datetime(2025, 12, 31, 23)),
        ("date_trunc('month', '2026-02-03 04:05:06'::timestamp)", datetime(2026, 2, 1)),
        ("extract(year from '2026-02-03'::date)", 2026),
        ("last_day('2026-02-03')", date(2026, 2, 28)),
        ("convert_timezone('Europe/Berlin', '2026-07-01 00:00'::timestamp)", datetime(2026, 7, 1, 2)),
        ("trunc('2026-01-01 10:00'::timestamp)", date(2026, 1, 1)),
        ("nvl(null, 1)", 1),
        ("nvl2('x', 'yes', 'no')", "yes"),
        ("decode(2, 1, 'a', 2, 'b', 'c')", "b"),
        ("decode(null::int, null, 'nothing', 'some')", "nothing"),
        ("len('äö')", 2),
        ("octet_length('äö')", 4),
        ("concat('a', null)", None),
        ("'a' || 1", "a1"),
        ("regexp_replace('aXbXc', 'X', '-')", "a-b-c"),
        ("regexp_substr('ab12', '[0-9]+')", "12"),
        ("charindex('b', 'abc')", 2),
        ("split_part('a/b', '/', 2)", "b"),
        ("sha2('a', 256)", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
        ("json_extract_path_text('{\"a\": {\"b\": 1}}', 'a', 'b')", "1"),
        ("is_valid_json('{')", False),
        ("round(2.345::float, 2)", 2.35),
        ("7 / 2", 3),
        ("cast('1.5' as decimal(5, 2))", Decimal("1.50")),
        ("'a\\\\b'", "a\\b"),
        ("'tab\\tstop'", "tab\tstop"),
        ("cast('abc' as varchar(2))", "ab"),
    ],
)
def test_expressions(run, expression, value):
    """An analyst's functions give what Redshift documents."""
    assert run(f"select {expression}") == [[value]]


def test_integers_stay_integers_in_aggregates(run):
    """AVG of integers is one, SUM of BIGINT too."""
    run("create table t (a int, b bigint)")
    run("insert into t values (1, 1), (2, 2)")
    assert run("select avg(a), avg(b), sum(a), sum(b), count(*) from t") == [[1, 1, 3, 3, 2]]
    assert [type(value) for value in run("select avg(a), sum(b) from t")[0]] == [int, int]


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("select count(*) from t where a = 'a'", 2),
        ("select count(*) from t where a <> 'a'", 3),
        ("select count(*) from t where a in ('a', 'b')", 3),
        ("select count(*) from t where a between 'a' and 'a'", 2),
        ("select count(distinct a) from t", 4),
        ("select count(*) from (select a from t group by a) as x", 4),
        ("select count(*) from t as x inner join t as y on x.a = y.a", 7),
        ("select count(*) from t where a not in (select a from t where n = 1)", 3),
        ("select max(place) from (select row_number() over (partition by a order by n) as place from t) as x", 2),
        ("select max(place) from (select row_number() over (partition by a, len(a) order by n) as place from t) as x", 1),
        ("select count(*) from t where a like 'a'", 1),
        ("select len(a) from t where n = 2", 2),
        ("select a || '.' from t where n = 2", "a ."),
    ],
)
def test_varchar_is_compared_without_trailing_blanks_and_keeps_them(run, query, value):
    """In =, IN, joins, GROUP BY, DISTINCT and PARTITION BY 'a' is 'a '; LEN, LIKE and || see the blank."""
    run("create table t (a varchar(10), n int)")
    run("insert into t values ('a', 1), ('a ', 2), ('b', 3), (' a', 4), ('', 5)")

    assert run(query) == [[value]]


def test_listagg_and_median(run):
    """WITHIN GROUP gives the order."""
    run("create table t (a varchar(1), b int)")
    run("insert into t values ('x', 2), ('y', 1), ('z', 4)")
    assert run("select listagg(a, ',') within group (order by b) from t") == [["y,x,z"]]
    assert run("select listagg(b, '') within group (order by b desc), median(b) from t") == [["421", 2.0]]


def test_now_is_one_moment_in_a_transaction(run):
    """SYSDATE and GETDATE() are UTC, without a zone."""
    assert run("select sysdate = sysdate, datediff(minute, sysdate, getdate()), getdate() = date_trunc('second', getdate())") == [
        [True, 0, True]
    ]


def test_varchar_counts_bytes(run, refusal):
    """In an insert, an update, a CTAS and after ALTER; a cast cuts."""
    run("create table t (a varchar(3), b char(2))")
    run("insert into t values ('éx', 'ab')")
    assert refusal("insert into t values ('éé', null)") == ("22001", "value too long for type character varying(3)")
    assert refusal("insert into t (b) values ('éx')") == ("22001", "value too long for type character(2)")
    assert refusal("update t set a = 'ééé'")[0] == "22001"
    run("create table u as select a from t")
    assert refusal("insert into u values ('éé')")[0] == "22001"
    run("create temp table v (like t)")
    assert refusal("insert into v (a) values ('éé')")[0] == "22001"
    run("alter table t alter column a type varchar(4)")
    run("insert into t (a) values ('éé')")
    assert refusal("insert into t (a) values ('ééx')") == ("22001", "value too long for type character varying(4)")


def test_types_without_a_length_have_their_defaults(run):
    """VARCHAR and TEXT are 256 bytes, CHAR 1, DECIMAL (18, 0), MAX 65,535."""
    run("create table t (a varchar, b text, c char, d decimal, e varchar(max), f float, g nvarchar(5), h bpchar, i timestamptz, j super)")
    assert [row[0] for row in run("select type from pg_table_def where tablename = 't'")] == [
        "character varying(256)", "character varying(256)", "character(1)", "numeric(18,0)", "character varying(65535)", "double precision",
        "character varying(5)", "character(256)", "timestamp with time zone", "super",
    ]  # fmt: skip


def test_identity_counts_by_its_step_and_takes_no_value(run, refusal):
    """IDENTITY(seed, step); GENERATED BY DEFAULT takes one."""
    run("create table t (id bigint identity(10, 5), a int)")
    run("insert into t (a) values (1), (2)")
    assert run("select id from t order by id") == [[10], [15]]
    assert refusal("insert into t (id, a) values (1, 1)") == ("XX000", "cannot set an identity column to a value")
    run("create table u (id int generated by default as identity(1, 1), a int)")
    run("insert into u values (7, 1)")
    assert run("select id from u") == [[7]]


def test_storage_attributes_are_noted(run):
    """DISTKEY, SORTKEY and ENCODE can be seen in PG_TABLE_DEF and SVV_TABLE_INFO."""
    run("create table t (a int encode az64, b varchar(9) encode zstd distkey, c timestamp) compound sortkey (c, a)")
    assert run("select \"column\", encoding, distkey, sortkey from pg_table_def where tablename = 't'") == [
        ["a", "az64", False, 2], ["b", "zstd", True, 0], ["c", "none", False, 1],
    ]  # fmt: skip
    found = run('select diststyle, sortkey1, sortkey_num from svv_table_info where "table" = \'t\' and "schema" = current_schema()')
    assert found == [["KEY(b)", "c", 2]]


def test_names_in_quotes_are_lower_case_too(run):
    """Unless enable_case_sensitive_identifier is on, which we refuse."""
    run('create table "T" ("Timestamp" int)')
    run('insert into t ("TIMESTAMP") values (1)')
    assert run('select "timestamp" from "t"') == [[1]]


def test_a_cast_that_cannot_work_shows_its_value_in_the_detail(connect):
    """As compute nodes report it: SQLSTATE XX000, code 1207."""
    import redshift_connector

    cursor = connect().cursor()
    with pytest.raises(redshift_connector.ProgrammingError) as caught:
        cursor.execute("select cast(case when 1 = 1 then 'Because: x' else '0' end as int)")
    fields = caught.value.args[0]
    assert fields["M"] == "Invalid digit, Value 'B', Pos 0, Type: Integer"
    assert "Because: x" in fields["D"]
