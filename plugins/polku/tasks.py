"""
The tasks of the DAGs: each reads its settings, makes its clients, calls a step and says what was done.

Keys come from the run's identity, never from the clock; what is returned are counts and names, never data.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from polku import audit as audit_rules
from polku import batches, connections, investigation, kinesis, lookout, name_table, redshift, sentry, slack, sql, steps, tables
from polku.batches import Batch, Lane, Part
from polku.errors import SettingsError
from polku.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.sdk import Context

log = logging.getLogger(__name__)

MOST_HOURS = 1000
"""Hours that one run of polku_audit covers: Airflow maps a task at most 1,024 times."""


def defaults(settings: Settings) -> dict[str, Any]:
    """Return the default_args of every DAG: owner, retries with backoff, time limits, failure reporting."""
    return {
        "owner": settings.owner,
        "retries": settings.retries,
        "retry_delay": timedelta(seconds=settings.retry_seconds),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(seconds=settings.max_retry_seconds),
        "execution_timeout": timedelta(seconds=settings.task_timeout_seconds),
        "on_execute_callback": sentry.enrich,
        "on_failure_callback": sentry.on_failure,
        "on_retry_callback": sentry.on_failure,
    }


@contextmanager
def reactions() -> Iterator[None]:
    """Turn an error that a person must mend into one that Airflow does not retry."""
    try:
        yield
    except SettingsError as error:
        raise AirflowFailException(str(error)) from error


def run_of(source: str, context: Mapping[str, Any] | Context) -> steps.Run:
    """Return what the steps need to know of the run that Airflow is in."""
    settings = Settings.from_env(os.environ)
    dag_run = context["dag_run"]
    at = dag_run.logical_date or dag_run.run_after
    attempt = f"{context['ti'].try_number}-{uuid.uuid4().hex[:12]}"
    return steps.Run(batch=Batch.of(source, at), settings=settings, s3=connections.s3(settings), attempt=attempt)


@task
def plan(source: str, **context: Any) -> list[dict[str, Any]]:
    """Decide what there is to do; skip the run where that is nothing."""
    with reactions():
        run = run_of(source, context)
        dry = bool(context["params"].get("dry_run"))
        lanes = steps.plan(run, connections.streams(run.settings), write=not dry)
        if context["params"].get("note"):
            log.info("Note of this run: %s", context["params"]["note"])
        if not lanes:
            raise AirflowSkipException(f"{run.batch}: nothing waits in the buffer and nothing is pending")
        if dry:
            raise AirflowSkipException(f"{run.batch}: dry run; would work on {[batches.to_xcom(lane) for lane in lanes]}")
        return [batches.to_xcom(lane) for lane in lanes]


@task
def drain(source: str, lane: dict[str, Any], **context: Any) -> dict[str, Any]:
    """Copy one lane of the buffer to raw objects; return their names, counts and positions from and to."""
    with reactions():
        run = run_of(source, context)
        bounds, params = run.settings.drain, context["params"]
        limits = kinesis.Limits(
            max_bytes=int(params.get("drain_max_mbs") or bounds.max_mbs) << 20,
            max_seconds=float(params.get("drain_max_seconds") or bounds.max_seconds),
        )
        part = steps.drain(run, batches.from_xcom(lane, Lane), connections.streams(run.settings), limits)
        records = sum(raw.records for raw in part.objects)
        log.info(
            "Drained lane %s of %s: %d records and %d files in %d raw objects, %d bytes",
            part.name,
            run.batch,
            records,
            len(part.files),
            len(part.objects),
            sum(raw.size for raw in part.objects),
        )
        return batches.to_xcom(part)


@task(trigger_rule="all_done_min_one_success")
def commit(source: str, parts: Sequence[dict[str, Any] | None], **context: Any) -> list[dict[str, Any]]:
    """Make the batch of the lanes that succeeded, and hand out the parts that are to be transformed."""
    with reactions():
        run = run_of(source, context)
        due = steps.make_batch(run, [batches.from_xcom(part, Part) for part in parts if part])
        return [batches.to_xcom(one) for one in due]


@task
def transform(source: str, part: dict[str, Any], **context: Any) -> dict[str, Any] | None:
    """Turn a part's raw objects into staged and quarantined ones; return its counts."""
    with reactions():
        run = run_of(source, context)
        due = batches.from_xcom(part, steps.Due)
        receipt = steps.transform_part(run, due, _directory(run.settings))
        return batches.to_xcom(receipt.tally) if receipt else None


