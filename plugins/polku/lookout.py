"""
Looks at the pipeline from outside its runs, and tells people once when something is wrong and once when it is over.

What is looked at needs no run of the other DAGs and no Redshift: the checkpoints and the buffers. So a DAG that is paused or broken, and
a fleet of workers that is gone, show as lag. Redshift is asked by one login a look; that it does not answer is itself news.

What people are told is decided by ``incidents.py`` and kept in ``state/watch.json``. The order is: note what is wrong, report it to Sentry
(one event an incident, however often it is sent), post it to Slack, note that it was posted. So a crash or a lost answer between the last
two can never lose a message. It could double it: what an earlier look may have posted is first looked up in the channel by the id in the
message's metadata; where the token may not read the channel's history, or two looks run at once, one message can stand there twice.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from polku import archive, incidents, kinesis, s3_buffer, sentry, slack
from polku.batches import Batch, Position
from polku.errors import PolkuError, SettingsError, TransientError, UnreadableState
from polku.incidents import Seen, SourceSeen, Thresholds, Waiting, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client
    from slack_sdk import WebClient

    from polku.batches import Checkpoint
    from polku.incidents import Announcement
    from polku.settings import Settings

log = logging.getLogger(__name__)

LOGIN_SECONDS = 10
"""How long Redshift may take for any answer to a look."""

_PEEKS_AT_ONCE = 4
_SECONDS_BETWEEN_POSTS = 1.0


# -- look --------------------------------------------------------------------------------------------------------


def look(
    settings: Settings,
    s3: S3Client,
    streams: KinesisClient,
    waiting_rows: Callable[[], tuple[int, int]],
    *,
    now: Callable[[], float] = time.time,
) -> Seen:
    """
    Return what there is to be seen of every source and of Redshift; what cannot be seen is part of it.

    Args:
        settings: Where things are.
        s3: Client of the bucket.
        streams: Client of Kinesis.
        waiting_rows: Asks Redshift for the number of log rows that Slack has not got, and the seconds since the oldest; raises PolkuError
            where it does not answer.
        now: Seconds since 1970.

    Raises:
        TransientError: The bucket does not answer.
        SettingsError: The bucket is not there, or access is refused.
    """
    sources = {name: _source(settings, name, s3, streams, now) for name in settings.sources}
    at = int(now() * 1000)
    try:
        rows, oldest = waiting_rows()
    except PolkuError as error:
        log.warning("Redshift cannot be asked: %s", error)
        return Seen(at=at, sources=sources, away=str(error) or type(error).__name__)
    return Seen(at=at, sources=sources, unforwarded=rows, oldest_row=oldest)


def count_waiting(connection: Any, statement: str, schema: str) -> tuple[int, int]:
    """Return how many log rows Slack has not got, and for how many seconds the oldest has waited; ``statement`` is a Jinja template."""
    import jinja2

    with closing(connection.cursor()) as cursor:
        cursor.execute(jinja2.Template(statement, undefined=jinja2.StrictUndefined).render(schema=schema))
        rows, oldest = cursor.fetchone()
    return int(rows), int(oldest or 0)


def _source(settings: Settings, name: str, s3: S3Client, streams: KinesisClient, now: Callable[[], float]) -> SourceSeen:
    try:
        checkpoint, _ = archive.read_checkpoint(s3, settings.bucket, name)
        pending = {id_: int(Batch.parse(id_).at.timestamp() * 1000) for id_, entry in checkpoint.pending.items() if not entry.held}
    except (UnreadableState, ValueError) as error:  # ValueError: the id of a batch that is none
        log.warning("Where polku_%s stands cannot be seen: %s", name, error)
        return SourceSeen(waiting=None, lost=str(error))
    held = {id_: entry.held for id_, entry in checkpoint.pending.items() if entry.held}
    try:
        waiting = (*_files(settings, name, s3, checkpoint), *_records(settings.sources[name].stream, streams, checkpoint, now))
    except PolkuError as error:
        log.warning("What waits for polku_%s cannot be seen: %s", name, error)
        return SourceSeen(waiting=None, unreadable=str(error), pending=pending, held=held)
    return SourceSeen(waiting=waiting, pending=pending, held=held)


def _files(settings: Settings, name: str, s3: S3Client, checkpoint: Checkpoint) -> Iterator[Waiting]:
    prefix = settings.sources[name].buffer_prefix
    if prefix:
        taken = {file for entry in checkpoint.pending.values() for part in entry.parts for file in part.files}
        oldest = s3_buffer.oldest_file(s3, settings.bucket, prefix, leave=taken)
        if oldest:
            yield Waiting(place=oldest.key, since=oldest.modified)


def _records(stream: str | None, streams: KinesisClient, checkpoint: Checkpoint, now: Callable[[], float]) -> list[Waiting]:
    """
    Look at every shard that is not read to its end, also those whose parents have to be read first.

    A shard that is too busy to be looked at (its reads are shared with the drain) is left out, as long as another one answers.
    """
    if not stream:
        return []
    shards = [s for s in kinesis.list_shards(streams, stream) if not checkpoint.positions.get(s.key, Position()).finished]

    def peek(shard: kinesis.Shard) -> int | PolkuError:
        try:
            return kinesis.oldest_waiting(streams, shard, checkpoint.positions.get(shard.key, Position()), now=now)
        except PolkuError as error:
            return error

    with ThreadPoolExecutor(_PEEKS_AT_ONCE) as pool:
        answers = list(zip(shards, pool.map(peek, shards), strict=True))
    errors = [answer for _, answer in answers if isinstance(answer, PolkuError)]
    if errors and (len(errors) == len(shards) or any(isinstance(error, SettingsError) for error in errors)):
        raise errors[0]
    return [
        Waiting(place=shard.key, since=answer, kept=shard.retention_hours * 3600)
        for shard, answer in answers
        if not isinstance(answer, PolkuError) and answer
    ]


# -- tell --------------------------------------------------------------------------------------------------------


def tell(
    settings: Settings,
    s3: S3Client,
    seen: Seen,
    reach_slack: Callable[[], tuple[WebClient, str]],
    *,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Watch:
    """
    Note what is wrong, tell people what is due, and return what is known afterwards.

    Args:
        settings: Thresholds and bucket.
        s3: Client of the bucket.
        seen: What a look came to.
        reach_slack: Gives Slack's client and the channel; called only where there is something to post.
        now: Seconds since 1970.
        sleep: Waits for so many seconds.

    Raises:
        TransientError: Slack is away, or takes no more now; the next look posts what is left.
        SettingsError: Slack refuses; the same, once a person has changed something. Sentry has been told in any case.
    """
    bounds = settings.watch
    thresholds = Thresholds(lag=bounds.lag_seconds, pending=bounds.pending_seconds, unforwarded=bounds.unforwarded_seconds)
    earlier: set[str] = set()

    def change(known: Watch) -> Watch:
        earlier.update(announcement.id for announcement in incidents.due(known, seen.at))
        return incidents.update(known, incidents.judge(seen, thresholds, known), seen)

    watch = archive.change_watch(s3, settings.bucket, change)
    announcements = incidents.due(watch, seen.at)
    for announcement in announcements:
        log.log(logging.INFO if announcement.word == "over" else logging.WARNING, "%s: %s", announcement.key, announcement.text)
        if announcement.word == "opened":
            sentry.warn_incident(announcement.id, announcement.key, announcement.level, announcement.text)
    if announcements:
        client, channel = reach_slack()
    for number, announcement in enumerate(announcements):
        if number:
            sleep(_SECONDS_BETWEEN_POSTS)
        _post(client, channel, announcement, may_be_there=announcement.id in earlier, now=now)
        watch = archive.change_watch(s3, settings.bucket, partial(incidents.mark, announcement=announcement, now=seen.at))
    return watch


def summary(seen: Seen, known: Watch) -> dict[str, Any]:
    """Return a look and what is wrong as plain JSON types, for XCom and the UI: also which batches are drained and not loaded."""
    return {
        "wrong": {key: incident.text for key, incident in known.incidents.items() if not incident.over},
        "redshift": seen.away or "answers",
        "unforwarded": seen.unforwarded,
        "sources": {
            name: {
                "lag_seconds": None if s.waiting is None else max([0, *((seen.at - w.since) // 1000 for w in s.waiting)]),
                "pending": len(s.pending),
                "oldest_pending": min(s.pending, key=lambda id_: s.pending[id_], default=None),
                "held": sorted(s.held),
            }
            for name, s in seen.sources.items()
        },
    }


def _post(client: WebClient, channel: str, announcement: Announcement, *, may_be_there: bool, now: Callable[[], float]) -> None:
    """Post an announcement, unless an earlier look has."""
    if may_be_there:
        since = datetime.fromtimestamp(announcement.since / 1000, timezone.utc)
        found = slack.posted(client, channel, announcement.id, since, None)
        if found:
            log.info("An earlier look had posted this: %s", announcement.text)
            return
        if found is None:
            log.warning("The channel cannot be searched for what an earlier look may have posted; it may stand there twice")
    row = slack.Row(position=1, id=0, at=datetime.fromtimestamp(now(), timezone.utc), level=announcement.level, text=announcement.text)
    metadata = {"event_type": slack.EVENT_TYPE, "event_payload": {"claim": announcement.id, "first": 1, "last": 1}}
    [message] = slack.pack([row])
    try:
        slack.post(client, channel, message, metadata)
    except (TransientError, SettingsError):
        raise
    except PolkuError as error:
        log.warning("Slack takes no metadata from this app (%s); posted without, so it cannot be looked up", error)
        slack.post(client, channel, message, None)
