"""
What an audit compares: the rows that the raw archive gives, by the pure transform, with the rows that the tables hold.

Pure: no clock, no S3, no Redshift. What one batch gives lies in a SQLite file in the temporary folder while it is compared, so that
memory is bounded whatever the size of a batch, and nothing depends on how a database sorts.
"""

from __future__ import annotations

import base64
import itertools
import json
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from xxhash import xxh3_64_hexdigest

from polku import events, loads
from polku.batches import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

KINDS = {
    "missing": "The archive holds an event that stands in no table.",
    "extra": "A row stands in a table that the archive does not give.",
    "doubled": "A row stands twice: in the event table, in duplicate, or once in each.",
    "different": "A row differs from what the archive gives; the columns are named.",
    "misplaced": "The wrong one of several copies is the row, or a copy is called conflicting that is not, or the other way round.",
    "quarantine": "Quarantine holds other events than the archive gives.",
    "books": "The books, or rejected, do not say what the archive gives and the tables hold.",
    "unknown_batch": "Tables or books hold a batch that was never made.",
    "unreadable": "A raw object is gone or damaged: the batch cannot be compared.",
}
"""What an audit can find, by kind."""

_NAMES = tuple(column.name for column in events.COLUMNS)
_SUPER = tuple(column.kind == "super" for column in events.COLUMNS)
_MESSAGE_ID, _USER_NAME, _POSITION = (_NAMES.index(name) for name in ("message_id", "user_name", "position"))
_NULL = events.NULL.encode()
_READ = 1 << 20


class Copy(NamedTuple):
    """A copy of an event, as a table holds it: in the event table where it ``wins``, else in duplicate."""

    message_id: str
    received_at: datetime
    batch_id: str
    position: str
    fingerprint: str
    wins: bool
    conflicting: bool


