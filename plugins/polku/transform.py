"""
Raw objects in, staged rows and quarantine out: the pure middle of the pipeline.

The same raw objects and rules give the same rows, whoever asks, whenever.
Every event ends as a row or in quarantine, and the tally says so.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

import msgspec

from polku import buffer_files, events, moments, names, records
from polku.batches import SOURCES, RawObject, Tally
from polku.columns import Columns
from polku.errors import InvalidRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import zstandard

log = logging.getLogger(__name__)

EMPTY = b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00"
"""A staged object without rows: an empty zstd frame."""

_OBJECT_BYTES = 16 * 1024 * 1024
_LEVEL = 1
_WINDOW_LOG = 17
_KPL_MAGIC = b"\xf3\x89\x9a\xc2"
_NAMES_KEPT = 200_000
_ROWS = 500
"""So many records are worked on at once: what they need stays in the processor's cache."""


class Sink(Protocol):
    """Takes finished objects, one at a time."""

    def staged(self, data: bytes, rows: int) -> None:
        """Take a staged object, zstd, of some 16 MB at most."""

    def quarantined(self, data: bytes, events: int) -> None:
        """Take a quarantine object, zstd JSON lines."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """
    How the events of a part become rows.

    Args:
        source: "server" or "client".
        batch_id: Goes into every row.
        translate: Users get names.
        shared: Both sources name the same stream: only events addressed to this one are its own.
    """

    source: str
    batch_id: str
    translate: bool
    shared: bool


def transform(
    objects: Iterable[tuple[RawObject, BinaryIO]], rules: Rules, name_users: Callable[[Sequence[str]], Mapping[str, str]], sink: Sink
) -> Tally:
    """
    Turn raw objects into staged and quarantined ones, in memory bounded by a block, and return the books.

    Args:
        objects: Each raw object with its bytes, read as they are needed.
        rules: How events become rows.
        name_users: Proposes names for user ids; an id that it does not know gets a generated one.
        sink: Takes what is finished. Nothing is given to it for rows or events that are none.

    Raises:
        ValueError: A raw object of a stream is damaged.
    """
    part = _Part(rules, name_users, sink)
    for raw, stream in objects:
        if raw.file is None:
            count = 0
            for block in records.unpack(stream):
                count += len(block.data)
                part.block(block)
            if raw.records and count != raw.records:
                raise ValueError(f"raw object is cut off: {raw.key} holds {count} records; expected {raw.records}")
        else:
            part.file(raw, stream)
    return part.close()


class _Part:
    """The state of one transform: writers, books, and the names that were given."""

    def __init__(self, rules: Rules, name_users: Callable[[Sequence[str]], Mapping[str, str]], sink: Sink) -> None:
        self._rules = rules
        self._server = rules.source == "server"
        self._name_users = name_users
        self._names: dict[str, str] = {events.NULL: events.NULL}
        self._changed = 0
        name = self._named if rules.translate else None
        self._live = Columns(source=rules.source, batch_id=rules.batch_id, shared=rules.shared, live=True, name=name)
        self._still = Columns(source=rules.source, batch_id=rules.batch_id, shared=False, live=False, name=name)
        self._staged = _Writer(sink.staged)
        self._quarantine = _Writer(sink.quarantined)
        self._reasons: Counter[str] = Counter()
        self._repaired: Counter[str] = Counter()
        self._passed_over = 0
        self._bytes = 0
        self._first = 0
        self._last = 0

    def block(self, block: records.Block) -> None:
        """Take the records of one block of a stream."""
        self._bytes += sum(map(len, block.data))
        for start in range(0, len(block.data), _ROWS):
            end = start + _ROWS
            data: Sequence[bytes] = block.data[start:end]
            arrivals: Sequence[int] = block.arrivals[start:end]
            sequences: Sequence[str] = block.sequences[start:end]
            if _KPL_MAGIC in b"".join(data):
                data, arrivals, prefixes = _deaggregated(block.shard, sequences, arrivals, data)
            else:
                prefixes = [f"{block.shard}/{sequence.zfill(56)}/0000/" for sequence in sequences]
            self._records(data, arrivals, prefixes, self._live, shared=self._rules.shared)

    def file(self, raw: RawObject, stream: BinaryIO) -> None:
        """Take the values of one file of the S3 buffer."""
        file = raw.file
        if file is None:
            raise ValueError(f"{raw.key} is no buffer file")
        prefix = f"{file.key}/{file.etag.strip(chr(34))}/"
        index = 0
        for found in buffer_files.cut(stream):
            if isinstance(found, buffer_files.Values):
                self._bytes += found.size
                for start in range(0, len(found.values), _ROWS):
                    values = found.values[start : start + _ROWS]
                    prefixes = [f"{prefix}{number:09}/" for number in range(index, index + len(values))]
                    index += len(values)
                    self._records(values, [file.modified] * len(values), prefixes, self._still, shared=False)
            else:
                self._aside(found.reason, found.detail, found.data, f"{prefix}{index:09}/000000", file.modified)
                index += 1

    def close(self) -> Tally:
        """Hand over what is left and return the books."""
        if self._changed:
            log.warning("%d names of the directory do not fit their column and were changed", self._changed)
        self._staged.close()
        self._quarantine.close()
        quarantined = sum(self._reasons.values())
        staged = self._staged.total
        return Tally(
            received=staged + quarantined,
            staged=staged,
            quarantined=quarantined,
            reasons=dict(sorted(self._reasons.items())),
            repaired=dict(sorted(self._repaired.items())),
            passed_over=self._passed_over,
            bytes=self._bytes,
            first_arrival=self._first,
            last_arrival=self._last,
        )

    def _records(self, data: Sequence[bytes], arrivals: Sequence[int], prefixes: Sequence[str], columns: Columns, *, shared: bool) -> None:
        """Take some records: the plain ones at once, the others one by one."""
        if not data:
            return
        plain = columns.rows(list(map(bytes.strip, data)), arrivals, prefixes)
        self._passed_over += plain.passed_over
        if plain.rows:
            self._staged.write(plain.lines, plain.rows)
            self._seen(plain.first, plain.last)
        for index in plain.left:
            self._record(data[index], prefixes[index], arrivals[index], live=columns is self._live, shared=shared)

    def _record(self, sent: bytes, prefix: str, arrival: int, *, live: bool, shared: bool) -> None:
        """Take the events of one record, where need be of the several values that it turns out to be."""
        whole = None
        try:
            found = events.unpack(sent)
            if len(found) == 1:
                whole = sent
        except InvalidRecord as error:
            values = buffer_files.split(events.bared(sent))[0] if error.reason == "not_json" else []
            if not values[1:]:
                self._unread(error, sent, f"{prefix}000000", arrival, shared=shared)
                return
            found = []
            for value in values:
                try:
                    found += events.unpack(value)
                except InvalidRecord as inner:
                    self._unread(inner, value, f"{prefix}{len(found):06}", arrival, shared=shared)
                    found.append((b"", events.BARE))
        for index, (event, outer) in enumerate(found):
            if event:
                self._event(event, outer, events.Place(f"{prefix}{index:06}", arrival * 1000, live), whole or event, shared=shared)

    def _unread(self, error: InvalidRecord, data: bytes, position: str, arrival: int, *, shared: bool) -> None:
        """Put aside what cannot be cut into events; in a shared stream it is the server's to do so."""
        if shared and not self._server:
            self._passed_over += 1
        else:
            self._aside(error.reason, error.detail, data, position, arrival)

    def _event(self, event: bytes, outer: events.Outer, place: events.Place, sent: bytes, *, shared: bool) -> None:
        """Make one event a row, put it aside as it was sent, or pass it over."""
        arrival = place.received // 1000
        source = outer.address if outer.address or shared else self._rules.source
        if source != self._rules.source:
            if shared and (source in SOURCES or not self._server):
                self._passed_over += 1
            else:
                reason = "wrong_source" if source in SOURCES else "source_unknown"
                self._aside(reason, f"addressed to {source!r:.80}", sent, place.position, arrival)
            return
        try:
            row = events.read(event, outer, place, server=self._server)
        except InvalidRecord as error:
            self._aside(error.reason, error.detail, sent, place.position, arrival)
        else:
            self._row(row, arrival)

    def _row(self, row: events.Row, arrival: int) -> None:
        """Write one row."""
        repairs = list(row.repairs)
        name: str | None = None
        if row.user_id is not None and self._rules.translate:
            name = self._named([row.user_id])[row.user_id]
        line = [
            *row[:10],
            name,
            *row[10:17],
            row.fingerprint,
            self._rules.batch_id,
            row.position,
            ",".join(repairs) or None,
        ]
        encoded = [events.NULL.encode() if v is None else v if isinstance(v, bytes) else v.encode() for v in line]
        self._repaired.update(repairs)
        self._seen(arrival, arrival)
        self._staged.write(b"\x01".join(encoded) + b"\n", 1)

    def _named(self, user_ids: Sequence[str]) -> Mapping[str, str]:
        """Return names that hold those of some users; null has none."""
        known = self._names
        new = [user_id for user_id in user_ids if user_id not in known]
        if new:
            if len(known) > _NAMES_KEPT:
                known = self._names = {events.NULL: events.NULL, **{user_id: known[user_id] for user_id in user_ids if user_id in known}}
            proposed = self._name_users(new)
            for user_id in new:
                name = proposed.get(user_id)
                fitted = known[user_id] = names.fitted(name) or names.generated(user_id)
                if name and fitted != name:
                    self._changed += 1
        return known

    def _aside(self, reason: str, detail: str, data: bytes, position: str, arrival: int) -> None:
        """Put one event into quarantine."""
        self._reasons[reason] += 1
        self._seen(arrival, arrival)
        line = {
            "reason": reason,
            "detail": detail.encode("utf-8", "replace").decode(),
            "source": self._rules.source,
            "batch_id": self._rules.batch_id,
            "position": position,
            "received_at": moments.show(arrival * 1000),
            "bytes": base64.b64encode(data).decode(),
        }
        self._quarantine.write(msgspec.json.encode(line) + b"\n", 1)

    def _seen(self, first: int, last: int) -> None:
        """Note arrivals in the books."""
        self._first = min(self._first, first) if self._first else first
        self._last = max(self._last, last)


