"""
What the commit protocol writes down: batches, lanes, parts, receipts and the checkpoint.

Everything here is a value: read from S3 or XCom as JSON, never changed in place.
``commit.py`` holds the decisions that are taken with them, ``archive.py`` reads and writes them.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any, Literal, TypeVar

import msgspec

LAYOUT = 1
"""Version of the staged columns; a receipt of another layout is no receipt and its part is transformed again."""

SOURCES = ("server", "client")

_BATCH_ID = re.compile(r"(server|client)/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)Z")


class Batch(msgspec.Struct, frozen=True, order=False):
    """
    One run's worth of one source.

    Args:
        source: "server" or "client".
        at: The run's logical date (run_after where that is null), in UTC.
    """

    source: str
    at: datetime

    @classmethod
    def of(cls, source: str, at: datetime) -> Batch:
        """Return the batch of a run; raises ValueError for a naive datetime or an unknown source."""
        if source not in SOURCES:
            raise ValueError(f"source is {source!r}; expected one of {', '.join(SOURCES)}")
        if at.tzinfo is None:
            raise ValueError(f"logical date {at} has no time zone; expected an aware datetime")
        return cls(source, at.astimezone(timezone.utc))

    @classmethod
    def parse(cls, text: str) -> Batch:
        """Return the batch with this id; raises ValueError where it is none."""
        match = _BATCH_ID.fullmatch(text)
        if not match:
            raise ValueError(f"batch id is {text!r}; expected something like server/2026-11-23T10:41:00Z")
        return cls(match[1], datetime.fromisoformat(match[2].ljust(26, "0") if "." in match[2] else match[2]).replace(tzinfo=timezone.utc))

    @property
    def id(self) -> str:
        """E.g. ``server/2026-11-23T10:41:00Z``; microseconds only where there are some."""
        return f"{self.source}/{self.at.replace(tzinfo=None).isoformat()}Z"

    @property
    def name(self) -> str:
        """The logical date without punctuation, for object names, e.g. ``20261123T104100Z``."""
        micros = f".{self.at:%f}" if self.at.microsecond else ""
        return f"{self.at:%Y%m%dT%H%M%S}{micros}Z"

    @property
    def date(self) -> str:
        """The UTC date, for ``dt=`` in object names."""
        return self.at.date().isoformat()

    def __str__(self) -> str:
        return self.id


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    Where a shard's next read begins.

    Args:
        after: The last sequence number that was committed; "" means the shard's oldest record (TRIM_HORIZON).
        finished: The shard is closed and read to its end; its children may start.
        arrival: Arrival of the last record read, in ms since 1970; 0 where nothing was read yet.
        caught_up: When this shard was last seen without anything left to read, in ms since 1970.
    """

    after: str = ""
    finished: bool = False
    arrival: int = 0
    caught_up: int = 0


class BufferFile(msgspec.Struct, frozen=True):
    """A file of the S3 buffer, as it was listed: its key, ETag (with quotes), bytes and LastModified in ms since 1970."""

    key: str
    etag: str
    size: int
    modified: int


class RawObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    One object of the raw archive.

    Args:
        key: Its name in the bucket.
        size: Its bytes.
        records: How many Kinesis records are in it; 0 for a buffer file, whose events are counted by transform.
        first_arrival: Earliest arrival in it, in ms since 1970.
        last_arrival: Latest arrival in it, in ms since 1970.
        file: The buffer file that it is a copy of; None for records of a stream.
    """

    key: str
    size: int
    records: int
    first_arrival: int
    last_arrival: int
    file: BufferFile | None = None


class Lane(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What one drain task reads: some shards of one stream, or the S3 buffer's files.

    Args:
        name: Unique in its run, e.g. ``shards-0`` or ``files``; also the name of the part that comes of it.
        kind: "stream", "files", or "nothing" (a run that only heals what earlier ones left pending).
        shards: Position keys (``kinesis.Shard.key``) of the shards to read, parents before children.
        forget: Position keys that the stream no longer lists.
        gaps: Seconds of arrivals that retention may have taken when it was planned, by position key; -1 where nobody can tell.
    """

    name: str
    kind: Literal["stream", "files", "nothing"]
    shards: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    gaps: dict[str, int] = {}


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What one lane has drained, and what one transform task works on.

    Args:
        name: The lane's name.
        objects: Raw objects, in the order in which they were written.
        start: Position of each shard of the lane where the drain began.
        end: Position of each shard where the next drain begins.
        files_from: The files counter where the drain began; -1 where the lane read no files.
        forget: As in its lane.
        gaps: Seconds of arrivals that retention may have taken before this part, by position key; -1 where nobody can tell.
    """

    name: str
    objects: tuple[RawObject, ...] = ()
    start: dict[str, Position] = {}
    end: dict[str, Position] = {}
    files_from: int = -1
    forget: tuple[str, ...] = ()
    gaps: dict[str, int] = {}

    @property
    def files(self) -> tuple[BufferFile, ...]:
        """The buffer files that this part took."""
        return tuple(o.file for o in self.objects if o.file)


class Pending(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A batch that is committed and not yet known to be loaded.

    Args:
        parts: Its parts, until its manifest is written and its buffer files are deleted; then nothing ("settled").
        held: Why it cannot be loaded as it is; a held batch waits until its run is cleared. "" where it may be loaded.
    """

    parts: tuple[Part, ...] = ()
    held: str = ""


