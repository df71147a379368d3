"""A strict reader of staged and quarantine files, and a sink that keeps them: what Redshift would refuse is refused here too."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import dataclass, field
from typing import Any

import zstandard

from polku import events, records, transform
from polku.batches import BufferFile, RawObject, Tally

ARRIVAL = 1_795_430_460_000
"""2026-11-23 10:41:00, in ms."""

SHARD = "server@1795430000/shardId-000000000000"
BATCH = "server/2026-11-23T10:41:00Z"

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")
_SUPER = {column.name for column in events.COLUMNS if column.kind == "super"}
_NOT_NULL = {"message_id", "received_at", "fingerprint", "batch_id", "position"}


@dataclass
class Made:
    """What one transform made: its books, rows by column name, quarantined lines with their bytes decoded."""

    tally: Tally = field(default_factory=Tally)
    objects: list[tuple[bytes, int]] = field(default_factory=list)
    rows: list[dict[str, str | None]] = field(default_factory=list)
    aside: list[dict[str, Any]] = field(default_factory=list)

    def staged(self, data: bytes, rows: int) -> None:
        """Take a staged object and read it."""
        found = list(read_staged(data))
        assert len(found) == rows
        self.objects.append((data, rows))
        self.rows += found

    def quarantined(self, data: bytes, events: int) -> None:
        """Take a quarantine object and read it."""
        lines = [json.loads(line) for line in inflate(data).splitlines()]
        assert len(lines) == events
        self.aside += [{**line, "bytes": base64.b64decode(line["bytes"], validate=True)} for line in lines]


def inflate(data: bytes) -> bytes:
    """Return what a zstd object holds."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def read_staged(data: bytes):
    """Yield rows as COPY would load them; an AssertionError is what COPY would refuse."""
    text = inflate(data)
    assert text.endswith(b"\n") or not text
    for line in text.split(b"\n")[:-1]:
        assert len(line) <= 4 * 1024 * 1024, "a row is at most 4 MB"
        fields = line.decode("utf-8").split("\x01")
        assert len(fields) == len(events.COLUMNS), "as many fields as columns"
        row = {}
        for column, value in zip(events.COLUMNS, fields, strict=True):
            row[column.name] = None if value == "\\N" else value
            if value == "\\N":
                assert column.name not in _NOT_NULL
                continue
            assert "\0" not in value
            assert "\r" not in value
            if column.limit:
                assert len(value.encode()) <= column.limit, f"{column.name} is too long"
            elif column.kind == "timestamp":
                assert _TIMESTAMP.fullmatch(value), value
            else:
                _check_super(value)
        yield row


def _check_super(text: str) -> None:
    import sys

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        _check_value(json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_short), 1)
    finally:
        sys.setrecursionlimit(limit)


def _check_value(value: Any, depth: int) -> None:
    if isinstance(value, str):
        assert len(value.encode()) <= 65_535, "a string in SUPER is too long"
        assert "\0" not in value
    elif isinstance(value, list | dict):
        assert depth <= 1_000, "SUPER is nested too deep"
        for key in value if isinstance(value, dict) else ():
            _check_value(key, depth)
        for item in value.values() if isinstance(value, dict) else value:
            _check_value(item, depth + 1)


def _refuse(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def _finite(text: str) -> float:
    assert float(text) not in (float("inf"), float("-inf")), text
    return float(text)


def _short(text: str) -> int:
    assert len(text.lstrip("-")) <= 38, text
    return int(text)


def stream(*data: bytes, arrival: int = ARRIVAL) -> tuple[RawObject, io.BytesIO]:
    """Return a raw object of these records, one a millisecond."""
    arrivals = [arrival + index for index in range(len(data))]
    block = records.Block(SHARD, [str(10**55 + index) for index in range(len(data))], arrivals, list(data))
    packed = records.pack(block)
    return RawObject("raw/server/x-1-0.zst", len(packed), len(data), arrival, arrival), io.BytesIO(packed)


def file(data: bytes, *, key: str = "buffer/server/a.json", arrival: int = ARRIVAL) -> tuple[RawObject, io.BytesIO]:
    """Return the raw object of a buffer file."""
    taken = BufferFile(key, '"0123456789abcdef0123456789abcdef"', len(data), arrival)
    return RawObject("raw/server/x-1-0", len(data), 0, arrival, arrival, taken), io.BytesIO(data)


def made(*objects: tuple[RawObject, io.BytesIO], source: str = "server", shared: bool = False, translate: bool = True, names=None) -> Made:
    """Transform raw objects; every result is checked for what must hold of all."""
    rules = transform.Rules(source=source, batch_id=BATCH, translate=translate, shared=shared)
    made = Made()
    made.tally = transform.transform(objects, rules, names or (lambda users: {}), made)
    tally = made.tally
    assert tally.received == tally.staged + tally.quarantined
    assert tally.staged == len(made.rows)
    assert tally.quarantined == len(made.aside) == sum(tally.reasons.values())
    assert set(tally.reasons) <= set(events.REASONS)
    assert set(tally.repaired) <= set(events.REPAIRS)
    positions = [line["position"] for line in made.rows + made.aside]
    assert len(set(positions)) == len(positions), "positions are unique"
    return made
