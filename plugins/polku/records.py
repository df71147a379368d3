"""
Kinesis records in the raw archive: written by drain, read by transform.

A raw object is a valid multi-frame zstd file.
Decompressed it is a sequence of blocks, each a length (4 bytes, big-endian) and that many bytes of msgpack, a ``Block``.
The data of a record is kept exactly as it arrived: also what is not JSON, and also what the Kinesis Producer Library has aggregated.
Each call of ``pack`` gives one frame, so that an object is put together by writing what it returns one after another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_BYTES = 4 * 1024 * 1024
"""How much data a writer gathers in one block before it packs it; a single record may be larger (Kinesis takes 10 MiB)."""

_BLOCK_LIMIT = 64 * 1024 * 1024
"""No block is larger than this; a length beyond it means that the object is damaged, and guards the reader's memory."""

_LEVEL = 1
_PREFIX = 4
_READ = 1024 * 1024


class Block(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    Records of one shard, in the order of the shard; the four lists are columns of equal length.

    Args:
        shard: Position key (``kinesis.Shard.key``).
        sequences: Sequence numbers, as Kinesis gave them.
        arrivals: ApproximateArrivalTimestamp, in ms since 1970.
        data: The records' bytes.
    """

    shard: str
    sequences: list[str]
    arrivals: list[int]
    data: list[bytes]


def pack(block: Block) -> bytes:
    """Return a block as one zstd frame, with its length prefix inside."""
    import zstandard

    body = msgspec.msgpack.encode(block)
    return zstandard.ZstdCompressor(level=_LEVEL).compress(len(body).to_bytes(_PREFIX, "big") + body)


def unpack(stream: BinaryIO) -> Iterator[Block]:
    """
    Yield the blocks of a raw object, one in memory at a time.

    Args:
        stream: The object's bytes, read in pieces as they are needed.

    Raises:
        ValueError: The object is damaged or cut off. Blocks before the damage were yielded; the caller gives the try up.
    """
    import zstandard

    decode = msgspec.msgpack.Decoder(Block).decode
    try:
        with zstandard.ZstdDecompressor().stream_reader(stream, read_size=_READ, read_across_frames=True, closefd=False) as reader:
            while prefix := _read(reader, _PREFIX):
                size = int.from_bytes(prefix, "big")
                if len(prefix) < _PREFIX or size > _BLOCK_LIMIT:
                    raise ValueError(f"raw object is damaged: a block of {size} bytes; expected at most {_BLOCK_LIMIT}")
                body = _read(reader, size)
                if len(body) < size:
                    raise ValueError(f"raw object is cut off: {len(body)} of a block's {size} bytes are there")
                yield _checked(decode(body))
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise ValueError(f"raw object is damaged: {error}") from error


def _checked(block: Block) -> Block:
    """Return the block if its columns are of one length; raises ValueError where they are not."""
    if not len(block.sequences) == len(block.arrivals) == len(block.data):
        raise ValueError(
            f"raw object is damaged: a block of {len(block.sequences)} sequences, {len(block.arrivals)} arrivals, {len(block.data)} records"
        )
    return block


def _read(reader: BinaryIO, size: int) -> bytes:
    """Return ``size`` bytes, or what there is before the end; a read of a zstd stream may give less than was asked for."""
    first = reader.read(size)
    if len(first) == size or not first:
        return first
    pieces = [first]
    missing = size - len(first)
    while missing and (piece := reader.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
