"""
The bucket: raw, staged and quarantined objects, and the state objects of the commit protocol.

Data objects are written once, under names that no other try uses. State objects are replaced by conditional
writes alone (S3 user guide, "How to prevent object overwrites with conditional writes"). Readers go by manifest
and receipt, never by prefix.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import msgspec

from polku import batches
from polku.batches import LAYOUT, Batch, Checkpoint, Manifest, Part, RawObject, Receipt, StagedObject
from polku.errors import LostObject, LostRace, TransientError, UnreadableState
from polku.incidents import Watch
from polku.s3_answers import ask, download

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_boto3_s3 import S3Client

T = TypeVar("T", bound=msgspec.Struct)

log = logging.getLogger(__name__)

WATCH_KEY = "state/watch.json"

_HEADS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Names:
    """
    The object names of one try of one task; no other try has the same.

    Args:
        batch: The batch it works on.
        part: The lane or part it works on.
        attempt: Unique to this try, e.g. ``2-5f0c9a1be7d3``.
    """

    batch: Batch
    part: str
    attempt: str

    def raw(self, number: int) -> str:
        """Name of the n-th raw object."""
        return f"raw/{self.batch.source}/dt={self.batch.date}/{self.batch.name}/{self.part}-{self.attempt}-{number:05d}"

    def staged(self, number: int) -> str:
        """Name of the n-th staged object."""
        return f"staged/{self.batch.source}/dt={self.batch.date}/{self.batch.name}/{self.part}-{self.attempt}-{number:05d}.zst"

    def quarantine(self, number: int) -> str:
        """Name of the n-th quarantine object."""
        return f"quarantine/{self.batch.source}/dt={self.batch.date}/{self.batch.name}/{self.part}-{self.attempt}-{number:05d}.jsonl.zst"


def load_manifest_key(source: str, load: str) -> str:
    """Name of the COPY manifest of one try of one load."""
    return f"load/{source}/{load}.manifest"


# -- data: written once ------------------------------------------------------------------------------------------


def put_once(client: S3Client, bucket: str, key: str, body: bytes) -> str:
    """
    Write an object that is not there yet and return its ETag.

    A 412 can only be the echo of our own write whose answer was lost, since no other try uses the name.
    Raises TransientError where S3 does not take it.
    """
    try:
        etag: str = ask(client.put_object, Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")["ETag"]
    except LostRace:
        head = ask(client.head_object, Bucket=bucket, Key=key)
        if head["ContentLength"] != len(body):
            raise TransientError(f"s3://{bucket}/{key} is there with {head['ContentLength']} bytes; expected our {len(body)}") from None
        etag = head["ETag"]
    return etag


def open_raw(client: S3Client, bucket: str, raw: RawObject) -> BinaryIO:
    """
    Return a raw object as a file on disk that is gone once it is closed.

    Raises LostObject where it has expired: a batch can only be replayed as long as its raw objects live.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        if download(client, bucket, raw.key, file) is None:
            raise LostObject(
                f"Raw object s3://{bucket}/{raw.key} is gone. A batch can be replayed only while its raw objects live; "
                "see the lifecycle rules of the bucket (prefix raw/)."
            )
        file.seek(0)
        stack.pop_all()
    return file


def read_quarantine(client: S3Client, bucket: str, key: str) -> bytes | None:
    """Return a quarantine object (zstd JSON lines), None where it has expired."""
    body = io.BytesIO()
    return None if download(client, bucket, key, body) is None else body.getvalue()


def write_load_manifest(client: S3Client, bucket: str, key: str, staged: Sequence[StagedObject]) -> None:
    """Write the manifest that COPY reads: every staged object by name, each mandatory (Redshift guide, "Using a manifest")."""
    entries = [{"url": f"s3://{bucket}/{o.key}", "mandatory": True, "meta": {"content_length": o.size}} for o in staged]
    put_once(client, bucket, key, msgspec.json.encode({"entries": entries}))


