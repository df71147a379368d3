"""Faults on demand: each happens when it was asked for, and not again."""

from __future__ import annotations

import gc

import pytest
import redshift_connector

pytestmark = [
    pytest.mark.filterwarnings("ignore:ssl:DeprecationWarning"),  # redshift_connector's way of making a context
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # and the socket that it leaves open after a failed login
    pytest.mark.usefixtures("sockets"),
]


@pytest.fixture
def sockets():
    """Collect what a failed login leaves, so that no other test is blamed for it."""
    yield
    gc.collect()


def lost(connection, sql: str) -> None:
    """Run a statement whose answer never comes."""
    with pytest.raises((redshift_connector.InterfaceError, OSError, ValueError)):
        connection.cursor().execute(sql)


def test_a_commit_that_never_arrived(server, connect, run):
    """With "drop", cut before PostgreSQL sees it, so nothing is there."""
    run("create table t (a int)")
    connection = connect()
    connection.cursor().execute("insert into t values (1)")
    fault = server.fault("drop", "^commit")
    lost(connection, "commit")
    assert fault.happened == 1
    assert run("select count(*) from t") == [[0]]


def test_a_commit_whose_answer_is_lost(server, connect, run):
    """With "drop_after" it is done, and the client does not know."""
    run("create table t (a int)")
    connection = connect()
    connection.cursor().execute("insert into t values (1)")
    server.fault("drop_after", "^commit")
    lost(connection, "commit")
    assert run("select count(*) from t") == [[1]]


def test_the_nth_statement_that_matches(server, connect, run):
    """Counted from when the fault was asked for."""
    run("create table t (a int)")
    server.fault("error", "insert into t", nth=2, message="out of disk", code="53100")
    connection = connect()
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("insert into t values (1)")
    with pytest.raises(redshift_connector.ProgrammingError) as caught:
        cursor.execute("insert into t values (2)")
    assert (caught.value.args[0]["C"], caught.value.args[0]["M"]) == ("53100", "out of disk")
    cursor.execute("insert into t values (3)")
    assert run("select a from t order by a") == [[1], [3]]


@pytest.mark.parametrize(("kind", "code"), [("refuse_login", "28000"), ("too_many_connections", "53300")])
def test_logins_that_are_refused(server, target, kind, code):
    """Once, unless more is asked for."""
    server.fault(kind)
    with pytest.raises((redshift_connector.InterfaceError, redshift_connector.ProgrammingError)) as caught:
        target.connect()
    assert caught.value.args[0]["C"] == code
    target.connect().close()


def test_a_server_that_closes_or_hangs(server, target):
    """With "refuse_connect" it closes at once, "hang" never answers."""
    server.fault("refuse_connect")
    with pytest.raises((redshift_connector.InterfaceError, OSError)):
        target.connect()
    server.fault("hang")
    with pytest.raises((redshift_connector.InterfaceError, redshift_connector.OperationalError, OSError)):
        target.connect(timeout=1)


def test_a_copy_can_be_cut(server, connect, run, bucket, schema):
    """In the middle of a load, nothing of it stays."""
    url = bucket.put(f"{schema}/file", b"1\n")
    run("create table t (a int)")
    connection = connect()
    server.fault("drop_after", "^copy")
    lost(connection, f"copy t from '{url}' iam_role '{bucket.role}'")
    assert run("select count(*) from t") == [[0]]
