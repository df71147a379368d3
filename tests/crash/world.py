"""
A world for one trial: servers, producers, runs as Airflow would make them, and an account of what must come of it.

The servers live as long as the session; each trial has a bucket, streams, a Slack channel and emptied tables of its own.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import itertools
import json
import threading
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import psycopg
import zstandard

from local.aws import AwsServer
from local.kinesis import KinesisServer
from local.redshift.server import RedshiftServer
from local.sentry import SentryServer
from local.slack import SlackServer
from polku import archive
from polku.batches import Batch, Receipt
from tests.crash.proxy import Doors
from tests.crash.workers import Call, Nursery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.crash.proxy import Request, Side, Verdict
    from tests.crash.workers import Worker

REGION = "eu-west-1"
SCHEMA = "polku_crash"
KEYS = {"region_name": REGION, "aws_access_key_id": "local", "aws_secret_access_key": "local"}
PARAMETERS = """
_default:
  region: eu-west-1
  bucket: {{ env.POLKU_BUCKET | default("bucket", true) | tojson }}
  schema: polku_crash
  iam_role: arn:aws:iam::123456789012:role/polku-redshift
  sources:
    server: {stream: "{{ env.CRASH_NAME | default('x') }}-server", buffer_prefix: buffer/server/, translate: true}
    client: {stream: "{{ env.CRASH_NAME | default('x') }}-client", buffer_prefix: buffer/client/, translate: false}
  schedule: "* * * * *"
  owner: polku
  retries: 3
  retry_seconds: 15
  max_retry_seconds: 300
  task_timeout_seconds: 900
  run_timeout_seconds: 3600
  drain: {lanes: 4, max_mbs: 64, max_seconds: 20, max_files: 1000}
  load: {max_batches: 60, dedup_days: 7, quarantine_error_share: 0.5}
  notify: {schedule: "*/5 * * * *", max_messages: 120}
  names:
    directory: {{ env.CRASH_NAMES | default("generated") }}
    connection: names_default
    query: select user_id, user_name from user_names where user_id = any(%(ids)s)
DEV:
"""
TRIES = 4
"""As the parameters say: the first and three more."""

KNOWN = "Aino Kallas"
"""The name of u-a in the directory of names, which ``CRASH_NAMES=table`` in a world's environment switches on."""

TABLES = ("server", "client", "duplicate", "user_name", "log", "batch", "rejected")


