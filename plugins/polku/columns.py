"""
The fast way from a block of records to rows: by column, many events at a time, for events that have nothing wrong with them.

It never decides that something *is* wrong. A record that is not plain is left to ``events``, the thorough way; what is plain becomes
the very row that ``events.read`` would make of it (a test compares them). Figures: docs/decisions/0002-staged-format.md.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from itertools import compress
from operator import add, sub
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from polku import events, moments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_NULL = events.NULL
_NONE = Raw(_NULL.encode())
_NOTHING = bytes(_NONE)

_SHORT = 64
"""A text of so many characters fits every column, whatever its characters; it is the smallest limit over four and over."""

_SMALL = 2_000
"""A record of so few bytes cannot hold what SUPER does not take: neither 1,000 levels nor a string of 65,535 bytes."""

_DIGITS = bytes(0x30 if chr(code).isdecimal() and code < 128 else code for code in range(256))
_ENDS = bytes(0x2C if code in b":,[]{} \t\r\n" else 0x65 if code == 0x45 else code for code in range(256))
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
_LONG_NUMBER = re.compile(rb"[0-9][0-9.]{38}|[0-9][eE]\+?[0-9]{3}")
_SUSPECT_ESCAPE = re.compile(rb'\\u0000|"\\\\N"')


class Plain(NamedTuple):
    """
    Rows that a block gave.

    Args:
        lines: Whole lines of the staged file.
        rows: How many.
        passed_over: Events of the other source.
        left: Indices of the records that must go the thorough way; nothing of them is in ``lines``.
    """

    lines: bytes
    rows: int
    passed_over: int
    left: Sequence[int]


class _Envelope(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    event: Raw
    sentAt: str = _NULL  # noqa: N815 - Segment's spelling
    context: Raw = _NONE


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    batch: list[Raw]
    sentAt: str = _NULL  # noqa: N815
    writeKey: Raw = _NONE  # noqa: N815


class _Address(msgspec.Struct, gc=False):
    resourcePath: str | None = None  # noqa: N815


class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The fields that most events have."""

    messageId: str  # noqa: N815
    timestamp: str
    type: str | None = _NULL
    event: str | None = _NULL
    userId: str | None = _NULL  # noqa: N815
    anonymousId: str | None = _NULL  # noqa: N815
    properties: Raw = _NONE
    context: Raw = _NONE
    sentAt: str = _NULL  # noqa: N815


class _WideEvent(_Event, forbid_unknown_fields=True, gc=False):
    """The fields that Segment's libraries are known to send; those without a column come last, sorted."""

    traits: Raw = _NONE
    integrations: Raw = _NONE
    name: str | None = _NULL
    previousId: str | None = _NULL  # noqa: N815
    groupId: str | None = _NULL  # noqa: N815
    _metadata: Raw = _NONE
    category: Raw = _NONE
    channel: Raw = _NONE
    receivedAt: Raw = _NONE  # noqa: N815
    version: Raw = _NONE
    writeKey: Raw = _NONE  # noqa: N815


_LEAN_FIELDS = 9
_NAMED_FIELDS = 14
_EXTRA_NAMES = [b'"' + name.encode() + b'":' for name in _WideEvent.__struct_fields__[_NAMED_FIELDS:]]

_envelope = msgspec.json.Decoder(_Envelope).decode
_body = msgspec.json.Decoder(_Body).decode
_address = msgspec.json.Decoder(_Address).decode
_lean = msgspec.json.Decoder(_Event).decode
_wide = msgspec.json.Decoder(_WideEvent).decode


class _Events(NamedTuple):
    """Events that were taken out of their records; the lists are columns of equal length."""

    owners: list[int]
    raws: list[Any]
    sent: list[str]
    extras: list[bytes] | None
    positions: list[str]

    def only(self, keep: list[bool]) -> _Events:
        """Return those to be kept."""
        return _Events(
            list(compress(self.owners, keep)),
            list(compress(self.raws, keep)),
            list(compress(self.sent, keep)),
            None if self.extras is None else list(compress(self.extras, keep)),
            list(compress(self.positions, keep)),
        )


