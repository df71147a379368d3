"""
Dependencies that misbehave: what heals by itself, what turns a run red and with which words, and that nothing is lost meanwhile.

Faults that come and go with one request are in the matrix of ``test_kill.py``; here are those that last, or need a scene.
"""

from __future__ import annotations

import json
import re
import threading

import msgspec
import psycopg
import pytest

from polku import archive, transform
from tests.crash.proxy import CUT, kinesis_error, s3_error
from tests.crash.world import KNOWN, SCHEMA, event

FOREVER = 10**9


class Scene:
    """A judge that does something at the first requests that fit, and counts them."""

    def __init__(self, world, server, label, do, *, side="before", times=1, worker=""):
        self.world, self.met = world, 0
        self._rule = (server, re.compile(label), side, times, worker)
        self._do, self._lock = do, threading.Lock()
        world.judge = self

    def __call__(self, side, request):
        """Judge a request."""
        server, label, wanted, times, worker = self._rule
        if side != wanted or request.server != server or not label.match(request.label) or not request.worker.startswith(worker):
            return None
        with self._lock:
            if self.met >= times:
                return None
            self.met += 1
        return self._do() if callable(self._do) else self._do


def assert_right(world, *sources):
    world.judge = lambda _side, _request: None
    world.calm(*(sources or ("server",)))
    assert not world.findings(*(sources or ("server",)))


def error_of(outcome, step):
    assert outcome["state"] == "failed", outcome
    return outcome["tasks"][step]["error"]


# -- Kinesis ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException"])
def test_throttling_delays_a_drain_and_loses_nothing(world, code):
    """Five reads a second a shard are shared with everybody else who reads the stream."""
    world.sample("server")
    scene = Scene(world, "kinesis", "GetRecords", kinesis_error(400, code), times=4, worker="drain")

    assert world.run("server")["state"] == "success"
    assert scene.met == 4
    assert_right(world)


def test_iterators_that_expire_are_renewed(world):
    """They live for five minutes; a position lives on."""
    world.sample("server")
    Scene(world, "kinesis", "GetRecords", kinesis_error(400, "ExpiredIteratorException"), times=2, worker="drain")

    assert world.run("server")["state"] == "success"
    assert_right(world)


def test_kinesis_away_turns_its_lane_red_and_the_buffer_goes_on(world):
    """The next run reads what this one could not."""
    world.sample("server")
    Scene(world, "kinesis", "", kinesis_error(500, "InternalFailure"), times=FOREVER)

    outcome = world.run("server")

    assert "InternalFailure" in error_of(outcome, "drain shards-0")
    assert {row[0] for row in world.rows("select message_id from {s}.server")} == {"b", "f", "g"}
    assert_right(world)


