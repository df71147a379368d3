"""
What polku_audit and polku_trace do, as plain functions of clients and settings. Both only read.

``audit`` holds the tables of some batches to what the raw archive gives. ``trace`` says where an event is, and what became of it.
"""

from __future__ import annotations

import base64
import itertools
import json
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from polku import archive, buffer_files, records, transform
from polku.audit import Comparison, Difference, Report, expected_row, lines, together
from polku.batches import Batch, Checkpoint, Manifest, Part, RawObject
from polku.errors import SettingsError
from polku.events import COLUMNS
from polku.loads import sql_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_s3 import S3Client

    from polku.settings import Settings
    from polku.tables import Extent, Found, Tables

log = logging.getLogger(__name__)

SHOWN_BYTES = 100_000
"""So much of an event is shown at most."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """
    What is looked at, and with what.

    Args:
        settings: Where things are.
        s3: Client of the bucket.
        tables: The tables of the source.
        source: "server" or "client".
        start: Batches of times from here on; None where no range was given.
        end: Up to here, this time not included.
    """

    settings: Settings
    s3: S3Client
    tables: Tables
    source: str
    start: datetime | None
    end: datetime | None

    @property
    def bucket(self) -> str:
        """The stage's bucket."""
        return self.settings.bucket

    def batches(self) -> list[Batch]:
        """Return the batches of the range; none where there is no range."""
        return archive.list_batches(self.s3, self.bucket, self.source, self.start, self.end) if self.start and self.end else []

    def checkpoint(self) -> Checkpoint:
        """Return the source's checkpoint."""
        return archive.read_checkpoint(self.s3, self.bucket, self.source)[0]

    def rules(self, batch: Batch) -> transform.Rules:
        """Return how the events of a batch become rows, as the settings say now."""
        return transform.Rules(
            source=self.source,
            batch_id=batch.id,
            translate=self.settings.sources[self.source].translate,
            shared=self.settings.shared(self.source),
        )

    def opened(self, part: Part) -> Iterator[tuple[RawObject, BinaryIO]]:
        """Yield each raw object with its bytes, one on disk at a time."""
        for raw in part.objects:
            with archive.open_raw(self.s3, self.bucket, raw) as file:
                yield raw, file


# -- audit -------------------------------------------------------------------------------------------------------


def audit(scope: Scope, *, most_shown: int) -> Report:
    """
    Compare the batches of the range with the tables, one after another.

    A batch that is made meanwhile, or not loaded yet, is no difference. Manifests are listed before the checkpoint is read, and both
    before the tables are: so a batch that is not pending then is in the tables that are seen.
    """
    report = Report(most_shown=most_shown)
    made = scope.batches()
    pending = scope.checkpoint().pending
    first, last = _ids(scope)
    with scope.tables.snapshot():
        booked = set(scope.tables.books(first, last))
        extents = scope.tables.extents(first, last)
    known = {batch.id for batch in made} | set(pending)
    for id_ in sorted((booked | extents.keys()) - known):
        if _in_range(scope, id_):
            rows = extents[id_].rows if id_ in extents else 0
            report.add(Difference(kind="unknown_batch", batch=id_, detail=f"it has no manifest, and {rows} rows"))
    for batch in made:
        if batch.id in pending and batch.id not in booked:
            report.waiting.append(batch.id)
        else:
            _audit_batch(scope, batch, extents.get(batch.id), report)
    for difference in report.shown:
        log.warning("%s", difference)
    if report.waiting:
        log.warning("%d batches are not loaded yet, e.g. %s; audit again once they are", len(report.waiting), report.waiting[0])
    log.info("Audited %s from %s to %s: %s", scope.source, scope.start, scope.end, report.counts())
    return report


