"""The whole delivery without a scheduler: the DAGs' own task functions and operators, called as Airflow would, against local servers."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import threading
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from polku import archive, connections, sql
from polku.batches import Batch

ROOT = Path(__file__).resolve().parents[1]
COUNTS = (
    "batch_id, source, received, loaded, duplicates, conflicting, quarantined, repaired, bytes, first_arrival, last_arrival, gap_seconds"
)
TABLES = ("server", "client", "duplicate", "user_name", "log", "batch", "rejected")


def event(id_: str, **fields: Any) -> bytes:
    """Return a plain event."""
    plain = {"type": "track", "event": "Seen", "messageId": id_, "userId": f"u-{id_}", "timestamp": "2026-11-23T11:59:00Z"}
    return json.dumps({**plain, **fields}).encode()


@contextlib.contextmanager
def delivering(folder: Path, aws: Any, kinesis: Any, redshift: Any):
    """Give a delivery, and put the environment back after it."""
    with pytest.MonkeyPatch.context() as patch:
        delivery = Delivery(patch, folder, aws, kinesis, redshift)
        try:
            yield delivery
        finally:
            delivery.close()


class Delivery:
    """
    Both sources with a bucket, streams and a schema of their own, and the runs that a test lets them have.

    Args:
        patch: Sets the environment.
        folder: For the parameters file.
        aws: Server of S3.
        kinesis: Server of Kinesis.
        redshift: Server of Redshift.
    """

    def __init__(self, patch: Any, folder: Path, aws: Any, kinesis: Any, redshift: Any) -> None:
        self.name = f"delivery-{uuid.uuid4().hex[:12]}"
        self.schema = self.name.replace("-", "_")
        self.s3, self.kinesis = aws.client("s3"), kinesis
        self.patch, self.parameters = patch, folder / "parameters.yaml.j2"
        self.start = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=60)
        self._files = itertools.count()
        self.xcom: dict[tuple[str, float], dict[str, Any]] = {}
        for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
            patch.delenv(name)
        for name in ("REDSHIFT_DEFAULT", "AWS_DEFAULT", "SLACK_DEFAULT"):  # what the product defines is gone after the test
            patch.setenv(f"AIRFLOW_CONN_{name}", "")
            patch.delenv(f"AIRFLOW_CONN_{name}")
        for name, value in {
            "POLKU_PARAMETERS": str(self.parameters),
            "POLKU_BUCKET": self.name,
            "AWS_ENDPOINT_URL_S3": aws.url,
            "AWS_ENDPOINT_URL_KINESIS": kinesis.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "REDSHIFT_HOST": redshift.host,
            "REDSHIFT_PORT": str(redshift.port),
            "REDSHIFT_DB": redshift.database,
            "REDSHIFT_USER": redshift.user,
            "REDSHIFT_PWD": redshift.password,
            "REDSHIFT_SSLMODE": "disable",
        }.items():
            patch.setenv(name, value)
        for client in ("s3", "streams"):  # a process of Airflow's makes them anew for each task: four fifths of the time here
            patch.setattr(connections, client, _once(getattr(connections, client)))
        self.configure()
        aws.create(bucket=self.name)
        import boto3

        self.streams = boto3.client(
            "kinesis", endpoint_url=kinesis.url, region_name="eu-west-1", aws_access_key_id="local", aws_secret_access_key="local"
        )
        for source in ("server", "client"):
            self.streams.create_stream(StreamName=f"{self.name}-{source}", ShardCount=1)
        self.database = psycopg.connect(redshift.url, autocommit=True)
        self.migrate()

    def close(self) -> None:
        """Take the schema away."""
        self.drop_tables()
        self.database.close()

    def configure(self, **changes: str) -> None:
        """Write the parameters anew, with changes (text -> text) to the product's own."""
        text = (ROOT / "parameters.yaml.j2").read_text(encoding="utf-8")
        mine = {"schema: polku_poc\n": f"schema: {self.schema}\n", "polku-{{ stage | lower }}-": f"{self.name}-", **changes}
        for old, new in mine.items():
            assert old in text, old
            text = text.replace(old, new, 1 if old in changes else -1)
        self.parameters.write_text(text, encoding="utf-8")

    # producers

    def put(self, source: str, *records: bytes) -> None:
        """Put records into the source's stream."""
        for record in records:
            self.streams.put_record(StreamName=f"{self.name}-{source}", PartitionKey="x", Data=record)

    def drop(self, source: str, *lines: bytes) -> None:
        """Drop a file into the source's buffer."""
        self.s3.put_object(Bucket=self.name, Key=f"buffer/{source}/{next(self._files):04d}.jsonl", Body=b"\n".join(lines))

    # runs

    def at(self, minute: float) -> datetime:
        """Return a logical date."""
        return self.start + timedelta(minutes=minute)

    def batch(self, source: str, minute: float) -> Batch:
        """Return the batch of a run."""
        return Batch.of(source, self.at(minute))

    def context(self, minute: float, step: str, **params: Any) -> dict[str, Any]:
        """Return what a task sees of its run: the same identity whenever it is called."""
        at = self.at(minute)
        instance = SimpleNamespace(try_number=1, task_id=step, dag_id="polku", map_index=-1, task=None)
        return {"dag_run": SimpleNamespace(logical_date=at, run_after=at), "ti": instance, "params": params, "task": None}

    def task(self, step: str, *arguments: Any, minute: float = 0, **params: Any) -> Any:
        """Call the function of a task."""
        from polku import tasks

        return getattr(tasks, step).function(*arguments, **self.context(minute, step, **params))

    def load(self, source: str, minute: float) -> list[dict[str, Any]]:
        """Execute load in the run of a minute and return the books that it reports."""
        return self._operator("LoadOperator", source=source).execute(self.context(minute, "load"))

    def migrate(self) -> list[str]:
        """Execute polku_migrate."""
        return self._operator("MigrateOperator").execute(self.context(0, "migrate"))

    @staticmethod
    def _operator(name: str, **arguments: Any) -> Any:
        from airflow.sdk import DAG

        from polku import operators

        with DAG("delivery", schedule=None, template_searchpath=str(sql.folder())):
            operator = getattr(operators, name)(task_id="sql", **arguments)
        operator.resolve_template_files()
        return operator

    def run(self, source: str, minute: float, *, load: bool = True, without: str = "") -> list[dict[str, Any]]:
        """
        Run a DAG run of a source to its end and return the books that load reports; nothing where it was skipped.

        Args:
            source: "server" or "client".
            minute: The run's logical date.
            load: Whether to load; else the run dies before.
            without: A lane that fails.
        """
        from airflow.sdk.exceptions import AirflowSkipException

        try:
            lanes = self.task("plan", source, minute=minute)
        except AirflowSkipException:
            return []
        xcom = self.xcom[source, minute] = {"lanes": [lane for lane in lanes if lane["name"] != without]}
        xcom["parts"] = [self.task("drain", source, lane, minute=minute) for lane in xcom["lanes"]]
        xcom["due"] = self.task("commit", source, xcom["parts"], minute=minute)
        for due in xcom["due"]:
            self.task("transform", source, due, minute=minute)
        return self.load(source, minute) if load else []

    def tasks(self) -> list[tuple[str, float, str, int]]:
        """Return every task of every run, each of which can be cleared by itself."""
        listed = []
        for (source, minute), xcom in self.xcom.items():
            for step, mapped in (("plan", [0]), ("drain", xcom["lanes"]), ("commit", [0]), ("transform", xcom["due"]), ("load", [0])):
                listed += [(source, minute, step, index) for index in range(len(mapped))]
        return listed

    def clear(self, source: str, minute: float, step: str, index: int) -> None:
        """Run a single task of a run again, with what XCom has for it, and keep in XCom what it returns."""
        xcom = self.xcom[source, minute]
        if step == "plan":
            xcom["lanes"] = self.task("plan", source, minute=minute)
        elif step == "drain" and index < len(xcom["lanes"]):
            new = self.task("drain", source, xcom["lanes"][index], minute=minute)
            xcom["parts"] = [*xcom["parts"][:index], new, *xcom["parts"][index + 1 :]]
        elif step == "commit":
            xcom["due"] = self.task("commit", source, xcom["parts"], minute=minute)
        elif step == "transform" and index < len(xcom["due"]):
            self.task("transform", source, xcom["due"][index], minute=minute)
        elif step == "load":
            self.load(source, minute)

    def replay(self, source: str, minute: float, *, load: bool = True) -> list[dict[str, Any]]:
        """Clear the run of a batch, as Airflow's UI or a backfill with reprocess does; it must have something to do."""
        made = archive.read_manifest(self.s3, self.name, self.batch(source, minute))
        assert made, (source, minute)
        return self.run(source, minute, load=load)

    def audit(self, source: str, *, minutes: float = 1440 * 70) -> dict[str, Any]:
        """Audit everything by the tasks of polku_audit and return the counts of the hours that have batches, added up."""
        params = {"source": source, "from": self.at(0).isoformat(), "to": self.at(minutes).isoformat(), "max_shown": 20}
        return self.task("audit", {"from": params["from"], "to": params["to"]}, **params)

    def trace(self, message_id: str, source: str = "server", *, ranged: bool = False, show: bool = False) -> list[dict[str, Any]]:
        """Ask polku_trace for an event."""
        between = (self.at(0).isoformat(), self.at(1440 * 70).isoformat()) if ranged else (None, None)
        return self.task("trace", message_id=message_id, source=source, show_event=show, **{"from": between[0], "to": between[1]})

    # what came of it

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query; ``{s}`` in it is the schema."""
        return self.database.execute(query.replace("{s}", self.schema)).fetchall()

    def write(self, statement: str) -> None:
        """Change the tables behind the product's back."""
        self.database.execute(statement.replace("{s}", self.schema))

    def drop_tables(self) -> None:
        """Drop the schema with every table in it."""
        self.database.execute(f"drop schema if exists {self.schema} cascade")

    @contextlib.contextmanager
    def kept(self):
        """Put all tables back, as they were before the block."""
        for table in TABLES:
            self.write(f"create table {{s}}.kept_{table} as select * from {{s}}.{table}")
        yield
        for table in TABLES:
            self.write(f"delete from {{s}}.{table}")
            columns = ", ".join(
                f'"{row[0]}"'
                for row in self.rows(
                    f"select column_name from information_schema.columns where table_schema = '{{s}}' and table_name = '{table}'"
                )
                if row[0] != "id"
            )
            self.write(f"insert into {{s}}.{table} ({columns}) select {columns} from {{s}}.kept_{table}")
            self.write(f"drop table {{s}}.kept_{table}")

    def digests(self) -> dict[str, str]:
        """Return a digest of all that is a function of the archive: both event tables, duplicate, the books' counts, rejected."""
        columns = [
            row[0]
            for row in self.rows("select column_name from information_schema.columns where table_schema = '{s}' and table_name = 'server'")
        ]
        listed = ", ".join(f'"{column}"' for column in sorted(columns))
        queries = {
            "server": f"select {listed} from {{s}}.server",
            "client": f"select {listed} from {{s}}.client",
            "duplicate": f"select source, conflicting, {listed} from {{s}}.duplicate",
            "batch": f"select {COUNTS} from {{s}}.batch",
            "rejected": "select * from {s}.rejected",
        }
        return {name: _digest(self.rows(query)) for name, query in queries.items()}

    def names(self) -> dict[str, str]:
        """Return the registry."""
        return dict(self.rows("select user_id, user_name from {s}.user_name"))

    def namings(self) -> list[str]:
        """Return what was logged of first namings."""
        return [row[0] for row in self.rows("select message from {s}.log where message like 'New user: %' order by message")]

    def unbalanced(self) -> list[str]:
        """Return the batches whose books do not balance, or do not agree with the tables."""
        return [
            row[0]
            for row in self.rows(
                "select b.batch_id from {s}.books as b where not b.balanced"
                " or b.loaded <> (select count(*) from {s}.server as t where t.batch_id = b.batch_id)"
                " + (select count(*) from {s}.client as t where t.batch_id = b.batch_id)"
                " or b.duplicates <> (select count(*) from {s}.duplicate as d where d.batch_id = b.batch_id)"
            )
        ]


def _once(make: Any) -> Any:
    """Return a function that gives what ``make`` gives the first time."""
    made: list[Any] = []
    lock = threading.Lock()

    def once(settings: Any) -> Any:
        with lock:
            made.extend([] if made else [make(settings)])
        return made[0]

    return once


def _digest(rows: list[tuple[Any, ...]]) -> str:
    lines = sorted(repr(row) for row in rows)
    return f"{len(lines)} rows {hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"
