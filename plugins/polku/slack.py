"""
Log rows to Slack: pack them into messages, post each once, mark it.

What is promised: every row of ``polku_poc.log`` reaches the channel, in order, and once. A row is claimed before it is posted
and marked as forwarded after Slack has accepted it; while one run's claim is fresh, no other run posts. Each message carries
its claim in its metadata, so a message whose answer was lost (the run died, the connection was cut, Slack answered 5xx) is
looked up in the channel before it is posted again.

What can still double, one message at a time:

- where the token may not read the channel's history (scopes channels:history, or groups:history), a message whose answer was lost is
  posted again; ``Counts.maybe_doubled`` and a warning in the task's log say so;
- where Slack shows a message in the history later than ``_SETTLE_SECONDS`` after it cut the connection;
- where a run sleeps (a frozen machine) between its last look at the clock and its post for longer than a claim lasts.

Facts from docs.slack.dev: text is best kept under 4,000 characters and cut at 40,000 (reference/methods/chat.postMessage);
one message a second a channel, HTTP 429 with Retry-After beyond (apis/web-api/rate-limits); &, < and > are escaped, nothing
else (messaging/formatting-message-text).
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import re
import socket
import ssl
import time
import urllib.error
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from polku.errors import PolkuError, SettingsError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from slack_sdk import WebClient
    from slack_sdk.errors import SlackApiError

log = logging.getLogger(__name__)

MAX_TEXT = 4_000
"""Characters of a message: what Slack recommends. Counted after escaping, in UTF-16 units, which are never fewer than characters."""

EVENT_TYPE = "polku_log"
"""``event_type`` of the metadata of our messages."""

STATEMENTS = ("lock", "list_stale", "list_live", "claim", "read", "forward", "release")
"""The files of include/sql/notify, without number and ``.sql``."""

_SECONDS_BETWEEN_POSTS = 1.0
_TRIES = 3
_SETTLE_SECONDS = 2.0
_STALE_MARGIN = 90.0
"""A claim is given up this long before it counts as stale: longer than a post may take."""
_CLOCK_SKEW = timedelta(minutes=5)
_HISTORY_PAGES = 25
_HISTORY_PAGE = 200

_EMOJI = {"ERROR": ":rotating_light:", "WARNING": ":warning:"}
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_BROADCAST = re.compile(r"@(?=(?:channel|here|everyone)\b)", re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_BIDI = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CHANNEL_ID = re.compile(r"[CGD][A-Z0-9]{8,}")

_PASSING = frozenset(
    {"ratelimited", "rate_limited", "service_unavailable", "team_added_to_org", "message_limit_exceeded", "request_timeout"}
)
"""Errors after which nothing was posted, and that pass."""
_UNCERTAIN = frozenset({"fatal_error", "internal_error"})
"""Errors after which "some aspect of the operation" may have succeeded, as Slack says."""
_METADATA = frozenset({"invalid_metadata_format", "invalid_metadata_schema", "metadata_too_large", "metadata_must_be_sent_from_app"})
_NO_HISTORY = frozenset(
    {"missing_scope", "not_in_channel", "channel_not_found", "not_allowed_token_type", "no_permission", "access_denied"}
)
_REMEDIES = {
    "channel_not_found": "Set SLACK_CHANNEL to the channel's name or id; a private one must have the app as a member.",
    "not_in_channel": "Invite the app to the channel.",
    "is_archived": "Unarchive the channel, or set SLACK_CHANNEL to another.",
    "missing_scope": "Give the app the scope chat:write and install it again.",
}


class RateLimited(TransientError):
    """Slack takes no more for ``seconds``; nothing was posted."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Slack answered 429: it takes no more messages for {seconds:.0f} s")
        self.seconds = seconds


class LostAnswer(TransientError):
    """The request went out and no proper answer came: whether the message was posted is not known."""


