"""Blocks of the raw archive."""

from __future__ import annotations

import io

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from polku.records import Block, pack, unpack

_blocks = st.builds(
    lambda shard, rows: Block(shard, [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]),
    st.text(max_size=20),
    st.lists(st.tuples(st.text(max_size=60), st.integers(0, 2**62), st.binary(max_size=50)), max_size=20),
)


@given(st.lists(_blocks, max_size=4))
def test_what_was_packed_is_unpacked(blocks):
    """Any bytes, also none, in their order."""
    packed = b"".join(map(pack, blocks))

    assert list(unpack(io.BytesIO(packed))) == blocks


def test_a_raw_object_is_a_valid_zstd_file():
    """Anybody can look into it with the ordinary tool."""
    packed = pack(Block("s", ["1"], [2], [b"three"])) * 2

    text = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True).read()

    assert text.count(b"three") == 2


def test_a_block_of_ten_megabytes_comes_back_whole():
    """Kinesis takes records of this size."""
    block = Block("s", ["1"], [2], [bytes(range(256)) * 40_960])

    assert list(unpack(io.BytesIO(pack(block)))) == [block]


def test_blocks_before_the_damage_are_yielded():
    """The caller decides what that is worth."""
    good, bad = pack(Block("s", ["1"], [2], [b"x"])), pack(Block("s", ["2"], [3], [b"y"]))
    reading = unpack(io.BytesIO(good + bytes([*bad[:-6], 0, 0, 0, 0, 0, 0]) + b"rubbish"))

    assert next(reading).data == [b"x"]
    with pytest.raises(ValueError, match="raw object is"):
        list(reading)


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        (b"\xff\xff\xff\xff", "a block of 4294967295 bytes"),
        (b"\0\0", "damaged"),
        (b"\0\0\0\x09abc", "cut off"),
        (b"\0\0\0\x01\xc1", "damaged"),
        (b"\0\0\0\x08" + b"\x94\xa1s\x91\xa11\x90\x90", "1 sequences, 0 arrivals, 0 records"),
    ],
    ids=["too long", "half a length", "half a block", "no msgpack", "columns of unequal length"],
)
def test_damage_is_named(inside, says):
    """A length is checked before memory is given for it."""
    with pytest.raises(ValueError, match=says):
        list(unpack(io.BytesIO(zstandard.ZstdCompressor().compress(inside))))


def test_what_is_no_zstd_is_damaged():
    """Another file under the name of a raw object."""
    with pytest.raises(ValueError, match="damaged"):
        list(unpack(io.BytesIO(b"{}")))
