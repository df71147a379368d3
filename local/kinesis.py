"""
A Kinesis of one's own on loopback, strict and quick: its JSON protocol, real resharding, retention, limits on demand.

What moto's does otherwise: sequence numbers here have 56 digits, grow, and are tied to their shard; iterators expire; a
split or merge leaves the records where they are, and the parent ends with a null iterator; retention trims; tokens of
ListShards expire. Answers are made from records kept in the form in which they are sent.

``KinesisServer`` serves it to any AWS SDK or CLI that speaks JSON (not CBOR, not HTTP/2). ``fault`` makes it misbehave:
beside what ``LoopbackServer`` knows, ``throttle``, ``limit``, ``kms``, ``denied``, ``expired``, ``internal``, and ``empty``
(GetRecords finds nothing this time). The path of a fault names the operation, maybe with its shard or stream:
``fault("throttle", 3, path="shardId-000000000001/GetRecords")``.

``python -m local.kinesis --port 4567`` serves until it is ended.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import itertools
import secrets
import threading
import time
import uuid
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from local.http_server import LoopbackServer, Request, Response, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ACCOUNT = "123456789012"
REGION = "eu-west-1"

_TARGET = "Kinesis_20131202."
_JSON = "application/x-amz-json-1.1"
_HASHES = 1 << 128
_ANSWER_BYTES = 10 << 20
_ANSWER_RECORDS = 10_000
_PUT_BYTES = 10 << 20
_PUT_RECORDS = 500
_RECORD_KIB = 10 << 10
_KEY_CHARACTERS = 256
_TOKEN_SECONDS = 300
_VERSION = 2  # of sequence numbers: at both their ends


class Refused(Exception):
    """An error as Kinesis answers it."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status

    def response(self) -> Response:
        """Return it as HTTP."""
        body = msgspec.json.encode({"__type": self.code, "message": str(self)})
        return Response(status=self.status, body=body, headers=_headers())


def _argument(message: str) -> Refused:
    return Refused("InvalidArgumentException", message)


def _validation(message: str) -> Refused:
    return Refused("ValidationException", f"1 validation error detected: {message}")


class _Rates:
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
class _Shard:
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
        self.reads, self.read_bytes, self.iterators = _Rates(5), _Rates(2 << 20), _Rates(5)
        self.writes, self.written_bytes = _Rates(1000), _Rates(1 << 20)

    @property
    def id(self) -> str:
        return f"shardId-{self.index:012d}"

    def sequence(self, number: int, second: float) -> int:
        """Return the sequence number of the n-th record: 56 digits that grow with n and tell the shard and its creation."""
        return (_VERSION << 184) + (self.created << 148) + (number << 84) + (int(second) << 36) + (self.index << 4) + _VERSION

    def put(self, data: str, size: int, key: str, now: float) -> str:
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
        gone = bisect_left(self.arrivals, horizon)
        if gone:
            del self.sequences[:gone], self.arrivals[:gone], self.sizes[:gone], self.encoded[:gone]

    def described(self) -> dict[str, Any]:
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
class _Stream:
    name: str
    created: float
    mode: str
    region: str
    retention_hours: int = 24
    record_kib: int = _RECORD_KIB
    shards: dict[str, _Shard] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        return f"arn:aws:kinesis:{self.region}:{ACCOUNT}:stream/{self.name}"

    def open(self) -> list[_Shard]:
        return sorted((s for s in self.shards.values() if not s.closed_at), key=lambda s: s.low)

    def shard(self, shard_id: str) -> _Shard:
        if shard_id not in self.shards:
            raise Refused("ResourceNotFoundException", f"Shard {shard_id} in stream {self.name} under account {ACCOUNT} does not exist")
        return self.shards[shard_id]

    def add(self, low: int, high: int, now: float, parents: tuple[_Shard, ...] = ()) -> _Shard:
        created = max([int(now), *(int(p.created) + 1 for p in parents)])
        index = 1 + max((s.index for s in self.shards.values()), default=-1)
        shard = _Shard(index, created, low, high, tuple(p.id for p in parents))
        self.shards[shard.id] = shard
        return shard

    def trim(self, now: float) -> None:
        """Drop what is older than the retention, and closed shards whose last moment is."""
        horizon = now - self.retention_hours * 3600
        for shard in list(self.shards.values()):
            shard.trim(horizon)
            if shard.closed_at and shard.closed_at < horizon:
                del self.shards[shard.id]


