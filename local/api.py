"""
The front door: what API Gateway's Kinesis integration does in production, on loopback.

``POST /server`` and ``POST /client`` take an event, or a whole body of Segment's HTTP API. So do the paths that Segment's
libraries append to their host (``/v1/batch``, ``/v1/track``, ``/v1/t`` ...): give them ``$POLKU_API_URL/server`` (or ``/client``)
as the host and ``$POLKU_API_KEY`` as the write key. A stage before the path (``/prod/server``) is passed over, as API Gateway does.

- One body becomes one Kinesis record, ``{"event": <the body as it came>, "sentAt": ..., "context": {"resourcePath": "/server"}}``:
  accepted or refused as a whole.
- It is acknowledged (200 ``{"success": true}``) after Kinesis has taken it, never before.
- The key comes as ``x-api-key``, as the user of Basic authentication, or as ``writeKey`` in the body. None: 401; a wrong one: 403.
- Bodies may be compressed (gzip, deflate). 10 MB is API Gateway's limit, before and after: 413. So is what would make a record
  over Kinesis' 10 MiB.
  (Segment's own limits, 500 KB a batch and 32 KB an event, are kept by its libraries and not asked for here.)
- 400: not a JSON object. 404: no such source. 429: Kinesis throttles. 503: Kinesis is away. Segment's libraries try again on the last two.

``python -m local.api --port 9193 --kinesis-url http://127.0.0.1:9190 --stream server=polku-server --stream client=polku-client``
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from local.http_server import BadRequest, LoopbackServer, Request, Response, serve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_kinesis import KinesisClient

MAX_BODY = 10 * 1024 * 1024
"""API Gateway's payload limit (docs.aws.amazon.com/apigateway/latest/developerguide/limits.html)."""

MAX_RECORD = 10 * 1024 * 1024
"""Kinesis' limit for data and partition key of one record (docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecord.html)."""

DEFAULT_KEY = "polku-local"

_CALLS = {
    "batch": "",
    "b": "",
    "import": "",
    "track": "track",
    "t": "track",
    "identify": "identify",
    "i": "identify",
    "page": "page",
    "p": "page",
}
_CALLS |= {"screen": "screen", "s": "screen", "group": "group", "g": "group", "alias": "alias", "a": "alias"}
_PATH = re.compile(r"(?:/[\w-]+)?/(server|client)(?:/v1)?(?:/([a-z]+))?/?")
_CORS = {"Access-Control-Allow-Origin": "*"}
_PREFLIGHT = {
    **_CORS,
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "authorization, content-encoding, content-type, x-api-key",
    "Access-Control-Max-Age": "3600",
}