def _audit_batch(scope: Scope, batch: Batch, extent: Extent | None, report: Report) -> None:
    manifest = archive.read_manifest(scope.s3, scope.bucket, batch)
    if manifest is None:
        return  # its lifecycle rule took it just now
    parts = manifest.parts
    raws = [raw for part in parts for raw in part.objects]
    arrivals = min(raw.first_arrival for raw in raws), max(raw.last_arrival for raw in raws)
    with Comparison(batch.id, report) as comparison:
        try:
            tally = together(transform.transform(scope.opened(part), scope.rules(batch), _nobody, comparison) for part in parts)
        except (SettingsError, ValueError) as error:  # gone, or damaged
            comparison.unreadable(str(error))
            return
        tables = scope.tables
        with tables.snapshot():
            books = tables.books(batch.id, batch.id).get(batch.id)
            rejected = tables.rejected(batch.id, batch.id).get(batch.id, {})
            times = [sql_time(ms) for ms in arrivals] + ([_sql_text(at) for at in (extent.first, extent.last)] if extent else [])
            first, last, days = min(times), max(times), scope.settings.load.dedup_days
            comparison.rows(tables.rows(batch.id, first, last, wins=True), wins=True)
            comparison.rows(tables.rows(batch.id, first, last, wins=False), wins=False)
            comparison.copies(tables.copies(batch.id, first, last, _days_before(first, days)), dedup_days=days)
        complete = True
        for part in parts:
            complete = _read_quarantine(scope, batch, part, comparison) and complete
        comparison.close(tally, arrivals, books, rejected, quarantine=complete)


def _read_quarantine(scope: Scope, batch: Batch, part: Part, comparison: Comparison) -> bool:
    """Give a part's quarantine objects to the comparison; False where lifecycle rules have taken what would name them, or one of them."""
    receipt = archive.read_last_receipt(scope.s3, scope.bucket, batch, part)
    if receipt is None:
        return False
    objects = [archive.read_quarantine(scope.s3, scope.bucket, key) for key in receipt.quarantine]
    for data in objects:
        if data is not None:
            comparison.quarantine(data)
    return all(data is not None for data in objects)


def _ids(scope: Scope) -> tuple[str, str]:
    """Return two texts between which the ids of the range's batches lie, and at most a second's more."""
    if scope.start is None or scope.end is None:
        raise SettingsError("`from` and `to` are needed: which batches are to be audited.")
    after = (scope.end + timedelta(microseconds=999_999)).replace(microsecond=0)
    return tuple(f"{scope.source}/{at.replace(tzinfo=None, microsecond=0).isoformat()}" for at in (scope.start, after))  # type: ignore[return-value]


def _in_range(scope: Scope, id_: str) -> bool:
    try:
        at = Batch.parse(id_).at
    except ValueError:
        return True  # no id of ours, and yet between two of them
    return scope.start is None or scope.end is None or scope.start <= at < scope.end


def _nobody(_ids: Sequence[str]) -> dict[str, str]:
    """Know nobody: names are held to the registry, not to where they came from."""
    return {}


def _sql_text(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="microseconds")


def _days_before(text: str, days: int) -> str:
    at = datetime.fromisoformat(text)
    return _sql_text(at - timedelta(days=days)) if at.year > 1 else text


# -- trace -------------------------------------------------------------------------------------------------------


