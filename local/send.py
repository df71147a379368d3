"""Send sample events to the stack that is up: ``python -m local.send 1000``."""

from __future__ import annotations

import argparse
import base64
import gzip
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.samples import Expected, Parcel, samples
from local.stack import FOLDER, Place
from polku.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_RECORDS = 200
_AGGREGATED = 12
_TRIES = 8


class NotSent(Exception):
    """Something could not be delivered; the message says what, and what was answered."""


def publish(parcels: Sequence[Parcel], env: Mapping[str, str]) -> None:
    """
    Deliver all parcels, each until it is acknowledged.

    Args:
        parcels: What to deliver.
        env: The environment of the stack.

    Raises:
        NotSent: One was refused.
    """
    import boto3

    settings = Settings.from_env({**os.environ, **env})
    session = boto3.Session(env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY"), region_name=settings.region)
    kinesis = session.client("kinesis", endpoint_url=env.get("AWS_ENDPOINT_URL_KINESIS") or env.get("AWS_ENDPOINT_URL"))
    s3 = session.client("s3", endpoint_url=env.get("AWS_ENDPOINT_URL"))
    by_way: dict[tuple[str, str], list[Parcel]] = {}
    for parcel in parcels:
        by_way.setdefault((parcel.way, parcel.source), []).append(parcel)
    with ThreadPoolExecutor(4) as pool:
        jobs: list[Any] = []
        for (way, source), some in by_way.items():
            found = settings.sources[source]
            if way == "door":
                jobs += [
                    pool.submit(
                        _post, f"{env['POLKU_API_URL']}/{source}", parcel.data, env.get("POLKU_API_KEY", ""), packed=number % 3 == 0
                    )
                    for number, parcel in enumerate(some)
                ]
            elif way == "file":
                jobs += [
                    pool.submit(s3.put_object, Bucket=settings.bucket, Key=f"{found.buffer_prefix}{parcel.name}", Body=parcel.data)
                    for parcel in some
                ]
            else:
                records = [parcel.data for parcel in some] if way == "kinesis" else list(_aggregated(parcel.data for parcel in some))
                jobs += [
                    pool.submit(_put, kinesis, found.stream, records[start : start + _RECORDS])
                    for start in range(0, len(records), _RECORDS)
                ]
        for job in jobs:
            job.result()


def report(expected: Mapping[str, Expected]) -> str:
    """Return what was sent, in words."""
    lines = []
    for source, part in expected.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(part.quarantined.items())) or "none"
        broken = sum(part.quarantined.values())
        lines.append(
            f"{source}: {part.received} events = {part.rows} rows + {part.duplicates} duplicates ({part.conflicting} conflicting)"
            f" + {broken} broken ({reasons})"
        )
    return "\n".join(lines)


def _post(url: str, data: bytes, key: str, *, packed: bool) -> None:
    """Post one body to the front door, again where it is throttled."""
    headers = {"Content-Type": "application/json", "Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}
    if packed:
        headers["Content-Encoding"], data = "gzip", gzip.compress(data)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for attempt in range(_TRIES):
        try:
            with direct.open(urllib.request.Request(url, data=data, headers=headers, method="POST"), timeout=30):  # noqa: S310 -- the stack's address
                return
        except urllib.error.HTTPError as error:
            with error:
                answer = error.read().decode(errors="replace")[:300]
            if error.code not in {429, 503} or attempt == _TRIES - 1:
                raise NotSent(f"POST {url}: {error.code} {answer}") from error
            time.sleep(0.2 * 2**attempt)


def _put(kinesis: Any, stream: str | None, records: Sequence[bytes]) -> None:
    """Put records into a stream, those again that were not taken."""
    left = [{"Data": data, "PartitionKey": secrets.token_hex(8)} for data in records]
    for attempt in range(_TRIES):
        answers = kinesis.put_records(StreamName=stream, Records=left)["Records"]
        left = [record for record, answer in zip(left, answers, strict=True) if answer.get("ErrorCode")]
        if not left:
            return
        time.sleep(0.2 * 2**attempt)
    raise NotSent(f"{len(left)} records were not taken by {stream} after {_TRIES} tries")


def _aggregated(records: Iterable[bytes]) -> Iterable[bytes]:
    """Yield records as the Kinesis Producer Library packs them."""
    from aws_kinesis_agg.aggregator import RecordAggregator

    aggregator = RecordAggregator()
    for number, data in enumerate(records, 1):
        full = aggregator.add_user_record(secrets.token_hex(8), data) or (aggregator.clear_and_get() if number % _AGGREGATED == 0 else None)
        if full:
            yield full.get_contents()[2]
    if rest := aggregator.clear_and_get():
        yield rest.get_contents()[2]


def main() -> int:
    """Send events to the stack that is up, and say what must become of them."""
    parser = argparse.ArgumentParser(prog="python -m local.send", description="Send sample events to the stack that is up.")
    parser.add_argument("count", type=int, nargs="?", default=1000, help="how many events")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the stack's")
    parser.add_argument("--seed", type=int, default=None, help="the same seed and count send the same events again, as duplicates")
    chosen = parser.parse_args()
    place = Place(chosen.folder.resolve())
    if not place.state().get("ready"):
        print("The stack is not up: make up", file=sys.stderr)
        return 1
    name = secrets.token_hex(4) if chosen.seed is None else f"seed{chosen.seed}"
    parcels, expected = samples(chosen.count, name=name, seed=chosen.seed or 0, now=datetime.now(timezone.utc))
    try:
        publish(parcels, place.env())
    except NotSent as error:
        print(error, file=sys.stderr)
        return 1
    ways = Counter(parcel.way for parcel in parcels)
    records = ways["kinesis"] + ways["aggregated"]
    print(f"Sent {ways['door']} bodies through the front door, {records} records to Kinesis, {ways['file']} files to the S3 buffer.")
    print(report(expected))
    return 0


if __name__ == "__main__":
    sys.exit(main())
