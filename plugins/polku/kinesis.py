"""
Kinesis: which shards there are, whether they hold anything new, and a bounded read of them.

A position is a sequence number (design, section 2), never a time and never an iterator: iterators expire after
five minutes, arrival times are not monotonic. ``read`` takes positions and yields blocks and positions.

Every function takes a boto3 client made by the caller: ``boto3.client("kinesis", config=Config(**kinesis.CONFIG))``.
It needs ``kinesis:DescribeStreamSummary``, ``ListShards``, ``GetShardIterator`` and ``GetRecords``.

Limits that are kept (https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html and the page of
GetRecords): 5 reads and 2 MB a second a shard; an answer holds at most 10 MB or 10,000 records.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from polku.batches import Position
from polku.errors import SettingsError, TransientError
from polku.kinesis_answers import Answer, Fault, fault_of, fetch, member, named
from polku.records import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_kinesis.client import KinesisClient

log = logging.getLogger(__name__)

CONFIG: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 20,
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "tcp_keepalive": True,
}
"""
Arguments for ``botocore.config.Config``. The waits are short since ``read`` itself backs off within its seconds;
the three attempts are for ``list_shards`` and ``has_records``. Other retry settings work too.
"""

REFRESH_SECONDS = 6 * 3600
"""How old a position may grow on an idle shard before ``has_records`` has it read again, so that it is not taken for a gap."""

_ANSWER_RECORDS = 10_000  # the most that GetRecords returns
_BLOCK_BYTES = 4 << 20  # of data in one block
_IN_FLIGHT = 3  # answers at once, of 10 MB at most: what bounds a drain's memory
_FAILURES = 8  # in a row, until a shard is left to the next run
_BACKOFF_SECONDS = 0.2  # doubled with each failure in a row
_BACKOFF_MOST_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Shard:
    """
    A shard of a stream.

    Args:
        key: ``<stream name>@<creation second>/<shard id>``, the key of its position. A stream that was made anew under
            the old name has new keys; the name and the ARN of one stream give the same keys.
        stream: The stream as the settings name it, by name or by ARN.
        id: Kinesis' shard id.
        parents: Keys of the shards that it came from by split (one) or merge (two).
        closed: It takes no more records.
        retention_hours: How long the stream keeps a record.
    """

    key: str
    stream: str
    id: str
    parents: tuple[str, ...] = ()
    closed: bool = False
    retention_hours: int = 24


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    Where a read ends.

    Args:
        max_bytes: Of record data, over all shards; at least 1, and passed by at most the answers in flight (3 of up to 10 MB).
        max_seconds: No request starts later than this after the first; more than 0.
        reads_a_second: For each shard; Kinesis allows five, which all readers of the stream share.
        bytes_a_second: For each shard; Kinesis allows two MB.
        grace_seconds: How much longer an answer is waited for that is on its way when the time is up.
    """

    max_bytes: int
    max_seconds: float
    reads_a_second: float = 5.0
    bytes_a_second: float = 2_000_000.0
    grace_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.max_seconds <= 0:
            raise ValueError(f"limits of {self.max_bytes} bytes and {self.max_seconds} s: a read would never get on")


@dataclass(frozen=True, kw_only=True)
class ShardEnd:
    """
    Where the read of a shard ended.

    Args:
        key: Position key of the shard.
        position: Where the next read begins.
        error: Why it ended early although there may be more; "" where it did not.
    """

    key: str
    position: Position
    error: str = ""


