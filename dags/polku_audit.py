"""
Hold the tables of an interval to the raw archive, row by row.

**A run** reads the raw objects of every batch of the interval again, makes rows of them by the rules of now, and compares them with
`server` or `client`, `duplicate`, quarantine, the registry's names and the books. It fails where something is missing, extra, doubled,
different or misplaced: the log names samples, by batch and position, without the contents of events. Nothing is written.
Each hour of the interval is a task of its own.

**Needs** `redshift_default`, and raw objects that have not expired. The names of the registry are taken as they are.

**Safe** at any time, also beside loads: batches that are not loaded yet are counted as waiting. The logical date of a batch's run
decides whether it belongs to the interval.

**When it is red**, clear the runs of the batches that the log names, in `polku_server` or `polku_client`: they are written anew from
the archive. Then clear the failed task here. After a parameter or a rule has changed, batches that were not replayed differ, and
are brought up to date in the same way. What is "unreadable" has expired or is damaged, and stays as it is.
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
    description=f"Hold the tables of {SETTINGS.schema} to the raw archive.",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=24),
    default_args=tasks.defaults(SETTINGS),
    tags=["polku", "audit"],
    params={
        "source": Param(SOURCES[0], type="string", enum=SOURCES, description="Whose batches are audited."),
        "from": Param(type="string", format="date-time", description="Batches of runs from this time on, e.g. 2026-11-23T10:00:00Z."),
        "to": Param(type="string", format="date-time", description="Up to this time, which is not included."),
        "max_shown": Param(
            20, type="integer", minimum=1, maximum=1000, description="So many differences of an hour are shown at most; all are counted."
        ),
    },
)
def polku_audit() -> None:
    """Wire the two tasks."""
    tasks.audit.expand(hour=tasks.plan_audit())


polku_audit()
