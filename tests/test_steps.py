"""The steps of runs against real servers of S3 and Kinesis, up to what load would take."""

from __future__ import annotations

import dataclasses
import json
import os
import time
import uuid
from datetime import datetime, timezone

import boto3
import pytest

from local.aws import AwsServer
from local.kinesis import KinesisServer
from polku import archive, commit, kinesis, steps
from polku.batches import Batch, Checkpoint, Lane, Manifest, Part, Pending
from polku.errors import LostObject, SettingsError
from polku.settings import Settings, Source

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
LIMITS = kinesis.Limits(max_bytes=1 << 20, max_seconds=5, reads_a_second=1000)


@pytest.fixture(scope="module")
def streams_server():
    with KinesisServer(port=0) as server:
        yield server


@pytest.fixture(scope="module")
def clients(streams_server):
    with AwsServer(port=0) as aws:
        keys = {"region_name": "eu-west-1", "aws_access_key_id": "x", "aws_secret_access_key": "y"}
        yield boto3.client("s3", endpoint_url=aws.url, **keys), boto3.client("kinesis", endpoint_url=streams_server.url, **keys)


class Pipeline:
    """One source with its bucket and stream, and the runs that a test lets it have."""

    def __init__(self, s3, streams, *, shards=1):
        name = f"polku-{uuid.uuid4().hex[:12]}"
        self.s3, self.streams = s3, streams
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        streams.create_stream(StreamName=name, ShardCount=shards)
        settings = Settings.from_env({**os.environ, "POLKU_BUCKET": name})
        source = Source(stream=name, buffer_prefix="buffer/server/", translate=True)
        self.settings = dataclasses.replace(settings, sources={"server": source})
        self.bucket = self.stream = name
        self.now = time.time

    def run(self, minute):
        """Return what a step of this minute's run is given."""
        batch = Batch.of("server", datetime.fromtimestamp(NOON.timestamp() + 60 * minute, timezone.utc))
        return steps.Run(batch=batch, settings=self.settings, s3=self.s3, attempt=f"1-{uuid.uuid4().hex[:12]}", now=self.now)

    def put(self, *ids, key="x"):
        """Put an event for each id on the stream."""
        for id_ in ids:
            self.streams.put_record(StreamName=self.stream, PartitionKey=key, Data=event(id_))

    def drop(self, name, *ids):
        """Drop a buffer file of events."""
        self.s3.put_object(Bucket=self.bucket, Key=f"buffer/server/{name}", Body=b"\n".join(event(id_) for id_ in ids))

    def checkpoint(self):
        """Return the checkpoint as it stands."""
        return archive.read_checkpoint(self.s3, self.bucket, "server")[0]

    def until_load(self, minute):
        """Run everything before Redshift and return the batches that load would take, with their rows."""
        run = self.run(minute)
        lanes = steps.plan(run, self.streams)
        if not lanes:
            return {}
        parts = [steps.drain(run, lane, self.streams, LIMITS) for lane in lanes]
        for due in steps.make_batch(run, parts):
            steps.transform_part(run, due, None)
        return {ready.batch.id: ready.rows for ready in steps.ready(run)}

    def loaded(self, minute):
        """Do a whole run, as if Redshift had taken what was ready."""
        batches = self.until_load(minute)
        steps.loaded(self.run(minute), list(batches))
        return batches


def event(id_):
    return json.dumps(
        {"type": "track", "event": "Seen", "messageId": id_, "userId": f"u-{id_}", "timestamp": "2026-11-23T11:59:00Z"}
    ).encode()


@pytest.fixture
def pipeline(clients):
    return Pipeline(*clients)


def test_an_idle_minute_has_nothing_to_do_and_writes_nothing(pipeline):
    """It costs one short task."""
    pipeline.loaded(0)
    before = pipeline.checkpoint()

    assert steps.plan(pipeline.run(1), pipeline.streams) == []
    assert pipeline.checkpoint() == before


def test_stream_and_buffer_become_one_batch(pipeline):
    """Both doors lead to the same table."""
    pipeline.put("a", "b")
    pipeline.drop("one.jsonl", "c")

    assert pipeline.until_load(0) == {"server/2026-11-23T12:00:00Z": 3}
    assert pipeline.s3.list_objects_v2(Bucket=pipeline.bucket, Prefix="buffer/").get("Contents", []) == []