# -- state: replaced by conditional writes -----------------------------------------------------------------------


def read_checkpoint(client: S3Client, bucket: str, source: str) -> tuple[Checkpoint, str]:
    """Return the checkpoint and its ETag; an empty one and "" before the first commit."""
    return _read(client, bucket, _checkpoint_key(source), Checkpoint) or (Checkpoint(), "")


def replace_checkpoint(client: S3Client, bucket: str, source: str, new: Checkpoint, etag: str) -> None:
    """Replace the checkpoint if it still is what was read. Raises LostRace where it is not (or where our own write's answer was lost)."""
    _replace(client, bucket, _checkpoint_key(source), new, etag)


def change_checkpoint(client: S3Client, bucket: str, source: str, change: Callable[[Checkpoint], Checkpoint | None]) -> Checkpoint:
    """
    Apply ``change`` to the checkpoint, again on what is there now whenever somebody else wrote first.

    Args:
        client: Of S3.
        bucket: The stage's bucket.
        source: "server" or "client".
        change: Returns the new checkpoint, or None where nothing is to be written (also when a lost answer turns
            out to have been a yes).

    Returns: The checkpoint as it stands afterwards.
    """
    while True:
        checkpoint, etag = read_checkpoint(client, bucket, source)
        new = change(checkpoint)
        if new is None or new == checkpoint:
            return checkpoint
        try:
            replace_checkpoint(client, bucket, source, new, etag)
        except LostRace:
            log.info("Somebody else replaced the checkpoint of %s meanwhile; reading it again", source)
            continue
        return new


def write_manifest(client: S3Client, bucket: str, manifest: Manifest) -> None:
    """Write a batch's manifest unless it is there: it never changes."""
    try:
        ask(client.put_object, Bucket=bucket, Key=_manifest_key(Batch.parse(manifest.batch)), Body=batches.dump(manifest), IfNoneMatch="*")
    except LostRace:
        log.debug("The manifest of %s was written before", manifest.batch)


def read_manifest(client: S3Client, bucket: str, batch: Batch) -> Manifest | None:
    """Return a batch's manifest; None where the batch was never made."""
    found = _read(client, bucket, _manifest_key(batch), Manifest)
    return found[0] if found else None


def list_batches(client: S3Client, bucket: str, source: str, start: datetime, end: datetime) -> list[Batch]:
    """
    Return the batches that were made for times from ``start`` up to, not including, ``end``, oldest first.

    Found by their manifests, a day's names at a time, from the first that can be one of them.
    """
    found: list[Batch] = []
    day = start
    while day < end:
        prefix = f"state/{source}/batches/{day:%Y%m%d}T"
        wanted: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "StartAfter": f"state/{source}/batches/{day:%Y%m%dT%H%M%S}"}
        while True:
            page = ask(client.list_objects_v2, **wanted)
            listed = [_batch_of_key(source, entry["Key"]) for entry in page.get("Contents", ())]
            found += [batch for batch in listed if start <= batch.at < end]
            if not page.get("IsTruncated") or listed[-1].at.replace(microsecond=0) >= end:
                break
            wanted["ContinuationToken"] = page["NextContinuationToken"]
        day = day.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return sorted(found, key=lambda batch: batch.at)


def write_receipt(client: S3Client, bucket: str, receipt: Receipt, now_ms: int) -> Receipt:
    """
    Make this transform the one that counts for its part, and return the receipt with its generation.

    The generation is the time, or one more than the former's where clocks disagree; so it also grows when
    receipts have expired.
    """
    key = _receipt_key(Batch.parse(receipt.batch), receipt.part)
    while True:
        former, etag = _read(client, bucket, key, Receipt) or (None, "")
        new = msgspec.structs.replace(receipt, generation=max(now_ms, former.generation + 1 if former else 0))
        if former and msgspec.structs.replace(former, generation=0) == msgspec.structs.replace(new, generation=0):
            return former  # our own write, whose answer was lost
        try:
            _replace(client, bucket, key, new, etag)
        except LostRace:
            continue
        return new


