"""Names come from the owner's table, by either driver that Airflow's PostgresHook may use."""

from __future__ import annotations

import socket
import traceback

import psycopg
import psycopg2
import pytest

from local.redshift import RedshiftServer
from polku import name_table
from polku.errors import SettingsError, TransientError

QUERY = "select user_id, user_name from users where user_id = any(%(ids)s)"
DRIVERS = [pytest.param(psycopg2.connect, id="psycopg2"), pytest.param(psycopg.connect, id="psycopg3")]


@pytest.fixture(scope="module")
def directory():
    """Address of a PostgreSQL with a table of users."""
    with RedshiftServer() as server:
        address = server.postgres_dsn("directory")
        with psycopg.connect(address) as connection:
            connection.execute("create table users (user_id text, user_name text)")
            connection.execute("insert into users select 'u' || n, 'Name ' || n from generate_series(1, 2500) as n")
            connection.execute(
                "insert into users values ('null', null), ('blank', '  '), ('two', 'B'), ('two', 'A'), ('quote''d', ' Zoë ')"
            )
            connection.execute("create table numbered (id bigint, name varchar(50))")
            connection.execute("insert into numbered values (7, 'Seven')")
        yield address


@pytest.fixture(params=DRIVERS)
def connect(request, directory):
    return lambda: request.param(directory)


def test_known_ids_get_their_names_and_unknown_ones_none(connect):
    """A name that is null or blank is no name."""
    names = name_table.lookup(connect, QUERY, ["u1", "u2", "nobody", "null", "blank", "quote'd", "half\x00way"])

    assert names == {"u1": "Name 1", "u2": "Name 2", "quote'd": "Zoë"}


def test_more_ids_than_fit_a_query_are_all_looked_up(connect):
    """In chunks, each id once."""
    ids = [f"u{number}" for number in range(1, 2501)]

    names = name_table.lookup(connect, QUERY, ids + ids)

    assert names == {f"u{number}": f"Name {number}" for number in range(1, 2501)}


def test_of_two_names_the_same_one_is_taken_every_time(connect):
    """A replay must come to the same name."""
    assert name_table.lookup(connect, QUERY, ["two"]) == {"two": "A"}


def test_ids_of_any_type_are_compared_as_text(connect):
    """Events carry text; a table may hold numbers."""
    query = "select id, name from numbered where id::text = any(%(ids)s)"

    assert name_table.lookup(connect, query, ["7", "x"]) == {"7": "Seven"}


def test_without_ids_nobody_is_asked():
    """A batch without users opens no connection."""
    assert name_table.lookup(lambda: pytest.fail("connected"), QUERY, []) == {}


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("select user_id, user_name from users", id="no placeholder"),
        pytest.param("select user_id, user_name from nowhere where user_id = any(%(ids)s)", id="no such table"),
        pytest.param("selec user_id from users where user_id = any(%(ids)s)", id="syntax"),
        pytest.param("select user_id from users where user_id = any(%(ids)s)", id="one column"),
        pytest.param("select id, name from numbered where id = any(%(ids)s)", id="wrong type"),
        pytest.param("select user_id, user_name from users where user_id = any(%(ids)s) and user_id = %(other)s", id="another placeholder"),
        pytest.param("delete from users where user_id = any(%(ids)s) returning user_id, user_name", id="it would change the table"),
    ],
)
def test_a_wrong_query_needs_a_person(connect, query):
    """Trying again would not help; nothing in the directory is changed."""
    with pytest.raises(SettingsError, match="names"):
        name_table.lookup(connect, query, ["u1"])

    assert name_table.lookup(connect, QUERY, ["u1"]) == {"u1": "Name 1"}


def test_a_refusal_by_the_directory_is_told_without_the_ids(connect):
    """Neither our error nor the driver's, which a task's log shows as its cause, has the query as it was sent."""
    wanted = ["mark's id"]
    query = "select id, name from numbered where id = any(%(ids)s::integer[])"

    with pytest.raises(SettingsError, match="22P02 invalid input syntax for type integer: '…'") as caught:
        name_table.lookup(connect, query, wanted)

    assert "mark's" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_directory_that_is_away_is_tried_again(driver):
    """An unreachable directory is not an unknown id: a generated name would stay for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(TransientError, match="directory of names"):
        name_table.lookup(lambda: driver(f"host=127.0.0.1 port={port} user=u password=p dbname=d connect_timeout=2"), QUERY, ["u1"])


def test_a_directory_that_is_too_slow_is_tried_again(connect, monkeypatch):
    """The query is given up after its time."""
    monkeypatch.setattr(name_table, "TIMEOUT_SECONDS", 0.05)
    query = "select user_id, user_name from users, pg_sleep(20) where user_id = any(%(ids)s)"

    with pytest.raises(TransientError, match="57014"):
        name_table.lookup(connect, query, ["u1"])


def test_a_connection_that_breaks_is_tried_again(connect):
    """The server's shutdown in the middle of a query."""
    query = "select user_id, user_name from users where user_id = any(%(ids)s) and pg_terminate_backend(pg_backend_pid())"

    with pytest.raises(TransientError, match="did not answer"):
        name_table.lookup(connect, query, ["u1"])


def test_an_error_that_is_no_drivers_passes_through():
    """Airflow's own, when the connection is not defined."""

    class NotFoundError(Exception):
        """Stands for AirflowNotFoundException."""

    def connect():
        raise NotFoundError

    with pytest.raises(NotFoundError):
        name_table.lookup(connect, QUERY, ["u1"])


def test_connections_are_closed(connect):
    """Also after a failure: tasks come every minute."""
    opened = []

    def counted():
        opened.append(connect())
        return opened[-1]

    name_table.lookup(counted, QUERY, ["u1"])
    with pytest.raises(SettingsError):
        name_table.lookup(counted, "select 1 / 0, 1 where '' = any(%(ids)s) or true", ["u1"])

    assert all(connection.closed for connection in opened)
