"""
A stand-in for Slack: the Web API methods that a bot needs, and a page that shows the channels.

What it does as Slack documents it (docs.slack.dev/reference/methods, /apis/web-api/rate-limits, /messaging/message-metadata):

- ``auth.test``, ``chat.postMessage``, ``conversations.history``, ``.info`` and ``.list``; JSON, form and multipart bodies;
- the token, its scopes, channels by id or name, membership; errors come with HTTP 200 and ``{"ok": false, "error": ...}``;
- one message a second a channel, with a burst: beyond it HTTP 429, ``Retry-After`` and ``ratelimited``;
- ``text`` over 40,000 characters is refused with ``msg_too_long`` (Slack truncates some of these, which would lose words in silence);
- message metadata, which ``conversations.history`` shows only when asked to.

``python -m local.slack --port 9191 --token xoxb-local --channel polku``
"""

from __future__ import annotations

import argparse
import base64
import binascii
import html
import json
import re
import threading
import time
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from local.http_server import BadRequest, LoopbackServer, Request, Response, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_TEXT = 40_000
MAX_BLOCKS = 50
MAX_SECTION_TEXT = 3_000
MAX_HISTORY = 999
ALL_SCOPES = ("chat:write", "channels:read", "channels:history")

_SCOPES = {
    "chat.postMessage": "chat:write",
    "conversations.history": "channels:history",
    "conversations.info": "channels:read",
    "conversations.list": "channels:read",
}
_EVENT_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,254}")
_MENTION = re.compile(r"<!(channel|here|everyone)(?:\|[^>]*)?>|<@(\w+)(?:\|[^>]*)?>|<!subteam\^(\w+)[^>]*>")
_MARKUP = re.compile(r"<([^<>\n]+)>")
_EMOJI = {":warning:": "⚠️", ":rotating_light:": "🚨", ":information_source:": "\N{INFORMATION SOURCE}", ":white_check_mark:": "✅"}


