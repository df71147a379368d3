"""
Look at the pipeline from outside, and tell people once when something is wrong and once when it is over.

**A run** looks at the checkpoints, at the oldest record and file that nobody has drained, and at Redshift, by one login. It
posts to Slack itself and reports to Sentry, since Redshift and its log may be what is away. What it says:
lag (a source is not drained: its DAG is paused or broken, or no worker runs), an ERROR once half of the stream's retention
is gone; batches that are drained and not loaded; batches that are held back; Redshift away; a buffer or a checkpoint
that cannot be looked at; log rows that do not reach Slack. An incident that lasts is told again every six hours.
What a run saw, with the batches that are drained and not loaded, is its return value.

**Needs** `aws_default`, `redshift_default`, `slack_default` (or SLACK_TOKEN) and SLACK_CHANNEL.

**Safe** to trigger or clear at any time: it changes nothing but `state/watch.json`, where it keeps what people know. Delete
that object, and what is wrong is told once more.

**When it is red**, it could not read the bucket or could not post; Sentry was told what is wrong, and the next run posts it.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.sdk import CronTriggerTimetable, dag

from polku import tasks
from polku.settings import Settings

SETTINGS = Settings.from_env(os.environ)


@dag(
    description="Notice what stands still, and tell people once.",
    doc_md=__doc__,
    schedule=CronTriggerTimetable(SETTINGS.watch.schedule, timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(seconds=SETTINGS.run_timeout_seconds),
    default_args=tasks.defaults(SETTINGS),
    tags=["polku", "slack"],
)
def polku_watch() -> None:
    """Wire the one task."""
    tasks.watch()


polku_watch()
