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
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from local.http_server import LoopbackServer, Request, Response, serve
from local.kinesis_shards import (
    ACCOUNT,
    ANSWER_RECORDS,
    HASHES,
    JSON,
    RECORD_KIB,
    Refused,
    Shard,
    Stream,
    answer_end,
    filtered,
    hash_ranges,
    headers,
    invalid,
    own_sequence,
    wrong_argument,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REGION = "eu-west-1"

_TARGET = "Kinesis_20131202."
_PUT_BYTES = 10 << 20
_PUT_RECORDS = 500
_KEY_CHARACTERS = 256
_TOKEN_SECONDS = 300


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
        answer_records: Records in one answer of GetRecords.

    ``calls`` counts the calls by operation, ``refused`` the errors by code (faults aside).
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
        answer_records: int = ANSWER_RECORDS,
    ) -> None:
        super().__init__(port=port)
        self.region = region
        self.limits = limits
        self.endless = endless
        self.name_children = name_children
        self.page_shards = page_shards
        self.iterator_seconds = iterator_seconds
        self.answer_records = answer_records
        self.streams: dict[str, Stream] = {}
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
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
            with self._guard:
                self.refused[refusal.code] += 1
            return refusal.response()
        return Response(body=body, headers=headers())

    def _answer(self, request: Request, *, empty: bool) -> bytes:
        operation = request.path.rpartition("/")[2]
        call: Callable[[Mapping[str, Any], float], Any] | None = (
            getattr(self, f"_{_snake(operation)}", None) if operation in _OPERATIONS else None
        )
        if call is None:
            raise Refused("UnknownOperationException", f"{operation!r:.60} is not supported by the local Kinesis")
        if not request.headers.get("content-type", "").startswith(JSON):
            raise Refused("SerializationException", f"the local Kinesis speaks {JSON} only (in Java: AWS_CBOR_DISABLE=true)")
        if "authorization" not in request.headers and "x-amz-signature" not in request.query:
            raise Refused("MissingAuthenticationTokenException", "Request is missing Authentication Token")
        try:
            wanted = msgspec.json.decode(request.body or b"{}", type=dict)
        except msgspec.DecodeError as error:
            raise Refused("SerializationException", str(error)) from None
        with self._guard:
            self.calls[operation] += 1
            now = self.now()
            for stream in self.streams.values():
                stream.trim(now)
            if operation == "GetRecords":
                return self._get_records(wanted, now, empty=empty)
            answer = call(wanted, now)
        return b"" if answer is None else msgspec.json.encode(answer)

    # streams

    def _stream(self, wanted: Mapping[str, Any]) -> Stream:
        name = wanted.get("StreamName")
        arn = wanted.get("StreamARN")
        if not name and not arn:
            raise wrong_argument("Must specify either StreamName or StreamARN")
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
            raise invalid(
                f"Value '{count}' at 'shardCount' failed to satisfy constraint: Member must have value greater than or equal to 1"
            )
        stream = Stream(name, now, mode, self.region, record_kib=wanted.get("MaxRecordSizeInKiB", RECORD_KIB))
        for low, high in hash_ranges(count):
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

    def _described(self, stream: Stream) -> dict[str, Any]:
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
                raise wrong_argument("NextToken and StreamName cannot be provided together.")
            held = self._open(token, _Token)
            if now - held.issued > _TOKEN_SECONDS:
                raise Refused("ExpiredNextTokenException", "The pagination token passed to the operation is expired.")
        else:
            after = wanted.get("ExclusiveStartShardId", "")
            held = _Token(self._stream(wanted).name, after, now, wanted.get("MaxResults", self.page_shards), wanted.get("ShardFilter"))
        stream = self._stream({"StreamName": held.stream})
        shards = [s for s in filtered(stream, held.filter, now) if s.id > held.after]
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
            raise wrong_argument(
                f"NewStartingHashKey {middle} used in SplitShard() on shard {shard.id} in stream {stream.name} under account {ACCOUNT} "
                f"is not both greater than one plus the shard's StartingHashKey {shard.low} and less than its end {shard.high - 1}."
            )
        self._close(shard, now, [stream.add(shard.low, middle - 1, now, (shard,)), stream.add(middle, shard.high, now, (shard,))])

    def _merge_shards(self, wanted: Mapping[str, Any], now: float) -> None:
        stream = self._stream(wanted)
        one = self._still_open(stream, wanted.get("ShardToMerge", ""))
        other = self._still_open(stream, wanted.get("AdjacentShardToMerge", ""))
        low, high = sorted((one, other), key=lambda s: s.low)
        if low.high + 1 != high.low:
            raise wrong_argument(
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

    def _still_open(self, stream: Stream, shard_id: str) -> Shard:
        shard = stream.shard(shard_id)
        if shard.closed_at:
            raise wrong_argument(
                f"Shard {shard_id} in stream {stream.name} under account {ACCOUNT} has already been merged or split, "
                "and thus is not eligible for merging or splitting."
            )
        return shard

    def _close(self, shard: Shard, now: float, children: list[Shard]) -> None:
        shard.closed_at = now
        shard.children = tuple(child.id for child in children)

    def _increase_stream_retention_period(self, wanted: Mapping[str, Any], _: float) -> None:
        stream = self._stream(wanted)
        hours = wanted.get("RetentionPeriodHours", 0)
        if not stream.retention_hours <= hours <= 8760:  # noqa: PLR2004 (a year)
            raise wrong_argument(f"Requested retention period ({hours} hours) must be between {stream.retention_hours} and 8760 hours.")
        stream.retention_hours = hours

    def _decrease_stream_retention_period(self, wanted: Mapping[str, Any], _: float) -> None:
        stream = self._stream(wanted)
        hours = wanted.get("RetentionPeriodHours", 0)
        if not 24 <= hours <= stream.retention_hours:  # noqa: PLR2004 (the least)
            raise wrong_argument(f"Requested retention period ({hours} hours) must be between 24 and {stream.retention_hours} hours.")
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
            raise invalid(f"Value at 'records' failed to satisfy constraint: Member must have length between 1 and {_PUT_RECORDS}")
        checked = [self._checked(stream, record) for record in records]
        if sum(size + len(key.encode()) for _, _, size, key in checked) > _PUT_BYTES:
            raise wrong_argument(f"Records size exceeds {_PUT_BYTES >> 20} MB limit")
        out: list[dict[str, Any]] = []
        for shard, data, size, key in checked:
            if self._may_write(shard, size, now):
                out.append({"ShardId": shard.id, "SequenceNumber": shard.put(data, size, key, now)})
            else:
                message = f"Rate exceeded for shard {shard.id} in stream {stream.name} under account {ACCOUNT}."
                out.append({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": message})
        return {"FailedRecordCount": sum("ErrorCode" in o for o in out), "Records": out, "EncryptionType": "NONE"}

    def _may_write(self, shard: Shard, size: int, now: float) -> bool:
        return not self.limits or (shard.writes.take(1, now) and shard.written_bytes.take(size, now, debt=True))

    def _checked(self, stream: Stream, record: Mapping[str, Any]) -> tuple[Shard, str, int, str]:
        key = _text(record, "PartitionKey", _KEY_CHARACTERS)
        data = record.get("Data")
        if not isinstance(data, str):
            raise invalid("Value null at 'data' failed to satisfy constraint: Member must not be null")
        try:
            size = len(base64.b64decode(data, validate=True))
        except (binascii.Error, ValueError):
            raise Refused("SerializationException", "Data is not base64") from None
        if size + len(key.encode()) > stream.record_kib << 10:
            raise invalid(
                f"Value at 'data' failed to satisfy constraint: Member must have length less than or equal to {stream.record_kib << 10}"
            )
        explicit = record.get("ExplicitHashKey")
        if explicit is not None and not (str(explicit).isdecimal() and int(explicit) < HASHES):
            raise wrong_argument(
                f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {explicit}"
            )
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
            raise wrong_argument(
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
            after = own_sequence(stream, shard, str(number)) - (kind == "AT_SEQUENCE_NUMBER")
        else:
            raise invalid(f"Value '{kind}' at 'shardIteratorType' failed to satisfy constraint: Member must satisfy enum value set")
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
        limit = wanted.get("Limit", ANSWER_RECORDS)
        if not isinstance(limit, int) or not 1 <= limit <= ANSWER_RECORDS:
            raise invalid(f"Value '{limit}' at 'limit' failed to satisfy constraint: Member must have value between 1 and {ANSWER_RECORDS}")
        if self.limits and not (shard.reads.take(1, now) and shard.read_bytes.take(0, now, debt=True)):
            raise Refused(
                "ProvisionedThroughputExceededException",
                f"Rate exceeded for shard {shard.id} in stream {stream.name} under account {ACCOUNT}.",
            )
        begin = bisect_right(shard.sequences, int(iterator.after))
        end = begin if empty else answer_end(shard.sizes, begin, min(limit, self.answer_records))
        if self.limits:
            shard.read_bytes.take(sum(shard.sizes[begin:end]), now, debt=True)
        return self._records(stream, shard, iterator, (begin, end), now)

    def _records(self, stream: Stream, shard: Shard, iterator: _Iterator, span: tuple[int, int], now: float) -> bytes:
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
        raise wrong_argument("Invalid ShardIterator." if kind is _Iterator else "Invalid NextToken.")


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


def _snake(operation: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(operation))


def _text(wanted: Mapping[str, Any], name: str, most: int) -> str:
    value = wanted.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        member = name[0].lower() + name[1:]
        raise invalid(f"Value at '{member}' failed to satisfy constraint: Member must have length between 1 and {most}")
    return value


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
