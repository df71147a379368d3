"""
The steps of a run as plain functions of clients and settings; ``tasks.py`` gives them to Airflow.

plan -> drain* -> commit -> transform* -> load, as in the README's picture. Every step can be run again, by a
retry, by a person, or by a try that was given up and lives on.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import msgspec

from polku import archive, commit, kinesis, records, s3_buffer, transform
from polku.batches import LAYOUT, Batch, BufferFile, Checkpoint, Lane, Manifest, Part, Position, RawObject, Receipt, StagedObject
from polku.errors import LostObject, PolkuError, SettingsError, TransientError
from polku.loads import Ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client

    from polku.settings import Settings, Source

T = TypeVar("T")
U = TypeVar("U")

log = logging.getLogger(__name__)

RAW_OBJECT_BYTES = 16 << 20
"""About how large a raw object grows, compressed."""

MOST_DUE = 1_000
"""Parts that one run transforms at most: Airflow maps a task at most 1,024 times, and fails the one before it where there are more."""

COPIES_AT_ONCE = 8
"""Server-side copies and deletes of buffer files that are under way at once."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """
    What every step of a run is given.

    Args:
        batch: The run's own batch.
        settings: Where things are.
        s3: Client of the bucket.
        attempt: Unique to this try of this task; part of every data object's name.
        now: Seconds since 1970.
    """

    batch: Batch
    settings: Settings
    s3: S3Client
    attempt: str
    now: Callable[[], float] = field(default=time.time)

    @property
    def source(self) -> Source:
        """The settings of the batch's source."""
        return self.settings.sources[self.batch.source]

    @property
    def bucket(self) -> str:
        """The stage's bucket."""
        return self.settings.bucket

    @property
    def now_ms(self) -> int:
        """Ms since 1970."""
        return int(self.now() * 1000)


# -- plan --------------------------------------------------------------------------------------------------------


def plan(run: Run, streams: KinesisClient, *, write: bool = True) -> list[Lane]:
    """
    Return the lanes to drain; none where there is nothing to do at all.

    One lane of kind "nothing" stands for a run that has only to heal, resume or replay.

    Args:
        run: The run.
        streams: Client of Kinesis.
        write: Whether an idle stream may be noted in the checkpoint; a dry run writes nothing.

    Raises:
        SettingsError: The logical date lies in the future.
    """
    if run.batch.at.timestamp() > run.now() + 60:
        raise SettingsError(f"Batch {run.batch} lies in the future. Trigger the run with a logical date that has passed, or with none.")
    checkpoint, _ = archive.read_checkpoint(run.s3, run.bucket, run.batch.source)
    manifest = archive.read_manifest(run.s3, run.bucket, run.batch)
    move = commit.next_move(run.batch, checkpoint, has_manifest=manifest is not None)
    log.info("Plan of %s: %s; %d batches pending, newest is %s", run.batch, move, len(checkpoint.pending), checkpoint.newest or "none")
    if move == "drain":
        lanes = _stream_lanes(run, streams, checkpoint, write=write)
        if run.source.buffer_prefix and _files_wait(run, checkpoint):
            lanes += commit.lanes([], most=0, files=True)
        if lanes:
            return lanes
    if move in ("resume", "replay", "heal") or commit.healable(checkpoint) or commit.unsettled(checkpoint):
        return [Lane(name="nothing", kind="nothing")]
    return []