class Columns:
    """
    Makes rows of blocks, under one set of rules.

    Args:
        source: "server" or "client".
        batch_id: Goes into every row.
        shared: Both sources name the same stream; only what is addressed to this one is its own.
        live: Arrivals say something about the senders' clocks.
        name: Gives the names of some users; None where users are not named.
    """

    def __init__(
        self, *, source: str, batch_id: str, shared: bool, live: bool, name: Callable[[Sequence[str]], Mapping[str, str]] | None
    ) -> None:
        self._source = source
        self._server = source == "server"
        self._shared = shared
        self._live = live
        self._name = name
        self._middle = f"\x01{batch_id}\x01"
        self._contexts: dict[bytes, tuple[str | None, bytes] | None] = {}
        self._lean = True

    def rows(self, data: Sequence[bytes], arrivals: Sequence[int], prefixes: Sequence[str]) -> Plain:
        """
        Return the rows of what is plain among some records.

        Args:
            data: The records, without white space around them.
            arrivals: When each arrived, in ms since 1970.
            prefixes: The position of each, but for the index of the event in it.
        """
        joined = b" ".join(data)
        left = _suspects(joined, data)
        opened, passed = self._open(joined, data, prefixes, left)
        opened, found = self._decoded(opened, left)
        while found:
            bad: set[int] = set()
            lines = self._lines(joined, opened, found, arrivals, bad)
            if not bad:
                return Plain(lines, len(found), passed, sorted(left))
            owners = {opened.owners[index] for index in bad}
            left |= owners
            keep = [owner not in owners for owner in opened.owners]
            opened, found = opened.only(keep), list(compress(found, keep))
        return Plain(b"", 0, passed, sorted(left))

    def _open(self, joined: bytes, data: Sequence[bytes], prefixes: Sequence[str], left: set[int]) -> tuple[_Events, int]:
        """Return the events of the records that are not left, and how many are the other source's."""
        if b'"batch"' not in joined and not left:
            try:
                envelopes = list(map(_envelope, data))
            except (msgspec.DecodeError, RecursionError):
                if b'"event":{' not in joined and not self._shared:
                    positions = [prefix + "000000" for prefix in prefixes]
                    return _Events(list(range(len(data))), list(data), [_NULL] * len(data), None, positions), 0
            else:
                contexts = list(map(self._context, [bytes(envelope.context) for envelope in envelopes]))
                if all(context is not None and (context[0] == self._source or (context[0] is None and not self._shared)) for context in contexts):
                    extras = [context[1] for context in contexts if context is not None]
                    return _Events(
                        list(range(len(data))),
                        [envelope.event for envelope in envelopes],
                        [envelope.sentAt for envelope in envelopes],
                        extras if any(extras) else None,
                        [prefix + "000000" for prefix in prefixes],
                    ), 0
        return self._open_each(data, prefixes, left)

    def _open_each(self, data: Sequence[bytes], prefixes: Sequence[str], left: set[int]) -> tuple[_Events, int]:
        """Do what ``_open`` says where the records are of several kinds."""
        opened = _Events([], [], [], [], [])
        passed = 0
        for owner, record in enumerate(data):
            if owner in left:
                continue
            address: str | None = None
            extra, sent, inner = b"", _NULL, record
            try:
                if record.startswith(b'{"event":{'):
                    envelope = _envelope(record)
                    inner, sent = bytes(envelope.event), envelope.sentAt
                    address, extra = self._context(bytes(envelope.context)) or ("?", b"")
                if inner.startswith(b'{"batch":[') or (b'"batch":[' in inner and b'"type"' not in inner.partition(b'"batch":[')[0]):
                    body = _body(inner)
                    events_in_it: Sequence[Any] = body.batch
                    sent = body.sentAt if body.sentAt not in ("", _NULL) else sent
                    if body.writeKey is not _NONE:
                        extra = b'"$body":{"writeKey":' + bytes(body.writeKey) + b"}" + (b"," + extra if extra else b"")
                else:
                    events_in_it = (inner,)
            except (msgspec.DecodeError, RecursionError):
                left.add(owner)
                continue
            if address != self._source and (self._shared or address is not None):
                if self._shared and address in ("server", "client"):
                    passed += len(events_in_it)
                else:
                    left.add(owner)
                continue
            count = len(events_in_it)
            opened.owners.extend([owner] * count)
            opened.raws.extend(events_in_it)
            opened.sent.extend([sent] * count)
            if opened.extras is not None:
                opened.extras.extend([extra] * count)
            opened.positions.extend([f"{prefixes[owner]}{index:06}" for index in range(count)])
        return opened, passed

    def _context(self, raw: bytes) -> tuple[str | None, bytes] | None:
        """Return to whom an envelope with this context is addressed and what of it goes to ``extra``; None where it is not plain."""
        known = self._contexts.get(raw, self)
        if known is not self:
            return known  # type: ignore[return-value]
        answer: tuple[str | None, bytes] | None
        if raw == _NOTHING:
            answer = (None, b"")
        else:
            try:
                path = _address(raw).resourcePath
            except msgspec.DecodeError:
                answer = None
            else:
                whole = raw == b'{"resourcePath":"' + (path or "").encode() + b'"}'
                answer = (
                    None if path is None else path.strip().rstrip("/").rpartition("/")[2] or None,
                    b"" if whole else b'"$envelope":{"context":' + raw + b"}",
                )
        if len(self._contexts) < _CONTEXTS_KEPT and len(raw) < _SHORT:
            self._contexts[raw] = answer
        return answer

    def _decoded(self, opened: _Events, left: set[int]) -> tuple[_Events, list[Any]]:
        """Return the events that could be decoded, typed."""
        if self._lean:
            try:
                return opened, list(map(_lean, opened.raws))
            except (msgspec.DecodeError, RecursionError):
                pass
        try:
            found = list(map(_wide, opened.raws))
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            self._lean = False
            return opened, found
        found = []
        for owner, raw in zip(opened.owners, opened.raws):
            try:
                found.append(_wide(raw))
            except (msgspec.DecodeError, RecursionError):
                found.append(None)
                left.add(owner)
        keep = [owner not in left for owner in opened.owners]
        return opened.only(keep), list(compress(found, keep))

    def _lines(self, joined: bytes, opened: _Events, found: list[Any], arrivals: Sequence[int], bad: set[int]) -> bytes:
        """Return the lines of some events; where ``bad`` holds indices afterwards these must be left out and the lines are of no use."""
        count = len(found)
        columns: list[Any] = list(zip(*map(astuple, found)))
        message_id = _texts(columns[0], 256, bad)
        bad.update(index for index, text in enumerate(message_id) if not text) if "" in message_id else None
        kind, event = _texts(columns[2], 64, bad), _texts(columns[3], 1024, bad)
        user_id, anonymous_id = _ids(columns[4], bad), _ids(columns[5], bad)
        if self._server and _NULL in user_id:
            bad.update(index for index, text in enumerate(user_id) if text is _NULL or text == _NULL)
        nothing = [_NULL] * count
        name = previous_id = group_id = user_name = nothing
        traits: Sequence[Any] = [_NONE] * count
        integrations = traits
        extras: Sequence[Any] = traits
        if len(columns) > _LEAN_FIELDS:
            traits, integrations = columns[9], columns[10]
            name, previous_id, group_id = _texts(columns[11], 1024, bad), _ids(columns[12], bad), _ids(columns[13], bad)
        if opened.extras or (len(columns) > _LEAN_FIELDS and any(column.count(_NONE) < count for column in columns[_NAMED_FIELDS:])):
            extras = _extras(opened.extras, columns[_NAMED_FIELDS:], count)
        own_sent = columns[8]
        received = [arrivals[owner] * 1000 for owner in opened.owners]
        times = self._times(columns[1], own_sent, opened.sent, received, bad)
        if bad:
            return b""
        if self._name is not None:
            names = self._name(list(dict.fromkeys(user_id)))
            user_name = [names[user] for user in user_id]
        stamp, original, sent = times
        arrived = [_show(moment) for moment in received]
        texts = "\n".join(
            map(
                "\x01".join,
                zip(message_id, arrived, stamp, original, sent, kind, event, name, user_id, anonymous_id, user_name, previous_id, group_id),
            )
        )
        if b"\\" in joined and not _whole(texts, count):
            for column in (message_id, kind, event, name, user_id, anonymous_id, previous_id, group_id):
                bad.update(index for index, text in enumerate(column) if _UNFIT.search(text))
            return b""
        prints = _fingerprints(opened.raws, own_sent)
        middle, end = self._middle, "\x01" + _NULL
        tails = "\n".join([print_ + middle + position + end for print_, position in zip(prints, opened.positions)])
        values: list[Any] = [columns[6], traits, columns[7], integrations, extras]
        if b"\n" in joined or b"\r" in joined:
            values = [[bytes(value).translate(_ONE_LINE) for value in column] for column in values]
        lines = map(b"\x01".join, zip(texts.encode().split(b"\n"), *values, tails.encode().split(b"\n")))
        return b"\n".join(lines) + b"\n"

    def _times(
        self, stamps: Sequence[str], own: Sequence[str], outer: Sequence[str], received: Sequence[int], bad: set[int]
    ) -> tuple[list[str], list[str], list[str]]:
        """Return timestamp, original_timestamp and sent_at of some events, as text."""
        originals = _moments(stamps, bad)
        sent_texts = outer if own.count(_NULL) == len(own) else [mine if mine not in ("", _NULL) else theirs for mine, theirs in zip(own, outer)]
        if sent_texts.count(_NULL) == len(sent_texts):
            shown = list(map(_show, originals))
            return shown, shown, list(sent_texts)
        sents = _moments(sent_texts, bad)
        if bad:
            return [], [], []
        if not self._live:
            shown = list(map(_show, originals))
            return shown, shown, list(map(_show, sents))
        skews = list(map(sub, received, sents))
        ahead = map(sub, originals, sents)
        if (
            max(skews) > events.SKEW
            or min(skews) < -events.SKEW
            or max(ahead) > events.SKEW
            or min(originals) < moments.EARLIEST + events.SKEW
            or max(originals) > moments.LATEST - events.SKEW
        ):
            bad.update(
                index
                for index, (skew, original, sent) in enumerate(zip(skews, originals, sents))
                if abs(skew) > events.SKEW
                or original - sent > events.SKEW
                or not moments.EARLIEST + events.SKEW < original < moments.LATEST - events.SKEW
            )
            return [], [], []
        return list(map(_show, map(add, originals, skews))), list(map(_show, originals)), list(map(_show, sents))


