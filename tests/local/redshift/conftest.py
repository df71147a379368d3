"""
One server for all of these tests, a schema of its own for each.

They are a contract: with CONTRACT_REDSHIFT_URL (and CONTRACT_BUCKET, CONTRACT_IAM_ROLE for COPY) they run against a real Redshift.
What only a stand-in can do (faults, its own life) is marked ``stand_in`` and left out there.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest
import redshift_connector

from local.aws import AwsServer
from local.redshift import RedshiftServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REAL = os.environ.get("CONTRACT_REDSHIFT_URL", "")


class Bucket:
    """A bucket that the server under test reads from."""

    def __init__(self, client: Any, name: str, role: str) -> None:
        self.client, self.name, self.role = client, name, role

    def put(self, key: str, body: bytes) -> str:
        """Write an object; return its address."""
        self.client.put_object(Bucket=self.name, Key=key, Body=body)
        return f"s3://{self.name}/{key}"

    def manifest(self, key: str, *urls: str, mandatory: bool = True) -> str:
        """Write a manifest that names these objects; return its address."""
        return self.put(key, json.dumps({"entries": [{"url": url, "mandatory": mandatory} for url in urls]}).encode())


class Target:
    """Where the tests run, and how to get in."""

    def __init__(self, server: RedshiftServer | None) -> None:
        self.server = server
        if server:
            self.options: dict[str, Any] = {
                "host": server.host, "port": server.port, "user": server.user, "password": server.password,
                "database": server.database, "ssl": False,
            }  # fmt: skip
        else:
            parts = urlsplit(REAL)
            self.options = {
                "host": parts.hostname, "port": parts.port or 5439, "user": parts.username, "password": parts.password,
                "database": parts.path[1:],
            }  # fmt: skip

    def connect(self, **options: Any) -> redshift_connector.Connection:
        """Open a connection as Airflow's hook does."""
        return redshift_connector.connect(**{**self.options, **options})


@pytest.fixture(scope="session")
def s3() -> Iterator[Any]:
    """The S3 that COPY reads."""
    if REAL:
        yield boto3.client("s3")
        return
    with AwsServer() as aws:
        yield boto3.client("s3", endpoint_url=aws.url, region_name="us-east-1", aws_access_key_id="local", aws_secret_access_key="local")


@pytest.fixture(scope="session")
def target(s3: Any) -> Iterator[Target]:
    """The server under test."""
    if REAL:
        yield Target(None)
        return
    with RedshiftServer(s3_endpoint=s3.meta.endpoint_url) as server:
        yield Target(server)


@pytest.fixture(scope="session")
def bucket(s3: Any) -> Bucket:
    """A bucket for all of the tests; each takes keys of its own."""
    name = os.environ.get("CONTRACT_BUCKET", f"redshift-{secrets.token_hex(4)}")
    if not REAL:
        s3.create_bucket(Bucket=name)
    return Bucket(s3, name, os.environ.get("CONTRACT_IAM_ROLE", "arn:aws:iam::123456789012:role/local"))


@pytest.fixture
def server(target: Target) -> Iterator[RedshiftServer]:
    """The stand-in itself, for what only it can do."""
    if target.server is None:
        pytest.skip("a real Redshift has no faults on demand")
    yield target.server
    target.server.clear_faults()


@pytest.fixture
def schema(target: Target) -> Iterator[str]:
    """A schema of the test's own."""
    name = f"t_{secrets.token_hex(4)}"
    with target.connect() as connection:
        connection.autocommit = True
        connection.cursor().execute(f"create schema {name}")
    yield name
    with target.connect() as connection:
        connection.autocommit = True
        connection.cursor().execute(f"drop schema {name} cascade")


@pytest.fixture
def connect(target: Target, schema: str) -> Iterator[Callable[..., redshift_connector.Connection]]:
    """Open connections whose search path is the test's schema; they are closed at the end."""
    opened = []

    def open_one(**options: Any) -> redshift_connector.Connection:
        connection = target.connect(**options)
        opened.append(connection)
        connection.cursor().execute(f"set search_path to {schema}")
        connection.commit()
        return connection

    yield open_one
    for connection in opened:
        with contextlib.suppress(redshift_connector.InterfaceError):
            connection.close()


@pytest.fixture
def run(connect: Callable[..., redshift_connector.Connection]) -> Callable[..., list[list[Any]]]:
    """Run one statement on the test's first connection, and return its rows."""
    connection = connect()
    connection.autocommit = True

    def run_one(sql: str, *parameters: Any) -> list[list[Any]]:
        cursor = connection.cursor()
        cursor.execute(sql, parameters or None)
        return [list(row) for row in cursor.fetchall()] if cursor.description else []

    return run_one


@pytest.fixture
def refusal(run: Callable[..., list[list[Any]]]) -> Callable[[str], tuple[str, str]]:
    """Run a statement that has to fail; return SQLSTATE and message."""

    def refused(sql: str) -> tuple[str, str]:
        with pytest.raises(redshift_connector.ProgrammingError) as caught:
            run(sql)
        fields = caught.value.args[0]
        return fields["C"], fields["M"]

    return refused
