"""COPY from S3: what is loaded, what is refused, and what stl_load_errors tells afterwards."""

from __future__ import annotations

import bz2
import gzip
import json
from datetime import date, datetime, timezone
from typing import Any

import pytest
import redshift_connector
import zstandard


@pytest.fixture
def copy(run, bucket, schema):
    """Put a body, COPY it into a table, return the table's rows."""

    def copied(columns: str, body: bytes, options: str = "", *, key: str = "file") -> list[list[Any]]:
        run("drop table if exists t")
        run(f"create table t ({columns})")
        url = bucket.put(f"{schema}/{key}", body)
        run(f"copy t from '{url}' iam_role '{bucket.role}' {options}")
        return run("select * from t")

    return copied


@pytest.fixture
def fault(copy, run, schema):
    """COPY a body that has to fail; return its row of stl_load_errors (line, column, code, reason) and check that nothing came."""

    def failed(columns: str, body: bytes, options: str = "") -> tuple[Any, ...]:
        with pytest.raises(redshift_connector.ProgrammingError) as caught:
            copy(columns, body, options)
        fields = caught.value.args[0]
        assert fields["M"] == "Load into table 't' failed.  Check 'stl_load_errors' system table for details."
        assert fields["C"] == "XX000"
        assert run("select count(*) from t") == [[0]]
        found = run(
            "select line_number, trim(colname), err_code, trim(err_reason), trim(raw_field_value) from stl_load_errors "
            f"where filename like '%/{schema}/file%' order by starttime desc limit 1"
        )
        return tuple(found[0])

    return failed


def test_text_goes_by_its_delimiter_and_a_backslash_is_a_character(copy):
    r"""Without ESCAPE a backslash is nothing special, and NULL is \N."""
    body = b'a\\nb\x01\\N\x01"q"\nx\x01\x01|\n'

    loaded = copy("a varchar(20), b varchar(20), c varchar(20)", body, r"delimiter '\001' null as '\\N'")

    assert loaded == [["a\\nb", None, '"q"'], ["x", "", "|"]]


def test_the_last_line_needs_no_newline(copy):
    """Nor does a file need a line."""
    assert copy("a int", b"1\n2") == [[1], [2]]
    assert copy("a int", b"") == []


@pytest.mark.parametrize(
    ("option", "press"),
    [("gzip", gzip.compress), ("zstd", zstandard.compress), ("bzip2", bz2.compress), ("", bytes)],
    ids=["gzip", "zstd", "bzip2", "plain"],
)
def test_files_are_decompressed_as_the_statement_says(copy, option, press):
    """The option decides, not the name; several frames are one file."""
    assert copy("a int", press(b"1\n2\n") + press(b"3\n"), option) == [[1], [2], [3]]


def test_a_file_that_is_not_compressed_as_stated_fails(copy):
    """Nothing is guessed."""
    with pytest.raises(redshift_connector.ProgrammingError, match="inflate"):
        copy("a int", b"1\n2\n", "zstd")
    with pytest.raises(redshift_connector.ProgrammingError, match="inflate"):
        copy("a int", gzip.compress(b"1\n2\n" * 100)[:-9], "gzip")


def test_a_manifest_names_what_is_loaded(run, bucket, schema):
    """Only what it names, in the transaction of the statement, and the count is there afterwards."""
    urls = [bucket.put(f"{schema}/part-{n}", f"{n}\n".encode()) for n in range(3)]
    manifest = bucket.manifest(f"{schema}/manifest", urls[0], urls[2])
    run("create table t (a int)")

    run(f"copy t from '{manifest}' iam_role '{bucket.role}' manifest")

    assert run("select a from t order by a") == [[0], [2]]
    assert run("select pg_last_copy_count()") == [[2]]


def test_a_prefix_takes_all_keys_that_begin_with_it(run, bucket, schema):
    """As S3 lists them."""
    for n in range(2):
        bucket.put(f"{schema}/many/part-{n}", f"{n}\n".encode())
    run("create table t (a int)")
    run(f"copy t from 's3://{bucket.name}/{schema}/many/part-' iam_role '{bucket.role}'")
    assert run("select a from t order by a") == [[0], [1]]


