"""Log rows reach Slack once and in order, whatever Slack and the run do: seen at the local Slack and the local Redshift."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
import redshift_connector
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk import WebClient

from local.http_server import LoopbackServer, Response
from local.redshift import RedshiftServer
from local.slack import SlackServer
from polku import slack
from polku.errors import SettingsError, TransientError

INCLUDE = Path(__file__).resolve().parents[1] / "include" / "sql"
STATEMENTS = {file.stem.partition("_")[2]: file.read_text(encoding="utf-8") for file in (INCLUDE / "notify").glob("*.sql")}
AT = datetime(2026, 11, 23, 10, 41, tzinfo=timezone.utc)


class Clock:
    """Seconds that pass when somebody sleeps, and how long each sleep was."""

    def __init__(self):
        self.now = time.time()
        self.sleeps = []

    def __call__(self):
        """Return them."""
        return self.now

    def sleep(self, seconds):
        """Let them pass."""
        self.sleeps.append(seconds)
        self.now += seconds


class Outbox:
    """A log of its own for one test."""

    def __init__(self, server, schema):
        self.server, self.schema = server, schema
        self.run(*(file.read_text(encoding="utf-8").replace("{{ schema }}", schema) for file in self._migrations()))

    def _migrations(self):
        return [next((INCLUDE / "migrate").glob(f"*_create_{name}.sql")) for name in ("schema", "loader", "log")]

    @contextmanager
    def connected(self):
        """Give a connection as RedshiftSQLHook opens it."""
        server = self.server
        connection = redshift_connector.connect(
            host=server.host, port=server.port, user=server.user, password=server.password, database=server.database, ssl=False
        )
        try:
            yield connection
        finally:
            connection.close()

    def run(self, *statements):
        """Run statements in one transaction; return the rows of the last."""
        with self.connected() as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
            connection.commit()
            return rows

    def log(self, *texts, level="WARNING"):
        """Add rows."""
        values = ", ".join(f"('2026-11-23 10:41:00', '{level}', '{text}')" for text in texts)
        self.run(f"insert into {self.schema}.log (timestamp, level, message) values {values}")

    def fill(self, rows):
        """Add so many rows, "row 00000" and so on, a second apart."""
        for start in range(0, rows, 1000):
            values = ", ".join(
                f"(dateadd(second, {number}, '2026-11-23 00:00:00'::timestamp), 'WARNING', 'row {number:05d}')"
                for number in range(start, min(rows, start + 1000))
            )
            self.run(f"insert into {self.schema}.log (timestamp, level, message) values {values}")

    def waiting(self):
        """Return how many rows are not forwarded."""
        return self.run(f"select count(*) from {self.schema}.log where forwarded_at is null")[0][0]

    def claimed(self):
        """Return how many of them are claimed."""
        return self.run(f"select count(*) from {self.schema}.log where forwarded_at is null and claim_id is not null")[0][0]


@pytest.fixture(scope="module")
def redshift():
    with RedshiftServer() as server:
        yield server


@pytest.fixture
def outbox(redshift, request):
    return Outbox(redshift, f"s{abs(hash(request.node.nodeid)):x}"[:30])


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def server(clock):
    """A Slack that takes one message a second and no burst."""
    with SlackServer(clock=clock, burst=1) as running:
        yield running


@pytest.fixture
def forward(outbox, server, clock):
    """Return a run of notify."""

    def run(*, kind=slack.Outbox, channel="#polku", **limits):
        client = WebClient(server.token, base_url=server.url, retry_handlers=[], timeout=1)
        with outbox.connected() as connection:
            box = kind(connection, STATEMENTS, outbox.schema)
            return slack.notify(box, client, channel, clock=clock, sleep=clock.sleep, now=clock, limits=slack.Limits(**limits))

    return run


@pytest.fixture
def age(outbox, server):
    """Let an hour pass for all that was claimed and posted so far."""

    def pass_by(seconds=3600):
        outbox.run(f"update {outbox.schema}.log set claimed_at = dateadd(second, -{seconds}, claimed_at) where claimed_at is not null")
        messages = server.channel().messages
        messages[:] = [replace(message, ts=f"{float(message.ts) - seconds:.6f}") for message in messages]

    return pass_by


def rows_of(*texts, level="WARNING"):
    """Return rows as they are claimed."""
    return [slack.Row(position=number, id=100 + number, at=AT, level=level, text=text) for number, text in enumerate(texts, 1)]


def lines_of(server):
    """Return what people read in the channel, without emoji and time."""
    return [line.split(" ", 3)[3] for message in server.messages for line in message.shown.split("\n")]


# -- packing


def test_a_row_is_one_line_with_its_level_and_time():
    """Time is there since a message may come late."""
    [message] = slack.pack(rows_of("New user: u1 -> Ada Lovelace"))

    assert message.text == ":warning: 2026-11-23 10:41:00 New user: u1 -&gt; Ada Lovelace"


def test_an_error_looks_like_one():
    """A broken producer is worth an alarm."""
    assert slack.line(rows_of("x", level="ERROR")[0]).startswith(":rotating_light:")


def test_rows_are_packed_up_to_the_limit_and_not_beyond():
    """As few messages as the limit allows."""
    rows = rows_of(*["x" * 10] * 4)
    width = len(slack.line(rows[0]))

    exact = slack.pack(rows, 2 * width + 1)
    narrow = slack.pack(rows, 2 * width)

    assert [len(message.rows) for message in exact] == [2, 2]
    assert [len(message.rows) for message in narrow] == [1, 1, 1, 1]


def test_no_rows_make_no_message(age):
    """Slack refuses an empty text."""
    assert slack.pack([]) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("<!channel> & <@U123>", "&lt;!channel&gt; &amp; &lt;@U123&gt;", id="markup"),
        pytest.param("&lt;", "&amp;lt;", id="already escaped"),
        pytest.param("@channel @HERE @everyone @ada", "@\u200bchannel @\u200bHERE @\u200beveryone @ada", id="words that notify"),
        pytest.param("a\nb\r\n\tc\x00d\u2028e", "a b c d e", id="line breaks and control characters"),
        pytest.param("abc\u202egnp.exe", "abc\ufffdgnp.exe", id="writing direction"),
        pytest.param("half \ud83d", "half ?", id="lone surrogate"),
        pytest.param("`code` *bold* _i_", "`code` *bold* _i_", id="mrkdwn, which is switched off"),
    ],
)
def test_text_of_events_is_shown_and_does_nothing(text, shown):
    """An id may contain anything."""
    assert slack.line(rows_of(text)[0]).split(" ", 3)[3] == shown


def test_a_row_that_is_longer_than_a_message_is_cut_and_says_so():
    """Never in the middle of an escape."""
    [message] = slack.pack(rows_of("<" * 5000))

    assert len(message.text) <= slack.MAX_TEXT
    head, note = message.text.split(" … ")
    assert head.endswith("&lt;")
    assert note == "(cut; whole in the log under id 101)"


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(max_size=300), max_size=40), st.integers(150, 1000))
def test_packing_loses_nothing_and_keeps_to_the_limit(texts, limit):
    """Every row is in one message, in order, and no message is too long or holds raw markup."""
    rows = rows_of(*texts)

    messages = slack.pack(rows, limit)

    assert [row for message in messages for row in message.rows] == rows
    assert all(len(message.text.encode("utf-16-le")) // 2 <= limit for message in messages)
    assert all(message.text.count("\n") == len(message.rows) - 1 for message in messages)
    assert not any(sign in message.text for message in messages for sign in "<>")


# -- one post


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        pytest.param("ratelimited:7", slack.RateLimited, id="429"),
        pytest.param("500", slack.LostAnswer, id="500"),
        pytest.param("fatal_error", slack.LostAnswer, id="fatal_error"),
        pytest.param("half", slack.LostAnswer, id="half an answer"),
        pytest.param("cut_before", slack.LostAnswer, id="reset before"),
        pytest.param("cut_after", slack.LostAnswer, id="reset after"),
        pytest.param("timeout_after", slack.LostAnswer, id="no answer"),
        pytest.param("service_unavailable", TransientError, id="service_unavailable"),
        pytest.param("msg_too_long", slack.TooLong, id="msg_too_long"),
        pytest.param("invalid_auth", SettingsError, id="invalid_auth"),
        pytest.param("channel_not_found", SettingsError, id="channel_not_found"),
        pytest.param("not_in_channel", SettingsError, id="not_in_channel"),
        pytest.param("restricted_action", SettingsError, id="an error nobody listed"),
    ],
)
def test_each_outcome_of_a_post_says_what_to_do(server, fault, kind):
    """Wait, look it up, cut it, or call a person. slack_sdk's own retry is off: it could post twice."""
    client = WebClient(server.token, base_url=server.url, retry_handlers=[], timeout=1)
    server.fault(fault)

    with pytest.raises(kind) as caught:
        slack.post(client, "polku", slack.pack(rows_of("x"))[0], None)

    assert caught.type is kind
    assert server.calls.count("chat.postMessage") <= 1


