"""
What the local Kinesis keeps: streams, shards and their records, in memory; and its rules about them.

A record is kept as the JSON that GetRecords sends. A sequence number has 56 digits, grows within its shard, and tells the
shard and the second of its creation, so that one of another shard or stream can be refused as Kinesis does.
"""

from __future__ import annotations

import uuid
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from local.http_server import Response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ACCOUNT = "123456789012"
ANSWER_BYTES = 10 << 20
ANSWER_RECORDS = 10_000
HASHES = 1 << 128
JSON = "application/x-amz-json-1.1"
RECORD_KIB = 10 << 10
_VERSION = 2  # of sequence numbers: at both their ends


def headers() -> dict[str, str]:
    """Return the headers of every answer."""
    return {"Content-Type": JSON, "x-amzn-RequestId": str(uuid.uuid4())}


class Refused(Exception):
    """An error as Kinesis answers it."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status

    def response(self) -> Response:
        """Return it as HTTP."""
        body = msgspec.json.encode({"__type": self.code, "message": str(self)})
        return Response(status=self.status, body=body, headers=headers())


def wrong_argument(message: str) -> Refused:
    """Return the error for an argument that does not fit what is there."""
    return Refused("InvalidArgumentException", message)


def invalid(message: str) -> Refused:
    """Return the error for an argument that is never right."""
    return Refused("ValidationException", f"1 validation error detected: {message}")


class Rates:
    """How much of a shard's second is used up: a bucket that fills at a rate and holds one second of it."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.left = rate
        self.at = 0.0

    def take(self, amount: float, now: float, *, debt: bool = False) -> bool:
        """Take an amount if it is there; with debt, if anything is there, and owe the rest."""
        self.left = min(self.rate, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < (1e-9 if debt else amount):
            return False
        self.left -= amount
        return True


@dataclass
class Shard:
    """A shard: a hash range, and its records as columns, each record also as the JSON that GetRecords sends."""

    index: int
    created: int
    low: int
    high: int
    parents: tuple[str, ...] = ()
    closed_at: float = 0.0
    last: int = 0
    count: int = 0
    sequences: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    encoded: list[bytes] = field(default_factory=list)
    children: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.last = self.first = self.sequence(0, self.created)
        self.reads, self.read_bytes, self.iterators = Rates(5), Rates(2 << 20), Rates(5)
        self.writes, self.written_bytes = Rates(1000), Rates(1 << 20)

    @property
    def id(self) -> str:
        """E.g. ``shardId-000000000000``."""
        return f"shardId-{self.index:012d}"

    def sequence(self, number: int, second: float) -> int:
        """Return the sequence number of the n-th record: 56 digits that grow with n and tell the shard and its creation."""
        return (_VERSION << 184) + (self.created << 148) + (number << 84) + (int(second) << 36) + (self.index << 4) + _VERSION

    def put(self, data: str, size: int, key: str, now: float) -> str:
        """Keep a record and return its sequence number; ``data`` is base64 of ``size`` bytes."""
        self.count += 1
        self.last = self.sequence(self.count, now)
        text = str(self.last)
        self.sequences.append(self.last)
        self.arrivals.append(now)
        self.sizes.append(size)
        self.encoded.append(
            b'{"SequenceNumber":"%b","ApproximateArrivalTimestamp":%.3f,"Data":"%b","PartitionKey":%b}'
            % (text.encode(), now, data.encode(), msgspec.json.encode(key))
        )
        return text

    def trim(self, horizon: float) -> None:
        """Drop the records that arrived before."""
        gone = bisect_left(self.arrivals, horizon)
        if gone:
            del self.sequences[:gone], self.arrivals[:gone], self.sizes[:gone], self.encoded[:gone]

    def described(self) -> dict[str, Any]:
        """Return the shard as ListShards has it."""
        sequences = {"StartingSequenceNumber": str(self.first)}
        if self.closed_at:
            sequences["EndingSequenceNumber"] = str(self.last + (1 << 84))
        parents = dict(zip(("ParentShardId", "AdjacentParentShardId"), self.parents, strict=False))
        return {
            "ShardId": self.id,
            "HashKeyRange": {"StartingHashKey": str(self.low), "EndingHashKey": str(self.high)},
            "SequenceNumberRange": sequences,
            **parents,
        }


@dataclass
class Stream:
    """A stream and all its shards by id, closed ones too until retention takes them."""

    name: str
    created: float
    mode: str
    region: str
    retention_hours: int = 24
    record_kib: int = RECORD_KIB
    shards: dict[str, Shard] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        """The stream's ARN."""
        return f"arn:aws:kinesis:{self.region}:{ACCOUNT}:stream/{self.name}"

    def open(self) -> list[Shard]:
        """Return the shards that take records, by hash range."""
        return sorted((s for s in self.shards.values() if not s.closed_at), key=lambda s: s.low)

    def shard(self, shard_id: str) -> Shard:
        """Return a shard; raises Refused where there is none."""
        if shard_id not in self.shards:
            raise Refused("ResourceNotFoundException", f"Shard {shard_id} in stream {self.name} under account {ACCOUNT} does not exist")
        return self.shards[shard_id]

    def add(self, low: int, high: int, now: float, parents: tuple[Shard, ...] = ()) -> Shard:
        """Open a shard; its sequence numbers are greater than its parents'."""
        created = max([int(now), *(int(p.created) + 1 for p in parents)])
        index = 1 + max((s.index for s in self.shards.values()), default=-1)
        shard = Shard(index, created, low, high, tuple(p.id for p in parents))
        self.shards[shard.id] = shard
        return shard

    def trim(self, now: float) -> None:
        """Drop what is older than the retention, and closed shards whose last moment is."""
        horizon = now - self.retention_hours * 3600
        for shard in list(self.shards.values()):
            shard.trim(horizon)
            if shard.closed_at and shard.closed_at < horizon:
                del self.shards[shard.id]


def hash_ranges(count: int) -> Iterator[tuple[int, int]]:
    """Yield the hash ranges of so many shards."""
    step = HASHES // count
    for index in range(count):
        yield index * step, ((index + 1) * step if index + 1 < count else HASHES) - 1


def filtered(stream: Stream, wanted: Mapping[str, Any] | None, now: float) -> list[Shard]:
    """Return the shards that a ShardFilter of ListShards lets through, by id; without one, all."""
    shards = sorted(stream.shards.values(), key=lambda s: s.index)
    kind = wanted.get("Type") if wanted else None
    if wanted is None or kind == "FROM_TRIM_HORIZON":
        return shards
    if kind == "AT_LATEST":
        return [s for s in shards if not s.closed_at]
    if kind == "AFTER_SHARD_ID":
        return [s for s in shards if s.id > wanted.get("ShardId", "")]
    horizon = now - stream.retention_hours * 3600
    at = max(horizon, float(wanted["Timestamp"])) if kind in ("AT_TIMESTAMP", "FROM_TIMESTAMP") and "Timestamp" in wanted else horizon
    if kind in ("AT_TIMESTAMP", "AT_TRIM_HORIZON"):
        return [s for s in shards if (s.created <= max(at, stream.created)) and (not s.closed_at or s.closed_at > at)]
    if kind == "FROM_TIMESTAMP":
        return [s for s in shards if not s.closed_at or s.closed_at >= at]
    raise invalid(f"Value '{kind}' at 'shardFilter.type' failed to satisfy constraint: Member must satisfy enum value set")


def own_sequence(stream: Stream, shard: Shard, text: str) -> int:
    """Return a sequence number that is one of this shard's; raises Refused where it is not (see ``Shard.sequence``)."""
    number = int(text) if text.isdecimal() else 0
    created = (number >> 148) & ((1 << 36) - 1)
    index = (number >> 4) & ((1 << 32) - 1)
    if number >> 184 != _VERSION or number & 15 != _VERSION or created not in {s.created for s in stream.shards.values()}:
        raise wrong_argument(
            f"StartingSequenceNumber {text:.60} used in GetShardIterator on shard {shard.id} in stream {stream.name} under "
            f"account {ACCOUNT} is invalid because it did not come from this stream."
        )
    if index != shard.index:
        raise wrong_argument(
            f"Invalid StartingSequenceNumber. It encodes shardId-{index:012d}, while it was used in a call to a shard with {shard.id}"
        )
    return number


def answer_end(sizes: list[int], begin: int, limit: int) -> int:
    """Return where an answer ends that begins here: so many records, and 10 MB (one record at least)."""
    end = begin
    size = 0
    for record in sizes[begin : begin + limit]:
        size += record
        if size > ANSWER_BYTES and end > begin:
            break
        end += 1
    return end
