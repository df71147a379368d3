"""kinesis.py against a strict Kinesis that can misbehave (local.kinesis), and against moto's where that can tell."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import socket
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import boto3
import pytest
from botocore.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.aws import AwsServer
from local.kinesis import KinesisServer
from polku import kinesis
from polku.batches import Position
from polku.errors import SettingsError, TransientError
from polku.kinesis import Limits, Shard, ShardEnd
from polku.records import Block

PLENTY = Limits(max_bytes=1 << 30, max_seconds=60)
HOUR_MS = 3_600_000


class Clock:
    """Time that passes only while somebody sleeps; a server's may pass with it."""

    def __init__(self, server=None):
        self.server = server
        self.slept = 0.0

    def __call__(self):
        """Return the time."""
        return self.slept

    def sleep(self, seconds):
        """Let time pass."""
        self.slept += seconds
        if self.server:
            self.server.advance(seconds)


@pytest.fixture
def server():
    with KinesisServer() as running:
        yield running


def client_of(server, **config):
    options = {**kinesis.CONFIG, "retries": {"total_max_attempts": 1}, **config}
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "eu-west-1"}
    return boto3.client("kinesis", endpoint_url=server.url, config=Config(**options), **keys)


@pytest.fixture
def client(server):
    made = client_of(server)
    yield made
    made.close()


@pytest.fixture
def stream(client):
    client.create_stream(StreamName="events", ShardCount=1)
    return "events"


def put(client, stream, *data, key="k"):
    for start in range(0, len(data), 500):
        records = [{"Data": d if isinstance(d, bytes) else str(d).encode(), "PartitionKey": key} for d in data[start : start + 500]]
        assert client.put_records(StreamName=stream, Records=records)["FailedRecordCount"] == 0


def drain(client, stream, positions=None, limits=PLENTY, clock=None, **more):
    """Read all shards of a stream as a run does; return the data, the ends by shard id, and the new positions."""
    positions = dict(positions or {})
    clock = clock or Clock()
    shards = kinesis.list_shards(client, stream)
    data, ends = [], {}
    for item in kinesis.read(client, shards, positions, limits, clock=clock, sleep=clock.sleep, **more):
        if isinstance(item, Block):
            assert item.shard not in ends, "a block after its shard's end"
            data += item.data
        else:
            assert item.key not in ends, "two ends of one shard"
            ends[item.key] = item
            positions[item.key] = item.position
    return data, {key.rpartition("/")[2]: end for key, end in ends.items()}, positions


def numbers(*spans):
    return [str(n).encode() for span in spans for n in span]