def test_what_is_mandatory_must_be_there(run, refusal, bucket, schema):
    """A missing object, a missing manifest and an empty one fail; one that is not mandatory is passed over."""
    there = bucket.put(f"{schema}/there", b"1\n")
    gone = f"s3://{bucket.name}/{schema}/gone"
    run("create table t (a int)")

    def copy_of(manifest: str) -> str:
        return f"copy t from '{manifest}' iam_role '{bucket.role}' manifest"

    assert "does not exist" in refusal(copy_of(bucket.manifest(f"{schema}/m1", there, gone)))[1]
    assert "does not exist" in refusal(f"copy t from '{gone}' iam_role '{bucket.role}'")[1]
    assert "NoSuchKey" in refusal(copy_of(gone))[1]
    refusal(copy_of(bucket.manifest(f"{schema}/m2")))
    assert run("select count(*) from t") == [[0]]
    run(copy_of(bucket.manifest(f"{schema}/m3", there, gone, mandatory=False)))
    assert run("select count(*) from t") == [[1]]


def test_a_rolled_back_copy_leaves_nothing_but_its_errors(connect, run, bucket, schema):
    """Rows go with the transaction, stl_load_errors stays."""
    good, bad = bucket.put(f"{schema}/good", b"1\n"), bucket.put(f"{schema}/file", b"x\n")
    run("create table t (a int)")
    connection = connect()
    cursor = connection.cursor()
    cursor.execute(f"copy t from '{good}' iam_role '{bucket.role}'")
    cursor.execute("select count(*) from t")
    assert cursor.fetchone()[0] == 1

    with pytest.raises(redshift_connector.ProgrammingError):
        cursor.execute(f"copy t from '{bad}' iam_role '{bucket.role}'")
    connection.rollback()

    assert run("select count(*) from t") == [[0]]
    assert run(f"select count(*) from stl_load_errors where filename like '%/{schema}/file%'") == [[1]]
    assert run(f"select error_code, column_name from sys_load_error_detail where file_name like '%/{schema}/file%'") == [[1207, "a"]]


def test_a_column_list_gives_the_order_and_leaves_defaults(run, bucket, schema):
    """Columns that are not named take their default."""
    url = bucket.put(f"{schema}/file", b"x|1\n")
    run("create table t (a int, b varchar(9), c int default 7, d bigint identity(5, 1))")
    run(f"copy t (b, a) from '{url}' iam_role '{bucket.role}'")
    assert run("select * from t") == [[1, "x", 7, 5]]


def test_an_identity_column_counts_for_itself(copy):
    """Without a column list it is not in the file."""
    assert copy("id bigint identity(3, 2), a varchar(3)", b"x\ny\n") == [[3, "x"], [5, "y"]]


@pytest.mark.parametrize(
    ("columns", "body", "line", "column", "code", "reason"),
    [
        ("a int, b varchar(3)", b"1|abc\n2|abcd\n", 2, "b", 1204, "String length exceeds DDL length"),
        ("a varchar(3)", "ab\néé\n".encode(), 2, "a", 1204, "String length exceeds DDL length"),
        ("a char(2)", b"abc\n", 1, "a", 1204, "Char length exceeds DDL length"),
        ("a int, b int", b"1|2\n3\n", 2, "a", 1214, "Delimiter not found"),
        ("a int, b int", b"1|2\n3|4|5\n", 2, "", 1202, "Extra column(s) found"),
        ("a int not null, b int", b"1|2\n\\N|4\n", 2, "a", 1213, "Missing data for not-null field"),
        ("a int", b"1\n2x\n", 2, "a", 1207, "Invalid digit, Value 'x', Pos 1, Type: Integer"),
        ("a smallint", b"40000\n", 1, "a", 1204, "Overflow for SMALLINT (Value out of range)"),
        ("a timestamp", b"2026-01-01 00:00:00\n2026-13-01 00:00:00\n", 2, "a", 1206,
         "Invalid timestamp format or value [YYYY-MM-DD HH24:MI:SS]"),
        ("a timestamp", b"2026-01-01T00:00:00\n", 1, "a", 1206, "Invalid timestamp format or value [YYYY-MM-DD HH24:MI:SS]"),
        ("a timestamp", b"now\n", 1, "a", 1206, "Invalid timestamp format or value [YYYY-MM-DD HH24:MI:SS]"),
        ("a date", b"2026-1\n", 1, "a", 1205, "Invalid date format - length must be 10 or more"),
        ("a boolean", b"maybe\n", 1, "a", 1210, "Unknown boolean format"),
        ("a varchar(9)", b"ok\n\xff\xfe\n", 2, "a", 1220,
         "String contains invalid or unsupported UTF8 codepoints. Bad UTF8 hex sequence: ff (error 3)"),
        ("a varchar(9)", b"ok\na\0b\n", 2, "a", 1220,
         "String contains invalid or unsupported UTF8 codepoints. Bad UTF8 hex sequence: 00 (error 1)"),
        ("a super", b'{"a": 1}\n{"a": }\n', 2, "a", 1224, "Invalid JSON format. Invalid value."),
        ("a super", b'{"a": "%s"}\n' % (b"x" * 65_536), 1, "a", 1224, "String value exceeds the max size of 65535 bytes"),
        ("a super", b"1\n" + b"[" * 1001 + b"]" * 1001 + b"\n", 2, "a", 1224, "Nesting of a SUPER value exceeds the limit of 1000"),
    ],
    ids=lambda value: value.replace(" ", "_")[:24] if isinstance(value, str) else None,
)  # fmt: skip
def test_the_first_bad_row_is_told_and_nothing_is_loaded(fault, columns, body, line, column, code, reason):
    """Line, column, number and words of the load error reference."""
    found = fault(columns, body)
    assert found[:2] == (line, column if code != 1220 else found[1])
    assert found[2:4] == (code, reason[:100])