def list_shards(client: KinesisClient, stream: str) -> list[Shard]:
    """
    Return every shard that the stream still lists, parents before children.

    Args:
        client: See the top of this module.
        stream: Name or ARN.

    Raises:
        TransientError: The stream does not exist (now), or Kinesis does not answer.
        SettingsError: Access is refused.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        summary = member(client.describe_stream_summary(**named(stream)), "StreamDescriptionSummary")
        prefix = f"{summary['StreamName']}@{int(summary['StreamCreationTimestamp'].timestamp())}/"
        listed = _listed(client, stream)
    except (ClientError, BotoCoreError, ResponseParserError) as error:
        raise fault_of(error, f"stream {stream!r}").as_error() from error
    shards = {
        shard["ShardId"]: Shard(
            key=prefix + shard["ShardId"],
            stream=stream,
            id=shard["ShardId"],
            parents=tuple(prefix + shard[end] for end in ("ParentShardId", "AdjacentParentShardId") if shard.get(end)),
            closed="EndingSequenceNumber" in shard["SequenceNumberRange"],
            retention_hours=summary["RetentionPeriodHours"],
        )
        for shard in sorted(listed, key=lambda s: s["ShardId"])
    }
    by_key = {shard.key: shard for shard in shards.values()}
    order = TopologicalSorter({shard.key: [p for p in shard.parents if p in by_key] for shard in by_key.values()})
    return [by_key[key] for key in order.static_order()]


def readable(shards: Iterable[Shard], positions: Mapping[str, Position]) -> list[Shard]:
    """
    Return the shards that may be read now: not finished, and every parent that is still listed is finished.

    A parent that is no longer listed has been trimmed with all that was in it, so it counts as finished.
    """
    shards = list(shards)
    listed = {shard.key for shard in shards}
    return [
        shard
        for shard in shards
        if not _finished(positions, shard.key) and all(p not in listed or _finished(positions, p) for p in shard.parents)
    ]


def lanes(shards: Iterable[Shard], positions: Mapping[str, Position], count: int) -> list[tuple[Shard, ...]]:
    """
    Spread the unfinished shards over at most ``count`` lanes, parents before children; never an empty lane.

    A shard and its descendants stay in one lane, so that ``read`` can follow from parent to child.
    """
    waiting = [shard for shard in shards if not _finished(positions, shard.key)]
    family = {shard.key: shard.key for shard in waiting}

    def root(key: str) -> str:
        while family[key] != key:
            key = family[key]
        return key

    for shard in waiting:
        for parent in shard.parents:
            if parent in family:
                family[root(shard.key)] = root(parent)
    families: dict[str, list[Shard]] = {}
    for shard in waiting:
        families.setdefault(root(shard.key), []).append(shard)
    spread: list[list[Shard]] = [[] for _ in range(min(max(count, 1), len(families)))]
    for members in sorted(families.values(), key=len, reverse=True):
        min(spread, key=len).extend(members)
    return [tuple(lane) for lane in spread]


def gap(position: Position, retention_hours: float, now: float) -> float:
    """
    Return how many seconds of records retention may have taken before they were read; 0.0 is none.

    What arrived after the last record read (or after the shard was last seen empty) and longer ago than the retention
    is gone. A position that knows neither has nothing to lose.

    Args:
        position: Of one shard.
        retention_hours: ``Shard.retention_hours``.
        now: Seconds since 1970.
    """
    known = max(position.arrival, position.caught_up) / 1000
    if position.finished or not known:
        return 0.0
    return max(0.0, now - retention_hours * 3600 - known)


def no_longer_listed(shards: Iterable[Shard], positions: Mapping[str, Position]) -> list[str]:
    """
    Return the keys of positions that the stream had, under this name, and lists no more: trimmed, or the stream was made anew.

    What was left in one that was never finished is lost.
    """
    listed = {shard.key for shard in shards}
    stream_names = {key.partition("@")[0] for key in listed}
    return sorted(key for key in positions if key not in listed and key.partition("@")[0] in stream_names)


def has_records(client: KinesisClient, shard: Shard, position: Position, *, now: Callable[[], float] = time.time) -> bool:
    """
    Return whether a read of the shard would come to something; costs one of its five reads a second, or none.

    True also for a closed shard that is not finished (its children wait), where Kinesis says that there is more further
    on, where it is too busy to tell, and where the position was last known to be good ``REFRESH_SECONDS`` ago.

    Raises:
        TransientError: The stream does not exist (now), or Kinesis does not answer.
        SettingsError: Access is refused, or the position is not of this stream.
    """
    known = max(position.arrival, position.caught_up) / 1000
    if position.finished:
        return False
    if shard.closed or (known and now() - known > REFRESH_SECONDS):
        return True
    try:
        answer = fetch(client, shard.stream, shard.id, position.after, limit=1)
    except Exception as error:
        fault = fault_of(error, f"shard {shard.key}")
        if fault.kind == "busy" and fault.throttled:
            return True
        raise fault.as_error() from error
    return bool(answer.sequences) or bool(answer.behind) or answer.iterator is None


def oldest_waiting(client: KinesisClient, shard: Shard, position: Position, *, now: Callable[[], float] = time.time) -> int:
    """
    Return when the first record after a position arrived, in ms since 1970; 0 where nothing waits there. Costs one read.

    Where Kinesis gives no record yet but says how far behind the shard's tip its answer is, that is taken. A position that retention has
    overtaken counts from the oldest record that is left.

    Raises:
        TransientError: The stream does not exist (now), Kinesis does not answer or is too busy to.
        SettingsError: Access is refused, or the position is not of this stream.
    """
    if position.finished:
        return 0
    try:
        answer = fetch(client, shard.stream, shard.id, position.after, limit=1)
    except Exception as error:
        fault = fault_of(error, f"shard {shard.key}")
        if fault.kind != "position" or not gap(position, shard.retention_hours, now()):
            raise fault.as_error() from error
        answer = fetch(client, shard.stream, shard.id, "", limit=1)
    if answer.sequences:
        return answer.arrivals[0] or int(now() * 1000) - (answer.behind or 0)
    return int(now() * 1000) - answer.behind if answer.behind else 0


def read(
    client: KinesisClient,
    shards: Sequence[Shard],
    positions: Mapping[str, Position],
    limits: Limits,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> Iterator[Block | ShardEnd]:
    """
    Read shards of one stream from their positions until each is caught up or finished, or a limit is reached.

    Blocks of one shard come in the order of its records; blocks of several shards are mixed, the shards furthest behind
    first. Each shard that was read, or tried, ends with one ``ShardEnd`` after its last block. A child begins, at its
    oldest record, once all its parents are finished, in this call or before. The next answers are fetched by threads
    while the caller works on the last one.

    An open shard is caught up when Kinesis says so (``MillisBehindLatest`` is 0), be the answer empty or not: an empty
    answer alone says nothing. A shard is finished when there is no next iterator, or when it was listed as closed and is
    empty and caught up (some servers give a next iterator for ever).

    Throttling, 5xx and broken connections are tried again, slower each time, within ``max_seconds``. A shard that keeps
    failing ends where it stands, with ``error`` set; the others go on.

    Args:
        client: See the top of this module.
        shards: The lane's shards, from ``list_shards`` of this run (whether a shard is closed must be known from before
            the reads).
        positions: By shard key; a shard without one begins at its oldest record.
        limits: Where to stop.
        clock: Seconds, for limits and pace.
        sleep: Waits for so many seconds.
        now: Seconds since 1970, for ``Position.caught_up``.

    Raises:
        TransientError: No shard could be read at all.
        SettingsError: The same, and only a person can help: access is refused, or a position is not of this stream.
    """
    reading = _Reading(client, shards, positions, limits, clock, sleep, now)
    try:
        yield from reading.run()
    finally:
        reading.close()


@dataclass
class _Cursor:
    """A shard that is being read."""

    shard: Shard
    start: Position
    after: str
    arrival: int
    caught_up: int
    iterator: str | None = None
    due: float = 0.0
    tried: bool = False
    answered: bool = False
    failures: int = 0
    renewed: bool = False
    finished: bool = False
    done: bool = False
    error: Fault | None = None

    @property
    def position(self) -> Position:
        return Position(after=self.after, finished=self.finished, arrival=self.arrival, caught_up=self.caught_up)


@dataclass
class _Reading:
    """One call of ``read``: a scheduler in the caller's thread, and threads that each fetch one answer."""

    client: KinesisClient
    shards: Sequence[Shard]
    positions: Mapping[str, Position]
    limits: Limits
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    now: Callable[[], float]
    cursors: dict[str, _Cursor] = field(default_factory=dict)
    in_flight: dict[Future[Answer], _Cursor] = field(default_factory=dict)
    bytes: int = 0

    def __post_init__(self) -> None:
        for shard in self.shards:
            start = self.positions.get(shard.key, Position())
            if not start.finished:
                self.cursors[shard.key] = _Cursor(shard, start, start.after, start.arrival, start.caught_up)
        self.pool = ThreadPoolExecutor(max(1, min(_IN_FLIGHT, len(self.cursors))), thread_name_prefix="kinesis")

    def run(self) -> Iterator[Block | ShardEnd]:
        self.deadline = self.clock() + self.limits.max_seconds
        out: list[Block | ShardEnd] = []
        while True:
            self.submit()
            yield from out
            out = []
            if self.in_flight:
                out = self.collect()
                continue
            due = min((c.due for c in self.open()), default=None)
            if due is None or self.stopped(max(due, self.clock())):
                break
            self.sleep(max(0.0, due - self.clock()))
        for cursor in self.cursors.values():
            if cursor.tried and not cursor.done:
                yield self.end(cursor)
        self.raise_if_nothing_was_read()

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)

    def open(self) -> list[_Cursor]:
        """Return the shards that wait for their next read, the furthest behind first."""
        busy = {c.shard.key for c in self.in_flight.values()}
        waiting = (c for c in self.cursors.values() if not c.done and c.shard.key not in busy and self.may_start(c))
        return sorted(waiting, key=lambda c: max(c.arrival, c.caught_up))

    def may_start(self, cursor: _Cursor) -> bool:
        """Return whether all parents are finished; one that neither the lane nor the positions know is trimmed or elsewhere."""
        for parent in cursor.shard.parents:
            if parent in self.cursors:
                if not self.cursors[parent].finished:
                    return False
            elif parent in self.positions and not self.positions[parent].finished:
                return False
        return True

    def stopped(self, at: float) -> bool:
        return at >= self.deadline or self.bytes >= self.limits.max_bytes

    def submit(self) -> None:
        """Start the reads that are due, as many as may be in flight."""
        time_now = self.clock()
        if self.stopped(time_now):
            return
        for cursor in self.open():
            if len(self.in_flight) >= _IN_FLIGHT:
                return
            if cursor.due <= time_now:
                cursor.tried = True
                cursor.due = time_now + 1 / self.limits.reads_a_second
                shard = cursor.shard
                future = self.pool.submit(fetch, self.client, shard.stream, shard.id, cursor.after, iterator=cursor.iterator)
                self.in_flight[future] = cursor

    def collect(self) -> list[Block | ShardEnd]:
        """Wait for one answer, or until another read is due; return what came of it."""
        time_now = self.clock()
        last = self.deadline + self.limits.grace_seconds
        until = last
        if len(self.in_flight) < _IN_FLIGHT and not self.stopped(time_now):
            until = min([last, *(c.due for c in self.open())])
        done, _ = wait(self.in_flight, timeout=max(0.0, until - time_now), return_when=FIRST_COMPLETED)
        if done:
            future = done.pop()
            return self.take(self.in_flight.pop(future), future)
        if self.clock() >= last:
            for future, cursor in self.in_flight.items():
                future.cancel()
                cursor.error = Fault("busy", f"shard {cursor.shard.key}: no answer when the time was up")
            self.in_flight.clear()
        return []

    def take(self, cursor: _Cursor, future: Future[Answer]) -> list[Block | ShardEnd]:
        error = future.exception()
        if error:
            return self.take_fault(cursor, fault_of(error, f"shard {cursor.shard.key}"))
        return self.take_answer(cursor, future.result())

    def take_answer(self, cursor: _Cursor, answer: Answer) -> list[Block | ShardEnd]:
        cursor.answered, cursor.failures, cursor.renewed, cursor.error = True, 0, False, None
        cursor.iterator = answer.iterator
        read, answer = len(answer.sequences), _after(answer, cursor.after)
        size = sum(map(len, answer.data))
        self.bytes += size
        cursor.due = max(cursor.due, cursor.due - 1 / self.limits.reads_a_second + size / self.limits.bytes_a_second)
        now = int(self.now() * 1000)
        arrivals = answer.arrivals if all(answer.arrivals) else [arrival or now for arrival in answer.arrivals]
        if answer.sequences:
            cursor.after, cursor.arrival = answer.sequences[-1], arrivals[-1]
        caught_up = answer.behind == 0 if answer.behind is not None else not read
        if caught_up and read < _ANSWER_RECORDS:
            cursor.caught_up = now
            cursor.done = not cursor.shard.closed
        if answer.iterator is None or (caught_up and cursor.shard.closed and not read):
            cursor.finished = cursor.done = True
            cursor.caught_up = now
        out: list[Block | ShardEnd] = list(_blocks(cursor.shard.key, answer.sequences, arrivals, answer.data))
        if cursor.done:
            out.append(self.end(cursor))
        return out

    def take_fault(self, cursor: _Cursor, fault: Fault) -> list[Block | ShardEnd]:
        cursor.iterator = None
        if fault.kind == "expired" and not cursor.renewed:
            cursor.renewed, cursor.due = True, self.clock()
            return []
        if fault.kind == "position" and cursor.after and gap(cursor.start, cursor.shard.retention_hours, self.now()):
            log.warning("%s; it is older than the retention, so reading from the oldest record there is", fault.text)
            cursor.after = ""
            return []
        cursor.failures += 1
        cursor.error = fault
        cursor.due = self.clock() + min(_BACKOFF_MOST_SECONDS, _BACKOFF_SECONDS * 2 ** (cursor.failures - 1))
        if fault.kind in ("busy", "expired") and cursor.failures < _FAILURES:
            return []
        cursor.done = True
        return [self.end(cursor)]

    def end(self, cursor: _Cursor) -> ShardEnd:
        if cursor.error:
            log.warning("Left shard %s at %r early: %s", cursor.shard.key, cursor.after, cursor.error.text)
        return ShardEnd(key=cursor.shard.key, position=cursor.position, error=cursor.error.text if cursor.error else "")

    def raise_if_nothing_was_read(self) -> None:
        faults = [c.error for c in self.cursors.values() if c.error]
        if not faults or any(c.answered for c in self.cursors.values()):
            return
        worst = next((f for f in faults if f.kind in ("forbidden", "position")), faults[0])
        more = f" (and {len(faults) - 1} more shards)" if len(faults) > 1 else ""
        raise (SettingsError if isinstance(worst.as_error(), SettingsError) else TransientError)(worst.text + more)


