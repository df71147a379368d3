"""
Clients and hooks, from Airflow's connections where they are defined, else from the owner's variables.

``aws_default`` falls back to boto3's own chain (environment, role). ``redshift_default`` and ``slack_default`` are
put into this process's environment, where Airflow looks first, when nobody has defined them.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from polku import kinesis

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client
    from slack_sdk import WebClient

    from polku.settings import Settings

_S3_CONFIG: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 60,
    "retries": {"mode": "standard", "total_max_attempts": 5},
    "max_pool_connections": 16,
    "tcp_keepalive": True,
}

LOGIN_SECONDS = 60
"""How long a login to Redshift may take; statements may take as long as the task."""


def s3(settings: Settings) -> S3Client:
    """Return a client of the bucket's region."""
    client: S3Client = _client("s3", settings, _S3_CONFIG)
    return client


def streams(settings: Settings) -> KinesisClient:
    """Return a client of Kinesis."""
    client: KinesisClient = _client("kinesis", settings, kinesis.CONFIG)
    return client


def provide_redshift(settings: Settings) -> None:
    """Make ``redshift_default`` known to hooks. Raises SettingsError where neither it nor the variables are there."""
    if not _is_defined("redshift_default"):
        redshift = settings.redshift
        _define(
            "redshift_default",
            conn_type="redshift",
            host=redshift.host,
            port=redshift.port,
            schema=redshift.db,
            login=redshift.user,
            password=redshift.password,
            extra=redshift.options,
        )


def redshift_hook(**options: Any) -> RedshiftSQLHook:
    """
    Return a hook of ``redshift_default`` that tries one login, where Airflow's tries five.

    A login is repeated by Airflow's retries of the task and by the next run, so a Redshift that is away hears of us a few times a minute.

    Args:
        options: What redshift_connector is told besides, e.g. ``timeout``: seconds for the login and for each statement.
    """
    import redshift_connector
    from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook

    class OneLogin(RedshiftSQLHook):
        def get_conn(self) -> Any:
            given = {**self._get_conn_params(), **self.conn.extra_dejson, **options}
            connection = redshift_connector.connect(**{"timeout": LOGIN_SECONDS, **given})
            if "timeout" not in given:
                connection._usock.settimeout(None)  # noqa: SLF001 -- the driver's time limit holds for every answer; COPY may take longer
            return connection

    return OneLogin(redshift_conn_id="redshift_default")


def redshift(settings: Settings, **options: Any) -> Any:
    """Return a DB-API connection to Redshift, without autocommit, for the caller to close; for ``options`` see ``redshift_hook``."""
    provide_redshift(settings)
    return redshift_hook(**options).get_conn()


def slack(settings: Settings) -> WebClient:
    """Return a client of Slack's Web API that never repeats a post by itself. Raises SettingsError where no token is there."""
    from airflow.providers.slack.hooks.slack import SlackHook

    if not _is_defined("slack_default"):
        _define("slack_default", conn_type="slack", password=settings.slack.token, extra=settings.slack.options)
    return SlackHook(slack_conn_id="slack_default", retry_handlers=[]).get_conn()


def _client(service: str, settings: Settings, config: dict[str, Any]) -> Any:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from botocore.config import Config

    botocore = logging.getLogger("botocore")
    botocore.setLevel(max(botocore.getEffectiveLevel(), logging.INFO))  # its DEBUG lines hold the session token of the worker's role
    hook = AwsBaseHook(aws_conn_id="aws_default", client_type=service, region_name=settings.region, config=Config(**config))
    return hook.get_conn()


def _is_defined(conn_id: str) -> bool:
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return False
    return bool(connection.host or connection.password)  # Airflow's own empty examples do not count


def _define(conn_id: str, **fields: Any) -> None:
    os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(fields)