class TooLong(PolkuError):
    """Slack answered msg_too_long; nothing was posted."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """
    One row of the log, as it was claimed.

    Args:
        position: Its place in the claim, from 1.
        id: Its id in the log.
        at: Its timestamp, UTC.
        level: "INFO", "WARNING" or "ERROR".
        text: Its message, as it was logged.
    """

    position: int
    id: int
    at: datetime
    level: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message to post: its text in Slack's escapes, and the rows in it."""

    text: str
    rows: tuple[Row, ...]

    @property
    def first(self) -> int:
        """Position of its first row."""
        return self.rows[0].position

    @property
    def last(self) -> int:
        """Position of its last row."""
        return self.rows[-1].position


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    Bounds of one run.

    Args:
        max_messages: Messages posted.
        max_seconds: When it starts no further message.
        max_rows: Rows claimed at a time.
        stale_seconds: Age at which a claim counts as given up. Longer than ``_STALE_MARGIN`` by at least a minute.
    """

    max_messages: int = 600
    max_seconds: float = 300.0
    max_rows: int = 2_000
    stale_seconds: int = 600


@dataclass(frozen=True, kw_only=True)
class Counts:
    """
    What a run did.

    Args:
        forwarded: Rows marked as forwarded.
        messages: Messages posted.
        found: Messages that an earlier try, or a try whose answer was lost, had posted; seen in the channel.
        maybe_doubled: Messages posted again although their first try may have reached the channel, whose history could not be read.
        busy: Another run's claim is fresh; this one did nothing.
        waiting: The run stopped at its bounds; rows are left.
    """

    forwarded: int = 0
    messages: int = 0
    found: int = 0
    maybe_doubled: int = 0
    busy: bool = False
    waiting: bool = False


def pack(rows: Sequence[Row], limit: int = MAX_TEXT) -> list[Message]:
    """
    Return rows as messages: one line a row, in order, as few messages as fit.

    Args:
        rows: In the order in which they are to be read.
        limit: Characters of a message; a row that is longer by itself is cut, and says so.
    """
    messages: list[Message] = []
    lines: list[str] = []
    inside: list[Row] = []
    size = 0
    for row in rows:
        text = line(row, limit)
        more = _length(text) + (1 if lines else 0)
        if lines and size + more > limit:
            messages.append(Message(text="\n".join(lines), rows=tuple(inside)))
            lines, inside, size, more = [], [], 0, _length(text)
        lines.append(text)
        inside.append(row)
        size += more
    if lines:
        messages.append(Message(text="\n".join(lines), rows=tuple(inside)))
    return messages


def line(row: Row, limit: int = MAX_TEXT) -> str:
    """Return a row as one line in Slack's escapes, at most ``limit`` characters: nobody is notified by it, and nothing in it is markup."""
    head = f"{_EMOJI.get(row.level, ':information_source:')} {row.at:%Y-%m-%d %H:%M:%S} "
    plain = _BIDI.sub("\ufffd", _CONTROL.sub(" ", row.text)).encode("utf-8", "replace").decode()
    text = head + escape(plain)
    if _length(text) <= limit:
        return text
    note = f" … (cut; whole in the log under id {row.id})"
    left = limit - _length(head) - _length(note)
    kept = []
    for character in _BROADCAST.sub("@\u200b", plain):
        piece = _ESCAPES.get(character, character)
        left -= _length(piece)
        if left < 0:
            break
        kept.append(piece)
    return head + "".join(kept) + note


