"""What a run costs does not grow with what was done before it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import boto3
import pytest

from polku import archive, incidents, kinesis, lookout, s3_buffer, steps
from polku.batches import Batch, Manifest, Part
from polku.settings import Settings, Source

ROOT = Path(__file__).resolve().parents[1]
NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
LIMITS = kinesis.Limits(max_bytes=1 << 24, max_seconds=5, reads_a_second=1000)


class Calls(list):
    """Every request of a client, as (operation, key or prefix)."""

    def __init__(self, client):
        super().__init__()
        self.listed = []
        client.meta.events.register("before-parameter-build.s3", self.note)
        client.meta.events.register("after-call.s3.ListObjectsV2", self.note_keys)

    def note(self, params, model, **_):
        """Note one request."""
        self.append((model.name, params.get("Key") or params.get("Prefix") or ""))

    def note_keys(self, parsed, **_):
        """Note the keys that a listing named."""
        self.listed += [found["Key"] for found in parsed.get("Contents", ())]

    def by_operation(self):
        """Return how many there were of each."""
        return Counter(operation for operation, _ in self)


@pytest.fixture
def place(aws, kinesis, bucket):
    """A source with a client of its own, whose requests are noted."""
    stream = f"s-{uuid.uuid4().hex[:12]}"
    keys = {"region_name": "eu-west-1", "aws_access_key_id": "x", "aws_secret_access_key": "y"}
    s3 = boto3.client("s3", endpoint_url=aws.url, **keys)
    streams = boto3.client("kinesis", endpoint_url=kinesis.url, **keys)
    streams.create_stream(StreamName=stream, ShardCount=1)
    settings = Settings.from_env({**os.environ, "POLKU_BUCKET": bucket})
    sources = {"server": Source(stream=stream, buffer_prefix="buffer/server/", translate=True)}
    settings = dataclasses.replace(settings, sources=sources, drain=dataclasses.replace(settings.drain, max_files=300))
    return Place(s3=s3, streams=streams, settings=settings, stream=stream, bucket=bucket)


@dataclasses.dataclass
class Place:
    """One source."""

    s3: object
    streams: object
    settings: Settings
    stream: str
    bucket: str

    def step(self, minute):
        """Return a run of a minute."""
        batch = Batch.of("server", NOON + timedelta(minutes=minute))
        return steps.Run(batch=batch, settings=self.settings, s3=self.s3, attempt=f"1-{uuid.uuid4().hex[:12]}")

    def put(self):
        """Put a record into the stream."""
        data = json.dumps({"type": "track", "event": "Seen", "messageId": uuid.uuid4().hex, "userId": "u"}).encode()
        self.streams.put_record(StreamName=self.stream, PartitionKey="x", Data=data)

    def commit(self, minute):
        """Run a minute up to its commit; return what is to be transformed."""
        run = self.step(minute)
        parts = [steps.drain(run, lane, self.streams, LIMITS) for lane in steps.plan(run, self.streams)]
        return steps.make_batch(run, parts)

    def run(self, minute):
        """Run a minute as if Redshift took it."""
        for due in self.commit(minute):
            steps.transform_part(self.step(minute), due, None)
        steps.loaded(self.step(minute), [ready.batch.id for ready in steps.ready(self.step(minute))])

    def watch(self):
        """Look at it."""
        lookout.look(self.settings, self.s3, self.streams, lambda: (0, 0))


def test_a_run_lists_its_own_buffer_and_nothing_else(place):
    """Nothing lists the whole bucket, and nothing the state or the archive."""
    place.put()
    place.s3.put_object(Bucket=place.bucket, Key="buffer/server/a.jsonl", Body=b'{"type": "track", "event": "x", "userId": "u"}')
    calls = Calls(place.s3)

    place.run(0)
    place.watch()

    lists = [prefix for operation, prefix in calls if operation.startswith("List")]
    assert set(lists) == {"buffer/server/"}
    assert len(lists) <= 4


def test_a_run_costs_the_same_requests_whatever_number_of_batches_there_were(place):
    """After a month it is as quick as on the first day: the checkpoint holds what is pending, not what was."""
    place.put()
    place.run(0)
    calls = Calls(place.s3)
    place.put()
    place.run(1)
    few, size = calls.by_operation(), place.s3.head_object(Bucket=place.bucket, Key="state/server/checkpoint.json")["ContentLength"]
    past = [Batch.of("server", NOON - timedelta(minutes=minute)) for minute in range(1, 1001)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda b: archive.write_manifest(place.s3, place.bucket, Manifest(b.id, (Part(name="files"),))), past))
    calls.clear()

    place.put()
    place.run(2)

    assert calls.by_operation() == few
    assert place.s3.head_object(Bucket=place.bucket, Key="state/server/checkpoint.json")["ContentLength"] == pytest.approx(size, abs=20)


def test_a_buffer_with_many_files_is_worked_off_in_bounded_runs(place):
    """Fifty thousand files are many runs and never a long one: what a run asks of S3, lists and keeps depends on its bound alone."""
    place = dataclasses.replace(
        place, settings=dataclasses.replace(place.settings, drain=dataclasses.replace(place.settings.drain, max_files=60))
    )
    with ThreadPoolExecutor(8) as pool:
        body = b'{"type": "track", "event": "x", "userId": "u"}'
        list(pool.map(lambda i: place.s3.put_object(Bucket=place.bucket, Key=f"buffer/server/{i:06d}", Body=body), range(200)))
    calls = Calls(place.s3)
    asked, sizes = [], []
    for minute in range(4):
        calls.clear()
        calls.listed.clear()
        place.run(minute)
        asked.append(calls.by_operation())
        assert len(calls.listed) <= 60 + 1 + 2  # what drain takes, and what plan looks at; a page may hold one more
        sizes.append(place.s3.head_object(Bucket=place.bucket, Key="state/server/checkpoint.json")["ContentLength"])

    assert [one["CopyObject"] for one in asked] == [one["DeleteObject"] for one in asked] == [60, 60, 60, 20]
    assert asked[1] == asked[2]
    assert asked[1].total() - 3 * 60 <= 30  # besides a copy, a read and a delete of each file
    assert max(sizes) < 1000  # bytes
    assert s3_buffer.oldest_file(place.s3, place.bucket, "buffer/server/", leave=()) is None


def rules():
    return json.loads((ROOT / "deploy" / "lifecycle.json").read_text())["Rules"]


def expiring():
    return {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in rules() if "Expiration" in rule}


def test_every_prefix_that_a_run_writes_has_a_rule(place):
    """A prefix that is written today and forgotten grows for years."""
    calls = Calls(place.s3)
    place.put()
    place.streams.put_record(StreamName=place.stream, PartitionKey="x", Data=b"no event")
    place.run(0)
    archive.write_load_manifest(place.s3, place.bucket, archive.load_manifest_key("server", "l"), [])
    archive.change_watch(place.s3, place.bucket, lambda _: incidents.Watch(away=1))

    written = {key for operation, key in calls if operation in {"PutObject", "CopyObject", "CreateMultipartUpload"}}
    kept = {key for key in written if not any(key.startswith(prefix) for prefix in expiring())}

    assert kept == {"state/server/checkpoint.json", archive.WATCH_KEY}
    assert {key.split("/")[0] for key in written} == {"raw", "staged", "quarantine", "load", "state"}


def test_what_says_where_the_stream_stands_and_what_was_not_taken_never_expires():
    """A source that is idle for a year must not begin anew, and a buffer file is the only copy of its events."""
    for key in ("state/server/checkpoint.json", "state/client/checkpoint.json", archive.WATCH_KEY, "buffer/server/a", "buffer/client/a"):
        assert not [prefix for prefix in expiring() if key.startswith(prefix)], key


def test_what_a_replay_needs_lives_as_long_as_what_it_replays():
    """A manifest without raw objects says what is missing; raw objects without a manifest are lost."""
    days = expiring()

    for source in ("server", "client"):
        assert days[f"state/{source}/batches/"] > days["raw/"]
        assert days[f"state/{source}/receipts/"] >= days["staged/"]


def test_s3_takes_the_rules(place):
    """A rule that S3 refuses deletes nothing."""
    place.s3.put_bucket_lifecycle_configuration(Bucket=place.bucket, LifecycleConfiguration={"Rules": rules()})

    assert len(place.s3.get_bucket_lifecycle_configuration(Bucket=place.bucket)["Rules"]) == len(rules())
    assert all(len(rule["ID"]) <= 255 for rule in rules())


FILL = """
from datetime import datetime, timedelta, timezone
import uuid
import sqlalchemy as sa
import airflow.models  # noqa
from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunType
now = datetime.now(timezone.utc)
with create_session() as session:
    session.add(DagBundleModel(name="dags"))
    session.flush()
    for dag in ("polku_server", "polku_client"):
        session.add(DagModel(dag_id=dag, bundle_name="dags", last_parsed_time=now))
        session.flush()
        versions = [uuid.uuid4(), uuid.uuid4()]
        for number, days in enumerate((70, 3)):  # deployed 70 days ago, and changed 3 days ago
            at = now - timedelta(days=days)
            session.add(DagVersion(id=versions[number], dag_id=dag, version_number=number + 1, bundle_name="dags", created_at=at))
        session.flush()
        for days, count in ((60, 300), (10, 5)) if dag == "polku_server" else ((60, 300),):
            for number in range(count):
                at = now - timedelta(days=days, minutes=number)
                run = f"scheduled__{at.isoformat()}"
                session.add(DagRun(dag_id=dag, run_id=run, logical_date=at, run_after=at, run_type=DagRunType.SCHEDULED,
                                   state=DagRunState.SUCCESS, start_date=at))
                session.flush()
                session.execute(sa.insert(TaskInstance.__table__).values(
                    id=uuid.uuid4(), dag_id=dag, task_id="plan", run_id=run, map_index=-1, start_date=at, state="success",
                    pool="default_pool", pool_slots=1, try_number=1, max_tries=0, dag_version_id=versions[0]))