_show = moments.show
_CONTEXTS_KEPT = 1_000
_UNFIT = re.compile("[\x00\x01\n\r]")
_SENT_AT = b',"sentAt":"'


def _suspects(joined: bytes, data: Sequence[bytes]) -> set[int]:
    """Return the indices of records that may hold what the typed decoding does not find: it is looked for in the whole block at once."""
    suspects: set[int] = set()
    if not joined.isascii():
        try:
            joined.decode()
        except UnicodeDecodeError:
            suspects.update(index for index, record in enumerate(data) if not _is_utf8(record))
    if b"\\" in joined and _SUSPECT_ESCAPE.search(joined):
        suspects.update(index for index, record in enumerate(data) if _SUSPECT_ESCAPE.search(record))
    if b"000000000" in joined[::4].translate(_DIGITS) or b",e," in joined.translate(_ENDS, b"0123456789+.-"):
        suspects.update(index for index, record in enumerate(data) if _LONG_NUMBER.search(record))
    if max(map(len, data)) > _SMALL:
        suspects.update(
            index
            for index, record in enumerate(data)
            if len(record) > _SMALL
            and (len(record) > events.SUPER_STRING or record.count(b"[") + record.count(b"{") > events.SUPER_DEPTH)
        )
    return suspects


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _texts(column: Sequence[str | None], limit: int, bad: set[int]) -> Sequence[str]:
    """Return texts with the null mark for null; note those that are too long for their column."""
    texts: Sequence[str] = [_NULL if text is None else text for text in column] if None in column else column  # type: ignore[assignment]
    if max(map(len, texts)) > limit // 4:
        bad.update(index for index, text in enumerate(texts) if len(text) > limit // 4 and len(text.encode()) > limit)
    return texts


def _ids(column: Sequence[str | None], bad: set[int]) -> Sequence[str]:
    """Return ids, with the null mark also for empty ones."""
    texts = _texts(column, 256, bad)
    return [text or _NULL for text in texts] if "" in texts else texts


def _moments(texts: Sequence[str], bad: set[int]) -> list[int]:
    """Return the moments of texts; note those that cannot be read without more thought."""
    minutes, seconds = moments.MINUTES, moments.SECONDS
    try:
        return [minutes[text[:17]] + seconds[text[17:]] for text in texts]
    except ValueError:
        pass
    found = []
    for index, text in enumerate(texts):
        try:
            found.append(moments.read(text))
        except ValueError:
            found.append(0)
            bad.add(index)
    return found


def _whole(texts: str, count: int) -> bool:
    """Tell whether no text held a character that would break its row."""
    return texts.count("\n") == count - 1 and texts.count("\x01") == 12 * count and "\r" not in texts and "\0" not in texts


def _fingerprints(raws: Sequence[Any], own_sent: Sequence[str]) -> list[str]:
    """Return what ``events.fingerprint`` would."""
    if own_sent.count(_NULL) == len(own_sent):
        return [blake2b(raw, digest_size=16).hexdigest() for raw in raws]
    prints = []
    for raw, sent in zip(raws, own_sent):
        event = bytes(raw)
        if sent is not _NULL:
            before, found, after = event.partition(_SENT_AT + sent.encode() + b'"')
            event = before + after if found and event.count(b'"sentAt"') == 1 else events.without_sent_at(event)
        prints.append(blake2b(event, digest_size=16).hexdigest())
    return prints


def _extras(outer: Sequence[bytes] | None, columns: Sequence[Sequence[Any]], count: int) -> list[bytes]:
    """Return the column ``extra``: what is known of envelope and body, then the fields without a column, sorted by name."""
    extras = []
    for index in range(count):
        parts = [outer[index]] if outer and outer[index] else []
        parts += [name + bytes(column[index]) for name, column in zip(_EXTRA_NAMES, columns) if column[index] is not _NONE]
        extras.append(b"{" + b",".join(parts) + b"}" if parts else _NOTHING)
    return extras
