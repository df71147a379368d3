"""
Transform against ``json.loads``: how fast raw objects become staged files.

Measures 200,000 Segment events of about 450 bytes in the front door's envelope, one event a Kinesis record, from 20,000 users:
- transform: the raw object (zstd) is read, every rule of validation, quarantine and naming applied, staged files are written;
- json: a loop that only calls ``json.loads`` on the same lines and drops each result;
- kept: the same, but the results are kept in a list (what a pipeline that decodes a batch and then maps it has to pay).
Each in a process of its own, its start counted, in CPU seconds (user and system) of that process, by turns, so that a busy machine
slows both. The ratio is that of each round; above 1 transform is the faster one. The other shapes of record are for comparison.
Memory is the highest resident size over that of an interpreter which does nothing.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import random
import statistics
import subprocess
import sys
import tempfile
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "plugins"))

ROUNDS = 5
EVENTS = 200_000
USERS = EVENTS // 10
START = datetime(2026, 11, 23, 10, 41, tzinfo=timezone.utc)
SHAPES = ("envelope", "bare", "body")
A_BODY = 20


class Cost(NamedTuple):
    """What a process took: CPU seconds, and its highest resident size in MB."""

    seconds: float
    megabytes: float


def main() -> None:
    """Measure and print one row a shape."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--events", type=int, default=EVENTS)
    options.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    options.add_argument("--profile", action="store_true", help="show where transform spends its time, and stop")
    options.add_argument("--run", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.run:
        {"json": run_json, "kept": run_kept, "transform": run_transform, "nothing": lambda _: None}[given.run[0]](Path(given.run[1]))
        return
    if given.profile:
        profile(given.shapes[0], given.events)
        return
    rows = [measure(shape, given.events, given.rounds) for shape in given.shapes]
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'what':<34}{'median':>24}{'spread':>20}{'ratio':>8}")
    for row in rows:
        print(f"{row['what']:<34}{row['median']:>24}{row['spread']:>20}{row['ratio']:>8}")


def measure(shape: str, events: int, rounds: int) -> dict[str, Any]:
    """Return the row of one shape of record."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, shape, events)
        mine, theirs, kept = [], [], []
        for _ in range(rounds):
            theirs.append(cost("json", folder))
            mine.append(cost("transform", folder))
            kept.append(cost("kept", folder))
        idle = cost("nothing", folder)
    rates = sorted(events / each.seconds for each in mine)
    ratios = [a.seconds / b.seconds for a, b in zip(theirs, mine, strict=True)]
    return {
        "what": f"transform, {shape}, against json.loads",
        "median": f"{statistics.median(rates):,.0f} events/s",
        "spread": f"{rates[0]:,.0f} to {rates[-1]:,.0f}",
        "ratio": round(statistics.median(ratios), 2),
        "ratio_to_json_kept": round(statistics.median(a.seconds / b.seconds for a, b in zip(kept, mine, strict=True)), 2),
        "json_events_per_second": round(events / statistics.median(each.seconds for each in theirs)),
        "memory_mb_over_interpreter": round(max(each.megabytes for each in mine) - idle.megabytes),
    }


def profile(shape: str, events: int) -> None:
    """Print where the time of one transform goes."""
    profiler = cProfile.Profile()
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), shape, events)
        profiler.enable()
        run_transform(Path(name))
        profiler.disable()
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(16)


def cost(what: str, folder: Path) -> Cost:
    """Return what a process took that does one thing."""
    process = subprocess.Popen([sys.executable, __file__, "--run", what, str(folder)])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{what} ended with {process.returncode}"
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def run_json(folder: Path) -> None:
    """Do what transform is measured against."""
    loads = json.loads
    with (folder / "lines").open("rb") as lines:
        for line in lines:
            loads(line)


def run_kept(folder: Path) -> None:
    """Do the same and keep the results."""
    with (folder / "lines").open("rb") as lines:
        parsed = [json.loads(line) for line in lines]
    assert parsed


def run_transform(folder: Path) -> None:
    """Do what a transform task does, with files for objects."""
    from polku import names, transform
    from polku.batches import RawObject

    class Files:
        def staged(self, data: bytes, rows: int) -> None:
            (folder / f"staged-{rows}").write_bytes(data)

        def quarantined(self, data: bytes, events: int) -> None:
            (folder / f"quarantine-{events}").write_bytes(data)

    rules = transform.Rules(source="server", batch_id="server/2026-11-23T10:41:00Z", translate=True, shared=False)
    with (folder / "raw").open("rb") as raw:
        objects = [(RawObject(key="raw", size=0, records=0, first_arrival=0, last_arrival=0), raw)]
        tally = transform.transform(objects, rules, lambda users: {user: names.generated(user) for user in users}, Files())
    assert tally.staged == tally.received == int((folder / "events").read_text()), tally


def write(folder: Path, shape: str, events: int) -> None:
    """Write the lines and the raw object of the same records."""
    from polku.records import BLOCK_BYTES, Block, pack

    block = Block("server@1795430000/shardId-000000000000", [], [], [])
    size = 0
    with (folder / "lines").open("wb") as lines, (folder / "raw").open("wb") as raw:
        for number, (arrival, record) in enumerate(records(shape, events)):
            lines.write(record + b"\n")
            block.sequences.append(str(49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898 + number * 1317))
            block.arrivals.append(arrival)
            block.data.append(record)
            size += len(record)
            if size > BLOCK_BYTES:
                raw.write(pack(block))
                block, size = Block(block.shard, [], [], []), 0
        raw.write(pack(block))
    (folder / "events").write_text(str(events))


def records(shape: str, events: int) -> Iterator[tuple[int, bytes]]:
    """Yield arrival and data of records: 3,000 events a second, sent up to 0.2 s before, made up to 2 s before that."""
    rng = random.Random(8)
    for number in range(0, events, A_BODY if shape == "body" else 1):
        arrival = START + timedelta(milliseconds=number // 3)
        sent = arrival - timedelta(milliseconds=rng.randrange(20, 200))
        if shape == "body":
            inner = {"batch": [event(rng, sent) for _ in range(A_BODY)], "sentAt": text(sent)}
        elif shape == "bare":
            inner = {**event(rng, sent), "sentAt": text(sent)}
        else:
            inner = {"event": event(rng, sent), "sentAt": text(sent), "context": {"resourcePath": "/server"}}
        yield round(arrival.timestamp() * 1000), json.dumps(inner, separators=(",", ":")).encode()


def event(rng: random.Random, sent: datetime) -> dict[str, Any]:
    """Return an event as Segment's libraries for servers send it."""
    return {
        "messageId": str(uuid.UUID(int=rng.getrandbits(128))),
        "timestamp": text(sent - timedelta(milliseconds=rng.randrange(2000))),
        "type": "track",
        "event": rng.choice(("Order Completed", "Product Viewed", "Product Added", "Checkout Started", "Payment Info Entered")),
        "userId": f"user-{rng.randrange(USERS)}",
        "anonymousId": str(uuid.UUID(int=rng.getrandbits(128))),
        "properties": {
            "sku": f"A-{rng.randrange(10_000)}",
            "price": rng.randrange(100_000) / 100,
            "quantity": rng.randrange(1, 9),
            "currency": "EUR",
            "coupon": rng.choice((None, "SPRING", "WELCOME10")),
        },
        "context": {"ip": f"10.0.{rng.randrange(256)}.{rng.randrange(256)}", "library": {"name": "analytics-node", "version": "2.1.3"}},
    }


def text(moment: datetime) -> str:
    """Return a time as JavaScript writes it."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


if __name__ == "__main__":
    main()