class Stack:
    """
    The servers and the nursery; a context manager.

    Args:
        folder: For files of the session.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Stack:
        enter = self._stack.enter_context
        with contextlib.ExitStack() as undo:
            undo.push(self._stack)
            self.aws = enter(AwsServer())
            self.kinesis = enter(KinesisServer())
            self.slack = enter(SlackServer(rate=None))
            self.sentry = enter(SentryServer())
            self.redshift = enter(RedshiftServer(s3_endpoint=self.aws.url))
            self.names = urlsplit(self.redshift.postgres_dsn("names"))
            self.addresses = {
                "s3": ("127.0.0.1", int(self.aws.url.rpartition(":")[2])),
                "kinesis": ("127.0.0.1", self.kinesis.port),
                "redshift": ("127.0.0.1", self.redshift.port),
                "slack": ("127.0.0.1", self.slack.port),
                "sentry": ("127.0.0.1", self.sentry.port),
                "names": ("127.0.0.1", self.names.port or 0),
            }
            parameters = self.folder / "parameters.yaml.j2"
            parameters.write_text(PARAMETERS)
            self.env = {
                "POLKU_PARAMETERS": str(parameters),
                "AWS_ACCESS_KEY_ID": "local",
                "AWS_SECRET_ACCESS_KEY": "local",
                "AWS_EC2_METADATA_DISABLED": "true",
                "REDSHIFT_HOST": "127.0.0.1",
                "REDSHIFT_DB": self.redshift.database,
                "REDSHIFT_USER": self.redshift.user,
                "REDSHIFT_PWD": self.redshift.password,
                "REDSHIFT_SSLMODE": "disable",
                "SLACK_TOKEN": "xoxb-local",
                "SLACK_CHANNEL": "polku",
                **self.env_of({name: port for name, (_, port) in self.addresses.items()}),
            }
            self.nursery = enter(Nursery(self.folder, self.env))
            self.s3 = boto3.client("s3", endpoint_url=self.aws.url, **KEYS)
            self.streams = boto3.client("kinesis", endpoint_url=self.kinesis.url, **KEYS)
            self._migrate()
            self.database = enter(psycopg.connect(self.redshift.url, autocommit=True))
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def env_of(self, ports: dict[str, int]) -> dict[str, str]:
        """Return the variables that lead the product to these ports."""
        return {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ports['s3']}",
            "AWS_ENDPOINT_URL_KINESIS": f"http://127.0.0.1:{ports['kinesis']}",
            "REDSHIFT_PORT": str(ports["redshift"]),
            "SLACK_API_URL": f"http://127.0.0.1:{ports['slack']}/api/",
            "SENTRY_DSN": f"http://{self.sentry.key}@127.0.0.1:{ports['sentry']}/{self.sentry.project}",
            "AIRFLOW_CONN_NAMES_DEFAULT": self.names._replace(
                netloc=f"{self.names.username}:{self.names.password}@127.0.0.1:{ports['names']}", query="sslmode=disable"
            ).geturl(),
        }

    def _migrate(self) -> None:
        outcome = self.nursery.fork(self.nursery.worker("migrate"), Call("migrate"), {}).result()
        if outcome["state"] != "success":
            raise RuntimeError(f"polku_migrate: {outcome}")
        with psycopg.connect(self.names.geturl(), autocommit=True) as names:
            names.execute("create table user_names (user_id text, user_name text)")
            names.execute("insert into user_names values ('u-a', %s)", [KNOWN])


# -- what is sent ----------------------------------------------------------------------------------------------------


def event(id_: str, user: str | None = None, **more: Any) -> bytes:
    """Return an event as producers send it."""
    plain = {"type": "track", "event": "Seen", "messageId": id_, "userId": user or f"u-{id_}", "timestamp": "2026-11-23T11:59:00Z"}
    return json.dumps({**plain, **more}).encode()


@dataclass
class Sent:
    """What producers of one source have an acknowledgement for: how often each messageId, and what cannot be read."""

    events: Counter[str] = field(default_factory=Counter)
    users: set[str] = field(default_factory=set)
    broken: list[bytes] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Events in all."""
        return self.events.total() + len(self.broken)