def test_what_is_loaded_is_not_taken_again(pipeline):
    """The next minute begins where this one ended."""
    pipeline.put("a")
    pipeline.loaded(0)
    pipeline.put("b")

    assert pipeline.loaded(1) == {"server/2026-11-23T12:01:00Z": 1}
    assert not pipeline.checkpoint().pending


def test_a_batch_that_was_never_loaded_is_loaded_by_the_next_run(pipeline):
    """An hour without Redshift heals by itself, in order."""
    pipeline.put("a")
    pipeline.until_load(0)
    pipeline.put("b")
    pipeline.until_load(1)

    assert list(pipeline.until_load(2)) == ["server/2026-11-23T12:00:00Z", "server/2026-11-23T12:01:00Z"]


def test_a_cleared_run_replays_its_raw_objects(pipeline):
    """The past is replayed from S3; the stream stays where it is."""
    pipeline.put("a", "b")
    pipeline.loaded(0)
    pipeline.put("c")
    first = steps.ready(pipeline.run(0))[0].receipts

    assert pipeline.until_load(0) == {"server/2026-11-23T12:00:00Z": 2}
    assert steps.ready(pipeline.run(0))[0].receipts[0].generation > first[0].generation
    assert pipeline.loaded(1) == {"server/2026-11-23T12:01:00Z": 1}


def test_a_backfill_of_a_time_without_a_batch_is_an_empty_success(pipeline):
    """The stream moves only forward."""
    pipeline.put("a")
    pipeline.loaded(5)
    pipeline.put("b")

    assert pipeline.until_load(3) == {}


def test_a_run_in_the_future_is_refused(pipeline):
    """It would make every run until then an empty success."""
    with pytest.raises(SettingsError, match="lies in the future"):
        steps.plan(dataclasses.replace(pipeline.run(0), now=lambda: NOON.timestamp() - 3600), pipeline.streams)


def test_two_drains_of_the_same_records_commit_them_once(pipeline):
    """Backfills do not respect max_active_runs."""
    pipeline.put("a")
    one, other = pipeline.run(0), pipeline.run(1)
    lanes = steps.plan(one, pipeline.streams)
    parts = [[steps.drain(run, lane, pipeline.streams, LIMITS) for lane in lanes] for run in (one, other)]

    steps.make_batch(one, parts[0])
    due = steps.make_batch(other, parts[1])

    assert list(pipeline.checkpoint().pending) == [one.batch.id]
    assert [d.batch for d in due] == [one.batch.id]


def test_a_lane_that_failed_keeps_its_records_for_the_next_run(clients):
    """One failed lane must stop neither the others nor the healing."""
    pipeline = Pipeline(*clients, shards=8)
    for i in range(40):
        pipeline.put(f"e{i}", key=str(i))
    run = pipeline.run(0)
    lanes = steps.plan(run, pipeline.streams)
    assert len(lanes) == 2

    steps.make_batch(run, [steps.drain(run, lanes[0], pipeline.streams, LIMITS)])

    assert sum(pipeline.until_load(1).values()) == 40


def test_a_stream_that_is_gone_does_not_stop_the_buffer(pipeline):
    """Its lane fails by itself and says why."""
    pipeline.drop("one.jsonl", "a")
    pipeline.streams.delete_stream(StreamName=pipeline.stream)

    lanes = steps.plan(pipeline.run(0), pipeline.streams)

    assert [lane.kind for lane in lanes] == ["stream", "files"]


def test_a_stream_that_may_not_be_read_does_not_stop_the_buffer_nor_the_healing(pipeline, streams_server):
    """Somebody has to change a policy; until then files flow and pending batches are loaded."""
    pipeline.put("a")
    pipeline.until_load(0)
    pipeline.drop("one.jsonl", "b")
    streams_server.fault("denied", times=1, path="DescribeStreamSummary")

    lanes = steps.plan(pipeline.run(1), pipeline.streams)

    assert [lane.kind for lane in lanes] == ["stream", "files"]


