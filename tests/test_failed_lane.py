"""The trigger rules of a run, in Airflow itself: one failed lane stops neither the others nor the load."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.end_to_end
@pytest.mark.timeout(400)
def test_a_failed_lane_turns_the_run_red_after_the_others_are_loaded(aws, kinesis, redshift, bucket, schema, tmp_path):
    """Files are delivered while the stream does not exist; the run is red, since only leaves decide that."""
    parameters = tmp_path / "parameters.yaml.j2"
    text = (ROOT / "parameters.yaml.j2").read_text()
    parameters.write_text(text.replace("schema: polku_poc", f"schema: {schema}").replace("retries: 3", "retries: 0"))
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SENTRY", "SLACK"))},
        **aws.env,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "AWS_ENDPOINT_URL_KINESIS": kinesis.url,
        "HUMILIS_AWS_REGION": "eu-west-1",
        "POLKU_BUCKET": bucket,
        "POLKU_PARAMETERS": str(parameters),
        "REDSHIFT_HOST": redshift.host,
        "REDSHIFT_PORT": str(redshift.port),
        "REDSHIFT_DB": redshift.database,
        "REDSHIFT_USER": redshift.user,
        "REDSHIFT_PWD": redshift.password,
        "REDSHIFT_SSLMODE": "disable",
    }

    def airflow(*words):
        command = [sys.executable, "-m", "airflow", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=200, cwd=tmp_path)

    assert airflow("db", "migrate").returncode == 0
    assert airflow("dags", "test", "polku_migrate").returncode == 0
    event = {"type": "track", "event": "Seen", "messageId": "m1", "userId": "u1", "timestamp": "2026-11-23T11:59:00Z"}
    aws.client("s3").put_object(Bucket=bucket, Key="buffer/server/one.jsonl", Body=json.dumps(event).encode())

    ended = airflow("dags", "test", "polku_server")

    with sqlite3.connect(tmp_path / "airflow" / "airflow.db") as metadata:
        states = {
            (task, index): state
            for task, index, state in metadata.execute("select task_id, map_index, state from task_instance where dag_id = 'polku_server'")
        }
        runs = [state for (state,) in metadata.execute("select state from dag_run where dag_id = 'polku_server'")]
    with psycopg.connect(redshift.url) as connection:
        rows = connection.execute(f"select message_id from {schema}.server").fetchall()
    assert sorted(state for (task, _), state in states.items() if task == "drain") == ["failed", "success"], ended.stdout[-3000:]
    assert [states[task, -1] for task in ("commit", "load", "turn_red_if_anything_failed")] == ["success", "success", "failed"]
    assert rows == [("m1",)]
    assert runs == ["failed"]
