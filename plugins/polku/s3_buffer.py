"""
The S3 buffer: files that producers drop under a prefix, taken whole and in the order of their names.

A file is its key and its ETag: one that was replaced meanwhile is another file. So every copy and every delete is
conditional on the ETag that was listed, and what has changed is left to the next run.

Every function takes a boto3 client made by the caller: ``boto3.client("s3", config=Config(**s3_buffer.CONFIG))``.
It needs ``s3:ListBucket``, and ``s3:GetObject`` and ``s3:DeleteObject`` on the prefix, ``s3:PutObject`` and
``s3:AbortMultipartUpload`` where the copies go.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from polku.batches import BufferFile
from polku.errors import LostRace, PolkuError, SettingsError
from polku.s3_answers import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from mypy_boto3_s3.client import S3Client

log = logging.getLogger(__name__)

CONFIG: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 120,
    "retries": {"mode": "standard", "total_max_attempts": 5},
    "tcp_keepalive": True,
}
"""
Arguments for ``botocore.config.Config``: 409 is not retried by botocore, 500, 503 SlowDown and broken connections are, up
to five tries. Every request here may be sent twice. A copy of 1 GiB inside S3 may take its time to answer.
"""

COPY_BYTES = 1 << 30
"""Files up to this size are copied by one request (S3 takes 5 GiB), larger ones in parts, so that no request lasts minutes."""

PART_BYTES = 512 << 20
"""Of a copy in parts; 10,000 parts are the most, and 5 TiB the largest object."""

_PAGE = 1000
_ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})


def list_files(
    client: S3Client, bucket: str, prefix: str, *, leave: Collection[BufferFile], max_files: int, max_bytes: int
) -> list[BufferFile]:
    """
    Return the first files under a prefix, in the order of their keys, and no more than a run may take.

    The bounds lie between files: the first file is returned whatever its size, so a large one never stands in the way
    for ever. Names that begin with a time are taken oldest first; a producer whose names sort before all others can
    delay those, by at most as much as the bounds allow a run.

    Only as many pages are listed as it takes (the next run finds these files deleted, so each begins at the top).
    Left out are "directories" (empty objects whose key ends in a slash) and archived files, which cannot be read.

    Args:
        client: See the top of this module.
        bucket: The bucket's name.
        prefix: Of the buffer; a slash is put at its end where it has none, so that it takes no neighbour's files.
        leave: Files that pending batches have taken, by key and ETag.
        max_files: At least 1.
        max_bytes: Of all files together.

    Raises:
        TransientError: S3 does not answer.
        SettingsError: The bucket does not exist, access is refused, or the prefix is empty.
    """
    if not prefix.strip("/"):
        raise SettingsError(
            f"buffer prefix is {prefix!r}; expected something like 'buffer/server/'. Files under it are deleted once taken."
        )
    taken = {(file.key, file.etag) for file in leave}
    files: list[BufferFile] = []
    size = 0
    wanted: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix.rstrip("/") + "/"}
    while True:
        page_size = min(_PAGE, max_files - len(files) + len(taken) + 1)
        page = ask(client.list_objects_v2, MaxKeys=page_size, **wanted)
        for listed in page.get("Contents", ()):
            file = BufferFile(listed["Key"], listed["ETag"], listed["Size"], int(listed["LastModified"].timestamp() * 1000))
            if (file.key, file.etag) in taken or (file.key.endswith("/") and not file.size):
                continue
            if listed.get("StorageClass") in _ARCHIVED:
                log.warning(
                    "Left s3://%s/%s: its storage class is %s; restore it or take it away", bucket, file.key, listed["StorageClass"]
                )
                continue
            if files and size + file.size > max_bytes:
                return files
            files.append(file)
            size += file.size
            if len(files) >= max_files or size >= max_bytes:
                return files
        if not page.get("IsTruncated"):
            return files
        wanted["ContinuationToken"] = page["NextContinuationToken"]


def oldest_file(client: S3Client, bucket: str, prefix: str, *, leave: Collection[BufferFile]) -> BufferFile | None:
    """
    Return the file that has waited longest among the first thousand that the next run would take; None where none waits.

    One page, not the whole buffer: whoever takes files takes them from the top, so what stands there is what nobody takes.

    Raises:
        TransientError: S3 does not answer.
        SettingsError: The bucket does not exist, access is refused, or the prefix is empty.
    """
    first = list_files(client, bucket, prefix, leave=leave, max_files=_PAGE, max_bytes=1 << 62)
    return min(first, key=lambda file: file.modified, default=None)


def copy_file(
    client: S3Client, bucket: str, file: BufferFile, key: str, *, copy_bytes: int = COPY_BYTES, part_bytes: int = PART_BYTES
) -> bool:
    """
    Copy a file inside S3, byte for byte; return False where it was replaced or is gone since it was listed, or somebody aborted the upload.

    Args:
        client: See the top of this module.
        bucket: Of the file and of the copy.
        file: As it was listed.
        key: Of the copy; one that was never used before.
        copy_bytes: Larger files are copied in parts.
        part_bytes: At least 5 MiB.

    Raises:
        TransientError: S3 does not answer.
        SettingsError: Access is refused.
    """
    source: dict[str, Any] = {"CopySource": {"Bucket": bucket, "Key": file.key}, "CopySourceIfMatch": file.etag}
    if file.size <= copy_bytes:
        return _unless_changed(client.copy_object, Bucket=bucket, Key=key, TaggingDirective="REPLACE", **source) is not None
    upload = {"Bucket": bucket, "Key": key, "UploadId": ask(client.create_multipart_upload, Bucket=bucket, Key=key)["UploadId"]}
    whole = False
    try:
        parts = []
        for number, begin in enumerate(range(0, file.size, part_bytes), start=1):
            span = f"bytes={begin}-{min(begin + part_bytes, file.size) - 1}"
            part = _unless_changed(client.upload_part_copy, PartNumber=number, CopySourceRange=span, **upload, **source)
            if part is None:
                return False
            parts.append({"PartNumber": number, "ETag": part["CopyPartResult"]["ETag"]})
        whole = _unless_changed(client.complete_multipart_upload, MultipartUpload={"Parts": parts}, **upload) is not None
    finally:
        if not whole:
            _abort(client, upload)
    return whole


def delete_file(client: S3Client, bucket: str, file: BufferFile) -> None:
    """
    Delete a file that is safe elsewhere; one that was replaced, or is gone, is left alone.

    Args:
        client: See the top of this module.
        bucket: The bucket's name.
        file: As it was listed.

    Raises:
        TransientError: S3 does not answer.
        SettingsError: Access is refused.
    """
    _unless_changed(client.delete_object, Bucket=bucket, Key=file.key, IfMatch=file.etag)


def _abort(client: S3Client, upload: dict[str, Any]) -> None:
    """Give up a copy in parts. Where that fails too, the bucket's rule for incomplete uploads has to do it."""
    try:
        ask(client.abort_multipart_upload, **upload)
    except (PolkuError, FileNotFoundError) as error:
        log.warning("Could not abort the upload %s of %s: %s", upload["UploadId"], upload["Key"], error)


def _unless_changed(call: Callable[..., Any], **arguments: Any) -> Any:
    """Make a conditional request; return None where the file has been replaced (412), or it or the upload is gone (404)."""
    try:
        return ask(call, **arguments)
    except (LostRace, FileNotFoundError):
        return None