def test_a_stream_made_anew_under_the_old_name_is_read_from_its_beginning(pipeline):
    """Its shard ids are the same and its sequence numbers are not."""
    pipeline.put("a")
    pipeline.loaded(0)
    pipeline.streams.delete_stream(StreamName=pipeline.stream)
    start = int(time.time())
    while int(time.time()) == start:
        time.sleep(0.05)
    pipeline.streams.create_stream(StreamName=pipeline.stream, ShardCount=1)
    assert pipeline.loaded(1) == {}
    pipeline.put("b")

    assert pipeline.loaded(2) == {"server/2026-11-23T12:02:00Z": 1}
    assert len(pipeline.checkpoint().positions) == 1
    assert gaps(pipeline, 2) == [-1]


def later(pipeline, hours):
    """Let the pipeline wake up so many hours later."""
    pipeline.now = lambda: time.time() + hours * 3600


def gaps(pipeline, minute):
    """Return the gaps that the books of a minute's batch will tell."""
    run = pipeline.run(minute)
    return [seconds for part in archive.read_manifest(run.s3, run.bucket, run.batch).parts for seconds in part.gaps.values()]


def test_a_gap_is_told_also_where_plan_could_not_look_at_the_stream(pipeline, streams_server):
    """A stream that was away for longer than its retention mostly comes back between two tries of drain."""
    pipeline.put("a")
    pipeline.loaded(0)
    pipeline.put("b")
    later(pipeline, 30)
    streams_server.fault("denied", times=1, path="DescribeStreamSummary")

    pipeline.loaded(1)

    assert gaps(pipeline, 1) == [pytest.approx(6 * 3600, abs=60)]


def test_a_gap_behind_which_nothing_is_left_is_told_with_the_next_batch(pipeline):
    """All was dropped: there is no batch to tell it with, and then the position is past it."""
    pipeline.put("a")
    pipeline.loaded(0)
    later(pipeline, 30)
    assert pipeline.loaded(1) == {}
    pipeline.put("b")

    pipeline.loaded(2)
    pipeline.put("c")
    pipeline.loaded(3)

    assert gaps(pipeline, 2) == [pytest.approx(6 * 3600, abs=60)]
    assert not pipeline.checkpoint().gaps


def test_a_gap_is_told_once_however_many_drains_were_planned_before_it(pipeline):
    """The second finds the position past it, whatever its plan has seen."""
    pipeline.put("a")
    pipeline.loaded(0)
    later(pipeline, 30)
    pipeline.put("b")
    runs = [pipeline.run(1), pipeline.run(2)]
    lanes = [steps.plan(run, pipeline.streams)[0] for run in runs]
    for run, lane in zip(runs, lanes, strict=True):
        steps.make_batch(run, [steps.drain(run, lane, pipeline.streams, LIMITS)])
        later(pipeline, 0)
        pipeline.put("c")

    assert [len(lane.gaps) for lane in lanes] == [1, 1]
    assert len(gaps(pipeline, 1)) == 1
    assert gaps(pipeline, 2) == []


def test_parents_are_read_before_their_children_and_then_forgotten(pipeline):
    """A split stream delivers all, and its checkpoint does not grow for ever."""
    pipeline.put("a", "b")
    shard = kinesis.list_shards(pipeline.streams, pipeline.stream)[0]
    pipeline.streams.split_shard(StreamName=pipeline.stream, ShardToSplit=shard.id, NewStartingHashKey=str(2**127))
    pipeline.put("c", key="x")
    pipeline.put("d", key="y")

    total = sum(pipeline.loaded(0).values()) + sum(pipeline.loaded(1).values())

    assert total == 4
    assert commit.healable(pipeline.checkpoint()) == []


def test_staged_objects_that_are_gone_are_made_again(pipeline):
    """A receipt whose objects are gone is no receipt."""
    pipeline.put("a")
    pipeline.until_load(0)
    for found in pipeline.s3.list_objects_v2(Bucket=pipeline.bucket, Prefix="staged/")["Contents"]:
        pipeline.s3.delete_object(Bucket=pipeline.bucket, Key=found["Key"])
    assert steps.ready(pipeline.run(0)) == []

    assert pipeline.until_load(1) == {"server/2026-11-23T12:00:00Z": 1}


