"""Events, keys and parameters of a hostile sender stay data, secrets stay where they are, and the local stack stays on this machine."""

from __future__ import annotations

import gc
import importlib
import inspect
import io
import json
import logging
import os
import pkgutil
import re
import socket
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from structlog.tracebacks import ExceptionDictTransformer

import local
from local.api import ApiServer
from polku import sql, transform
from polku.batches import Batch, RawObject
from polku.errors import PolkuError, SettingsError
from polku.events import REASONS
from polku.records import Block, pack
from polku.settings import Settings
from polku.tables import Tables
from tests.delivery import Delivery, event

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = (
    "'; drop table {s}.server; --",
    "' or '1'='1",
    "x' union select user_id, null, null, null, null, null, null, null, true, false from {s}.user_name --",
    "\\'; drop schema {s} cascade; --",
    "\\",
    "$$; drop table {s}.log; $$",
    "%s %(message_id)s %%",
    "{{ 7 * 7 }}{% raw %}",
    "{{ conn.redshift_default.password }}",
    "{{ schema }}",
    "${{REDSHIFT_PWD}} $(id) `id`",
    "<!channel> <@U1> <https://evil.example|click> @here",
    '","user_id":"other"}',
    "x\\N",
    "../../../etc/passwd",
    "| 001 |",
)
"""What a sender may write into any field; ``{s}`` is the schema."""

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module", autouse=True)
def _collected():
    """Collect here what failed logins leave behind: redshift_connector does not close their sockets, and another test would be warned."""
    yield
    gc.collect()


class Nowhere:
    """A sink that keeps nothing."""

    def staged(self, data, rows):
        """Take rows."""

    def quarantined(self, data, events):
        """Take what could not be read."""


def hostile(schema):
    """Return the texts, aimed at a schema."""
    return [text.replace("{s}", schema) for text in HOSTILE]


# -- what comes from outside stays data --------------------------------------------------------------------------


def test_hostile_events_are_loaded_as_they_are_and_run_nothing(delivery):
    """They enter the warehouse by COPY alone; no statement is ever rendered with what they hold."""
    texts = hostile(delivery.schema)
    delivery.put("server", *(event(text, event=text, userId=text, type="track", properties={text: text}) for text in texts))
    delivery.s3.put_object(
        Bucket=delivery.name, Key=f"buffer/server/'; drop table {delivery.schema}.server; -- {{{{ 1 / 0 }}}} %s.jsonl", Body=event("file")
    )

    delivery.run("server", 0)

    found = delivery.rows("select message_id, event, user_id, json_serialize(properties) from {s}.server where message_id <> 'file'")
    assert sorted(row[:3] for row in found) == sorted((text, text, text) for text in texts)
    assert all(json.loads(row[3]) == {row[0]: row[0]} for row in found)
    assert set(delivery.names()) == {*texts, "u-file"}
    assert delivery.unbalanced() == []
    assert delivery.audit("server", minutes=10)["differences"] == {}
    assert delivery.run("server", 1) == []


def test_a_hostile_message_id_finds_the_event_of_that_id_alone(delivery):
    """polku_trace's message_id is typed by a person who copied it from an event: it is bound, never rendered; a blank more is another."""
    texts = [id_ for text in hostile(delivery.schema) for id_ in (text, f"{text} ")]
    delivery.put("server", *(event(text) for text in texts))
    delivery.run("server", 0)

    for text in texts:
        assert [one["outcome"] for one in delivery.trace(text, ranged=True)] == ["row"], text
    assert delivery.trace("' or true --") == []