class Sighting(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    One place where an event was found.

    Args:
        outcome: "row", "duplicate", "quarantine" or "waiting" (its batch is not loaded yet).
        batch: Its batch.
        position: Where it stood, as the column ``position`` says it.
        raw_object: s3:// address of the raw object that holds its bytes as they arrived; "" where that is gone.
        within: Which record or value of that object it is.
        arrived: When, UTC.
        rule: What was done with it: repairs, the reason of its quarantine, or why it lost.
        stored: The table, or the address of the quarantine object.
        event: Its bytes as text, where they were asked for.
    """

    outcome: str
    batch: str
    position: str
    raw_object: str
    within: str
    arrived: str
    rule: str
    stored: str
    event: str = ""


def trace(scope: Scope, message_id: str, *, show: bool) -> list[Sighting]:
    """
    Return every place where an event stands: in the tables, in batches that wait, in quarantine of the range.

    Args:
        scope: Where to look. Quarantine is only looked through where a range is given.
        message_id: Its messageId. In quarantine, where it may be unreadable, events are found that have it anywhere in their bytes.
        show: Whether to return the event's bytes.
    """
    if not message_id:
        raise SettingsError("message_id is empty; expected the messageId of an event.")
    with scope.tables.snapshot():
        copies = scope.tables.find(message_id)
    sightings = [_sighted(scope, copy, copies, show=show) for copy in copies]
    there = {(copy.batch_id, copy.position) for copy in copies}
    for manifest in _waiting(scope):
        sightings += [one for one in _find_waiting(scope, manifest, message_id, show=show) if (one.batch, one.position) not in there]
    for batch in scope.batches():
        sightings += _find_quarantined(scope, batch, message_id, show=show)
    for one in sightings:
        log.info("Found as %s", json.dumps(msgspec.to_builtins(one), ensure_ascii=False))
    if not sightings:
        log.warning(
            "messageId %r is in no row, no duplicate and no waiting batch of %s%s. "
            "It is in quarantine of another time, in the other source, still in the buffer, or it never came",
            message_id,
            scope.source,
            ", and not in quarantine of the range" if scope.start else "; quarantine is looked through where `from` and `to` are given",
        )
    return sightings


def _sighted(scope: Scope, copy: Found, copies: Sequence[Found], *, show: bool) -> Sighting:
    if copy.wins:
        rule, outcome, stored = "first copy", "row", f"{scope.settings.schema}.{scope.source}"
    else:
        winner = next((other for other in copies if other.wins and other.received_at <= copy.received_at), None)
        first = f"a copy came before it, in {winner.batch_id}" if winner else "a copy came before it"
        rule = first + (", with other contents" if copy.conflicting else "")
        outcome, stored = "duplicate", f"{scope.settings.schema}.duplicate"
    if copy.repairs:
        rule += f"; repaired: {copy.repairs}"
    if copy.user_name is not None:
        rule += f"; user {copy.user_id} is {copy.user_name}"
    place = _Place(scope, Batch.parse(copy.batch_id), copy.position)
    return Sighting(
        outcome=outcome,
        batch=copy.batch_id,
        position=copy.position,
        raw_object=place.address,
        within=place.within,
        arrived=_sql_text(copy.received_at),
        rule=rule,
        stored=stored,
        event=_shown(place.data) if show else "",
    )


def _waiting(scope: Scope) -> Iterator[Manifest]:
    """Yield the manifests of pending batches, those of the range where there is one, oldest first."""
    entries = scope.checkpoint().pending
    for id_ in sorted(entries, key=lambda id_: Batch.parse(id_).at):
        if _in_range(scope, id_):
            parts = entries[id_].parts
            manifest = Manifest(batch=id_, parts=parts) if parts else archive.read_manifest(scope.s3, scope.bucket, Batch.parse(id_))
            if manifest:
                yield manifest


class _Finder:
    """A sink of transform that keeps the rows of one message_id."""

    def __init__(self, message_id: str) -> None:
        self._wanted = message_id
        self._needle = message_id.encode() + b"\x01"
        self.rows: list[dict[str, str | None]] = []

    def staged(self, data: bytes, rows: int) -> None:  # noqa: ARG002 -- a sink is told
        found = (line for line in lines(data) if line.startswith(self._needle))
        self.rows += [dict(zip((column.name for column in COLUMNS), expected_row(line), strict=True)) for line in found]

    def quarantined(self, data: bytes, events: int) -> None:
        """Leave it: quarantine is looked through by itself."""


def _find_waiting(scope: Scope, manifest: Manifest, message_id: str, *, show: bool) -> Iterator[Sighting]:
    batch = Batch.parse(manifest.batch)
    for part in manifest.parts:
        finder = _Finder(message_id)
        try:
            transform.transform(scope.opened(part), scope.rules(batch), _nobody, finder)
        except (SettingsError, ValueError) as error:  # gone, or damaged
            log.warning("%s of %s waits and could not be looked through to its end; the event may be in it: %s", part.name, batch, error)
        for row in finder.rows:
            place = _Place(scope, batch, row["position"] or "", Manifest(batch=batch.id, parts=(part,)))
            yield Sighting(
                outcome="waiting",
                batch=batch.id,
                position=row["position"] or "",
                raw_object=place.address,
                within=place.within,
                arrived=row["received_at"] or "",
                rule="its batch is not loaded yet" + (f"; repaired: {row['repairs']}" if row["repairs"] else ""),
                stored="",
                event=_shown(place.data) if show else "",
            )


def _find_quarantined(scope: Scope, batch: Batch, message_id: str, *, show: bool) -> Iterator[Sighting]:
    manifest = archive.read_manifest(scope.s3, scope.bucket, batch)
    needles = {message_id.encode(), json.dumps(message_id)[1:-1].encode(), json.dumps(message_id, ensure_ascii=False)[1:-1].encode()}
    for part in manifest.parts if manifest else ():
        receipt = archive.read_last_receipt(scope.s3, scope.bucket, batch, part)
        for key in receipt.quarantine if receipt else ():
            for line in lines(archive.read_quarantine(scope.s3, scope.bucket, key) or b""):
                told = msgspec.json.decode(line)
                data = base64.b64decode(told["bytes"])
                if not any(needle in data for needle in needles):
                    continue
                place = _Place(scope, batch, told["position"], manifest)
                yield Sighting(
                    outcome="quarantine",
                    batch=batch.id,
                    position=told["position"],
                    raw_object=place.address,
                    within=place.within,
                    arrived=told["received_at"],
                    rule=f"{told['reason']}: {told['detail']}",
                    stored=f"s3://{scope.bucket}/{key}",
                    event=_shown(data) if show else "",
                )


class _Place:
    """
    Where the bytes of an event lie in the raw archive.

    Args:
        scope: Where things are.
        batch: The event's batch.
        position: As the column says it: shard or file, sequence number or ETag, sub-sequence or value, index.
        manifest: Of the batch, where it is at hand.
    """

    def __init__(self, scope: Scope, batch: Batch, position: str, manifest: Manifest | None = None) -> None:
        self.address, self.within, self.data = "", "its raw object is no longer there", b""
        self._scope = scope
        self._owner, self._number, self._sub, self._index = position.rsplit("/", 3)
        manifest = manifest or archive.read_manifest(scope.s3, scope.bucket, batch)
        for part in manifest.parts if manifest else ():
            for raw in part.objects:
                if raw.file is None and self._owner in part.end and self._found_in_stream(raw):
                    return
                if raw.file is not None and raw.file.key == self._owner and raw.file.etag.strip('"') == self._number:
                    self._found_in_file(raw)
                    return

    def _found_in_stream(self, raw: RawObject) -> bool:
        """Look for the record in a raw object of its shard."""
        sequence = self._number.lstrip("0") or "0"
        try:
            with archive.open_raw(self._scope.s3, self._scope.bucket, raw) as file:
                for number, block in enumerate(records.unpack(file)):
                    if block.shard == self._owner and sequence in block.sequences:
                        at = block.sequences.index(sequence)
                        self.data = block.data[at]
                        self.address = f"s3://{self._scope.bucket}/{raw.key}"
                        self.within = (
                            f"record {at} of block {number}, both counted from 0: sequence number {sequence} of {self._owner}, "
                            f"its user record {int(self._sub)}, event {int(self._index)}"
                        )
                        return True
        except (SettingsError, ValueError) as error:
            log.warning("%s", error)
        return False

    def _found_in_file(self, raw: RawObject) -> None:
        """Look for the value in the copy of its file."""
        number = int(self._sub)
        self.address = f"s3://{self._scope.bucket}/{raw.key}"
        self.within = f"value {number}, counted from 0, of this copy of {self._owner} (ETag {self._number}), event {int(self._index)}"
        try:
            with archive.open_raw(self._scope.s3, self._scope.bucket, raw) as file:
                values = itertools.chain.from_iterable(
                    found.values if isinstance(found, buffer_files.Values) else [found.data] for found in buffer_files.cut(file)
                )
                self.data = next(itertools.islice(values, number, None), b"")
        except SettingsError as error:
            self.address, self.within = "", "its raw object is no longer there"
            log.warning("%s", error)


def _shown(data: bytes) -> str:
    return data[:SHOWN_BYTES].decode("utf-8", "backslashreplace")


def utc(text: str | None) -> datetime | None:
    """Return a date-time of the trigger form in UTC; one without a zone is meant so. Raises SettingsError where it is none."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise SettingsError(f"{text!r:.80} is no date-time; expected something like 2026-11-23T10:00:00Z") from None
    return at.astimezone(timezone.utc) if at.tzinfo else at.replace(tzinfo=timezone.utc)
