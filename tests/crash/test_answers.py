"""
Answers that are not what the server said: cut in the middle, damaged, late, from somebody else; and servers that are not there.

Whatever comes, the state is not damaged, the message says what to do, and the next try or run heals.
"""

from __future__ import annotations

import json
import socket

import pytest

from local.redshift import wire
from tests.crash.proxy import Warped, kinesis_error, s3_error
from tests.crash.test_dependencies import FOREVER, Scene, assert_right, error_of


def _halved(answer):
    head, blank, body = answer.partition(b"\r\n\r\n")
    return head + blank + body[: len(body) // 2]


def _damaged(answer):
    head, blank, body = answer.partition(b"\r\n\r\n")
    middle = len(body) // 2
    return head + blank + body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


@pytest.mark.parametrize(
    ("server", "label", "change"),
    [
        pytest.param("s3", "GET raw/", _damaged, id="a damaged raw object"),
        pytest.param("s3", "GET state/server/receipts", _halved, id="half a receipt"),
        pytest.param("kinesis", "GetRecords", _halved, id="half an answer of GetRecords"),
    ],
)
def test_an_answer_that_arrives_in_half_or_damaged_is_asked_for_again(world, server, label, change):
    """No half is taken for the whole, and nobody has to try the task again."""
    world.tries = 1
    world.sample("server")
    scene = Scene(world, server, label, Warped(change), side="after")

    assert world.run("server")["state"] == "success"
    assert scene.met == 1
    assert_right(world)


def test_a_copy_that_is_answered_200_and_an_error_is_made_again(world):
    """S3 begins to answer a copy before it knows how it ends (API reference, CopyObject)."""
    world.tries = 1
    world.sample("server")
    scene = Scene(world, "s3", "COPY", _as_ok(s3_error(500, "InternalError")), side="after", times=2)

    assert world.run("server")["state"] == "success"
    assert scene.met == 2
    assert_right(world)


def _as_ok(answer):
    return answer.replace(b"HTTP/1.1 500", b"HTTP/1.1 200", 1)


def test_a_write_that_was_stored_and_answered_by_500_counts_once(world):
    """An error of the server's says nothing about what became of the write."""
    world.sample("server")
    scene = Scene(world, "s3", "PUT|DELETE", s3_error(500, "InternalError"), side="after", times=2)

    assert world.run("server")["state"] == "success"
    assert scene.met == 2
    assert_right(world)


@pytest.mark.parametrize(
    ("server", "label", "answer", "step", "said"),
    [
        pytest.param("s3", "LIST", s3_error(403, "AccessDenied"), "drain files", "Grant it to the role", id="no right to list"),
        pytest.param("s3", "DELETE", s3_error(501, "NotImplemented"), "commit", "conditional", id="no conditional deletes"),
        pytest.param("kinesis", "Get", kinesis_error(400, "InvalidSignatureException"), "drain shards-0", "clock", id="another clock"),
    ],
)
def test_what_a_person_must_mend_is_named_and_loses_nothing(world, server, label, answer, step, said):
    """Once it is mended the next run delivers what waits."""
    world.tries = 1
    world.sample("server")
    Scene(world, server, label, answer, times=FOREVER)

    assert said in error_of(world.run("server"), step)
    assert_right(world)


def test_a_cluster_that_is_restarted_in_the_middle_of_a_load_is_asked_again(world):
    """It ends the session with its last words; an idle connection that is killed, or a maintenance window, looks the same."""
    world.sample("server")
    farewell = wire.error({"S": "FATAL", "C": "57P01", "M": "terminating connection due to administrator command"})
    scene = Scene(world, "redshift", "31_copy_staged|commit", Warped(lambda _: farewell), side="after", times=2)

    assert world.run("server")["state"] == "success"
    assert scene.met == 2
    assert_right(world)


def test_a_checkpoint_that_is_put_back_to_an_older_one_reads_again_and_doubles_nothing(world):
    """Somebody restores an older version of it: the records come once more, as duplicates."""
    key = "state/server/checkpoint.json"
    world.put("server", "a", "b")
    world.run("server")
    older = world.stack.s3.get_object(Bucket=world.name, Key=key)["Body"].read()
    world.put("server", "c")
    world.run("server")
    world.stack.s3.put_object(Bucket=world.name, Key=key, Body=older)
    world.put("server", "d")

    world.calm("server")

    assert world.rows("select message_id from {s}.server order by 1") == [("a",), ("b",), ("c",), ("d",)]
    assert world.rows("select message_id from {s}.duplicate") == [("c",)]


@pytest.mark.parametrize("kind", ["is silent", "no DSN"])
def test_a_sentry_that_is_away_hides_no_error_and_holds_nobody_up(world, kind):
    """A task that fails does so with its own error; one with events to warn of succeeds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        world.env["SENTRY_DSN"] = f"http://key@127.0.0.1:{silent.getsockname()[1]}/1" if kind == "is silent" else "https://not a dsn"
        world.tries = 1
        world.sample("server")
        Scene(world, "kinesis", "ListShards", kinesis_error(400, "AccessDeniedException"), times=FOREVER)

        assert "AccessDeniedException" in error_of(world.run("server"), "drain shards-0")
        world.judge = lambda _side, _request: None
        assert world.run("server")["state"] == "success"
        assert_right(world)
        assert world.stack.sentry.events == []


def test_a_failed_try_and_quarantined_events_are_told_to_sentry(world):
    """By the callbacks of the DAG, as Airflow calls them."""
    world.tries = 2
    world.sample("server")
    Scene(world, "redshift", "connect", wire.error({"S": "FATAL", "C": "57P03", "M": "the database system is starting up"}))

    assert world.run("server")["state"] == "success"
    told = [(event["level"], event["tags"].get("task_id")) for event in world.stack.sentry.events]
    assert told == [("error", "load"), ("warning", None)]
    assert "57P03" in json.dumps(world.stack.sentry.events[0])