def split(client, stream, shard_id):
    for shard in client.list_shards(StreamName=stream)["Shards"]:
        if shard["ShardId"] == shard_id:
            low, high = (int(shard["HashKeyRange"][end]) for end in ("StartingHashKey", "EndingHashKey"))
            client.split_shard(StreamName=stream, ShardToSplit=shard_id, NewStartingHashKey=str((low + high) // 2))


def shard(name, *parents, closed=False):
    return Shard(key=f"s@1/{name}", stream="s", id=name, parents=tuple(f"s@1/{p}" for p in parents), closed=closed)


DONE = Position(after="9", finished=True)


# Which shards there are


def test_every_page_of_shards_is_listed(client, server):
    """A stream of 500 shards spans pages; a shard left out would never be read."""
    server.page_shards = 3
    client.create_stream(StreamName="wide", ShardCount=10)

    shards = kinesis.list_shards(client, "wide")

    assert [s.id for s in shards] == [f"shardId-{n:012d}" for n in range(10)]
    assert server.calls["ListShards"] == 4


def test_listing_begins_anew_when_its_token_has_expired(client, server):
    """A token lives for five minutes; what was listed before it expired may be out of date."""
    server.page_shards = 3
    client.create_stream(StreamName="wide", ShardCount=5)
    late = [400.0]

    def dawdle(params, **_):
        if "NextToken" in params and late:
            server.advance(late.pop())

    client.meta.events.register("before-parameter-build.kinesis.ListShards", dawdle)

    assert len(kinesis.list_shards(client, "wide")) == 5
    assert server.refused["ExpiredNextTokenException"] == 1


def test_the_name_and_the_arn_of_a_stream_give_the_same_keys(client, server, stream):
    """Naming the stream otherwise in the parameters must not read it from the start again."""
    put(client, stream, 1, 2)
    arn = server.streams[stream].arn

    data, _, positions = drain(client, arn)

    assert data == numbers([1, 2])
    assert drain(client, stream, positions)[0] == []
    assert [s.key for s in kinesis.list_shards(client, arn)] == [s.key for s in kinesis.list_shards(client, stream)] == list(positions)


def test_a_stream_made_anew_has_new_keys(client, server, stream):
    """Its shards have the old ids; the old positions mean nothing there."""
    before = kinesis.list_shards(client, stream)
    client.delete_stream(StreamName=stream)
    server.advance(10)
    client.create_stream(StreamName=stream, ShardCount=1)

    after = kinesis.list_shards(client, stream)

    assert before[0].id == after[0].id
    assert before[0].key != after[0].key
    assert kinesis.no_longer_listed(after, {before[0].key: Position(after="1"), "another@1/shard": Position()}) == [before[0].key]


def test_parents_come_before_children_whatever_their_names(client, stream):
    """A split and a merge: the child of both has two parents, and closed shards say so."""
    split(client, stream, "shardId-000000000000")
    client.merge_shards(StreamName=stream, ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002")

    shards = kinesis.list_shards(client, stream)

    assert [s.closed for s in shards] == [True, True, True, False]
    assert [len(s.parents) for s in shards] == [0, 1, 1, 2]
    assert set(shards[3].parents) == {shards[1].key, shards[2].key}


def test_a_stream_that_does_not_exist_is_named_and_may_come(client):
    """The other source goes on; a stream may be deleted by mistake and made again."""
    with pytest.raises(TransientError, match=r"stream 'nowhere'.*not found.*`stream` in parameters"):
        kinesis.list_shards(client, "nowhere")


def test_refused_access_needs_a_person(client, server, stream):
    """No retry will grant it."""
    server.fault("denied", path="ListShards")

    with pytest.raises(SettingsError, match=r"AccessDenied.*role of aws_default"):
        kinesis.list_shards(client, stream)


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        pytest.param({}, ["a"], id="nothing read yet: the oldest"),
        pytest.param({"s@1/a": Position(after="5")}, ["a"], id="parent begun"),
        pytest.param({"s@1/a": DONE}, ["b", "c"], id="parent finished: both children"),
        pytest.param({"s@1/a": DONE, "s@1/b": DONE}, ["c"], id="one parent of the merge is left"),
        pytest.param({"s@1/a": DONE, "s@1/b": DONE, "s@1/c": DONE}, ["d"], id="both parents finished"),
        pytest.param({f"s@1/{n}": DONE for n in "abcd"}, [], id="all finished"),
    ],
)
def test_a_shard_is_readable_once_all_its_parents_are_finished(positions, expected):
    """Else a child's records would be committed before older ones of the same key."""
    shards = [shard("a", closed=True), shard("b", "a", closed=True), shard("c", "a", closed=True), shard("d", "b", "c")]

    assert [s.id for s in kinesis.readable(shards, positions)] == expected


def test_a_parent_that_is_no_longer_listed_counts_as_finished():
    """Retention has taken it; its children must not wait for ever."""
    assert [s.id for s in kinesis.readable([shard("c", "a", "b")], {"s@1/a": Position(after="5")})] == ["c"]


def test_families_of_shards_stay_in_one_lane():
    """A lane follows from parent to child by itself; two lanes would have to wait for one another."""
    shards = [shard("a", closed=True), shard("x"), shard("y"), shard("b", "a"), shard("c", "a")]

    spread = kinesis.lanes(shards, {}, 2)

    assert sorted([s.id for s in lane] for lane in spread) == [["a", "b", "c"], ["x", "y"]]
    assert [len(lane) for lane in kinesis.lanes(shards, {"s@1/a": DONE}, 9)] == [1, 1, 1, 1]
    assert kinesis.lanes(shards, {s.key: DONE for s in shards}, 3) == []


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        pytest.param(Position(), 0, id="nothing known"),
        pytest.param(Position(after="1", arrival=-5 * HOUR_MS), 0, id="5 h behind"),
        pytest.param(Position(after="1", arrival=-24 * HOUR_MS), 0, id="just in time"),
        pytest.param(Position(after="1", arrival=-26 * HOUR_MS), 7200, id="2 h lost"),
        pytest.param(Position(after="1", arrival=-90 * HOUR_MS, caught_up=-1 * HOUR_MS), 0, id="old record, but nothing came since"),
        pytest.param(Position(caught_up=-25 * HOUR_MS), 3600, id="never a record, then nobody looked"),
        pytest.param(Position(after="1", arrival=-90 * HOUR_MS, finished=True), 0, id="finished"),
    ],
)
def test_a_gap_is_what_retention_may_have_taken_unread(position, expected):
    """Times in the table are relative to now; the retention is 24 h."""
    now = 1_800_000_000
    shifted = Position(
        after=position.after,
        finished=position.finished,
        arrival=position.arrival and now * 1000 + position.arrival,
        caught_up=position.caught_up and now * 1000 + position.caught_up,
    )

    assert kinesis.gap(shifted, 24, now) == expected


