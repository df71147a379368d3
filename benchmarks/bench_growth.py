"""
Whether a batch costs the same when much is there already: ratios of full to empty, about 1 is wanted.

- load: the product's whole load of one batch (200,000 rows, and 2,000, which is a quiet minute) into empty tables of the local
  Redshift and into tables of 5,000,000 rows whose arrivals are spread over the 90 days before it, with 500,000 users in the registry,
  50,000 duplicates and the books of 100,000 batches. The dedup window of 7 days takes in 1/13 of the rows, whatever their number: the
  local Redshift, which stores by rows, reads these whole; Redshift reads four of the 22 columns. So the load into a table with
  nothing but the window's share is measured too: what the rest adds is growth, what the window costs is not.
  One scan of the registry of names a load remains (62_find_users), since neither engine has an index: two columns, as long as there
  are users.
- plan: ``steps.plan`` of a run with nothing to do, and ``archive.change_checkpoint``, with manifests and receipts of 10 and of
  100,000 past batches in state/ of the local S3: seconds, and what is asked of S3, requests and the keys that its answers name,
  which have to be equal. A source with buffer files is measured by itself: moto looks at every key of the bucket to list the few
  of a prefix, which S3 does not, so the seconds of that row are the stand-in's own and have no target.

Each figure is the median of some rounds, in seconds; the load's statements are shown where they grow.

    python benchmarks/bench_growth.py [--rounds 3] [--rows 5000000] [--batches 100000] [--json]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from loading import BUCKET, COLUMNS, PRODUCT, TABLES, Warehouse, medians, say, warehouse

from local.aws import AwsServer
from local.kinesis import KinesisServer
from polku import archive, batches, steps
from polku.batches import Batch, Checkpoint
from polku.settings import Settings, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polku.loads import Ready

TARGET = 1.25
"""What counts as flat on a machine that does other things too."""

SIZES = (200_000, 2_000)
LISTING = "plan of a source with buffer files"
FILES = 20
ASKED = ("requests to S3", "keys that S3 lists")
DAYS = 90
WINDOW_DAYS = 7

PLAIN = """original_timestamp, sent_at, type, event, name, user_id, anonymous_id, user_name, previous_id, group_id, properties, traits,
    context, integrations, extra, fingerprint"""
GROW = """insert into {schema}.server (
    message_id, received_at, "timestamp", {plain}, batch_id, position, repairs
)
select md5(message_id || '{number}')::uuid::text, at, at, {plain}, 'server/' || to_char(at, 'YYYY-MM-DD"T"HH24:MI:00"Z"'),
    position || '{number}', repairs
from (select *, timestamp '{begin}' + row_number() over (order by received_at) * interval '1 second' * {step} as at
    from {schema}.server_template limit {rows}) as t"""


# -- load --------------------------------------------------------------------------------------------------------


def fill(house: Warehouse, ready: Ready, rows: int, days: float, past: int) -> None:
    """Fill the tables with ``rows`` rows that arrived in the ``days`` days before the batch, in the order of their arrival."""
    end = ready.batch.at.replace(tzinfo=None) - timedelta(minutes=1)
    begin = end - timedelta(days=days)
    step = days * 86_400 / rows
    (chunk,) = house.admin.execute(f"select count(*) from {PRODUCT}.server_template").fetchone()  # noqa: S608 - our own names
    for number, first in enumerate(range(0, rows, chunk)):
        here = min(chunk, rows - first)
        text = GROW.format(schema=PRODUCT, plain=PLAIN, number=number, begin=begin + timedelta(seconds=first * step), step=step, rows=here)
        house.admin.execute(text)
        if number % 5 == 4:
            say(f"  {first + here:,} of {rows:,} rows generated")
    lost = COLUMNS.replace("message_id", "message_id || 'd'", 1)
    house.admin.execute(
        f"insert into {PRODUCT}.duplicate (source, conflicting, {COLUMNS}) "  # noqa: S608
        f"select 'server', false, {lost} from {PRODUCT}.server tablesample system (1)"
    )
    house.admin.execute(
        f"insert into {PRODUCT}.user_name select 'past-' || i, 'Past Name', '{begin}', 'server/x', 'x' from generate_series(1, %s) as i",  # noqa: S608
        [rows // 10],
    )
    house.admin.execute(
        f"insert into {PRODUCT}.batch select 'server/past-' || i, 'server', 1, 50, 50, 0, 0, 0, 0, 1, '{begin}', '{begin}', null,"  # noqa: S608
        f" '{begin}', '{begin}', 'x' from generate_series(1, %s) as i",
        [past],
    )
    for table in TABLES:
        house.admin.execute(f"vacuum analyze {PRODUCT}.{table}")
    say(f"  {rows:,} rows, {rows // 10:,} users, {past:,} books are there")


def time_loads(house: Warehouse, batch: Ready, rounds: int) -> list[dict[str, float]]:
    """Load the batch some times; each round's rows are taken out again."""
    taken = []
    for number in range(rounds + 1):
        house.settle()
        seconds = house.product(batch)
        if number:
            taken.append(seconds)
        here = f"batch_id = '{batch.batch.id}'"
        for table, where in (("server", " and received_at >= '2026-11-23 10:41:00'"), ("duplicate", ""), ("batch", "")):
            house.admin.execute(f"delete from {PRODUCT}.{table} where {here}{where}")  # noqa: S608
            house.admin.execute(f"vacuum {PRODUCT}.{table}")
    return taken


