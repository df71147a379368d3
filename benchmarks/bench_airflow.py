"""
Whether Airflow takes longer over a run when 100,000 finished runs of our two DAGs are in its database, and how long it takes to clean them.

The local stack is started in a folder of its own (scheduler, API server and PostgreSQL as everywhere else), and gets a few events a
minute. Each scheduled run is measured from the minute that it is for to its end, less the seconds in its tasks: what is left is
Airflow's own, starts of processes included, so it wants a machine that does nothing else. Then the last finished run of each DAG is copied,
with its task instances, XComs and audit log, a minute apart into the past; the same is measured again; and ``airflow db clean``
is given as docs/operation.md gives it, but for the days.

It takes some ten minutes; ``make bench`` leaves it out. ``make down`` first, or the machine has two stacks to run.

    python benchmarks/bench_airflow.py [--past 100000] [--minutes 3]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import psycopg
from loading import ROOT, say

from local import stack
from polku.settings import Settings

DAGS = ("polku_server", "polku_client")
WHOLE = 5
"""Tasks that succeed in a run that delivers something: plan, drain, commit, transform, load."""

RUNS = f"""
select r.id, r.run_id, extract(epoch from r.end_date - r.run_after) - sum(extract(epoch from t.end_date - t.start_date))
from dag_run as r join task_instance as t using (dag_id, run_id)
where r.dag_id = %s and r.run_after >= %s and r.state = 'success' and r.run_type = 'scheduled' and t.state = 'success'
group by r.id having count(*) = {WHOLE} order by r.id desc"""  # noqa: S608 -- our own number
PAST = """create temporary table past as
select nextval('dag_run_id_seq')::int as new_id, date_trunc('minute', now()) - interval '20 minutes' - i * interval '1 minute' as at
from generate_series(1, {count}) as i"""
RUN_ID = """'scheduled__' || to_char(past.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')"""
OF_RUN = "t.dag_id = '{dag}' and t.run_id = '{run}'"
NEW = {
    "dag_run": {"id": "past.new_id", "run_id": RUN_ID},
    "task_instance": {"id": "gen_random_uuid()", "run_id": RUN_ID},
    "xcom": {"dag_run_id": "past.new_id", "run_id": RUN_ID},
    "log": {"id": "nextval('log_id_seq')", "run_id": RUN_ID},
}


def measure(database: Any, env: dict[str, str], minutes: int) -> list[float]:
    """Send events for some minutes and return Airflow's own seconds of each run."""
    begin = datetime.now(timezone.utc)
    end = begin + timedelta(minutes=minutes + 1)
    settings = Settings.from_env({**os.environ, **env})
    session = boto3.Session(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], region_name=settings.region)
    streams = session.client("kinesis", endpoint_url=env["AWS_ENDPOINT_URL_KINESIS"])
    while datetime.now(timezone.utc) < end:
        for source in settings.sources.values():
            event = {"type": "track", "event": "Seen", "messageId": uuid.uuid4().hex, "userId": "u"}
            streams.put_record(StreamName=source.stream, PartitionKey="x", Data=json.dumps(event).encode())
        time.sleep(10)
    return [float(row[2]) for dag in DAGS for row in database.execute(RUNS, [dag, begin]).fetchall()]


def fill(database: Any, dag: str, count: int) -> None:
    """Copy the last whole run of a DAG so many times into the past."""
    id_, run, _ = database.execute(RUNS, [dag, datetime(2026, 1, 1, tzinfo=timezone.utc)]).fetchone()
    database.execute("drop table if exists past")
    database.execute(PAST.format(count=count))
    for table, new in NEW.items():
        columns = database.execute(
            "select column_name, data_type from information_schema.columns where table_name = %s and table_schema = 'public'", [table]
        ).fetchall()
        shift = f"past.at - (select run_after from dag_run where id = {id_})"  # noqa: S608
        values = [new.get(name, f't."{name}" + ({shift})' if kind.startswith("timestamp") else f't."{name}"') for name, kind in columns]
        names = ", ".join(f'"{name}"' for name, _ in columns)
        database.execute(
            f"insert into {table} ({names}) select {', '.join(values)} from {table} as t, past where {OF_RUN.format(dag=dag, run=run)}"  # noqa: S608
        )
        database.execute(f"vacuum analyze {table}")


def clean(place: stack.Place, days: int) -> float:
    """Give the command of docs/operation.md and return its seconds."""
    page = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
    [command] = [line.strip() for line in page.splitlines() if line.startswith("    airflow db clean")]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    begin = time.monotonic()
    subprocess.run(
        ["/bin/bash", "-c", command.replace("30 days ago", f"{days} days ago")],
        env={**os.environ, **airflow_env(place), "PATH": path},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - begin


def airflow_env(place: stack.Place) -> dict[str, str]:
    """Return the configuration of the stack's Airflow."""
    lines = place.airflow_file.read_text(encoding="utf-8").splitlines()
    return {name: shlex.split(value)[0] if value else "" for name, _, value in (line.partition("=") for line in lines)}


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--past", type=int, default=100_000, help="finished runs, half of them of each DAG")
    options.add_argument("--minutes", type=int, default=3, help="minutes of each measurement")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="polku-bench-") as folder:
        place = stack.Place(Path(folder))
        with stack.running(place, say=say) as env:
            address = airflow_env(place)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
            with psycopg.connect(address, autocommit=True) as database:
                few = measure(database, env, given.minutes)
                say(f"Putting {given.past:,} finished runs into the database")
                for dag in DAGS:
                    fill(database, dag, given.past // len(DAGS))
                many = measure(database, env, given.minutes)
                for what, taken in ((f"after {given.past:,} runs", many), ("after a few runs", few)):
                    print(f"Airflow's own seconds of a run, {what}: {statistics.median(taken):.1f} ({min(taken):.1f} to {max(taken):.1f})")
                for days in (30, 1):
                    (before,) = database.execute("select count(*) from dag_run").fetchone()
                    seconds = clean(place, days)
                    (after,) = database.execute("select count(*) from dag_run").fetchone()
                    print(f"airflow db clean, older than {days} days: {before - after:,} of {before:,} runs in {seconds:.0f} s")


if __name__ == "__main__":
    main()