class _Writer:
    """Compresses lines and hands over an object when it is large enough."""

    def __init__(self, give: Callable[[bytes, int], None]) -> None:
        self._give = give
        self._pieces: list[bytes] = []
        self._size = 0
        self._rows = 0
        self._compress: zstandard.ZstdCompressionObj | None = None
        self.total = 0

    def write(self, lines: bytes, rows: int) -> None:
        """Add whole lines."""
        if self._compress is None:
            import zstandard

            parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, window_log=_WINDOW_LOG)
            self._compress = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        piece = self._compress.compress(lines)
        self._rows += rows
        self.total += rows
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
            if self._size >= _OBJECT_BYTES:
                self.close()

    def close(self) -> None:
        """Hand over what is there."""
        if self._compress is not None:
            self._pieces.append(self._compress.flush())
            data, rows = b"".join(self._pieces), self._rows
            self._compress, self._pieces, self._size, self._rows = None, [], 0, 0
            self._give(data, rows)


def _deaggregated(
    shard: str, sequences: Sequence[str], arrivals: Sequence[int], data: Sequence[bytes]
) -> tuple[list[bytes], list[int], list[str]]:
    """Return the user records of some records, with arrivals and positions: what the producer library aggregated is taken apart."""
    user_records: list[bytes] = []
    times: list[int] = []
    prefixes: list[str] = []
    for sequence, arrival, record in zip(sequences, arrivals, data, strict=True):
        for sub, user_record in enumerate(_user_records(record)):
            user_records.append(user_record)
            times.append(arrival)
            prefixes.append(f"{shard}/{sequence.zfill(56)}/{sub:04}/")
    return user_records, times, prefixes


def _user_records(data: bytes) -> list[bytes]:
    """Return what a record holds: the user records of an aggregated one, else itself (also where its checksum is wrong)."""
    message = data[4:-16]
    if not data.startswith(_KPL_MAGIC) or hashlib.md5(message, usedforsecurity=False).digest() != data[-16:]:
        return [data]
    from aws_kinesis_agg.deaggregator import messages_pb2  # its generated modules can only be imported the way that it does
    from google.protobuf.message import DecodeError

    aggregated = messages_pb2.AggregatedRecord()
    try:
        aggregated.ParseFromString(message)
    except DecodeError:
        return [data]
    return [record.data for record in aggregated.records]