def escape(text: str) -> str:
    """Return text that Slack shows as it is: escaped as Slack asks, and @channel, @here and @everyone with a zero-width space in them."""
    return _BROADCAST.sub("@\u200b", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def post(client: WebClient, channel: str, message: Message, metadata: Mapping[str, Any] | None) -> str:
    """
    Post one message, one try, and return the id of its channel.

    Raises:
        RateLimited: Nothing was posted; the error says for how long to wait.
        LostAnswer: It may have been posted.
        TooLong: Nothing was posted; post smaller pieces.
        TransientError: Nothing was posted; try again later.
        SettingsError: Nothing was posted; a person must change something.
    """
    from slack_sdk.errors import SlackApiError, SlackClientError

    try:
        answer = client.chat_postMessage(
            channel=channel,
            text=message.text,
            metadata=dict(metadata) if metadata else None,
            mrkdwn=False,
            parse="none",
            link_names=False,
            unfurl_links=False,
            unfurl_media=False,
        )
        return str(answer["channel"])
    except SlackApiError as error:
        raise _refusal(error) from error
    except (OSError, http.client.HTTPException, ValueError, SlackClientError) as error:
        if _never_sent(error):
            raise TransientError(f"Slack at {client.base_url} could not be reached: {_reason(error)}") from error
        raise LostAnswer(f"Slack gave no answer to a message ({_reason(error)}); it may have been posted") from error


def posted(client: WebClient, channel: str, claim_id: str, since: datetime, until: datetime | None) -> list[tuple[int, int]] | None:
    """
    Look a claim up in the channel.

    Args:
        client: Slack's.
        channel: Name or id of the channel.
        claim_id: The claim in the messages' metadata.
        since: When the claim was taken, UTC; older messages are not looked at.
        until: When it had surely ended; None where it is this run's.

    Returns:
        First and last position of each message of this claim that is in the channel; None where the token may not read the channel.

    Raises:
        TransientError: Slack did not answer; ask again later.
    """
    from slack_sdk.errors import SlackApiError, SlackClientError

    oldest = f"{(since - _CLOCK_SKEW).timestamp():.6f}"
    latest = f"{(until + _CLOCK_SKEW).timestamp():.6f}" if until else None
    found, cursor = [], None
    try:
        channel_id = _channel_id(client, channel)
        if not channel_id:
            return None
        for _ in range(_HISTORY_PAGES):
            page = client.conversations_history(
                channel=channel_id, oldest=oldest, latest=latest, limit=_HISTORY_PAGE, cursor=cursor, include_all_metadata=True
            )
            for message in page["messages"]:
                metadata = message.get("metadata") or {}
                payload = metadata.get("event_payload") or {}
                if metadata.get("event_type") == EVENT_TYPE and payload.get("claim") == claim_id:
                    found.append((int(payload["first"]), int(payload["last"])))
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return found
    except SlackApiError as error:
        if _code(error) in _NO_HISTORY:
            return None
        refusal = _refusal(error)
        raise refusal if isinstance(refusal, RateLimited | SettingsError) else TransientError(str(refusal)) from error
    except (OSError, http.client.HTTPException, ValueError, SlackClientError) as error:
        raise TransientError(f"Slack gave no answer when the channel was read: {_reason(error)}") from error
    log.warning("The channel holds more than %d messages from the time of the claim; the rest was not read", _HISTORY_PAGES * _HISTORY_PAGE)
    return None


def notify(
    outbox: Outbox,
    client: WebClient,
    channel: str,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    now: Callable[[], float] = time.time,
    limits: Limits = Limits(),
    new_claim_id: Callable[[], str] = lambda: uuid.uuid4().hex,
) -> Counts:
    """
    Forward the log's waiting rows to Slack, in order, within bounds.

    Args:
        outbox: The log.
        client: Slack's, without retry handlers: slack_sdk's own would post again after a reset connection.
        channel: Its name or id.
        clock: Seconds, monotonic.
        sleep: Waits.
        now: Seconds since 1970; says from when on the channel is searched.
        limits: Bounds of the run.
        new_claim_id: Gives a new id for each claim: up to 64 letters and digits.

    Raises:
        SettingsError: Slack refuses; a person must change something. Rows wait.
        TransientError: Slack is away. Rows wait.
    """
    run = _Run(outbox, client, channel, limits, (clock, sleep, now))
    while True:
        run.begin_claim()
        claim = outbox.claim(new_claim_id(), limits)
        if claim.busy:
            return replace(run.counts, busy=True)
        for stale in claim.stale:
            run.resolve(stale)
        if claim.stale:
            continue
        if not claim.rows:
            return run.counts
        if not run.work_off(claim.id, claim.rows):
            return replace(run.counts, waiting=True)


@dataclass(frozen=True, kw_only=True)
class _Stale:
    """A claim whose run did not finish it, when it was taken, and the position of its first row that is not marked."""

    id: str
    at: datetime
    first: int


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """What a try to claim came to: somebody else is at work, stale claims to resolve first, or rows (maybe none)."""

    id: str
    busy: bool = False
    stale: tuple[_Stale, ...] = ()
    rows: tuple[Row, ...] = ()


class Outbox:
    """
    The log's rows, by the statements of include/sql/notify. Each method is one transaction.

    Args:
        connection: A DB-API connection to Redshift without autocommit.
        sql: The texts of include/sql/notify by their name in ``STATEMENTS``, as Jinja templates.
        schema: The schema that they take.
    """

    def __init__(self, connection: Any, sql: Mapping[str, str], schema: str) -> None:
        missing = set(STATEMENTS) - sql.keys()
        if missing:
            raise SettingsError(f"include/sql/notify lacks {', '.join(sorted(missing))}; deploy it whole.")
        self._connection, self._sql, self._schema = connection, sql, schema

    def claim(self, claim_id: str, limits: Limits) -> _Claim:
        """Claim the oldest rows, unless another claim is fresh or stale ones are to be resolved first."""
        bounds = {"stale_seconds": limits.stale_seconds}
        with _transaction(self._connection) as cursor:
            self._run(cursor, "lock")
            if self._run(cursor, "list_live", **bounds):
                return _Claim(id=claim_id, busy=True)
            stale = self._run(cursor, "list_stale", **bounds)
            if stale:
                return _Claim(
                    id=claim_id,
                    stale=tuple(_Stale(id=str(row[0]), at=row[1].replace(tzinfo=timezone.utc), first=int(row[2])) for row in stale),
                )
            self._run(cursor, "claim", id=claim_id, max_rows=limits.max_rows, **bounds)
            rows = self._run(cursor, "read", id=claim_id)
        return _Claim(id=claim_id, rows=tuple(Row(position=r[0], id=r[1], at=r[2], level=str(r[3]), text=str(r[4])) for r in rows))

    def forward(self, claim_id: str, first: int, last: int) -> None:
        """Mark the rows of a message as forwarded."""
        with _transaction(self._connection) as cursor:
            self._run(cursor, "forward", id=claim_id, first=first, last=last)

    def release(self, claim_id: str) -> None:
        """Give the rows back that are not forwarded."""
        with _transaction(self._connection) as cursor:
            self._run(cursor, "release", id=claim_id)

    def _run(self, cursor: Any, name: str, **claim: Any) -> Sequence[Sequence[Any]]:
        import jinja2

        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 (SQL; only values that our code made)
        cursor.execute(environment.from_string(self._sql[name]).render(schema=self._schema, claim=claim))
        return cursor.fetchall() if cursor.description else ()


@contextlib.contextmanager
def _transaction(connection: Any) -> Iterator[Any]:
    """Give a cursor whose work is committed at the end of the block, or rolled back."""
    try:
        yield connection.cursor()
        connection.commit()
    except BaseException:
        # Whatever the driver says about rolling back on a broken connection: the first error is the one to raise.
        with contextlib.suppress(Exception):
            connection.rollback()
        raise


_Times = tuple["Callable[[], float]", "Callable[[float], None]", "Callable[[], float]"]
"""clock, sleep and now."""


class _Run:
    """One run of notify: what it has done, and when it posted last."""

    def __init__(self, outbox: Outbox, client: WebClient, channel: str, limits: Limits, time_of: _Times) -> None:
        self._outbox, self._client, self._channel, self._limits = outbox, client, channel, limits
        self._clock, self._sleep, self._now = time_of
        self._until = self._clock() + limits.max_seconds
        self._next_post = float("-inf")
        self._with_metadata = True
        self._looked_up = True
        self.counts = Counts()
        self.begin_claim()

    def begin_claim(self) -> None:
        """Remember when the claim that is about to be taken began."""
        self._claimed_at, self._since = self._clock(), datetime.fromtimestamp(self._now(), timezone.utc)

    def resolve(self, stale: _Stale) -> None:
        """Mark what a given-up claim has posted, and give the rest back."""
        found = self._look_up(stale.id, stale.at, stale.at + timedelta(seconds=self._limits.stale_seconds))
        for first, last in found or ():
            if first >= stale.first:
                self._outbox.forward(stale.id, first, last)
                self._count(found=1, forwarded=last - first + 1)
        if found is None:
            log.warning("Claim %s was given up and the channel cannot be read: its next message may be there already", stale.id)
            self._count(maybe_doubled=1)
        self._outbox.release(stale.id)

    def work_off(self, claim_id: str, rows: Sequence[Row]) -> bool:
        """Post a claim's rows; return False where the run's bounds stopped it. What was not posted is given back."""
        queue = pack(rows)
        try:
            while queue:
                if self.counts.messages >= self._limits.max_messages or self._clock() >= self._until:
                    self._outbox.release(claim_id)
                    return False
                if self._clock() >= self._claimed_at + self._limits.stale_seconds - _STALE_MARGIN:
                    break
                message = queue.pop(0)
                try:
                    self._deliver(claim_id, message)
                except TooLong:
                    queue[:0] = _smaller(message)
                    continue
                self._outbox.forward(claim_id, message.first, message.last)
                self._count(forwarded=len(message.rows))
        except LostAnswer:
            raise  # the claim stays: the run that finds it stale looks the message up
        except (SettingsError, TransientError) as error:
            self._outbox.release(claim_id)
            if isinstance(error, RateLimited) and self.counts.messages:
                log.warning("%s; the rest waits for the next run", error)
                return False
            raise
        self._outbox.release(claim_id)
        return True

    def _deliver(self, claim_id: str, message: Message) -> None:
        """Post a message until Slack has it, within the bounds of tries and time."""
        tries = 0
        while True:
            try:
                self._post(claim_id, message)
            except _MetadataRefused:
                log.warning("Slack refuses metadata with this token; a message whose answer is lost cannot be looked up")
                self._with_metadata = False
                continue
            except RateLimited as error:
                self._pause(error, error.seconds)
                continue
            except LostAnswer as error:
                if self._arrived(claim_id, message):
                    self._count(found=1)
                    return
                tries += 1
                if tries >= _TRIES:
                    raise
                self._count(maybe_doubled=0 if self._looked_up else 1)
                log.warning("%s; posting it again", error)
                continue
            except TransientError as error:
                tries += 1
                if tries >= _TRIES:
                    raise
                self._pause(error, 2.0**tries)
                continue
            self._count(messages=1)
            return

    def _post(self, claim_id: str, message: Message) -> None:
        """Post a message once, a second after the last one."""
        pause = self._next_post - self._clock()
        if pause > 0:
            self._sleep(pause)
        payload = {"claim": claim_id, "first": message.first, "last": message.last}
        self._next_post = self._clock() + _SECONDS_BETWEEN_POSTS
        post(self._client, self._channel, message, {"event_type": EVENT_TYPE, "event_payload": payload} if self._with_metadata else None)

    def _pause(self, error: TransientError, seconds: float) -> None:
        """Post no sooner than in so many seconds; raises the error where that is past the end of the claim or the run."""
        if self._clock() + seconds > min(self._until, self._claimed_at + self._limits.stale_seconds - _STALE_MARGIN):
            raise error
        log.info("%s; trying again in %.0f s", error, seconds)
        self._next_post = self._clock() + seconds

    def _arrived(self, claim_id: str, message: Message) -> bool:
        """Tell whether a message whose answer was lost is in the channel. Raises LostAnswer where Slack does not say."""
        self._sleep(_SETTLE_SECONDS)
        try:
            found = self._look_up(claim_id, self._since, None)
        except (TransientError, SettingsError) as error:
            raise LostAnswer(f"a message's answer was lost, and the channel could not be read: {error}") from error
        self._looked_up = found is not None and self._with_metadata
        if not self._looked_up:
            log.warning("A message's answer was lost and the channel cannot be searched: it may be there twice")
        return (message.first, message.last) in (found or ())

    def _look_up(self, claim_id: str, since: datetime, until: datetime | None) -> list[tuple[int, int]] | None:
        """Look a claim up in the channel, waiting where Slack asks to."""
        for _ in range(_TRIES):
            try:
                return posted(self._client, self._channel, claim_id, since, until)
            except RateLimited as error:
                self._pause(error, error.seconds)
                self._sleep(error.seconds)
        raise TransientError("Slack limits how often the channel may be read; the claim is looked up by a later run")

    def _count(self, **more: int) -> None:
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + number for name, number in more.items()})


