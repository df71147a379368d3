"""One answer of Kinesis: asking for it, decoding it quickly, and sorting what comes in its place."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from polku.errors import PolkuError, SettingsError, TransientError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_kinesis.client import KinesisClient

_BUSY = frozenset(
    {
        "InternalFailure",
        "InternalFailureException",
        "KMSThrottlingException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ResourceInUseException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_GRANT = "Grant it to the role of aws_default."
_KEYS = "Set the keys of aws_default right, and the clock of the worker."
_KMS = "Enable the KMS key of the stream, and let the role of aws_default use it."
_FORBIDDEN = {
    "AccessDenied": _GRANT,
    "AccessDeniedException": _GRANT,
    "IncompleteSignature": _KEYS,
    "InvalidClientTokenId": _KEYS,
    "InvalidSignatureException": _KEYS,
    "KMSAccessDeniedException": _KMS,
    "KMSDisabledException": _KMS,
    "KMSInvalidStateException": _KMS,
    "KMSNotFoundException": _KMS,
    "KMSOptInRequired": _KMS,
    "MissingAuthenticationTokenException": _KEYS,
    "UnrecognizedClientException": _KEYS,
}
"""What only a person can mend, and how."""


@dataclass(frozen=True)
class Answer:
    """
    One answer of GetRecords.

    Args:
        sequences: Of its records, like the other columns.
        arrivals: In ms since 1970; 0 where the server does not say.
        data: Bytes, decoded.
        iterator: The next; None at the end of a closed shard.
        behind: Ms behind the shard's tip; None where the server does not say.
    """

    sequences: list[str]
    arrivals: list[int]
    data: list[bytes]
    iterator: str | None
    behind: int | None


@dataclass(frozen=True)
class Fault:
    """
    An error of Kinesis.

    Args:
        kind: What to do: try again (busy), get a new iterator (expired), look at the position, grant access (forbidden),
            find the stream (gone); broken is whatever else.
        text: What happened, to which shard or stream, and the remedy.
        throttled: It is busy because others use up a limit.
    """

    kind: Literal["busy", "expired", "position", "forbidden", "gone", "broken"]
    text: str
    throttled: bool = False

    def as_error(self) -> PolkuError:
        """Return the error to raise for it."""
        return SettingsError(self.text) if self.kind in ("forbidden", "position") else TransientError(self.text)


def named(stream: str) -> Any:
    """Return the parameter that names the stream; across accounts Kinesis wants the ARN in every call."""
    return {"StreamARN": stream} if stream.startswith("arn:") else {"StreamName": stream}


def member(answer: Any, name: str) -> Any:
    """Return a member of an answer; raises ResponseParserError where it is missing; botocore reads a 200 that is no JSON as empty."""
    from botocore.parsers import ResponseParserError

    if name not in answer:
        raise ResponseParserError(f"the answer has no {name}; does Kinesis answer there?")
    return answer[name]


def fault_of(error: BaseException, what: str) -> Fault:
    """Sort an error by what to do about it; raises what is none of Kinesis' (a bug of ours)."""
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    if isinstance(error, boto.ClientError):
        return _refusal(error, what)
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError)):
        return Fault("forbidden", f"{what}: {error}. Set the connection aws_default, or give the worker a role.")
    away = (boto.HTTPClientError, boto.ConnectionError, boto.CredentialRetrievalError, ResponseParserError, msgspec.MsgspecError)
    if isinstance(error, away):
        return Fault("busy", f"{what}: {type(error).__name__}: {error!s:.300}")
    raise error