# Whether there is something to read


def test_an_idle_shard_has_no_records(client, stream):
    """An idle minute costs one short task."""
    put(client, stream, 1)
    _, _, positions = drain(client, stream)
    (only,) = kinesis.list_shards(client, stream)

    assert kinesis.has_records(client, only, Position())
    assert not kinesis.has_records(client, only, positions[only.key])


def test_an_empty_answer_with_more_behind_it_means_records(client, server, stream):
    """Kinesis answers empty in the middle of a shard; only MillisBehindLatest tells."""
    put(client, stream, 1)
    server.fault("empty", path="GetRecords")

    assert kinesis.has_records(client, kinesis.list_shards(client, stream)[0], Position())


def test_a_shard_too_busy_to_tell_may_have_records(client, server, stream):
    """Another reader has used the five reads of this second; the drain will find out."""
    server.fault("throttle", path="GetRecords")

    assert kinesis.has_records(client, kinesis.list_shards(client, stream)[0], Position())


def test_a_closed_shard_is_to_be_read_until_it_is_finished(client, stream):
    """Its children wait for it, be it empty or not."""
    split(client, stream, "shardId-000000000000")
    closed = kinesis.list_shards(client, stream)[0]

    assert kinesis.has_records(client, closed, Position())
    assert not kinesis.has_records(client, closed, DONE)


def test_an_idle_shard_is_read_again_before_its_position_looks_like_a_gap(client, stream):
    """Nothing came for a day: what the shard was last seen empty must not be a day old."""
    (only,) = kinesis.list_shards(client, stream)
    at = time.time()

    assert not kinesis.has_records(client, only, Position(caught_up=int(at * 1000)), now=lambda: at + 3600)
    assert kinesis.has_records(client, only, Position(caught_up=int(at * 1000)), now=lambda: at + kinesis.REFRESH_SECONDS + 1)


def test_looking_at_a_stream_that_is_gone_says_so(client, stream):
    """Plan reports it and goes on with the other source."""
    (only,) = kinesis.list_shards(client, stream)
    client.delete_stream(StreamName=stream)

    with pytest.raises(TransientError, match=f"{only.key}.*ResourceNotFound"):
        kinesis.has_records(client, only, Position())


# Reading


def test_records_come_whole_and_in_order_with_their_numbers_and_arrivals(client, stream):
    """What is put is what is archived: empty, binary, and with any partition key."""
    data = [b"", b"\x00\xff\xfe", '{"ä": "😀"}'.encode(), b'"quoted\\"', random.Random(1).randbytes(1000)]
    put(client, stream, *data, key="schlüssel/\U0001f600")

    items = list(kinesis.read(client, kinesis.list_shards(client, stream), {}, PLENTY))

    block, end = items
    assert isinstance(block, Block)
    assert block.data == data
    assert block.sequences == sorted(block.sequences)
    assert all(abs(arrival / 1000 - time.time()) < 60 for arrival in block.arrivals)
    assert end.key == block.shard
    assert end.position.after == block.sequences[-1]
    assert end.position.arrival == block.arrivals[-1]
    assert end.position.caught_up >= block.arrivals[-1]
    assert not end.error


def test_the_next_read_goes_on_after_the_last(client, stream):
    """Positions are all that is kept between two runs."""
    put(client, stream, 1, 2)
    first, _, positions = drain(client, stream)
    put(client, stream, 3)

    second, _, positions = drain(client, stream, positions)

    assert (first, second) == (numbers([1, 2]), numbers([3]))
    assert drain(client, stream, positions)[0] == []


def test_several_shards_are_read_each_in_its_order(client):
    """More shards than threads."""
    client.create_stream(StreamName="wide", ShardCount=8)
    for n in range(100):
        put(client, "wide", n, key=str(n % 16))

    data, ends, _ = drain(client, "wide")

    assert sorted(map(int, data)) == list(range(100))
    assert len(ends) == 8
    for key in range(16):
        mine = [int(d) for d in data if int(d) % 16 == key]
        assert mine == sorted(mine)


