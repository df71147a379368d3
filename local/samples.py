"""
Sample events as Segment's libraries send them, some of them sent twice, some broken, with the exact account of what must become of them.

Everything follows from a seed and a name: the same two give the same bytes. Another name gives other messageIds.
"""

from __future__ import annotations

import gzip
import json
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCES = ("server", "client")

_CLIENT_SHARE = 0.6
_TWICE_SHARE = 0.03
_BROKEN_SHARE = 0.02
_NAMELESS_SHARE = 0.01  # without a messageId
_BODY = 20  # events in a body of Segment's HTTP API
_FILE = 60  # events in a file
_PAGES = ("/", "/pricing", "/docs", "/docs/getting-started", "/blog/kinesis-positions", "/account", "/checkout")
_PRODUCTS = (
    ("sku-101", "Étagère", 129.9),
    ("sku-204", "Lámpara", 39.5),
    ("sku-377", "Drehstuhl", 249.0),
    ("sku-512", "Notebook", 7.25),
    ("sku-660", "茶碗", 18.0),
)
_BROWSERS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15",
    "Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Mobile Safari/537.36",
)
_LOCALES = ("en-GB", "de-DE", "es-ES", "fr-CA", "ja-JP")


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """
    One thing to deliver.

    Args:
        source: "server" or "client".
        way: Through the front door (a body), as a record of Kinesis, as an aggregated record's part, or as a file of the S3 buffer.
        data: Its bytes.
        name: A file's name.
    """

    source: str
    way: Literal["door", "kinesis", "aggregated", "file"]
    data: bytes
    name: str = ""


@dataclass(kw_only=True)
class Expected:
    """
    What must become of the events of one source.

    Args:
        received: Events, whatever becomes of them.
        ids: The messageId of each row.
        without_id: Rows whose messageId is derived from where they stood.
        duplicates: Copies of events that are rows already.
        conflicting: Those of the copies that say something else.
        quarantined: Events that cannot be read, by reason.
        users: The userId of every row that has one.
    """

    received: int = 0
    ids: set[str] = field(default_factory=set)
    without_id: int = 0
    duplicates: int = 0
    conflicting: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    users: set[str] = field(default_factory=set)

    @property
    def rows(self) -> int:
        """Rows in the table."""
        return len(self.ids) + self.without_id


def samples(count: int, *, name: str, seed: int, now: datetime, users: int = 40) -> tuple[list[Parcel], dict[str, Expected]]:
    """
    Return parcels that hold this many events, and what must become of them, by source.

    Args:
        count: Events in all: broken ones and copies count.
        name: Part of every messageId and file name.
        seed: What else decides.
        now: When they are sent; naive or aware, taken as UTC.
        users: How many people there are; the same ones for every name and seed.
    """
    dice = random.Random(f"{seed}/{name}")
    parcels: list[Parcel] = []
    expected = {source: Expected() for source in SOURCES}
    client = round(count * _CLIENT_SHARE)
    for source, share in (("server", count - client), ("client", client)):
        parcels += _Batch(source, dice, name, now, users, expected[source]).parcels(share)
    dice.shuffle(parcels)
    return parcels, expected


