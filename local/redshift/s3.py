"""The objects that a COPY names: the manifest, or the keys under a prefix, and their bytes, decompressed as they stream."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .load_errors import internal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .copy_command import CopyCommand

CHUNK = 1 << 20


@dataclass(frozen=True)
class S3Object:
    """One object to load."""

    bucket: str
    key: str

    @property
    def url(self) -> str:
        """Its address."""
        return f"s3://{self.bucket}/{self.key}"


class S3:
    """
    S3 as COPY sees it.

    Args:
        endpoint: Where it is; None asks the AWS environment.
    """

    def __init__(self, endpoint: str | None) -> None:
        self.endpoint = endpoint
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The boto3 client, made at its first use: importing boto3 takes a while."""
        if self._client is None:
            import boto3
            from botocore.config import Config

            keys: dict[str, Any] = {}
            if self.endpoint and not os.environ.get("AWS_ACCESS_KEY_ID"):
                keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
            self._client = boto3.session.Session().client(
                "s3",
                endpoint_url=self.endpoint,
                region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
                config=Config(s3={"addressing_style": "path"} if self.endpoint else {}, retries={"max_attempts": 3}),
                **keys,
            )
        return self._client

    def objects(self, command: CopyCommand) -> list[S3Object]:
        """
        Return what this COPY loads, in the manifest's order or in that of the keys.

        Raises:
            LoadFailed: No such manifest or prefix, a manifest that is none, or a mandatory object that is not there.
        """
        if command.manifest:
            return self._manifest(command)
        found = self._listed(command.bucket, command.key)
        if not found:
            raise internal(f"The specified S3 prefix '{command.key}' does not exist", 8001, "s3_utility.cpp:673")
        return found

    def _listed(self, bucket: str, prefix: str) -> list[S3Object]:
        from botocore.exceptions import ClientError

        try:
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return [S3Object(bucket, item["Key"]) for page in pages for item in page.get("Contents", ()) if not item["Key"].endswith("/")]
        except ClientError as error:
            raise _service(error) from error

    def _manifest(self, command: CopyCommand) -> list[S3Object]:
        from botocore.exceptions import ClientError

        try:
            text = self.client.get_object(Bucket=command.bucket, Key=command.key)["Body"].read()
        except ClientError as error:
            raise _service(error, "Problem reading manifest file - ") from error
        context = f"Manifest file location = s3://{command.bucket}/{command.key}"
        try:
            entries = json.loads(text)["entries"]
            named = [(str(entry["url"]), entry.get("mandatory", False)) for entry in entries]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise internal(
                "Problem reading manifest file - invalid JSON or missing entries", 8001, "s3_utility.cpp:284", context
            ) from error
        found: list[S3Object] = []
        for url, mandatory in named:
            bucket, _, key = url.removeprefix("s3://").partition("/")
            if not url.startswith("s3://") or not key:
                raise internal("Manifest file contains invalid URL", 8001, "s3_utility.cpp:290", context)
            if self._there(bucket, key):
                found.append(S3Object(bucket, key))
            elif mandatory is True:
                raise internal(f"The specified S3 prefix '{key}' does not exist", 8001, "s3_utility.cpp:673", context)
        if not found:
            raise internal(
                "Manifest file does not name any file that exists" if named else "Manifest file has no entries",
                8001,
                "s3_utility.cpp:300",
                context,
            )
        return found

    def _there(self, bucket: str, key: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self.client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:  # noqa: PLR2004
                return False
            raise _service(error) from error
        return True

    def read(self, item: S3Object, compression: str) -> Iterator[bytes]:
        """
        Yield an object's bytes, decompressed, in pieces of about a megabyte.

        Raises:
            LoadFailed: It is gone, or not compressed in the way that the statement says.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            body = self.client.get_object(Bucket=item.bucket, Key=item.key)["Body"]
            yield from _decompressed(body, compression)
        except ClientError as error:
            raise _service(error) from error
        except BotoCoreError as error:
            raise internal(f"S3 read failed: {type(error).__name__}", 9001, "s3_request.cpp:80", item.url) from error


def _decompressed(body: Any, compression: str) -> Iterator[bytes]:
    if compression == "zstd":
        import zstandard

        try:
            with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True, read_size=CHUNK) as reader:
                while piece := reader.read(CHUNK):
                    yield piece
        except zstandard.ZstdError as error:
            raise internal(
                "failed to inflate with zstd: unexpected end of input or corrupt data.", 9001, "zstd_decompressor.cpp:90"
            ) from error
    elif compression == "gzip":
        yield from _gunzipped(body)
    elif compression == "bzip2":
        import bz2

        try:
            with bz2.open(body) as reader:
                while piece := reader.read(CHUNK):
                    yield piece
        except (OSError, EOFError) as error:
            raise internal("failed to inflate with bzip2: corrupt data.", 9001, "bzip2.cpp:90") from error
    else:
        while piece := body.read(CHUNK):
            yield piece


def _gunzipped(body: Any) -> Iterator[bytes]:
    engine = zlib.decompressobj(31)
    ended = True
    try:
        while data := body.read(CHUNK):
            while data:
                ended = False
                if piece := engine.decompress(data):
                    yield piece
                data = engine.unused_data
                if engine.eof:
                    engine, ended = zlib.decompressobj(31), True
    except zlib.error as error:
        raise internal(
            "failed to inflate with zlib: invalid or incomplete deflate data. zlib error code: -3", 9001, "zlib_inflate.cpp:90"
        ) from error
    if not ended:
        raise internal("failed to inflate with zlib: unexpected end of file. zlib error code: -5", 9001, "zlib_inflate.cpp:90")


def _service(error: Any, before: str = "") -> Exception:
    """Redshift's words for an answer of S3."""
    answer = error.response
    code = answer.get("Error", {}).get("Code", "Unknown")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    words = answer.get("Error", {}).get("Message", "")
    if code in ("404", "NoSuchKey"):
        code, words = "NoSuchKey", "The specified key does not exist."
    return internal(
        f"{before}S3ServiceException:{words},Status {status},Error {code},Rid 0,ExtRid 0,CanRetry 1", 8001, "s3_utility.cpp:284"
    )
