"""The policy that every DAG keeps, on whichever Airflow runs this."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAGS = {"polku_server", "polku_client", "polku_notify", "polku_migrate", "polku_watch", "polku_audit", "polku_trace"}
SOURCES = {"polku_server", "polku_client"}
WATCHER = "turn_red_if_anything_failed"


def airflow(script, tmp_path, **environment):
    """Run a script where Airflow would run, with the addresses that parsing may look at alone; return what it prints as JSON."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/nothing.db",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=env, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def dags(tmp_path_factory):
    """Every DAG of the folder, as Airflow's own DagBag reads them."""
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
    patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    patch.syspath_prepend(str(ROOT))
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "dags"))
    yield bag
    patch.undo()


def tasks_of(bag):
    return [(dag, task) for dag in bag.dags.values() for task in dag.tasks]


def test_every_dag_is_there_and_no_other(dags):
    """A DAG that no longer imports is not deployed, and nobody is told."""
    assert dags.import_errors == {}
    assert set(dags.dags) == DAGS
    assert {path.name for path in (ROOT / "dags").glob("*.py")} == {
        "polku_events.py",
        "polku_notify.py",
        "polku_migrate.py",
        "polku_watch.py",
        "polku_audit.py",
        "polku_trace.py",
    }


def test_every_dag_says_who_owns_it_and_what_to_do_with_it(dags):
    """The person who is woken has not written it."""
    for dag in dags.dags.values():
        assert dag.doc_md, dag.dag_id
        for word in ("**Needs**", "**Safe**", "red"):
            if dag.dag_id != "polku_migrate" or word != "**Needs**":
                assert word in dag.doc_md, (dag.dag_id, word)
        assert dag.description, dag.dag_id
        assert "polku" in dag.tags, dag.dag_id
        assert dag.owner == "polku", dag.dag_id


def test_every_dag_is_explicit_about_time(dags):
    """A cron string gives empty intervals; a start date that moves makes a new version at every parse."""
    for dag in dags.dags.values():
        assert dag.catchup is False, dag.dag_id
        assert dag.max_active_runs == 1, dag.dag_id
        assert dag.start_date.tzinfo is not None, dag.dag_id
        assert dag.start_date.isoformat() == "2026-01-01T00:00:00+00:00", dag.dag_id
        assert dag.dagrun_timeout >= timedelta(minutes=1), dag.dag_id
    assert {dag_id: type(dag.timetable).__name__ for dag_id, dag in dags.dags.items()} == {
        "polku_server": "CronTriggerTimetable",
        "polku_client": "CronTriggerTimetable",
        "polku_notify": "AssetOrTimeSchedule",
        "polku_migrate": "NullTimetable",
        "polku_watch": "CronTriggerTimetable",
        "polku_audit": "NullTimetable",
        "polku_trace": "NullTimetable",
    }


def test_every_task_is_retried_with_backoff_and_ends(dags):
    """A task without a limit hangs until somebody looks."""
    for dag, task in tasks_of(dags):
        where = f"{dag.dag_id}.{task.task_id}"
        assert task.execution_timeout, where
        assert task.execution_timeout <= dag.dagrun_timeout, where
        if task.task_id == WATCHER:
            assert task.retries == 0, where
            continue
        assert task.retries >= 2, where
        assert task.retry_exponential_backoff, where
        assert task.max_retry_delay, where


def test_every_failed_try_is_reported_once(dags):
    """A failure and a retry each have a callback; the task that only repeats a failure has none."""
    for dag, task in tasks_of(dags):
        for callbacks in (task.on_failure_callback, task.on_retry_callback):
            reporters = [callbacks] if callable(callbacks) else list(callbacks or [])
            assert [r.__module__ for r in reporters] == ([] if task.task_id == WATCHER else ["polku.sentry"]), (
                f"{dag.dag_id}.{task.task_id}"
            )


def test_what_a_run_may_be_told_is_typed_bounded_and_described(dags):
    """The trigger form is the manual that is read."""
    for dag_id in SOURCES:
        params = dags.dags[dag_id].params
        assert set(params) == {"dry_run", "drain_max_mbs", "drain_max_seconds", "note"}
        for name in params:
            param = params.get_param(name)
            assert param.description, (dag_id, name)
            assert param.schema["type"], (dag_id, name)


def test_an_audit_and_a_trace_must_be_told_what_to_look_at(dags):
    """A default would be audited by mistake, and be no answer."""
    params = {dag_id: dags.dags[dag_id].params for dag_id in ("polku_audit", "polku_trace")}

    assert {id_: set(given) for id_, given in params.items()} == {
        "polku_audit": {"source", "from", "to", "max_shown"},
        "polku_trace": {"source", "message_id", "from", "to", "show_event"},
    }
    assert {name for given in params.values() for name in given if not given.get_param(name).has_value} == {"from", "to", "message_id"}
    for given in params.values():
        for name in given:
            assert given.get_param(name).description, name
            assert given.get_param(name).schema["type"], name


