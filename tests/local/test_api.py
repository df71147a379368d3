"""The front door takes what Segment's libraries and browsers send, and puts one record a body into Kinesis."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from segment.analytics.client import Client

from local.api import MAX_BODY, ApiServer
from local.aws import AwsServer

KEY = {"x-api-key": "polku-local"}
EVENT = {"type": "track", "event": "Signed Up", "userId": "u1", "messageId": "m1"}


@pytest.fixture(scope="module")
def aws():
    with AwsServer() as server:
        yield server


@pytest.fixture
def streams(aws):
    """A stream of its own for each source and test."""
    names = {source: f"{source}-{uuid.uuid4().hex[:12]}" for source in ("server", "client")}
    aws.create(streams=dict.fromkeys(names.values(), 1))
    return names


@pytest.fixture
def api(aws, streams):
    with ApiServer(streams=streams, kinesis_url=aws.url) as server:
        yield server


@pytest.fixture
def records(aws, streams):
    """Return what is in a source's stream, decoded."""

    def read(source):
        kinesis, name = aws.client("kinesis"), streams[source]
        shard = kinesis.list_shards(StreamName=name)["Shards"][0]["ShardId"]
        iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        return [json.loads(record["Data"]) for record in kinesis.get_records(ShardIterator=iterator)["Records"]]

    return read


def test_an_event_becomes_one_record_with_its_address(api, records):
    """The envelope says which source the event was posted to."""
    answer = requests.post(f"{api.url}/client", json={**EVENT, "sentAt": "2026-11-24T10:00:00Z"}, headers=KEY)

    assert (answer.status_code, answer.json()) == (200, {"success": True})
    [record] = records("client")
    assert record["event"] == {**EVENT, "sentAt": "2026-11-24T10:00:00Z"}
    assert record["sentAt"] == "2026-11-24T10:00:00Z"
    assert record["context"]["resourcePath"] == "/client"
    assert records("server") == []


@pytest.mark.parametrize("compress", [True, False], ids=["gzip", "plain"])
@pytest.mark.parametrize("source", ["server", "client"])
def test_segments_own_library_delivers_through_it(api, records, source, compress):
    """A host and a write key are all that it is told."""
    errors = []
    client = Client("polku-local", host=f"{api.url}/{source}", gzip=compress, on_error=lambda error, _: errors.append(error), max_retries=0)
    for number in range(3):
        client.track(f"u{number}", "Signed Up", {"n": number})
    client.identify("u0", {"plan": "pro"})
    client.shutdown()

    events = [event for record in records(source) for event in record["event"]["batch"]]
    assert errors == []
    assert [(event["type"], event["userId"]) for event in events] == [("track", "u0"), ("track", "u1"), ("track", "u2"), ("identify", "u0")]


def test_a_batch_stays_one_record(api, records):
    """So that it is accepted or refused as a whole."""
    requests.post(f"{api.url}/server/v1/batch", json={"batch": [EVENT] * 20}, headers=KEY).raise_for_status()

    assert len(records("server")) == 1


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("v1/track", "track"),
        ("v1/t", "track"),
        ("v1/identify", "identify"),
        ("page", "page"),
        ("v1/screen/", "screen"),
        ("v1/g", "group"),
        ("alias", "alias"),
    ],
)
def test_a_call_named_by_its_path_gets_its_type(api, records, path, kind):
    """Segment's HTTP API leaves the type out of such a body."""
    requests.post(f"{api.url}/server/{path}", json={"userId": "u1"}, headers=KEY).raise_for_status()
    requests.post(f"{api.url}/server/{path}", data="{}", headers=KEY).raise_for_status()

    assert [record["event"] for record in records("server")] == [{"type": kind, "userId": "u1"}, {"type": kind}]


def test_a_stage_before_the_path_is_passed_over(api, records):
    """As in an address of API Gateway."""
    requests.post(f"{api.url}/prod/server", json=EVENT, headers=KEY).raise_for_status()

    assert records("server")[0]["context"]["resourcePath"] == "/server"


