"""
What an event is, which columns it becomes, and the rule for everything that can be wrong with one.

``read`` is the thorough way from an event's bytes to a row, one event at a time; ``transform`` has a fast way for blocks of plain ones
and must come to the same rows. The rules in words: docs/events.md.
"""

from __future__ import annotations

import re
import sys
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from xxhash import xxh3_128_hexdigest

from polku import moments
from polku.errors import InvalidRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Column(NamedTuple):
    """
    One column of the staged file and of the target table.

    Args:
        name: Its name, in both.
        kind: Its type in Redshift.
        limit: Its length in bytes of UTF-8; 0 where it has none.
    """

    name: str
    kind: str
    limit: int = 0


COLUMNS = (
    Column("message_id", "varchar(256)", 256),
    Column("received_at", "timestamp"),
    Column("timestamp", "timestamp"),
    Column("original_timestamp", "timestamp"),
    Column("sent_at", "timestamp"),
    Column("type", "varchar(64)", 64),
    Column("event", "varchar(1024)", 1024),
    Column("name", "varchar(1024)", 1024),
    Column("user_id", "varchar(256)", 256),
    Column("anonymous_id", "varchar(256)", 256),
    Column("user_name", "varchar(256)", 256),
    Column("previous_id", "varchar(256)", 256),
    Column("group_id", "varchar(256)", 256),
    Column("properties", "super"),
    Column("traits", "super"),
    Column("context", "super"),
    Column("integrations", "super"),
    Column("extra", "super"),
    Column("fingerprint", "varchar(32)", 32),
    Column("batch_id", "varchar(64)", 64),
    Column("position", "varchar(1400)", 1400),
    Column("repairs", "varchar(256)", 256),
)
"""In the order of the staged file; COPY's column list and the tables keep to it."""

REASONS = {
    "empty": "The record holds no bytes but white space.",
    "not_json": "The bytes are no JSON: broken, cut off, or with NaN, Infinity or control characters in them.",
    "not_utf8": "The bytes are no valid UTF-8.",
    "envelope_ambiguous": "An envelope or a body holds a key twice, so that it cannot be told which events were meant.",
    "body_too_large": "The fields around the events of a body, which every row repeats, would come to more than 256 MiB.",
    "not_an_object": "It is JSON, but no object: a number, a string, true, false, null.",
    "nested_too_deep": "A value is nested deeper than the 1,000 levels that SUPER holds.",
    "string_too_long_for_super": "A string or a key inside a SUPER column is longer than 65,535 bytes.",
    "number_out_of_range": "A number has more than 38 digits or is beyond a double's range, so that Redshift could not hold it.",
    "row_too_large": "The row would be larger than the 4 MB that COPY reads.",
    "wrong_type": "An id, a name, a type or a time is an object, an array, true or false.",
    "message_id_unusable": "The messageId is longer than 256 bytes or holds control characters; cut, it could become another's.",
    "user_id_missing": "A server event has no userId: it is missing, null or empty.",
    "id_unusable": "A userId, anonymousId, previousId or groupId is longer than 256 bytes or holds control characters.",
    "timestamp_unreadable": "A time is none that can be read, or lies outside the years 1 to 9999.",
    "wrong_source": "The event is addressed to the other source (by context.resourcePath), but stood in this one's own buffer.",
    "source_unknown": "The event is addressed to neither source, or, in a stream that both share, to nobody.",
    "file_not_json": "The file holds neither a JSON object nor an array: its bytes, in pieces of at most 4 MiB.",
    "file_damaged": "The compressed file is damaged or cut off; what could be read before was read.",
    "file_too_large": "The file is larger, decompressed, than what one file may be; what came before was read.",
}
"""Why an event is in quarantine, by code."""

REPAIRS = {
    "message_id_derived": "It had no messageId (missing, null or empty), so one was derived from where it stood.",
    "number_to_text": "An id, a name or a type was a number; its digits are kept as text.",
    "text_cut": "A name or a type was longer than its column; cut between two characters, the whole is in extra under $sent.",
    "text_cleaned": "A name or a type held characters that a column cannot; they are U+FFFD, the original is in extra under $sent.",
    "nul_replaced": "A NUL character (\\u0000) inside a SUPER column is U+FFFD now.",
    "surrogate_replaced": "Half a character (a lone surrogate such as \\ud83d) is U+FFFD now.",
    "key_repeated": "A key stood twice at the top level; the last value counts, the others are in extra under $repeated.",
    "timestamp_missing": "It had no timestamp; that is its time of arrival.",
    "timestamp_from_number": "A time was a number: seconds, milliseconds, microseconds or nanoseconds since 1970, by its size.",
    "clock_left": "The sender's clock is more than a day from ours, or it contradicts itself; the timestamp is as it was sent.",
}
"""What was changed in an event that became a row, by code."""