class Books(NamedTuple):
    """What the books say of a batch."""

    batch_id: str
    received: int
    loaded: int
    duplicates: int
    conflicting: int
    quarantined: int
    repaired: int
    bytes: int
    first_arrival: datetime | None
    last_arrival: datetime | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not as the archive says; ``kind`` is a key of ``KINDS``. It names columns, never contents."""

    kind: str
    batch: str
    detail: str
    position: str = ""
    message_id: str = ""

    def __str__(self) -> str:
        where = f" (messageId {self.message_id!r:.80}, position {self.position})" if self.position else ""
        return f"{self.kind}: {self.batch}: {self.detail}{where}"


@dataclass(kw_only=True)
class Report:
    """
    What an audit has found.

    Args:
        most_shown: So many differences are kept as samples; all are counted.
        differences: By kind.
        shown: Samples.
        batches: Compared.
        rows: Of these, in the event table.
        duplicates: In duplicate.
        quarantined: In quarantine.
        waiting: Batches that are not loaded yet, so that there is nothing to compare.
    """

    most_shown: int
    differences: Counter[str] = field(default_factory=Counter)
    shown: list[Difference] = field(default_factory=list)
    batches: int = 0
    rows: int = 0
    duplicates: int = 0
    quarantined: int = 0
    waiting: list[str] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        """Note a difference."""
        self.differences[difference.kind] += 1
        if len(self.shown) < self.most_shown:
            self.shown.append(difference)

    def counts(self) -> dict[str, Any]:
        """Return the counts."""
        plain = {"batches": self.batches, "rows": self.rows, "duplicates": self.duplicates, "quarantined": self.quarantined}
        return {**plain, "waiting": len(self.waiting), "differences": dict(self.differences)}


class Comparison:
    """
    The comparison of one batch; a context manager. First it is the sink of the batch's transforms, then it is told what the tables hold.

    Args:
        batch: The batch's id.
        report: Takes the differences.
    """

    def __init__(self, batch: str, report: Report) -> None:
        self.batch = batch
        self._report = report
        self._loaded = self._duplicates = self._conflicting = 0
        self._database = sqlite3.connect("", isolation_level=None)  # a temporary file, gone once it is closed
        self._database.execute("pragma journal_mode = off")
        self._database.execute("pragma synchronous = off")
        self._database.execute("create table row (position text primary key, seen int, data blob) without rowid")
        self._database.execute("create table aside (key text primary key, position text, times int) without rowid")

    def __enter__(self) -> Comparison:
        self._database.execute("begin")
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    # what the archive gives: transform.Sink

    def staged(self, data: bytes, rows: int) -> None:  # noqa: ARG002 -- a sink is told
        """Take a staged object."""
        made = (expected_row(line) for line in lines(data))
        self._database.executemany(
            "insert or replace into row values (?, 0, ?)", ((row[_POSITION], msgspec.msgpack.encode(row)) for row in made)
        )

    def quarantined(self, data: bytes, events: int) -> None:  # noqa: ARG002 -- a sink is told
        """Take a quarantine object."""
        self._count_aside(data, 1)

    # what the tables and the bucket hold

    def rows(self, rows: Iterable[Sequence[Any]], *, wins: bool) -> None:
        """Compare rows of the event table, or of duplicate: values in the order of COLUMNS, conflicting, and the name in the registry."""
        found = iter(rows)
        while page := list(itertools.islice(found, 1000)):
            seen: set[str] = set()
            for values in page:
                self._compare(values, seen, wins=wins)
                self._conflicting += bool(values[-2])
            self._database.executemany("update row set seen = 1 where position = ?", ((position,) for position in seen))
            if wins:
                self._loaded += len(page)
            else:
                self._duplicates += len(page)

    def copies(self, copies: Iterable[Copy], *, dedup_days: int) -> None:
        """Judge the batch's copies, given with all those that arrived up to a window before, sorted as ``judge`` wants it."""
        for copy, what in judge(copies, self.batch, dedup_days=dedup_days):
            self._differs("misplaced", what, copy.position, copy.message_id)

    def quarantine(self, data: bytes) -> None:
        """Compare a quarantine object of the batch."""
        self._count_aside(data, -1)

    def close(self, tally: Tally, arrivals: tuple[int, int], books: Books | None, rejected: Mapping[str, int], *, quarantine: bool) -> None:
        """
        Note what nothing was found for, and compare the books.

        Args:
            tally: What the transforms counted, all parts together.
            arrivals: Earliest and latest arrival that its manifest knows of, in ms since 1970.
            books: Of the batch; None where there are none.
            rejected: Quarantined events by reason, as the tables have them.
            quarantine: Whether all quarantine objects of the batch were given.
        """
        for position, data in self._database.execute("select position, data from row where not seen"):
            self._differs("missing", "the archive holds it, the tables do not", position, msgspec.msgpack.decode(data)[_MESSAGE_ID])
        if quarantine:
            for position, times in self._database.execute("select position, times from aside where times <> 0"):
                self._differs("quarantine", "it should be there" if times > 0 else "it should not be there", position)
        self._compare_books(tally, arrivals, books, rejected)
        report = self._report
        report.batches += 1
        report.rows += self._loaded
        report.duplicates += self._duplicates
        report.quarantined += tally.quarantined

    def unreadable(self, why: str) -> None:
        """Note that the archive cannot be read."""
        self._differs("unreadable", why)

    def _compare(self, values: Sequence[Any], seen: set[str], *, wins: bool) -> None:
        registered = values[-1]
        row = actual_row(values[:-2])
        position, message_id = row[_POSITION] or "", row[_MESSAGE_ID] or ""
        found = self._database.execute("select seen, data from row where position = ?", (position,)).fetchone()
        if found is None:
            self._differs("extra", f"it stands in {'the event table' if wins else 'duplicate'}", position, message_id)
            return
        if found[0] or position in seen:
            self._differs("doubled", "it stands there more than once", position, message_id)
            return
        seen.add(position)
        expected = msgspec.msgpack.decode(found[1])
        wrong = [name for i, name in enumerate(_NAMES) if i != _USER_NAME and row[i] != expected[i]]
        name = row[_USER_NAME]
        if (name is None) != (expected[_USER_NAME] is None) or (wins and name is not None and name != registered):
            wrong.append("user_name")
        if wrong:
            self._differs("different", ", ".join(wrong), position, message_id)

    def _compare_books(self, tally: Tally, arrivals: tuple[int, int], books: Books | None, rejected: Mapping[str, int]) -> None:
        if books is None:
            self._differs("books", "there are none: the batch was never loaded")
            return
        should = {
            "received": tally.received,
            "quarantined": tally.quarantined,
            "repaired": sum(tally.repaired.values()),
            "bytes": tally.bytes,
            "first_arrival": loads.sql_time(arrivals[0]) if tally.received else None,
            "last_arrival": loads.sql_time(arrivals[1]) if tally.received else None,
            "loaded": self._loaded,
            "duplicates": self._duplicates,
            "conflicting": self._conflicting,
        }
        for name, value in should.items():
            says = _text(getattr(books, name)) if name.endswith("_arrival") else getattr(books, name)
            if says != value:
                self._differs("books", f"{name} is {says}; expected {value}")
        if dict(rejected) != tally.reasons:
            self._differs("books", f"rejected says {dict(rejected)}; expected {tally.reasons}")

    def _count_aside(self, data: bytes, step: int) -> None:
        for line in lines(data):
            told = msgspec.json.decode(line)
            digest = xxh3_64_hexdigest(base64.b64decode(told["bytes"]))
            self._database.execute(
                "insert into aside values (?, ?, ?) on conflict (key) do update set times = times + excluded.times",
                (f"{told['position']} {told['reason']} {digest}", told["position"], step),
            )

    def _differs(self, kind: str, detail: str, position: str = "", message_id: str = "") -> None:
        self._report.add(Difference(kind=kind, batch=self.batch, detail=detail, position=position, message_id=message_id))


