"""
How many records a second a drain takes from Kinesis, against a plain boto3 loop, where the server is not the limit.

A server process answers every GetRecords at wire speed with one captured answer of 10,000 Segment events of about 450 bytes.
Loop A is what one writes with boto3: ``get_records``, and each record's data written to a file, a line each.
Loop B is the product: ``kinesis.read`` and ``records.pack``, frames written to a file; only the pace that Kinesis' limits ask for is off.

Both read the same 200,000 records, alternating, each in a process of its own that is bound to one core; the server has another.
``records/s`` counts the loop; ``with start-up`` counts the process from its start to its end, imports and client included.

    python benchmarks/bench_drain.py [--rounds 5] [--answers 20] [--json] [--profile]
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import cProfile
import json
import os
import pstats
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
RECORDS = 10_000
EVENTS_BYTES = 4_479_117
TARGET = 5.0


def event(number: int, dice: random.Random) -> bytes:
    """Return a Segment track call of about 450 bytes."""
    body = {
        "messageId": f"ajs-{dice.getrandbits(128):032x}",
        "type": "track",
        "event": dice.choice(["Order Completed", "Product Viewed", "Signed Up"]),
        "userId": f"user-{dice.randrange(20_000)}",
        "anonymousId": f"{dice.getrandbits(128):032x}",
        "timestamp": f"2026-11-24T06:00:{number % 60:02}.123Z",
        "sentAt": f"2026-11-24T06:00:{number % 60:02}.456Z",
        "properties": {"order_id": f"{number:08}", "total": round(dice.random() * 100, 2), "currency": "EUR"},
        "context": {
            "ip": "10.0.0.1",
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/133.0",
            "library": {"name": "analytics-python", "version": "2.3.2"},
        },
    }
    return json.dumps(body, separators=(",", ":")).encode()


def answer() -> bytes:
    """Return the body of a GetRecords answer as Kinesis sends it, in mid-shard."""
    dice = random.Random(8)
    events = [event(number, dice) for number in range(RECORDS)]
    assert sum(map(len, events)) == EVENTS_BYTES, f"the events have {sum(map(len, events))} bytes"
    records = [
        {
            "SequenceNumber": str(49590338271490256608559692538361571095921575989136588898 + number * 16),
            "ApproximateArrivalTimestamp": 1_795_500_000 + number / 1000,
            "Data": base64.b64encode(data).decode(),
            "PartitionKey": f"user-{number % 20_000}",
        }
        for number, data in enumerate(events)
    ]
    return json.dumps({"Records": records, "NextShardIterator": "A" * 220, "MillisBehindLatest": 60_000}, separators=(",", ":")).encode()


# The server


def serve(listener: socket.socket) -> None:
    """Answer GetShardIterator with an iterator and everything else with the captured answer, until this process is ended."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nx-amzn-RequestId: 1\r\nContent-Length: "

    def whole(body: bytes) -> bytes:
        return f"{head}{len(body)}\r\n\r\n".encode() + body

    records, iterator = whole(answer()), whole(json.dumps({"ShardIterator": "A" * 220}).encode())
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=converse, args=(connection, records, iterator), daemon=True).start()


def converse(connection: socket.socket, records: bytes, iterator: bytes) -> None:
    """Serve one connection until the other side closes it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    got = b""
    while True:
        while b"\r\n\r\n" not in got:
            if not (more := connection.recv(65_536)):
                return
            got += more
        head, _, rest = got.partition(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(headers[b"content-length"])
        while len(rest) < length:
            rest += connection.recv(65_536)
        got = rest[length:]
        connection.sendall(iterator if b"getsharditerator" in headers[b"x-amz-target"] else records)


@contextlib.contextmanager
def server(core: int | None) -> Iterator[str]:
    """Run the server in a process of its own; yields its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        listener.set_inheritable(True)
        command = [sys.executable, __file__, "--serve", str(listener.fileno()), *(["--core", str(core)] if core is not None else [])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[listener.fileno()])
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.kill()
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]


# The loops


def client(url: str) -> Any:
    """Return a boto3 client of the server."""
    import boto3
    from botocore.config import Config

    sys.path.insert(0, str(ROOT / "plugins"))
    from polku import kinesis

    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "eu-west-1"}
    return boto3.client("kinesis", endpoint_url=url, config=Config(**kinesis.CONFIG), **keys)


