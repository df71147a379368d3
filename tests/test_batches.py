"""What the commit protocol writes down survives being written and read."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polku import batches
from polku.batches import Batch, BufferFile, Checkpoint, Part, Pending, Position, RawObject

MOMENTS = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(timezone.utc))


@given(source=st.sampled_from(batches.SOURCES), at=MOMENTS)
def test_a_batch_id_names_one_batch(source, at):
    """The id is what S3, Redshift and a person know the batch by."""
    batch = Batch.of(source, at)

    assert Batch.parse(batch.id) == batch


@given(MOMENTS, MOMENTS)
def test_two_batches_never_share_an_object_name(one, other):
    """Object names are made of the batch's name; two runs in one second must not meet."""
    assert (Batch.of("server", one).name == Batch.of("server", other).name) == (one == other)


def test_a_batch_has_the_same_id_whatever_zone_its_logical_date_is_told_in():
    """A retry on another worker must find the same batch."""
    utc = datetime(2026, 11, 23, 10, 41, tzinfo=timezone.utc)

    assert Batch.of("server", utc.astimezone(timezone(timedelta(hours=2)))).id == "server/2026-11-23T10:41:00Z"


@pytest.mark.parametrize("text", ["", "server", "server/2026-11-23", "other/2026-11-23T10:41:00Z", "server/2026-11-23T10:41:00Z\n", "../x"])
def test_what_is_no_batch_id_is_refused_with_an_example(text):
    """Ids reach object names and SQL, so nothing else may pass for one."""
    with pytest.raises(ValueError, match="expected something like server/2026"):
        Batch.parse(text)


@pytest.mark.parametrize(
    ("source", "at", "what"), [("moon", datetime.now(timezone.utc), "source"), ("server", datetime(2026, 1, 1), "time zone")]
)
def test_a_run_that_cannot_have_a_batch_is_refused(source, at, what):
    """A naive date would be another batch on another machine."""
    with pytest.raises(ValueError, match=what):
        Batch.of(source, at)


def test_a_checkpoint_is_read_as_it_was_written():
    """It is the only memory between two runs."""
    file = BufferFile(key="buffer/server/ä b.json", etag='"e"', size=3, modified=5)
    raw = RawObject(key="raw/x", size=3, records=0, first_arrival=5, last_arrival=5, file=file)
    part = Part(
        name="files", objects=(raw,), start={"a": Position()}, end={"a": Position(after="49", arrival=7)}, files_from=2, gaps={"a": -1}
    )
    checkpoint = Checkpoint(
        positions={"a": Position(after="49")},
        files=3,
        newest="server/2026-11-23T10:41:00Z",
        pending={"server/2026-11-23T10:41:00Z": Pending(parts=(part,), held="why")},
    )

    assert batches.load(batches.dump(checkpoint), Checkpoint) == checkpoint
    assert batches.from_xcom(batches.to_xcom(checkpoint), Checkpoint) == checkpoint
    assert part.files == (file,)


def test_a_state_object_of_another_shape_is_refused():
    """A checkpoint that is half understood would lose what the other half says."""
    with pytest.raises(msgspec.ValidationError):
        batches.load(b'{"positions": []}', Checkpoint)