def _refusal(error: ClientError, what: str) -> Fault:
    """Sort what Kinesis answered in place of records, by its code."""
    code = error.response["Error"]["Code"]
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    text = f"{what}: {error.operation_name} answered {status} {code}: {error.response['Error'].get('Message', '')!s:.300}"
    fault = Fault("broken", text)
    if code in _BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        fault = Fault("busy", text, throttled=status < HTTPStatus.INTERNAL_SERVER_ERROR)
    elif code == "ExpiredIteratorException" or (code == "InvalidArgumentException" and error.operation_name == "GetRecords"):
        fault = Fault("expired", text)
    elif code == "InvalidArgumentException" and error.operation_name == "GetShardIterator":
        fault = Fault("position", f"{text} The position in state/<source>/checkpoint.json is not one of this stream; set it right.")
    elif code == "ResourceNotFoundException":
        fault = Fault("gone", f"{text} Create it, or set the source's `stream` in parameters.yaml.j2 to one that exists (or to none).")
    elif code in _FORBIDDEN:
        fault = Fault("forbidden", f"{text} {_FORBIDDEN[code]}")
    elif code == "ExpiredTokenException":
        fault = Fault("broken", f"{text} A role renews its credentials by itself; fixed ones in aws_default have to be set anew.")
    return fault


# Decoding. botocore parses an answer with json.loads, then walks it by its model, with a datetime for every arrival:
# most of the time of a drain. So our reads have msgspec decode the body before botocore's parser sees it. Signing,
# retries, endpoints and errors stay botocore's, and so do bodies that are not JSON.


class _Record(msgspec.Struct, rename="pascal", gc=False):
    data: bytes = b""
    sequence_number: str = ""
    approximate_arrival_timestamp: float = 0.0


class _Body(msgspec.Struct, rename="pascal", gc=False):
    records: list[_Record] = []
    next_shard_iterator: str | None = None
    millis_behind_latest: int | None = None


_BODY = msgspec.json.Decoder(_Body)
_own = threading.local()  # .read is true in a thread while it makes one of our reads: the client's other users see botocore's answers
_registering = threading.Lock()  # botocore would let two threads register twice, and the second call would decode the empty answer


def _decode(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Decode a GetRecords answer, as a ``before-parse`` handler of botocore, and leave botocore an empty one."""
    if getattr(_own, "read", False) and response_dict["status_code"] == HTTPStatus.OK and response_dict["body"][:1] == b"{":
        customized_response_dict["Decoded"] = _BODY.decode(response_dict["body"])
        response_dict["body"] = b"{}"


def fetch(
    client: KinesisClient, stream: str, shard_id: str, after: str, *, iterator: str | None = None, limit: int | None = None
) -> Answer:
    """
    Get one answer of GetRecords.

    Args:
        client: See ``kinesis``.
        stream: Name or ARN.
        shard_id: Kinesis' id.
        after: The position: a sequence number, "" for the oldest record.
        iterator: Where to go on, if it is known; the position is looked up otherwise.
        limit: The most records.
    """
    stream_name = named(stream)
    if iterator is None:
        begin: Any = {"ShardIteratorType": "TRIM_HORIZON"}
        if after:
            begin = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        iterator = member(client.get_shard_iterator(ShardId=shard_id, **begin, **stream_name), "ShardIterator")
    wanted: dict[str, Any] = {"ShardIterator": iterator} | ({"Limit": limit} if limit else {})
    if "StreamARN" in stream_name:
        wanted |= stream_name
    with _registering:
        client.meta.events.register("before-parse.kinesis.GetRecords", _decode, unique_id="polku-decode")
    _own.read = True
    try:
        parsed: Any = client.get_records(**wanted)
    finally:
        _own.read = False
    body: _Body | None = parsed.get("Decoded")
    if body is None:
        return _plain(parsed)
    records = body.records
    return Answer(
        [r.sequence_number for r in records],
        [int(r.approximate_arrival_timestamp * 1000 + 0.5) for r in records],
        [r.data for r in records],
        body.next_shard_iterator,
        body.millis_behind_latest,
    )


def _plain(parsed: Any) -> Answer:
    """Return an answer that botocore has parsed (a protocol other than JSON)."""
    records = member(parsed, "Records")
    return Answer(
        [r["SequenceNumber"] for r in records],
        [round(r["ApproximateArrivalTimestamp"].timestamp() * 1000) if "ApproximateArrivalTimestamp" in r else 0 for r in records],
        [r["Data"] for r in records],
        parsed.get("NextShardIterator"),
        parsed.get("MillisBehindLatest"),
    )
