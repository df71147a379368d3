"""The commit protocol's decisions, without S3."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polku import commit
from polku.batches import Batch, BufferFile, Checkpoint, Part, Pending, Position, RawObject

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


def batch(minute):
    return Batch.of("server", NOON + timedelta(minutes=minute))


def part(name="shards-0", *, start="", end="5", files=(), files_from=-1, objects=True):
    raws = tuple(RawObject(key=f"raw/{f}", size=1, records=0, first_arrival=1, last_arrival=1, file=f) for f in files)
    if objects and not files:
        raws = (RawObject(key=f"raw/{name}", size=1, records=1, first_arrival=1, last_arrival=1),)
    shards = {} if files_from >= 0 else {"start": {name: Position(after=start)}, "end": {name: Position(after=end)}}
    return Part(name=name, objects=raws, files_from=files_from, **shards)


FILE = BufferFile(key="buffer/server/a.json", etag='"1"', size=1, modified=1)


@pytest.mark.parametrize(
    ("minute", "has_manifest", "move"),
    [(5, False, "resume"), (5, True, "resume"), (3, True, "replay"), (6, False, "drain"), (4, False, "heal")],
)
def test_what_a_run_does_follows_from_where_its_batch_stands(minute, has_manifest, move):
    """The stream moves only forward; the past is replayed from S3."""
    checkpoint = Checkpoint(newest=batch(5).id, pending={batch(5).id: Pending()})

    assert commit.next_move(batch(minute), checkpoint, has_manifest=has_manifest) == move


def test_a_run_for_a_time_without_a_batch_does_nothing_when_nothing_is_pending():
    """A backfill of a time before the pipeline was born is an empty success."""
    assert commit.next_move(batch(1), Checkpoint(newest=batch(5).id), has_manifest=False) == "nothing"


def test_a_batch_is_made_of_the_lanes_that_nobody_overtook():
    """Two drains of one stream can run at once: the second must not commit what the first has."""
    checkpoint = Checkpoint(positions={"shards-0": Position(after="3"), "shards-1": Position(after="7")})

    made = commit.add(checkpoint, batch(1), [part("shards-0", start="3", end="9"), part("shards-1", start="6", end="9")])

    assert [p.name for p in made.pending[batch(1).id].parts] == ["shards-0"]
    assert {key: at.after for key, at in made.positions.items()} == {"shards-0": "9", "shards-1": "7"}
    assert made.newest == batch(1).id


def test_a_batch_is_made_once():
    """Its answer may have been lost, or a zombie may come again with other lanes."""
    made = commit.add(Checkpoint(), batch(1), [part()])

    assert commit.add(made, batch(1), [part(start="5", end="9")]) is None
    assert commit.add(commit.drop(made, [batch(1).id]), batch(1), [part(start="5", end="9")]) is None
    assert commit.add(made, batch(0), [part(start="5", end="9")]) is None


def test_files_are_taken_by_one_of_two_drains_that_saw_the_same():
    """The S3 buffer has no sequence numbers; the counter stands for one."""
    lane = part("files", files=[FILE], files_from=0)
    made = commit.add(Checkpoint(), batch(1), [lane])

    assert made.files == 1
    assert commit.add(made, batch(2), [lane]) is None


def test_a_shard_that_ended_without_records_is_noted_without_a_batch():
    """Else its children would never start."""
    lane = Part(name="shards-0", start={"a": Position(after="3")}, end={"a": Position(after="3", finished=True)})

    made = commit.add(Checkpoint(positions={"a": Position(after="3")}), batch(1), [lane])

    assert made.positions["a"].finished
    assert not made.pending
    assert not made.newest


def test_an_idle_minute_writes_nothing():
    """One conditional write a minute for nothing would be 43,000 a month."""
    lane = Part(name="shards-0", start={"a": Position(after="3")}, end={"a": Position(after="3", caught_up=60_000)})

    assert commit.add(Checkpoint(positions={"a": Position(after="3")}), batch(1), [lane]) is None
    assert commit.refresh(Checkpoint(positions={"a": Position(after="3", caught_up=1)}), ["a"], 60_000) is None


def test_a_stream_that_was_empty_for_hours_is_noted_as_read():
    """Else its next record would be reported as overtaken by retention."""
    refreshed = commit.refresh(Checkpoint(positions={"a": Position(after="3", caught_up=1)}), ["a", "b"], 10_000_000)

    assert {key: (at.after, at.caught_up) for key, at in refreshed.positions.items()} == {"a": ("3", 10_000_000), "b": ("", 10_000_000)}


def test_a_gap_waits_for_a_batch_to_be_told_with():
    """A part without records is no part of a batch; what retention took from it must be told all the same."""
    checkpoint = Checkpoint(positions={"a": Position(after="3", arrival=1)})
    behind = Position(after="3", arrival=1, caught_up=90_000_000)
    empty = Part(name="shards-1", start={"a": Position(after="3", arrival=1)}, end={"a": behind}, gaps={"a": 21_600})

    alone = commit.add(checkpoint, batch(1), [empty])
    told = commit.add(alone, batch(2), [part()])
    beside = commit.add(checkpoint, batch(1), [part(), empty])

    assert (alone.gaps, alone.pending) == ({"a": 21_600}, {})
    for made, minute in ((told, 2), (beside, 1)):
        assert made.gaps == {}
        assert [p.gaps for p in made.pending[batch(minute).id].parts] == [{"a": 21_600}]


def test_what_is_lost_with_a_forgotten_shard_is_told_by_the_first_who_forgets_it():
    """Two runs may have planned it; the second has nothing to forget any more."""
    lanes = [msgspec.structs.replace(part(key), forget=("old",), gaps={"old": -1}) for key in ("shards-0", "shards-1")]

    first = commit.add(Checkpoint(positions={"old": Position(after="3")}), batch(1), lanes[:1])
    second = commit.add(first, batch(2), lanes[1:])

    assert [second.pending[batch(minute).id].parts[0].gaps for minute in (1, 2)] == [{"old": -1}, {}]


def test_forgotten_shards_leave_the_checkpoint_small():
    """A stream that is split every day would fill it for ever."""
    lane = Part(name="shards-0", forget=("old",))

    assert commit.add(Checkpoint(positions={"old": Position(finished=True)}), batch(1), [lane]).positions == {}


def test_a_loaded_batch_stays_pending_until_its_files_are_deleted():
    """Dropped before, its files would be listed and delivered again."""
    made = commit.add(Checkpoint(), batch(1), [part("files", files=[FILE], files_from=0)])

    assert batch(1).id in commit.drop(made, [batch(1).id]).pending
    assert commit.unsettled(made)[0].batch == batch(1).id
    settled = commit.settle(made, [batch(1).id])
    assert not commit.unsettled(settled)
    assert not commit.drop(settled, [batch(1).id]).pending


def test_a_held_batch_waits_while_others_are_healed():
    """One batch that Redshift refuses must not stop the others, nor be tried every minute."""
    checkpoint = Checkpoint(pending={batch(2).id: Pending(), batch(1).id: Pending(), batch(3).id: Pending()})

    assert commit.healable(commit.hold(checkpoint, {batch(1).id: "refused"})) == [batch(2).id, batch(3).id]


@given(families=st.lists(st.lists(st.text("abc", min_size=3, max_size=6), min_size=1, max_size=3), max_size=40), most=st.integers(1, 8))
def test_every_shard_is_in_one_lane_and_families_stay_together(families, most):
    """A shard in two lanes would be read twice; a child apart from its parent would wait a run."""
    families = [[f"{i}-{j}-{name}" for j, name in enumerate(family)] for i, family in enumerate(families)]

    lanes = commit.lanes(families, most=most, files=False)

    assert len(lanes) <= most
    assert sorted(key for lane in lanes for key in lane.shards) == sorted(key for family in families for key in family)
    for family in families:
        assert sum(set(family) <= set(lane.shards) for lane in lanes) == 1