SUPER_STRING = 65_535
SUPER_DEPTH = 1_000
ROW_BYTES = 4_000_000
SPREAD_BYTES = 256 << 20
"""Of what surrounds the events of a record, in all of their rows: a context of some MB around many tiny events would come to many GB."""
NUMBER_DIGITS = 38
NULL = "\\N"
SKEW = 86_400_000_000
"""The sender's clock is corrected where it is at most a day off."""

_BOM = b"\xef\xbb\xbf"
_WORN = "\ufffd"
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a whole pair
    rb"|\\(u[dD][89a-fA-F][0-9a-fA-F]{2})"  # group 1: half of one
    rb"|\\.",  # any other escape
    re.DOTALL,
)
_NUL = re.compile(rb"\\(u0000)|\\.", re.DOTALL)
_VALUE = rb'(?:"[^"\\]*"|[^",{}\[\]\s]+)'
_ID_BYTES = 256
_FLAT = 200
_NO_TIME = 1e-21
_SENT_AT = re.compile(rb'\s*,\s*"sentAt"\s*:\s*' + _VALUE + rb'|"sentAt"\s*:\s*' + _VALUE + rb"\s*,?\s*")
_NUMBER = re.compile(rb"-?([0-9]+)(?:\.([0-9]+))?(?:[eE][+-]?[0-9]+)?")
_UNFIT = re.compile("[\x00\x01\n\r]")
_BRACKET = re.compile(rb"[][{}]")
_MARK = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}:,]', re.DOTALL)
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")

_object_of = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array_of = msgspec.json.Decoder(list[msgspec.Raw])
_text_of = msgspec.json.Decoder(str)

_LEVELS = 4
"""So deep do arrays, envelopes and bodies lie in one another; what is deeper is taken as an event."""


class Outer(NamedTuple):
    """
    What surrounds an event, and holds for it where it says nothing itself.

    Args:
        address: Last part of the envelope's resourcePath; None where there is none.
        sent_at: sentAt of envelope or body, as JSON; None where there is none.
        context: The body's context, as JSON.
        integrations: The body's integrations, as JSON.
        extra: Other fields, by the name under which ``extra`` holds them: ``$envelope`` or ``$body`` and an object, as JSON.
        mended: Lone surrogates were replaced in ``extra``.
        ambiguous: It holds a key twice. What it surrounds is not taken out of it.
    """

    address: str | None = None
    sent_at: bytes | None = None
    context: bytes | None = None
    integrations: bytes | None = None
    extra: tuple[tuple[str, bytes], ...] = ()
    mended: bool = False
    ambiguous: bool = False

    @property
    def size(self) -> int:
        """Bytes of it that a row repeats."""
        return len(self.context or b"") + len(self.integrations or b"") + sum(len(value) for _, value in self.extra)


BARE = Outer()


class Place(NamedTuple):
    """
    Where and when an event arrived.

    Args:
        position: Text of its place, unique and the same in every replay.
        received: Arrival in microseconds since 1970.
        live: Arrival says something about the sender's clock (a stream), or it does not (a file).
    """

    position: str
    received: int
    live: bool


class Row(NamedTuple):
    """A row of the staged file but for ``user_name`` and ``batch_id``; None for null."""

    message_id: str
    received_at: str
    timestamp: str | None
    original_timestamp: str | None
    sent_at: str | None
    type: str | None
    event: str | None
    name: str | None
    user_id: str | None
    anonymous_id: str | None
    previous_id: str | None
    group_id: str | None
    properties: bytes | None
    traits: bytes | None
    context: bytes | None
    integrations: bytes | None
    extra: bytes | None
    fingerprint: str
    position: str
    repairs: tuple[str, ...]


def bared(data: bytes) -> bytes:
    """Return bytes without what may surround JSON: white space and a byte order mark."""
    return data.strip().removeprefix(_BOM).strip()


def unpack(data: bytes) -> list[tuple[bytes, Outer]]:
    """
    Return the events of one record, line or value, each as its own bytes and what surrounds it.

    Raises:
        InvalidRecord: ``data`` cannot be read as a whole.
    """
    found = list(_unpack(data, BARE, 0))
    size = sum(outer.size for _, outer in found) if len(found) > 1 else 0
    if size > SPREAD_BYTES:
        raise InvalidRecord("body_too_large", f"what surrounds its {len(found)} events would come to {size} bytes in their rows")
    return found