def test_an_answer_is_cut_into_blocks_of_some_megabytes(client, stream):
    """Transform holds one block in memory; one record may be larger."""
    large = [bytes([n]) * (3 << 20) for n in range(3)] + [b"x" * (9 << 20)]
    for data in large:
        client.put_record(StreamName=stream, Data=data, PartitionKey="k")

    clock = Clock()

    items = list(kinesis.read(client, kinesis.list_shards(client, stream), {}, PLENTY, clock=clock, sleep=clock.sleep))

    blocks = [item for item in items if isinstance(item, Block)]
    assert [d for b in blocks for d in b.data] == large
    assert all(sum(map(len, b.data)) <= 4 << 20 or len(b.data) == 1 for b in blocks)


def test_an_empty_answer_in_mid_shard_is_not_the_end(client, server, stream):
    """Kinesis skips through a shard in steps that may hold nothing."""
    server.answer_records = 2
    put(client, stream, *range(6))
    server.fault("empty", 3, path="GetRecords")

    data, ends, _ = drain(client, stream)

    assert data == numbers(range(6))
    assert ends["shardId-000000000000"].position.caught_up


def test_a_busy_stream_does_not_hold_the_drain(client, server, stream):
    """Caught up is caught up, also when the answer had records: else a stream that never rests is read until the time is up."""
    put(client, stream, 1)

    drain(client, stream)

    assert server.calls["GetRecords"] == 1


def test_a_server_that_does_not_say_how_far_behind_is_read_until_it_is_empty(client, server, stream):
    """Nothing is left behind for want of MillisBehindLatest."""
    server.answer_records = 2
    put(client, stream, *range(5))

    def silent(response_dict, **_):
        response_dict["body"] = response_dict["body"].replace(b'"MillisBehindLatest"', b'"Unknown"')

    client.meta.events.register_first("before-parse.kinesis.GetRecords", silent)

    assert drain(client, stream)[0] == numbers(range(5))


def test_others_who_use_the_client_get_what_boto3_always_gives(client, stream):
    """Our decoding is on for our own reads only."""
    put(client, stream, "x")
    drain(client, stream)
    iterator = client.get_shard_iterator(StreamName=stream, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")[
        "ShardIterator"
    ]

    answer = client.get_records(ShardIterator=iterator)

    assert answer["Records"][0]["Data"] == b"x"
    assert "Decoded" not in answer


def test_a_fresh_client_may_be_used_by_many_threads_at_once(server, client, stream):
    """Decoding is registered with the client once; twice would decode an empty answer over the first."""
    put(client, stream, *range(50))
    shards = kinesis.list_shards(client, stream)
    fresh = client_of(server)

    with ThreadPoolExecutor(8) as pool:
        reads = list(pool.map(lambda _: list(kinesis.read(fresh, shards, {}, PLENTY)), range(8)))

    assert [read[0].data for read in reads] == [numbers(range(50))] * 8
    fresh.close()


def test_an_answer_in_another_protocol_is_read_as_botocore_parsed_it(client, stream):
    """Should Kinesis or botocore go over to CBOR: slower, but right."""
    put(client, stream, "x", "y")
    fast = list(kinesis.read(client, kinesis.list_shards(client, stream), {}, PLENTY))

    def blank(response_dict, **_):
        response_dict["body"] = b" " + response_dict["body"]

    client.meta.events.register_first("before-parse.kinesis.GetRecords", blank)
    slow = list(kinesis.read(client, kinesis.list_shards(client, stream), {}, PLENTY))

    assert fast[0] == slow[0]


