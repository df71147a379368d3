"""Which batches share a transaction, and what its SQL is told."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from polku import loads
from polku.batches import LAYOUT, Batch, Manifest, Part, RawObject, Receipt, StagedObject, Tally

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
MS = int(NOON.timestamp() * 1000)
DAY = 86_400_000


def ready(minute, *, first=MS, last=MS, received=10, quarantined=0, reasons=None, gaps=None, generation=7):
    tally = Tally(received=received, staged=received - quarantined, quarantined=quarantined, reasons=reasons or {}, bytes=100)
    staged = (StagedObject(key="staged/x", size=1, rows=received - quarantined, etag='"e"'),)
    batch = Batch.of("server", NOON + timedelta(minutes=minute))
    receipt = Receipt(batch=batch.id, part="p", layout=LAYOUT, generation=generation, staged=staged, quarantine=(), tally=tally)
    raw = RawObject(key="raw/x", size=1, records=received, first_arrival=first, last_arrival=last)
    manifest = Manifest(batch=batch.id, parts=(Part(name="p", objects=(raw,), gaps=gaps or {}),))
    return loads.Ready(batch=batch, manifest=manifest, receipts=(receipt, receipt))


def describe(*batches, dedup_days=7):
    return loads.describe(batches, name="n", manifest="s3://b/m", iam_role="default", dedup_days=dedup_days, error_share=0.05)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 10 * DAY)), unique_by=lambda t: t[0]), st.integers(1, 5))
def test_every_batch_is_in_one_load_that_spans_a_day_at_most(batches, most):
    """A replay of last year beside today's batch must not widen the window to a year."""
    every = [ready(minute, first=MS + at, last=MS + at + 1000) for minute, at in batches]

    groups = loads.group(every, most_batches=most)

    assert [one.batch for group in groups for one in group] == sorted((one.batch for one in every), key=lambda b: b.at)
    for group in groups:
        assert 1 <= len(group) <= most
        assert max(one.last_arrival for one in group) - min(one.first_arrival for one in group) <= DAY


def test_the_window_lies_on_both_sides_of_what_arrived():
    """Looking back only, a replay out of order doubles rows."""
    load = describe(ready(0), ready(1, first=MS + 1000, last=MS + 2500))

    assert (load.first_arrival, load.last_arrival) == ("2026-11-23 12:00:00.000000", "2026-11-23 12:00:02.500000")
    assert (load.window_start, load.window_end) == ("2026-11-16 12:00:00.000000", "2026-11-30 12:00:02.500000")


def test_the_books_of_a_batch_are_the_sum_of_its_parts():
    """COPY checks the rows, the books say the rest."""
    load = describe(ready(0, received=10, quarantined=4, reasons={"not_json": 4}), ready(1, gaps={"a": 60, "b": -1}))

    first, second = load.batches
    assert load.rows == 2 * 6 + 2 * 10
    assert (first.received, first.quarantined, first.reasons, first.generation) == (20, 8, {"not_json": 8}, 14)
    assert (first.quarantine_level, second.quarantine_level) == ("ERROR", "WARNING")
    assert (first.gap_seconds, second.gap_seconds) == (None, 60)


def test_a_batch_keeps_its_range_whatever_the_rules_make_of_it():
    """A replay under other rules may receive fewer events; the rows that the first load left lie in the old range."""
    load = describe(ready(3, received=0, first=MS, last=MS + 1000))

    assert (load.first_arrival, load.last_arrival) == ("2026-11-23 12:00:00.000000", "2026-11-23 12:00:01.000000")
    assert load.rows == 0


def test_a_clock_gone_wild_does_not_make_a_window_that_no_timestamp_holds():
    """Redshift refuses the year 10000."""
    load = describe(ready(0, first=-(10**15), last=10**15))

    assert load.window_start == "0001-01-01 00:00:00.000000"
    assert load.window_end.startswith("9999-12-31")