def _after(answer: Answer, position: str) -> Answer:
    """Return an answer without records that were read before: Kinesis promises none, and the books would count them twice."""
    first = next((i for i, sequence in enumerate(answer.sequences) if int(sequence) > int(position or -1)), len(answer.sequences))
    if not first:
        return answer
    log.warning("Passed %d records over that had been read before, up to %s", first, position)
    return replace(answer, sequences=answer.sequences[first:], arrivals=answer.arrivals[first:], data=answer.data[first:])


def _finished(positions: Mapping[str, Position], key: str) -> bool:
    return key in positions and positions[key].finished


def _listed(client: KinesisClient, stream: str) -> list[Any]:
    """Return all pages of ListShards. No filter: closed shards belong to it. A token lives for five minutes."""
    from botocore.exceptions import ClientError

    first = named(stream)
    for _ in range(3):
        page = client.list_shards(**first)
        shards: list[Any] = member(page, "Shards")
        try:
            while page.get("NextToken"):
                again = first if "StreamARN" in first else {}
                page = client.list_shards(NextToken=page["NextToken"], **again)
                shards += member(page, "Shards")
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExpiredNextTokenException":
                raise
        else:
            return shards
    raise TransientError(f"stream {stream!r}: ListShards gave tokens that had expired, three times")


def _blocks(key: str, sequences: list[str], arrivals: list[int], data: list[bytes]) -> Iterator[Block]:
    """Cut one answer into blocks of at most some 4 MB of data."""
    ends = list(accumulate(map(len, data)))
    begin = taken = 0
    while begin < len(data):
        end = max(begin + 1, bisect_right(ends, taken + _BLOCK_BYTES, begin))
        yield Block(key, sequences[begin:end], arrivals[begin:end], data[begin:end])
        begin, taken = end, ends[end - 1]