def test_several_generations_of_shards_while_they_are_drained(world):
    """Children wait for their parents; nobody is read twice."""
    streams, name = world.stack.streams, world.stream("server")
    ids = iter(range(1000))
    turn = threading.Lock()  # several shards are read at once, and each read reshards

    def reshard():
        with turn:
            split_or_merge()

    def split_or_merge():
        shards = [s for s in streams.list_shards(StreamName=name)["Shards"] if "EndingSequenceNumber" not in s["SequenceNumberRange"]]
        shards.sort(key=lambda s: int(s["HashKeyRange"]["StartingHashKey"]))
        if next(ids) % 2:
            streams.merge_shards(StreamName=name, ShardToMerge=shards[0]["ShardId"], AdjacentShardToMerge=shards[1]["ShardId"])
        else:
            low, high = (int(shards[0]["HashKeyRange"][end]) for end in ("StartingHashKey", "EndingHashKey"))
            streams.split_shard(StreamName=name, ShardToSplit=shards[0]["ShardId"], NewStartingHashKey=str((low + high + 1) // 2))
        world.put("server", *(f"g{next(ids)}" for _ in range(4)))

    world.sample("server")
    scene = Scene(world, "kinesis", "GetRecords", reshard, times=6)
    for _ in range(4):
        assert world.run("server")["state"] in {"success", "skipped"}

    assert scene.met == 6
    assert_right(world)


def test_a_gap_that_retention_left_is_reported_with_its_size(world):
    """What a stream dropped before anybody read it cannot be had back; it is never passed over in silence."""
    hours = 30
    world.put("server", "a")
    world.run("server")
    world.stack.streams.put_record(StreamName=world.stream("server"), PartitionKey="x", Data=event("dropped"))
    world.stack.kinesis.advance(hours * 3600)
    try:
        archive.change_checkpoint(world.stack.s3, world.name, "server", lambda now: _aged(now, hours * 3_600_000))
        world.put("server", "b")

        outcome = world.run("server")
    finally:
        world.stack.kinesis.advance(-hours * 3600)

    assert outcome["state"] == "success"
    assert world.rows("select message_id from {s}.server order by 1") == [("a",), ("b",)]
    (gap,) = (row[0] for row in world.rows("select gap_seconds from {s}.batch where gap_seconds is not null"))
    assert 2 * 6 * 3600 <= gap <= 2 * (6 * 3600 + 120)  # of two shards
    assert world.count("select count(*) from {s}.log where level = 'ERROR' and message like 'Gap before %'") == 1


def _aged(checkpoint, by_ms):
    """Return the checkpoint as if so much time had passed since."""
    positions = {
        key: msgspec.structs.replace(at, arrival=max(0, at.arrival - by_ms), caught_up=at.caught_up - by_ms)
        for key, at in checkpoint.positions.items()
    }
    return msgspec.structs.replace(checkpoint, positions=positions)


def test_an_empty_read_in_mid_shard_is_not_its_end(world):
    """Kinesis answers with nothing now and then although there is more."""
    world.sample("server")
    world.stack.kinesis.fault("empty", 3, path="GetRecords")

    world.run("server")

    assert_right(world)


def test_a_deleted_stream_stops_neither_its_buffer_nor_the_other_source(world):
    """Its lane says what is gone and what to do."""
    world.drop("server", "a")
    world.put("client", "k")
    world.stack.streams.delete_stream(StreamName=world.stream("server"))

    outcome = world.run("server")

    assert "ResourceNotFoundException" in error_of(outcome, "drain shards-0")
    assert "parameters.yaml.j2" in error_of(outcome, "drain shards-0")
    assert world.rows("select message_id from {s}.server") == [("a",)]
    assert world.run("client")["state"] == "success"
    assert world.rows("select message_id from {s}.client") == [("k",)]


# -- S3 --------------------------------------------------------------------------------------------------------------


def test_a_conflict_of_conditional_writes_is_tried_again(world):
    """409 says that another write is under way, and decides nothing."""
    world.sample("server")
    scene = Scene(world, "s3", "PUT state/", s3_error(409, "ConditionalRequestConflict"), times=3)

    assert world.run("server")["state"] == "success"
    assert scene.met == 3
    assert_right(world)


def test_a_write_whose_answer_is_lost_is_answered_by_412_and_counts_once(world):
    """The batch is there already: that is what the second look finds."""
    world.sample("server")
    scene = Scene(world, "s3", "PUT", CUT, side="after", times=6)

    assert world.run("server")["state"] == "success"
    assert scene.met == 6
    assert_right(world)


def _take_time():
    threading.Event().wait(0.1)


def test_a_slow_bucket_is_waited_for(world):
    """Each request takes its time."""
    world.sample("server")
    Scene(world, "s3", "", _take_time, times=60)

    assert world.run("server")["state"] == "success"
    assert_right(world)


def test_a_bucket_that_is_away_turns_the_run_red_and_says_so(world):
    """The next run begins where this one did."""
    world.tries = 1
    world.sample("server")
    Scene(world, "s3", "PUT raw/", s3_error(503, "SlowDown"), times=FOREVER)

    assert "S3 answered 503 SlowDown" in error_of(world.run("server"), "drain shards-0")
    assert_right(world)


def _delete_staged(world):
    for key in world.keys("staged/"):
        world.stack.s3.delete_object(Bucket=world.name, Key=key)


def test_staged_objects_that_are_gone_before_copy_are_made_again(world):
    """The load fails, a receipt whose objects are gone is no receipt, and the next run transforms once more."""
    world.sample("server")
    scene = Scene(world, "redshift", "31_copy_staged", lambda: _delete_staged(world))

    world.run("server")

    assert scene.met == 1
    assert world.count("select count(*) from {s}.server") == 0
    assert_right(world)


def _empty_staged(world):
    for key in world.keys("staged/"):
        world.stack.s3.put_object(Bucket=world.name, Key=key, Body=transform.EMPTY)


def test_a_batch_whose_staged_objects_were_changed_is_held_back_and_the_others_flow(world):
    """Fewer rows come than were staged: nothing of it is kept, and clearing its run transforms it anew."""
    world.sample("server")
    at = world.next_minute()
    Scene(world, "redshift", "31_copy_staged", lambda: _empty_staged(world)).world.run("server", at)
    _assert_held_and_healed(world, at, "CountMismatch")


def test_a_batch_that_copy_refuses_is_held_back_and_the_others_flow(world):
    """A refusal for what is in it would be the same at every try."""
    world.sample("server")
    at = world.next_minute()
    fault = world.stack.redshift.fault("error", "^copy|copy staged", message="Load into table 'staged' failed.  Check 'stl_load_errors'")

    outcome = world.run("server", at)

    assert fault.happened == 1
    assert "held back" in error_of(outcome, "load")
    _assert_held_and_healed(world, at, "stl_load_errors")


def _assert_held_and_healed(world, at, reason):
    world.judge = lambda _side, _request: None
    (held,) = world.checkpoint("server").pending.values()
    assert reason in held.held
    assert world.count("select count(*) from {s}.server") == 0
    world.put("server", "z")
    assert world.run("server")["state"] == "success"
    assert world.rows("select message_id from {s}.server") == [("z",)]

    assert world.run("server", at)["state"] == "success"
    assert_right(world)


def _replace(world, key):
    """Drop another file under the name of one that waits."""
    world.stack.s3.put_object(Bucket=world.name, Key=key, Body=event("new"))
    world.sent["server"].events["new"] += 1
    world.sent["server"].users.add("u-new")


def test_a_buffer_file_that_is_replaced_while_it_is_read_is_taken_as_it_is_then(world):
    """A file is its key and its ETag; the one that was listed is no more."""
    key = world.drop("server", "old")
    world.sent["server"].events.clear()
    world.sent["server"].users.clear()

    scene = Scene(world, "s3", "COPY raw/", lambda: _replace(world, key))
    world.run("server")

    assert scene.met == 1
    assert_right(world)
    assert world.rows("select message_id from {s}.server") == [("new",)]


def test_a_buffer_file_that_is_replaced_between_copy_and_delete_is_another_file(world):
    """The copy holds what was there; what has come since is not deleted unread."""
    key = world.drop("server", "old")

    scene = Scene(world, "s3", "DELETE buffer/", lambda: _replace(world, key))
    world.run("server")

    assert scene.met == 1
    assert len(world.keys("buffer/server/")) == 1
    assert_right(world)
    assert world.rows("select message_id from {s}.server order by 1") == [("new",), ("old",)]


def test_a_buffer_file_that_cannot_be_copied_does_not_stop_the_others(world):
    """Encrypted with a key that is not ours, say: it waits, polku_watch tells of it, and whatever else there is flows."""
    for id_ in "abc":
        world.drop("server", id_)
    Scene(world, "s3", "COPY raw/", s3_error(403, "AccessDenied"))

    outcome = world.run("server")

    assert outcome["state"] == "success"
    assert world.count("select count(*) from {s}.server") == 2
    assert len(world.keys("buffer/server/")) == 1
    assert_right(world)


# -- Redshift --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["drop", "drop_after"])
@pytest.mark.parametrize("statement", ["^commit", "insert into", "^lock|lock .*loader"])
def test_a_load_whose_connection_breaks_is_tried_again(world, kind, statement):
    """Whether it was committed is not guessed: loading it again changes nothing."""
    world.sample("server")
    fault = world.stack.redshift.fault(kind, statement)

    assert world.run("server")["state"] == "success"
    assert fault.happened == 1
    assert_right(world)


def test_a_serialisation_error_is_tried_again(world):
    """1023 is no reason to hold a batch back."""
    world.sample("server")
    fault = world.stack.redshift.fault("error", "insert into", message="1023", code="XX000")

    assert world.run("server")["state"] == "success"
    assert fault.happened == 1
    assert_right(world)


def test_a_load_waits_for_the_lock_of_another(world):
    """Loads follow one another."""
    world.sample("server")
    with psycopg.connect(world.stack.redshift.url) as other:
        other.execute(f"lock {SCHEMA}.loader")
        done = []
        run = threading.Thread(target=lambda: done.append(world.run("server")))
        asked = threading.Event()
        Scene(world, "redshift", "10_lock", asked.set)
        run.start()
        assert asked.wait(60)
        assert world.count("select count(*) from {s}.server") == 0
        other.rollback()
    run.join(60)

    assert done[0]["state"] == "success"
    assert_right(world)


def test_a_reader_who_leaves_a_transaction_open_stops_nobody(world):
    """Readers see what was there when they began; loads go on."""
    world.sample("server")
    with psycopg.connect(world.stack.redshift.url) as reader:
        reader.execute(f"select count(*) from {SCHEMA}.server")

        assert world.run("server")["state"] == "success"
        assert reader.execute(f"select count(*) from {SCHEMA}.server").fetchone() == (0,)
        assert_right(world)


def test_a_cluster_that_is_out_of_connections_is_asked_again(world):
    """It passes."""
    world.sample("server")
    fault = world.stack.redshift.fault("too_many_connections", times=1)

    assert world.run("server")["state"] == "success"
    assert fault.happened == 1
    assert_right(world)


def test_a_wrong_password_is_a_persons_to_mend_and_loses_nothing(world):
    """The message names where it comes from; once it is right, the next run loads what waits."""
    world.sample("server")
    world.env["REDSHIFT_PWD"] = "wrong"

    error = error_of(world.run("server"), "load")

    assert "redshift_default" in error
    assert "REDSHIFT_" in error
    world.env.clear()
    assert_right(world)


def test_a_paused_cluster_delays_batches_and_the_next_run_loads_them_all(world):
    """An hour without Redshift heals by itself."""
    world.tries = 1
    world.sample("server")
    Scene(world, "redshift", "connect", CUT, times=FOREVER)

    assert "Redshift" in error_of(world.run("server"), "load")
    world.put("server", "z")
    world.judge = lambda _side, _request: None
    assert world.run("server")["state"] == "success"
    assert world.count("select count(*) from {s}.batch") == 2
    assert_right(world)


def test_a_batch_that_redshift_fails_at_stops_no_other(world):
    """What the server has no code for may pass, so nothing is held; it may as well be for one batch, every time."""
    world.tries = 1
    world.stack.redshift.fault("error", "copy staged", times=FOREVER, message="Assert")
    for letter in "abc":
        world.put("server", letter)
        world.run("server")
    world.stack.redshift.clear_faults()
    world.tries = 2
    sick = sorted(world.checkpoint("server").pending)[1]
    world.stack.redshift.fault("error", f"insert into loading.*'{sick}'", times=FOREVER, message="Assert")
    world.put("server", "d")

    assert sick in error_of(world.run("server"), "load")

    assert set(world.checkpoint("server").pending) == {sick}
    assert world.count("select count(*) from {s}.server") == 3
    world.stack.redshift.clear_faults()
    assert_right(world)


def test_redshift_that_fails_at_every_batch_is_not_asked_for_each(world):
    """Then none of them is the cause, and sixty would be sixty logins."""
    world.tries = 1
    fault = world.stack.redshift.fault("error", "copy staged", times=FOREVER, message="Assert")
    for letter in "abcd":
        world.put("server", letter)
        world.run("server")
    world.tries, before = 2, fault.happened
    world.put("server", "g")

    assert "Assert" in error_of(world.run("server"), "load")

    assert fault.happened - before == 1 + 1 + 3
    world.stack.redshift.clear_faults()
    assert_right(world)


# -- the directory of names ------------------------------------------------------------------------------------------


def test_a_directory_of_names_that_is_away_gives_nobody_a_wrong_name(world):
    """A name stays for ever, so a directory that does not answer is waited for."""
    world.tries = 1
    world.sample("server")
    away = {"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "schema": "names", "login": "x", "password": "names-password"}
    world.env |= {"CRASH_NAMES": "table", "AIRFLOW_CONN_NAMES_DEFAULT": json.dumps(away)}

    outcome = world.run("server")

    assert error_of(outcome, "transform shards-0")
    assert world.count("select count(*) from {s}.user_name") == 0
    del world.env["AIRFLOW_CONN_NAMES_DEFAULT"]
    assert_right(world)
    assert world.rows("select user_name from {s}.user_name where user_id = 'u-a'") == [(KNOWN,)]


# -- Slack -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ratelimited", "500", "fatal_error", "cut_after", "cut_before", "msg_too_long", "service_unavailable"])
def test_slack_that_falters_gets_every_row_once(world, kind):
    """Whether a message arrived is looked up in the channel before it is posted again."""
    world.sample("server")
    world.run("server")
    world.stack.slack.fault(kind, path="chat.postMessage")

    assert world.notify()["state"] == "success"
    assert_right(world)


@pytest.mark.parametrize(
    ("kind", "said"), [("invalid_auth", "SLACK_TOKEN"), ("channel_not_found", "SLACK_CHANNEL"), ("not_in_channel", "Invite")]
)
def test_slack_that_refuses_is_a_persons_to_mend_and_rows_wait(world, kind, said):
    """The message says what to set; loads go on meanwhile."""
    world.sample("server")
    world.run("server")
    world.stack.slack.fault(kind, times=-1)

    outcome = world.notify()

    assert outcome["state"] == "failed"
    assert kind in outcome["error"]
    assert said in outcome["error"]
    world.put("server", "z")
    assert world.run("server")["state"] == "success"
    world.stack.slack.clear_faults()
    assert_right(world)


def test_a_backlog_of_log_rows_goes_out_in_few_messages_and_in_order(world):
    """An outage of Slack delays messages and loses none."""
    rows = ", ".join(f"('2026-11-23 00:{n // 60:02d}:{n % 60:02d}', 'WARNING', 'row {n}')" for n in range(1, 301))
    world.stack.database.execute(f'insert into {SCHEMA}.log ("timestamp", level, message) values {rows}')

    outcome = world.notify()

    assert outcome["value"]["forwarded"] == 300
    assert outcome["value"]["messages"] <= 5
    lines = [line for message in world.stack.slack.messages for line in message.shown.split("\n")]
    assert [int(line.rpartition(" ")[2]) for line in lines] == list(range(1, 301))
