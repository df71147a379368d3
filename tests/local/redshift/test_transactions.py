"""Transactions: what one sees of another, what is taken back, what commits by itself."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redshift_connector

Connect = "Callable[..., redshift_connector.Connection]"


def rows(connection: Any, sql: str) -> list[list[Any]]:
    """Run a query on a connection."""
    cursor = connection.cursor()
    cursor.execute(sql)
    return [list(row) for row in cursor.fetchall()] if cursor.description else []


def test_a_transaction_sees_the_database_as_it_was_at_its_first_read(connect, run):
    """Snapshot isolation: what commits meanwhile stays out of sight."""
    run("create table t (a int)")
    first = connect()
    assert rows(first, "select count(*) from t") == [[0]]

    run("insert into t values (1)")

    assert rows(first, "select count(*) from t") == [[0]]
    first.rollback()
    assert rows(first, "select count(*) from t") == [[1]]


def test_rolling_back_takes_tables_and_rows_back(connect, run):
    """DDL is in the transaction too."""
    connection = connect()
    rows(connection, "create table t (a int)")
    rows(connection, "insert into t values (1)")
    connection.rollback()

    assert run("select count(*) from svv_tables where table_schema = current_schema()") == [[0]]


def test_truncate_commits_what_came_before_it(connect, run):
    """Redshift documents it; a rollback afterwards changes nothing."""
    run("create table t (a int)")
    run("create table other (a int)")
    run("insert into t values (1)")
    connection = connect()
    rows(connection, "insert into other values (2)")
    rows(connection, "truncate t")
    connection.rollback()

    assert run("select count(*) from t") == [[0]]
    assert run("select a from other") == [[2]]


def test_two_writers_of_one_row_end_in_a_serializable_violation(connect, run):
    """The second to update gets error 1023, as SQLSTATE XX000."""
    run("create table t (a int, b int)")
    run("insert into t values (1, 0)")
    one, two = connect(), connect()
    rows(one, "select * from t")
    rows(two, "select * from t")
    rows(one, "update t set b = 1 where a = 1")
    one.commit()

    with pytest.raises(redshift_connector.ProgrammingError) as caught:
        rows(two, "update t set b = 2 where a = 1")

    fields = caught.value.args[0]
    assert (fields["C"], fields["M"]) == ("XX000", "1023")
    assert fields["D"].startswith("Serializable isolation violation on table")


def test_who_waits_for_a_lock_sees_what_the_holder_committed(connect, run):
    """LOCK as the first statement takes no snapshot: the way to run loads one after another."""
    run("create table guard (a int)")
    run("create table t (a int)")
    one, two = connect(), connect()
    rows(one, "lock guard")
    rows(one, "insert into t values (1)")
    seen: list[Any] = []

    def wait() -> None:
        rows(two, "lock table guard")
        seen.extend(rows(two, "select count(*) from t"))
        two.commit()

    waiting = threading.Thread(target=wait)
    waiting.start()
    one.commit()
    waiting.join(30)

    assert seen == [[1]]


def test_after_an_error_nothing_works_until_the_rollback(connect):
    """As in PostgreSQL: 25P02."""
    connection = connect()
    with pytest.raises(redshift_connector.ProgrammingError):
        rows(connection, "select * from not_there")

    with pytest.raises(redshift_connector.ProgrammingError) as caught:
        rows(connection, "select 1")

    assert caught.value.args[0]["C"] == "25P02"
    connection.rollback()
    assert rows(connection, "select 1") == [[1]]


def test_a_refused_statement_fails_the_transaction_too(connect):
    """A refusal is an error like any other."""
    connection = connect()
    with pytest.raises(redshift_connector.ProgrammingError):
        rows(connection, "create index i on not_there (a)")

    with pytest.raises(redshift_connector.ProgrammingError) as caught:
        rows(connection, "select 1")

    assert caught.value.args[0]["C"] == "25P02"


def test_keys_are_not_enforced_and_not_null_is(run, refusal):
    """PRIMARY KEY and UNIQUE are for the planner alone."""
    run("create table t (a int primary key, b int unique, c int references t (a))")
    run("insert into t values (1, 1, 7)")
    run("insert into t values (1, 1, 7)")

    assert run("select count(*) from t") == [[2]]
    assert refusal("insert into t values (null, 2, 3)") == ("XX000", "Cannot insert a NULL value into column a")


def test_isolation_levels_can_be_named_and_are_all_one(connect):
    """Redshift takes all four and treats them alike."""
    connection = connect()
    connection.autocommit = True
    rows(connection, "begin isolation level serializable")
    rows(connection, "set transaction isolation level read committed")
    assert rows(connection, "show transaction_isolation") == [["repeatable read"]]
    rows(connection, "rollback")


def test_a_client_that_goes_away_leaves_nothing_behind(connect, run, target):
    """Its transaction is rolled back and its locks are gone."""
    run("create table t (a int)")
    gone = connect()
    rows(gone, "insert into t values (1)")
    rows(gone, "lock t")
    gone._usock.close()
    gone._sock.close()

    assert run("select count(*) from t") == [[0]]


def test_temporary_tables_are_seen_by_their_session_alone(connect, refusal):
    """And they may hide a table of the same name."""
    connection = connect()
    rows(connection, "create temp table mine (a int)")
    rows(connection, "insert into mine values (1)")
    connection.commit()

    assert rows(connection, "select * from mine") == [[1]]
    assert refusal("select * from mine")[0] == "42P01"


def test_names_that_begin_with_a_hash_are_temporary(connect, refusal):
    """CREATE TABLE #name."""
    connection = connect()
    rows(connection, "create table #mine (a int)")
    connection.commit()
    assert rows(connection, "select count(*) from #mine") == [[0]]
    assert refusal('select * from "#mine"')[0] == "42P01"
