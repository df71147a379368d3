"""
Forward every row of the log to Slack, in order, each once.

**A run** claims the rows that wait, packs them into as few messages as Slack's limits allow, posts at most one message a
second and marks the rows of each message that Slack accepted. It wakes when a load updates the log, and every few minutes
in any case.

**Needs** `redshift_default`, `slack_default` (or SLACK_TOKEN) and SLACK_CHANNEL, with the app in the channel.

**Safe** to trigger or clear at any time: two runs never post the same rows. **When it is red**, rows wait and nothing is
lost; the log says what Slack answered and what to set. Loads go on.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.sdk import Asset, AssetOrTimeSchedule, CronTriggerTimetable, dag

from polku import tasks
from polku.settings import Settings

SETTINGS = Settings.from_env(os.environ)


@dag(
    description=f"Forward {SETTINGS.schema}.log to Slack.",
    doc_md=__doc__,
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable(SETTINGS.notify.schedule, timezone="UTC"), assets=[Asset(f"{SETTINGS.schema}.log")]
    ),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(seconds=SETTINGS.run_timeout_seconds),
    default_args=tasks.defaults(SETTINGS),
    tags=["polku", "slack"],
)
def polku_notify() -> None:
    """Wire the one task."""
    tasks.notify()


polku_notify()
