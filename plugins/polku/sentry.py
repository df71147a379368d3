"""
Task failures and quarantined events to Sentry, once each, without secrets and without what is in the events.

SENTRY_DSN switches it on; without it every function here returns at once. ``on_failure`` is made for on_failure_callback *and*
on_retry_callback, which together run once per failed try; the event's id is computed from the try, and Sentry keeps one event of
an id, so that a callback which runs again (Airflow's DAG processor reports for a worker that vanished) does not report again.

Airflow itself reports from 3.3 on where ``[sentry] sentry_on`` is set. Then the failure goes through its client, whose dedupe
integration drops an exception that it has seen already, and ``enrich`` (an on_execute_callback) gives Airflow's own event our tags
and scrubs it. For a failure before a task's callbacks start, set ``[sentry] before_send = polku.sentry.before_send`` too.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from polku.batches import SOURCES, Batch
from polku.errors import PolkuError
from polku.quotes import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentry_sdk.client import BaseClient
    from sentry_sdk.types import Event, Hint

log = logging.getLogger(__name__)

FLUSH_SECONDS = 3.0
"""How long a task waits for Sentry to take a report, reachable or not."""

AWAY_SECONDS = 60.0
"""For so long after a wait in vain nothing is reported: a load with sixty batches to warn of must not wait sixty times."""

FILTERED = "[Filtered]"

_TAG_LENGTH = 200
"""Characters of a tag's value that Sentry keeps."""

_SECRET_NAME = re.compile(r"(?i)token|secret|passw(or)?d|_pwd$|_?key(_id)?$|dsn$|credential|^airflow_conn_")
_SHORTEST_SECRET = 6
_SECRETS = (
    (re.compile(r"xox[a-z]+-[\w-]+"), FILTERED),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), FILTERED),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), FILTERED),
    (re.compile(r"(?i)\b(bearer|basic) +[\w.~+/=-]{8,}"), rf"\1 {FILTERED}"),
    (re.compile(r"://[^/\s'\"@]+@"), f"://{FILTERED}@"),
    (re.compile(r"(?i)\b(x-amz-(?:signature|credential|security-token))=[^&\s'\"]+"), rf"\1={FILTERED}"),
    (
        re.compile(
            r"(?i)(\w*(?:password|passwd|pwd|secret|token|api_?key|access_?key|authorization)\w*['\"]?\s*[:=]\s*)['\"]?[^\s'\",;)}&]+"
        ),
        rf"\1{FILTERED}",
    ),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "[email]"),
)


@dataclass
class _Away:
    """Until when Sentry counts as away in this process, by the monotonic clock."""

    until: float = 0.0


_away = _Away()


def on_failure(context: Mapping[str, Any]) -> str | None:
    """Report the failed try that an Airflow callback is about; return the event's id, None where nothing was reported. Never raises."""
    dsn = os.environ.get("SENTRY_DSN", "")
    if not dsn and _other_client() is None:
        return None
    try:
        return _report(_failure(context), context.get("exception"), dsn)
    except Exception as error:  # noqa: BLE001 (a report that fails must not hide the failure)
        log.warning("The failure could not be reported to Sentry: %s", type(error).__name__)
        return None


def enrich(context: Mapping[str, Any]) -> None:
    """Give what Airflow itself reports of this task our tags, and scrub it; for on_execute_callback. Never raises."""
    if _other_client() is None:
        return
    try:
        import sentry_sdk

        labels = tags(context)

        def finish(event: Event, _: Hint) -> Event:
            event["tags"] = {**(event.get("tags") or {}), **labels}
            return scrub(event)

        sentry_sdk.get_current_scope().add_event_processor(finish)
    except Exception as error:  # noqa: BLE001 (as above)
        log.warning("Airflow's reports to Sentry could not be enriched: %s", type(error).__name__)


def warn_quarantine(batch: Batch, counts_by_reason: Mapping[str, int], *, received: int = 0) -> str | None:
    """
    Warn of a batch's quarantined events: one event with counts by reason, and one id for a batch and its counts. Never raises.

    Args:
        batch: The batch.
        counts_by_reason: Quarantined events by reason code.
        received: All events of the batch.
    """
    dsn, number = os.environ.get("SENTRY_DSN", ""), sum(counts_by_reason.values())
    if not number or (not dsn and _other_client() is None):
        return None
    event: Event = {
        "event_id": _event_id("quarantine", batch.id, *(f"{reason}={count}" for reason, count in sorted(counts_by_reason.items()))),
        "level": "warning",
        "logger": "polku",
        "message": f"Events of {batch.source} are in quarantine",
        "fingerprint": ["polku-quarantine", batch.source],
        "tags": {"source": batch.source, "batch": batch.id},
        "contexts": {"quarantine": {"quarantined": number, "received": received, **dict(counts_by_reason)}},
    }
    try:
        return _report(event, None, dsn)
    except Exception as error:  # noqa: BLE001 (as above)
        log.warning("The quarantined events of %s could not be reported to Sentry: %s", batch, type(error).__name__)
        return None