def _unpack(data: bytes, outer: Outer, level: int) -> Iterator[tuple[bytes, Outer]]:
    """Yield the events in ``data``, which lies ``level`` deep in its record."""
    data = bared(data)
    if not data:
        raise InvalidRecord("empty", "no bytes but white space")
    if level >= _LEVELS:
        yield data, outer
    elif data.startswith(b"["):
        items, mended = _decode(data, _array_of)
        for item in _originals(items, mended, data):
            yield from _unpack(item, outer, level + 1)
    elif data.startswith(b"{"):
        yield from _unpack_object(data, outer, level)
    else:
        yield data, outer


def address(context: Mapping[str, msgspec.Raw]) -> str | None:
    """Return to whom an envelope is addressed: the last part of its resourcePath, without stage and slashes; None where it has none."""
    raw = bytes(context.get("resourcePath", b"null"))
    if not raw.startswith(b'"'):
        return None if raw == b"null" else raw.decode("utf-8", "replace")
    return _text_of.decode(raw).strip().rstrip("/").rpartition("/")[2] or None


def derived_message_id(position: str) -> str:
    """Return the id of an event that brought none."""
    return "polku-" + blake2b(position.encode(), digest_size=16).hexdigest()


def fingerprint(event: bytes, *, sent_at: bool) -> str:
    """
    Return the hash of an event's bytes without its sentAt, which changes from try to try.

    Args:
        event: Its bytes, without white space around them.
        sent_at: Whether it has a sentAt of its own.
    """
    return xxh3_128_hexdigest(without_sent_at(event) if sent_at else event)


def without_sent_at(event: bytes) -> bytes:
    """Return an event's bytes without its own sentAt; one inside of properties stays."""
    if event.count(b'"sentAt"') == 1:
        cut, times = _SENT_AT.subn(b"", event, count=1)
        if times:
            return cut
    members, _ = _decode(event, _object_of)
    return _object({key: bytes(value) for key, value in members.items() if key != "sentAt"})


def repeated(data: bytes, members: Mapping[str, msgspec.Raw]) -> dict[str, list[bytes]]:
    """
    Return the values of keys that stand more than once in an object, but for the last of each, which is the one in ``members``.

    Args:
        data: The object, without white space around it.
        members: What it decodes to.
    """
    if len(data) == 1 + sum(len(msgspec.json.encode(key)) + len(bytes(value)) + 2 for key, value in members.items()):
        return {}  # no room for more
    if b"\\" not in data and all(data.count(b'"%b"' % key.encode()) == 1 for key in members):
        return {}
    found: dict[str, list[bytes]] = {}
    key, start, depth = "", 0, 0
    for match in _MARK.finditer(data):
        mark = match[0]
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
        elif depth == 1 and mark == b":":
            start = match.end()
        elif depth == 1 and not start and mark != b",":
            key = _text_of.decode(mark)
        if start and ((depth == 1 and mark == b",") or not depth):
            found.setdefault(key, []).append(data[start : match.start()].strip())
            start = 0
    return {key: values[:-1] for key, values in found.items() if values[1:]}


def read(data: bytes, outer: Outer, place: Place, *, server: bool) -> Row:
    """
    Return the row of one event.

    Args:
        data: The event's own bytes, without white space around them.
        outer: What surrounded it.
        place: Where and when it arrived.
        server: Whether it is a server event, which must have a userId.

    Raises:
        InvalidRecord: It goes to quarantine, with this reason.
    """
    if outer.ambiguous:
        raise InvalidRecord("envelope_ambiguous", "an envelope or a body with a key that stands twice in it")
    members, mended = _decode(data, _object_of)
    fields = _Fields(members, repeated(mended, members), mended=mended is not data)
    if outer.mended:
        fields.note("surrogate_replaced")
    message_id = fields.id("messageId", "message_id_unusable")
    if message_id is None:
        message_id = derived_message_id(place.position)
        fields.note("message_id_derived")
    user_id = fields.id("userId")
    if user_id is None and server:
        raise InvalidRecord("user_id_missing", "a server event without userId")
    moment, original, sent_at = _times(fields, outer, place)
    row = Row(
        message_id=message_id,
        received_at=moments.show(place.received),
        timestamp=moments.show(moment),
        original_timestamp=None if original is None else moments.show(original),
        sent_at=None if sent_at is None else moments.show(sent_at),
        type=fields.text("type", 64),
        event=fields.text("event", 1024),
        name=fields.text("name", 1024),
        user_id=user_id,
        anonymous_id=fields.id("anonymousId"),
        previous_id=fields.id("previousId"),
        group_id=fields.id("groupId"),
        properties=fields.value("properties"),
        traits=fields.value("traits"),
        context=fields.value("context", outer.context),
        integrations=fields.value("integrations", outer.integrations),
        extra=fields.rest(outer),
        fingerprint=fingerprint(mended, sent_at="sentAt" in members),
        position=place.position,
        repairs=(),
    )
    size = sum(map(len, filter(None, row)))
    if size > ROW_BYTES:
        raise InvalidRecord("row_too_large", f"{size} bytes in the columns; COPY takes some {ROW_BYTES}")
    return row._replace(repairs=tuple(fields.repairs))


