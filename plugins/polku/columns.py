"""
The fast way from a block of records to rows: by column, many events at a time, for events that have nothing wrong with them.

It never decides that something *is* wrong. A record that is not plain is left to ``events``, the thorough way; what is plain becomes
the very row that ``events.read`` would make of it (a test compares them). Figures: docs/decisions/0002-staged-format.md.
"""

from __future__ import annotations

import re
from itertools import compress
from operator import add, eq, sub
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Raw
from msgspec.structs import astuple
from xxhash import xxh3_128_hexdigest

from polku import events, moments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_NULL = events.NULL
_NONE = Raw(_NULL.encode())
_NOTHING = bytes(_NONE)

_SHORT = 256
"""In a head of so few bytes every text but the type fits its column."""

_SMALL = 2_000
"""A record of so few bytes cannot hold what SUPER does not take: neither 1,000 levels nor a string of 65,535 bytes."""

_FEW = 19
"""
An object of ten keys has so many spaces where one follows each colon and each comma between keys.

If it has no comma without a space, it cannot have a key twice and be as long as that: each key more takes 11 bytes at least.
"""

_DIGITS = bytes(0x30 if code in b"0123456789" else code for code in range(256))
_ENDS = bytes(0x2C if code in b":,[]{} \t\r\n\x01" else 0x65 if code in b"E" else code for code in range(256))
_SECOND = 1_000_000
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_TIGHT = re.compile(rb',"')
_LONG_NUMBER = re.compile(rb"[0-9][0-9.]{38}|[0-9][eE]\+?[0-9]{3}")
_SUSPECT_ESCAPE = re.compile(rb'\\u0000|"\\\\N"')


class Plain(NamedTuple):
    """
    Rows that a block gave.

    Args:
        lines: Whole lines of the staged file.
        rows: How many.
        first: The earliest arrival among them, in ms since 1970; 0 where there are none.
        last: The latest.
        passed_over: Events of the other source.
        left: Indices of the records that must go the thorough way; nothing of them is in ``lines``.
    """

    lines: bytes
    rows: int
    first: int
    last: int
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
    type: str = _NULL
    event: str = _NULL
    userId: str = _NULL  # noqa: N815
    anonymousId: str = _NULL  # noqa: N815
    properties: Raw = _NONE
    context: Raw = _NONE
    sentAt: str = _NULL  # noqa: N815


class _WideEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The fields that Segment's libraries are known to send, null too; those without a column come last, sorted."""

    messageId: str  # noqa: N815
    timestamp: str
    type: str | None = _NULL
    event: str | None = _NULL
    userId: str | None = _NULL  # noqa: N815
    anonymousId: str | None = _NULL  # noqa: N815
    properties: Raw = _NONE
    context: Raw = _NONE
    sentAt: str = _NULL  # noqa: N815
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
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_KEYS = [b'"' + name.encode() + b'"' for name in _WideEvent.__struct_fields__]
_ALWAYS = frozenset(_KEYS[:2])
_ENVELOPE_KEYS = [b'"event"', b'"sentAt"', b'"context"']
_BODY_KEYS = [b'"batch"', b'"sentAt"', b'"writeKey"']
_lean = msgspec.json.Decoder(_Event).decode
_wide = msgspec.json.Decoder(_WideEvent).decode


