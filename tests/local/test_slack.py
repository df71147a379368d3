"""The local Slack behaves as Slack documents its Web API, seen through the real slack_sdk."""

from __future__ import annotations

import json
import urllib.request

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from local.slack import SlackServer


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        """Return them."""
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def slack(clock):
    with SlackServer(channels=("polku", "other"), foreign=("elsewhere",), clock=clock) as server:
        yield server


@pytest.fixture
def client(slack):
    return WebClient(slack.token, base_url=slack.url, retry_handlers=[], timeout=5)


def refusal(call, **arguments):
    """Return the error code with which Slack refuses a call."""
    with pytest.raises(SlackApiError) as caught:
        call(**arguments)
    return caught.value.response["error"]


def test_a_message_posted_by_name_is_in_the_channel(slack, client):
    """chat.postMessage takes a name with or without #, or an id, and answers with the id."""
    answers = [client.chat_postMessage(channel=name, text="hello") for name in ("#polku", "polku", slack.channel().id)]

    assert {answer["channel"] for answer in answers} == {slack.channel().id}
    assert [message.text for message in slack.messages] == ["hello"] * 3
    assert len({message.ts for message in slack.messages}) == 3


@pytest.mark.parametrize("token", ["", "xoxb-wrong"], ids=["none", "wrong"])
def test_a_token_that_is_not_known_is_refused(slack, token):
    """Slack tells a missing token from a wrong one."""
    client = WebClient(token, base_url=slack.url, retry_handlers=[])

    assert refusal(client.auth_test) == ("invalid_auth" if token else "not_authed")


def test_auth_test_names_the_team_and_the_scopes(slack, client):
    """The header X-OAuth-Scopes is how a program learns what its token may do."""
    answer = client.auth_test()

    assert answer["team"] == "Polku"
    assert "chat:write" in answer.headers["X-OAuth-Scopes"]


def test_a_missing_scope_is_named(slack, client):
    """Without channels:history the channel cannot be read, and Slack says which scope is needed."""
    slack.scopes.remove("channels:history")

    with pytest.raises(SlackApiError) as caught:
        client.conversations_history(channel=slack.channel().id)

    assert caught.value.response["error"] == "missing_scope"
    assert caught.value.response["needed"] == "channels:history"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param({"channel": "nowhere", "text": "x"}, "channel_not_found", id="unknown channel"),
        pytest.param({"channel": "elsewhere", "text": "x"}, "not_in_channel", id="not a member"),
        pytest.param({"channel": "polku", "text": " "}, "no_text", id="no text"),
        pytest.param({"channel": "polku", "text": "x" * 40_001}, "msg_too_long", id="text too long"),
        pytest.param({"channel": "polku", "text": "x", "blocks": [{"type": "divider"}] * 51}, "invalid_blocks", id="51 blocks"),
        pytest.param(
            {"channel": "polku", "text": "x", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}]},
            "invalid_blocks",
            id="a section of 3,001 characters",
        ),
        pytest.param(
            {"channel": "polku", "text": "x", "metadata": {"event_type": "a b", "event_payload": {}}},
            "invalid_metadata_format",
            id="event_type",
        ),
        pytest.param({"channel": "polku", "text": "x", "metadata": {"event_type": "a"}}, "invalid_metadata_format", id="no payload"),
    ],
)
@pytest.mark.filterwarnings("ignore:The top-level `text` argument is missing")
def test_a_message_that_slack_refuses_is_refused_with_its_code(slack, client, arguments, code):
    """What is refused is not in the channel."""
    assert refusal(client.chat_postMessage, **arguments) == code
    assert slack.messages == []


def test_the_longest_text_is_taken(slack, client):
    """The limit is 40,000 characters, not bytes."""
    client.chat_postMessage(channel="polku", text="ä" * 40_000)

    assert len(slack.messages[0].text) == 40_000


def test_messages_beyond_the_burst_are_limited_to_one_a_second(slack, client, clock):
    """HTTP 429 with Retry-After; each channel has its own allowance; time gives it back."""
    for _ in range(5):
        client.chat_postMessage(channel="polku", text="x")

    with pytest.raises(SlackApiError) as caught:
        client.chat_postMessage(channel="polku", text="too soon")
    client.chat_postMessage(channel="other", text="elsewhere")
    clock.now += 1
    client.chat_postMessage(channel="polku", text="a second later")

    assert caught.value.response.status_code == 429
    assert caught.value.response["error"] == "ratelimited"
    assert caught.value.response.headers["Retry-After"] == "1"
    assert [message.text for message in slack.messages if message.text != "x"] == ["elsewhere", "a second later"]


def test_history_shows_metadata_only_when_asked(slack, client):
    """include_all_metadata decides, as Slack documents it."""
    metadata = {"event_type": "polku_log", "event_payload": {"claim": "c1", "first": 1}}
    client.chat_postMessage(channel="polku", text="x", metadata=metadata)

    silent = client.conversations_history(channel=slack.channel().id)
    told = client.conversations_history(channel=slack.channel().id, include_all_metadata=True)

    assert "metadata" not in silent["messages"][0]
    assert told["messages"][0]["metadata"] == metadata