@task
def notify() -> dict[str, Any]:
    """Forward the log's waiting rows to Slack; return what was done, in rows and messages."""
    with reactions(), redshift.sorted_errors():
        settings = Settings.from_env(os.environ)
        client = connections.slack(settings)
        with closing(connections.redshift(settings)) as connection:
            counts = slack.notify(
                slack.Outbox(connection, sql.texts("notify"), settings.schema),
                client,
                settings.slack_channel,
                clock=time.monotonic,
                sleep=time.sleep,
                limits=slack.Limits(max_messages=settings.notify.max_messages),
            )
        if counts.busy:
            log.info("Another run is forwarding; this one does nothing")
        if counts.maybe_doubled:
            log.warning(
                "%d messages may stand in %s twice: their first answer was lost and the channel could not be read",
                counts.maybe_doubled,
                settings.slack_channel,
            )
        log.info(
            "Forwarded %d log rows to %s in %d messages%s",
            counts.forwarded,
            settings.slack_channel,
            counts.messages,
            "; more wait for the next run" if counts.waiting else "",
        )
        return asdict(counts)


@task
def watch() -> dict[str, Any]:
    """Look at the pipeline, tell people what has gone wrong and what is over; return what was seen and what is wrong."""
    with reactions():
        settings = Settings.from_env(os.environ)
        s3 = connections.s3(settings)

        def waiting_rows() -> tuple[int, int]:
            with redshift.sorted_errors(), closing(connections.redshift(settings, timeout=lookout.LOGIN_SECONDS)) as connection:
                return lookout.count_waiting(connection, sql.texts("watch")["count_waiting"], settings.schema)

        seen = lookout.look(settings, s3, connections.streams(settings), waiting_rows)
        known = lookout.tell(settings, s3, seen, lambda: (connections.slack(settings), settings.slack_channel))
        return lookout.summary(seen, known)


@task
def plan_audit(**context: Any) -> list[dict[str, str]]:
    """Cut the interval into hours, so that it is audited by several tasks, and one of them can be cleared by itself."""
    with reactions():
        start, end = (investigation.utc(context["params"][name]) for name in ("from", "to"))
        if not start or not end or start >= end:
            raise SettingsError(f"`from` is {start} and `to` is {end}; expected two times, the second later than the first.")
        hours = audit_rules.hours(start, end)
        if len(hours) > MOST_HOURS:
            raise SettingsError(f"The interval has {len(hours)} hours; expected at most {MOST_HOURS}. Audit it in several runs.")
        return [{"from": one.isoformat(), "to": other.isoformat()} for one, other in hours]


@task(max_active_tis_per_dagrun=4)
def audit(hour: dict[str, str], **context: Any) -> dict[str, Any]:
    """Hold the batches of an hour to the raw archive; return the counts, fail where something differs."""
    with reactions(), redshift.sorted_errors(), _scope(context["params"], hour) as scope:
        report = investigation.audit(scope, most_shown=int(context["params"]["max_shown"]))
    if report.differences:
        raise AirflowFailException(
            f"The tables differ from the archive: {report.counts()}. This log names samples. "
            f"Clear the run of each batch in polku_{scope.source}: it is written anew from the archive. Then clear this task."
        )
    return report.counts()


@task
def trace(**context: Any) -> list[dict[str, Any]]:
    """Say where an event is: raw object, position, rule, batch, and row, duplicate or quarantine."""
    params = context["params"]
    with reactions(), redshift.sorted_errors(), _scope(params, params) as scope:
        found = investigation.trace(scope, params["message_id"], show=bool(params["show_event"]))
        return [batches.to_xcom(one) for one in found]


@contextmanager
def _scope(params: Mapping[str, Any], between: Mapping[str, str | None]) -> Iterator[investigation.Scope]:
    """Give what an audit or a trace looks at, with a connection that is closed afterwards."""
    settings = Settings.from_env(os.environ)
    with closing(connections.redshift(settings)) as connection:
        yield investigation.Scope(
            settings=settings,
            s3=connections.s3(settings),
            tables=tables.Tables(connection, {**sql.texts("audit"), **sql.texts("trace")}, settings.schema, params["source"]),
            source=params["source"],
            start=investigation.utc(between["from"]),
            end=investigation.utc(between["to"]),
        )


@task(trigger_rule="one_failed", retries=0, on_execute_callback=None, on_failure_callback=None, on_retry_callback=None)
def turn_red_if_anything_failed() -> None:
    """Fail the run where a task failed: only leaves decide a run's state, and load goes on beside a failed lane."""
    raise AirflowFailException("A task of this run failed; its own log says why. What could be delivered was.")


def _directory(settings: Settings) -> Callable[[Sequence[str]], Mapping[str, str]] | None:
    """Return the owner's directory of names, None where names are generated."""
    if settings.names.directory == "generated":
        return None
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    os.environ.setdefault("PGCONNECT_TIMEOUT", str(name_table.LOGIN_SECONDS))

    def lookup(user_ids: Sequence[str]) -> Mapping[str, str]:
        hook = PostgresHook(postgres_conn_id=settings.names.connection)
        found: Mapping[str, str] = name_table.lookup(hook.get_conn, settings.names.query, user_ids)
        return found

    return lookup