class _MetadataRefused(PolkuError):
    """Slack takes the message, but not its metadata."""


def _smaller(message: Message) -> list[Message]:
    """Return a message that Slack found too long as two, or cut where it is one row."""
    if len(message.rows) > 1:
        half = len(message.rows) // 2
        return [*pack(message.rows[:half]), *pack(message.rows[half:])]
    limit = _length(message.text) // 2
    if limit < 200:  # noqa: PLR2004 (no message is too long at this length)
        raise SettingsError(
            f"Slack calls a message of {_length(message.text)} characters too long; row {message.rows[0].id} of the log cannot be posted."
        )
    return pack(message.rows, limit)


def _channel_id(client: WebClient, channel: str) -> str | None:
    """Return the id of a channel, None where its name cannot be looked up."""
    name = channel.removeprefix("#")
    if _CHANNEL_ID.fullmatch(name):
        return name
    for found in _channels(client):
        if found.get("name") == name:
            return str(found["id"])
    return None


def _channels(client: WebClient) -> Iterator[Mapping[str, Any]]:
    cursor = None
    for _ in range(_HISTORY_PAGES):
        page = client.conversations_list(exclude_archived=True, limit=_HISTORY_PAGE, cursor=cursor)
        yield from page["channels"]
        cursor = (page.get("response_metadata") or {}).get("next_cursor")
        if not cursor:
            return