def test_a_reader_that_stops_listening_ends_the_read(client, server, stream):
    """The task was given up: no thread goes on reading."""
    server.answer_records = 1
    put(client, stream, *range(10))
    reading = kinesis.read(client, kinesis.list_shards(client, stream), {}, Limits(max_bytes=1 << 20, max_seconds=60, reads_a_second=1e6))

    next(reading)
    reading.close()

    deadline = time.monotonic() + 10
    while any(t.name.startswith("kinesis_") for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(t.name.startswith("kinesis_") for t in threading.enumerate())


# Bounds


def test_a_read_ends_when_it_has_bytes_enough_and_the_next_takes_the_rest(client, server, stream):
    """A backlog is worked off in batches."""
    server.answer_records = 2
    put(client, stream, *[b"x" * 100] * 9)
    limits = Limits(max_bytes=350, max_seconds=60)

    first, _, positions = drain(client, stream, limits=limits)
    second, _, positions = drain(client, stream, positions, limits=limits)
    third, _, positions = drain(client, stream, positions, limits=limits)

    assert [len(first), len(second), len(third)] == [4, 4, 1]
    assert positions["events@" + next(iter(positions)).partition("@")[2]].caught_up


def test_a_read_ends_when_its_seconds_are_over(client, server, stream):
    """A run always ends; what it has is kept."""
    server.answer_records = 1
    put(client, stream, *range(100))
    clock = Clock(server)

    data, ends, positions = drain(client, stream, limits=Limits(max_bytes=1 << 30, max_seconds=1.9), clock=clock)

    assert data == numbers(range(10))
    assert clock.slept <= 1.9
    assert not ends["shardId-000000000000"].error
    assert drain(client, stream, positions)[0] == numbers(range(10, 100))


def test_a_reader_that_is_slow_has_its_read_end_too(client, server, stream):
    """The time goes by while the caller writes to S3; the next read would have been due before it was up."""
    server.answer_records = 1
    put(client, stream, *range(5))
    clock = Clock(server)
    items = []

    for item in kinesis.read(
        client, kinesis.list_shards(client, stream), {}, Limits(max_bytes=100, max_seconds=1), clock=clock, sleep=clock.sleep
    ):
        items.append(item)
        clock.sleep(0.6)

    *blocks, end = items
    assert 1 <= len(blocks) <= 3
    assert end.position.after == blocks[-1].sequences[-1]


@pytest.mark.parametrize("limits", [{"max_bytes": 0, "max_seconds": 1}, {"max_bytes": 1, "max_seconds": 0}])
def test_limits_that_let_nothing_through_are_refused(limits):
    """The stream would stand still, run after run, without an error."""
    with pytest.raises(ValueError, match="never get on"):
        Limits(**limits)


def test_the_shards_that_are_furthest_behind_come_first(client, server):
    """Else a busy shard could use up every run's bytes, and another would be overtaken by retention."""
    client.create_stream(StreamName="wide", ShardCount=8)
    for n in range(200):
        put(client, "wide", n, key=str(n))
    shards = kinesis.list_shards(client, "wide")
    begin = {s.key: str(server.streams["wide"].shards[s.id].first) for s in shards}
    positions = {s.key: Position(after=begin[s.key], arrival=9000 - n) for n, s in enumerate(shards)}

    items = list(kinesis.read(client, shards, positions, Limits(max_bytes=1, max_seconds=60)))

    assert {item.shard for item in items if isinstance(item, Block)} <= {s.key for s in shards[-3:]}


def test_a_shard_is_read_no_faster_than_kinesis_allows(client, server, stream):
    """Five reads and 2 MB a second: with limits enforced, none is refused."""
    server.limits = True
    server.answer_records = 10
    for n in range(60):
        put(client, stream, b"%02d" % n + b"x" * 200_000)
        server.advance(1)

    data, ends, _ = drain(client, stream, clock=Clock(server))

    assert [int(d[:2]) for d in data] == list(range(60))
    assert not server.refused
    assert not ends["shardId-000000000000"].error


def test_nobody_waits_where_nothing_is_left_to_do(client):
    """The pace holds between two reads, not after the last."""
    client.create_stream(StreamName="quiet", ShardCount=3)
    put(client, "quiet", b"x" * 1_000_000)
    clock = Clock()

    drain(client, "quiet", clock=clock)

    assert clock.slept == 0


# When Kinesis misbehaves


@pytest.mark.parametrize("kind", ["throttle", "limit", "kms", "internal", "500", "503", "cut_before", "cut_after", "half", "expired"])
@pytest.mark.parametrize("operation", ["GetRecords", "GetShardIterator"])
def test_a_read_goes_on_after_a_fault(client, server, stream, kind, operation):
    """Twice at the start and twice in the middle; every record comes once."""
    server.answer_records = 2
    put(client, stream, *range(6))
    server.fault(kind, 2, path=operation)
    clock = Clock(server)

    data = []
    for item in kinesis.read(client, kinesis.list_shards(client, stream), {}, PLENTY, clock=clock, sleep=clock.sleep):
        if isinstance(item, Block):
            if not data:
                server.fault(kind, 2, path=operation)
            data += item.data

    assert data == numbers(range(6))


def test_records_that_come_again_are_passed_over(client, server, stream):
    """Kinesis promises that they do not; a server in between, or one that stands in for it, may hold an answer twice."""
    server.answer_records = 2
    put(client, stream, *range(6))
    bodies = []

    def repeat(response_dict, **_):
        """Give the records of the first answer once more with the second."""
        bodies.append(response_dict["body"])
        if len(bodies) == 2:
            first, second = map(json.loads, bodies)
            response_dict["body"] = json.dumps({**second, "Records": first["Records"] + second["Records"]}).encode()

    client.meta.events.register_first("before-parse.kinesis.GetRecords", repeat)

    assert drain(client, stream)[0] == numbers(range(6))


@pytest.mark.parametrize("operation", ["DescribeStreamSummary", "ListShards", "GetShardIterator", "GetRecords"])
def test_a_page_of_somebody_else_is_no_answer(client, stream, operation):
    """A proxy that says 200 and shows a page: botocore takes that for an empty answer."""
    put(client, stream, 1)
    shown = []

    def show(response_dict, **_):
        if not shown:
            shown.append(response_dict["body"])
            response_dict["body"] = b"<html>down for maintenance</html>"

    client.meta.events.register_first(f"before-parse.kinesis.{operation}", show)

    if operation.startswith("Get"):
        assert drain(client, stream)[0] == numbers([1])
    else:
        with pytest.raises(TransientError, match=r"stream 'events': .*does Kinesis answer there\?"):
            kinesis.list_shards(client, stream)


def test_an_answer_that_never_comes_is_asked_for_again(server, stream):
    """The client's read timeout is short for that."""
    client = client_of(server, read_timeout=0.2)
    put(client, stream, 1)
    server.fault("timeout_before", path="GetRecords")

    assert drain(client, stream)[0] == numbers([1])
    client.close()


def test_an_answer_that_is_not_there_when_the_time_is_up_is_left(server, stream):
    """A run always ends, whatever the client's timeouts are; the other shards are kept."""
    client = client_of(server)
    client.create_stream(StreamName="two", ShardCount=2)
    for n in range(20):
        put(client, "two", n, key=str(n))
    server.fault("timeout_before", 1000, path="shardId-000000000000/GetRecords")
    limits = Limits(max_bytes=1 << 30, max_seconds=0.3, grace_seconds=0.1)

    items = list(kinesis.read(client, kinesis.list_shards(client, "two"), {}, limits))

    ends = {item.key.rpartition("/")[2]: item for item in items if isinstance(item, ShardEnd)}
    assert ends["shardId-000000000000"].position == Position()
    assert "no answer" in ends["shardId-000000000000"].error
    assert ends["shardId-000000000001"].position.after
    server.__exit__()
    client.close()
    server.__enter__()


def test_an_expired_iterator_is_renewed_from_the_last_position(client, server, stream):
    """Each one has expired by the time it is used, since the caller is slow."""
    server.answer_records = 2
    server.iterator_seconds = 0.1
    put(client, stream, *range(8))

    data, ends, _ = drain(client, stream, clock=Clock(server))

    assert data == numbers(range(8))
    assert server.refused["ExpiredIteratorException"] == 3
    assert not ends["shardId-000000000000"].error


def test_a_shard_that_keeps_failing_ends_where_it_stands_and_the_others_go_on(client, server):
    """One lane holds several shards; what the others gave is kept."""
    client.create_stream(StreamName="two", ShardCount=2)
    for n in range(20):
        put(client, "two", n, key=str(n))
    server.fault("throttle", 1000, path="shardId-000000000001/GetRecords")

    data, ends, positions = drain(client, "two")

    assert ends["shardId-000000000001"].position == Position()
    assert "ProvisionedThroughputExceeded" in ends["shardId-000000000001"].error
    assert not ends["shardId-000000000000"].error
    server.clear_faults()
    rest, _, _ = drain(client, "two", positions)
    assert data
    assert rest
    assert sorted(map(int, data + rest)) == list(range(20))


def test_a_lane_that_reads_nothing_at_all_is_an_error_with_the_facts(client, server, stream):
    """Airflow tries again later; within the seconds it waited longer each time."""
    server.fault("throttle", 1000, path="GetRecords")
    clock = Clock(server)

    with pytest.raises(TransientError, match=r"shardId-000000000000: GetRecords answered 400 ProvisionedThroughputExceededException"):
        drain(client, stream, clock=clock, limits=Limits(max_bytes=1, max_seconds=5))
    assert 1 < clock.slept <= 5


def test_what_was_read_before_it_went_wrong_is_kept(client, server, stream):
    """The stream is deleted in mid-drain: the records read are all that is left of it."""
    server.answer_records = 2
    put(client, stream, *range(6))
    items = []

    for item in kinesis.read(client, kinesis.list_shards(client, stream), {}, PLENTY, clock=time.monotonic):
        if not items:
            client.delete_stream(StreamName=stream)
        items.append(item)

    *blocks, end = items
    data = [d for b in blocks for d in b.data]
    assert data == numbers(range(len(data)))
    assert isinstance(end, ShardEnd)
    assert end.position.after == blocks[-1].sequences[-1]
    assert "ResourceNotFound" in end.error


def test_a_stream_that_is_gone_is_named_with_its_setting(client, stream):
    """Nothing was read: the task fails and says what to do."""
    shards = kinesis.list_shards(client, stream)
    client.delete_stream(StreamName=stream)

    with pytest.raises(TransientError, match=r"events@\d+/shardId-000000000000.*`stream` in parameters"):
        list(kinesis.read(client, shards, {}, PLENTY))


def test_a_server_that_is_away_is_no_fault_of_the_settings(client, stream):
    """Connection refused: try again."""
    shards = kinesis.list_shards(client, stream)
    clock = Clock()

    with socket.socket() as deaf:  # holds its port, and does not listen
        deaf.bind(("127.0.0.1", 0))
        away = client_of(SimpleNamespace(url=f"http://127.0.0.1:{deaf.getsockname()[1]}"))
        with pytest.raises(TransientError, match="EndpointConnectionError"):
            list(kinesis.read(away, shards, {}, PLENTY, clock=clock, sleep=clock.sleep))
        away.close()


def test_a_position_of_another_stream_needs_a_person(client, server, stream):
    """Kinesis refuses it; to read on from anywhere else would lose or double records."""
    (only,) = kinesis.list_shards(client, stream)
    foreign = Position(after="49590338271490256608559692538361571095921575989136588898")

    with pytest.raises(SettingsError, match=r"did not come from this stream.*checkpoint"):
        list(kinesis.read(client, [only], {only.key: foreign}, PLENTY))


def test_reading_goes_on_behind_a_gap(client, server, stream):
    """Retention has overtaken the position: the gap is told by ``gap``, and what is left is read."""
    put(client, stream, 1, 2)
    _, _, positions = drain(client, stream)
    put(client, stream, 3)
    server.advance(30 * 3600)
    put(client, stream, 4)
    (only,) = kinesis.list_shards(client, stream)

    data, _, _ = drain(client, stream, positions)

    assert data == numbers([4])
    assert kinesis.gap(positions[only.key], only.retention_hours, server.now()) == pytest.approx(6 * 3600, abs=60)


def test_a_gap_whose_position_kinesis_no_longer_takes_is_read_from_the_oldest_record(client, stream):
    """Everything between is lost already, and reported."""
    put(client, stream, 4)
    (only,) = kinesis.list_shards(client, stream)
    lost = Position(after="49590338271490256608559692538361571095921575989136588898", arrival=1_000_000)

    data, _, _ = drain(client, stream, {only.key: lost})

    assert data == numbers([4])


# Resharding


@pytest.mark.parametrize("endless", [False, True], ids=["null iterator at the end", "iterators for ever"])
@pytest.mark.parametrize("name_children", [False, True], ids=["no ChildShards", "ChildShards"])
def test_children_follow_their_finished_parent_in_the_same_call(client, server, stream, endless, name_children):
    """Servers differ in how a shard ends; ListShards decides."""
    server.endless, server.name_children = endless, name_children
    put(client, stream, *range(10))
    split(client, stream, "shardId-000000000000")
    for n in range(10, 20):
        put(client, stream, n, key=str(n))
    client.merge_shards(StreamName=stream, ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002")
    put(client, stream, *range(20, 30))

    data, ends, positions = drain(client, stream)

    assert data[:10] == numbers(range(10))
    assert sorted(map(int, data[10:20])) == list(range(10, 20))
    assert data[20:] == numbers(range(20, 30))
    assert [ends[f"shardId-{n:012d}"].position.finished for n in range(4)] == [True, True, True, False]
    assert drain(client, stream, positions)[0] == []


def test_a_shard_that_is_closed_while_it_is_read_is_finished_by_its_null_iterator(client, server, stream):
    """The list is from before the split: the children are the next run's."""
    put(client, stream, 1)
    shards = kinesis.list_shards(client, stream)
    split(client, stream, "shardId-000000000000")

    items = list(kinesis.read(client, shards, {}, PLENTY))

    assert items[-1].position.finished


def test_a_child_waits_while_its_parent_fails(client, server, stream):
    """Its records come after its parent's, be it in a later run."""
    put(client, stream, 1)
    split(client, stream, "shardId-000000000000")
    put(client, stream, 2)
    server.fault("internal", 1000, path="shardId-000000000000/GetRecords")

    with pytest.raises(TransientError, match="shardId-000000000000"):
        drain(client, stream)
    server.clear_faults()

    assert drain(client, stream)[0] == numbers([1, 2])


def test_a_child_whose_parent_was_trimmed_is_read(client, server, stream):
    """The parent is gone from the list; its position was never finished."""
    put(client, stream, 1)
    _, _, positions = drain(client, stream)
    split(client, stream, "shardId-000000000000")
    server.advance(25 * 3600)
    put(client, stream, 2)

    data, _, _ = drain(client, stream, {})

    assert data == numbers([2])
    assert kinesis.no_longer_listed(kinesis.list_shards(client, stream), positions) == list(positions)


class History:
    """A stream to which anything may happen, and what has been read of it, by partition key."""

    def __init__(self, server, client):
        self.server, self.client, self.clock = server, client, Clock(server)
        self.stream = f"s{next(NUMBERS)}"
        self.put_so_far, self.got, self.positions = defaultdict(int), defaultdict(list), {}
        client.create_stream(StreamName=self.stream, ShardCount=2)

    def put(self, much):
        """Put records of five keys, each numbered from 0."""
        for key in (f"k{n % 5}" for n in range(much)):
            put(self.client, self.stream, f"{key}:{self.put_so_far[key]}", key=key)
            self.put_so_far[key] += 1

    def split(self, which):
        """Split an open shard."""
        shards = self.server.streams[self.stream].open()
        split(self.client, self.stream, shards[which % len(shards)].id)

    def merge(self, which):
        """Merge two neighbours."""
        pairs = list(itertools.pairwise(self.server.streams[self.stream].open()))
        if pairs:
            one, other = pairs[which % len(pairs)]
            self.client.merge_shards(StreamName=self.stream, ShardToMerge=other.id, AdjacentShardToMerge=one.id)

    def fault(self, kind):
        """Let the next read go wrong."""
        self.server.fault(kind, path="GetRecords")

    def read(self, max_bytes):
        """Drain, as one run does; a run that reads nothing has failed and committed nothing."""
        with contextlib.suppress(TransientError):
            limits = Limits(max_bytes=max_bytes, max_seconds=20)
            data, _, self.positions = drain(self.client, self.stream, self.positions, limits, self.clock)
            for record in data:
                key, _, number = record.decode().partition(":")
                self.got[key].append(int(number))


NUMBERS = itertools.count()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just(History.put), st.integers(1, 12)),
            st.tuples(st.just(History.split), st.integers(0, 9)),
            st.tuples(st.just(History.merge), st.integers(0, 9)),
            st.tuples(st.just(History.read), st.integers(1, 400)),
            st.tuples(st.just(History.fault), st.sampled_from(["throttle", "expired", "internal", "empty", "cut_after"])),
        ),
        max_size=30,
    ),
    endless=st.booleans(),
)
def test_whatever_happens_to_the_shards_every_record_comes_once_and_in_its_keys_order(server, client, steps, endless):
    """Random puts, splits, merges, faults and bounded reads; then the rest is drained."""
    server.endless, server.answer_records = endless, 3
    server.clear_faults()
    history = History(server, client)

    for step, how in steps:
        step(history, how)
    server.clear_faults()
    history.read(1 << 30)

    assert history.got == {key: list(range(count)) for key, count in history.put_so_far.items()}


# moto, whose Kinesis the local stack may be


def test_motos_kinesis_is_read_too():
    """Its numbers count from 1, its iterators last for ever, its closed shards are empty."""
    with AwsServer() as aws:
        client = aws.client("kinesis")
        stream = f"moto{time.time_ns()}"
        client.create_stream(StreamName=stream, ShardCount=2)
        for n in range(20):
            put(client, stream, n, key=str(n))

        data, _, positions = drain(client, stream)
        split(client, stream, "shardId-000000000000")
        split(client, stream, "shardId-000000000002")
        _, _, positions = drain(client, stream, positions)
        put(client, stream, "last")
        rest, _, positions = drain(client, stream, positions)

        assert sorted(map(int, data)) == list(range(20))
        assert rest == [b"last"]
        assert sorted(p.finished for p in positions.values()) == [False] * 4 + [True] * 2
        client.close()