class _Fields:
    """The top-level fields of one event, and what had to be repaired in them."""

    def __init__(self, members: Mapping[str, msgspec.Raw], again: Mapping[str, list[bytes]], *, mended: bool) -> None:
        self._members = {key: bytes(value) for key, value in members.items()}
        self._again = again
        self._sent: dict[str, bytes] = {}
        self._mended = mended
        self.repairs: dict[str, None] = {"surrogate_replaced": None} if mended else {}
        if again:
            self.note("key_repeated")

    def note(self, code: str) -> None:
        """Note a repair, once."""
        self.repairs[code] = None

    def scalar(self, key: str) -> str | None:
        """Return a text, or a number as text; None where it is missing or null."""
        raw = self._members.get(key, b"null")
        first = raw[:1]
        if first == b'"':
            return _text_of.decode(raw)
        if raw == b"null":
            return None
        if first in b"{[tf":
            raise InvalidRecord("wrong_type", f"{key} is {raw[:40]!r}; expected a string")
        return raw.decode()

    def id(self, key: str, reason: str = "id_unusable") -> str | None:
        """Return an id; None where it is missing, null or empty. An id is never changed: it would become somebody else's."""
        text = self.scalar(key)
        if not text:
            return None
        size = len(text.encode())
        if size > _ID_BYTES:
            raise InvalidRecord(reason, f"{key} is {size} bytes long; expected at most {_ID_BYTES}")
        if text == NULL or _UNFIT.search(text) or (self._mended and _WORN in text):
            raise InvalidRecord(reason, f"{key} holds characters that a column cannot: {text!r:.80}")
        if not self._members[key].startswith(b'"'):
            self.note("number_to_text")
        return text

    def text(self, key: str, limit: int) -> str | None:
        """Return a text that fits its column; what did not is kept as it was sent."""
        text = self.scalar(key)
        if text is None:
            return None
        if not self._members[key].startswith(b'"'):
            self.note("number_to_text")
        fit = _WORN + "N" if text == NULL else _UNFIT.sub(_WORN, text)
        if fit != text:
            self.note("text_cleaned")
        encoded = fit.encode()
        if len(encoded) > limit:
            self.note("text_cut")
            fit = encoded[:limit].decode("utf-8", "ignore")
        if fit != text:
            self._sent[key] = msgspec.json.encode(self._members[key].decode())
        return fit

    def moment(self, key: str, raw: bytes | None = None) -> int | None:
        """Return a time; None where it is missing, null or empty."""
        if raw is not None:
            self._members.setdefault(key, raw)
        text = self.scalar(key)
        if text is None or not text.strip():
            return None
        if not self._members[key].startswith(b'"'):
            text = _plain_number(text)
        if moments.counts(text):
            self.note("timestamp_from_number")
        try:
            return moments.read(text)
        except ValueError as error:
            raise InvalidRecord("timestamp_unreadable", f"{key} is {text!r:.80}: {error}") from error

    def value(self, key: str, default: bytes | None = None) -> bytes | None:
        """Return a value for a SUPER column, on one line."""
        raw = self._members.get(key)
        if raw is None or (raw == b"null" and default is not None):
            raw = default
        return None if raw is None else self._super(raw)

    def rest(self, outer: Outer) -> bytes | None:
        """Return the fields without a column, and those of envelope and body, as one object; None where there is none."""
        fields = {key: raw for key, raw in self._members.items() if key not in _COLUMN_OF}
        if self._sent:
            _add(fields, "$sent", _object(self._sent))
        if self._again:
            _add(fields, "$repeated", _object({key: b"[" + b",".join(values) + b"]" for key, values in self._again.items()}))
        for key, raw in outer.extra:
            _add(fields, key, raw)
        for key, shared in (("context", outer.context), ("integrations", outer.integrations)):
            if shared is not None and self._members.get(key, b"null") not in {b"null", shared}:
                _add(fields, "$body_" + key, shared)
        return self._super(_object(dict(sorted(fields.items())))) if fields else None

    def _super(self, raw: bytes) -> bytes:
        raw = raw.translate(_ONE_LINE)
        if b"\\u0000" in raw:
            cleaned = _NUL.sub(_worn, raw)
            if cleaned != raw:
                self.note("nul_replaced")
                raw = cleaned
        _check_super(raw)
        return raw


