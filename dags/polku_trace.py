"""
Say where an event is, and what became of it.

**A run** looks for a messageId in the event table, in `duplicate`, in batches that are not loaded yet and, where a range is given, in the
quarantine of the range's batches. For each place it says, in the task's log and as its result: the raw object and the record or value in
it that holds the event's bytes, the position, the batch, and the rule: repairs, why it lost, why it is in quarantine.

**Needs** `redshift_default`. An event that cannot be read may have no messageId: in quarantine whatever holds the text is found.

**Safe** at any time: nothing is written. Contents are shown only where `show_event` asks for them; they stay in the task's log then.

**When it is red**, its log says what could not be reached. An event that is nowhere is no failure: the log says where it can still be.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.sdk import Param, dag

from polku import tasks
from polku.settings import Settings

SETTINGS = Settings.from_env(os.environ)
SOURCES = sorted(SETTINGS.sources, reverse=True)


@dag(
    description="Say where an event is: raw object, batch, and row, duplicate or quarantine.",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(seconds=SETTINGS.run_timeout_seconds),
    default_args=tasks.defaults(SETTINGS),
    tags=["polku", "trace"],
    params={
        "message_id": Param(type="string", minLength=1, maxLength=1000, description="The messageId of the event, as it was sent."),
        "source": Param(SOURCES[0], type="string", enum=SOURCES, description="Where it was sent to."),
        "from": Param(
            None,
            type=["null", "string"],
            format="date-time",
            description="Look through quarantine of runs from this time on. Empty: do not.",
        ),
        "to": Param(None, type=["null", "string"], format="date-time", description="Up to this time, which is not included."),
        "show_event": Param(default=False, type="boolean", description="Show the event's bytes, in the log and in the result."),
    },
)
def polku_trace() -> None:
    """Wire the one task."""
    tasks.trace()


polku_trace()