class _Iterator(msgspec.Struct, array_like=True):
    stream: str
    created: float
    shard: str
    after: str
    issued: float


class _Token(msgspec.Struct, array_like=True):
    stream: str
    after: str
    issued: float
    max_results: int
    filter: dict[str, Any] | None


T = TypeVar("T", _Iterator, _Token)


class KinesisServer(LoopbackServer):
    """
    Kinesis on loopback, from ``__enter__`` to ``__exit__``; everything is kept in memory.

    Args:
        port: 0 takes any free port.
        region: In the ARNs; a client may name any.
        limits: Enforce the limits of a shard (reads, writes, bytes, a second); checks of size always hold.
        endless: Give a next iterator also at the end of a closed shard, and name no children, as moto does.
        name_children: Name ChildShards in the last answer of a closed shard.
        page_shards: Shards on a page of ListShards.
        iterator_seconds: How long an iterator lives.
    """

    NAME = "kinesis"

    def __init__(
        self,
        *,
        port: int = 0,
        region: str = REGION,
        limits: bool = False,
        endless: bool = False,
        name_children: bool = True,
        page_shards: int = 1000,
        iterator_seconds: float = 300,
    ) -> None:
        super().__init__(port=port)
        self.region = region
        self.limits = limits
        self.endless = endless
        self.name_children = name_children
        self.page_shards = page_shards
        self.iterator_seconds = iterator_seconds
        self.streams: dict[str, _Stream] = {}
        self.calls: dict[str, int] = {}
        self._ahead = 0.0
        self._secret = secrets.token_bytes(32)
        self._guard = threading.RLock()

    # for tests, in the same process

    def now(self) -> float:
        """Return the server's time, in seconds since 1970."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let time pass: for retention, expiry and limits."""
        self._ahead += seconds

    # HTTP

    def respond(self, request: Request) -> tuple[Response | None, bool]:
        """Give each request the path ``/<stream>/<shard>/<operation>``, so that faults can name one."""
        operation = request.headers.get("x-amz-target", "")
        if request.method == "POST" and operation.startswith(_TARGET):
            request = changed(request, path=self._path(operation.removeprefix(_TARGET), request.body))
        return super().respond(request)

    def _path(self, operation: str, body: bytes) -> str:
        try:
            wanted = msgspec.json.decode(body)
            stream = wanted.get("StreamName") or str(wanted.get("StreamARN", "")).rpartition("/")[2]
            shard = wanted.get("ShardId", "")
            if operation == "GetRecords":
                iterator = self._open(wanted.get("ShardIterator", ""), _Iterator)
                stream, shard = iterator.stream, iterator.shard
        except (msgspec.DecodeError, AttributeError, Refused):
            return f"/{operation}"
        return f"/{stream}/{shard}/{operation}" if shard else f"/{stream}/{operation}"

    def faulty(self, kind: str) -> Response | None:
        """Return the error of one of our faults; ``empty`` is made by GetRecords itself."""
        if kind in _FAULTS:
            return _FAULTS[kind].response()
        return Response(body=kind.encode()) if kind == "empty" else super().faulty(kind)

    def _next_fault(self, path: str) -> str:
        """Leave ``empty`` to ``handle``, which knows how far behind the shard is."""
        kind = super()._next_fault(path)
        if kind == "empty" and path.endswith("GetRecords"):
            _now.empty = True
            return ""
        return kind

    def handle(self, request: Request) -> Response:
        """Answer one call."""
        empty, _now.empty = getattr(_now, "empty", False), False
        if request.method != "POST":
            return Response.of_json({"service": "kinesis", "streams": sorted(self.streams)})
        try:
            body = self._answer(request, empty=empty)
        except Refused as refusal:
            return refusal.response()
        return Response(body=body, headers=_headers())

    def _answer(self, request: Request, *, empty: bool) -> bytes:
        operation = request.path.rpartition("/")[2]
        call: Callable[[Mapping[str, Any], float], Any] | None = (
            getattr(self, f"_{_snake(operation)}", None) if operation in _OPERATIONS else None
        )
        if call is None:
            raise Refused("UnknownOperationException", f"{operation!r:.60} is not supported by the local Kinesis")
        if not request.headers.get("content-type", "").startswith(_JSON):
            raise Refused("SerializationException", f"the local Kinesis speaks {_JSON} only (in Java: AWS_CBOR_DISABLE=true)")
        if "authorization" not in request.headers and "x-amz-signature" not in request.query:
            raise Refused("MissingAuthenticationTokenException", "Request is missing Authentication Token")
        try:
            wanted = msgspec.json.decode(request.body or b"{}", type=dict)
        except msgspec.DecodeError as error:
            raise Refused("SerializationException", str(error)) from None
        with self._guard:
            self.calls[operation] = self.calls.get(operation, 0) + 1
            now = self.now()
            for stream in self.streams.values():
                stream.trim(now)
            if operation == "GetRecords":
                return self._get_records(wanted, now, empty=empty)
            answer = call(wanted, now)
        return b"" if answer is None else msgspec.json.encode(answer)

    # streams

    def _stream(self, wanted: Mapping[str, Any]) -> _Stream:
        name = wanted.get("StreamName")
        arn = wanted.get("StreamARN")
        if not name and not arn:
            raise _argument("Must specify either StreamName or StreamARN")
        found = self.streams.get(name or str(arn).rpartition("/")[2])
        if found is None or (arn and found.arn != arn):
            what = f"Stream {name or arn} under account {ACCOUNT} not found."
            raise Refused("ResourceNotFoundException", what)
        return found

    def _create_stream(self, wanted: Mapping[str, Any], now: float) -> None:
        name = _text(wanted, "StreamName", 128)
        if name in self.streams:
            raise Refused("ResourceInUseException", f"Stream {name} under account {ACCOUNT} already exists.")
        mode = wanted.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
        count = 4 if mode == "ON_DEMAND" else wanted.get("ShardCount", 1)
        if not isinstance(count, int) or count < 1:
            raise _validation(
                f"Value '{count}' at 'shardCount' failed to satisfy constraint: Member must have value greater than or equal to 1"
            )
        stream = _Stream(name, now, mode, self.region, record_kib=wanted.get("MaxRecordSizeInKiB", _RECORD_KIB))
        for low, high in _ranges(count):
            stream.add(low, high, now)
        self.streams[name] = stream

    def _delete_stream(self, wanted: Mapping[str, Any], _: float) -> None:
        del self.streams[self._stream(wanted).name]

    def _list_streams(self, wanted: Mapping[str, Any], _: float) -> dict[str, Any]:
        names = [name for name in sorted(self.streams) if name > wanted.get("ExclusiveStartStreamName", "")]
        page = names[: wanted.get("Limit", 100)]
        summaries = [
            {
                "StreamName": name,
                "StreamARN": self.streams[name].arn,
                "StreamStatus": "ACTIVE",
                "StreamModeDetails": {"StreamMode": self.streams[name].mode},
                "StreamCreationTimestamp": self.streams[name].created,
            }
            for name in page
        ]
        return {"StreamNames": page, "HasMoreStreams": len(page) < len(names), "StreamSummaries": summaries}

    def _described(self, stream: _Stream) -> dict[str, Any]:
        return {
            "StreamName": stream.name,
            "StreamARN": stream.arn,
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": stream.mode},
            "RetentionPeriodHours": stream.retention_hours,
            "StreamCreationTimestamp": stream.created,
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
        }

    def _describe_stream_summary(self, wanted: Mapping[str, Any], _: float) -> dict[str, Any]:
        stream = self._stream(wanted)
        more = {"OpenShardCount": len(stream.open()), "ConsumerCount": 0, "MaxRecordSizeInKiB": stream.record_kib}
        return {"StreamDescriptionSummary": {**self._described(stream), **more}}

    def _describe_stream(self, wanted: Mapping[str, Any], _: float) -> dict[str, Any]:
        stream = self._stream(wanted)
        shards = [s for s in stream.shards.values() if s.id > wanted.get("ExclusiveStartShardId", "")]
        page = shards[: wanted.get("Limit", 100)]
        more = {"Shards": [s.described() for s in page], "HasMoreShards": len(page) < len(shards)}
        return {"StreamDescription": {**self._described(stream), **more}}

    def _list_shards(self, wanted: Mapping[str, Any], now: float) -> dict[str, Any]:
        token = wanted.get("NextToken")
        if token:
            if wanted.get("StreamName") or wanted.get("StreamCreationTimestamp"):
                raise _argument("NextToken and StreamName cannot be provided together.")
            held = self._open(token, _Token)
            if now - held.issued > _TOKEN_SECONDS:
                raise Refused("ExpiredNextTokenException", "The pagination token passed to the operation is expired.")
        else:
            after = wanted.get("ExclusiveStartShardId", "")
            held = _Token(self._stream(wanted).name, after, now, wanted.get("MaxResults", self.page_shards), wanted.get("ShardFilter"))
        stream = self._stream({"StreamName": held.stream})
        shards = [s for s in _filtered(stream, held.filter, now) if s.id > held.after]
        page = shards[: min(held.max_results, self.page_shards)]
        answer: dict[str, Any] = {"Shards": [s.described() for s in page]}
        if len(page) < len(shards):
            held.after, held.issued = page[-1].id, now
            answer["NextToken"] = self._sealed(held)
        return answer

    def _split_shard(self, wanted: Mapping[str, Any], now: float) -> None:
        stream = self._stream(wanted)
        shard = self._still_open(stream, wanted.get("ShardToSplit", ""))
        middle = int(wanted.get("NewStartingHashKey", "0"))
        if not shard.low < middle <= shard.high:
            raise _argument(
                f"NewStartingHashKey {middle} used in SplitShard() on shard {shard.id} in stream {stream.name} under account {ACCOUNT} "
                f"is not both greater than one plus the shard's StartingHashKey {shard.low} and less than the shard's EndingHashKey {shard.high - 1}."
            )
        self._close(shard, now, [stream.add(shard.low, middle - 1, now, (shard,)), stream.add(middle, shard.high, now, (shard,))])

    def _merge_shards(self, wanted: Mapping[str, Any], now: float) -> None:
        stream = self._stream(wanted)
        one = self._still_open(stream, wanted.get("ShardToMerge", ""))
        other = self._still_open(stream, wanted.get("AdjacentShardToMerge", ""))
        low, high = sorted((one, other), key=lambda s: s.low)
        if low.high + 1 != high.low:
            raise _argument(
                f"Shards {one.id} and {other.id} in stream {stream.name} under account {ACCOUNT} "
                "are not an adjacent pair of shards eligible for merging"
            )
        child = stream.add(low.low, high.high, now, (one, other))
        self._close(one, now, [child])
        self._close(other, now, [child])

    def _update_shard_count(self, wanted: Mapping[str, Any], now: float) -> dict[str, Any]:
        """Split and merge until there are so many open shards."""
        stream = self._stream(wanted)
        target = wanted.get("TargetShardCount", 1)
        current = len(stream.open())
        if not 1 <= target <= 2 * current or 2 * target < current:
            raise Refused("LimitExceededException", f"UpdateShardCount from {current} to {target}: at most twice, at least half")
        named = {"StreamName": stream.name}
        while len(stream.open()) < target:
            shard = max(stream.open(), key=lambda s: s.high - s.low)
            self._split_shard({**named, "ShardToSplit": shard.id, "NewStartingHashKey": str((shard.low + shard.high + 1) // 2)}, now)
        while len(shards := stream.open()) > target:
            one, other = min(itertools.pairwise(shards), key=lambda pair: pair[1].high - pair[0].low)
            self._merge_shards({**named, "ShardToMerge": one.id, "AdjacentShardToMerge": other.id}, now)
        return {**named, "CurrentShardCount": current, "TargetShardCount": target, "StreamARN": stream.arn}

    def _still_open(self, stream: _Stream, shard_id: str) -> _Shard:
        shard = stream.shard(shard_id)
        if shard.closed_at:
            raise _argument(
                f"Shard {shard_id} in stream {stream.name} under account {ACCOUNT} has already been merged or split, "
                "and thus is not eligible for merging or splitting."
            )
        return shard

    def _close(self, shard: _Shard, now: float, children: list[_Shard]) -> None:
        shard.closed_at = now
        shard.children = tuple(child.id for child in children)

    def _increase_stream_retention_period(self, wanted: Mapping[str, Any], _: float) -> None:
        stream = self._stream(wanted)
        hours = wanted.get("RetentionPeriodHours", 0)
        if not stream.retention_hours <= hours <= 8760:  # noqa: PLR2004 (a year)
            raise _argument(f"Requested retention period ({hours} hours) must be between {stream.retention_hours} and 8760 hours.")
        stream.retention_hours = hours

    def _decrease_stream_retention_period(self, wanted: Mapping[str, Any], _: float) -> None:
        stream = self._stream(wanted)
        hours = wanted.get("RetentionPeriodHours", 0)
        if not 24 <= hours <= stream.retention_hours:  # noqa: PLR2004 (the least)
            raise _argument(f"Requested retention period ({hours} hours) must be between 24 and {stream.retention_hours} hours.")
        stream.retention_hours = hours

    # records in

    def _put_record(self, wanted: Mapping[str, Any], now: float) -> dict[str, Any]:
        stream = self._stream(wanted)
        shard, data, size, key = self._checked(stream, wanted)
        if not self._may_write(shard, size, now):
            raise Refused(
                "ProvisionedThroughputExceededException",
                f"Rate exceeded for shard {shard.id} in stream {stream.name} under account {ACCOUNT}.",
            )
        return {"ShardId": shard.id, "SequenceNumber": shard.put(data, size, key, now), "EncryptionType": "NONE"}

    def _put_records(self, wanted: Mapping[str, Any], now: float) -> dict[str, Any]:
        stream = self._stream(wanted)
        records = wanted.get("Records")
        if not isinstance(records, list) or not 1 <= len(records) <= _PUT_RECORDS:
            raise _validation(f"Value at 'records' failed to satisfy constraint: Member must have length between 1 and {_PUT_RECORDS}")
        checked = [self._checked(stream, record) for record in records]
        if sum(size + len(key.encode()) for _, _, size, key in checked) > _PUT_BYTES:
            raise _argument(f"Records size exceeds {_PUT_BYTES >> 20} MB limit")
        out: list[dict[str, Any]] = []
        for shard, data, size, key in checked:
            if self._may_write(shard, size, now):
                out.append({"ShardId": shard.id, "SequenceNumber": shard.put(data, size, key, now)})
            else:
                message = f"Rate exceeded for shard {shard.id} in stream {stream.name} under account {ACCOUNT}."
                out.append({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": message})
        return {"FailedRecordCount": sum("ErrorCode" in o for o in out), "Records": out, "EncryptionType": "NONE"}

    def _may_write(self, shard: _Shard, size: int, now: float) -> bool:
        return not self.limits or (shard.writes.take(1, now) and shard.written_bytes.take(size, now, debt=True))

    def _checked(self, stream: _Stream, record: Mapping[str, Any]) -> tuple[_Shard, str, int, str]:
        key = _text(record, "PartitionKey", _KEY_CHARACTERS)
        data = record.get("Data")
        if not isinstance(data, str):
            raise _validation("Value null at 'data' failed to satisfy constraint: Member must not be null")
        try:
            size = len(base64.b64decode(data, validate=True))
        except (binascii.Error, ValueError):
            raise Refused("SerializationException", "Data is not base64") from None
        if size + len(key.encode()) > stream.record_kib << 10:
            raise _validation(
                f"Value at 'data' failed to satisfy constraint: Member must have length less than or equal to {stream.record_kib << 10}"
            )
        explicit = record.get("ExplicitHashKey")
        if explicit is not None and not (str(explicit).isdecimal() and int(explicit) < _HASHES):
            raise _argument(f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {explicit}")
        place = int(explicit) if explicit is not None else int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")
        shards = stream.open()
        return shards[bisect_right([s.low for s in shards], place) - 1], data, size, key

    # records out

    def _get_shard_iterator(self, wanted: Mapping[str, Any], now: float) -> dict[str, Any]:
        stream = self._stream(wanted)
        shard = stream.shard(_text(wanted, "ShardId", 128))
        if self.limits and not shard.iterators.take(1, now):
            raise Refused(
                "ProvisionedThroughputExceededException",
                f"Rate exceeded for shard {shard.id} in stream {stream.name} under account {ACCOUNT}.",
            )
        kind = wanted.get("ShardIteratorType")
        number = wanted.get("StartingSequenceNumber")
        if (kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER")) != (number is not None):
            raise _argument(
                "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON "
                f"or LATEST and no StartingSequenceNumber. Request specified {kind} and {'a' if number else 'no'} StartingSequenceNumber."
            )
        if kind == "AT_TIMESTAMP":
            index = bisect_left(shard.arrivals, float(wanted.get("Timestamp", 0)))
            after = shard.sequences[index] - 1 if index < len(shard.sequences) else shard.last
        elif kind == "TRIM_HORIZON":
            after = 0
        elif kind == "LATEST":
            after = shard.last
        elif number is not None:
            after = _own_sequence(stream, shard, str(number)) - (kind == "AT_SEQUENCE_NUMBER")
        else:
            raise _validation(f"Value '{kind}' at 'shardIteratorType' failed to satisfy constraint: Member must satisfy enum value set")
        return {"ShardIterator": self._sealed(_Iterator(stream.name, stream.created, shard.id, str(after), now))}

    def _get_records(self, wanted: Mapping[str, Any], now: float, *, empty: bool = False) -> bytes:
        iterator = self._open(wanted.get("ShardIterator", ""), _Iterator)
        stream = self._stream({"StreamName": iterator.stream})
        if stream.created != iterator.created:
            raise Refused(
                "ResourceNotFoundException", f"Stream {stream.name} under account {ACCOUNT} not found: the iterator is of an older one."
            )
        shard = stream.shard(iterator.shard)
        if now - iterator.issued > self.iterator_seconds:
            raise Refused(
                "ExpiredIteratorException",
                f"Iterator expired. The iterator was created at time {iterator.issued:.0f} while right now it is {now:.0f} which is "
                f"further in the future than the tolerated delay of {self.iterator_seconds * 1000:.0f} milliseconds.",
            )
        limit = wanted.get("Limit", _ANSWER_RECORDS)
        if not isinstance(limit, int) or not 1 <= limit <= _ANSWER_RECORDS:
            raise _validation(
                f"Value '{limit}' at 'limit' failed to satisfy constraint: Member must have value between 1 and {_ANSWER_RECORDS}"
            )
        if self.limits and not (shard.reads.take(1, now) and shard.read_bytes.take(0, now, debt=True)):
            raise Refused(
                "ProvisionedThroughputExceededException",
                f"Rate exceeded for shard {shard.id} in stream {stream.name} under account {ACCOUNT}.",
            )
        begin = bisect_right(shard.sequences, int(iterator.after))
        end = begin if empty else _end(shard.sizes, begin, limit)
        if self.limits:
            shard.read_bytes.take(sum(shard.sizes[begin:end]), now, debt=True)
        return self._records(stream, shard, iterator, (begin, end), now)

    def _records(self, stream: _Stream, shard: _Shard, iterator: _Iterator, span: tuple[int, int], now: float) -> bytes:
        begin, end = span
        more = end < len(shard.sequences)
        answer: dict[str, Any] = {"MillisBehindLatest": max(1, int((now - shard.arrivals[end]) * 1000)) if more else 0}
        if more or not shard.closed_at or self.endless:
            after = str(shard.sequences[end - 1]) if end > begin else iterator.after
            answer["NextShardIterator"] = self._sealed(_Iterator(stream.name, stream.created, shard.id, after, now))
        elif self.name_children:
            children = [stream.shards[child] for child in shard.children if child in stream.shards]
            answer["ChildShards"] = [
                {"ShardId": c.id, "ParentShards": list(c.parents), "HashKeyRange": c.described()["HashKeyRange"]} for c in children
            ]
        return b'{"Records":[%b],%b' % (b",".join(shard.encoded[begin:end]), msgspec.json.encode(answer)[1:])

    # opaque tokens

    def _sealed(self, value: _Iterator | _Token) -> str:
        body = msgspec.msgpack.encode(value)
        return base64.b64encode(hmac.digest(self._secret, body, "sha256")[:12] + body).decode()

    def _open(self, text: object, kind: type[T]) -> T:
        try:
            raw = base64.b64decode(str(text), validate=True)
            if hmac.compare_digest(raw[:12], hmac.digest(self._secret, raw[12:], "sha256")[:12]):
                return msgspec.msgpack.decode(raw[12:], type=kind)
        except (binascii.Error, ValueError, msgspec.MsgspecError):
            pass
        raise _argument("Invalid ShardIterator." if kind is _Iterator else "Invalid NextToken.")


_now = threading.local()  # .empty: this thread's GetRecords shall find nothing

_FAULTS = {
    "throttle": Refused("ProvisionedThroughputExceededException", "Rate exceeded for shard (fault)."),
    "limit": Refused("LimitExceededException", "Rate exceeded for stream (fault)."),
    "kms": Refused("KMSThrottlingException", "The request was denied due to request throttling of KMS (fault)."),
    "denied": Refused("AccessDeniedException", "User is not authorized to perform this action (fault)."),
    "expired": Refused("ExpiredIteratorException", "Iterator expired (fault)."),
    "internal": Refused("InternalFailure", "The request processing has failed because of an unknown error (fault).", 500),
}

_OPERATIONS = frozenset(
    {
        "CreateStream",
        "DecreaseStreamRetentionPeriod",
        "DeleteStream",
        "DescribeStream",
        "DescribeStreamSummary",
        "GetRecords",
        "GetShardIterator",
        "IncreaseStreamRetentionPeriod",
        "ListShards",
        "ListStreams",
        "MergeShards",
        "PutRecord",
        "PutRecords",
        "SplitShard",
        "UpdateShardCount",
    }
)


def _headers() -> dict[str, str]:
    return {"Content-Type": _JSON, "x-amzn-RequestId": str(uuid.uuid4())}


def _snake(operation: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(operation))


def _text(wanted: Mapping[str, Any], name: str, most: int) -> str:
    value = wanted.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        member = name[0].lower() + name[1:]
        raise _validation(f"Value at '{member}' failed to satisfy constraint: Member must have length between 1 and {most}")
    return value


def _ranges(count: int) -> Iterator[tuple[int, int]]:
    """Yield the hash ranges of so many shards."""
    step = _HASHES // count
    for index in range(count):
        yield index * step, ((index + 1) * step if index + 1 < count else _HASHES) - 1


def _filtered(stream: _Stream, wanted: Mapping[str, Any] | None, now: float) -> list[_Shard]:
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
    raise _validation(f"Value '{kind}' at 'shardFilter.type' failed to satisfy constraint: Member must satisfy enum value set")


def _own_sequence(stream: _Stream, shard: _Shard, text: str) -> int:
    """Return a sequence number that is one of this shard's; raises Refused where it is not (see ``_Shard.sequence``)."""
    number = int(text) if text.isdecimal() else 0
    created = (number >> 148) & ((1 << 36) - 1)
    index = (number >> 4) & ((1 << 32) - 1)
    if number >> 184 != _VERSION or number & 15 != _VERSION or created not in {s.created for s in stream.shards.values()}:
        raise _argument(
            f"StartingSequenceNumber {text:.60} used in GetShardIterator on shard {shard.id} in stream {stream.name} under "
            f"account {ACCOUNT} is invalid because it did not come from this stream."
        )
    if index != shard.index:
        raise _argument(
            f"Invalid StartingSequenceNumber. It encodes shardId-{index:012d}, while it was used in a call to a shard with {shard.id}"
        )
    return number


def _end(sizes: list[int], begin: int, limit: int) -> int:
    """Return where an answer ends that begins here: so many records, and 10 MB (one record at least)."""
    end = begin
    size = 0
    for record in sizes[begin : begin + limit]:
        size += record
        if size > _ANSWER_BYTES and end > begin:
            break
        end += 1
    return end


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description="Kinesis on loopback, in memory")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--region", default=REGION)
    parser.add_argument("--limits", action="store_true", help="enforce the limits of a shard")
    arguments = parser.parse_args()
    serve(KinesisServer(port=arguments.port, region=arguments.region, limits=arguments.limits))


if __name__ == "__main__":
    main()