def _stream_lanes(run: Run, streams: KinesisClient, checkpoint: Checkpoint, *, write: bool) -> list[Lane]:
    """Look which shards have something to read; a stream that cannot be looked at gets a lane that will say why, while others go on."""
    stream = run.source.stream
    if not stream:
        return []
    positions = checkpoint.positions
    try:
        shards = kinesis.list_shards(streams, stream)
        readable = kinesis.readable(shards, positions)
        waiting = {s.key for s in readable if kinesis.has_records(streams, s, positions.get(s.key, Position()), now=run.now)}
    except (TransientError, SettingsError) as error:
        log.warning("Stream %s cannot be looked at now; its lane will try again: %s", stream, error)
        return [Lane(name="shards-0", kind="stream")]
    forget = kinesis.no_longer_listed(shards, positions)
    gaps = {
        s.key: int(lost) for s in readable if (lost := kinesis.gap(positions.get(s.key, Position()), s.retention_hours, run.now())) >= 1
    }
    gaps |= {key: -1 for key in forget if not positions[key].finished}
    for key, lost in gaps.items():
        log.error(
            "Retention has overtaken %s: %s may be lost", key, f"{lost} s of arrivals" if lost >= 0 else "all that was left in the shard"
        )
    idle = {s.key for s in readable if s.key not in waiting}
    if write and commit.refresh(checkpoint, idle, run.now_ms):
        archive.change_checkpoint(run.s3, run.bucket, run.batch.source, lambda now: commit.refresh(now, idle, run.now_ms))
    families = [[s.key for s in family] for family in kinesis.lanes(shards, positions, len(shards))]
    return commit.lanes(
        [family for family in families if waiting.intersection(family)],
        most=run.settings.drain.lanes,
        files=False,
        forget=forget,
        gaps=gaps,
    )


def _files_wait(run: Run, checkpoint: Checkpoint) -> bool:
    """Tell whether there are files to take; a buffer that cannot be looked at gets a lane that will say why, while the stream goes on."""
    try:
        return bool(_waiting_files(run, checkpoint, most=1))
    except (TransientError, SettingsError) as error:
        log.warning("The buffer of %s cannot be looked at now; its lane will try again: %s", run.batch.source, error)
        return True


def _waiting_files(run: Run, checkpoint: Checkpoint, *, most: int, max_bytes: int = 0) -> list[BufferFile]:
    taken = {file for entry in checkpoint.pending.values() for part in entry.parts for file in part.files}
    return s3_buffer.list_files(
        run.s3,
        run.bucket,
        run.source.buffer_prefix or "",
        leave=taken,
        max_files=most,
        max_bytes=max_bytes or run.settings.drain.max_mbs << 20,
    )


# -- drain -------------------------------------------------------------------------------------------------------


def drain(run: Run, lane: Lane, streams: KinesisClient, limits: kinesis.Limits) -> Part:
    """
    Copy what waits in a lane to raw objects. Keeps no state: what it writes counts for nothing until commit names it.

    Raises:
        TransientError: The buffer does not answer.
    """
    if lane.kind == "nothing":
        return Part(name=lane.name)
    checkpoint, _ = archive.read_checkpoint(run.s3, run.bucket, run.batch.source)
    object_names = archive.Names(batch=run.batch, part=lane.name, attempt=run.attempt)
    if lane.kind == "files":
        return _drain_files(run, lane, checkpoint, object_names, limits)
    return _drain_shards(run, lane, checkpoint, object_names, streams, limits)


def _drain_files(run: Run, lane: Lane, checkpoint: Checkpoint, object_names: archive.Names, limits: kinesis.Limits) -> Part:
    """
    Copy the files that stood there after the checkpoint was read; one that is replaced meanwhile is left to the next run.

    So is one that cannot be copied (encrypted with a key that is not ours): it must not stop the others. polku_watch sees it wait.

    Raises:
        PolkuError: No file could be copied.
    """
    files = _waiting_files(run, checkpoint, most=run.settings.drain.max_files, max_bytes=limits.max_bytes)
    errors: list[PolkuError] = []
    away: list[TransientError] = []

    def copy(numbered: tuple[int, BufferFile]) -> bool:
        if len(away) >= COPIES_AT_ONCE:  # it is not the files: each would be tried for as long
            return False
        try:
            return s3_buffer.copy_file(run.s3, run.bucket, numbered[1], object_names.raw(numbered[0]))
        except PolkuError as error:
            log.error("Left a file where it is, the others go on: %s", error)  # noqa: TRY400 -- its place is no news
            errors.append(error)
            if isinstance(error, TransientError):
                away.append(error)
            return False

    copied = _each(copy, list(enumerate(files)))
    if errors and not any(copied):
        raise (away or errors)[0]
    objects = tuple(
        RawObject(key=object_names.raw(i), size=file.size, records=0, first_arrival=file.modified, last_arrival=file.modified, file=file)
        for i, (file, done) in enumerate(zip(files, copied, strict=True))
        if done
    )
    return Part(name=lane.name, objects=objects, files_from=checkpoint.files)