@dataclass(frozen=True, kw_only=True)
class Message:
    """
    One message in a channel.

    Args:
        channel: The channel's id.
        ts: Slack's id of a message in its channel: seconds since 1970 with six decimals.
        text: As it was sent, with Slack's escapes.
        metadata: ``{"event_type": ..., "event_payload": {...}}`` or None.
        blocks: As they were sent.
        mentions: Who would be notified: "channel", "here", "everyone", user and group ids.
    """

    channel: str
    ts: str
    text: str
    metadata: dict[str, Any] | None
    blocks: list[Any]
    mentions: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The text as a person reads it."""
        return self.text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")

    def as_api(self, bot_id: str, *, with_metadata: bool) -> dict[str, Any]:
        """Return the message as ``conversations.history`` gives it."""
        plain: dict[str, Any] = {"type": "message", "user": "U0POLKU", "bot_id": bot_id, "text": self.text, "ts": self.ts}
        if self.blocks:
            plain["blocks"] = self.blocks
        if self.metadata and with_metadata:
            plain["metadata"] = self.metadata
        return plain


@dataclass
class Channel:
    """A channel; ``allowance`` is its token bucket: the messages that may come at once, as of ``counted_at``."""

    id: str
    name: str
    member: bool = True
    archived: bool = False
    messages: list[Message] = field(default_factory=list)
    allowance: float = 0.0
    counted_at: float = 0.0

    def as_api(self) -> dict[str, Any]:
        """Return the channel as ``conversations.info`` gives it."""
        return {
            "id": self.id,
            "name": self.name,
            "is_channel": True,
            "is_private": False,
            "is_archived": self.archived,
            "is_member": self.member,
        }


class SlackServer(LoopbackServer):
    """
    Slack's Web API on loopback; ``url`` is the base URL for slack_sdk (``SLACK_API_URL``).

    Args:
        token: The only token that is known.
        channels: Names of channels that the bot is a member of.
        foreign: Names of channels that it is not a member of.
        scopes: What the token may do.
        rate: Messages a second a channel; None switches rate limiting off.
        burst: Messages that may come at once.
        clock: Seconds, for rate limiting and message ids.

    Faults beyond those of ``LoopbackServer``: "ratelimited" (HTTP 429, ``Retry-After: 1``; "ratelimited:30" for 30 s) and every
    error code of Slack, e.g. "invalid_auth", "fatal_error".
    """

    NAME = "slack"

    def __init__(
        self,
        *,
        port: int = 0,
        token: str = "xoxb-local",  # noqa: S107 (the stand-in's)
        channels: Sequence[str] = ("polku",),
        foreign: Sequence[str] = (),
        scopes: Sequence[str] = ALL_SCOPES,
        rate: float | None = 1.0,
        burst: int = 5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(port=port, max_body=4 << 20)
        self.token = token
        self.scopes = list(scopes)
        self.rate = rate
        self.burst = burst
        self.calls: list[str] = []
        self._clock = clock
        self._guard = threading.Lock()
        self._last_ts = 0
        names = [(name, True) for name in channels] + [(name, False) for name in foreign]
        self.channels = [Channel(id=_channel_id(name), name=name, member=member, allowance=burst) for name, member in names]

    @property
    def url(self) -> str:
        """Base URL for slack_sdk's ``WebClient(base_url=...)``."""
        return f"{self.address}/api/"

    @property
    def messages(self) -> list[Message]:
        """Every message of every channel, oldest first."""
        with self._guard:
            return sorted((message for channel in self.channels for message in channel.messages), key=lambda message: message.ts)

    def channel(self, name: str = "") -> Channel:
        """Return the channel with this name or id; the first one where none is named."""
        return self._find(name) if name else self.channels[0]

    def reset(self) -> None:
        """Forget messages, calls and faults."""
        self.clear_faults()
        with self._guard:
            self.calls.clear()
            for channel in self.channels:
                channel.messages.clear()
                channel.allowance, channel.counted_at = self.burst, self._clock()

    # requests

    def handle(self, request: Request) -> Response:
        """Answer a call of the Web API, ``GET /`` (a page), ``GET /messages`` (JSON) or ``POST /reset``."""
        if request.path.startswith("/api/"):
            return self._call(request.path.removeprefix("/api/"), request)
        if request.path == "/messages":
            return Response.of_json(
                [{"channel": m.channel, "ts": m.ts, "text": m.shown, "raw": m.text, "metadata": m.metadata} for m in self.messages]
            )
        if request.path == "/reset" and request.method == "POST":
            self.reset()
            return Response.of_json({"ok": True})
        if request.path == "/" and request.method in {"GET", "HEAD"}:
            return Response.of_html(self._page())
        return Response.of_json({"ok": False, "error": "unknown_method"}, 404)

    def faulty(self, kind: str) -> Response | None:
        """Return Slack's answer to a fault: HTTP 429, a 5xx page, or an error code."""
        if kind.startswith("ratelimited"):
            return _rate_limited(int(kind.partition(":")[2] or 1))
        if kind.isdecimal():
            return Response(status=int(kind), body=b"<html><body>upstream error</body></html>", headers={"Content-Type": "text/html"})
        return Response.of_json({"ok": False, "error": kind}) if re.fullmatch(r"[a-z]+(_[a-z]+)+", kind) else None

    def too_large(self) -> Response:
        """Return Slack's answer to a body that is too large."""
        return Response.of_json({"ok": False, "error": "request_timeout"}, 413)

    def _call(self, method: str, request: Request) -> Response:
        with self._guard:
            self.calls.append(method)
        known: dict[str, Callable[[Mapping[str, Any]], Response]] = {
            "auth.test": self._auth_test,
            "api.test": lambda _: Response.of_json({"ok": True}),
            "chat.postMessage": self._post_message,
            "conversations.history": self._history,
            "conversations.info": lambda args: Response.of_json(
                {"ok": True, "channel": self._find(str(args.get("channel", "")), by_name=False).as_api()}
            ),
            "conversations.list": self._list,
        }
        if method not in known:
            return _error("unknown_method", req_method=method)
        arguments = _arguments(request)
        if method != "api.test":
            self._authorize(method, request, arguments)
        return known[method](arguments)

    def _authorize(self, method: str, request: Request, arguments: Mapping[str, Any]) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if kind.lower() == "bearer" else str(arguments.get("token", ""))
        if not token:
            raise BadRequest(_error("not_authed"))
        if token != self.token:
            raise BadRequest(_error("invalid_auth"))
        needed = _SCOPES.get(method)
        if needed and needed not in self.scopes:
            raise BadRequest(_error("missing_scope", needed=needed, provided=",".join(self.scopes)))

    def _auth_test(self, _: Mapping[str, Any]) -> Response:
        facts = {
            "url": f"{self.address}/",
            "team": "Polku",
            "user": "polku",
            "team_id": "T0POLKU",
            "user_id": "U0POLKU",
            "bot_id": "B0POLKU",
        }
        return Response.of_json({"ok": True, **facts, "is_enterprise_install": False}, headers={"X-OAuth-Scopes": ",".join(self.scopes)})

    def _post_message(self, arguments: Mapping[str, Any]) -> Response:
        channel = self._find(str(arguments.get("channel", "")))
        if channel.archived:
            raise BadRequest(_error("is_archived"))
        if not channel.member and "chat:write.public" not in self.scopes:
            raise BadRequest(_error("not_in_channel"))
        text, blocks, metadata = str(arguments.get("text") or ""), _blocks(arguments.get("blocks")), _metadata(arguments.get("metadata"))
        if not text.strip() and not blocks:
            raise BadRequest(_error("no_text"))
        if len(text) > MAX_TEXT:
            raise BadRequest(_error("msg_too_long"))
        with self._guard:
            self._spend(channel)
            self._last_ts = max(self._last_ts + 1, int(self._clock() * 1_000_000))
            ts = f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"
            mentions = tuple(next(filter(None, match.groups())) for match in _MENTION.finditer(text))
            message = Message(channel=channel.id, ts=ts, text=text, metadata=metadata, blocks=blocks, mentions=mentions)
            channel.messages.append(message)
        return Response.of_json({"ok": True, "channel": channel.id, "ts": ts, "message": message.as_api("B0POLKU", with_metadata=True)})

    def _spend(self, channel: Channel) -> None:
        if self.rate is None:
            return
        now = self._clock()
        channel.allowance = min(self.burst, channel.allowance + max(now - channel.counted_at, 0) * self.rate)
        channel.counted_at = now
        if channel.allowance < 1:
            raise BadRequest(_rate_limited(max(1, round((1 - channel.allowance) / self.rate))))
        channel.allowance -= 1

    def _history(self, arguments: Mapping[str, Any]) -> Response:
        channel = self._find(str(arguments.get("channel", "")), by_name=False)
        if not channel.member:
            raise BadRequest(_error("not_in_channel"))
        try:
            limit = int(arguments.get("limit") or 100)
            oldest, latest = float(arguments.get("oldest") or 0), float(arguments.get("latest") or "inf")
        except ValueError:
            raise BadRequest(_error("invalid_arguments")) from None
        if not 1 <= limit <= MAX_HISTORY:
            raise BadRequest(_error("invalid_limit"))
        inclusive, with_metadata = _flag(arguments.get("inclusive")), _flag(arguments.get("include_all_metadata"))
        skip = _skipped(str(arguments.get("cursor") or ""))
        with self._guard:
            found = [
                m for m in reversed(channel.messages) if oldest < float(m.ts) < latest or (inclusive and float(m.ts) in {oldest, latest})
            ]
        page, more = found[skip : skip + limit], len(found) > skip + limit
        answer: dict[str, Any] = {
            "ok": True,
            "messages": [m.as_api("B0POLKU", with_metadata=with_metadata) for m in page],
            "has_more": more,
            "pin_count": 0,
        }
        if more:
            answer["response_metadata"] = {"next_cursor": base64.b64encode(f"next:{skip + limit}".encode()).decode()}
        return Response.of_json(answer)

    def _list(self, arguments: Mapping[str, Any]) -> Response:
        leave_archived = _flag(arguments.get("exclude_archived"))
        channels = [channel.as_api() for channel in self.channels if not (leave_archived and channel.archived)]
        return Response.of_json({"ok": True, "channels": channels, "response_metadata": {"next_cursor": ""}})

    def _find(self, name: str, *, by_name: bool = True) -> Channel:
        for channel in self.channels:
            if name == channel.id or (by_name and name.removeprefix("#") == channel.name):
                return channel
        raise BadRequest(_error("channel_not_found"))

    def _page(self) -> str:
        parts = []
        for channel in self.channels:
            rows = "".join(
                f"<li><time>{time.strftime('%H:%M:%S', time.gmtime(float(m.ts)))}</time><p>{_rendered(m.text)}</p></li>"
                for m in channel.messages[-200:]
            )
            parts.append(f"<h2># {html.escape(channel.name)}</h2><p class=count>{len(channel.messages)} messages</p><ol>{rows}</ol>")
        return _PAGE.replace("{body}", "".join(parts))


