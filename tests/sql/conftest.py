"""One local Redshift for all SQL tests, a schema of its own for each."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING

import pytest
import redshift_connector

from local.aws import AwsServer
from local.redshift import RedshiftServer
from tests.sql.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator


BUCKET = "polku-sql"


@pytest.fixture(scope="session")
def aws() -> Iterator[AwsServer]:
    """S3 on loopback, for COPY."""
    with AwsServer() as aws:
        aws.create(bucket=BUCKET)
        yield aws


@pytest.fixture(scope="session")
def server(aws) -> Iterator[RedshiftServer]:
    """A Redshift on loopback."""
    with RedshiftServer(s3_endpoint=aws.url) as server:
        yield server


@pytest.fixture(scope="session")
def connect(server):
    """Open a connection as Airflow's hook does."""

    def connect():
        return redshift_connector.connect(
            host=server.host, port=server.port, database=server.database, user=server.user, password=server.password, ssl=False
        )

    return connect


@pytest.fixture
def new_warehouse(connect) -> Iterator[Warehouse]:
    """A schema that is not there yet."""
    made = Warehouse(connect, f"polku_{secrets.token_hex(4)}")
    yield made
    made.write("drop schema if exists {s} cascade")
    made.close()


@pytest.fixture(scope="session")
def _migrated(connect) -> Iterator[Warehouse]:
    made = Warehouse(connect, f"polku_{secrets.token_hex(4)}")
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def warehouse(_migrated) -> Warehouse:
    """A schema as polku_migrate leaves it: made once, emptied for each test."""
    _migrated.empty()
    return _migrated


@pytest.fixture
def put_staged(aws):
    """Put staged objects and the manifest that names them into S3; return the manifest's address."""

    def put_staged(name, *objects):
        s3 = aws.client("s3")
        entries = []
        for number, data in enumerate(objects):
            key = f"staged/{name}/{number}.zst"
            s3.put_object(Bucket=BUCKET, Key=key, Body=data)
            entries.append({"url": f"s3://{BUCKET}/{key}", "mandatory": True})
        s3.put_object(Bucket=BUCKET, Key=f"load/{name}.manifest", Body=json.dumps({"entries": entries}).encode())
        return f"s3://{BUCKET}/load/{name}.manifest"

    return put_staged


@pytest.fixture
def until_locked(server):
    """Wait until some transaction waits for a lock; look below Redshift, in PostgreSQL."""

    def until_locked():
        deadline = time.monotonic() + 30
        with server._postgres.connect(server.database) as admin:
            while not admin.execute("select count(*) from pg_locks where not granted").fetchone()[0]:
                assert time.monotonic() < deadline, "nobody waits for a lock"

    return until_locked