"""
COUNT = """
from collections import Counter
from airflow.models.dag_version import DagVersion
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
import json
import sqlalchemy as sa
with create_session() as session:
    found = {t.__tablename__: Counter(session.scalars(sa.select(t.dag_id))) for t in (DagRun, TaskInstance, DagVersion)}
    tables = [name for name in sa.inspect(session.bind).get_table_names() if name.startswith("_airflow_deleted")]
print(json.dumps({**found, "archives": tables}))
"""


@pytest.mark.timeout(300)
def test_the_documented_command_removes_old_runs_and_keeps_new_ones(tmp_path):
    """Two runs a minute are a million a year in Airflow's own database; a DAG that was deployed long ago has new runs of that version."""
    [command] = [
        line.strip() for line in (ROOT / "docs" / "operation.md").read_text().splitlines() if line.startswith("    airflow db clean")
    ]
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
    }

    def shell(text):
        done = subprocess.run(["/bin/bash", "-c", text], env=env, capture_output=True, text=True, check=False, timeout=250)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout

    (tmp_path / "fill.py").write_text(FILL)
    (tmp_path / "count.py").write_text(COUNT)
    shell(f"airflow db migrate && python {tmp_path}/fill.py")

    shell(command)

    assert json.loads(shell(f"python {tmp_path}/count.py").splitlines()[-1]) == {
        "dag_run": {"polku_server": 5, "polku_client": 1},  # the newest scheduled run of each stays, however old
        "task_instance": {"polku_server": 5},
        "dag_version": {"polku_server": 2, "polku_client": 2},
        "archives": [],
    }