def test_the_body_is_kept_to_the_byte(aws, api, streams):
    """Numbers, escapes, order and white space of an event are its sender's."""
    body = b'{ "b":1.0, "a":12345678901234567890, "u":"\\u00e4\xc3\xa4", "half":"\\ud83d" }'

    requests.post(f"{api.url}/server", data=body, headers=KEY).raise_for_status()

    kinesis = aws.client("kinesis")
    shard = kinesis.list_shards(StreamName=streams["server"])["Shards"][0]["ShardId"]
    iterator = kinesis.get_shard_iterator(StreamName=streams["server"], ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    assert body in kinesis.get_records(ShardIterator=iterator)["Records"][0]["Data"]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param(KEY, {}, id="x-api-key"),
        pytest.param({"Authorization": "Basic " + base64.b64encode(b"polku-local:").decode()}, {}, id="Basic"),
        pytest.param({"Authorization": "Bearer polku-local"}, {}, id="Bearer"),
        pytest.param({"Content-Type": "text/plain"}, {"writeKey": "polku-local"}, id="in the body, as browsers do"),
    ],
)
def test_the_key_is_found_where_libraries_put_it(api, headers, body):
    """Each of Segment's libraries has its own way."""
    assert requests.post(f"{api.url}/client", data=json.dumps({**EVENT, **body}), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"x-api-key": "wrong"}, 403), ({"Authorization": "Basic d3Jvbmc6"}, 403), ({"Authorization": "Basic ?"}, 401)],
    ids=["none", "wrong", "wrong user", "not base64"],
)
def test_without_the_right_key_nothing_gets_in(api, records, headers, status):
    """A refusal leaves no record."""
    assert requests.post(f"{api.url}/server", json=EVENT, headers=headers).status_code == status
    assert records("server") == []


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        pytest.param(b"{", "", id="broken JSON"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b"[1]", "", id="an array"),
        pytest.param(b'{"a":"\xff"}', "", id="not UTF-8"),
        pytest.param(b'{"a":' + b"[" * 100_000, "", id="a hundred thousand brackets"),
        pytest.param(gzip.compress(b'{"a": "some text"}')[:-6], "gzip", id="gzip cut off"),
        pytest.param(b"{}", "gzip", id="no gzip"),
        pytest.param(b"{}", "br", id="unknown encoding"),
    ],
)
def test_what_is_no_json_object_is_refused(api, records, body, encoding):
    """The producer learns at once that it is broken."""
    answer = requests.post(f"{api.url}/server", data=body, headers={**KEY, **({"Content-Encoding": encoding} if encoding else {})})

    assert answer.status_code == 400
    assert answer.json()["success"] is False
    assert records("server") == []


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_compressed_bodies_are_opened(api, records, compress):
    """Both encodings that API Gateway opens."""
    encoding = "gzip" if compress is gzip.compress else "deflate"

    requests.post(
        f"{api.url}/server", data=compress(json.dumps(EVENT).encode()), headers={**KEY, "Content-Encoding": encoding}
    ).raise_for_status()

    assert records("server")[0]["event"] == EVENT


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        pytest.param(b'{"a":"' + b"x" * MAX_BODY + b'"}', "identity", id="plain"),
        pytest.param(b'{"a":"' + b"x" * (MAX_BODY - 8) + b'"}', "identity", id="fits, but not its record"),
        pytest.param(gzip.compress(b'{"a":"' + b"x" * (100 << 20) + b'"}', 1), "gzip", id="a bomb of 100 MB"),
    ],
)
def test_a_body_over_ten_megabytes_is_refused(api, records, body, encoding):
    """Before it is opened and after; no more than that is ever held."""
    answer = requests.post(f"{api.url}/server", data=body, headers={**KEY, "Content-Encoding": encoding})

    assert answer.status_code == 413
    assert records("server") == []