def test_neither_a_rendered_statement_nor_a_log_holds_what_came_with_an_event(delivery, caplog, capfd):
    """What Airflow shows to whoever may look at a DAG has ids that our code made, times and counts."""
    caplog.set_level(logging.INFO)
    delivery.put(
        "server", event("mark-id", event="mark-event", userId="mark-user", properties={"mark-key": "mark-value"}), b"mark-broken {"
    )
    delivery.run("server", 0, load=False)
    operator = Delivery._operator("LoadOperator", source="server")
    books = operator.execute(delivery.context(0, "load"))

    assert [book["received"] for book in books] == [2]
    shown = json.dumps([operator.sql, delivery.xcom["server", 0], books], default=str)
    assert "insert into" in shown
    assert "mark-" not in shown + caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("add column number integer generated always as (cast(user_id as integer)) stored", "Invalid digit, Value '…', Pos 0"),
        ("add constraint numbered check (length(user_id) < 5)", "23514 new row for relation"),
    ],
    ids=["its text quotes the value", "its detail quotes the row"],
)
def test_a_refusal_by_redshift_is_told_without_the_values_that_it_quotes(
    delivery, redshift, slack, sentry, caplog, monkeypatch, rule, told
):
    """Code and reason reach the log, the checkpoint, Slack and Sentry, also by the driver's own error in the chain; the event does not."""
    from airflow.sdk.exceptions import AirflowFailException

    from polku import connections, tasks
    from polku import sentry as reports
    from polku.redshift import sorted_errors

    caplog.set_level(logging.INFO)
    given = {"SENTRY_DSN": sentry.dsn, "SLACK_API_URL": slack.url, "SLACK_TOKEN": slack.token, "SLACK_CHANNEL": slack.channel().name}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with redshift._postgres.connect(redshift.database) as underneath:
        underneath.execute(f"alter table {delivery.schema}.user_name {rule}")
    user = 'mark-user\'s "own" mark-rest'
    delivery.put("server", event("mark-id", userId=user, properties={"mark-key": "mark-value"}))

    with pytest.raises((AirflowFailException, PolkuError)) as failed:
        delivery.run("server", 0)
    with pytest.raises(PolkuError) as refused, sorted_errors(), closing(connections.redshift(Settings.from_env(os.environ))) as connection:
        connection.cursor().execute(f"insert into {delivery.schema}.user_name values (%s, 'x', sysdate, 'b', 'm')", (user,))
    for number, caught in enumerate((failed, refused)):
        ti = SimpleNamespace(id=str(number), dag_id="polku_server", task_id="load", run_id="r", try_number=1, map_index=number)
        assert reports.on_failure({"exception": caught.value, "ti": ti})
    tasks.watch.function()

    places = {
        "load": as_a_tasks_log_has_it(failed.value),
        "chain": as_a_tasks_log_has_it(refused.value),
        "sentry": str([error["value"] for one in sentry.events for error in one.get("exception", {}).get("values", ())]),
        "log": caplog.text,
        "state": "".join(_state(delivery)),
        "slack": str([message.text for message in slack.messages]),
    }
    assert [where for where, text in places.items() if "mark" in text] == []
    held = set() if told.startswith("Invalid digit") else {"log", "state", "slack"}  # what has no code may pass: it is tried again first
    assert {where for where, text in places.items() if told in text} == {"load", "chain", "sentry"} | held
    assert "ProgrammingError" in places["chain"]


def as_a_tasks_log_has_it(error):
    """Return the errors of a chain as Airflow's log of a task has them: of each its type and its text."""
    chain = ExceptionDictTransformer(use_rich=False, show_locals=False)((type(error), error, error.__traceback__))
    return json.dumps(chain, ensure_ascii=False)


def test_a_forged_receipt_cannot_break_out_of_its_statement():
    """Counts by reason are the only texts of a receipt that are rendered; whoever may write state/ is still not an owner of the tables."""
    template = (sql.folder() / "load" / "21_fill_loading.sql").read_text(encoding="utf-8")
    batch = SimpleNamespace(**dict.fromkeys(("id", "source", "first_arrival", "last_arrival", "quarantine_level"), "x"))
    for name in ("generation", "received", "quarantined", "repaired", "bytes", "gap_seconds"):
        setattr(batch, name, 0)
    batch.reasons = dict.fromkeys(hostile("s"), 1)

    text = (
        Delivery._operator("LoadOperator", source="server")
        .get_template_env()
        .from_string(template)
        .render(load=SimpleNamespace(batches=[batch]))
    )

    assert text.count("'") == 2 * text.count("'x'") + 2
    assert not re.search(r"\\(\\\\)*'", text)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("schema: polku_poc", 'schema: "x; drop schema y"'),
        ("schema: polku_poc", "schema: 'x\"y'"),
        ("iam_role: ", "iam_role: \"default' csv '\" # "),
        ("iam_role: ", 'iam_role: "arn:aws:iam::123456789012:role/x\'; drop table y; --" # '),
        ("bucket: ", 'bucket: "b\'; drop table x; --" # '),
        ("region: ", 'region: "evil.example/" # '),
        ("buffer_prefix: buffer/server/", "buffer_prefix: raw/"),
        ("stream: polku-{{ stage | lower }}-server", 'stream: "a\' b"'),
    ],
)
def test_a_parameter_that_could_break_out_of_its_statement_is_refused(tmp_path, parameter, value):
    """Schema, role and bucket are rendered into SQL; each has a pattern without quotes."""
    text = (ROOT / "parameters.yaml.j2").read_text(encoding="utf-8")
    assert parameter in text
    path = tmp_path / "parameters.yaml.j2"
    path.write_text(text.replace(parameter, value, 1), encoding="utf-8")

    with pytest.raises(SettingsError, match="expected"):
        Settings.from_env({"POLKU_PARAMETERS": str(path)})


