"""
What all tests share: an environment without the developer's own addresses, and local servers that start when a test asks for them.

Servers live as long as the session (each worker of xdist has its own); a test takes a bucket or a schema of its own in them.
"""

from __future__ import annotations

import os
import tempfile
import uuid

import pytest

_OWN = ("AIRFLOW_", "AWS_", "HUMILIS_", "POLKU_", "REDSHIFT_", "SENTRY_", "SLACK_")

for _name in [name for name in os.environ if name.startswith(_OWN)]:
    del os.environ[_name]
# Airflow reads these when it is imported, and writes to its home.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="polku-airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "True"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


def pytest_collection_modifyitems(items):
    """Start with what takes longest, so that it runs beside all the rest."""
    items.sort(key=lambda item: item.get_closest_marker("end_to_end") is None)


def pytest_sessionfinish():
    """Remove Airflow's home."""
    import shutil

    shutil.rmtree(os.environ["AIRFLOW_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def aws():
    """moto: S3, and Kinesis as moto has it."""
    from local.aws import AwsServer

    with AwsServer() as server:
        yield server


@pytest.fixture(scope="session")
def kinesis():
    """Our own, stricter Kinesis."""
    from local.kinesis import KinesisServer

    with KinesisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redshift(aws):
    """The local Redshift; COPY reads from ``aws``."""
    from local.redshift import RedshiftServer

    with RedshiftServer(s3_endpoint=aws.url) as server:
        yield server


@pytest.fixture
def slack():
    """An empty Slack without a rate limit."""
    from local.slack import SlackServer

    with SlackServer(rate=None) as server:
        yield server


@pytest.fixture
def sentry():
    """An empty Sentry."""
    from local.sentry import SentryServer

    with SentryServer() as server:
        yield server


@pytest.fixture
def bucket(aws):
    """Return a bucket of the test's own."""
    name = f"test-{uuid.uuid4().hex}"
    aws.create(bucket=name)
    return name


@pytest.fixture
def schema():
    """Return a name for a schema of the test's own."""
    return f"test_{uuid.uuid4().hex}"


@pytest.fixture
def delivery(tmp_path, aws, kinesis, redshift):
    """Both sources, delivered without a scheduler; see tests/delivery.py."""
    from tests.delivery import delivering

    with delivering(tmp_path, aws, kinesis, redshift) as delivery:
        yield delivery