def _drain_shards(
    run: Run, lane: Lane, checkpoint: Checkpoint, object_names: archive.Names, streams: KinesisClient, limits: kinesis.Limits
) -> Part:
    shards = kinesis.list_shards(streams, run.source.stream or "")
    wanted = [s for s in shards if s.key in lane.shards] if lane.shards or lane.forget else shards
    start = {shard.key: checkpoint.positions.get(shard.key, Position()) for shard in wanted}
    end = dict(start)
    writer = _RawWriter(run, object_names)
    for item in kinesis.read(streams, wanted, start, limits, now=run.now):
        if isinstance(item, records.Block):
            writer.add(item)
            continue
        end[item.key] = item.position
        if item.error:
            log.warning("Shard %s was left where it stood; the next run goes on with it: %s", item.key, item.error)
    gaps = {key: lane.gaps[key] for key in lane.forget if key in lane.gaps} | _gaps_behind(run, wanted, start, end)
    return Part(name=lane.name, objects=tuple(writer.close()), start=start, end=end, forget=lane.forget, gaps=gaps)


def _gaps_behind(run: Run, shards: Sequence[kinesis.Shard], start: Mapping[str, Position], end: Mapping[str, Position]) -> dict[str, int]:
    """
    Return the gaps that a read has passed; one that it still stands before is the next run's to tell.

    Plan has looked too, where it could: a stream that was away for longer than its retention mostly comes back between the tries of drain.
    """
    passed = {}
    for shard in shards:
        was, at = start[shard.key], end[shard.key]
        lost = int(kinesis.gap(was, shard.retention_hours, run.now()))
        if lost >= 1 and (was.arrival, was.caught_up, was.finished) != (at.arrival, at.caught_up, at.finished):
            log.error("Retention had overtaken %s: %d s of arrivals may be lost", shard.key, lost)
            passed[shard.key] = lost
    return passed


class _RawWriter:
    """Gathers blocks into raw objects of about RAW_OBJECT_BYTES."""

    def __init__(self, run: Run, object_names: archive.Names) -> None:
        self._run, self._names = run, object_names
        self._frames: list[bytes] = []
        self._size = self._records = 0
        self._arrivals: list[int] = []
        self._objects: list[RawObject] = []

    def add(self, block: records.Block) -> None:
        if not block.data:
            return
        frame = records.pack(block)
        self._frames.append(frame)
        self._size += len(frame)
        self._records += len(block.data)
        self._arrivals += (min(block.arrivals), max(block.arrivals))
        if self._size >= RAW_OBJECT_BYTES:
            self._write()

    def close(self) -> list[RawObject]:
        if self._frames:
            self._write()
        return self._objects

    def _write(self) -> None:
        key = self._names.raw(len(self._objects))
        archive.put_once(self._run.s3, self._run.bucket, key, b"".join(self._frames))
        self._objects.append(
            RawObject(key=key, size=self._size, records=self._records, first_arrival=min(self._arrivals), last_arrival=max(self._arrivals))
        )
        self._frames, self._size, self._records, self._arrivals = [], 0, 0, []


# -- commit ------------------------------------------------------------------------------------------------------


_LOST_MANIFEST = (
    "Put the object in state/<source>/batches/ back (a bucket that keeps versions has it), or give the batch up: docs/operation.md."
)


class Due(msgspec.Struct, frozen=True):
    """A part that is to be transformed; "" for both where there is only something to load."""

    batch: str = ""
    part: str = ""


