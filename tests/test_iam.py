"""The policies of deploy/iam allow what the clients do, and nothing else: both are compared, action by action and prefix by prefix."""

from __future__ import annotations

import json
import os
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import botocore.handlers
import pytest

from local.api import ApiServer
from local.kinesis import KinesisServer
from polku import archive, s3_buffer
from polku.settings import Settings
from tests.delivery import event

POLICIES = Path(__file__).resolve().parents[1] / "deploy" / "iam"
BUCKET = "arn:aws:s3:::${bucket}"
STREAMS = {f"arn:aws:kinesis:${{region}}:${{account}}:stream/${{{source}_stream}}" for source in ("server", "client")}


class Requests:
    """The AWS requests that were made while it listened, as the IAM actions that they need and where."""

    def __init__(self):
        self.needed = set()
        self.written_once = set()

    def __call__(self, params, model, **_):
        """Note a request; botocore calls this before it makes one."""
        service, operation = model.service_model.service_name, model.name
        if service == "kinesis":
            self.needed |= {(f"kinesis:{operation}", stream) for stream in STREAMS}
            return
        assert service == "s3", service
        key = params.get("Key") or params.get("Prefix")
        place = key.partition("/")[0] + "/*"
        self.needed |= set(ACTIONS[operation](params, place))
        if operation == "PutObject" and "IfNoneMatch" in params:
            self.written_once.add(place.removesuffix("*"))


def reads(_, place):
    """S3 answers 404 for an object that is not there only to those who may list it, else 403 (API reference, GetObject)."""
    return [("s3:GetObject", place), ("s3:ListBucket", place)]


def conditional(action):
    """A write or delete with If-Match needs the right to read as well (user guide, "Enforce conditional deletes")."""
    return lambda params, place: [(action, place), *(reads(params, place) if "IfMatch" in params else [])]


def copies(params, place):
    """Copying reads the one and writes the other."""
    assert params.get("TaggingDirective", "REPLACE") == "REPLACE", "a copy that takes tags along needs s3:GetObjectTagging"
    return [("s3:PutObject", place), *reads(params, params["CopySource"]["Key"].partition("/")[0] + "/*")]


ACTIONS = {
    "ListObjectsV2": lambda _, place: [("s3:ListBucket", place)],
    "GetObject": reads,
    "HeadObject": reads,
    "PutObject": conditional("s3:PutObject"),
    "DeleteObject": conditional("s3:DeleteObject"),
    "CopyObject": copies,
    "UploadPartCopy": copies,
    "CreateMultipartUpload": lambda _, place: [("s3:PutObject", place)],
    "CompleteMultipartUpload": lambda _, place: [("s3:PutObject", place)],
    "AbortMultipartUpload": lambda _, place: [("s3:AbortMultipartUpload", place)],
}
"""What each operation needs (user guide, "Required permissions for Amazon S3 API operations"); one that is not here fails the test."""


def allowed(name):
    """Return what a policy allows, as ``Requests`` has it."""
    found = set()
    for statement in json.loads((POLICIES / f"{name}.json").read_text())["Statement"]:
        assert statement["Effect"] == "Allow"
        places = [resource.removeprefix(f"{BUCKET}/") for resource in statement["Resource"]]
        if "Condition" in statement:
            assert statement["Resource"] == [BUCKET]
            places = statement["Condition"]["StringLike"]["s3:prefix"]
        new = {(action, place) for action in statement["Action"] for place in places}
        assert not new & found, "allowed twice"
        found |= new
    return found


@contextmanager
def listening(client):
    """Listen to one client that is there already."""
    requests = Requests()
    client.meta.events.register("provide-client-params", requests)
    try:
        yield requests
    finally:
        client.meta.events.unregister("provide-client-params", requests)


@pytest.fixture
def requests(delivery, slack, monkeypatch):
    """Listen to every client that the product makes; those of the test were made before."""
    heard = Requests()
    monkeypatch.setattr(botocore.handlers, "BUILTIN_HANDLERS", [*botocore.handlers.BUILTIN_HANDLERS, ("provide-client-params", heard)])
    for name, value in (("SLACK_TOKEN", "xoxb-test"), ("SLACK_CHANNEL", "C1"), ("SLACK_API_URL", slack.url)):
        monkeypatch.setenv(name, value)
    return heard


def test_airflows_role_may_do_what_the_dags_do_and_nothing_else(delivery, requests):
    """A missing action would stop the pipeline; one too many would be there for an attacker."""
    from polku import tasks

    for source in ("server", "client"):
        delivery.put(source, event("a"), b"no JSON")
        delivery.drop(source, event("b"))
        delivery.run(source, 0)
        assert delivery.replay(source, 0)
        delivery.audit(source, minutes=10)
        assert delivery.trace("a", source, ranged=True)
    tasks.watch.function()
    _lose_answers(requests)
    _copy_a_large_file(delivery, requests)

    assert requests.needed == allowed("airflow")


def _lose_answers(requests):
    """Let the answer to each kind of object that is written once be lost: the second try looks whose the object is."""
    from polku import connections

    settings = Settings.from_env(os.environ)
    assert requests.written_once >= {"raw/", "staged/", "quarantine/", "load/"}
    for prefix in sorted(requests.written_once):
        for _ in range(2):
            archive.put_once(connections.s3(settings), settings.bucket, f"{prefix}again", b"the same")


def _copy_a_large_file(delivery, requests):
    """Copy a buffer file in parts, once to its end and once until it is replaced."""
    from polku import connections

    settings = Settings.from_env(os.environ)
    client = connections.s3(settings)
    delivery.drop("server", event("c"))
    [file] = s3_buffer.list_files(client, settings.bucket, "buffer/server/", leave=(), max_files=1, max_bytes=1)
    assert s3_buffer.copy_file(client, settings.bucket, file, "raw/one", copy_bytes=1, part_bytes=5 << 20)
    delivery.s3.put_object(Bucket=settings.bucket, Key=file.key, Body=b"another")
    assert not s3_buffer.copy_file(client, settings.bucket, file, "raw/other", copy_bytes=1, part_bytes=5 << 20)
    assert ("s3:AbortMultipartUpload", "raw/*") in requests.needed


def test_the_role_of_copy_may_read_what_is_staged_and_nothing_else(delivery, redshift):
    """It is used inside Redshift, where anybody who may write COPY can use it."""
    delivery.put("server", event("a"))
    with listening(redshift._s3.client) as requests:
        delivery.run("server", 0)

    whole = {(action, place) if action != "s3:ListBucket" else (action, BUCKET) for action, place in requests.needed}
    assert whole == allowed("redshift_copy")


def test_the_front_door_may_put_records_and_nothing_else():
    """It faces the Internet."""
    with KinesisServer() as streams, ApiServer(streams={"server": "s"}, kinesis_url=streams.url) as api:
        api._kinesis.create_stream(StreamName="s", ShardCount=1)
        with listening(api._kinesis) as requests:
            request = urllib.request.Request(f"{api.url}/server", event("a"), {"x-api-key": api.key})
            assert json.load(urllib.request.urlopen(request))["success"]

    assert requests.needed == allowed("front_door")


@pytest.mark.parametrize("path", sorted(POLICIES.glob("*.json")), ids=lambda path: path.stem)
def test_a_policy_names_single_actions_and_single_places(path):
    """A star in an action, or a bucket as a whole, grows with every release of AWS and of Polku."""
    policy = json.loads(path.read_text())

    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        assert not [action for action in statement["Action"] if "*" in action]
        assert not [place for place in statement["Resource"] if place in ("*", f"{BUCKET}/*") or "stream/*" in place]