class _Batch:
    """The events of one source."""

    def __init__(self, source: str, dice: random.Random, name: str, now: datetime, users: int, expected: Expected) -> None:
        self.source = source
        self.dice = dice
        self.name = name
        self.now = now.replace(tzinfo=None)
        self.users = users
        self.expected = expected

    def parcels(self, count: int) -> list[Parcel]:
        """Return parcels with this many events."""
        broken = round(count * _BROKEN_SHARE)
        twice = round(count * _TWICE_SHARE)
        nameless = round(count * _NAMELESS_SHARE)
        whole = [self._event() for _ in range(count - broken - twice)]
        for event in whole[:nameless]:
            del event["messageId"]
        copies = [dict(self.dice.choice(whole[nameless:])) for _ in range(twice)] if len(whole) > nameless else []
        self._account_for(whole, nameless, copies)
        lines = [_bytes(event) for event in whole + copies]
        self.dice.shuffle(lines)
        bad_lines, bad_parcels = self._broken(broken + twice - len(copies))
        for line in bad_lines:
            lines.insert(self.dice.randrange(len(lines) + 1), line)
        return self._packed(lines) + bad_parcels

    # -- events

    def _event(self) -> dict[str, Any]:
        """Return a whole event."""
        at = self.now - timedelta(milliseconds=self.dice.randrange(120_000))
        event: dict[str, Any] = {"messageId": self._id(), "timestamp": _iso(at), "channel": self.source}
        number = self.dice.randrange(self.users)
        if self.source == "server":
            event |= {
                "userId": f"user-{number:04}",
                "context": {"library": {"name": "analytics-python", "version": "2.3.5"}, "ip": f"10.1.{number % 256}.7"},
            }
            kinds = [self._order, self._track, self._identify]
        else:
            event |= {"anonymousId": str(uuid.UUID(int=self.dice.getrandbits(128), version=4)), "context": self._browser()}
            if self.dice.random() < 0.4:  # noqa: PLR2004 -- who is logged in
                event["userId"] = f"user-{number:04}"
            kinds = [self._page, self._page, self._track, self._screen, self._identify, self._group, self._alias]
        return event | self.dice.choice(kinds)(number)

    def _order(self, number: int) -> dict[str, Any]:
        products: list[dict[str, Any]] = [
            {"product_id": sku, "name": title, "price": price, "quantity": self.dice.randint(1, 3)}
            for sku, title, price in self.dice.sample(_PRODUCTS, 2)
        ]
        total = round(sum(product["price"] * product["quantity"] for product in products), 2)
        return {
            "type": "track",
            "event": "Order Completed",
            "properties": {"order_id": f"o-{number}-{self.dice.randrange(10**6)}", "total": total, "currency": "EUR", "products": products},
        }

    def _track(self, number: int) -> dict[str, Any]:
        name = self.dice.choice(("Signed Up", "Product Viewed", "Coupon Applied", "Subscription Renewed"))
        return {
            "type": "track",
            "event": name,
            "properties": {
                "plan": self.dice.choice(("free", "team", "business")),
                "seats": number % 12 + 1,
                "trial": number % 3 == 0,
            },
        }

    def _identify(self, number: int) -> dict[str, Any]:
        return {
            "type": "identify",
            "traits": {
                "email": f"user{number}@example.com",
                "createdAt": _iso(self.now - timedelta(days=number)),
                "address": {"city": "Zürich", "country": "CH"},
            },
        }

    def _page(self, number: int) -> dict[str, Any]:
        path = self.dice.choice(_PAGES)
        return {
            "type": "page",
            "name": path.rpartition("/")[2] or "home",
            "properties": {"path": path, "url": f"https://www.example.com{path}", "title": f"Example {path}", "search": f"?tab={number}"},
        }

    def _screen(self, number: int) -> dict[str, Any]:
        return {
            "type": "screen",
            "name": self.dice.choice(("Basket", "Profile", "Search")),
            "properties": {"depth": number % 9},
        }

    def _group(self, number: int) -> dict[str, Any]:
        return {
            "type": "group",
            "groupId": f"company-{number % 7}",
            "traits": {"name": f"Company {number % 7}", "employees": 10 * (number % 7 + 1)},
        }

    def _alias(self, number: int) -> dict[str, Any]:
        return {"type": "alias", "previousId": f"visitor-{number}"}

    def _browser(self) -> dict[str, Any]:
        return {
            "library": {"name": "analytics.js", "version": "next-1.81.0"},
            "locale": self.dice.choice(_LOCALES),
            "userAgent": self.dice.choice(_BROWSERS),
            "page": {"path": self.dice.choice(_PAGES), "referrer": "https://duckduckgo.com/"},
        }

    def _id(self) -> str:
        return f"{self.source}-{self.name}-{self.dice.getrandbits(64):016x}"

    def _account_for(self, whole: Sequence[dict[str, Any]], nameless: int, copies: Sequence[dict[str, Any]]) -> None:
        """Write down what becomes of the whole events and the copies; a few of the copies are made to contradict."""
        expected = self.expected
        expected.received += len(whole) + len(copies)
        expected.without_id += nameless
        expected.ids |= {event["messageId"] for event in whole[nameless:]}
        expected.users |= {event["userId"] for event in whole if "userId" in event}
        expected.duplicates += len(copies)
        seen = Counter(copy["messageId"] for copy in copies)
        for copy in copies[::10]:
            # Which of two that contradict each other arrives first is chance, which of three would also decide how many do.
            if seen[copy["messageId"]] == 1:
                copy["integrations"] = {"contradicts": True}
                expected.conflicting += 1

    # -- broken ones

    def _broken(self, count: int) -> tuple[list[bytes], list[Parcel]]:
        """Return events that cannot be read: those that can stand among others, and those that need a record of their own."""
        lines: list[bytes] = []
        parcels: list[Parcel] = []
        among: list[tuple[str, Any]] = [
            ("timestamp_unreadable", {"timestamp": "yesterday, about noon"}),
            ("message_id_unusable", {"messageId": "x" * 300}),
            ("string_too_long_for_super", {"properties": {"page": "long " * 14_000}}),
            ("wrong_type", {"event": {"name": "Order Completed"}}),
        ]
        if self.source == "server":
            among.append(("user_id_missing", {"userId": None}))
        alone = [
            ("not_json", lambda event: event[: len(event) // 2]),
            ("not_utf8", lambda event: event.replace(b'"timestamp"', b'"caf\xe9":1,"timestamp"', 1)),
            ("not_an_object", lambda _event: b"42"),
            ("empty", lambda _event: b" "),
        ]
        for number in range(count):
            event = self._event()
            reason, how = (among + alone)[number % (len(among) + len(alone))]
            self.expected.received += 1
            self.expected.quarantined[reason] += 1
            if callable(how):
                parcels.append(Parcel(source=self.source, way="kinesis", data=how(_bytes(event))))
            else:
                lines.append(_bytes(event | how))
        return lines, parcels

    # -- parcels

    def _packed(self, lines: list[bytes]) -> list[Parcel]:
        """Return the events in parcels of all kinds: about half through the front door, the rest through Kinesis and in files."""
        sent_at = _iso(self.now)
        parcels: list[Parcel] = []
        forms = ("jsonl", "jsonl.gz", "json", "jsonl.zst", "json.gz")
        while lines:
            die = self.dice.random()
            if die < 0.5:  # noqa: PLR2004 -- a body of several, as the libraries send them
                taken, lines = lines[:_BODY], lines[_BODY:]
                parcels.append(Parcel(source=self.source, way="door", data=_body(taken, sent_at)))
            elif die < 0.6:  # noqa: PLR2004 -- a single one
                parcels.append(Parcel(source=self.source, way="door", data=_with_sent_at(lines.pop(), sent_at)))
            elif die < 0.8:  # noqa: PLR2004 -- straight into the stream: the bare event, or as the front door would write it
                for _ in range(min(_BODY // 2, len(lines))):
                    bare = self.dice.random() < 0.5  # noqa: PLR2004
                    data = lines.pop()
                    way: Literal["kinesis", "aggregated"] = "kinesis" if die < 0.7 else "aggregated"  # noqa: PLR2004
                    parcels.append(Parcel(source=self.source, way=way, data=data if bare else _envelope(data, sent_at, self.source)))
            else:
                taken, lines = lines[:_FILE], lines[_FILE:]
                form = forms[sum(parcel.way == "file" for parcel in parcels) % len(forms)]
                name = f"{self.now:%Y/%m/%d}/{self.name}-{len(parcels):05}.{form}"
                parcels.append(Parcel(source=self.source, way="file", data=_file(taken, form), name=name))
        return parcels


def _bytes(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def _body(events: Sequence[bytes], sent_at: str) -> bytes:
    return b'{"batch":[' + b",".join(events) + b'],"sentAt":"' + sent_at.encode() + b'"}'


def _with_sent_at(event: bytes, sent_at: str) -> bytes:
    """Return an event as a library posts it alone; fingerprints leave sentAt out, so it is still a copy of itself."""
    return event[:-1] + b',"sentAt":"' + sent_at.encode() + b'"}'


def _envelope(event: bytes, sent_at: str, source: str) -> bytes:
    return b'{"event":' + event + b',"sentAt":"' + sent_at.encode() + b'","context":{"resourcePath":"/' + source.encode() + b'"}}'


def _file(events: Sequence[bytes], form: str) -> bytes:
    text = b"[" + b",\n".join(events) + b"]" if form.startswith("json.") or form == "json" else b"\n".join(events) + b"\n"
    if form.endswith("gz"):
        return gzip.compress(text, mtime=0)
    if form.endswith("zst"):
        import zstandard

        return zstandard.compress(text)
    return text


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds") + "Z"
