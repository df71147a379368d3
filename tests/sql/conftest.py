"""One local Redshift for all SQL tests, a schema of its own for each."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import pytest
import redshift_connector

from local.redshift import RedshiftServer
from tests.sql.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server() -> Iterator[RedshiftServer]:
    """A Redshift on loopback."""
    with RedshiftServer() as server:
        yield server


@pytest.fixture
def connect(server):
    """Open a connection as Airflow's hook does."""

    def connect():
        return redshift_connector.connect(
            host=server.host, port=server.port, database=server.database, user=server.user, password=server.password, ssl=False
        )

    return connect


@pytest.fixture
def empty_warehouse(connect) -> Iterator[Warehouse]:
    """A schema that is not there yet."""
    made = Warehouse(connect, f"polku_{secrets.token_hex(4)}")
    yield made
    made.write("drop schema if exists {s} cascade")
    made.close()


@pytest.fixture
def warehouse(empty_warehouse) -> Warehouse:
    """A schema as polku_migrate leaves it."""
    empty_warehouse.migrate()
    return empty_warehouse


@pytest.fixture
def until_locked(server):
    """Wait until some transaction waits for a lock; look below Redshift, in PostgreSQL."""

    def until_locked():
        deadline = time.monotonic() + 30
        with server._postgres.connect(server.database) as admin:
            while not admin.execute("select count(*) from pg_locks where not granted").fetchone()[0]:
                assert time.monotonic() < deadline, "nobody waits for a lock"

    return until_locked
