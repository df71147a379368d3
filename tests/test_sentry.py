"""Failures reach Sentry once each, tagged, and without what must not leave: seen at the local Sentry."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import textwrap
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
import sentry_sdk

from local.sentry import SentryServer
from polku import sentry
from polku.batches import Batch
from polku.errors import RefusedLoad, SettingsError

AT = datetime(2026, 11, 23, 10, 41, tzinfo=timezone.utc)
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def server(monkeypatch):
    """A Sentry that SENTRY_DSN names."""
    with SentryServer() as running:
        monkeypatch.setenv("SENTRY_DSN", running.dsn)
        yield running


@pytest.fixture
def airflows_client(server):
    """The process's own client, as Airflow initialises it; gone afterwards."""
    with sentry_sdk.isolation_scope(), sentry_sdk.new_scope():
        sentry_sdk.init(dsn=server.dsn, traces_sample_rate=0)
        yield sentry_sdk.get_client()
        sentry_sdk.flush(2)
        sentry_sdk.get_client().close(timeout=1)
        sentry_sdk.get_global_scope().set_client(None)


def context_of(exception=None, **changes):
    """Return what Airflow gives to a callback."""
    ti = {
        "id": "0198-uuid",
        "dag_id": "polku_server",
        "run_id": "scheduled__1",
        "task_id": "drain",
        "map_index": 2,
        "try_number": 3,
        **changes,
    }
    dag_run = SimpleNamespace(logical_date=AT, run_after=AT, run_id=ti["run_id"])
    return {"ti": SimpleNamespace(**ti), "dag_run": dag_run, "exception": exception}


def raised(error):
    """Return an error that was raised where a secret and an event are at hand."""
    secret_password, event = "hunter2-hunter2", {"userId": "u1", "email": "ada@example.com"}  # noqa: F841
    try:
        raise error
    except type(error) as caught:
        return caught


def test_a_failed_try_arrives_with_all_its_tags(server):
    """What a person needs to find the run."""
    event_id = sentry.on_failure(context_of(raised(SettingsError("REDSHIFT_PORT is 'abc'; expected 1 to 65535."))))

    [event] = server.events
    assert event["event_id"] == event_id
    assert event["tags"] == {
        "dag_id": "polku_server",
        "run_id": "scheduled__1",
        "task_id": "drain",
        "map_index": "2",
        "try_number": "3",
        "source": "server",
        "batch": "server/2026-11-23T10:41:00Z",
    }
    assert event["exception"]["values"][-1]["type"] == "SettingsError"
    assert event["exception"]["values"][-1]["value"] == "REDSHIFT_PORT is 'abc'; expected 1 to 65535."
    assert event["level"] == "error"


def failing(cause, number):
    """Raise as a task does: an error of ours over one of the driver's."""
    try:
        raise cause
    except type(cause) as error:
        raise SettingsError(f"Redshift refused {number} of {number + 1} batches at {datetime.now(timezone.utc)}") from error


def test_failures_with_the_same_cause_share_an_issue(server):
    """An hour without Redshift is one issue for a task, not sixty; texts with numbers and times do not tell causes apart."""
    for number, cause in enumerate((OSError("reset"), ConnectionRefusedError("refused"), RuntimeError({"C": "42501", "M": "denied"}))):
        for again in range(2):
            with pytest.raises(SettingsError) as caught:
                failing(cause, number + again)
            sentry.on_failure(context_of(caught.value, run_id=f"run-{number}-{again}"))

    prints = [tuple(event["fingerprint"]) for event in server.events]
    assert len(prints) == 6
    assert prints[0] == ("polku-failure", "polku_server", "drain", "SettingsError")
    assert len(set(prints)) == 2
    assert prints[-1] == (*prints[0], "42501")


def test_a_task_of_another_dag_has_no_batch(server):
    """polku_notify and polku_migrate work on none; a manual run without a logical date has a batch by its run_after."""
    manual = context_of(raised(ValueError("x")), map_index=-1)
    manual["dag_run"].logical_date = None

    assert "batch" not in sentry.tags(context_of(dag_id="polku_notify"))
    assert "map_index" not in sentry.tags(manual)
    assert sentry.tags(manual)["batch"] == "server/2026-11-23T10:41:00Z"


def test_a_callback_that_runs_twice_reports_once(server):
    """The worker's and the DAG processor's callback may both run; the next try is another report."""
    for number in (1, 1, 2):
        sentry.on_failure(context_of(raised(ValueError("x")), try_number=number))

    assert [event["tags"]["try_number"] for event in server.events] == ["1", "2"]
    assert server.duplicates == 1


def test_a_worker_that_vanished_is_reported_without_an_exception(server):
    """The DAG processor knows only a reason, and not always that."""
    sentry.on_failure({"ti": context_of()["ti"], "reason": "Task did not emit heartbeat within time limit"})
    sentry.on_failure({"run_id": "scheduled__1", "dag": SimpleNamespace(dag_id="polku_client")})

    assert server.events[0]["message"] == "Task drain failed: Task did not emit heartbeat within time limit"
    assert server.events[1]["tags"] == {"dag_id": "polku_client", "run_id": "scheduled__1", "source": "client"}