def judge(copies: Iterable[Copy], batch: str, *, dedup_days: int) -> Iterator[tuple[Copy, str]]:
    """
    Yield the copies of a batch that do not stand where the rules of ``include/sql/load/41_judge_copies.sql`` put them, and what is wrong.

    Args:
        copies: Sorted by message_id, received_at, batch and position.
        batch: Whose copies are judged; the others only stand before them.
        dedup_days: A copy loses where another arrived at most so many days before it.
    """
    window = timedelta(days=dedup_days)
    for _, group in itertools.groupby(copies, key=lambda copy: copy.message_id):
        before = first = None
        for copy in group:
            leads = before is None or copy.received_at - before.received_at > window
            if leads or first is None:
                first = copy
            before = copy
            if copy.batch_id != batch:
                continue
            if copy.wins != leads:
                yield copy, "it should win and stands in duplicate" if leads else "another copy came before it, and yet it is a row"
            elif not leads and first.wins and copy.conflicting != (copy.fingerprint != first.fingerprint):
                yield copy, f"conflicting is {copy.conflicting}; expected {not copy.conflicting}"


def together(tallies: Iterable[Tally]) -> Tally:
    """Return the books of several parts as one."""
    total = Counter[str]()
    reasons, repaired = Counter[str](), Counter[str]()
    first: list[int] = []
    last = 0
    for tally in tallies:
        for name in ("received", "staged", "quarantined", "passed_over", "bytes"):
            total[name] += getattr(tally, name)
        reasons.update(tally.reasons)
        repaired.update(tally.repaired)
        first += [tally.first_arrival] if tally.received else []
        last = max(last, tally.last_arrival)
    return Tally(**total, reasons=dict(reasons), repaired=dict(repaired), first_arrival=min(first, default=0), last_arrival=last)


def hours(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Return the stretches of at most an hour, cut at full hours, that an interval consists of."""
    cuts = [start]
    while cuts[-1] < end:
        cuts.append(min(end, cuts[-1].replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)))
    return list(itertools.pairwise(cuts))


def expected_row(line: bytes) -> list[str | None]:
    """Return a line of a staged object as it is compared: texts, and of each SUPER column a digest of what it says."""
    return [
        None if value == _NULL else _contents(value) if is_super else value.decode()
        for value, is_super in zip(line.split(b"\x01"), _SUPER, strict=True)
    ]


def actual_row(values: Sequence[Any]) -> list[str | None]:
    """Return a row of a table as it is compared."""
    return [
        None if value is None else _contents(value.encode()) if is_super else _text(value)
        for value, is_super in zip(values, _SUPER, strict=True)
    ]


def _text(value: Any) -> str | None:
    return value.isoformat(sep=" ", timespec="microseconds") if isinstance(value, datetime) else value


def _number(text: str) -> float | int:
    """Return a number so that 1.0 and 1 are one, and what a double cannot tell apart is not told apart."""
    value = float(format(float(text), ".15g"))
    return int(value) if value.is_integer() and abs(value) < 1e15 else value  # noqa: PLR2004 -- 15 digits


_decode = msgspec.json.Decoder(float_hook=_number).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def _contents(value: bytes) -> str | None:
    """Return a digest of what JSON says, whatever its spaces, the order of its keys and the way numbers are written."""
    try:
        plain = _decode(value)
        if plain is None:
            return None
        try:
            return xxh3_64_hexdigest(_encode(plain))
        except OverflowError:  # an integer of more than 64 bits
            return xxh3_64_hexdigest(json.dumps(plain, sort_keys=True).encode())
    except RecursionError:
        return "deep"  # too deep to be compared here; the fingerprint is


def lines(data: bytes) -> Iterator[bytes]:
    """Yield the lines of a zstd object."""
    import zstandard

    rest = b""
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        while piece := reader.read(_READ):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
    if rest:
        yield rest