def make_batch(run: Run, parts: Sequence[Part]) -> list[Due]:
    """
    Make the batch of those parts that nobody overtook, carry on what earlier runs left, and return the parts to transform.

    From the conditional write on the records are safe, whatever happens later. Returns at least one (maybe empty)
    item, since Airflow skips what follows a mapped task over an empty list, and ``MOST_DUE`` at most: the rest is the next run's.

    Raises:
        LostObject: The run's own batch is pending and somebody has deleted its manifest.
    """
    replayed = archive.read_manifest(run.s3, run.bucket, run.batch)
    if replayed is None:
        archive.change_checkpoint(run.s3, run.bucket, run.batch.source, lambda now: commit.add(now, run.batch, parts))
    checkpoint = _settle(run)
    own = checkpoint.pending.get(run.batch.id)
    if own:
        log.info("Made %s; %d batches are pending", run.batch, len(checkpoint.pending))
    due = [Due(run.batch.id, part.name) for part in replayed.parts] if replayed and (not own or own.held) else []
    manifests = _pending_manifests(run, checkpoint)
    if own and run.batch.id not in {manifest.batch for manifest in manifests}:
        raise LostObject(f"{run.batch} waits to be loaded, and its manifest is gone. {_LOST_MANIFEST}")
    for manifest in manifests:
        batch = Batch.parse(manifest.batch)
        due += [Due(manifest.batch, part.name) for part in manifest.parts if not archive.read_receipt(run.s3, run.bucket, batch, part)]
        if len(due) >= MOST_DUE:
            break
    return list(dict.fromkeys(due))[:MOST_DUE] or [Due()]


def _settle(run: Run) -> Checkpoint:
    """Roll forward what a dead try may have left: write the manifest of every pending batch, delete the buffer files it took."""
    checkpoint, _ = archive.read_checkpoint(run.s3, run.bucket, run.batch.source)
    manifests = commit.unsettled(checkpoint)
    for manifest in manifests:
        archive.write_manifest(run.s3, run.bucket, manifest)
        _each(lambda file: s3_buffer.delete_file(run.s3, run.bucket, file), [file for part in manifest.parts for file in part.files])
    if not manifests:
        return checkpoint
    settled = {manifest.batch for manifest in manifests}
    return archive.change_checkpoint(run.s3, run.bucket, run.batch.source, lambda now: commit.settle(now, settled))


def _pending_manifests(run: Run, checkpoint: Checkpoint) -> list[Manifest]:
    """The oldest pending batches up to the bound on one run's load, and the run's own: held or not, since clearing a run tries it again."""
    ids = commit.healable(checkpoint)[: run.settings.load.max_batches]
    if run.batch.id in checkpoint.pending and run.batch.id not in ids:
        ids.append(run.batch.id)
    found = [(id_, archive.read_manifest(run.s3, run.bucket, Batch.parse(id_))) for id_ in ids]
    for id_, manifest in found:
        if manifest is None and checkpoint.pending[id_].parts:
            log.info("%s has no manifest yet; the next commit writes it", id_)
        elif manifest is None:
            log.error("%s waits to be loaded, and its manifest is gone; it is passed over. %s", id_, _LOST_MANIFEST)
    return [manifest for _, manifest in found if manifest]


# -- transform ---------------------------------------------------------------------------------------------------


def transform_part(run: Run, due: Due, lookup: Callable[[Sequence[str]], Mapping[str, str]] | None) -> Receipt | None:
    """
    Turn a part's raw objects into staged and quarantined ones and write the receipt that names them.

    Args:
        run: The run that does the work; the part may be another batch's.
        due: The part.
        lookup: The owner's directory of names: known user ids to names; None for generated names alone.

    Raises:
        LostObject: A raw object is gone; the batch is held back, the others go on.
    """
    if not due.batch:
        return None
    batch = Batch.parse(due.batch)
    manifest = archive.read_manifest(run.s3, run.bucket, batch)
    part = next((p for p in manifest.parts if p.name == due.part), None) if manifest else None
    if part is None:
        raise SettingsError(f"{due.batch} has no part {due.part!r} in its manifest. Clear the run from `plan` on.")
    rules = transform.Rules(
        source=batch.source,
        batch_id=batch.id,
        translate=run.settings.sources[batch.source].translate,
        shared=run.settings.shared(batch.source),
    )
    sink = _Sink(run, archive.Names(batch=batch, part=part.name, attempt=run.attempt))
    try:
        tally = transform.transform(_opened(run, part), rules, lookup or _no_names, sink)
    except LostObject as error:
        held_back(run, {batch.id: str(error)})  # no later run can do better, and each would be red for it
        raise
    if not sink.staged_objects:
        sink.staged(transform.EMPTY, 0)
    receipt = Receipt(
        batch=batch.id,
        part=part.name,
        layout=LAYOUT,
        generation=0,
        staged=tuple(sink.staged_objects),
        quarantine=tuple(sink.quarantine_keys),
        tally=tally,
    )
    written = archive.write_receipt(run.s3, run.bucket, receipt, run.now_ms)
    log.info("Staged %s %s: received %d = staged %d + quarantined %d", batch, part.name, tally.received, tally.staged, tally.quarantined)
    return written