def test_without_a_dsn_nothing_happens(monkeypatch):
    """Silently off: not even the library is used."""
    monkeypatch.setenv("SENTRY_DSN", "")

    assert sentry.on_failure(context_of(raised(ValueError("x")))) is None
    assert sentry.warn_quarantine(Batch("server", AT), {"not_json": 1}) is None


def test_a_dsn_that_is_none_does_not_hide_the_failure(monkeypatch):
    """A callback that raises would show in Airflow's log in place of what matters."""
    monkeypatch.setenv("SENTRY_DSN", "https://not a dsn")

    assert sentry.on_failure(context_of(raised(ValueError("x")))) is None


def test_local_variables_and_command_lines_stay_here(server):
    """The frames of a failing task hold events, settings and tokens."""
    sentry.on_failure(context_of(raised(ValueError("x"))))

    [event] = server.events
    frames = [frame for value in event["exception"]["values"] for frame in value["stacktrace"]["frames"]]
    assert frames
    assert not any("vars" in frame for frame in frames)
    assert "extra" not in event or "sys.argv" not in event["extra"]
    assert "hunter2" not in json.dumps({**event, "exception": None})


@pytest.mark.parametrize(
    ("message", "left"),
    [
        pytest.param("token xoxb-12345-abcdef is bad", "token [Filtered] is bad", id="Slack token"),
        pytest.param("key AKIAIOSFODNN7EXAMPLE is unknown", "key [Filtered] is unknown", id="AWS key id"),
        pytest.param(
            "cannot connect to redshift://polku:s3cret@host:5439/db", "cannot connect to redshift://[Filtered]@host:5439/db", id="URL"
        ),
        pytest.param("password=s3cret host=a", "password=[Filtered] host=a", id="DSN of libpq"),
        pytest.param("sent Authorization: Bearer abcdefgh12345", "sent Authorization: [Filtered] [Filtered]", id="header"),
        pytest.param("GET /b/k?X-Amz-Signature=abc123&x=1", "GET /b/k?X-Amz-Signature=[Filtered]&x=1", id="presigned URL"),
        pytest.param("login as ada@example.com failed", "login as [email] failed", id="e-mail"),
        pytest.param('bad event {"name": "Ada Lovelace"}', "bad event {\"name\": '…'}", id="a person's name"),
        pytest.param('relation "polku_poc.server" does not exist', 'relation "polku_poc.server" does not exist', id="a table's name stays"),
        pytest.param(
            "{'S': 'ERROR', 'C': '22007', 'M': 'invalid input syntax: \"1815-12-10\"', 'D': 'Ada'}",
            "22007 invalid input syntax: '…'",
            id="data error",
        ),
        pytest.param(
            "{'S': 'ERROR', 'C': '42P01', 'M': 'relation \"a\" does not exist'}", '42P01 relation "a" does not exist', id="SQL error"
        ),
        pytest.param("x" * 5000, "x" * 1000 + "…", id="very long"),
    ],
)
def test_a_message_keeps_its_sense_and_loses_secrets_and_data(server, message, left):
    """By patterns, in every exception of the chain."""
    cause = raised(ValueError(message))
    error = raised(RuntimeError("outer"))
    error.__cause__ = cause

    sentry.on_failure(context_of(error))

    values = {value["type"]: value["value"] for value in server.events[0]["exception"]["values"]}
    assert values == {"ValueError": left, "RuntimeError": "outer"}


def test_a_load_that_was_refused_does_not_quote_the_row(server):
    """Redshift's data errors show values, in our own error too."""
    sentry.on_failure(context_of(raised(RefusedLoad("22001 value too long: 'ada' for type character varying(2)"))))

    assert server.events[0]["exception"]["values"][-1]["value"] == "22001 value too long: '…' for type character varying(2)"


def test_what_is_secret_in_the_environment_is_replaced_wherever_it_is(server, monkeypatch):
    """Whatever its form, also in a tag."""
    monkeypatch.setenv("REDSHIFT_PWD", "correct horse")
    monkeypatch.setenv("SLACK_TOKEN", "plain-looking")

    sentry.on_failure(context_of(raised(ValueError("login with correct horse failed")), run_id="manual plain-looking"))

    whole = json.dumps(server.events)
    assert "correct horse" not in whole
    assert "plain-looking" not in whole
    assert server.events[0]["exception"]["values"][-1]["value"] == "login with [Filtered] failed"


def test_quarantine_is_one_warning_a_batch_with_counts_by_reason(server):
    """Sent again for the same counts it is the same event."""
    for _ in range(2):
        sentry.warn_quarantine(Batch("client", AT), {"not_json": 3, "user_id_missing": 1}, received=100)
    sentry.warn_quarantine(Batch("client", AT), {}, received=100)

    [event] = server.events
    assert event["level"] == "warning"
    assert event["tags"] == {"source": "client", "batch": "client/2026-11-23T10:41:00Z"}
    assert event["contexts"]["quarantine"] == {"quarantined": 4, "received": 100, "not_json": 3, "user_id_missing": 1}