def test_a_chunked_body_is_read(api, records):
    """Some clients do not know the length beforehand."""
    requests.post(f"{api.url}/server", data=iter([b'{"type":', b'"track"}']), headers=KEY).raise_for_status()

    assert records("server")[0]["event"] == {"type": "track"}


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"Content-Length: 1000\r\n\r\n", id="length"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n10\r\n", id="chunks"),
    ],
)
def test_a_body_that_breaks_off_is_neither_acknowledged_nor_kept(api, records, start):
    """Also where what came of it is JSON by itself: half a batch would stand for the whole."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as connection:
        connection.sendall(b"POST /server HTTP/1.1\r\nHost: local\r\nx-api-key: polku-local\r\n" + start + b'{"type":"track"}')
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1000)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert records("server") == []


def test_an_address_that_is_no_source_is_not_found(api):
    """Nor is a call that Segment does not know."""
    assert requests.post(f"{api.url}/other", json=EVENT, headers=KEY).status_code == 404
    assert requests.post(f"{api.url}/server/v1/unknown", json=EVENT, headers=KEY).status_code == 404
    assert requests.get(f"{api.url}/server").status_code == 405


def test_browsers_may_post_from_any_page(api):
    """analytics.js asks first."""
    asked = requests.options(f"{api.url}/client/v1/t", headers={"Origin": "https://example.com", "Access-Control-Request-Method": "POST"})
    answer = requests.post(f"{api.url}/client/v1/t", json=EVENT, headers=KEY)

    assert asked.status_code == 204
    assert "content-type" in asked.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_nothing_is_acknowledged_while_kinesis_is_away():
    """503 makes Segment's libraries try again."""
    with ApiServer(streams={"server": "s"}, kinesis_url="http://127.0.0.1:9") as api:
        answer = requests.post(f"{api.url}/server", json=EVENT, headers=KEY)

        assert answer.status_code == 503
        assert api.accepted == 0


def test_a_stream_that_is_not_there_is_not_acknowledged(aws):
    """The error names Kinesis' code."""
    with ApiServer(streams={"server": f"missing-{uuid.uuid4().hex}"}, kinesis_url=aws.url) as api:
        answer = requests.post(f"{api.url}/server", json=EVENT, headers=KEY)

    assert answer.status_code == 503
    assert "ResourceNotFoundException" in answer.text


def test_many_post_at_once_over_connections_that_stay_open(api, records):
    """Each gets its own answer, and every event arrives."""

    def send(first):
        with requests.Session() as session:
            return [session.post(f"{api.url}/server", json={**EVENT, "n": first + n}, headers=KEY).status_code for n in range(10)]

    with ThreadPoolExecutor(8) as pool:
        statuses = [status for answer in pool.map(send, range(0, 80, 10)) for status in answer]

    assert statuses == [200] * 80
    assert sorted(record["event"]["n"] for record in records("server")) == list(range(80))


def test_events_of_one_user_keep_their_order(aws, api, streams):
    """They share a partition key, which does not show who it is."""
    for user in ("u1", "u1", "u2"):
        requests.post(f"{api.url}/server", json={**EVENT, "userId": user}, headers=KEY).raise_for_status()

    kinesis = aws.client("kinesis")
    shard = kinesis.list_shards(StreamName=streams["server"])["Shards"][0]["ShardId"]
    iterator = kinesis.get_shard_iterator(StreamName=streams["server"], ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    first, second, third = (record["PartitionKey"] for record in kinesis.get_records(ShardIterator=iterator)["Records"])
    assert first == second != third
    assert "u1" not in first


def test_health_tells_what_it_has_accepted(api):
    """Whoever starts the stack waits for it."""
    requests.post(f"{api.url}/server", json=EVENT, headers=KEY).raise_for_status()

    assert requests.get(api.url).json()["accepted"] == 1