def test_history_is_read_page_by_page_newest_first(slack, client, clock):
    """A cursor leads through all messages, each once."""
    for number in range(7):
        client.chat_postMessage(channel="polku", text=str(number))
        clock.now += 1

    pages = [page["messages"] for page in client.conversations_history(channel=slack.channel().id, limit=3)]

    assert [len(page) for page in pages] == [3, 3, 1]
    assert [message["text"] for page in pages for message in page] == list("6543210")


def test_history_begins_after_oldest_and_ends_before_latest(slack, client, clock):
    """The two ends are left out unless inclusive is set."""
    stamps = []
    for number in range(4):
        stamps.append(client.chat_postMessage(channel="polku", text=str(number))["ts"])
        clock.now += 1

    inside = client.conversations_history(channel=slack.channel().id, oldest=stamps[0], latest=stamps[3])
    with_ends = client.conversations_history(channel=slack.channel().id, oldest=stamps[0], latest=stamps[3], inclusive=True)

    assert [message["text"] for message in inside["messages"]] == ["2", "1"]
    assert [message["text"] for message in with_ends["messages"]] == ["3", "2", "1", "0"]


def test_history_wants_an_id(slack, client):
    """A name is good for posting alone."""
    assert refusal(client.conversations_history, channel="polku") == "channel_not_found"


def test_channels_can_be_listed_and_looked_at(slack, client):
    """conversations.list gives the ids that conversations.info takes."""
    ids = {channel["name"]: channel["id"] for channel in client.conversations_list()["channels"]}

    assert client.conversations_info(channel=ids["elsewhere"])["channel"]["is_member"] is False


@pytest.mark.parametrize("encoding", ["json", "form"])
def test_both_encodings_of_a_call_are_read(slack, encoding):
    """Slack takes JSON and form bodies; the token may stand in the form."""
    body = {"channel": "polku", "text": "hällo", "token": slack.token}
    data = json.dumps(body).encode() if encoding == "json" else urllib.parse.urlencode(body).encode()
    kind = "application/json; charset=utf-8" if encoding == "json" else "application/x-www-form-urlencoded"

    with urllib.request.urlopen(urllib.request.Request(f"{slack.url}chat.postMessage", data, {"Content-Type": kind})) as answer:
        assert json.load(answer)["ok"] is True

    assert slack.messages[0].text == "hällo"


@pytest.mark.parametrize(
    ("kind", "arrives"),
    [
        ("cut_before", 0),
        ("cut_after", 1),
        ("half", 1),
        ("500", 0),
        ("fatal_error", 0),
        ("ratelimited:30", 0),
        ("timeout_before", 0),
        ("timeout_after", 1),
    ],
)
def test_a_fault_hits_one_request_and_says_whether_it_took_effect(slack, kind, arrives):
    """What a client cannot know, a test can: whether the message is in the channel."""
    client = WebClient(slack.token, base_url=slack.url, retry_handlers=[], timeout=1)
    slack.fault(kind)

    with pytest.raises((SlackApiError, OSError, ValueError, urllib.error.URLError, Exception)) as caught:
        client.chat_postMessage(channel="polku", text="faulty")
    client.chat_postMessage(channel="polku", text="well")

    assert not isinstance(caught.value, AssertionError)
    assert [message.text for message in slack.messages] == ["faulty"] * arrives + ["well"]


def test_a_fault_can_last_until_it_is_lifted(slack, client):
    """An outage, by the method it hits, from another process too."""
    body = json.dumps({"kind": "500", "times": -1, "path": "chat.postMessage"}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{slack.address}/fault", body, {"Content-Type": "application/json"})).close()

    assert [refusal(client.chat_postMessage, channel="polku", text="x")[:8] for _ in range(3)] == ["Received"] * 3
    assert client.auth_test()["ok"]
    slack.clear_faults()
    assert client.chat_postMessage(channel="polku", text="x")["ok"]


def test_an_unknown_fault_is_refused(slack):
    """A typing error in a test must not pass for a server that behaves."""
    with pytest.raises(ValueError, match="'Cut' is not known"):
        slack.fault("Cut")


def test_mentions_are_seen_only_where_markup_is_not_escaped(slack, client):
    """<!channel> notifies everybody, &lt;!channel&gt; nobody."""
    client.chat_postMessage(channel="polku", text="<!channel> and <@U123>")
    client.chat_postMessage(channel="polku", text="&lt;!channel&gt;")

    assert [message.mentions for message in slack.messages] == [("channel", "U123"), ()]
    assert slack.messages[1].shown == "<!channel>"


def test_the_page_shows_the_channel_without_running_what_is_in_it(slack, client):
    """Text of events ends up there."""
    client.chat_postMessage(channel="polku", text=":warning: New user: &lt;script&gt;alert(1)&lt;/script&gt; -&gt; Ada")

    with urllib.request.urlopen(slack.address) as answer:
        page = answer.read().decode()

    assert "New user: &lt;script&gt;alert(1)&lt;/script&gt; -&gt; Ada" in page
    assert "<script>" not in page


def test_it_listens_on_loopback_alone(slack):
    """The stack must not be reachable from the network."""
    assert slack.address.startswith("http://127.0.0.1:")
    assert slack._http.server_address[0] == "127.0.0.1"