@dataclass
class Findings:
    """What is not as it should be."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.wrong)

    def compare(self, what: str, expected: Counter[str], found: Counter[str]) -> None:
        """Note what is there less or more often than expected."""
        self.lost += [f"{what} {key!r}: {found[key]} of {expected[key]}" for key in expected if found[key] < expected[key]]
        self.doubled += [f"{what} {key!r}: {found[key]} times, expected {expected[key]}" for key in found if found[key] > expected[key]]


class Abandoned(Exception):
    """A worker was killed and nobody tries its step again."""


class World:
    """
    One trial's world.

    Args:
        stack: The servers.
        shards: Of each stream.
    """

    def __init__(self, stack: Stack, *, shards: int = 2) -> None:
        self.stack = stack
        self.name = f"crash-{uuid.uuid4().hex[:12]}"
        self.judge: Callable[[Side, Request], Verdict] = lambda _side, _request: None
        self.sent = {"server": Sent(), "client": Sent()}
        self.living: dict[int, Worker] = {}
        self.working: dict[int, Worker] = {}
        self.env: dict[str, str] = {}
        self.tries = TRIES
        self.xcom: dict[tuple[str, str], dict[str, Any]] = {}
        self._names = itertools.count()
        self.minutes = itertools.count()
        self.start = datetime.now(timezone.utc).replace(second=0, microsecond=0) - timedelta(days=1)
        stack.s3.create_bucket(Bucket=self.name, CreateBucketConfiguration={"LocationConstraint": REGION})
        for source in self.sent:
            stack.streams.create_stream(StreamName=self.stream(source), ShardCount=shards)
        stack.slack.reset()
        stack.sentry.reset()
        stack.redshift.clear_faults()
        stack.kinesis.clear_faults()
        for table in TABLES:
            stack.database.execute(f"delete from {SCHEMA}.{table}")

    def close(self) -> None:
        """Forget the world."""
        for source in self.sent:
            with contextlib.suppress(self.stack.streams.exceptions.ResourceNotFoundException):
                self.stack.streams.delete_stream(StreamName=self.stream(source))

    def stream(self, source: str) -> str:
        """Return the name of a source's stream."""
        return f"{self.name}-{source}"

    def at(self, minute: int) -> str:
        """Return a logical date."""
        return (self.start + timedelta(minutes=minute)).isoformat()

    def next_minute(self) -> str:
        """Return a logical date that is newer than all before."""
        return self.at(next(self.minutes))

    # producers

    def put(self, source: str, *ids: str, user: str | None = None) -> None:
        """Put events into the stream, one record each."""
        for id_ in ids:
            self.stack.streams.put_record(StreamName=self.stream(source), PartitionKey=id_, Data=event(id_, user))
            self.sent[source].events[id_] += 1
            self.sent[source].users.add(user or f"u-{id_}")

    def put_broken(self, source: str, data: bytes) -> None:
        """Put what is no event into the stream."""
        self.stack.streams.put_record(StreamName=self.stream(source), PartitionKey="broken", Data=data)
        self.sent[source].broken.append(data)

    def drop(self, source: str, *ids: str, user: str | None = None, packed: bool = False) -> str:
        """Drop a file with events into the buffer and return its key."""
        key = f"buffer/{source}/{next(self._names):04d}.jsonl{'.gz' if packed else ''}"
        body = b"\n".join(event(id_, user) for id_ in ids)
        self.stack.s3.put_object(Bucket=self.name, Key=key, Body=gzip.compress(body) if packed else body)
        self.sent[source].events.update(ids)
        self.sent[source].users |= {user or f"u-{id_}" for id_ in ids}
        return key

    def sample(self, source: str) -> None:
        """Send a bit of everything: both shards, two files, a duplicate within the stream and one across the doors, a broken record."""
        self.put(source, "a", "b", "c", "d")
        self.put(source, "e", user="u-a")
        self.put(source, "a")
        self.put_broken(source, b'{"type": "track", "userId":')
        self.drop(source, "f", "b")
        self.drop(source, "g", packed=True)

    # runs

    def attempt(self, call: Call, name: str = "") -> Worker:
        """Start one try of a step, behind doors of its own, and return it at once."""
        worker = self.stack.nursery.worker(name or call.step)
        worker.actor = threading.get_ident()
        doors = Doors(worker, self.stack.addresses, self._ask)
        env = {**self.stack.env_of(doors.ports), "POLKU_BUCKET": self.name, "CRASH_NAME": self.name, **self.env}
        self.living[worker.number] = worker
        self.stack.nursery.fork(worker, call, env)

        def tidy() -> None:
            worker.gone.wait()
            doors.close()
            del self.living[worker.number]

        threading.Thread(target=tidy, name="tidy", daemon=True).start()
        return worker

    def _ask(self, side: Side, request: Request) -> Verdict:
        return self.judge(side, request)

    def task(self, call: Call, name: str = "", *, retry: bool = True) -> dict[str, Any]:
        """Run a step as Airflow does: tries up to the bound; raises Abandoned where it was killed and is not to be tried again."""
        outcome: dict[str, Any] = {}
        for number in range(1, self.tries + 1):
            worker = self.attempt(Call(**{**call.__dict__, "number": number}), name)
            self.working[threading.get_ident()] = worker
            while not worker.gone.wait(0.01) and not worker.given_up.is_set():
                pass
            if worker.given_up.is_set():
                continue
            outcome = worker.result()
            if outcome["state"] == "killed" and not retry:
                raise Abandoned
            if outcome["state"] in {"success", "skipped", "failed"}:
                return outcome
        return {**outcome, "state": "failed"}

    def run(self, source: str, at: str = "", *, retry: bool = True, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """
        Run a DAG run of a source as Airflow would, to its end.

        Returns: ``state`` is "success", "skipped" or "failed", ``tasks`` the outcome of each step that was not a success.
        """
        at = at or self.next_minute()
        bad: dict[str, Any] = {}

        def step(step: str, given: Any = None, name: str = "") -> dict[str, Any] | None:
            outcome = self.task(Call(step, source, at, given=given, params=params or {}), name, retry=retry)
            if outcome["state"] == "success":
                self.xcom.setdefault((source, at), {})[name or step] = outcome["value"]
                return outcome
            bad[name or step] = outcome
            return None

        plan = step("plan")
        if plan is None:
            return {"state": bad["plan"]["state"], "tasks": bad}
        drained = [step("drain", lane, f"drain {lane['name']}") for lane in plan["value"]]
        commit = step("commit", [done["value"] for done in drained if done])
        transformed = [step("transform", due, f"transform {due.get('part', '')}".strip()) for due in commit["value"]] if commit else []
        if commit or any(transformed):
            step("load")
        return {"state": "failed" if bad else "success", "tasks": bad}

    def tasks_of(self, source: str, at: str) -> dict[str, Call]:
        """Return the tasks of a run, each with what XCom hands it if it is cleared now."""
        known = self.xcom.get((source, at), {})
        lanes, due = known.get("plan") or [], known.get("commit") or []
        calls = {"plan": Call("plan", source, at)}
        calls |= {f"drain {lane['name']}": Call("drain", source, at, given=lane) for lane in lanes}
        if lanes:
            calls["commit"] = Call(
                "commit", source, at, given=[known[name] for name in calls if name.startswith("drain ") and name in known]
            )
        calls |= {
            f"transform {one.get('part', '')}".strip() + f" of {one.get('batch', '')}": Call("transform", source, at, given=one)
            for one in due
        }
        calls["load"] = Call("load", source, at)
        return calls

    def clear(self, source: str, at: str, name: str) -> dict[str, Any]:
        """Run one task of a run once more, and nothing behind it."""
        outcome = self.task(self.tasks_of(source, at)[name], name.partition(" of ")[0])
        if outcome["state"] == "success":
            self.xcom.setdefault((source, at), {})[name] = outcome["value"]
        return outcome

    def notify(self, *, retry: bool = True) -> dict[str, Any]:
        """Run polku_notify."""
        return self.task(Call("notify"), retry=retry)

    def pass_time(self) -> None:
        """Let claims of dead notify runs grow as old as it takes to count as given up; the channel's history stays where it is."""
        self.stack.database.execute(
            f"update {SCHEMA}.log set claimed_at = dateadd(minute, -11, claimed_at) "
            "where forwarded_at is null and claimed_at > dateadd(minute, -10, sysdate)"
        )

    def calm(self, *sources: str, most: int = 6) -> None:
        """Let runs pass in peace until there is nothing left to do; raises AssertionError where it does not come to that."""
        for source in sources:
            for _ in range(most):
                outcome = self.run(source)
                assert outcome["state"] != "failed", outcome
                if outcome["state"] == "skipped":
                    break
            else:
                raise AssertionError(f"{source} is not idle after {most} runs")
        for _ in range(3):
            self.pass_time()
            outcome = self.notify()
            assert outcome["state"] == "success", outcome
            if not outcome["value"]["busy"] and not outcome["value"]["waiting"]:
                return
        raise AssertionError("notify has not come to an end in three runs")

    # the account

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query; ``{s}`` in it is the schema."""
        return self.stack.database.execute(query.replace("{s}", SCHEMA)).fetchall()

    def count(self, query: str) -> int:
        """Return the one number that a query gives."""
        return int(self.rows(query)[0][0])

    def keys(self, prefix: str) -> list[str]:
        """Return the names of the objects with a prefix."""
        pages = self.stack.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def checkpoint(self, source: str) -> Any:
        """Return a source's checkpoint."""
        return archive.read_checkpoint(self.stack.s3, self.name, source)[0]

    def receipts(self, source: str) -> Iterable[Receipt]:
        """Return the receipts of the batches that were made."""
        for key in self.keys(f"state/{source}/batches/"):
            name = key.rpartition("/")[2].removesuffix(".json")
            at = datetime.strptime(name, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
            batch = Batch.of(source, at)
            manifest = archive.read_manifest(self.stack.s3, self.name, batch)
            assert manifest
            for part in manifest.parts:
                receipt = archive.read_receipt(self.stack.s3, self.name, batch, part)
                assert receipt, (batch, part.name)
                yield receipt

    def quarantined(self, source: str) -> Counter[str]:
        """Return what is in quarantine, each by its bytes."""
        found: Counter[str] = Counter()
        for receipt in self.receipts(source):
            for key in receipt.quarantine:
                packed = self.stack.s3.get_object(Bucket=self.name, Key=key)["Body"].read()
                text = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True).read()
                for line in text.splitlines():
                    row = json.loads(line)
                    assert row["reason"]
                    found[base64.b64decode(row["bytes"]).decode("latin-1")] += 1
        return found

    def findings(self, *sources: str) -> Findings:
        """Return what was lost or doubled of what producers have an acknowledgement for, and whatever else is wrong."""
        found = Findings()
        for source in sources:
            sent = self.sent[source]
            table = Counter({str(row[0]): int(row[1]) for row in self.rows(f"select message_id, count(*) from {{s}}.{source} group by 1")})
            found.compare(f"{source} event", Counter(dict.fromkeys(sent.events, 1)), table)
            losers = self.rows(f"select message_id, count(*) from {{s}}.duplicate where source = '{source}' group by 1")
            copies = +Counter({id_: n - 1 for id_, n in sent.events.items()})
            found.compare(f"{source} duplicate", copies, Counter({str(row[0]): int(row[1]) for row in losers}))
            broken = Counter(data.decode("latin-1") for data in sent.broken)
            found.compare(f"{source} quarantined", broken, self.quarantined(source))
            self._check_books(source, found)
            checkpoint = self.checkpoint(source)
            if checkpoint.pending:
                found.wrong.append(f"{source}: still pending: {sorted(checkpoint.pending)}")
            if left := self.keys(f"buffer/{source}/"):
                found.wrong.append(f"{source}: buffer files left: {left}")
        self._check_names("server" in sources, found)
        self._check_slack(found)
        return found

    def _check_books(self, source: str, found: Findings) -> None:
        books = self.rows(
            f"select batch_id, received, loaded, duplicates, quarantined from {{s}}.batch where source = '{source}' order by 1"
        )
        rows = dict(self.rows(f"select batch_id, count(*) from {{s}}.{source} group by 1"))
        for batch, received, loaded, duplicates, quarantined in books:
            if received != loaded + duplicates + quarantined:
                found.wrong.append(f"books of {batch}: {received} <> {loaded} + {duplicates} + {quarantined}")
            if rows.pop(batch, 0) != loaded:
                found.wrong.append(f"books of {batch} say {loaded} loaded, the table does not")
        if rows:
            found.wrong.append(f"rows without books: {rows}")
        if (total := sum(book[1] for book in books)) != self.sent[source].total:
            found.wrong.append(f"books of {source}: received {total}, sent {self.sent[source].total}")

    def _check_names(self, named: bool, found: Findings) -> None:  # noqa: FBT001
        users = Counter(dict.fromkeys(self.sent["server"].users, 1) if named else {})
        registry = Counter({str(r[0]): int(r[1]) for r in self.rows("select user_id, count(*) from {s}.user_name group by 1")})
        found.compare("name of", users, registry)
        if named and self.env.get("CRASH_NAMES") == "table":
            given = self.rows("select user_name from {s}.user_name where user_id = 'u-a'")
            if given not in ([], [(KNOWN,)]):
                found.wrong.append(f"u-a is named {given}, the directory of names has {KNOWN}")
        messages = [str(row[0]) for row in self.rows("select message from {s}.log where message like 'New user: %'")]
        logged = Counter(message.removeprefix("New user: ").partition(" -> ")[0] for message in messages)
        found.compare("naming logged of", users, logged)
        other = self.count(
            "select count(*) from {s}.server as t left join {s}.user_name as u on t.user_id = u.user_id "
            "where u.user_name is null or t.user_name is null or t.user_name <> u.user_name"
        )
        if other and named:
            found.wrong.append(f"{other} rows bear another name than the registry")

    def _check_slack(self, found: Findings) -> None:
        rows = self.rows('select "timestamp", message, forwarded_at from {s}.log')
        logged = Counter(f"{at:%Y-%m-%d %H:%M:%S} {message}" for at, message, _ in rows)
        lines = (line.partition(" ")[2] for message in self.stack.slack.messages for line in message.shown.split("\n"))
        found.compare("in Slack", logged, Counter(lines))
        if waiting := sum(row[2] is None for row in rows):
            found.wrong.append(f"{waiting} log rows are not marked as forwarded")