_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5><title>Slack (local)</title><style>
body{font:15px/1.46 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d1c1d}
h1{font-size:1.1rem;color:#616061}
h2{margin:1.5rem 0 0;border-bottom:1px solid #ddd}.count{color:#616061;margin:.3rem 0}
ol{list-style:none;padding:0}li{display:flex;gap:1rem;padding:.4rem 0}time{color:#616061;font-size:.8rem;padding-top:.1rem}
p{margin:0;overflow-wrap:anywhere}
code{background:#f4f4f4;padding:0 .2em;border-radius:3px}.mention{background:#fff3c4}
@media (prefers-color-scheme:dark){body{background:#1a1d21;color:#d1d2d3}
code{background:#2c2f33}.mention{background:#5c4a00}h2{border-color:#444}}
</style><h1>Slack, the local stand-in</h1>{body}</html>"""


def _channel_id(name: str) -> str:
    """Return an id as Slack's look, the same for a name every time."""
    return "C0" + re.sub(r"[^A-Z0-9]", "", name.upper())[:9].ljust(9, "0")


def _error(code: str, **more: str) -> Response:
    return Response.of_json({"ok": False, "error": code, **more})


def _rate_limited(seconds: int) -> Response:
    return Response.of_json({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": str(seconds)})


def _flag(value: Any) -> bool:
    return str(value).lower() in {"1", "true"}


def _skipped(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        return int(base64.b64decode(cursor, validate=True).decode().removeprefix("next:"))
    except (binascii.Error, ValueError):
        raise BadRequest(_error("invalid_cursor")) from None


def _arguments(request: Request) -> dict[str, Any]:
    """Return a call's arguments from its query and its body, whichever of Slack's three encodings it has."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    arguments: dict[str, Any] = dict(request.query)
    try:
        if kind == "application/json":
            plain = json.loads(request.body or b"{}")
            if not isinstance(plain, dict):
                raise BadRequest(_error("json_not_object"))
            arguments.update(plain)
        elif kind == "multipart/form-data":
            head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
            for part in BytesParser(policy=HTTP).parsebytes(head + request.body).iter_parts():
                payload: Any = part.get_payload(decode=True)
                arguments[str(part.get_param("name", header="content-disposition"))] = payload.decode()
        elif request.body:
            arguments.update(parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True))
    except ValueError:
        raise BadRequest(_error("invalid_json" if kind == "application/json" else "invalid_form_data")) from None
    return arguments


def _blocks(value: Any) -> list[Any]:
    """Return a message's blocks; raises BadRequest where Slack would refuse them."""
    if not value:
        return []
    try:
        blocks = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise BadRequest(_error("invalid_blocks_format")) from None
    if not isinstance(blocks, list) or len(blocks) > MAX_BLOCKS:
        raise BadRequest(_error("invalid_blocks"))
    for number, block in enumerate(blocks):
        text = block.get("text") if isinstance(block, dict) else None
        if not isinstance(block, dict) or "type" not in block:
            raise BadRequest(_error("invalid_blocks"))
        if isinstance(text, dict) and len(str(text.get("text", ""))) > MAX_SECTION_TEXT:
            fault = f"must be less than {MAX_SECTION_TEXT + 1} characters [json-pointer:/blocks/{number}/text/text]"
            raise BadRequest(
                Response.of_json(
                    {"ok": False, "error": "invalid_blocks", "errors": [fault], "response_metadata": {"messages": [f"[ERROR] {fault}"]}}
                )
            )
    return blocks


def _metadata(value: Any) -> dict[str, Any] | None:
    """Return a message's metadata; raises BadRequest where Slack would refuse it."""
    if not value:
        return None
    try:
        metadata = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise BadRequest(_error("invalid_metadata_format")) from None
    fits = (
        isinstance(metadata, dict)
        and _EVENT_TYPE.fullmatch(str(metadata.get("event_type", "")))
        and isinstance(metadata.get("event_payload"), dict)
    )
    if not fits:
        raise BadRequest(_error("invalid_metadata_format"))
    if len(json.dumps(metadata)) > 8000:  # noqa: PLR2004 (used here alone)
        raise BadRequest(_error("metadata_too_large"))
    kept: dict[str, Any] = metadata
    return kept


def _rendered(text: str) -> str:
    """Return a message's text as safe HTML, with mentions marked and ``code`` and *bold* shown."""
    shown = []
    for number, piece in enumerate(_MARKUP.split(text)):
        if number % 2:
            shown.append(f"<span class=mention>{html.escape(piece.replace('!', '@', 1))}</span>")
            continue
        plain = html.escape(piece.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"), quote=False)
        plain = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", plain)
        plain = re.sub(r"(?<!\w)\*([^*\n]+)\*(?!\w)", r"<b>\1</b>", plain)
        for name, sign in _EMOJI.items():
            plain = plain.replace(name, sign)
        shown.append(plain.replace("\n", "<br>"))
    return "".join(shown)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stand-in as a process."""
    parser = argparse.ArgumentParser(prog="python -m local.slack", description="A stand-in for Slack on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default="xoxb-local")
    parser.add_argument("--channel", action="append", help="a channel that the bot is a member of (repeatable); default: polku")
    parser.add_argument("--no-rate-limit", action="store_true")
    chosen = parser.parse_args(argv)
    serve(
        SlackServer(
            port=chosen.port,
            token=chosen.token,
            channels=[name.removeprefix("#") for name in chosen.channel or ["polku"]],
            rate=None if chosen.no_rate_limit else 1.0,
        )
    )


if __name__ == "__main__":
    main()