def test_no_more_parts_are_handed_out_than_airflow_maps(pipeline):
    """Else commit would fail in every run after a long outage of transform, and what waits would grow for ever."""
    run, other = pipeline.run(0), pipeline.run(1).batch
    for id_, parts in ((run.batch.id, steps.MOST_DUE - 1), (other.id, 2)):
        archive.write_manifest(run.s3, run.bucket, Manifest(batch=id_, parts=tuple(Part(name=f"shards-{n}") for n in range(parts))))
    archive.change_checkpoint(run.s3, run.bucket, "server", lambda _: Checkpoint(newest=other.id, pending={other.id: Pending()}))

    due = steps.make_batch(run, [])

    assert len(due) == steps.MOST_DUE
    assert due[-1] == steps.Due(other.id, "shards-0")


def test_a_held_batch_is_tried_again_by_its_own_run_alone(pipeline):
    """Held back by Redshift's refusal, it must not be tried every minute."""
    pipeline.put("a")
    pipeline.until_load(0)
    steps.held_back(pipeline.run(0), {"server/2026-11-23T12:00:00Z": "String length exceeds DDL length"})

    assert pipeline.until_load(1) == {}
    assert pipeline.until_load(0) == {"server/2026-11-23T12:00:00Z": 1}


def test_a_batch_whose_raw_objects_are_gone_is_held_back_until_they_are_back(pipeline):
    """No later run can do better, and each would be red for it; the others flow."""
    pipeline.put("a")
    run = pipeline.run(0)
    parts = [steps.drain(run, lane, pipeline.streams, LIMITS) for lane in steps.plan(run, pipeline.streams)]
    (due,) = steps.make_batch(run, parts)
    key = parts[0].objects[0].key
    data = pipeline.s3.get_object(Bucket=pipeline.bucket, Key=key)["Body"].read()
    pipeline.s3.delete_object(Bucket=pipeline.bucket, Key=key)

    with pytest.raises(LostObject, match=key):
        steps.transform_part(run, due, None)

    assert key in pipeline.checkpoint().pending[run.batch.id].held
    pipeline.put("b")
    assert pipeline.until_load(1) == {"server/2026-11-23T12:01:00Z": 1}
    pipeline.s3.put_object(Bucket=pipeline.bucket, Key=key, Body=data)
    assert pipeline.until_load(0)[run.batch.id] == 1


def test_a_pending_batch_whose_manifest_is_gone_turns_its_own_run_red_and_stops_no_other(pipeline, caplog):
    """Clearing its run must not come to nothing in silence."""
    pipeline.put("a")
    pipeline.until_load(0)
    run = pipeline.run(0)
    pipeline.s3.delete_object(Bucket=pipeline.bucket, Key=f"state/server/batches/{run.batch.name}.json")

    with pytest.raises(LostObject, match="manifest is gone"):
        steps.make_batch(run, [])

    pipeline.put("b")
    assert pipeline.until_load(1) == {"server/2026-11-23T12:01:00Z": 1}
    assert f"{run.batch} waits to be loaded, and its manifest is gone" in caplog.text


def test_a_dead_commit_is_rolled_forward_by_the_next_run(pipeline):
    """After the conditional write the batch is made, whatever became of who made it."""
    pipeline.drop("one.jsonl", "a")
    run = pipeline.run(0)
    parts = [steps.drain(run, lane, pipeline.streams, LIMITS) for lane in steps.plan(run, pipeline.streams)]
    archive.change_checkpoint(run.s3, run.bucket, "server", lambda now: commit.add(now, run.batch, parts))

    assert pipeline.until_load(1) == {run.batch.id: 1}
    assert not pipeline.s3.list_objects_v2(Bucket=pipeline.bucket, Prefix="buffer/").get("Contents")


def test_a_lane_without_anything_drains_nothing(pipeline):
    """It stands for a run that has only to heal."""
    part = steps.drain(pipeline.run(0), Lane(name="nothing", kind="nothing"), pipeline.streams, LIMITS)

    assert part.objects == ()
    assert steps.make_batch(pipeline.run(0), [part]) == [steps.Due()]