class _Events(NamedTuple):
    """
    Events that were taken out of their records; the lists are columns of equal length.

    Args:
        owners: Index of the record that each stood in.
        raws: Their bytes.
        sent: sentAt of what surrounds them.
        extras: What of the surroundings goes to ``extra``; None where nothing does.
        prefixes: Position of the record.
        indices: Index of each in its record; None where all are 0.
    """

    owners: Sequence[int]
    raws: Sequence[Any]
    sent: Sequence[str]
    extras: Sequence[bytes] | None
    prefixes: Sequence[str]
    indices: Sequence[int] | None

    def only(self, keep: list[bool]) -> _Events:
        """Return those to be kept."""
        return _Events(
            list(compress(self.owners, keep)),
            list(compress(self.raws, keep)),
            list(compress(self.sent, keep)),
            None if self.extras is None else list(compress(self.extras, keep)),
            list(compress(self.prefixes, keep)),
            None if self.indices is None else list(compress(self.indices, keep)),
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
                times = arrivals if isinstance(opened.owners, range) else [arrivals[owner] for owner in opened.owners]
                return Plain(lines, len(found), min(times), max(times), passed, sorted(left))
            owners = {opened.owners[index] for index in bad}
            left |= owners
            keep = [owner not in owners for owner in opened.owners]
            opened, found = opened.only(keep), list(compress(found, keep))
        return Plain(b"", 0, 0, 0, passed, sorted(left))

    def _open(self, joined: bytes, data: Sequence[bytes], prefixes: Sequence[str], left: set[int]) -> tuple[_Events, int]:
        """Return the events of the records that are not left, and how many are the other source's."""
        if b'"batch"' not in joined and not left:
            try:
                envelopes = list(map(_envelope, data))
            except (msgspec.DecodeError, RecursionError):
                if b'"event":{' not in joined and not self._shared:
                    return _Events(range(len(data)), data, [_NULL] * len(data), None, prefixes, None), 0
            else:
                raws, sent, contexts = zip(*map(astuple, envelopes), strict=True)
                if _may_repeat(data, (raws, sent, contexts), _ENVELOPE_KEYS):
                    left.update(index for index, (record, raw) in enumerate(zip(data, raws, strict=True)) if _envelope_repeats(record, raw))
                if not left and (extras := self._own(contexts)) is not None:
                    return _Events(range(len(data)), raws, sent, extras or None, prefixes, None), 0
        return self._open_each(data, prefixes, left)

    def _open_each(self, data: Sequence[bytes], prefixes: Sequence[str], left: set[int]) -> tuple[_Events, int]:
        """Do what ``_open`` says where the records are of several kinds."""
        owners: list[int] = []
        raws: list[Any] = []
        sents: list[str] = []
        extras: list[bytes] = []
        indices: list[int] = []
        passed = 0
        for owner, record in enumerate(data):
            if owner in left:
                continue
            address: str | None = None
            extra, sent, inner = b"", _NULL, record
            try:
                if record.startswith(b'{"event":{'):
                    envelope = _sound_envelope(record)
                    inner, sent = bytes(envelope.event), envelope.sentAt
                    address, extra = self._context(bytes(envelope.context)) or ("?", b"")
                if inner.startswith(b'{"batch":[') or (b'"batch":[' in inner and b'"type"' not in inner.partition(b'"batch":[')[0]):
                    body = _sound_body(inner)
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
                if self._shared and address in ("server", "client") and not _has_address(inner):
                    passed += len(events_in_it)
                else:
                    left.add(owner)
                continue
            count = len(events_in_it)
            if len(extra) * count > events.SPREAD_BYTES:
                left.add(owner)
                continue
            owners += [owner] * count
            raws += events_in_it
            sents += [sent] * count
            extras += [extra] * count
            indices += range(count)
        opened = _Events(owners, raws, sents, extras if any(extras) else None, [prefixes[owner] for owner in owners], indices)
        return opened, passed

    def _own(self, contexts: Sequence[Raw]) -> list[bytes] | None:
        """Return what of some envelopes goes to ``extra``, if all are addressed to this source; [] where nothing does."""
        if contexts.count(contexts[0]) == len(contexts):
            found = [self._context(bytes(contexts[0]))]
        else:
            found = [self._context(bytes(context)) for context in contexts]
        extras = []
        for context in found:
            if context is None or not (context[0] == self._source or (context[0] is None and not self._shared)):
                return None
            extras.append(context[1])
        if not any(extras):
            return []
        return extras * len(contexts) if len(found) < len(contexts) else extras

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
                alone = len(raw) < _SHORT and set(_members(raw)) == {"resourcePath"} and not events.repeated(raw, _members(raw))
            except msgspec.DecodeError:
                answer = None
            else:
                answer = (
                    None if path is None else path.strip().rstrip("/").rpartition("/")[2] or None,
                    b"" if alone else b'"$envelope":{"context":' + raw + b"}",
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
        found: list[Any]
        try:
            found = list(map(_wide, opened.raws))
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            self._lean = False
            return opened, found
        found = []
        for owner, raw in zip(opened.owners, opened.raws, strict=True):
            try:
                found.append(_wide(raw))
            except (msgspec.DecodeError, RecursionError):
                found.append(None)
                left.add(owner)
        keep = [owner not in left for owner in opened.owners]
        return opened.only(keep), list(compress(found, keep))

    def _lines(self, joined: bytes, opened: _Events, found: list[Any], arrivals: Sequence[int], bad: set[int]) -> bytes:  # noqa: C901
        """Return the lines of some events; where ``bad`` holds indices afterwards these must be left out and the lines are of no use."""
        count, nulls = len(found), [_NULL] * len(found)
        columns: list[Any] = list(zip(*map(astuple, found), strict=True))
        _note_repeated(opened.raws, columns, bad)
        message_id, stamps, kind, event, user_id, anonymous_id, properties, context, own_sent = columns[:_LEAN_FIELDS]
        nones = [_NONE] * count
        name: Sequence[str] = nulls
        previous_id: Sequence[str] = nulls
        group_id: Sequence[str] = nulls
        user_name: Sequence[str] = nulls
        traits: Sequence[Any] = nones
        integrations: Sequence[Any] = nones
        if len(columns) > _LEAN_FIELDS:
            traits, integrations = columns[9], columns[10]
            kind, event, name = _texts(kind), _texts(event), _texts(columns[11])
            user_id, anonymous_id, previous_id, group_id = map(_texts, (user_id, anonymous_id, columns[12], columns[13]))
            previous_id, group_id = _ids(previous_id), _ids(group_id)
        extras = _extras(opened.extras, columns[_NAMED_FIELDS:], count)
        user_id, anonymous_id = _ids(user_id), _ids(anonymous_id)
        if "" in message_id:
            bad.update(index for index, text in enumerate(message_id) if not text)
        if self._server and _NULL in user_id:
            bad.update(index for index, text in enumerate(user_id) if text == _NULL)
        shown = dict(zip(distinct := list(set(arrivals)), _shown([arrival * 1000 for arrival in distinct]), strict=True))
        if isinstance(opened.owners, range):
            received, arrived = [arrival * 1000 for arrival in arrivals], [shown[arrival] for arrival in arrivals]
        else:
            received = [arrivals[owner] * 1000 for owner in opened.owners]
            arrived = [shown[arrivals[owner]] for owner in opened.owners]
        times = self._times(stamps, own_sent, opened.sent, received, bad)
        supers = list(map(b"\x01".join, zip(properties, traits, context, integrations, extras, strict=True)))
        if _has_wild_numbers(b"\n".join([b"", *supers])):
            bad.update(index for index, value in enumerate(supers) if _LONG_NUMBER.search(value))
        if bad:
            return b""
        if b"\n" in joined or b"\r" in joined:
            supers = [value.translate(_ONE_LINE) for value in supers]
        if self._name is not None:
            names = self._name(list(dict.fromkeys(user_id)))
            user_name = [names[user] for user in user_id]
        heads = [
            f"{message}\x01{arrival}\x01{stamp}\x01{original}\x01{sent}\x01{type_}\x01{event_}\x01{name_}"
            f"\x01{user}\x01{anonymous}\x01{username}\x01{previous}\x01{group}".encode()
            for message, arrival, stamp, original, sent, type_, event_, name_, user, anonymous, username, previous, group in zip(
                message_id, arrived, *times, kind, event, name, user_id, anonymous_id, user_name, previous_id, group_id, strict=True
            )
        ]
        _check_heads(heads, (message_id, kind, event, name, user_id, anonymous_id, previous_id, group_id), bad, escapes=b"\\" in joined)
        if bad:
            return b""
        middle, prints = self._middle, _fingerprints(opened.raws, own_sent)
        if opened.indices is None:
            end = "000000\x01" + _NULL
            tails = [f"{print_}{middle}{prefix}{end}".encode() for print_, prefix in zip(prints, opened.prefixes, strict=True)]
        else:
            places = zip(prints, opened.prefixes, opened.indices, strict=True)
            tails = [f"{print_}{middle}{prefix}{index:06}\x01{_NULL}".encode() for print_, prefix, index in places]
        return b"\n".join(map(b"\x01".join, zip(heads, supers, tails, strict=True))) + b"\n"

    def _times(
        self, stamps: Sequence[str], own: Sequence[str], outer: Sequence[str], received: Sequence[int], bad: set[int]
    ) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """Return timestamp, original_timestamp and sent_at of some events, as text."""
        count = len(stamps)
        originals, fine = _moments(stamps, bad)
        texts = (
            outer
            if own.count(_NULL) == count
            else [mine if mine not in ("", _NULL) else theirs for mine, theirs in zip(own, outer, strict=True)]
        )
        if texts.count(_NULL) == count:
            shown = _as_read(stamps, originals, fine=fine)
            return shown, shown, texts
        sents, fine_too = _moments(texts, bad)
        if bad:
            return (), (), ()
        shown, shown_sent = _as_read(stamps, originals, fine=fine), _as_read(texts, sents, fine=fine_too)
        if not self._live:
            return shown, shown, shown_sent
        oldest, newest, first_sent, last_sent = min(originals), max(originals), min(sents), max(sents)
        if (
            max(received) - first_sent > _SKEW
            or last_sent - min(received) > _SKEW
            or newest - first_sent > _SKEW
            or oldest < moments.EARLIEST + _SKEW
            or newest > moments.LATEST - _SKEW
        ):
            bad.update(
                index
                for index, (arrival, original, sent) in enumerate(zip(received, originals, sents, strict=True))
                if abs(arrival - sent) > _SKEW
                or original - sent > _SKEW
                or not moments.EARLIEST + _SKEW <= original <= moments.LATEST - _SKEW
            )
            if bad:
                return (), (), ()
        corrected = list(map(add, originals, map(sub, received, sents)))
        return _shown(corrected, fine=fine or fine_too), shown, shown_sent


_CONTEXTS_KEPT = 1_000
_SKEW = events.SKEW
_LIMITS = (256, 64, 1024, 1024, 256, 256, 256, 256)
_HEAD_BREAKS = 12
_COMMON = len("2026-11-23T10:41:00.123Z")
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
    if max(map(len, data)) > _SMALL:
        suspects.update(
            index
            for index, record in enumerate(data)
            if len(record) > _SMALL and (len(record) > events.SUPER_STRING or record.count(b"[") + record.count(b"{") > events.SUPER_DEPTH)
        )
    return suspects


def _may_repeat(objects: Sequence[Any], columns: Sequence[Sequence[Any]], keys: Sequence[bytes]) -> bool:
    """
    Tell whether a key may stand twice in some objects: they are longer than what was decoded of them, a key once each, must have been.

    Args:
        objects: Their bytes.
        columns: What was decoded of them, a column for each key.
        keys: With their quotes.
    """
    count = least = len(objects)
    for key, column in zip(keys, columns, strict=False):
        absent = nulls = 0
        if isinstance(column[0], Raw):
            absent = column.count(_NONE)
            size = len(b"".join(column)) if absent < count else absent * len(_NULL)
        else:
            if key not in _ALWAYS:
                absent = column.count(_NULL)
            if len(columns) > _LEAN_FIELDS:
                nulls = column.count(None)
            text = "".join([part for part in column if part is not None] if nulls else column)
            size = (len(text) if text.isascii() else len(text.encode())) + 2 * (count - absent) + 2 * nulls
        least += size - len(_NULL) * absent + (len(key) + 2) * (count - absent)
    return sum(map(len, objects)) > least


def _note_repeated(raws: Sequence[Any], columns: Sequence[Sequence[Any]], bad: set[int]) -> None:
    """Note the events in which a key may stand twice at the top level."""
    if not _may_repeat(raws, columns, _KEYS):
        return
    wide = len(columns) > _LEAN_FIELDS
    keys: list[bytes] = []
    sizes: list[list[int]] = []
    partly: list[list[int]] = []
    fixed = 1
    for key, column in zip(_KEYS, columns, strict=False):
        none: Any = _NONE if isinstance(column[0], Raw) else _NULL
        absent = column.count(none)
        if absent == len(raws):
            continue
        keys.append(key)
        if absent or (wide and None in column) or (none is _NULL and not "".join(column).isascii()):
            partly.append([0 if value is none else _size(value) + len(key) + 2 for value in column])
        else:
            sizes.append(list(map(len, column)))
            fixed += len(key) + (4 if none is _NULL else 2)
    spaces = 2 * len(keys) - 1
    more = list(map(sub, map(len, raws), map(sum, zip(*sizes, *partly, strict=True))))
    spaced = [fixed + spaces - 2 * each.count(0) for each in zip(*partly, strict=True)] if partly else [fixed + spaces] * len(raws)
    even = raws if more == spaced else list(compress(raws, map(eq, more, spaced)))
    odd = [] if even is raws else [index for index, size in enumerate(more) if size not in (fixed, spaced[index])]
    if spaces > _FEW or _TIGHT.search(b"".join(even)):
        odd += [index for index, size in enumerate(more) if size == spaced[index]]
    bad.update(index for index in odd if _repeats(bytes(raws[index]), keys))


def _size(value: Any) -> int:
    """Return how many bytes a decoded value, or null, took at least."""
    if value is None:
        return 4
    return len(value) if isinstance(value, Raw) else len(value.encode()) + 2


def _repeats(data: bytes, keys: Sequence[bytes]) -> bool:
    """Tell whether one of these keys, which have letters only, may stand more than once in some JSON."""
    return any(data.count(key) > 1 for key in keys) or (b"\\" in data and bool(_ESCAPED_LETTER.search(data)))


def _has_address(data: bytes) -> bool:
    """Tell whether there may be another address in what an envelope holds; the innermost one counts."""
    return b"resourcePath" in data or bool(_ESCAPED_LETTER.search(data))


def _envelope_repeats(record: bytes, event: Any) -> bool:
    """Tell whether an envelope may hold a key twice."""
    before, _, after = record.partition(bytes(event))
    return _repeats(before + after, _ENVELOPE_KEYS)


def _sound_envelope(record: bytes) -> _Envelope:
    """Return an envelope; raises DecodeError also where a key may stand twice in it."""
    envelope = _envelope(record)
    if _envelope_repeats(record, envelope.event):
        raise msgspec.DecodeError("a key may stand there twice")
    return envelope


def _sound_body(data: bytes) -> _Body:
    """Return a body; raises DecodeError also where it has no events, or a key may stand twice in it."""
    body = _body(data)
    batch = body.batch
    least = len(b'{"batch":[]}') + sum(map(len, batch)) + len(batch) - 1
    if body.writeKey is _NONE and len(data) == least + (len(body.sentAt) + len(b',"sentAt":""') if body.sentAt is not _NULL else 0):
        return body
    if not batch or data.count(_BODY_KEYS[0]) > 1:
        raise msgspec.DecodeError("it is not plain")
    if _repeats(data.partition(bytes(batch[0]))[0] + data.rpartition(bytes(batch[-1]))[2], _BODY_KEYS):
        raise msgspec.DecodeError("a key may stand there twice")
    return body


def _has_wild_numbers(values: bytes) -> bool:
    """
    Tell whether there may be a number that SUPER does not hold.

    A very long one shows in every fourth byte; one with an exponent is an ``e`` between separators once digits and signs are taken out.
    """
    return b"000000000" in values[::4].translate(_DIGITS) or b",e," in values.translate(_ENDS, b"0123456789+.-")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _shown(times: Sequence[int], *, fine: bool = False) -> list[str]:
    """Return what ``moments.show`` would of times, which are whole milliseconds where they are not ``fine``."""
    if fine:
        return list(map(moments.show, times))
    seconds, thousandths = moments.SECOND_TEXTS, moments.THOUSANDTHS
    return [seconds[time // _SECOND] + thousandths[time % _SECOND // 1000] for time in times]


def _as_read(texts: Sequence[str], times: Sequence[int], *, fine: bool) -> list[str]:
    """Return what ``_shown`` would of times that were read from these texts; where all are in the common form, rewrites them."""
    if not fine:
        joined = "\n".join(texts)
        if len(joined) == (_COMMON + 1) * len(texts) - 1 and max(map(len, texts)) == _COMMON:
            return joined.replace("T", " ").replace("Z", "000").split("\n")
    return _shown(times, fine=fine)


def _moments(texts: Sequence[str], bad: set[int]) -> tuple[list[int], bool]:
    """Return the moments of texts, and whether there may be parts of a millisecond in them; note those that are not plain."""
    seconds, fractions, ends = moments.SECONDS, moments.FRACTIONS, moments.ENDS
    try:
        return [seconds[text[:20]] + fractions[text[20:]] for text in texts], False
    except ValueError:
        pass
    try:
        return [seconds[text[:20]] + fractions[text[20:23]] + ends[text[23:]] for text in texts], True
    except ValueError:
        pass
    found = []
    for index, text in enumerate(texts):
        try:
            if moments.counts(text):
                raise ValueError(text)  # noqa: TRY301 - it is read, and noted, by events
            found.append(moments.read(text))
        except ValueError:
            found.append(0)
            bad.add(index)
    return found, True


def _texts(column: Sequence[str | None]) -> Sequence[str]:
    """Return texts with the null mark for null."""
    return [_NULL if text is None else text for text in column] if None in column else column  # type: ignore[return-value]


def _ids(column: Sequence[str]) -> Sequence[str]:
    """Return ids with the null mark for empty ones."""
    return [text or _NULL for text in column] if "" in column else column


def _check_heads(heads: Sequence[bytes], columns: Sequence[Sequence[str]], bad: set[int], *, escapes: bool) -> None:
    """
    Note the events with a text that its column does not take.

    Args:
        heads: The columns before the SUPER ones, as they would be written.
        columns: The texts among them that an event has sent; ``_LIMITS`` holds how long each may be.
        bad: Where to note them.
        escapes: There were backslashes in the block, so there may be control characters.
    """
    if max(map(len, heads)) > _SHORT or max(map(len, set(columns[1]))) > _LIMITS[1] // 4:
        for column, limit in zip(columns, _LIMITS, strict=True):
            bad.update(index for index, text in enumerate(column) if len(text) > limit // 4 and len(text.encode()) > limit)
    if escapes and sum(map(_breaks, heads)) != _HEAD_BREAKS * len(heads):
        for column in columns:
            bad.update(index for index, text in enumerate(column) if _UNFIT.search(text))


def _breaks(head: bytes) -> int:
    """Return how many characters are in it that COPY reads as more than text."""
    return len(head) - len(head.translate(None, b"\0\x01\r\n"))


def _fingerprints(raws: Sequence[Any], own_sent: Sequence[str]) -> list[str]:
    """Return what ``events.fingerprint`` would."""
    if own_sent.count(_NULL) == len(own_sent):
        return list(map(xxh3_128_hexdigest, raws))
    prints = []
    for raw, sent in zip(raws, own_sent, strict=True):
        event = bytes(raw)
        if sent is not _NULL:
            before, found, after = event.partition(_SENT_AT + sent.encode() + b'"')
            event = before + after if found and event.count(b'"sentAt"') == 1 else events.without_sent_at(event)
        prints.append(xxh3_128_hexdigest(event))
    return prints


def _extras(outer: Sequence[bytes] | None, columns: Sequence[Sequence[Any]], count: int) -> list[bytes]:
    """Return the column ``extra``: what is known of envelope and body, then the fields without a column, sorted by name."""
    if not any(column.count(_NONE) < count for column in columns):
        if not outer:
            return [_NOTHING] * count
        return [b"{" + part + b"}" if part else _NOTHING for part in outer]
    extras = []
    for index in range(count):
        parts = [outer[index]] if outer and outer[index] else []
        parts += [name + bytes(column[index]) for name, column in zip(_EXTRA_NAMES, columns, strict=True) if column[index] is not _NONE]
        extras.append(b"{" + b",".join(parts) + b"}" if parts else _NOTHING)
    return extras