class Refusing(LoopbackServer):
    """A Slack that takes nothing, for as long as its header says."""

    after: str | None = None

    def handle(self, request):
        """Answer 429."""
        return Response.of_json({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": self.after} if self.after is not None else {})


@pytest.mark.parametrize(
    ("after", "seconds"),
    [("7", 7), ("3600", 3600), ("0", 1), (None, 1), ("", 1), ("-5", 1), ("soon", 1), ("1.5", 1), ("Wed, 21 Oct 2026 07:28:00 GMT", 1)],
)
def test_a_refusal_that_does_not_say_for_how_long_is_one_of_a_second(after, seconds):
    """The bounds of the run end it, whatever the header says."""
    with Refusing() as refusing:
        refusing.after = after
        client = WebClient("xoxb-1", base_url=f"{refusing.url}/api/", retry_handlers=[], timeout=5)

        with pytest.raises(slack.RateLimited) as caught:
            slack.post(client, "polku", slack.pack(rows_of("x"))[0], None)

    assert caught.value.seconds == seconds


def test_nobody_at_the_other_end_means_that_nothing_was_posted(server):
    """A refused connection is no lost answer."""
    client = WebClient("x", base_url="http://127.0.0.1:9/api/", retry_handlers=[], timeout=1)

    with pytest.raises(TransientError, match="could not be reached") as caught:
        slack.post(client, "polku", slack.pack(rows_of("x"))[0], None)

    assert caught.type is TransientError


# -- runs


def test_every_row_is_forwarded_once_and_in_order(outbox, server, clock, forward):
    """One second between messages; a second run finds nothing."""
    outbox.fill(300)

    counts = forward()
    again = forward()

    assert lines_of(server) == [f"row {number:05d}" for number in range(300)]
    assert counts.forwarded == 300
    assert counts.messages == len(server.messages)
    assert again == slack.Counts()
    assert outbox.waiting() == 0
    assert server.calls.count("chat.postMessage") == len(server.messages)


def test_an_empty_log_posts_nothing(outbox, server, forward):
    """An idle run asks Slack nothing at all."""
    assert forward() == slack.Counts()
    assert server.calls == []


def test_a_message_carries_its_claim(outbox, server, forward):
    """By it a lost message is found again."""
    outbox.log("a", "b")

    forward()

    metadata = server.messages[0].metadata
    assert metadata["event_type"] == "polku_log"
    assert (metadata["event_payload"]["first"], metadata["event_payload"]["last"]) == (1, 2)


def test_retry_after_is_honoured(outbox, server, clock, forward):
    """Slack says for how long."""
    outbox.log("a")
    server.fault("ratelimited:30")

    counts = forward()

    assert counts.messages == 1
    assert 30 in clock.sleeps
    assert lines_of(server) == ["a"]


def test_a_wait_that_is_longer_than_the_run_is_left_to_the_next(outbox, server, clock, forward):
    """The task must not sit there for an hour; its rows are free for the next run."""
    outbox.log("a")
    server.fault("ratelimited:3600")

    with pytest.raises(slack.RateLimited, match="3600 s"):
        forward()

    assert outbox.claimed() == 0
    assert sum(clock.sleeps) < 60
    assert forward().forwarded == 1


@pytest.mark.parametrize("fault", ["cut_before", "cut_after", "half", "timeout_before", "timeout_after", "500", "fatal_error"])
@pytest.mark.parametrize("channel", ["#polku", "C0POLKU0000"])
def test_a_lost_answer_neither_loses_nor_doubles(outbox, server, forward, fault, channel):
    """The channel is asked whether the message is there."""
    outbox.log("a", "b")
    server.fault(fault, path="chat.postMessage")

    counts = forward(channel=channel)

    assert lines_of(server) == ["a", "b"]
    assert (counts.forwarded, counts.messages + counts.found, counts.maybe_doubled) == (2, 1, 0)


@pytest.mark.parametrize(("fault", "copies"), [("cut_before", 1), ("cut_after", 2)])
def test_where_the_channel_cannot_be_read_a_lost_message_is_posted_again_and_counted(outbox, server, forward, fault, copies):
    """Rather twice than never; the counts say so."""
    server.scopes.remove("channels:history")
    outbox.log("a")
    server.fault(fault, path="chat.postMessage")

    counts = forward()

    assert lines_of(server) == ["a"] * copies
    assert (counts.forwarded, counts.maybe_doubled) == (1, 1)


@pytest.mark.parametrize(
    "fault", ["invalid_auth", "channel_not_found", "not_in_channel", "missing_scope", "is_archived", "account_inactive"]
)
def test_what_a_person_must_mend_stops_the_run_and_keeps_the_rows(outbox, server, forward, fault):
    """Without retries, and free for the run after the mending."""
    outbox.log("a", "b")
    server.fault(fault)

    with pytest.raises(SettingsError, match=fault):
        forward()

    assert server.messages == []
    assert outbox.claimed() == 0
    assert forward().forwarded == 2


def test_a_message_that_slack_finds_too_long_is_cut_into_smaller_ones(outbox, server, forward):
    """Rows stay whole and in order."""
    outbox.log(*"abcde")
    server.fault("msg_too_long", 2)

    counts = forward()

    assert lines_of(server) == list("abcde")
    assert counts.forwarded == 5
    assert counts.messages > 1


def test_a_single_row_that_slack_finds_too_long_is_cut(outbox, server, forward):
    """It must not block those behind it."""
    outbox.log("a" * 3000, "b")
    server.fault("msg_too_long", 2)

    forward()

    assert [line[:1] for line in lines_of(server)] == ["a", "b"]
    assert "whole in the log" in server.messages[0].text


def test_a_token_that_may_not_send_metadata_still_posts(outbox, server, forward):
    """It only cannot be looked up."""
    outbox.log("a")
    server.fault("metadata_must_be_sent_from_app")

    assert forward().forwarded == 1
    assert server.messages[0].metadata is None


def test_an_outage_delays_and_loses_nothing(outbox, server, forward, age):
    """Slack answers 500 for hours; then everything flows, each message once."""
    outbox.fill(200)
    server.fault("500", -1)

    for _ in range(3):
        with pytest.raises(TransientError):
            forward()
        age()
    server.clear_faults()
    counts = forward()

    assert lines_of(server) == [f"row {number:05d}" for number in range(200)]
    assert counts.forwarded == 200


def test_a_slack_that_cannot_be_reached_frees_the_rows(outbox, server, clock, forward):
    """Nothing was posted, so the next run need not look."""
    outbox.log("a")
    client = WebClient("x", base_url="http://127.0.0.1:9/api/", retry_handlers=[], timeout=1)

    with outbox.connected() as connection, pytest.raises(TransientError, match="could not be reached"):
        slack.notify(slack.Outbox(connection, STATEMENTS, outbox.schema), client, "polku", clock=clock, sleep=clock.sleep)

    assert outbox.claimed() == 0
    assert forward().forwarded == 1


def test_a_run_keeps_to_its_bounds_and_the_next_takes_the_rest(outbox, server, forward):
    """Messages a run; in order over runs."""
    outbox.fill(300)

    counts = [forward(max_messages=1) for _ in range(3)]

    assert [count.messages for count in counts] == [1, 1, 1]
    assert [count.waiting for count in counts] == [True, True, False]
    assert lines_of(server) == [f"row {number:05d}" for number in range(300)]


def test_a_run_ends_in_time(outbox, server, clock, forward):
    """Seconds a run."""
    outbox.fill(400)
    began = clock()

    counts = forward(max_seconds=1.5)

    assert counts.waiting
    assert clock() - began < 4
    assert outbox.claimed() == 0


def test_a_backlog_of_a_day_is_worked_off_in_order(outbox, server, forward):
    """Many rows, claimed piece by piece, by as many runs as it takes."""
    outbox.fill(12_000)

    runs = 0
    while outbox.waiting():
        forward(max_messages=60, max_rows=1000)
        runs += 1

    assert lines_of(server) == [f"row {number:05d}" for number in range(12_000)]
    assert runs == pytest.approx(len(server.messages) / 60, abs=1)


def test_a_long_claim_is_renewed_before_it_counts_as_given_up(outbox, server, clock, forward):
    """Where each message takes long, no other run may think that this one died."""
    outbox.log(*("x" * 3900 for _ in range(6)))
    seen = set()

    class Slow(slack.Outbox):
        """Half a minute a statement."""

        def forward(self, claim_id, first, last):
            seen.add(claim_id)
            clock.now += 30
            super().forward(claim_id, first, last)

    counts = forward(kind=Slow, stale_seconds=150)

    assert counts.forwarded == 6
    assert len(seen) == 3


class Killed(BaseException):
    """The process ends here: nothing after it runs."""


def test_a_run_that_dies_between_post_and_mark_is_found_in_the_channel(outbox, server, forward, age):
    """While its claim is fresh nobody posts; afterwards its message is looked up, not posted again."""
    outbox.fill(300)

    class Dying(slack.Outbox):
        """Dies on its second mark."""

        marks = 0

        def forward(self, claim_id, first, last):
            self.marks += 1
            if self.marks == 2:
                raise Killed
            super().forward(claim_id, first, last)

    with pytest.raises(Killed):
        forward(kind=Dying)
    fresh = forward()
    age()
    healed = forward()

    assert fresh == slack.Counts(busy=True)
    assert (healed.found, healed.messages, healed.forwarded, healed.maybe_doubled) == (1, 1, 200, 0)
    assert lines_of(server) == [f"row {number:05d}" for number in range(300)]
    assert outbox.waiting() == 0


def test_a_dead_claim_is_looked_up_in_its_own_time_alone(outbox, server, clock, forward, age):
    """However much was said in the channel since: Slack is asked for the minutes of the claim, and waits are honoured."""
    outbox.log("a")
    client = WebClient(server.token, base_url=server.url, retry_handlers=[])
    metadata = {"event_type": "polku_log", "event_payload": {"claim": "dead", "first": 1, "last": 1}}
    with outbox.connected() as connection:
        slack.Outbox(connection, STATEMENTS, outbox.schema).claim("dead", slack.Limits())
    client.chat_postMessage(channel="polku", text="posted, and died", metadata=metadata)
    age()
    chatter = replace(server.messages[0], metadata=None, text="chatter", ts=f"{clock():.6f}")
    server.channel().messages.extend([chatter] * 6000)
    server.fault("ratelimited:5", path="conversations.history")

    counts = forward()

    assert (counts.found, counts.messages, counts.forwarded) == (1, 0, 1)
    assert server.calls.count("conversations.history") == 1
    assert 5 in clock.sleeps


def test_a_run_that_dies_before_its_post_is_made_up_for(outbox, server, forward, age):
    """Its rows are claimed and in no message."""
    outbox.log("a", "b")

    class Dying(slack.Outbox):
        """Dies once it has claimed."""

        def claim(self, claim_id, limits):
            super().claim(claim_id, limits)
            raise Killed

    with pytest.raises(Killed):
        forward(kind=Dying)
    age()
    counts = forward()

    assert (counts.forwarded, counts.found) == (2, 0)
    assert lines_of(server) == ["a", "b"]


def test_a_dead_claim_in_a_channel_that_cannot_be_read_doubles_one_message_at_most(outbox, server, forward, age):
    """Only the message behind the last mark is in doubt."""
    outbox.fill(400)
    server.scopes.remove("channels:history")

    class Dying(slack.Outbox):
        """Dies on its third mark."""

        marks = 0

        def forward(self, claim_id, first, last):
            self.marks += 1
            if self.marks == 3:
                raise Killed
            super().forward(claim_id, first, last)

    with pytest.raises(Killed):
        forward(kind=Dying)
    age()
    counts = forward()

    assert counts.maybe_doubled == 1
    assert sorted(set(lines_of(server))) == [f"row {number:05d}" for number in range(400)]
    assert len(lines_of(server)) - 400 == server.messages[2].text.count("\n") + 1


def test_a_run_that_wakes_after_its_claim_was_taken_over_marks_nothing(outbox, server, forward, age):
    """A zombie's mark must not touch another run's rows."""
    outbox.log("a", "b")
    with outbox.connected() as connection:
        zombie = slack.Outbox(connection, STATEMENTS, outbox.schema)
        zombie.claim("zombie", slack.Limits())
        age()
        assert forward(max_messages=0).waiting
        zombie.forward("zombie", 1, 2)
        zombie.release("zombie")

    assert outbox.waiting() == 2


def test_runs_at_once_post_each_row_once_and_in_order(redshift, outbox):
    """As a backfill and a schedule may; the one that finds the other at work goes home."""
    outbox.fill(400)
    counts = []

    with SlackServer(rate=None) as server:

        def run():
            client = WebClient(server.token, base_url=server.url, retry_handlers=[])
            with outbox.connected() as connection:
                box = slack.Outbox(connection, STATEMENTS, outbox.schema)
                while outbox.waiting():
                    counts.append(slack.notify(box, client, "polku", clock=Clock(), sleep=lambda _: None, limits=slack.Limits(max_rows=70)))

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert lines_of(server) == [f"row {number:05d}" for number in range(400)]
    assert sum(count.forwarded for count in counts) == 400


def test_a_statement_that_is_missing_is_named(outbox):
    """Half a deployment must not end in half a claim."""
    with outbox.connected() as connection, pytest.raises(SettingsError, match="lacks forward"):
        slack.Outbox(connection, {name: text for name, text in STATEMENTS.items() if name != "forward"}, "s")