def test_limits_are_met_exactly(copy):
    """65,535 bytes in a string, 1,000 levels, n bytes in a VARCHAR(n): all fine."""
    body = b'{"a":"' + b"x" * 65_535 + b'"}|' + b"[" * 1000 + b"]" * 1000 + b"|" + "éé".encode() + b"\n"
    loaded = copy("a super, b super, c varchar(4)", body)
    assert json.loads(loaded[0][0]) == {"a": "x" * 65_535}
    assert loaded[0][2] == "éé"


def test_a_large_super_loads_and_a_row_over_4_mb_does_not(copy, fault):
    """What is long as a whole is fine while its strings are short."""
    big = json.dumps({str(n): "x" * 1000 for n in range(1500)}).encode()
    assert len(copy("a super", big + b"\n")[0][0]) > 1_500_000
    huge = json.dumps({str(n): "x" * 1000 for n in range(4200)}).encode()
    assert fault("a super", b"1\n" + huge + b"\n")[2:4] == (1216, "Input record exceeds the maximum size of 4194304 bytes")


def test_super_keeps_the_text_that_came(copy):
    """Order of keys, doubled keys, numbers and escapes stay; redshift_connector reads it as str."""
    text = '{"b":1.10,"a":[1e3,"\\u00e9\\n"],"b":null}'
    assert copy("a super", text.encode() + b"\n") == [[text]]


def test_empty_fields_are_null_where_the_type_has_no_empty_value(copy):
    """And stay empty in a VARCHAR, unless EMPTYASNULL."""
    assert copy("a int, b timestamp, c varchar(3)", b"||\n") == [[None, None, ""]]
    assert copy("a int, b timestamp, c varchar(3)", b"||\n", "emptyasnull") == [[None, None, None]]
    assert copy("a varchar(3), b varchar(3)", b"  | x \n", "blanksasnull trimblanks") == [[None, " x"]]


def test_times_are_read_as_timeformat_says(copy):
    """'auto' takes many, epoch formats take numbers, a pattern takes what it says."""
    wanted = [[datetime(2026, 11, 24, 6, 0, 0, 250000)]]
    assert copy("a timestamp", b"2026-11-24 06:00:00.250000\n") == wanted
    assert copy("a timestamp", b"2026-11-24T06:00:00.25Z\n", "timeformat 'auto'") == wanted
    assert copy("a timestamp", b"1795500000250\n", "timeformat 'epochmillisecs'") == wanted
    assert copy("a timestamp", b"24.11.2026 06:00:00\n", "timeformat 'DD.MM.YYYY HH:MI:SS'") == [[datetime(2026, 11, 24, 6)]]
    assert copy("a timestamptz", b"2026-11-24 08:00:00+02\n", "timeformat 'auto'") == [[datetime(2026, 11, 24, 6, tzinfo=timezone.utc)]]
    assert copy("a date", b"24.11.2026\n", "dateformat 'DD.MM.YYYY'") == [[date(2026, 11, 24)]]
    assert copy("a date", b"Nov 24 2026\n", "dateformat 'auto'") == [[date(2026, 11, 24)]]