def test_where_airflow_has_reported_it_is_not_reported_again(server, airflows_client):
    """Airflow 3.3 with [sentry] sentry_on captures the exception, then calls our callback; ``enrich`` has tagged and scrubbed its event."""
    error = raised(ValueError("token xoxb-12345-abcdef"))
    sentry.enrich(context_of())
    sentry_sdk.capture_exception(error)

    sentry.on_failure(context_of(error))
    sentry_sdk.flush(2)

    [event] = server.events
    assert event["tags"]["batch"] == "server/2026-11-23T10:41:00Z"
    assert event["exception"]["values"][-1]["value"] == "token [Filtered]"
    assert not any("vars" in frame for value in event["exception"]["values"] for frame in value["stacktrace"]["frames"])


def test_where_airflow_has_initialised_sentry_but_not_reported_we_do(server, airflows_client):
    """Airflow 3.2 with sentry_on: through the client that is there."""
    sentry.enrich(context_of())

    sentry.on_failure(context_of(raised(ValueError("x"))))

    assert [event["tags"]["try_number"] for event in server.events] == ["3"]


def test_with_airflows_own_reporting_on_a_failed_try_arrives_once(server, tmp_path):
    """The Airflow that is installed: 3.2 initialises Sentry and reports nothing, 3.3 reports before our callback does."""
    script = textwrap.dedent("""
        import sys, types, datetime
        sys.path.insert(0, "plugins")
        from airflow.sdk.execution_time.sentry.configured import ConfiguredSentry
        from polku import sentry

        class Airflow(ConfiguredSentry):
            def add_breadcrumbs(self, *args, **kwargs):
                "Asks the supervisor, and there is none."

        def run(ti, context, log):
            sentry.enrich(context)
            try:
                raise ValueError("token xoxb-12345-abcdef")
            except ValueError as error:
                return "failed", None, error

        at = datetime.datetime(2026, 11, 23, 10, 41, tzinfo=datetime.timezone.utc)
        facts = dict(id="1", dag_id="polku_server", run_id="r", task_id="t", try_number=1, map_index=-1)
        facts.update(task=object(), sentry_integration="")
        dag_run = types.SimpleNamespace(logical_date=at, run_after=at, data_interval_start=at, data_interval_end=at)
        context = {"ti": types.SimpleNamespace(**facts), "dag_run": dag_run}
        context["exception"] = Airflow().enrich_errors(run)(context["ti"], context, None)[2]
        sentry.on_failure(context)
    """)
    kept = {"SENTRY_DSN": server.dsn, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__SENTRY__SENTRY_ON": "True", "HOME": str(tmp_path)}

    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=kept, timeout=60, check=True)

    [event] = server.events
    assert event["tags"]["batch"] == "server/2026-11-23T10:41:00Z"
    assert event["exception"]["values"][-1]["value"] == "token [Filtered]"
    assert not any("vars" in frame for value in event["exception"]["values"] for frame in value["stacktrace"]["frames"])


def test_reporting_leaves_the_process_without_a_client(server):
    """Other code's logs and errors must not go to Sentry by accident."""
    sentry.on_failure(context_of(raised(ValueError("x"))))

    assert not sentry_sdk.get_client().is_active()


@pytest.mark.parametrize("fault", ["ratelimited", "500", "cut_before", "timeout_before"])
def test_a_sentry_that_misbehaves_does_not_disturb_the_task(server, monkeypatch, fault):
    """The failing task goes on failing as it was."""
    monkeypatch.setattr(sentry, "FLUSH_SECONDS", 0.5)
    monkeypatch.setattr(sentry, "AWAY_SECONDS", 0)
    server.fault(fault, -1)

    sentry.on_failure(context_of(raised(ValueError("x"))))

    assert server.events == []


def test_a_process_that_reports_to_nobody_waits_once_and_ends():
    """A listener that never answers: a load with quarantined events in many batches, and the failure behind it, wait for the bound once."""
    script = textwrap.dedent("""
        import sys, types
        from datetime import datetime, timezone
        sys.path.insert(0, "plugins")
        from polku import sentry
        from polku.batches import Batch
        sentry.FLUSH_SECONDS = 0.5
        for minute in range(60):
            sentry.warn_quarantine(Batch("server", datetime(2026, 11, 23, 10, minute, tzinfo=timezone.utc)), {"not_json": 1})
        ti = types.SimpleNamespace(dag_id="polku_server", run_id="r", task_id="t", try_number=1, map_index=-1)
        sentry.on_failure({"ti": ti, "exception": ValueError("x")})
        print("ended")
    """)
    asked = 0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"http://key@127.0.0.1:{silent.getsockname()[1]}/1"
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=ROOT, env={"SENTRY_DSN": dsn}, timeout=60, capture_output=True, text=True, check=True)
        silent.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                asked += 1

    assert done.stdout == "ended\n"
    assert asked == 1


def test_importing_it_does_not_load_the_sdk():
    """DAG files import it at every parse."""
    script = "import sys; sys.path.insert(0, 'plugins'); import polku.sentry; print('sentry_sdk' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60, capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
