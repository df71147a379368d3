"""
Deliver one minute of events to Redshift.

**A run** is one batch: `plan` looks what waits, `drain` (one task a lane) copies it from Kinesis and the S3 buffer to
raw objects, `commit` makes the batch by one conditional write, `transform` (one task a part) turns raw objects into
staged and quarantined ones, `load` brings every batch that is ready into Redshift in one transaction.
A minute in which nothing waits is skipped.

**Needs** the parameters of `parameters.yaml.j2`, `aws_default`, `redshift_default`, and that `polku_migrate` has run.

**Safe**: clear any task of any run, or backfill: a batch that was made is replayed from its raw objects and writes the
same rows again; names are never announced twice. A run for a time that has no batch does nothing: the stream moves only
forward.

**When it is red**: the failed task's log names the record, object or setting and what to do. Nothing is lost meanwhile:
the other lanes go on, and the next run loads what this one could not. A batch that Redshift refuses is held back until
its run is cleared.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, Asset, CronTriggerTimetable, Param, dag

from polku import operators, sql, tasks
from polku.settings import Settings

SETTINGS = Settings.from_env(os.environ)


def params() -> dict[str, Param]:
    """Return what the trigger form asks for."""
    return {
        "dry_run": Param(default=False, type="boolean", description="Only say what would be done; nothing is taken or written."),
        "drain_max_mbs": Param(
            None, type=["null", "integer"], minimum=1, maximum=1024, description="Stop a lane after so many MB; empty: as configured."
        ),
        "drain_max_seconds": Param(
            None, type=["null", "integer"], minimum=1, maximum=600, description="Stop a lane after so many seconds; empty: as configured."
        ),
        "note": Param(
            None, type=["null", "string"], maxLength=500, description="Why this run was triggered; is written to the log of plan."
        ),
    }


def deliver(source: str) -> DAG:
    """Return the DAG of one source."""

    @dag(
        dag_id=f"polku_{source}",
        description=f"Deliver {source} events to {SETTINGS.schema}.{source}, each exactly once.",
        doc_md=__doc__,
        schedule=CronTriggerTimetable(SETTINGS.schedule, timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(seconds=SETTINGS.run_timeout_seconds),
        default_args=tasks.defaults(SETTINGS),
        params=params(),
        tags=["polku", source],
        template_searchpath=str(sql.folder()),
    )
    def polku() -> None:
        lanes = tasks.plan(source)
        drained = tasks.drain.partial(source=source).expand(lane=lanes)
        parts = tasks.commit(source, drained)  # type: ignore[arg-type]  # stands for its value
        transformed = tasks.transform.partial(source=source).expand(part=parts)
        load = operators.LoadOperator(
            task_id="load",
            source=source,
            trigger_rule="all_done_min_one_success",
            retries=2,  # the next run loads what this one could not, and nothing is drained while this one waits
            outlets=[Asset(f"{SETTINGS.schema}.{source}"), Asset(f"{SETTINGS.schema}.log")],
        )
        lanes >> parts >> load
        transformed >> load
        [lanes, drained, parts, transformed, load] >> tasks.turn_red_if_anything_failed()

    return polku()


for name in SETTINGS.sources:
    globals()[f"polku_{name}"] = deliver(name)