def test_the_steps_are_wired_so_that_one_failure_stops_nothing_else(dags):
    """Commit and load run when all before them is done and something succeeded; the last task alone turns the run red."""
    for dag_id in SOURCES:
        dag = dags.dags[dag_id]
        assert set(dag.task_ids) == {"plan", "drain", "commit", "transform", "load", WATCHER}
        assert dag.get_task("commit").upstream_task_ids == {"plan", "drain"}
        assert dag.get_task("load").upstream_task_ids == {"commit", "transform"}
        assert dag.get_task(WATCHER).upstream_task_ids == {"plan", "drain", "commit", "transform", "load"}
        assert {task.task_id: task.trigger_rule.value for task in dag.tasks if task.trigger_rule.value != "all_success"} == {
            "commit": "all_done_min_one_success",
            "load": "all_done_min_one_success",
            WATCHER: "one_failed",
        }
        assert {task.task_id for task in dag.tasks if type(task).__name__ == "DecoratedMappedOperator"} == {"drain", "transform"}


def test_load_tells_assets_what_it_has_changed(dags):
    """Whoever reads the tables can be scheduled by them; notify is."""
    for source in ("server", "client"):
        load = dags.dags[f"polku_{source}"].get_task("load")
        assert {asset.name for asset in load.outlets} == {f"polku_poc.{source}", "polku_poc.log"}


def test_rendered_sql_is_shown_and_every_file_is_found(dags):
    """A missing file is only logged at parse time."""
    for dag_id, folder in (("polku_server", "load"), ("polku_client", "load"), ("polku_migrate", "migrate")):
        task = dags.dags[dag_id].get_task(folder)
        files = sorted((ROOT / "include" / "sql" / folder).glob("[0-9]*.sql"))
        assert "sql" in task.template_fields
        assert task.sql[: len(files)] == [file.read_text() for file in files]


def test_no_function_of_a_dag_file_needs_the_clock(dags):
    """A date of today in a DAG file makes a new version of it every day."""
    for path in (ROOT / "dags").glob("*.py"):
        source = path.read_text()
        for word in (".now(", "utcnow", "today(", "Variable.get", "time.time"):
            assert word not in source, (path.name, word)


SERIALIZE = """
import json
from airflow.dag_processing.dagbag import DagBag
try:
    from airflow.serialization.serialized_objects import DagSerialization as Serialized
except ImportError:
    from airflow.serialization.serialized_objects import SerializedDAG as Serialized
bag = DagBag({dags!r})
print(json.dumps({{id: Serialized.to_dict(dag) for id, dag in bag.dags.items()}}, sort_keys=True, default=str))
"""


def test_parsing_twice_gives_the_same_dags(tmp_path):
    """Airflow keeps a version of a DAG for each difference; two processes, so that no cache and no hash seed hides one."""
    script = SERIALIZE.format(dags=str(ROOT / "dags"))

    once, again = (airflow(script, tmp_path, PYTHONHASHSEED=seed) for seed in ("1", "2"))

    assert once.keys() == DAGS
    assert once == again


CLOSED = """
import json, runpy, socket, sqlite3, sys
import airflow
import airflow.sdk
before = set(sys.modules)
def refuse(*args, **kwargs): raise AssertionError(f"parsing reached out: {{args}}")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
from sqlalchemy.engine import Engine
Engine.connect = Engine.begin = refuse
for path in {paths!r}:
    runpy.run_path(path)
print(json.dumps(sorted(set(sys.modules) - before)))
"""
HEAVY = {
    "aws_kinesis_agg",
    "boto3",
    "botocore",
    "pandas",
    "psycopg",
    "psycopg2",
    "redshift_connector",
    "sentry_sdk",
    "slack_sdk",
    "zstandard",
}


def test_parsing_needs_no_network_no_database_and_no_heavy_library(tmp_path):
    """The DAG processor parses every file every few seconds."""
    script = CLOSED.format(paths=[str(path) for path in sorted((ROOT / "dags").glob("*.py"))])

    imported = airflow(script, tmp_path)

    assert {name.partition(".")[0] for name in imported} & HEAVY == set()


PLUGINS = """
import json, sys
import airflow
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
errors = plugins_manager.get_import_errors() if hasattr(plugins_manager, "get_import_errors") else plugins_manager.import_errors
loaded = [name for name, module in list(sys.modules.items()) if str(getattr(module, "__file__", None)).startswith({plugins!r})]
print(json.dumps([loaded, errors]))
"""


def test_airflow_imports_no_module_of_polku_under_a_bare_name(tmp_path):
    """Without .airflowignore it imports every file of plugins/ by its stem: our slack.py would stand before the library's."""
    loaded, errors = airflow(PLUGINS.format(plugins=str(ROOT / "plugins")), tmp_path)

    assert errors == {}
    assert [name for name in loaded if name.partition(".")[0] != "polku"] == []


def test_the_docstring_of_each_dag_file_is_its_manual(dags):
    """One text: what the file says is what the UI shows."""
    for dag in dags.dags.values():
        source = Path(dag.fileloc).read_text()
        assert inspect.cleandoc(source.split('"""')[1]) == inspect.cleandoc(dag.doc_md)
