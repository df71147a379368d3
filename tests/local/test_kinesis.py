"""The local Kinesis answers the real boto3, and refuses what Kinesis refuses."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.kinesis import KinesisServer

ROOT = Path(__file__).resolve().parents[2]
FIRST = "shardId-000000000000"
HALF = str(1 << 127)


def client_of(url):
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "eu-west-1"}
    return boto3.client("kinesis", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}, parameter_validation=False), **keys)


@pytest.fixture
def server():
    with KinesisServer() as running:
        yield running


@pytest.fixture
def client(server):
    made = client_of(server.url)
    made.create_stream(StreamName="s", ShardCount=1)
    yield made
    made.close()


def put(client, *data, **more):
    return [client.put_record(StreamName="s", Data=d, PartitionKey="k", **more)["SequenceNumber"] for d in data]


def iterator(client, kind="TRIM_HORIZON", shard=FIRST, **more):
    return client.get_shard_iterator(StreamName="s", ShardId=shard, ShardIteratorType=kind, **more)["ShardIterator"]


def read(client, *arguments, **more):
    return [r["Data"] for r in client.get_records(ShardIterator=iterator(client, *arguments, **more))["Records"]]


def shard_ids(client, **more):
    return [int(s["ShardId"].removeprefix("shardId-")) for s in client.list_shards(StreamName="s", **more)["Shards"]]


def refused(code):
    return pytest.raises(ClientError, match=code)


def test_sequence_numbers_have_56_digits_and_grow(client):
    """They are compared as text where they are padded to 56, and as numbers elsewhere."""
    numbers = put(client, *[b"x"] * 300)

    assert {len(n) for n in numbers} == {56}
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 300


def test_a_childs_numbers_are_greater_than_its_parents(client):
    """Even when the split follows within the second."""
    (before,) = put(client, b"1")
    client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey=HALF)

    (after,) = put(client, b"2")

    assert after > before


def test_records_are_read_from_where_the_iterator_says(client):
    """All five kinds of iterator."""
    first, second, _ = put(client, b"1", b"2", b"3")

    assert read(client) == [b"1", b"2", b"3"]
    assert read(client, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=second) == [b"2", b"3"]
    assert read(client, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=first) == [b"2", b"3"]
    assert read(client, "LATEST") == []
    assert read(client, "AT_TIMESTAMP", Timestamp=0) == [b"1", b"2", b"3"]


def test_an_answer_says_how_far_behind_it_is(client):
    """0 only where nothing is left."""
    put(client, b"1", b"2")

    one = client.get_records(ShardIterator=iterator(client), Limit=1)
    two = client.get_records(ShardIterator=one["NextShardIterator"], Limit=1)

    assert one["MillisBehindLatest"] > 0
    assert two["MillisBehindLatest"] == 0
    assert [r["Data"] for r in one["Records"] + two["Records"]] == [b"1", b"2"]
    assert one["Records"][0]["PartitionKey"] == "k"


def test_an_answer_has_at_most_10_mb(client):
    """But one record at least."""
    put(client, *[b"x" * (4 << 20)] * 3)

    assert [len(d) for d in read(client)] == [4 << 20] * 2


def test_records_go_to_the_shard_of_their_hash(client):
    """By the MD5 of the key, or by an explicit hash."""
    client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey=HALF)

    low = client.put_record(StreamName="s", Data=b"l", PartitionKey="k", ExplicitHashKey=str((1 << 127) - 1))
    high = client.put_record(StreamName="s", Data=b"h", PartitionKey="k", ExplicitHashKey=HALF)

    assert [low["ShardId"][-1], high["ShardId"][-1]] == ["1", "2"]


@pytest.mark.parametrize("name_children", [True, False])
def test_a_closed_shard_keeps_its_records_and_ends_with_a_null_iterator(client, server, name_children):
    """A split moves nothing; the last answer names the children, on some servers."""
    server.name_children = name_children
    put(client, b"1", b"2")
    client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey=HALF)

    one = client.get_records(ShardIterator=iterator(client), Limit=1)
    last = client.get_records(ShardIterator=one["NextShardIterator"])

    assert [r["Data"] for r in last["Records"]] == [b"2"]
    assert "NextShardIterator" not in last
    assert len(last.get("ChildShards", [])) == (2 if name_children else 0)
    assert read(client, shard="shardId-000000000001") == []


def test_a_merged_shard_names_both_its_parents(client):
    """The second as AdjacentParentShardId; both parents tell their last sequence number."""
    client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey=HALF)
    client.merge_shards(StreamName="s", ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002")

    shards = client.list_shards(StreamName="s")["Shards"]

    assert [shards[3]["ParentShardId"][-1], shards[3]["AdjacentParentShardId"][-1]] == ["1", "2"]
    assert ["EndingSequenceNumber" in s["SequenceNumberRange"] for s in shards] == [True, True, True, False]


def test_the_number_of_shards_can_be_set(client):
    """By splits, then by merges; every hash belongs to one open shard."""
    client.update_shard_count(StreamName="s", TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    client.update_shard_count(StreamName="s", TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    client.update_shard_count(StreamName="s", TargetShardCount=3, ScalingType="UNIFORM_SCALING")

    shards = [s["HashKeyRange"] for s in client.list_shards(StreamName="s", ShardFilter={"Type": "AT_LATEST"})["Shards"]]
    ranges = sorted((int(s["StartingHashKey"]), int(s["EndingHashKey"])) for s in shards)

    assert len(ranges) == 3
    assert ranges[0][0] == 0
    assert ranges[-1][1] == (1 << 128) - 1
    assert all(one[1] + 1 == two[0] for one, two in itertools.pairwise(ranges))


def test_retention_takes_records_and_then_closed_shards(client, server):
    """A sequence number that was trimmed still opens an iterator, at the oldest record left."""
    (old,) = put(client, b"1")
    client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey=HALF)
    server.advance(23 * 3600)
    put(client, b"2")
    server.advance(2 * 3600)

    assert shard_ids(client) == [1, 2]
    with refused("ResourceNotFoundException.*Shard shardId-000000000000"):
        read(client, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=old)


def test_a_longer_retention_keeps_records_longer(client, server):
    """And a sequence number that was trimmed goes on at the oldest record."""
    (one,) = put(client, b"1")
    server.advance(20 * 3600)
    put(client, b"2")
    client.increase_stream_retention_period(StreamName="s", RetentionPeriodHours=48)
    server.advance(20 * 3600)

    assert read(client) == [b"1", b"2"]

    client.decrease_stream_retention_period(StreamName="s", RetentionPeriodHours=24)
    assert read(client) == [b"2"]
    assert read(client, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=one) == [b"2"]


@pytest.mark.parametrize(
    ("shard_filter", "expected"),
    [
        (None, [0, 1, 2]),
        ({"Type": "FROM_TRIM_HORIZON"}, [0, 1, 2]),
        ({"Type": "AT_TRIM_HORIZON"}, [0]),
        ({"Type": "AT_LATEST"}, [1, 2]),
        ({"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000001"}, [2]),
    ],
    ids=str,
)
def test_shards_are_filtered(client, server, shard_filter, expected):
    """As the filter says."""
    server.advance(60)
    client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey=HALF)

    assert shard_ids(client, **({"ShardFilter": shard_filter} if shard_filter else {})) == expected


def test_limits_of_a_shard_are_enforced_when_asked(client, server):
    """Five reads a second, and what is left of the second is given back as time passes."""
    server.limits = True
    opened = iterator(client)
    for _ in range(5):
        client.get_records(ShardIterator=opened)

    with refused("ProvisionedThroughputExceededException"):
        client.get_records(ShardIterator=opened)
    server.advance(1)
    client.get_records(ShardIterator=opened)


def test_ten_megabytes_are_followed_by_a_pause(client, server):
    """Calls within the next five seconds are refused."""
    put(client, *[b"x" * (5 << 20)] * 2)
    server.limits = True
    opened = iterator(client)
    client.get_records(ShardIterator=opened)

    for seconds in (1, 1, 1):
        server.advance(seconds)
        with refused("ProvisionedThroughputExceededException"):
            client.get_records(ShardIterator=opened)
    server.advance(2)
    client.get_records(ShardIterator=opened)


def test_records_over_the_limit_are_refused_one_by_one(client, server):
    """PutRecords is not all or nothing: a producer has to look."""
    server.limits = True
    records = [{"Data": b"x", "PartitionKey": str(n)} for n in range(500)]
    for _ in range(2):
        client.put_records(StreamName="s", Records=records)

    answer = client.put_records(StreamName="s", Records=records)

    failed = [r for r in answer["Records"] if r.get("ErrorCode") == "ProvisionedThroughputExceededException"]
    assert len(failed) == answer["FailedRecordCount"] > 400


REFUSED = [
    ("a stream twice", "ResourceInUseException", lambda c: c.create_stream(StreamName="s", ShardCount=1)),
    ("no such stream", "ResourceNotFoundException", lambda c: c.put_record(StreamName="t", Data=b"", PartitionKey="k")),
    ("no such shard", "ResourceNotFoundException", lambda c: iterator(c, shard="shardId-000000000009")),
    ("no partition key", "ValidationException", lambda c: c.put_record(StreamName="s", Data=b"", PartitionKey="")),
    ("a long partition key", "ValidationException", lambda c: c.put_record(StreamName="s", Data=b"", PartitionKey="k" * 257)),
    ("a record over 10 MiB", "ValidationException", lambda c: put(c, b"x" * (10 << 20))),
    (
        "501 records",
        "ValidationException",
        lambda c: c.put_records(StreamName="s", Records=[{"Data": b"", "PartitionKey": "k"}] * 501),
    ),
    (
        "11 MB of records",
        "InvalidArgumentException",
        lambda c: c.put_records(StreamName="s", Records=[{"Data": b"x" * (1 << 20), "PartitionKey": "k"}] * 11),
    ),
    ("a made-up iterator", "InvalidArgumentException", lambda c: c.get_records(ShardIterator="A" * 100)),
    ("10,001 records asked for", "ValidationException", lambda c: c.get_records(ShardIterator=iterator(c), Limit=10_001)),
    ("a number of no stream", "did not come from this stream", lambda c: read(c, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber="4" * 56)),
    ("no number", "InvalidArgumentException", lambda c: iterator(c, "AFTER_SEQUENCE_NUMBER")),
    ("a number too many", "InvalidArgumentException", lambda c: iterator(c, "TRIM_HORIZON", StartingSequenceNumber="1")),
    ("no such kind", "ValidationException", lambda c: iterator(c, "NEWEST")),
    ("a split outside", "InvalidArgumentException", lambda c: c.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey="0")),
    ("a made-up token", "InvalidArgumentException", lambda c: c.list_shards(NextToken="abc")),
    ("a token and a name", "InvalidArgumentException", lambda c: c.list_shards(NextToken="abc", StreamName="s")),
    (
        "what is not there",
        "not supported by the local Kinesis",
        lambda c: c.list_stream_consumers(StreamARN="arn:aws:kinesis:x:1:stream/s"),
    ),
    ("a shorter retention as longer", "between", lambda c: c.increase_stream_retention_period(StreamName="s", RetentionPeriodHours=1)),
]


@pytest.mark.parametrize(("error", "call"), [pytest.param(error, call, id=name) for name, error, call in REFUSED])
def test_what_kinesis_refuses_is_refused(client, error, call):
    """With its code."""
    with refused(error):
        call(client)


def test_a_number_of_another_shard_is_refused(client):
    """Kinesis names both shards."""
    client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey=HALF)
    number = client.put_record(StreamName="s", Data=b"h", PartitionKey="k", ExplicitHashKey=HALF)["SequenceNumber"]

    with refused("It encodes shardId-000000000002, while it was used in a call to a shard with shardId-000000000001"):
        read(client, "AFTER_SEQUENCE_NUMBER", "shardId-000000000001", StartingSequenceNumber=number)


def test_a_shard_is_split_once(client):
    """Nor can it be merged afterwards."""
    client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey=HALF)

    with refused("already been merged or split"):
        client.split_shard(StreamName="s", ShardToSplit=FIRST, NewStartingHashKey=HALF)


def test_shards_that_are_no_neighbours_are_not_merged(client):
    """Their ranges would leave a hole."""
    client.create_stream(StreamName="wide", ShardCount=3)

    with refused("not an adjacent pair"):
        client.merge_shards(StreamName="wide", ShardToMerge=FIRST, AdjacentShardToMerge="shardId-000000000002")


def test_an_iterator_expires(client, server):
    """After five minutes."""
    opened = iterator(client)
    server.advance(301)

    with refused("ExpiredIteratorException"):
        client.get_records(ShardIterator=opened)


def test_an_iterator_does_not_outlive_its_stream(client, server):
    """A stream made anew under the same name is another."""
    opened = iterator(client)
    client.delete_stream(StreamName="s")
    server.advance(1)
    client.create_stream(StreamName="s", ShardCount=1)

    with refused("ResourceNotFoundException"):
        client.get_records(ShardIterator=opened)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Type": "application/x-amz-json-1.1"}, "MissingAuthenticationTokenException"),
        ({"Content-Type": "application/x-amz-cbor-1.1", "Authorization": "AWS4-HMAC-SHA256 x"}, "SerializationException"),
    ],
    ids=["unsigned", "CBOR"],
)
def test_what_does_not_speak_its_protocol_is_told_so(server, headers, code):
    """In words that help."""
    request = urllib.request.Request(server.url, b"{}", {**headers, "X-Amz-Target": "Kinesis_20131202.ListStreams"})

    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request)

    with refusal.value as answer:
        assert json.loads(answer.read())["__type"] == code


def test_a_fault_hits_the_operation_and_shard_that_it_names(client, server):
    """And so many times."""
    server.fault("throttle", 2, path=f"{FIRST}/GetRecords")
    opened = iterator(client)

    for _ in range(2):
        with refused("ProvisionedThroughputExceededException"):
            client.get_records(ShardIterator=opened)
    client.get_records(ShardIterator=opened)


def test_streams_are_described_and_listed(client):
    """By name and by ARN."""
    client.create_stream(StreamName="t", StreamModeDetails={"StreamMode": "ON_DEMAND"})

    summary = client.describe_stream_summary(StreamName="t")["StreamDescriptionSummary"]

    assert summary["OpenShardCount"] == 4
    assert client.describe_stream(StreamARN=summary["StreamARN"])["StreamDescription"]["Shards"][3]["ShardId"][-1] == "3"
    assert client.list_streams()["StreamNames"] == ["s", "t"]


def test_it_runs_as_a_process_of_its_own():
    """As the local stack runs it: one line when it is ready, and it ends when it is told to."""
    process = subprocess.Popen([sys.executable, "-m", "local.kinesis"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().removeprefix("ready ").strip()
        client = client_of(url)
        client.create_stream(StreamName="s", ShardCount=2)
        assert client.list_streams()["StreamNames"] == ["s"]
        client.close()
    finally:
        process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()