def measure_loads(rows: int, past: int, rounds: int, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return the rows of the table for loads."""
    taken: dict[tuple[str, int], list[dict[str, float]]] = {}
    with warehouse() as house:
        batches_ = {size: house.stage(size, minute=number) for number, size in enumerate(sizes)}
        house.product(batches_[max(sizes)])
        house.admin.execute(f"create table {PRODUCT}.server_template as table {PRODUCT}.server")
        states = {"empty": (0, 0.0), "window": (round(rows * WINDOW_DAYS / DAYS), float(WINDOW_DAYS)), "full": (rows, float(DAYS))}
        for state, (there, days) in states.items():
            say(f"tables: {state}")
            house.empty(*TABLES)
            if there:
                fill(house, batches_[max(sizes)], there, days, past if state == "full" else 10)
            for size, batch in batches_.items():
                taken[state, size] = time_loads(house, batch, rounds)
                say(f"  {state}: {size:,} rows in {statistics.median(sum(run.values()) for run in taken[state, size]):.2f} s")
    results = []
    for size, base in itertools.product(sizes, ("window", "empty")):
        full, other = taken["full", size], taken[base, size]
        named = f"those of the dedup window ({states['window'][0]:,})" if base == "window" else "empty"
        results.append(
            row(f"load of {size:,} rows, tables of {rows:,} rows against {named}", *([sum(r.values()) for r in t] for t in (full, other)))
            | {"statements": medians(full), "statements_there": medians(other)}
        )
    return results


# -- plan --------------------------------------------------------------------------------------------------------


def measure_plan(past: int, few: int, rounds: int) -> list[dict[str, Any]]:
    """Return the rows of the table for plan and the checkpoint."""
    taken: dict[str, dict[int, list[float]]] = {}
    asked: dict[str, dict[int, list[int]]] = {}
    with AwsServer() as aws, KinesisServer() as kinesis:
        aws.create(bucket=BUCKET)
        s3, streams = aws.client("s3"), kinesis_client(kinesis.url)
        streams.create_stream(StreamName="polku-bench", ShardCount=2)
        while streams.describe_stream_summary(StreamName="polku-bench")["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
            time.sleep(0.05)
        settings = Settings.from_env({**os.environ, "POLKU_BUCKET": BUCKET})
        answers: list[int] = []
        s3.meta.events.register("after-call.s3", lambda parsed, **_: answers.append(len(parsed.get("Contents", ()))))

        def measure(what: str, count: int, call: Callable[[], object]) -> None:
            call()  # the first of all may note an idle stream in the checkpoint
            answers.clear()
            taken.setdefault(what, {})[count] = timed(call, rounds)
            asked.setdefault(what, {})[count] = [len(answers), sum(answers)]
            say(f"  {what}: {count:,} past batches, {len(answers) / (rounds + 1):g} requests, {sum(answers) / (rounds + 1):g} keys listed")

        for number in range(FILES):
            s3.put_object(Bucket=BUCKET, Key=f"buffer/server/{number:04d}.jsonl", Body=b"{}")
        made = past_batches()
        for count in (few, past):
            newest = put_past(made, count)
            checkpoint, etag = archive.read_checkpoint(s3, BUCKET, "server")
            archive.replace_checkpoint(s3, BUCKET, "server", batches_newest(checkpoint, newest), etag)
            for what, prefix in (("plan", None), (LISTING, "buffer/server/")):
                source = Source(stream="polku-bench", buffer_prefix=prefix, translate=True)
                run = steps.Run(
                    batch=Batch.of("server", newest.at + timedelta(minutes=1)),
                    settings=dataclasses.replace(settings, sources={"server": source}),
                    s3=s3,
                    attempt="1-bench",
                )
                measure(what, count, lambda run=run: steps.plan(run, streams))
            measure("change of the checkpoint", count, lambda: archive.change_checkpoint(s3, BUCKET, "server", raised))
    results: list[dict[str, Any]] = []
    calls = rounds + 1
    for what, by in taken.items():
        named = f"{what}, {past:,} past batches against {few}"
        results.append(row(named, by[past], by[few]) | {"stand_in": what == LISTING})
        results += [counted(f"{named}: {of}", asked[what][past][i] / calls, asked[what][few][i] / calls) for i, of in enumerate(ASKED)]
    return results


def kinesis_client(url: str) -> Any:
    """Return a boto3 client."""
    import boto3

    return boto3.client("kinesis", endpoint_url=url, region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="y")  # noqa: S106


def past_batches() -> Iterator[Batch]:
    """Yield a batch a minute."""
    at = batches.Batch.parse("server/2026-08-01T00:00:00Z").at
    for minute in itertools.count():
        yield Batch.of("server", at + timedelta(minutes=minute))


def put_past(made: Iterator[Batch], count: int) -> Batch:
    """Put manifest and receipt of so many batches into the memory of the local S3, by its back door; return the newest."""
    from moto.s3.models import s3_backends

    backend = s3_backends["123456789012"]["aws"]
    manifest, receipt = b'{"batch": "x", "parts": []}', b"{}"
    batch = next(made)
    for number in range(count):
        backend.put_object(BUCKET, f"state/server/batches/{batch.name}.json", manifest)
        backend.put_object(BUCKET, f"state/server/receipts/{batch.name}/shards-0.json", receipt)
        if number % 20_000 == 19_999:
            say(f"  {number + 1:,} of {count:,} past batches put")
        if number < count - 1:
            batch = next(made)
    return batch


def batches_newest(checkpoint: Checkpoint, newest: Batch) -> Checkpoint:
    """Return the checkpoint whose newest batch is this one."""
    return Checkpoint(positions=checkpoint.positions, files=checkpoint.files, newest=newest.id, pending={})


def raised(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with another number, so that it is written."""
    return Checkpoint(positions=checkpoint.positions, files=checkpoint.files + 1, newest=checkpoint.newest, pending={})


def timed(call: Callable[[], object], rounds: int) -> list[float]:
    """Return the seconds of each of some calls, after one that is not counted."""
    seconds = []
    for number in range(rounds + 1):
        begin = time.perf_counter()
        call()
        if number:
            seconds.append(time.perf_counter() - begin)
    return seconds


# -- result ------------------------------------------------------------------------------------------------------


def row(what: str, full: list[float], other: list[float]) -> dict[str, Any]:
    """Return one row of the result."""
    return {
        "what": what,
        "seconds": round(statistics.median(full), 4),
        "spread": [round(min(full), 4), round(max(full), 4)],
        "seconds_there": round(statistics.median(other), 4),
        "ratio": round(statistics.median(full) / statistics.median(other), 2),
    }


def counted(what: str, full: float, other: float) -> dict[str, Any]:
    """Return one row of the result that counts what one call asks of S3."""
    return {"what": what, "count": round(full, 2), "count_there": round(other, 2)}


def main() -> None:
    """Print the ratios."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--batches", type=int, default=100_000)
    options.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="rows of the batch that is loaded")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    results = measure_plan(given.batches, 10, 10 * given.rounds)
    results += measure_loads(given.rows, given.batches, given.rounds, tuple(given.sizes))
    if given.json:
        print(json.dumps({"name": "growth", "target": TARGET, "results": results}, indent=1))
        return
    for one in results:
        if "count" in one:
            print(f"{one['what']}: {one['count']:g}, there {one['count_there']:g}")
            continue
        low, high = one["spread"]
        print(f"{one['what']}: {one['seconds']} s ({low} to {high}), there {one['seconds_there']} s, ratio {one['ratio']}")
        if "statements" in one:
            for name in ("statements", "statements_there"):
                print(f"  {name.replace('_', ' ')}, seconds:", ", ".join(f"{key} {value}" for key, value in one[name].items()))


if __name__ == "__main__":
    main()