@pytest.mark.parametrize("text", hostile("s"))
def test_only_what_our_code_made_is_a_batch_or_a_source(text):
    """Batch ids and sources are rendered into SQL and object names."""
    with pytest.raises(ValueError, match="expected"):
        Batch.parse(text)
    with pytest.raises(ValueError, match="expected"):
        Batch.parse(f"server/2026-11-23T10:41:00Z{text}")
    with pytest.raises(SettingsError, match="expected"):
        Tables(None, {}, "polku_poc", text)


def test_reasons_of_quarantine_are_words_of_ours():
    """They are rendered into the books; what is wrong with an event in its own words stays in the quarantine object."""
    texts = [*(text.encode() for text in hostile("s")), *(json.dumps({"event": {"type": text}}).encode() for text in hostile("s"))]
    count = len(texts)
    block = Block(shard="s@1/shardId-0", sequences=[str(i) for i in range(count)], arrivals=[1_700_000_000_000] * count, data=texts)
    frame = pack(block)
    raw = RawObject(key="raw/x", size=len(frame), records=count, first_arrival=1, last_arrival=1)
    rules = transform.Rules(source="server", batch_id="server/2026-11-23T10:41:00Z", translate=True, shared=True)

    tally = transform.transform([(raw, io.BytesIO(frame))], rules, lambda _: {}, Nowhere())

    assert [reason for reason in REASONS if not re.fullmatch(r"[a-z0-9_]+", reason)] == []
    assert tally.quarantined
    assert set(tally.reasons) <= set(REASONS)


def test_a_name_that_does_not_fit_is_not_quoted_in_the_log(caplog):
    """How many there are is told; whose they are is personal data."""
    data = event("a", userId="mark-user")
    frame = pack(Block(shard="s@1/shardId-0", sequences=["1"], arrivals=[1_700_000_000_000], data=[data]))
    raw = RawObject(key="raw/x", size=len(frame), records=1, first_arrival=1, last_arrival=1)
    rules = transform.Rules(source="server", batch_id="server/2026-11-23T10:41:00Z", translate=True, shared=False)

    transform.transform([(raw, io.BytesIO(frame))], rules, lambda ids: dict.fromkeys(ids, "mark-name" * 100), Nowhere())

    assert "1 names of the directory do not fit" in caplog.text
    assert "mark" not in caplog.text


@pytest.fixture(scope="module")
def dags():
    """Every DAG of the product, by id, as Airflow reads them."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=str(ROOT / "dags"), include_examples=False).dags


def test_what_a_trigger_may_say_is_typed_and_bounded(dags):
    """Airflow checks a run's conf against these before a task runs."""
    params = {(dag_id, name): dag.params.get_param(name) for dag_id, dag in dags.items() for name in dag.params}

    assert {name for _, name in params} >= {"note", "message_id", "source", "drain_max_mbs"}
    for where, param in params.items():
        kinds = param.schema["type"]
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if "string" in kinds:
            assert "enum" in param.schema or "format" in param.schema or "maxLength" in param.schema, where
        if "integer" in kinds:
            assert "minimum" in param.schema, where
            assert "maximum" in param.schema, where


@pytest.mark.parametrize(
    ("dag_id", "name", "value"),
    [
        ("polku_trace", "source", "server'; drop table x; --"),
        ("polku_audit", "source", "server as t; --"),
        ("polku_audit", "max_shown", "1; drop"),
        ("polku_trace", "message_id", {"a": 1}),
        ("polku_trace", "message_id", ""),
        ("polku_server", "drain_max_mbs", "64"),
        ("polku_server", "drain_max_seconds", 10**9),
        ("polku_server", "dry_run", "no"),
        ("polku_server", "note", "x" * 501),
    ],
)
def test_a_conf_of_another_kind_is_refused(dags, dag_id, name, value):
    """The trigger form and the API hold a conf to the same schema."""
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        dags[dag_id].params.get_param(name).resolve(value=value)


# -- secrets stay where they are ---------------------------------------------------------------------------------