def _opened(run: Run, part: Part) -> Iterator[tuple[RawObject, BinaryIO]]:
    """Yield each raw object with its bytes, one on disk at a time."""
    for raw in part.objects:
        with archive.open_raw(run.s3, run.bucket, raw) as file:
            yield raw, file


def _no_names(_ids: Sequence[str]) -> dict[str, str]:
    """Know nobody: transform generates a name for who is not known."""
    return {}


class _Sink:
    """Writes what transform makes, object by object."""

    def __init__(self, run: Run, object_names: archive.Names) -> None:
        self._run, self._names = run, object_names
        self.staged_objects: list[StagedObject] = []
        self.quarantine_keys: list[str] = []

    def staged(self, data: bytes, rows: int) -> None:
        key = self._names.staged(len(self.staged_objects))
        etag = archive.put_once(self._run.s3, self._run.bucket, key, data)
        self.staged_objects.append(StagedObject(key=key, size=len(data), rows=rows, etag=etag))

    def quarantined(self, data: bytes, events: int) -> None:
        key = self._names.quarantine(len(self.quarantine_keys))
        archive.put_once(self._run.s3, self._run.bucket, key, data)
        self.quarantine_keys.append(key)
        log.warning("%d events of %s went to quarantine: s3://%s/%s", events, self._names.batch, self._run.bucket, key)


# -- load --------------------------------------------------------------------------------------------------------


def ready(run: Run) -> list[Ready]:
    """Return the batches that can be loaded now, oldest first: manifest and receipts are there, and every staged object is as written."""
    checkpoint, _ = archive.read_checkpoint(run.s3, run.bucket, run.batch.source)
    manifests = _pending_manifests(run, checkpoint)
    if run.batch.id not in checkpoint.pending and (own := archive.read_manifest(run.s3, run.bucket, run.batch)):
        manifests.append(own)
    result = []
    for manifest in manifests:
        batch = Batch.parse(manifest.batch)
        receipts = [archive.read_receipt(run.s3, run.bucket, batch, part) for part in manifest.parts]
        if not all(receipts):
            log.warning(
                "%s is not loaded now: %d of its %d parts are not transformed; a later run goes on with it",
                batch,
                receipts.count(None),
                len(receipts),
            )
            continue
        result.append(Ready(batch=batch, manifest=manifest, receipts=tuple(r for r in receipts if r)))
    return sorted(result, key=lambda r: r.batch.at)


def was_loaded(run: Run) -> bool:
    """Tell whether the run's batch is made and no longer pending: whoever loads it again now is its own run alone."""
    checkpoint, _ = archive.read_checkpoint(run.s3, run.bucket, run.batch.source)
    return run.batch.id not in checkpoint.pending and archive.read_manifest(run.s3, run.bucket, run.batch) is not None


def loaded(run: Run, batches: Sequence[str]) -> None:
    """Note in the checkpoint that these batches are in Redshift."""
    archive.change_checkpoint(run.s3, run.bucket, run.batch.source, lambda now: commit.drop(now, batches))


def held_back(run: Run, refused: Mapping[str, str]) -> None:
    """Note in the checkpoint that these batches cannot be loaded as they are (id -> reason), so that the others flow on."""
    archive.change_checkpoint(run.s3, run.bucket, run.batch.source, lambda now: commit.hold(now, refused))


def _each(function: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """Call ``function`` for every item, a few at once, and return the answers in order."""
    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        return list(pool.map(function, items))