def _code(error: SlackApiError) -> str:
    data = error.response.data if error.response is not None else None
    return str(data.get("error", "")) if isinstance(data, dict) else ""


def _refusal(error: SlackApiError) -> PolkuError:
    """Return the error of ours for an answer of Slack's that is no success."""
    code, status = _code(error), int(error.response.status_code)
    if status == http.HTTPStatus.TOO_MANY_REQUESTS or code in {"ratelimited", "rate_limited"}:
        headers = {name.lower(): value for name, value in error.response.headers.items()}
        after = str(headers.get("retry-after", "1"))
        return RateLimited(max(1.0, float(after)) if after.isdecimal() else 1.0)
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or code in _UNCERTAIN or not re.fullmatch(r"[a-z_]+", code):
        return LostAnswer(f"Slack answered HTTP {status}, {code[:100]!r}; the message may have been posted")
    if code == "msg_too_long":
        return TooLong("Slack answered msg_too_long")
    if code in _METADATA:
        return _MetadataRefused(code)
    if code in _PASSING:
        return TransientError(f"Slack answered {code}; nothing was posted")
    remedy = _REMEDIES.get(code, "See the errors of chat.postMessage on docs.slack.dev, and check SLACK_TOKEN and SLACK_CHANNEL.")
    return SettingsError(f"Slack refused with {code}. {remedy}")


def _never_sent(error: Exception) -> bool:
    """Tell whether a request surely did not leave: there was nobody to send it to."""
    from slack_sdk.errors import SlackClientError

    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(reason, ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError | SlackClientError)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _length(text: str) -> int:
    """Return the length in UTF-16 units."""
    return len(text) + sum(character > "\uffff" for character in text)
