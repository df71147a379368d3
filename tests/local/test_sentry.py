"""The local Sentry takes what sentry-sdk sends."""

from __future__ import annotations

import gzip
import json
import urllib.error
import urllib.request

import pytest
import sentry_sdk

from local.sentry import SentryServer


@pytest.fixture
def sentry():
    with SentryServer() as server:
        yield server


@pytest.fixture
def client(sentry):
    """A client that is not the process's own."""
    client = sentry_sdk.Client(dsn=sentry.dsn, default_integrations=False)
    yield client
    client.close(timeout=2)


def envelope(event_id):
    """Return an envelope with one event in it."""
    event = json.dumps({"event_id": event_id, "message": "two\\nlines"}).encode()
    return b"{}\n" + json.dumps({"type": "event", "length": len(event)}).encode() + b"\n" + event + b"\n"


def post(sentry, body, headers):
    """Post an envelope as the project's key."""
    auth = {"X-Sentry-Auth": f"Sentry sentry_key={sentry.key}, sentry_version=7"}
    request = urllib.request.Request(f"{sentry.address}/api/{sentry.project}/envelope/", body, {**auth, **headers})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_an_event_of_the_sdk_is_shown_whole(sentry, client):
    """Message, level and tags arrive as they were set."""
    client.capture_event({"message": "hello", "level": "warning", "tags": {"batch": "server/1"}})
    client.flush(timeout=2)

    assert [(event["message"], event["level"], event["tags"]) for event in sentry.events] == [("hello", "warning", {"batch": "server/1"})]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_envelopes_are_taken_compressed_or_not(sentry, encoding):
    """sentry-sdk compresses as it likes."""
    body = envelope("0" * 32)

    answer = post(sentry, gzip.compress(body) if encoding == "gzip" else body, {"Content-Encoding": encoding})

    assert answer == {"id": "0" * 32}
    assert sentry.events[0]["message"] == "two\\nlines"


def test_a_second_event_with_the_same_id_is_dropped(sentry):
    """As Sentry does: a report that is sent again does not count again."""
    for _ in range(2):
        post(sentry, envelope("0" * 32), {})

    assert len(sentry.events) == 1
    assert sentry.duplicates == 1


def test_another_key_is_refused(sentry):
    """A wrong DSN must not look like a right one."""
    with pytest.raises(urllib.error.HTTPError, match="403"):
        post(sentry, envelope("0" * 32), {"X-Sentry-Auth": "Sentry sentry_key=abc"})

    assert sentry.events == []


def test_an_envelope_that_is_cut_off_is_refused(sentry):
    """Half an event is no event."""
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(sentry, envelope("0" * 32)[:-20], {})


def test_the_page_shows_the_event_without_running_what_is_in_it(sentry, client):
    """Messages of exceptions end up there."""
    client.capture_event({"message": "<script>alert(1)</script>"})
    client.flush(timeout=2)

    with urllib.request.urlopen(sentry.address) as answer:
        page = answer.read().decode()

    assert "&lt;script&gt;" in page
    assert "<script>" not in page
