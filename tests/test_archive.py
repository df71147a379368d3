"""The bucket's rules against a real S3 server: written once, replaced only if unchanged."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone

import boto3
import pytest

from local.aws import AwsServer
from polku import archive
from polku.batches import LAYOUT, Batch, Checkpoint, Manifest, Part, Position, RawObject, Receipt, StagedObject, Tally
from polku.errors import LostRace, SettingsError, TransientError

BATCH = Batch.of("server", datetime(2026, 11, 23, 10, 41, tzinfo=timezone.utc))


@pytest.fixture(scope="module")
def s3():
    with AwsServer(port=0) as server:
        yield boto3.client("s3", endpoint_url=server.url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")


@pytest.fixture
def bucket(s3):
    name = f"polku-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


def test_two_tries_never_write_the_same_object():
    """A zombie that wakes after its successor must not change what a commit has named."""
    one = archive.Names(batch=BATCH, part="shards-0", attempt="1-a")
    other = archive.Names(batch=BATCH, part="shards-0", attempt="2-b")

    assert one.raw(0) == "raw/server/dt=2026-11-23/20261123T104100Z/shards-0-1-a-00000"
    assert {one.raw(0), one.staged(0), one.quarantine(0)}.isdisjoint({other.raw(0), other.staged(0), other.quarantine(0)})


def test_our_own_write_whose_answer_was_lost_counts_as_written(s3, bucket):
    """The client repeats a PUT when the connection breaks, and gets 412 for what it did itself."""
    etag = archive.put_once(s3, bucket, "raw/a", b"one")

    assert archive.put_once(s3, bucket, "raw/a", b"one") == etag


def test_an_object_of_another_size_under_our_name_is_an_error(s3, bucket):
    """Names are never used twice; if one is, nobody may go on."""
    archive.put_once(s3, bucket, "raw/a", b"one")

    with pytest.raises(TransientError, match="3 bytes; expected our 5"):
        archive.put_once(s3, bucket, "raw/a", b"other")


def test_only_one_of_two_commits_wins(s3, bucket):
    """max_active_runs is no lock; this is."""
    archive.replace_checkpoint(s3, bucket, "server", Checkpoint(newest=BATCH.id), "")
    checkpoint, etag = archive.read_checkpoint(s3, bucket, "server")
    archive.replace_checkpoint(s3, bucket, "server", Checkpoint(files=1), etag)

    with pytest.raises(LostRace):
        archive.replace_checkpoint(s3, bucket, "server", Checkpoint(files=2), etag)
    with pytest.raises(LostRace):
        archive.replace_checkpoint(s3, bucket, "server", Checkpoint(files=2), "")
    assert checkpoint.newest == BATCH.id
    assert archive.read_checkpoint(s3, bucket, "server")[0].files == 1


def test_a_change_is_applied_to_what_somebody_else_wrote_meanwhile(s3, bucket):
    """The loser of a race reads again and decides again."""
    seen = []

    def change(now):
        seen.append(now.files)
        if len(seen) == 1:
            archive.replace_checkpoint(s3, bucket, "server", Checkpoint(files=5), "")
        return Checkpoint(positions=now.positions, files=now.files + 1)

    assert archive.change_checkpoint(s3, bucket, "server", change).files == 6
    assert seen == [0, 5]


def test_a_checkpoint_of_another_release_stops_the_run(s3, bucket):
    """Read as empty it would deliver the stream again from its beginning."""
    s3.put_object(Bucket=bucket, Key="state/server/checkpoint.json", Body=b'{"positions": 3}')

    with pytest.raises(SettingsError, match="is not a Checkpoint of this release"):
        archive.read_checkpoint(s3, bucket, "server")


def test_a_manifest_is_for_good(s3, bucket):
    """A batch never changes once it is made."""
    part = Part(name="a", objects=(RawObject(key="raw/a", size=1, records=1, first_arrival=1, last_arrival=1),))
    assert archive.read_manifest(s3, bucket, BATCH) is None

    archive.write_manifest(s3, bucket, Manifest(batch=BATCH.id, parts=(part,)))
    archive.write_manifest(s3, bucket, Manifest(batch=BATCH.id, parts=()))

    assert archive.read_manifest(s3, bucket, BATCH).parts == (part,)


def receipt(s3, bucket, key="staged/a", layout=LAYOUT):
    etag = archive.put_once(s3, bucket, key, b"rows")
    return Receipt(
        batch=BATCH.id,
        part="a",
        layout=layout,
        generation=0,
        staged=(StagedObject(key=key, size=4, rows=1, etag=etag),),
        quarantine=(),
        tally=Tally(),
    )


def test_each_transform_of_a_part_is_newer_than_the_one_before(s3, bucket):
    """The books tell a zombie by its generation, whatever the workers' clocks say."""
    first = archive.write_receipt(s3, bucket, receipt(s3, bucket), now_ms=1000)
    second = archive.write_receipt(s3, bucket, receipt(s3, bucket, "staged/b"), now_ms=10)

    assert (first.generation, second.generation) == (1000, 1001)
    assert archive.read_receipt(s3, bucket, BATCH, Part(name="a")) == second


@pytest.mark.parametrize("harm", ["gone", "changed", "layout"])
def test_a_receipt_whose_objects_are_not_the_ones_written_is_none(s3, bucket, harm):
    """COPY would fail, or load what nobody has counted; the part is transformed again instead."""
    archive.write_receipt(s3, bucket, receipt(s3, bucket, layout=LAYOUT + (harm == "layout")), now_ms=1)

    if harm == "gone":
        s3.delete_object(Bucket=bucket, Key="staged/a")
    if harm == "changed":
        s3.put_object(Bucket=bucket, Key="staged/a", Body=b"sour")

    assert archive.read_receipt(s3, bucket, BATCH, Part(name="a")) is None


def test_a_replay_whose_raw_objects_have_expired_says_so(s3, bucket):
    """A person must see that lifecycle rules, not a fault, took them."""
    raw = RawObject(key="raw/gone", size=1, records=1, first_arrival=1, last_arrival=1)

    with pytest.raises(SettingsError, match=r"raw/gone is gone.*lifecycle"):
        archive.open_raw(s3, bucket, raw)


def test_a_bucket_that_does_not_exist_is_named(s3):
    """The parameter to look at stands in the message."""
    with pytest.raises(SettingsError, match=r"s3://polku-nowhere/.* Set `bucket` in parameters\.yaml\.j2"):
        archive.read_checkpoint(s3, "polku-nowhere", "server")


def test_positions_survive_the_bucket(s3, bucket):
    """A position that is read back differently reads the stream twice, or not at all."""
    positions = {"s@1/shardId-0": Position(after="4955" * 14, arrival=5, caught_up=9), "s@1/shardId-1": Position(finished=True)}

    archive.replace_checkpoint(s3, bucket, "server", Checkpoint(positions=positions), "")

    assert archive.read_checkpoint(s3, bucket, "server")[0].positions == positions
