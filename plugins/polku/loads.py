"""
What one load is: which batches share a transaction, and the values that its SQL is rendered with.

Pure: no clock, no S3, no Redshift.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polku.batches import Batch, Manifest, Receipt, StagedObject

MOST_SPAN = timedelta(days=1)
"""Arrivals in one load lie within this range, so that its dedup window stays bounded however old a replay is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """
    A batch whose parts all have receipts.

    Args:
        batch: The batch.
        manifest: Its manifest.
        receipts: One a part.
    """

    batch: Batch
    manifest: Manifest
    receipts: tuple[Receipt, ...]

    @property
    def staged(self) -> list[StagedObject]:
        """The objects that COPY loads for it."""
        return [staged for receipt in self.receipts for staged in receipt.staged]

    @property
    def rows(self) -> int:
        """Staged rows."""
        return sum(staged.rows for staged in self.staged)

    @property
    def gaps(self) -> dict[str, int]:
        """Seconds of arrivals that retention took before it, by shard; -1 where nobody can tell."""
        return {key: seconds for part in self.manifest.parts for key, seconds in part.gaps.items()}

    @property
    def first_arrival(self) -> int:
        """Earliest arrival in its raw objects, in ms since 1970: whatever the rules make of them, its rows lie in this range."""
        return min(raw.first_arrival for part in self.manifest.parts for raw in part.objects)

    @property
    def last_arrival(self) -> int:
        """Latest arrival in its raw objects, in ms since 1970."""
        return max(raw.last_arrival for part in self.manifest.parts for raw in part.objects)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedBatch:
    """One batch as the SQL of a load sees it; the names are the columns of the books."""

    id: str
    source: str
    generation: int
    received: int
    quarantined: int
    repaired: int
    bytes: int
    first_arrival: str
    last_arrival: str
    reasons: dict[str, int]
    quarantine_level: str
    gap_seconds: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """
    The values that ``include/sql/load`` is rendered with. Times are UTC, ``YYYY-MM-DD HH:MM:SS.ffffff``.

    Args:
        table: "server" or "client".
        name: This try of this load; never used twice.
        manifest: s3:// address of the COPY manifest.
        iam_role: ARN of the role that COPY reads S3 with.
        rows: Staged rows, all batches together.
        first_arrival: Earliest arrival of what the batches received.
        last_arrival: Latest arrival.
        window_start: Earliest arrival that a copy of one of these events is looked for at.
        window_end: Latest.
        dedup_days: Half the width of the window around each row.
        batches: Oldest first.
    """

    table: str
    name: str
    manifest: str
    iam_role: str
    rows: int
    first_arrival: str
    last_arrival: str
    window_start: str
    window_end: str
    dedup_days: int
    batches: tuple[LoadedBatch, ...]


def group(ready: Sequence[Ready], *, most_batches: int) -> list[list[Ready]]:
    """Return the batches, oldest first, in groups that share one transaction: bounded in number and in the span of their arrivals."""
    span = int(MOST_SPAN.total_seconds() * 1000)
    groups: list[list[Ready]] = []
    first = last = 0
    for one in sorted(ready, key=lambda r: r.batch.at):
        together_first, together_last = min(first, one.first_arrival), max(last, one.last_arrival)
        if groups and len(groups[-1]) < most_batches and together_last - together_first <= span:
            groups[-1].append(one)
            first, last = together_first, together_last
        else:
            groups.append([one])
            first, last = one.first_arrival, one.last_arrival
    return groups


def describe(ready: Sequence[Ready], *, name: str, manifest: str, iam_role: str, dedup_days: int, error_share: float) -> Load:
    """
    Return the values to render a load's SQL with.

    Args:
        ready: At least one batch, all of one source.
        name: See ``Load``.
        manifest: See ``Load``.
        iam_role: See ``Load``.
        dedup_days: See ``Load``.
        error_share: From this share of quarantined events on, a batch's log row is an ERROR: a broken producer or release.
    """
    first, last = min(r.first_arrival for r in ready), max(r.last_arrival for r in ready)
    window = dedup_days * 86_400_000
    return Load(
        table=ready[0].batch.source,
        name=name,
        manifest=manifest,
        iam_role=iam_role,
        rows=sum(r.rows for r in ready),
        first_arrival=sql_time(first),
        last_arrival=sql_time(last),
        window_start=sql_time(first - window),
        window_end=sql_time(last + window),
        dedup_days=dedup_days,
        batches=tuple(_books(r, error_share) for r in ready),
    )


def sql_time(ms: int) -> str:
    """Return ms since 1970 as Redshift reads a timestamp, clipped to the years that it can hold."""
    clipped = min(max(ms, -62_135_596_800_000), 253_402_300_799_999)
    return (datetime(1970, 1, 1) + timedelta(milliseconds=clipped)).isoformat(sep=" ", timespec="microseconds")  # noqa: DTZ001  # UTC without saying so


def _books(ready: Ready, error_share: float) -> LoadedBatch:
    tallies = [receipt.tally for receipt in ready.receipts]
    reasons: Counter[str] = Counter()
    for tally in tallies:
        reasons.update(tally.reasons)
    received, quarantined = sum(t.received for t in tallies), sum(t.quarantined for t in tallies)
    return LoadedBatch(
        id=ready.batch.id,
        source=ready.batch.source,
        generation=sum(receipt.generation for receipt in ready.receipts),
        received=received,
        quarantined=quarantined,
        repaired=sum(sum(t.repaired.values()) for t in tallies),
        bytes=sum(t.bytes for t in tallies),
        first_arrival=sql_time(ready.first_arrival),
        last_arrival=sql_time(ready.last_arrival),
        reasons=dict(sorted(reasons.items())),
        quarantine_level="ERROR" if quarantined > error_share * received else "WARNING",
        gap_seconds=sum(max(s, 0) for s in ready.gaps.values()) if ready.gaps else None,
    )