def warn_incident(incident_id: str, key: str, level: str, text: str) -> str | None:
    """
    Report something that is wrong with the pipeline as a whole: one event an incident, all of one kind one issue. Never raises.

    Args:
        incident_id: The same for the same incident, however often it is reported.
        key: What is wrong, e.g. "lag/server".
        level: "WARNING" or "ERROR".
        text: What to say.
    """
    dsn = os.environ.get("SENTRY_DSN", "")
    if not dsn and _other_client() is None:
        return None
    kind, _, source = key.partition("/")
    event: Event = {
        "event_id": _event_id("incident", incident_id),
        "level": "error" if level == "ERROR" else "warning",
        "logger": "polku",
        "message": text,
        "fingerprint": ["polku-watch", key],
        "tags": {"incident": kind, **({"source": source} if source else {})},
    }
    try:
        return _report(event, None, dsn)
    except Exception as error:  # noqa: BLE001 (as above)
        log.warning("The incident %s could not be reported to Sentry: %s", key, type(error).__name__)
        return None


def tags(context: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a try: dag_id, run_id, task_id, try_number, map_index where it is mapped, source and batch where it has any."""
    ti, dag_run = context.get("ti") or context.get("task_instance"), context.get("dag_run")
    found = {name: getattr(ti, name, None) for name in ("dag_id", "run_id", "task_id", "try_number", "map_index")}
    found["run_id"] = found["run_id"] or context.get("run_id") or getattr(dag_run, "run_id", None)
    found["dag_id"] = found["dag_id"] or getattr(context.get("dag"), "dag_id", None)
    if found["map_index"] == -1:
        found["map_index"] = None
    source = str(found["dag_id"]).removeprefix("polku_")
    if source in SOURCES:
        found["source"] = source
        at = getattr(dag_run, "logical_date", None) or getattr(dag_run, "run_after", None)
        found["batch"] = Batch.of(source, at).id if at is not None else None
    return {name: str(value)[:_TAG_LENGTH] for name, value in found.items() if value is not None}


def before_send(event: Event, _: Hint) -> Event:
    """Scrub an event; for Airflow's ``[sentry] before_send``."""
    return scrub(event)


def scrub(event: Event) -> Event:
    """
    Return an event without secrets and without event contents.

    Gone are local variables, requests, users, breadcrumbs, command lines; messages are cleaned as ``quotes.clean`` does it, and
    what looks like a secret, or stands in the environment under a name like one, is replaced wherever it is.
    """
    for name in ("request", "user", "breadcrumbs", "extra"):
        event.pop(name, None)  # type: ignore[misc]
    for value in (event.get("exception") or {}).get("values") or []:
        value["value"] = clean(str(value.get("value") or ""))
        for frame in (value.get("stacktrace") or {}).get("frames") or []:
            frame.pop("vars", None)
    if event.get("message"):
        event["message"] = clean(event["message"])
    if event.get("logentry"):
        event["logentry"] = {"message": clean(str(event["logentry"].get("message") or ""))}
    scrubbed: Event = _walk(event, _secret_values())
    return scrubbed


def _failure(context: Mapping[str, Any]) -> Event:
    """Return what is to be reported of a failed try, but for its exception."""
    labels = tags(context)
    ti = context.get("ti") or context.get("task_instance")
    event: Event = {
        "event_id": _event_id("failure", str(getattr(ti, "id", "")), *(f"{name}={value}" for name, value in sorted(labels.items()))),
        "level": "error",
        "logger": "polku",
        "tags": labels,
        "transaction": f"{labels.get('dag_id')}.{labels.get('task_id')}",
    }
    exception = context.get("exception")
    if isinstance(exception, BaseException):
        event["fingerprint"] = ["polku-failure", labels.get("dag_id", ""), labels.get("task_id", ""), *_cause(exception)]
    else:
        reason = (
            exception
            or context.get("reason")
            or "Airflow gave no reason: its worker vanished, or this is `airflow dags test` of Airflow 3.2"
        )
        event["message"] = f"Task {labels.get('task_id')} failed: {reason}"
        event["fingerprint"] = ["polku-failure", labels.get("dag_id", ""), labels.get("task_id", "")]
    return event


def _cause(error: BaseException) -> list[str]:
    """
    Return what tells one cause of failures from another, and is the same every time it strikes.

    That is the types of the errors from the outermost to the first, the code of the database, and where in Polku it began; no texts, which
    hold names of batches, numbers and times. What lies under an error of ours is left out: that a login failed is one cause, whether the
    connection was refused or reset.
    """
    kinds, code, place, last_of_ours = [], "", "", 0
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        kinds.append(type(link).__name__)
        if link.args and isinstance(link.args[0], dict):
            code = str(link.args[0].get("C", ""))
        frames = [frame for frame, _ in traceback.walk_tb(link.__traceback__)]
        ours = [frame for frame in frames if str(frame.f_globals.get("__name__", "")).startswith("polku.")]
        place = f"{ours[-1].f_globals['__name__']}.{ours[-1].f_code.co_name}" if ours else place
        last_of_ours = len(kinds) if isinstance(link, PolkuError) else last_of_ours
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return [*kinds[: last_of_ours or None], *filter(None, (code, place))]


def _report(event: Event, exception: object, dsn: str) -> str | None:
    """Send one event and wait for it, within bounds: by the client that is there already, else by one that is gone afterwards."""
    from sentry_sdk import Client, Scope
    from sentry_sdk.utils import event_from_exception

    began = time.monotonic()
    if began < _away.until:
        log.warning("Sentry has just let us wait in vain; this is not reported")
        return None
    other = _other_client()
    client = other or Client(
        dsn=dsn,
        environment=os.environ.get("POLKU_STAGE", "DEV"),
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        before_send=before_send,
    )
    hint: Hint = {}
    if isinstance(exception, BaseException):
        options = {**client.options, "include_local_variables": False}
        failure, hint = event_from_exception(exception, client_options=options, mechanism={"type": "airflow", "handled": False})
        event = {**failure, **event}
    try:
        return client.capture_event(scrub(event), hint, scope=Scope())
    finally:
        if other is None:
            client.close(timeout=FLUSH_SECONDS)
        else:
            client.flush(timeout=FLUSH_SECONDS)
        if time.monotonic() - began >= FLUSH_SECONDS:
            _away.until = time.monotonic() + AWAY_SECONDS


def _other_client() -> BaseClient | None:
    """Return the client that somebody else (Airflow) has initialised in this process, None where nobody has."""
    if "sentry_sdk" not in sys.modules:
        return None
    import sentry_sdk

    client = sentry_sdk.get_client()
    return client if client.is_active() and client.dsn else None


def _event_id(*parts: str) -> str:
    return blake2b("\n".join(parts).encode("utf-8", "replace"), digest_size=16).hexdigest()


def _secret_values() -> list[str]:
    """Return the values of the environment that are secret by their names, and the secrets in Airflow's connections, longest first."""
    found = {value for name, value in os.environ.items() if _SECRET_NAME.search(name)}
    for name, value in os.environ.items():
        if name.startswith("AIRFLOW_CONN_"):
            found.update(_secrets_of_connection(value))
    return sorted((value for value in found if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)


def _secrets_of_connection(text: str) -> Iterator[str]:
    """Yield the password of a connection, given as JSON or as a URI, and what stands in its extras under the name of a secret."""
    fields: Any
    try:
        if text.lstrip().startswith("{"):
            fields = json.loads(text)
            extra = fields.get("extra") or {}
            extra = json.loads(extra) if isinstance(extra, str) else extra
        else:
            parts = urlsplit(text)
            fields = {"password": unquote(parts.password or "")}
            extra = dict(parse_qsl(parts.query))
    except (ValueError, AttributeError):
        return
    yield str(fields.get("password") or "")
    if isinstance(extra, Mapping):
        yield from (str(value) for name, value in extra.items() if _SECRET_NAME.search(str(name)))


def _walk(value: Any, secrets: list[str]) -> Any:
    """Return a JSON-like value with every secret in it replaced."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, FILTERED)
        for pattern, instead in _SECRETS:
            value = pattern.sub(instead, value)
        return value
    if isinstance(value, Mapping):
        return {key: _walk(inner, secrets) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(inner, secrets) for inner in value]
    return value