class ApiServer(LoopbackServer):
    """
    The front door on loopback; ``url`` is what goes into POLKU_API_URL.

    Args:
        streams: Stream of each source; a source without one is answered 404.
        kinesis_url: Where Kinesis is served.
        region: Its region.
        key: The API key, which is also the write key for Segment's libraries.
    """

    NAME = "api"

    def __init__(
        self, *, streams: Mapping[str, str], kinesis_url: str, region: str = "eu-west-1", key: str = DEFAULT_KEY, port: int = 0
    ) -> None:
        super().__init__(port=port, max_body=MAX_BODY)
        self.streams = dict(streams)
        self.key = key
        self.accepted = 0
        self._guard = threading.Lock()
        self._kinesis = _kinesis(kinesis_url, region)

    def handle(self, request: Request) -> Response:
        """Answer ``GET /`` (health), a browser's preflight, or a POST of events."""
        if request.path == "/" and request.method in {"GET", "HEAD"}:
            return Response.of_json({"status": "ok", "accepted": self.accepted, "streams": self.streams})
        match = _PATH.fullmatch(request.path)
        if not match or match[1] not in self.streams or (match[2] or "batch") not in _CALLS:
            return _refusal(
                404,
                "not_found",
                f"nothing is served at {request.path:.100}; post to " + " or ".join(f"/{source}" for source in self.streams),
            )
        if request.method == "OPTIONS":
            return Response(status=204, headers=_PREFLIGHT)
        if request.method != "POST":
            return _refusal(405, "method_not_allowed", "send events by POST")
        source, kind = match[1], _CALLS[match[2] or "batch"]
        data, who = self._record(request, source, kind)
        self._put(self.streams[source], data, who)
        return Response.of_json({"success": True}, headers=_CORS)

    def too_large(self) -> Response:
        """Return API Gateway's answer to a body over 10 MB."""
        return _refusal(413, "too_large", "Request Too Long")

    def _record(self, request: Request, source: str, kind: str) -> tuple[bytes, str]:
        """Return the record's data and the partition key; raises BadRequest."""
        given = _given_key(request.headers)
        if given:
            self._check(given)
        try:
            body = request.inflated(MAX_BODY)
        except OverflowError:
            raise BadRequest(self.too_large()) from None
        except ValueError as error:
            raise BadRequest(_refusal(400, "invalid_encoding", str(error))) from None
        fields = _fields(body)
        if not given:
            self._check(str(fields.get("writeKey") or ""))
        if kind and "type" not in fields and "batch" not in fields:
            body = _with_type(body, kind, empty=not fields)
        data = _envelope(body, fields, source)
        who = _partition_key(fields)
        if len(data) + len(who) > MAX_RECORD:
            raise BadRequest(self.too_large())
        return data, who

    def _check(self, given: str) -> None:
        if not given:
            raise BadRequest(
                _refusal(401, "unauthorized", "no key: send it as x-api-key, as the user of Basic authentication, or as writeKey")
            )
        if not hmac.compare_digest(given.encode(errors="surrogatepass"), self.key.encode()):
            raise BadRequest(_refusal(403, "forbidden", "Forbidden"))

    def _put(self, stream: str, data: bytes, who: str) -> None:
        """Give one record to Kinesis; raises BadRequest where it was not taken."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._kinesis.put_record(StreamName=stream, Data=data, PartitionKey=who)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in {
                "ProvisionedThroughputExceededException",
                "LimitExceededException",
                "ThrottlingException",
                "KMSThrottlingException",
            }:
                raise BadRequest(_refusal(429, "throttled", "the stream takes no more just now", {"Retry-After": "1"})) from None
            if code in {"ValidationException", "InvalidArgumentException"}:
                raise BadRequest(_refusal(413, "too_large", "the stream does not take a record of this size")) from None
            raise BadRequest(_refusal(503, "unavailable", f"the stream could not take it: {code}")) from None
        except BotoCoreError as error:
            raise BadRequest(_refusal(503, "unavailable", f"the stream could not be reached: {type(error).__name__}")) from None
        with self._guard:
            self.accepted += 1


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response.of_json({"success": False, "code": code, "message": message}, status, {**_CORS, **(headers or {})})


def _given_key(headers: Mapping[str, str]) -> str:
    """Return the key in the headers, "" where there is none."""
    if headers.get("x-api-key"):
        return headers["x-api-key"]
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        return ""


def _fields(body: bytes) -> dict[str, Any]:
    """
    Return the body's fields; raises BadRequest where it is no JSON object.

    What only the lenient parser reads (NaN, half a character) is for transform to judge: refusing it would lose its neighbours too.
    """
    try:
        fields = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        try:
            fields = json.loads(body, strict=False)
        except (ValueError, RecursionError) as error:
            raise BadRequest(_refusal(400, "invalid_json", f"the body is not JSON: {str(error).partition(':')[0]:.100}")) from None
    if not isinstance(fields, dict):
        raise BadRequest(_refusal(400, "invalid_json", "the body is not a JSON object"))
    return fields


def _with_type(body: bytes, kind: str, *, empty: bool) -> bytes:
    """Return a call's body with the type that its path names."""
    start = body.index(b"{") + 1
    return body[:start] + f'"type":"{kind}"'.encode() + (b"" if empty else b",") + body[start:]


def _envelope(body: bytes, fields: Mapping[str, Any], source: str) -> bytes:
    """Return the record: the body as it came, the sender's clock and where it was posted (API Gateway's ``$context``)."""
    sent_at = fields.get("sentAt")
    sent = b'"sentAt":' + json.dumps(sent_at).encode() + b"," if isinstance(sent_at, str) else b""
    context = {"resourcePath": f"/{source}", "requestId": secrets.token_hex(16), "requestTimeEpoch": int(time.time() * 1000)}
    return b'{"event":' + body + b"," + sent + b'"context":' + json.dumps(context).encode() + b"}"


def _partition_key(fields: Mapping[str, Any]) -> str:
    """Return a hash of whose event it is (one user's events keep their order), or something random."""
    batch = fields.get("batch")
    event = batch[0] if isinstance(batch, list) and batch and isinstance(batch[0], dict) else fields
    who = event.get("anonymousId") or event.get("userId")
    return hashlib.blake2b(repr(who).encode("utf-8", "replace"), digest_size=16).hexdigest() if who else secrets.token_hex(16)


def _kinesis(url: str, region: str) -> KinesisClient:
    import boto3
    from botocore.config import Config

    session = boto3.session.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=region)  # noqa: S106 (the stand-in's)
    config = Config(max_pool_connections=64, connect_timeout=5, read_timeout=20, retries={"mode": "standard", "max_attempts": 2})
    return session.client("kinesis", endpoint_url=url, config=config)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the front door as a process."""
    parser = argparse.ArgumentParser(prog="python -m local.api", description="The front door on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--kinesis-url", required=True)
    parser.add_argument("--region", default="eu-west-1")
    parser.add_argument("--stream", action="append", required=True, metavar="SOURCE=STREAM", help="repeatable")
    parser.add_argument("--key", default=DEFAULT_KEY)
    chosen = parser.parse_args(argv)
    streams = {source: stream for source, _, stream in (text.partition("=") for text in chosen.stream)}
    serve(ApiServer(streams=streams, kinesis_url=chosen.kinesis_url, region=chosen.region, key=chosen.key, port=chosen.port))


if __name__ == "__main__":
    main()