SECRETS = {
    "SLACK_TOKEN": "xoxb-4b1e-the-token-of-slack",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI7the/secret+of/aws",
    "AWS_SESSION_TOKEN": "IQoJb3JpZ2luthe-session-of-aws",
    "AIRFLOW_CONN_NAMES_DEFAULT": "postgresql://names:s3cret-of-names@127.0.0.1:9/names",
}


@pytest.fixture
def secrets(delivery, redshift, slack, sentry, monkeypatch):
    """Give every secret a value of its own, and return those values."""
    values = {**SECRETS, "SENTRY_DSN": sentry.dsn, "SLACK_API_URL": slack.url, "SLACK_CHANNEL": slack.channel().name}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    slack.token = SECRETS["SLACK_TOKEN"]
    return [redshift.password, sentry.dsn, "s3cret-of-names", *(value for name, value in SECRETS.items() if not name.startswith("AIRFLOW"))]


def shown_in(text, secrets):
    """Return the secrets that stand in a text, as they are or as JSON has them."""
    return [secret for secret in secrets if secret in text or json.dumps(secret)[1:-1] in text]


def test_no_secret_is_in_logs_rendered_sql_xcom_tables_or_slack(delivery, slack, secrets, caplog, capfd):
    """A whole delivery with every logger at its most talkative."""
    from polku import tasks

    caplog.set_level(logging.DEBUG)
    delivery.put("server", event("a"), b"broken {")
    delivery.run("server", 0, load=False)
    operator = Delivery._operator("LoadOperator", source="server")
    results = [delivery.xcom, operator.execute(delivery.context(0, "load")), operator.sql]
    results += [delivery.audit("server", minutes=10), delivery.trace("a", ranged=True), tasks.watch.function(), tasks.notify.function()]

    assert slack.messages
    log = caplog.text + "".join(capfd.readouterr())
    assert "Committed server" in log
    told = {
        "log": log,
        "results": json.dumps([str(result) for result in results]),
        "tables": str([delivery.rows(f"select * from {{s}}.{table}") for table in ("server", "log", "batch", "rejected", "user_name")]),
        "slack": str([message.text for message in slack.messages]),
        "bucket": "".join(_state(delivery)),
        "settings": repr(Settings.from_env(os.environ)),
    }
    assert {where: shown_in(text, secrets) for where, text in told.items() if shown_in(text, secrets)} == {}


def _state(delivery):
    for page in delivery.s3.get_paginator("list_objects_v2").paginate(Bucket=delivery.name, Prefix="state/"):
        for found in page.get("Contents", ()):
            yield delivery.s3.get_object(Bucket=delivery.name, Key=found["Key"])["Body"].read().decode()


@pytest.mark.parametrize("wrong", ["REDSHIFT_PWD", "SLACK_TOKEN", "AIRFLOW_CONN_NAMES_DEFAULT"])
def test_a_secret_that_is_wrong_is_not_quoted_by_the_failure(delivery, sentry, secrets, caplog, monkeypatch, wrong):
    """Failed logins are where secrets leak: into the log, the exception, and from there to Sentry with every frame's variables."""
    from airflow.sdk.exceptions import AirflowException

    from polku import sentry as reports
    from polku import tasks
    from polku.errors import PolkuError

    caplog.set_level(logging.DEBUG)
    delivery.put("server", event("a"))
    if wrong == "AIRFLOW_CONN_NAMES_DEFAULT":
        delivery.configure(**{"directory: generated": "directory: table"})
    else:
        delivery.run("server", 0)
        monkeypatch.delenv("AIRFLOW_CONN_REDSHIFT_DEFAULT")
        monkeypatch.delenv("AIRFLOW_CONN_SLACK_DEFAULT", raising=False)
        monkeypatch.setenv(wrong, "xoxb-Wr0ng-but-still-a-secret")
        secrets.append("xoxb-Wr0ng-but-still-a-secret")

    with pytest.raises((AirflowException, PolkuError)) as caught:
        delivery.run("server", 0) if wrong == "AIRFLOW_CONN_NAMES_DEFAULT" else tasks.notify.function()
    ti = SimpleNamespace(id="1", dag_id="polku_notify", task_id="notify", run_id="r", try_number=1, map_index=-1)
    assert reports.on_failure({"exception": caught.value, "ti": ti})

    told = {"log": caplog.text, "error": repr(caught.value) + str(caught.value.__cause__), "sentry": json.dumps(sentry.events)}
    assert sentry.events
    assert {where: shown_in(text, secrets) for where, text in told.items() if shown_in(text, secrets)} == {}