_COLUMN_OF = frozenset(
    {
        "messageId",
        "timestamp",
        "originalTimestamp",
        "sentAt",
        "type",
        "event",
        "name",
        "userId",
        "anonymousId",
        "previousId",
        "groupId",
        "properties",
        "traits",
        "context",
        "integrations",
    }
)


def _unpack_object(data: bytes, outer: Outer, level: int) -> Iterator[tuple[bytes, Outer]]:
    """Yield the events of an object: it is an envelope, a body or an event."""
    members, mended = _decode(data, _object_of)
    is_event = "messageId" in members or "type" in members
    event, batch = bytes(members.get("event", b"")), bytes(members.get("batch", b""))
    if event[:1] in (b"{", b"[") and not is_event:
        inside = _enveloped(members, outer, mended=mended is not data)
        if repeated(mended, members):
            yield data, inside._replace(ambiguous=True)
            return
        for inner in _originals([event], mended, data):
            yield from _unpack(inner, inside, level + 1)
    elif batch[:1] == b"[" and not is_event:
        inside = _bodied(members, outer, mended=mended is not data)
        if repeated(mended, members):
            yield data, inside._replace(ambiguous=True)
            return
        items, _ = _decode(batch, _array_of)
        for item in _originals(items, mended, data):
            yield from _unpack(item, inside, level + 1)
    else:
        yield data, outer


def _originals(items: Iterable[bytes | msgspec.Raw], mended: bytes, data: bytes) -> Iterator[bytes]:
    """Yield the bytes of items as they were sent: what was mended in them has kept its length."""
    end = 0
    for item in items:
        text = bytes(item)
        if mended is data:
            yield text
        else:
            start = mended.index(text, end)
            end = start + len(text)
            yield data[start:end]


def _enveloped(members: Mapping[str, msgspec.Raw], outer: Outer, *, mended: bool) -> Outer:
    """Return what surrounds the event of an envelope."""
    kept = {key: bytes(value) for key, value in members.items() if key not in ("event", "sentAt", "context")}
    context = _object_or_nothing(members.get("context"))
    if "context" in members and (set(context) != {"resourcePath"} or repeated(bytes(members["context"]), context)):
        kept["context"] = bytes(members["context"])
    return outer._replace(
        address=address(context) or outer.address,
        sent_at=_unless_null(members.get("sentAt")) or outer.sent_at,
        extra=(*outer.extra, ("$envelope", _object(kept))) if kept else outer.extra,
        mended=outer.mended or (mended and b"\\ufffd" in b"".join(kept.values())),
    )


def _bodied(members: Mapping[str, msgspec.Raw], outer: Outer, *, mended: bool) -> Outer:
    """Return what surrounds the events of a body."""
    kept = {key: bytes(value) for key, value in members.items() if key not in ("batch", "sentAt", "context", "integrations")}
    return outer._replace(
        address=address(_object_or_nothing(members.get("context"))) or outer.address,
        sent_at=_unless_null(members.get("sentAt")) or outer.sent_at,
        context=_unless_null(members.get("context")),
        integrations=_unless_null(members.get("integrations")),
        extra=(*outer.extra, ("$body", _object(kept))) if kept else outer.extra,
        mended=outer.mended or (mended and b"\\ufffd" in b"".join(kept.values())),
    )


def _object_or_nothing(raw: msgspec.Raw | None) -> Mapping[str, msgspec.Raw]:
    """Return the members of an object, none of anything else."""
    return _object_of.decode(raw) if raw is not None and bytes(raw).startswith(b"{") else {}


def _unless_null(raw: msgspec.Raw | None) -> bytes | None:
    """Return the bytes of a value; None of null and of nothing."""
    value = b"null" if raw is None else bytes(raw)
    return None if value == b"null" else value