def test_escape_and_removequotes_read_text_another_way(copy):
    """A backslash then hides a delimiter, a newline and itself."""
    body = b"a\\|b|c\\\nd|e\\\\f\n"
    assert copy("a varchar(9), b varchar(9), c varchar(9)", body, "escape") == [["a|b", "c\nd", "e\\f"]]
    assert copy("a varchar(9), b varchar(9)", b'"x|y"|z\n', "removequotes") == [["x|y", "z"]]


def test_csv_has_quotes_delimiters_and_newlines_in_fields(copy, fault):
    """RFC 4180, with a quote and a delimiter of one's own."""
    assert copy("a int, b varchar(20)", b'1,"a ""b"", c\nd"\n2,\n', "csv") == [[1, 'a "b", c\nd'], [2, ""]]
    assert copy("a int, b varchar(20)", b"h,h\n1;%x;y%\n".replace(b"h,h", b"h;h"), "csv delimiter ';' quote '%' ignoreheader 1") == [
        [1, "x;y"]
    ]
    assert fault("a int, b int", b'1,2\n3,"4"x\n', "csv")[2:4] == (1216, "Invalid quote formatting for CSV")
    assert fault("a int, b varchar(3)", b'1,"a\nb"\n2,abcd\n', "csv")[:3] == (3, "b", 1204)


def test_json_objects_go_to_the_columns_of_their_names(copy):
    """Objects one after another; what has no column is left out, what is missing is NULL."""
    body = b'{"a": 1, "b": "x", "c": {"k": [1, 2]}, "more": 1}\n{"a": 2}{"b": "y",\n "a": 3}'
    assert copy("a int, b varchar(9), c super", body, "json 'auto'") == [[1, "x", '{"k":[1,2]}'], [2, None, None], [3, "y", None]]


def test_options_that_bend_values(copy):
    """ACCEPTINVCHARS, TRUNCATECOLUMNS, FILLRECORD, IGNOREHEADER, IGNOREBLANKLINES."""
    assert copy("a varchar(9)", b"a\xffb\n", "acceptinvchars") == [["a?b"]]
    assert copy("a varchar(3)", "ééé\n".encode(), "truncatecolumns") == [["é"]]
    assert copy("a int, b int", b"1\n", "fillrecord") == [[1, None]]
    assert copy("a int", b"head\n1\n", "ignoreheader 1") == [[1]]
    assert copy("a int", b"1\n\n2\n", "ignoreblanklines") == [[1], [2]]


def test_many_rows_go_through_in_blocks(copy, run):
    """More than one block, with lines across their borders."""
    body = b"".join(b"%d|%s\n" % (n, b"x" * (n % 97)) for n in range(50_000))
    copy("a int, b varchar(100)", zstandard.compress(body), "zstd")
    assert run("select count(*), sum(a), max(len(b)) from t") == [[50_000, 1_249_975_000, 96]]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("copy t from 's3://bucket/k'", "IAM_ROLE"),
        ("copy t from 's3://bucket/k' access_key_id 'x' secret_access_key 'y'", "use IAM_ROLE"),
        ("copy t from 's3://bucket/k' iam_role 'me'", "IAM role"),
        ("copy t from '/etc/passwd' iam_role default", "not supported by the local Redshift"),
        ("copy t from 's3://bucket/k' iam_role default format as parquet", "not supported by the local Redshift"),
        ("copy t from 's3://bucket/k' iam_role default maxerror 5", "not supported by the local Redshift"),
        ("copy t from 's3://bucket/k' iam_role default nonsense", "syntax error"),
        ("copy t from stdin", "syntax error"),
        ("copy t to 's3://bucket/k'", "syntax error"),
        ("copy t (nope) from 's3://bucket/k' iam_role default", "does not exist"),
        ("copy nowhere from 's3://bucket/k' iam_role default", "does not exist"),
    ],
)
def test_other_copies_are_refused(run, refusal, sql, words):
    """With words that say why."""
    run("create table t (a int)")
    assert words in refusal(sql)[1]
