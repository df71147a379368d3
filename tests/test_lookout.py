"""polku_watch and the outages that it tells of, against real local servers and through the real steps."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import time
import uuid
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG

from local.kinesis import KinesisServer
from polku import archive, connections, kinesis, lookout, operators, redshift, sentry, sql, steps, tasks
from polku.batches import Batch
from polku.errors import PolkuError, SettingsError, TransientError
from polku.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    # redshift_connector leaves the socket of a login that failed to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]
LIMITS = kinesis.Limits(max_bytes=1 << 20, max_seconds=5, reads_a_second=1000)


@pytest.fixture
def streams_server():
    """A Kinesis of the test's own, whose time it may advance."""
    with KinesisServer() as server:
        yield server


class Place:
    """One source with a bucket, a stream and a schema of its own; runs are made of the real steps and the real operators."""

    def __init__(self, aws, streams_server, warehouse, bucket, schema, monkeypatch, folder):
        self.stream = f"s-{uuid.uuid4().hex[:12]}"
        text = (ROOT / "parameters.yaml.j2").read_text()
        own = {"server": {"stream": self.stream}, "client": None}
        self.parameters = parameters = folder / "parameters.yaml.j2"
        role = "arn:aws:iam::123456789012:role/polku"
        parameters.write_text(
            text.replace(
                "\nDEV:\n", f"\nDEV:\n  schema: {schema}\n  load:\n    max_batches: 4\n  iam_role: {role}\n  sources: {json.dumps(own)}\n"
            )
        )
        login = {"login": warehouse.user, "password": warehouse.password, "schema": warehouse.database, "extra": {"ssl": False}}
        for name, value in {
            "POLKU_PARAMETERS": str(parameters),
            "POLKU_BUCKET": bucket,
            "HUMILIS_AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_ENDPOINT_URL_S3": aws.url,
            "AWS_ENDPOINT_URL_KINESIS": streams_server.url,
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({"conn_type": "aws"}),
            "AIRFLOW_CONN_REDSHIFT_DEFAULT": json.dumps({"conn_type": "redshift", "host": warehouse.host, "port": warehouse.port, **login}),
            "SLACK_CHANNEL": "polku",
        }.items():
            monkeypatch.setenv(name, value)
        self.settings = Settings.from_env(os.environ)
        self.bucket, self.server = bucket, streams_server
        self.s3, self.streams = connections.s3(self.settings), connections.streams(self.settings)
        self.streams.create_stream(StreamName=self.stream, ShardCount=1)
        self.start = datetime.now(timezone.utc).replace(second=0, microsecond=0) - timedelta(hours=2)
        self._put = 0
        self.operator(operators.MigrateOperator, "migrate").execute(self.context(0))

    def operator(self, kind, name, **arguments):
        """Return an operator of a DAG, its files read."""
        with DAG("polku_server", template_searchpath=str(sql.folder()), schedule=None):
            operator = kind(task_id=name, **arguments)
        operator.resolve_template_files()
        return operator

    def at(self, minute):
        """Return the logical date of a minute."""
        return self.start + timedelta(minutes=minute)

    def context(self, minute):
        """Return what Airflow gives to an operator."""
        ti = SimpleNamespace(try_number=1, task_id="load", dag_id="polku_server", run_id=f"run-{minute}", map_index=-1)
        return {"dag_run": SimpleNamespace(logical_date=self.at(minute), run_after=self.at(minute)), "ti": ti, "params": {}}

    def put(self, number=1):
        """Put events into the stream, one record each."""
        for _ in range(number):
            self._put += 1
            event = {"type": "track", "event": "Seen", "messageId": f"m{self._put:06d}", "userId": f"u{self._put}"}
            self.streams.put_record(StreamName=self.stream, PartitionKey="x", Data=json.dumps(event).encode())

    def step(self, minute):
        """Return a run of a minute."""
        batch = Batch.of("server", self.at(minute))
        return steps.Run(batch=batch, settings=Settings.from_env(os.environ), s3=self.s3, attempt=f"1-{uuid.uuid4().hex[:12]}")

    def until_transform(self, minute):
        """Run a minute up to commit; return what is to be transformed, None where there was nothing to do."""
        run = self.step(minute)
        lanes = steps.plan(run, self.streams)
        if not lanes:
            return None
        return steps.make_batch(run, [steps.drain(run, lane, self.streams, LIMITS) for lane in lanes])

    def until_load(self, minute):
        """Run a minute up to load; return whether there was anything to do."""
        due = self.until_transform(minute)
        for one in due or ():
            steps.transform_part(self.step(minute), one, None)
        return due is not None

    def load(self, minute):
        """Run the operator."""
        return self.operator(operators.LoadOperator, "load", source="server").execute(self.context(minute))

    def run(self, minute):
        """Run a minute; return its books."""
        return self.load(minute) if self.until_load(minute) else None

    def pending(self):
        """Return the batches that are drained and not loaded."""
        return archive.read_checkpoint(self.s3, self.bucket, "server")[0].pending

    def rows(self, query):
        """Return the rows of a query, or commit what returns none."""
        with closing(connections.redshift(self.settings)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(query.replace("{s}", self.settings.schema))
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else connection.commit()

    def watch(self, at=None, *, channel="polku"):
        """Look and tell as the task does, at a time of the test's choice."""

        def now():
            return at.timestamp() if at else self.server.now()

        def waiting_rows():
            with redshift.sorted_errors(), closing(connections.redshift(self.settings, timeout=5)) as connection:
                return lookout.count_waiting(connection, sql.texts("watch")["count_waiting"], self.settings.schema)

        seen = lookout.look(self.settings, self.s3, self.streams, waiting_rows, now=now)
        return lookout.tell(
            self.settings, self.s3, seen, lambda: (connections.slack(self.settings), channel), now=now, sleep=lambda _: None
        )


@pytest.fixture
def place(aws, streams_server, redshift, bucket, schema, slack, sentry, monkeypatch, tmp_path):  # noqa: PLR0917 -- servers
    extra = {"base_url": slack.url}
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", json.dumps({"conn_type": "slack", "password": slack.token, "extra": extra}))
    monkeypatch.setenv("SENTRY_DSN", sentry.dsn)
    yield Place(aws, streams_server, redshift, bucket, schema, monkeypatch, tmp_path)
    redshift.clear_faults()
    gc.collect()  # within this test's filters: see the top


def texts(slack):
    return [message.shown for message in slack.messages]


def test_the_task_says_that_all_is_well_and_posts_nothing(place, slack, sentry):
    """Nobody is told that nothing happened."""
    place.put()
    place.run(0)

    summary = tasks.watch.function()

    assert summary == {
        "wrong": {},
        "redshift": "answers",
        "unforwarded": 1,
        "sources": {"server": {"lag_seconds": 0, "pending": 0, "oldest_pending": None, "held": []}},
    }
    assert (texts(slack), sentry.events) == ([], [])


def test_a_source_that_does_not_run_at_all_is_noticed_by_its_oldest_record(place, slack, sentry):
    """Its DAG is paused, or broken, or no worker runs: no task of it can say so."""
    place.put()
    place.server.advance(700)

    place.watch()
    place.watch()

    [text] = texts(slack)
    assert "polku_server has not drained what arrived 11 min ago" in text
    [event] = sentry.events
    assert (event["level"], event["fingerprint"], event["tags"]["incident"]) == ("warning", ["polku-watch", "lag/server"], "lag")


def test_children_of_a_shard_that_nobody_reads_count_too(place, slack):
    """After a split the records are in the children, whose parent is empty and unfinished."""
    [shard] = kinesis.list_shards(place.streams, place.stream)
    place.streams.split_shard(StreamName=place.stream, ShardToSplit=shard.id, NewStartingHashKey=str(2**127))
    place.put()
    place.server.advance(700)

    place.watch()

    assert "lag/server" in archive.read_watch(place.s3, place.bucket)[0].incidents
    assert len(texts(slack)) == 1


def test_a_file_that_nobody_takes_is_noticed(place, slack):
    """The S3 buffer has no retention, and no lag of its own."""
    place.s3.put_object(Bucket=place.bucket, Key="buffer/server/a.jsonl", Body=b"{}")

    place.watch(datetime.now(timezone.utc) + timedelta(minutes=11))

    assert "(buffer/server/a.jsonl)" in texts(slack)[0]


def test_a_fleet_that_vanished_for_a_day_comes_back_and_delivers_all(place, slack, sentry):
    """Nothing ran; what the stream still holds is delivered, and people hear of the danger before it is one."""
    place.put(3)
    place.server.advance(13 * 3600)
    place.put(2)
    place.watch()
    place.server.advance(7 * 3600)
    place.watch()

    place.run(60)
    place.watch()

    assert place.rows("select count(*) from {s}.server") == [(5,)]
    assert not place.pending()
    opened, lasts, over = texts(slack)
    assert "The stream drops its oldest records in 11 h 0 min" in opened
    assert "Still so after 7 h 0 min" in lasts
    assert "Over after 7 h 0 min" in over
    assert [event["level"] for event in sentry.events] == ["error"]


@pytest.mark.timeout(300)
def test_redshift_away_for_an_hour_heals_by_itself(place, slack, sentry, redshift):
    """Sixty batches pile up, one message says so, and a few runs after its return all is loaded, in order; nobody clears anything."""
    away = redshift.fault("refuse_connect", times=0)
    failures = 0
    for minute in range(60):
        place.put()
        assert place.until_load(minute)
        with pytest.raises(TransientError) as failure:
            place.load(minute)
        failures += 1
        report({**place.context(minute), "exception": failure.value})
        if minute % 5 == 0:
            place.watch(place.at(minute))
    logins = away.happened
    redshift.clear_faults()
    place.parameters.write_text(place.parameters.read_text().replace("max_batches: 4", "max_batches: 60"))  # as it is by default
    runs = 0
    while place.pending():
        place.put()
        place.run(60 + runs)
        runs += 1
        place.watch(place.at(60 + runs))

    assert runs <= 3
    assert logins == failures + 12
    books = place.rows("select batch_id, received, loaded, missing from {s}.books order by first_loaded_at, batch_id")
    assert [book[0] for book in books] == sorted(book[0] for book in books)
    assert [book[1:] for book in books] == [(1, 1, 0)] * (60 + runs)
    assert [text.split()[0] for text in texts(slack)] == [":rotating_light:", ":information_source:"]
    assert "batches drained and waiting" in texts(slack)[0]
    failed = [event for event in sentry.events if event["fingerprint"][0] == "polku-failure"]
    assert len(failed) == failures
    assert len({tuple(event["fingerprint"]) for event in failed}) == 1
    assert len([event for event in sentry.events if event["fingerprint"] == ["polku-watch", "redshift"]]) == 1


def report(context):
    """Report a failed try as Airflow's callback does."""
    assert sentry.on_failure(context)


def test_each_try_of_notify_makes_one_login(place, redshift):
    """With load and watch that is a handful a minute while Redshift is away."""
    away = redshift.fault("refuse_connect", times=0)

    with pytest.raises(TransientError):
        tasks.notify.function()

    assert away.happened == 1


def test_transform_dead_for_a_while_heals_by_itself(place, slack):
    """Its batches are safe in the archive; the first runs whose transform works take them all."""
    for minute in range(5):
        place.put()
        place.until_transform(minute)
        if minute == 4:
            place.watch(place.at(20))

    place.run(5)
    place.run(6)  # a run takes four batches here
    place.watch(place.at(25))

    assert place.rows("select count(*) from {s}.server") == [(5,)]
    opened, over = texts(slack)
    assert "5 batches are drained and not loaded, the oldest is server/" in opened
    assert "Over after 5 min" in over


def test_a_batch_that_redshift_refused_is_told_with_its_reason(place, slack):
    """It waits for a person, who must hear of it."""
    place.put()
    place.until_load(0)
    steps.held_back(place.step(0), {next(iter(place.pending())): "String length exceeds DDL length"})

    place.watch(place.at(1))

    assert "String length exceeds DDL length" in texts(slack)[0]


def test_a_stream_that_is_gone_is_told_once_it_is_sure(place, slack):
    """Two looks in a row."""
    place.streams.delete_stream(StreamName=place.stream)

    place.watch(place.at(0))
    assert texts(slack) == []
    place.watch(place.at(5))

    assert "What waits for polku_server cannot be seen" in texts(slack)[0]


@pytest.mark.parametrize("garbage", [b"\x00 no JSON", b'{"pending": {"server/noon": {}}}'], ids=["no JSON", "a batch that is none"])
def test_a_checkpoint_that_cannot_be_read_is_told_and_the_other_source_is_watched_as_ever(place, slack, sentry, garbage):
    """One broken object must not make the watch fall silent."""
    place.s3.put_object(Bucket=place.bucket, Key="state/server/checkpoint.json", Body=garbage)
    place.s3.put_object(Bucket=place.bucket, Key="buffer/client/a.jsonl", Body=b"{}")
    client = dataclasses.replace(place.settings.sources["server"], stream=None, buffer_prefix="buffer/client/")
    place.settings = dataclasses.replace(place.settings, sources={**place.settings.sources, "client": client})

    known = place.watch(datetime.now(timezone.utc) + timedelta(minutes=11))

    assert set(known.incidents) == {"state/server", "lag/client"}
    assert "put the last good checkpoint back" in known.incidents["state/server"].text
    assert (len(texts(slack)), len(sentry.events)) == (2, 2)


def test_rows_that_do_not_reach_slack_are_told_to_sentry_even_where_slack_refuses(place, slack, sentry):
    """When it takes messages again, it is told too: once."""
    place.rows("insert into {s}.log (\"timestamp\", level, message) values (dateadd(hour, -1, sysdate), 'WARNING', 'x')")
    slack.fault("invalid_auth", -1)
    for minute in (0, 5):
        with pytest.raises(SettingsError, match="invalid_auth"):
            place.watch(place.at(minute))
    slack.clear_faults()

    place.watch(place.at(10))
    place.watch(place.at(15))

    assert len(sentry.events) == 1
    [text] = texts(slack)
    assert "1 log row has not reached Slack, the oldest for 60 min" in text


def test_a_message_whose_answer_was_lost_is_not_posted_again(place, slack):
    """It is found in the channel by the id in its metadata."""
    place.put()
    place.until_load(0)
    steps.held_back(place.step(0), {next(iter(place.pending())): "String length exceeds DDL length"})
    slack.fault("cut_after", path="chat.postMessage")
    with pytest.raises(TransientError, match="may have been posted"):
        place.watch()

    place.watch()

    assert len([text for text in texts(slack) if "String length" in text]) == 1
    assert archive.read_watch(place.s3, place.bucket)[0].incidents["held/server"].told


def test_two_looks_at_once_keep_what_both_saw(place):
    """A look by hand beside the schedule: the state is replaced by conditional writes alone."""
    place.put()
    place.server.advance(700)
    original, others = archive._replace, []

    def replace(*arguments):
        if not others:
            others.append(1)
            place.watch()
        return original(*arguments)

    patch = pytest.MonkeyPatch()
    patch.setattr(archive, "_replace", replace)
    place.watch()
    patch.undo()

    assert archive.read_watch(place.s3, place.bucket)[0].incidents["lag/server"].told


def test_a_shard_that_is_too_busy_to_be_looked_at_is_not_an_incident_while_another_answers(place):
    """The drain reads the same shards, five times a second in all."""
    place.streams.update_shard_count(StreamName=place.stream, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    first = kinesis.list_shards(place.streams, place.stream)[0]
    place.server.fault("throttle", -1, path=f"{first.id}/GetRecords")

    seen = lookout.look(place.settings, place.s3, place.streams, lambda: (0, 0))

    assert seen.sources["server"].waiting == ()


def test_a_bucket_that_is_not_there_makes_the_look_fail(place):
    """Then there is nowhere to keep what is known; the task's own failure is reported."""
    settings = dataclasses.replace(place.settings, bucket_if_set="no-such-bucket")

    with pytest.raises(PolkuError, match="no-such-bucket"):
        lookout.look(settings, place.s3, place.streams, lambda: (0, 0), now=time.time)