def _object(members: Mapping[str, bytes]) -> bytes:
    """Return an object as JSON, its values as they came."""
    return b"{" + b",".join(msgspec.json.encode(key) + b":" + value for key, value in members.items()) + b"}"


def _add(fields: dict[str, bytes], key: str, value: bytes) -> None:
    """Add a field of our own; where the event has sent one of this name, under a name with one more ``$``."""
    while key in fields:
        key = "$" + key
    fields[key] = value


def _times(fields: _Fields, outer: Outer, place: Place) -> tuple[int, int | None, int | None]:
    """Return timestamp, original_timestamp and sent_at of an event."""
    stamp = fields.moment("timestamp")
    original = fields.moment("originalTimestamp")
    sent = fields.moment("sentAt", outer.sent_at)
    if stamp is not None and original is not None:
        return stamp, original, sent
    original = original if stamp is None else stamp
    if original is None:
        fields.note("timestamp_missing")
        return place.received, None, sent
    if sent is None or not place.live:
        return original, original, sent
    corrected = original + place.received - sent
    if abs(place.received - sent) > SKEW or original - sent > SKEW or not moments.EARLIEST <= corrected <= moments.LATEST:
        fields.note("clock_left")
        return original, original, sent
    return corrected, original, sent


def _plain_number(text: str) -> str:
    """Return a JSON number without its exponent, if it is of a size that can be a time."""
    if "e" not in text.lower():
        return text
    size = abs(float(text))
    return "0" if size < _NO_TIME else f"{Decimal(text):f}" if size < 1 / _NO_TIME else text


def _decode(data: bytes, decoder: msgspec.json.Decoder[Any]) -> tuple[Any, bytes]:
    """
    Return what the bytes hold, and the bytes: the same object, unless lone surrogates had to be replaced.

    Raises:
        InvalidRecord: They hold no such thing.
    """
    if data.count(b"[") + data.count(b"{") > _FLAT:
        with _DeepStack():
            return _decode_flat(data, decoder)
    return _decode_flat(data, decoder)


def _decode_flat(data: bytes, decoder: msgspec.json.Decoder[Any]) -> tuple[Any, bytes]:
    """Do what ``_decode`` says, with the stack that there is."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRecord("not_utf8", str(error)[:200]) from error
    try:
        try:
            return decoder.decode(data), data
        except msgspec.ValidationError as error:
            raise InvalidRecord("not_an_object", str(error)[:200]) from error
        except msgspec.DecodeError:
            mended = _HALF.sub(_worn, data)
            return decoder.decode(mended), mended
    except msgspec.DecodeError as error:
        raise InvalidRecord("not_json", str(error)[:200]) from error
    except RecursionError as error:
        raise InvalidRecord("nested_too_deep", f"more than {SUPER_DEPTH} levels") from error


class _DeepStack:
    """Room on the stack for JSON that is deeply nested, so that what can be read does not depend on who calls."""

    def __enter__(self) -> None:
        self._limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(self._limit, 6 * SUPER_DEPTH))

    def __exit__(self, *_: object) -> None:
        sys.setrecursionlimit(self._limit)


def _worn(match: re.Match[bytes]) -> bytes:
    """Return U+FFFD for the character at fault, any other escape as it was."""
    return b"\\ufffd" if match[1] else match[0]


def _check_super(value: bytes) -> None:
    """Raise InvalidRecord where a SUPER column cannot hold this value, which is known to be JSON."""
    if len(value) > SUPER_STRING:
        for match in _STRING.finditer(value):
            size = match.end() - match.start() - 2
            if size > SUPER_STRING and (size := len(_text_of.decode(match[0]).encode())) > SUPER_STRING:
                raise InvalidRecord("string_too_long_for_super", f"a string of {size} bytes; SUPER takes {SUPER_STRING}")
    bare = _STRING.sub(b"", value)
    if bare.count(b"[") + bare.count(b"{") > SUPER_DEPTH:
        depth = 0
        for match in _BRACKET.finditer(bare):
            depth += 1 if match[0] in b"[{" else -1
            if depth > SUPER_DEPTH:
                raise InvalidRecord("nested_too_deep", f"more than {SUPER_DEPTH} levels")
    for match in _NUMBER.finditer(bare):
        digits = len(match[1]) + len(match[2] or b"")
        if digits > NUMBER_DIGITS or float(match[0]) in (float("inf"), float("-inf")):
            raise InvalidRecord("number_out_of_range", f"{match[0][:40]!r}; expected at most {NUMBER_DIGITS} digits and a double's range")