class Checkpoint(msgspec.Struct, frozen=True):
    """
    The state of one source, in ``state/<source>/checkpoint.json``: the commit point.

    Args:
        positions: By shard key.
        files: The S3 buffer's position: a counter that each commit which took files raises.
        newest: Id of the newest batch that was made, "" before the first.
        pending: By batch id.
        gaps: Of shards that had nothing left to read behind the gap; told with the next batch. As in ``Part``.
    """

    positions: dict[str, Position] = {}
    files: int = 0
    newest: str = ""
    pending: dict[str, Pending] = {}
    gaps: dict[str, int] = {}


class Manifest(msgspec.Struct, frozen=True):
    """What a batch is made of, for good; in ``state/<source>/batches/<batch>.json``."""

    batch: str
    parts: tuple[Part, ...]


class StagedObject(msgspec.Struct, frozen=True):
    """One object that COPY loads: its key, bytes, rows, and ETag (with quotes)."""

    key: str
    size: int
    rows: int
    etag: str


class Tally(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What transform made of a part, in events: received = staged + quarantined.

    Args:
        received: Events of this source.
        staged: Events that became rows.
        quarantined: Events that could not be read.
        reasons: Quarantined events by reason code.
        repaired: Repairs by code; an event can have several.
        passed_over: Events of the other source, in a stream that both share.
        bytes: Bytes of the raw objects, decompressed.
        first_arrival: Earliest arrival, in ms since 1970; 0 where nothing was received.
        last_arrival: Latest arrival.
    """

    received: int = 0
    staged: int = 0
    quarantined: int = 0
    reasons: dict[str, int] = {}
    repaired: dict[str, int] = {}
    passed_over: int = 0
    bytes: int = 0
    first_arrival: int = 0
    last_arrival: int = 0


class Receipt(msgspec.Struct, frozen=True):
    """
    What transform made of a part; in ``state/<source>/receipts/<batch>/<part>.json``.

    Args:
        batch: Batch id.
        part: Part name.
        layout: ``LAYOUT`` of the code that wrote it.
        generation: Grows with every transform of this part; tells a zombie from its successor.
        staged: At least one object, maybe empty.
        quarantine: Keys of quarantine objects.
        tally: The part's books.
    """

    batch: str
    part: str
    layout: int
    generation: int
    staged: tuple[StagedObject, ...]
    quarantine: tuple[str, ...]
    tally: Tally


T = TypeVar("T")


def dump(value: msgspec.Struct) -> bytes:
    """Return a value as JSON, indented for the person who reads it in a bucket."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1)


def load(data: bytes, kind: type[T]) -> T:
    """Return the value that ``dump`` wrote; raises msgspec.ValidationError where it is not of this kind."""
    return msgspec.json.decode(data, type=kind)


def to_xcom(value: msgspec.Struct) -> dict[str, Any]:
    """Return a value as plain JSON types, for XCom and for the UI that shows it."""
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain


def from_xcom(plain: dict[str, Any], kind: type[T]) -> T:
    """Return the value that ``to_xcom`` made; raises msgspec.ValidationError where it is not of this kind."""
    return msgspec.convert(plain, kind)