def plain_boto3(kinesis_client: Any, answers: int, path: str) -> int:
    """Loop A."""
    count = 0
    iterator = kinesis_client.get_shard_iterator(StreamName="s", ShardId="shardId-0", ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    with Path(path).open("wb") as file:
        for _ in range(answers):
            response = kinesis_client.get_records(ShardIterator=iterator)
            for record in response["Records"]:
                file.write(record["Data"])
                file.write(b"\n")
            count += len(response["Records"])
            iterator = response["NextShardIterator"]
    return count


def polku(kinesis_client: Any, answers: int, path: str) -> int:
    """Loop B; the bound on bytes is so many answers, and one less would not reach it."""
    from polku import kinesis, records

    count = 0
    shard = kinesis.Shard(key="s@1/shardId-0", stream="s", id="shardId-0")
    limits = kinesis.Limits(max_bytes=(answers - 1) * EVENTS_BYTES + 1, max_seconds=600, reads_a_second=1e9, bytes_a_second=1e15)
    with Path(path).open("wb") as file:
        for item in kinesis.read(kinesis_client, [shard], {}, limits):
            if isinstance(item, records.Block):
                file.write(records.pack(item))
                count += len(item.data)
    return count


LOOPS = {"boto3": plain_boto3, "polku": polku}


def run(url: str, loop: str, answers: int, *, profile: bool = False) -> dict[str, float]:
    """Run one loop in this process; return its seconds by the clock and of the CPU."""
    kinesis_client = client(url)
    profiler = cProfile.Profile()
    with tempfile.NamedTemporaryFile() as file:
        begin, cpu = time.perf_counter(), time.process_time()
        if profile:
            profiler.enable()
        count = LOOPS[loop](kinesis_client, answers, file.name)
        profiler.disable()
        seconds = {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
    assert count == answers * RECORDS, f"{loop} read {count} records"
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(12)
    return seconds


def measured(url: str, loop: str, answers: int, core: int | None) -> dict[str, float]:
    """Run one loop in a fresh process; add the seconds of the whole process."""
    begin = time.perf_counter()
    command = [sys.executable, __file__, "--loop", loop, "--url", url, "--answers", str(answers)]
    done = subprocess.run([*command, *(["--core", str(core)] if core is not None else [])], stdout=subprocess.PIPE, check=True)
    whole = time.perf_counter() - begin
    return {**json.loads(done.stdout), "whole": whole}


def bind(core: int | None) -> None:
    """Keep this process on one core, where the system can."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def compare(rounds: int, answers: int, *, one_core: bool) -> dict[str, Any]:
    """Alternate the loops; return medians and spreads."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    mine, other = (cores[0], cores[-1]) if one_core else (None, None)
    times: dict[str, list[dict[str, float]]] = {loop: [] for loop in LOOPS}
    with server(other) as url:
        for loop in LOOPS:
            measured(url, loop, 1, mine)  # fills the caches of the disk
        for _ in range(rounds):
            for loop in LOOPS:
                times[loop].append(measured(url, loop, answers, mine))
    total = answers * RECORDS
    result: dict[str, Any] = {"records": total, "rounds": rounds, "one_core": one_core}
    for loop, taken in times.items():
        rates = [total / t["seconds"] for t in taken]
        result[loop] = {
            "records_per_second": round(statistics.median(rates)),
            "spread": [round(min(rates)), round(max(rates))],
            "with_start_up": round(statistics.median(total / t["whole"] for t in taken)),
            "cpu_seconds": round(statistics.median(t["cpu"] for t in taken), 3),
        }
    for name, figure in (("ratio", "seconds"), ("ratio_with_start_up", "whole"), ("ratio_cpu", "cpu")):
        ratios = [a[figure] / b[figure] for a, b in zip(times["boto3"], times["polku"], strict=True)]
        result[name] = round(statistics.median(ratios), 2)
    return result


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description="Drain against a boto3 loop")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--answers", type=int, default=20, help="answers of 10,000 records that each loop reads")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", action="store_true", help="show where loop B spends its time, and stop")
    for hidden in ("--serve", "--loop", "--url"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    bind(arguments.core)
    if arguments.serve:
        serve(socket.socket(fileno=int(arguments.serve)))
    if arguments.loop:
        print(json.dumps(run(arguments.url, arguments.loop, arguments.answers)))
        return
    if arguments.profile:
        with server(None) as url:
            run(url, "polku", arguments.answers, profile=True)
        return
    results = [compare(arguments.rounds, arguments.answers, one_core=one_core) for one_core in (True, False)]
    if arguments.json:
        print(json.dumps({"name": "drain", "target": TARGET, "results": results}, indent=1))
        return
    for result in results:
        print(f"{result['records']:,} records, {result['rounds']} rounds, {'one core' if result['one_core'] else 'any core'}:")
        for loop in LOOPS:
            own = result[loop]
            low, high = own["spread"]
            print(
                f"  {loop:6} {own['records_per_second']:>9,} records/s ({low:,} to {high:,}), "
                f"{own['with_start_up']:>9,} with start-up, CPU {own['cpu_seconds']} s"
            )
        print(f"  ratio {result['ratio']} (target {TARGET}), with start-up {result['ratio_with_start_up']}, CPU {result['ratio_cpu']}")


if __name__ == "__main__":
    main()
