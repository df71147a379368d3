"""
A stand-in for Sentry: takes the envelopes that sentry-sdk sends, and shows the events in them.

As Sentry does, it knows a project's public key, keeps the first event of those with one ``event_id``, and answers 429 with
``Retry-After`` when told to.

``python -m local.sentry --port 9192``
"""

from __future__ import annotations

import argparse
import html
import importlib
import json
import re
import threading
from typing import TYPE_CHECKING, Any

from local.http_server import LOOPBACK, LoopbackServer, Request, Response, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ENVELOPE = 40 << 20


class SentryServer(LoopbackServer):
    """
    Sentry's ingest endpoint on loopback; ``dsn`` is what goes into SENTRY_DSN.

    Args:
        key: The project's public key.
        project: The project's number.

    ``events`` holds what would become issues, as sent and parsed; ``others`` the other items (sessions, client reports).
    """

    NAME = "sentry"

    def __init__(self, *, port: int = 0, key: str = "0123456789abcdef0123456789abcdef", project: int = 1) -> None:
        super().__init__(port=port, max_body=MAX_ENVELOPE)
        self.key = key
        self.project = project
        self.events: list[dict[str, Any]] = []
        self.duplicates = 0
        self.others: list[tuple[str, bytes]] = []
        self._guard = threading.Lock()

    @property
    def dsn(self) -> str:
        """What sentry-sdk is initialised with."""
        return f"http://{self.key}@{LOOPBACK}:{self.port}/{self.project}"

    @property
    def url(self) -> str:
        """The DSN: what clients are configured with."""
        return self.dsn

    def reset(self) -> None:
        """Forget events and faults."""
        self.clear_faults()
        with self._guard:
            self.events.clear()
            self.others.clear()
            self.duplicates = 0

    def handle(self, request: Request) -> Response:
        """Take an envelope, or show what came: ``GET /`` (a page), ``GET /events`` (JSON); ``POST /reset``."""
        match = re.fullmatch(r"/api/(\d+)/(envelope|store)/?", request.path)
        if match and request.method == "POST":
            return self._take(int(match[1]), match[2], request)
        if request.path == "/events":
            with self._guard:
                return Response.of_json(self.events)
        if request.path == "/reset" and request.method == "POST":
            self.reset()
            return Response.of_json({"ok": True})
        if request.path == "/":
            return Response.of_html(self._page())
        return Response.of_json({"detail": "not found"}, 404)

    def faulty(self, kind: str) -> Response | None:
        """Return Sentry's answer to a fault; "ratelimited" is HTTP 429 for a minute."""
        if kind == "ratelimited":
            return Response.of_json(
                {"detail": "Sentry dropped data due to a quota"}, 429, {"Retry-After": "60", "X-Sentry-Rate-Limits": "60::organization"}
            )
        return super().faulty(kind)

    def _take(self, project: int, kind: str, request: Request) -> Response:
        if project != self.project or self._key_of(request) != self.key:
            return Response.of_json({"detail": "event submission rejected with_reason: ProjectId"}, 403)
        try:
            body = _inflated(request)
            items = [("event", body)] if kind == "store" else _items(body)
            events = [json.loads(payload) for name, payload in items if name == "event"]
        except OverflowError as error:
            return Response.of_json({"detail": str(error)}, 413)
        except ValueError as error:
            return Response.of_json({"detail": f"invalid event envelope: {error}"}, 400)
        with self._guard:
            seen = {event.get("event_id") for event in self.events}
            for event in events:
                if event.get("event_id") in seen:
                    self.duplicates += 1
                else:
                    self.events.append(event)
                    seen.add(event.get("event_id"))
            self.others.extend((name, payload) for name, payload in items if name != "event")
        return Response.of_json({"id": events[0].get("event_id") if events else None})

    def _key_of(self, request: Request) -> str:
        match = re.search(r"sentry_key=(\w+)", request.headers.get("x-sentry-auth", ""))
        return match[1] if match else request.query.get("sentry_key", "")

    def _page(self) -> str:
        with self._guard:
            rows = "".join(_row(event) for event in reversed(self.events[-200:]))
        return _PAGE.replace("{count}", str(len(self.events))).replace("{rows}", rows)


_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5><title>Sentry (local)</title><style>
body{font:15px/1.46 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
details{border-bottom:1px solid #ccc;padding:.5rem 0}
summary b{color:#c0392b}summary b.warning{color:#b8860b}
pre{overflow:auto;background:#f4f4f4;padding:.7rem;font-size:.8rem}i{color:#666;font-style:normal;font-size:.85rem}
@media (prefers-color-scheme:dark){body{background:#1d1626;color:#ddd}pre{background:#2b2233}}
</style><h1>Sentry, the local stand-in: {count} events</h1>{rows}</html>"""


def _row(event: dict[str, Any]) -> str:
    values = (event.get("exception") or {}).get("values") or []
    text = (
        f"{values[-1].get('type')}: {values[-1].get('value')}"
        if values
        else str(event.get("message") or (event.get("logentry") or {}).get("message") or "")
    )
    tags = " ".join(f"{name}={value}" for name, value in sorted((event.get("tags") or {}).items()))
    level = html.escape(str(event.get("level", "error")))
    whole = html.escape(json.dumps(event, indent=1, ensure_ascii=False))
    summary = f"<b class={level}>{level}</b> {html.escape(text[:300])}<br><i>{html.escape(tags)}</i>"
    return f"<details><summary>{summary}</summary><pre>{whole}</pre></details>"


def _inflated(request: Request) -> bytes:
    encoding = request.headers.get("content-encoding", "")
    if encoding == "br":
        return bytes(importlib.import_module("brotli").decompress(request.body))
    return request.inflated(MAX_ENVELOPE)


def _items(body: bytes) -> list[tuple[str, bytes]]:
    """Cut an envelope into (type, payload) items; raises ValueError (develop.sentry.dev/sdk/data-model/envelopes)."""
    end = body.find(b"\n")
    header, at = (body, len(body)) if end < 0 else (body[:end], end + 1)
    json.loads(header)
    items = []
    while at < len(body):
        end = body.find(b"\n", at)
        end = len(body) if end < 0 else end
        if end == at:
            at += 1
            continue
        item = json.loads(body[at:end])
        start = end + 1
        if "length" in item:
            stop = start + int(item["length"])
            if stop > len(body):
                raise ValueError("an item is shorter than its length")
        else:
            stop = body.find(b"\n", start)
            stop = len(body) if stop < 0 else stop
        items.append((str(item.get("type")), body[start:stop]))
        at = stop + 1
    return items


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stand-in as a process."""
    parser = argparse.ArgumentParser(prog="python -m local.sentry", description="A stand-in for Sentry on loopback.")
    parser.add_argument("--port", type=int, default=0)
    serve(SentryServer(port=parser.parse_args(argv).port))


if __name__ == "__main__":
    main()
