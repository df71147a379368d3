"""The local AWS answers the real boto3."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from local.aws import AwsServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def aws():
    with AwsServer() as server:
        yield server


@pytest.fixture
def name():
    """A name of its own for each test: moto's state is the process's."""
    return f"polku-{uuid.uuid4().hex[:12]}"


def test_buckets_and_streams_are_created_once(aws, name):
    """A second start of the stack finds them there."""
    for _ in range(2):
        aws.create(bucket=name, streams={name: 3})

    shards = aws.client("kinesis").list_shards(StreamName=name)["Shards"]
    assert len(shards) == 3
    assert name in [bucket["Name"] for bucket in aws.client("s3").list_buckets()["Buckets"]]


def test_a_client_configured_by_the_environment_alone_finds_it(aws, name, monkeypatch):
    """What the product and the AWS CLI do."""
    for key, value in aws.env.items():
        monkeypatch.setenv(key, value)
    aws.create(bucket=name)

    boto3.session.Session().client("s3").put_object(Bucket=name, Key="a/b", Body=b"hello")

    assert aws.client("s3").get_object(Bucket=name, Key="a/b")["Body"].read() == b"hello"


def test_a_conditional_write_is_refused_where_the_object_changed(aws, name):
    """The commit protocol stands on it."""
    aws.create(bucket=name)
    s3 = aws.client("s3")
    old = s3.put_object(Bucket=name, Key="state", Body=b"1")["ETag"]
    s3.put_object(Bucket=name, Key="state", Body=b"2")

    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=name, Key="state", Body=b"3", IfMatch=old)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=name, Key="state", Body=b"3", IfNoneMatch="*")

    assert s3.get_object(Bucket=name, Key="state")["Body"].read() == b"2"


def test_records_come_back_as_they_went_in(aws, name):
    """Bytes, not text."""
    aws.create(streams={name: 1})
    kinesis = aws.client("kinesis")
    kinesis.put_record(StreamName=name, Data=b"\x00\xff{", PartitionKey="k")

    shard = kinesis.list_shards(StreamName=name)["Shards"][0]["ShardId"]
    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    assert [record["Data"] for record in kinesis.get_records(ShardIterator=iterator)["Records"]] == [b"\x00\xff{"]


def test_it_listens_on_loopback_alone(aws):
    """The stack must not be reachable from the network."""
    assert aws._server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "arguments",
    [
        ["local.aws", "--bucket", "polku-dev", "--stream", "server=2"],
        ["local.slack", "--channel", "#polku"],
        ["local.sentry"],
        ["local.api", "--kinesis-url", "http://127.0.0.1:9", "--stream", "server=s"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_each_stand_in_runs_as_a_process_of_its_own(arguments):
    """One line says that it is ready and where; SIGTERM ends it."""
    process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        word, url = process.stdout.readline().split()
        origin = "http://127.0.0.1:" + url.split("127.0.0.1:")[1].split("/")[0]
        with urllib.request.urlopen(origin) as answer:
            status = answer.status
    finally:
        process.terminate()
        code = process.wait(timeout=20)
        process.stdout.close()

    assert word == "ready"
    assert status == 200
    assert code == 0