def read_receipt(client: S3Client, bucket: str, batch: Batch, part: Part) -> Receipt | None:
    """Return a part's receipt; None where there is none that counts: another layout, or staged objects gone or not the ones written."""
    found = _read(client, bucket, _receipt_key(batch, part.name), Receipt)
    if not found or found[0].layout != LAYOUT:
        return None
    receipt = found[0]
    with ThreadPoolExecutor(_HEADS_AT_ONCE) as pool:
        sound = list(pool.map(lambda staged: _is_as_written(client, bucket, staged), receipt.staged))
    if not all(sound):
        log.warning(
            "%d staged objects of %s %s are gone or changed; the part has to be transformed again", sound.count(False), batch, part.name
        )
        return None
    return receipt


def read_watch(client: S3Client, bucket: str) -> tuple[Watch, str]:
    """Return what polku_watch knows and the ETag; nothing and "" before its first run."""
    return _read(client, bucket, WATCH_KEY, Watch) or (Watch(), "")


def change_watch(client: S3Client, bucket: str, change: Callable[[Watch], Watch]) -> Watch:
    """Apply ``change`` to what polku_watch knows, again whenever another run wrote first; return what it then knows."""
    while True:
        watch, etag = read_watch(client, bucket)
        new = change(watch)
        if new == watch:
            return watch
        try:
            _replace(client, bucket, WATCH_KEY, new, etag)
        except LostRace:
            continue
        return new


def read_last_receipt(client: S3Client, bucket: str, batch: Batch, part: Part) -> Receipt | None:
    """Return what a part's last transform wrote down, whatever became of its staged objects since; None where it has expired."""
    found = _read(client, bucket, _receipt_key(batch, part.name), Receipt)
    return found[0] if found else None


def _checkpoint_key(source: str) -> str:
    return f"state/{source}/checkpoint.json"


def _manifest_key(batch: Batch) -> str:
    return f"state/{batch.source}/batches/{batch.name}.json"


def _batch_of_key(source: str, key: str) -> Batch:
    """Return the batch whose manifest this is: the inverse of ``_manifest_key``."""
    name = key.rpartition("/")[2].removesuffix(".json")
    return Batch.of(source, datetime.strptime(name, "%Y%m%dT%H%M%S.%fZ" if "." in name else "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc))


def _receipt_key(batch: Batch, part: str) -> str:
    return f"state/{batch.source}/receipts/{batch.name}/{part}.json"


def _is_as_written(client: S3Client, bucket: str, staged: StagedObject) -> bool:
    try:
        head = ask(client.head_object, Bucket=bucket, Key=staged.key)
    except FileNotFoundError:
        return False
    return bool(head["ETag"] == staged.etag and head["ContentLength"] == staged.size)


def _read(client: S3Client, bucket: str, key: str, kind: type[T]) -> tuple[T, str] | None:
    """Return a state object and its ETag, None where it is not there. Raises UnreadableState where it is none of this release."""
    body = io.BytesIO()
    etag = download(client, bucket, key, body)
    if etag is None:
        return None
    try:
        return batches.load(body.getvalue(), kind), etag
    except msgspec.DecodeError as error:
        raise UnreadableState(
            f"s3://{bucket}/{key} is not a {kind.__name__} of this release: {error}. Nothing was changed; look at the object."
        ) from error


def _replace(client: S3Client, bucket: str, key: str, new: msgspec.Struct, etag: str) -> None:
    condition: dict[str, str] = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
    try:
        ask(client.put_object, Bucket=bucket, Key=key, Body=batches.dump(new), ContentType="application/json", **condition)
    except FileNotFoundError as error:  # S3's answer to If-Match where the object was deleted
        raise LostRace(f"s3://{bucket}/{key} was deleted") from error