@pytest.mark.parametrize(
    "value",
    [
        "redshift://polku:s3cret%2Fof%40conn@host:5439/db",
        "slack://:s3cret%2Fof%40conn@",
        "aws://AKIA:x@/?region_name=eu-west-1&aws_session_token=s3cret%2Fof%40conn",
        json.dumps({"conn_type": "redshift", "login": "polku", "password": "s3cret/of@conn", "extra": {"ssl": True}}),
        json.dumps({"conn_type": "aws", "login": "AKIA", "extra": {"aws_session_token": "s3cret/of@conn"}}),
        json.dumps({"conn_type": "aws", "login": "AKIA", "extra": json.dumps({"aws_session_token": "s3cret/of@conn"})}),
        "not a connection: {",
    ],
)
def test_a_secret_of_a_connection_is_taken_out_of_a_report(monkeypatch, value):
    """Where a connection holds the password, no variable has it as its value."""
    from polku import sentry as reports

    monkeypatch.setenv("AIRFLOW_CONN_SOMETHING", value)

    event = reports.scrub({"message": "the driver said s3cret/of@conn today and polku was there"})

    assert ("s3cret" in event["message"]) == value.startswith("not")
    assert "polku was there" in event["message"]


def test_nobody_is_called_by_what_an_event_holds(delivery, slack, secrets):
    """A user id can be anything; in Slack it is text."""
    from polku import tasks

    delivery.put("server", *(event(f"e{i}", userId=text) for i, text in enumerate(hostile(delivery.schema))))
    delivery.run("server", 0)
    tasks.notify.function()

    text = "\n".join(message.text for message in slack.messages)
    assert "New user: " in text
    assert not re.search(r"<[!@#h]|@here|@channel|@everyone", text)


# -- the local stack ---------------------------------------------------------------------------------------------


BUILT = {
    "local.aws.AwsServer": lambda _: _new("local.aws", "AwsServer"),
    "local.kinesis.KinesisServer": lambda _: _new("local.kinesis", "KinesisServer"),
    "local.slack.SlackServer": lambda _: _new("local.slack", "SlackServer"),
    "local.sentry.SentryServer": lambda _: _new("local.sentry", "SentryServer"),
    "local.api.ApiServer": lambda _: ApiServer(streams={"server": "s"}, kinesis_url="http://127.0.0.1:9"),
    "local.redshift.server.RedshiftServer": lambda request: request.getfixturevalue("redshift"),
}
"""How each server is made."""


def _new(module, name):
    return getattr(importlib.import_module(module), name)()


def servers():
    """Return every server class of the local stack."""
    found = set()
    for info in pkgutil.walk_packages(local.__path__, "local."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        found |= {
            f"{cls.__module__}.{name}"
            for name, cls in inspect.getmembers(module, inspect.isclass)
            if name.endswith("Server") and cls.__module__ == info.name and name != "LoopbackServer"
        }
    return found


def test_every_local_server_is_known_here():
    """A new one is held to loopback from its first day."""
    assert servers() == set(BUILT)


@pytest.mark.skipif(sys.platform != "linux", reason="lists the sockets of all processes")
@pytest.mark.parametrize("name", sorted(BUILT))
def test_a_local_server_listens_on_this_machine_alone(name, request):
    """Its passwords are written in the README."""
    server = BUILT[name](request)
    if name.endswith("RedshiftServer"):
        _assert_loopback({server.port, server._postgres.port})
        return
    with server:
        _assert_loopback({int(re.search(r":(\d+)", server.url)[1])})


def _assert_loopback(ports):
    listening = [
        found.laddr for found in psutil.net_connections("inet") if found.status == psutil.CONN_LISTEN and found.laddr.port in ports
    ]
    assert {address.port for address in listening} == ports
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_nothing_in_the_local_stack_names_every_interface():
    """Neither in Python nor in what it writes for others."""
    files = [*(ROOT / "local").rglob("*.py"), ROOT / "Makefile", *(ROOT / "tests" / "crash").glob("*.py")]

    assert [
        str(path) for path in files if re.search(r"0\.0\.0\.0|INADDR_ANY|listen_addresses\W+\*", path.read_text(encoding="utf-8"))
    ] == []


def test_the_front_door_refuses_a_key_of_half_characters():
    """A key that is no text is a wrong key, not a failure."""
    with (
        ApiServer(streams={"server": "s"}, kinesis_url="http://127.0.0.1:9") as api,
        socket.create_connection(("127.0.0.1", api.port)) as door,
    ):
        body = b'{"writeKey": "\\ud800", "type": "track"}'
        door.sendall(b"POST /server HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        answer = door.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 403 ")
