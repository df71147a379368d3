"""
Create or upgrade the schema, tables and views in Redshift.

**A run** applies every migration of `include/sql/migrate` in order, in one transaction; a migration that was applied
before changes nothing. Trigger it by hand after installing; `polkupoc apply` triggers it at every deployment.

**Safe** to run at any time and as often as you like. **When it is red**, nothing was changed; the log names the
statement and Redshift's reason.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.sdk import dag

from polku import operators, sql, tasks
from polku.settings import Settings

SETTINGS = Settings.from_env(os.environ)


@dag(
    description=f"Create or upgrade schema {SETTINGS.schema} in Redshift.",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(seconds=SETTINGS.run_timeout_seconds),
    default_args=tasks.defaults(SETTINGS),
    tags=["polku", "schema"],
    template_searchpath=str(sql.folder()),
)
def polku_migrate() -> None:
    """Wire the one task."""
    operators.MigrateOperator(task_id="migrate")


polku_migrate()
