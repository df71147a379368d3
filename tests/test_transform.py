"""Transform: from raw objects to rows and quarantine."""

from __future__ import annotations

import gzip
import io
import json
import random
import resource

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from polku import buffer_files, columns, names, records, transform
from polku.batches import RawObject
from tests.staged_files import ARRIVAL, BATCH, SHARD, file, inflate, made, stream

EVENT = {
    "messageId": "m-1",
    "timestamp": "2026-11-23T10:40:58.123Z",
    "type": "track",
    "event": "Order Completed",
    "userId": "user-1",
    "anonymousId": "a-1",
    "properties": {"price": 1.5, "note": 'say "hi"\n'},
    "context": {"ip": "10.0.0.1"},
}


def event(**changes):
    """Return a plain event, as bytes, with some fields changed; a field that is `...` is left out."""
    fields = {**EVENT, **changes}
    return json.dumps({key: value for key, value in fields.items() if value is not ...}).encode()


def envelope(inner, path="/server", **fields):
    return (
        b'{"event":'
        + inner
        + b',"sentAt":"2026-11-23T10:40:59.000Z","context":'
        + json.dumps({"resourcePath": path, **fields}).encode()
        + b"}"
    )


def slowly(monkeypatch):
    """Let every record go the thorough way."""
    monkeypatch.setattr(columns.Columns, "rows", lambda _, data, *__: columns.Plain(b"", 0, 0, 0, 0, range(len(data))))


def test_an_event_becomes_a_row_with_all_that_was_sent():
    """Each column holds its field; times are UTC, the sender's clock is corrected, SUPER stays as it was sent."""
    result = made(stream(envelope(event())))

    (row,) = result.rows
    assert row == {
        "message_id": "m-1",
        "received_at": "2026-11-23 10:41:00.000000",
        "timestamp": "2026-11-23 10:40:59.123000",
        "original_timestamp": "2026-11-23 10:40:58.123000",
        "sent_at": "2026-11-23 10:40:59.000000",
        "type": "track",
        "event": "Order Completed",
        "name": None,
        "user_id": "user-1",
        "anonymous_id": "a-1",
        "user_name": names.generated("user-1"),
        "previous_id": None,
        "group_id": None,
        "properties": json.dumps(EVENT["properties"]),
        "traits": None,
        "context": json.dumps(EVENT["context"]),
        "integrations": None,
        "extra": None,
        "fingerprint": row["fingerprint"],
        "batch_id": BATCH,
        "position": f"{SHARD}/{10**55:056}/0000/000000",
        "repairs": None,
    }


def test_the_books_say_what_came_in():
    """Counts are of events, bytes of decompressed data, arrivals of what was received."""
    bad = b"{"

    result = made(stream(event(), event(messageId="m-2"), bad))

    tally = result.tally
    assert (tally.received, tally.staged, tally.quarantined, tally.reasons) == (3, 2, 1, {"not_json": 1})
    assert tally.bytes == len(event()) * 2 + 1
    assert (tally.first_arrival, tally.last_arrival) == (ARRIVAL, ARRIVAL + 2)


def test_a_quarantined_event_keeps_its_bytes_and_says_where_it_stood():
    """It can be found in the archive and be sent again after a fix."""
    bad = b'{"messageId": \xff}'

    (line,) = made(stream(event(), bad)).aside

    assert line["reason"] == "not_utf8"
    assert line["bytes"] == bad
    assert line["position"] == f"{SHARD}/{10**55 + 1:056}/0000/000000"
    assert line["received_at"] == "2026-11-23 10:41:00.001000"
    assert (line["source"], line["batch_id"]) == ("server", BATCH)


BAD = b'{"messageId":"m",\xff}'


@pytest.mark.parametrize(
    "sent",
    [
        b" \t\r\n" + BAD + b"\r\n\r\n",
        b"\xef\xbb\xbf " + BAD + b"\n",
        b" \n",
        b"\xef\xbb\xbf",
        b"\n[\n" + event(userId=...) + b"\n]\n",
        b" " + envelope(event(userId=...)) + b" ",
        b'{"batch":[ ' + event(userId=...) + b" ]}\n",
        b"\x0b7\x0c",
    ],
)
def test_a_record_with_one_event_is_quarantined_exactly_as_it_arrived(sent):
    """White space, byte order mark and envelope are among what was sent."""
    (line,) = made(stream(event(), sent)).aside

    assert line["bytes"] == sent


def test_a_line_is_quarantined_exactly_as_it_stands_in_its_file_without_its_end():
    """The white space around it too, be its end that of Unix or of Windows."""
    bad = [b"  " + BAD + b"\t ", b"\t\xef\xbb\xbf" + BAD, b"7\r ", b"\x0c7 "]

    for end in (b"\n", b"\r\n"):
        result = made(file(end.join([b"", b"  ", event(), *bad, b""])))

        assert [line["bytes"] for line in result.aside] == bad


@pytest.mark.parametrize("sent", [b"\xef\xbb\xbf \n a,b\r\n1,2\r\n", b" \n\t?\n", b"\xff\xfe{\0}\0\n\0", b"PK\x03\x04" + b" " * 99])
def test_a_file_that_is_no_json_is_quarantined_exactly_as_it_arrived(sent):
    """Also what stands before its first letter."""
    assert b"".join(line["bytes"] for line in made(file(sent)).aside) == sent


def test_a_byte_order_mark_in_a_gzip_member_of_its_own_is_not_the_end():
    """What comes first of a compressed file may be as short as that."""
    assert made(file(gzip.compress(b"\xef\xbb\xbf") + gzip.compress(event()))).tally.staged == 1


@pytest.mark.parametrize("wrap", ["plain", "gzip", "zstd"])
def test_a_file_larger_than_allowed_is_read_up_to_there(wrap):
    """What stands before the limit is read; what is cut off there is no silent loss."""
    whole = event() + b"\n" + b" " * 3_000_000 + b"\n" + event()

    found = list(buffer_files.cut(io.BytesIO(WRAPS[wrap](whole)), limit=2_000_000))

    values = [value for each in found if isinstance(each, buffer_files.Values) for value in each.values]
    assert values == [event()]
    assert found[-1].reason == "file_too_large"
    assert found[-1].detail.startswith("more than 2000000 bytes")


def test_a_bad_event_in_a_body_leaves_its_neighbours_alone():
    """The books count events, not records."""
    body = b'{"batch":[' + b",".join([event(), b"7", event(messageId="m-2"), event(userId=...)]) + b'],"sentAt":"2026-11-23T10:41:00Z"}'

    result = made(stream(envelope(body)))

    assert [row["message_id"] for row in result.rows] == ["m-1", "m-2"]
    assert result.tally.reasons == {"not_an_object": 1, "user_id_missing": 1}


def test_the_same_event_has_one_fingerprint_in_every_envelope():
    """A retry in another body, at another time, is the same event; another content is another one."""
    body = b'{"batch":[' + event() + b'],"sentAt":"2026-11-23T10:41:05Z"}'
    with_own = event(sentAt="2026-11-23T10:41:07Z")
    in_the_middle = event().replace(b'"type"', b'"sentAt": "2026-11-23T10:41:08Z", "type"')

    rows = made(stream(event(), envelope(event()), body, with_own, in_the_middle, event(event="Other"))).rows

    prints = {row["fingerprint"] for row in rows if row["event"] != "Other"}
    assert len(prints) == 1
    assert {row["fingerprint"] for row in rows} > prints


def test_a_sent_at_inside_properties_is_content():
    """Only the event's own sentAt changes from try to try."""
    one = event(properties={"sentAt": "a"}, sentAt="2026-11-23T10:41:05Z")
    two = event(properties={"sentAt": "b"}, sentAt="2026-11-23T10:41:05Z")
    three = event(properties={"sentAt": "b"}, sentAt="2026-11-23T10:41:06Z")

    a, b, c = (row["fingerprint"] for row in made(stream(one, two, three)).rows)

    assert a != b
    assert b == c


def test_names_come_from_the_directory_and_else_are_generated():
    """Each distinct user is asked for once a part."""
    asked = []

    def directory(users):
        asked.extend(users)
        return {"user-1": "Ada\tLovelace" + "ä" * 200, "user-3": None, "user-4": "\\N", "user-5": "\0"}

    result = made(stream(event(), *[event(userId=f"user-{n}") for n in range(2, 6)], event(), event(zzz=1)), names=directory)

    assert sorted(asked) == [f"user-{n}" for n in range(1, 6)]
    found = {row["user_id"]: row["user_name"] for row in result.rows}
    generated = {f"user-{n}": names.generated(f"user-{n}") for n in range(2, 6)}
    assert found == {"user-1": ("Ada Lovelace" + "ä" * 122), **generated}


def test_a_source_that_is_not_translated_has_no_names():
    """The directory is not even asked."""
    result = made(stream(event(), event(zzz=1)), translate=False, names=lambda users: pytest.fail("was asked"))

    assert [row["user_name"] for row in result.rows] == [None, None]


def test_client_events_need_no_user():
    """They have an anonymousId."""
    result = made(stream(event(userId=...), event(userId=None), event(userId="")), source="client")

    assert [row["user_id"] for row in result.rows] == [None] * 3
    assert [row["user_name"] for row in result.rows] == [None] * 3


@pytest.mark.parametrize("source", ["server", "client"])
def test_in_a_shared_stream_each_event_is_one_sources_and_no_event_is_nobodys(source):
    """Each takes its own and passes the other's over; the server puts aside what is addressed to neither."""
    data = [
        envelope(event(messageId="s-1")),
        envelope(event(messageId="c-1"), "/prod/client/"),
        envelope(event(messageId="c-2"), "/client", requestId="r"),
        envelope(event(messageId="n-1"), "/elsewhere"),
        event(messageId="n-2"),
        b"{",
        envelope(b'{"batch":[' + event(messageId="s-2") + b"," + event(messageId="s-3", userId=7) + b"]}"),
    ]

    result = made(stream(*data), source=source, shared=True)

    ids = {row["message_id"] for row in result.rows}
    if source == "server":
        assert ids == {"s-1", "s-2", "s-3"}
        assert result.tally.reasons == {"not_json": 1, "source_unknown": 2}
        assert result.tally.passed_over == 2
    else:
        assert ids == {"c-1", "c-2"}
        assert result.tally.reasons == {}
        assert result.tally.passed_over == 6


def test_an_event_for_the_other_source_in_a_stream_of_ones_own_is_put_aside():
    """It would stand in the wrong table."""
    result = made(stream(envelope(event(), "/client"), envelope(event(), "/stage/neither")))

    assert result.tally.reasons == {"source_unknown": 1, "wrong_source": 1}


def test_records_that_the_producer_library_aggregated_are_taken_apart():
    """Each user record is an event with a place of its own; a damaged aggregate is one record that is no JSON."""
    from aws_kinesis_agg.aggregator import RecordAggregator

    aggregator = RecordAggregator()
    for number in range(3):
        aggregator.add_user_record("key", event(messageId=f"m-{number}").decode())
    _, _, aggregate = aggregator.clear_and_get().get_contents()
    damaged = aggregate[:-1] + bytes([aggregate[-1] ^ 1])

    result = made(stream(event(messageId="first"), bytes(aggregate), bytes(damaged)))

    assert [row["message_id"] for row in result.rows] == ["first", "m-0", "m-1", "m-2"]
    assert [row["position"][-12:] for row in result.rows] == ["/0000/000000", "/0000/000000", "/0001/000000", "/0002/000000"]
    assert [line["bytes"] for line in result.aside] == [damaged]


FORMS = {
    "lines": b"\n".join([event(messageId=f"m-{n}") for n in range(3)]) + b"\n",
    "lines with CRLF and blank ones": b"\r\n\r\n".join([event(messageId=f"m-{n}") for n in range(3)]),
    "array": b"[" + b",\n".join([event(messageId=f"m-{n}") for n in range(3)]) + b"]",
    "nothing between": b"".join([event(messageId=f"m-{n}") for n in range(3)]),
    "pretty": b"\n".join([json.dumps(json.loads(event(messageId=f"m-{n}")), indent=2).encode() for n in range(3)]),
    "pretty array": json.dumps([json.loads(event(messageId=f"m-{n}")) for n in range(3)], indent=2).encode(),
    "BOM": b"\xef\xbb\xbf" + b"\n".join([event(messageId=f"m-{n}") for n in range(3)]),
    "one body": b'{"batch":[' + b",".join([event(messageId=f"m-{n}") for n in range(3)]) + b"]}",
}
WRAPS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip of two members": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]),
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd of two frames": lambda data: zstandard.ZstdCompressor().compress(data[:100]) + zstandard.ZstdCompressor().compress(data[100:]),
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("form", FORMS)
def test_a_buffer_file_may_have_any_of_these_forms(form, wrap):
    """Told by its bytes, never by its name."""
    result = made(file(WRAPS[wrap](FORMS[form])))

    assert [row["message_id"] for row in result.rows] == ["m-0", "m-1", "m-2"]
    assert result.tally.quarantined == 0
    assert result.tally.bytes == len(FORMS[form]) - (3 if form == "BOM" else 0) or form == "BOM"


def test_a_files_events_keep_their_times_and_say_which_file_they_came_in():
    """When a file was dropped says nothing about the sender's clock."""
    (row,) = made(file(envelope(event()))).rows

    assert row["timestamp"] == row["original_timestamp"] == "2026-11-23 10:40:58.123000"
    assert row["received_at"] == "2026-11-23 10:41:00.000000"
    assert row["position"] == "buffer/server/a.json/0123456789abcdef0123456789abcdef/000000000/000000"


@pytest.mark.parametrize("wrap", ["gzip", "zstd"])
def test_of_a_file_that_is_cut_off_what_can_be_read_is_read(wrap):
    """The rest is put aside with the reason, and what was half there too."""
    rng = random.Random(3)
    whole = b"\n".join([event(messageId=f"m-{n}", noise=rng.randbytes(200).hex()) for n in range(2000)])
    packed = WRAPS[wrap](whole)

    result = made(file(packed[: len(packed) * 3 // 4]))

    assert 100 < result.tally.staged < 2000
    assert result.tally.reasons["file_damaged"] == 1
    assert sum(result.tally.reasons.values()) <= 2


def test_a_bomb_takes_no_memory_and_is_put_aside():
    """A gigabyte of nothing in a megabyte of gzip."""
    bomb = gzip.compress(b"\0" * (1 << 26), 9) * 16
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    result = made(file(bomb))

    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * 1024
    assert set(result.tally.reasons) == {"file_not_json"}


def test_an_event_of_a_megabyte_loads():
    """SUPER takes 4 MB a row; only each string in it is limited."""
    big = {"items": ["x" * 60_000] * 17}

    (row,) = made(stream(event(properties=big))).rows

    assert json.loads(row["properties"]) == big


def test_large_batches_become_several_objects(monkeypatch):
    """None grows without bound."""
    monkeypatch.setattr(transform, "_OBJECT_BYTES", 20_000)
    rng = random.Random(1)

    result = made(stream(*[event(messageId=rng.randbytes(16).hex()) for _ in range(4000)]))

    assert len(result.objects) > 2
    assert result.tally.staged == 4000


def test_nothing_gives_nothing():
    """The caller stages an empty object then."""
    result = made(file(b""), file(b" \n \n"), stream())

    assert result.tally.received == 0
    assert result.objects == []
    assert inflate(transform.EMPTY) == b""


def test_a_damaged_raw_object_of_a_stream_is_an_error_not_a_quarantine():
    """It is our own archive: the try fails and is repeated."""
    raw, packed = stream(event())

    with pytest.raises(ValueError, match="raw object is"):
        made((raw, io.BytesIO(packed.getvalue()[:-20])))


def test_twice_is_once():
    """The same raw objects and rules give the same bytes."""
    data = [event(), b"{", envelope(event(userId=7)), event(messageId=...)]

    first, second = made(stream(*data), file(data[0])), made(stream(*data), file(data[0]))

    assert first == second


@pytest.mark.parametrize(
    "sent",
    [
        b'{"messageId":"m","timestamp":"2026-11-23T10:41:00Z","type":"track","event":"","userId":"u","properties":{},"event":"E"}',
        (
            b'{"messageId":"m", "timestamp":"2026-11-23T10:41:00Z", "type":"", "event":"", "event":"E", "userId":"u", "properties":1, '
            b'"context":1, "traits":1, "integrations":1, "name":"N", "groupId":"g", "anonymousId":"a"}'
        ),
        b'{"messageId": "m", "timestamp": "2026-11-23T10:41:00Z", "event": "", "userId": "u", "event": "E"}',
        b'{"messageId":"m","timestamp":"2026-11-23T10:41:00Z","event":"","userId":"u","\\u0065vent":"E"}',
    ],
    ids=["as long as with spaces", "as long as with spaces, many keys", "with spaces", "escaped"],
)
@pytest.mark.parametrize("neighbours", [0, 3])
def test_a_key_that_stands_twice_is_seen_whatever_the_spaces(sent, neighbours):
    """The fast way goes by lengths, and spaces can make up for a key."""
    result = made(stream(*[event()] * neighbours, sent))

    assert [json.loads(row["extra"])["$repeated"] for row in result.rows if row["event"] == "E"] == [{"event": [""]}]


@pytest.mark.parametrize("around", ["context", "integrations", "writeKey", "other"])
def test_a_body_that_would_swell_in_its_rows_is_put_aside_whole(around):
    """A field of 3 MB around 100,000 events would be 300 GB of rows; a record has room for that."""
    inside = b'{"type":"a"}'
    fitting, swelling = (b'{"batch":[' + b",".join([inside] * count) + b'],"' + around.encode() + b'":"' + b"x" * 30_000 + b'"}'
                         for count in (2, 10_000))  # fmt: skip

    result = made(stream(fitting, swelling, event()))

    assert (result.tally.received, result.tally.staged, result.tally.reasons) == (4, 1, {"user_id_missing": 2, "body_too_large": 1})
    assert [line["bytes"] for line in result.aside if line["reason"] == "body_too_large"] == [swelling]


# The two ways to a row must agree, and no input whatever may raise.

_times = st.sampled_from(
    ["2026-11-23T10:40:58.123Z", "2026-11-23T10:40:58Z", "2026-11-23T10:40:58.123456+00:00", "2026-11-23T12:40:58.1+02:00", 1795430458,
     "1795430458123", "", None, ..., "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z",
     "2026-11-23T10:41:60.000Z", "soon", True, "2026-11-25T10:40:58.123Z"]
)  # fmt: skip
_ids = st.sampled_from(
    ["u", "", None, ..., 7, 1.5, "ä" * 128, "ä" * 129, "x" * 257, "a\nb", "\\N", "a\x00", "\ud800", [], True, "\U0001f600", "a\\nb", 'q"']
)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["\x00", "\ud83d", "e1e400,", "\x01\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_events = st.fixed_dictionaries(
    {"messageId": _ids, "timestamp": _times, "userId": _ids},
    optional={
        "type": _ids | st.just("x" * 65), "event": _ids | st.just("ä" * 600), "name": _ids,
        "anonymousId": _ids, "groupId": _ids, "previousId": _ids,
        "properties": _values, "context": _values, "traits": _values, "integrations": _values,
        "sentAt": _times, "originalTimestamp": _times,
        "version": _values, "writeKey": _values, "zzz": _values, "batch": _values, "$envelope": _values,
    },
)  # fmt: skip


_styles = st.sampled_from([(",", ":"), (",", ":"), (", ", ": "), (",", ": "), (", ", ":"), (" ,\n", "\t: ")])


@st.composite
def _dumped(draw):
    """An event as JSON, in one of several styles, now and then with a key that stands twice."""
    comma, colon = draw(_styles)
    ascii_only = draw(st.booleans())
    members = [(key, value) for key, value in draw(_events).items() if value is not ...]
    if members and draw(st.integers(0, 4)) == 0:
        members.append((draw(st.sampled_from(members))[0], draw(_values | _ids.filter(lambda value: value is not ...))))
        members = draw(st.permutations(members))
    texts = [[json.dumps(part, ensure_ascii=ascii_only, separators=(comma, colon)) for part in member] for member in members]
    return ("{" + comma.join(key + colon + value for key, value in texts) + "}").encode("utf-8", "surrogatepass")


@st.composite
def _records(draw):
    shape = draw(st.sampled_from(["bare", "envelope", "front", "body", "array", "enveloped body", "doubled", "mutated", "bytes"]))
    if shape == "bytes":
        return draw(st.binary(max_size=40))
    found = draw(st.lists(_dumped(), min_size=1, max_size=3))
    body = (
        b'{"batch":['
        + b",".join(found)
        + b'],"sentAt":'
        + json.dumps(draw(_times.filter(lambda t: t is not ...))).encode()
        + draw(
            st.sampled_from(
                [b"}", b"}", b',"writeKey":"k"}', b',"context":{"a":1}}', b',"sentAt":"2026-11-23T10:41:00Z"}', b',"batch":[]}']
            )
        )
    )
    if shape == "mutated":
        data = bytearray(envelope(found[0]))
        for _ in range(draw(st.integers(1, 3))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        return bytes(data)
    path = draw(st.sampled_from(["/server", "/prod/server/", "/client", "/x", "", None, "server"]))
    return {
        "bare": found[0],
        "envelope": envelope(found[0], path),
        "doubled": envelope(found[0], path)[:-1]
        + draw(st.sampled_from([b',"event":{}}', b', "sentAt": ""}', b',"event":' + found[-1] + b"}"])),
        "front": envelope(found[0], path, requestId="r", requestTimeEpoch=1),
        "body": body,
        "array": b"[" + b",".join(found) + b"]",
        "enveloped body": envelope(body, path),
    }[shape] + draw(st.sampled_from([b"", b"\n", b" "]))


def _sorted(result):
    return sorted(result.rows, key=lambda row: row["position"]), sorted(result.aside, key=lambda line: line["position"]), result.tally


@settings(deadline=None)
@given(st.lists(_records(), max_size=8), st.sampled_from(["server", "client"]), st.booleans())
def test_the_fast_way_and_the_thorough_way_make_the_same(data, source, shared):
    """Any records at all: no exception, balanced books, rows that COPY takes, and the same by both ways."""
    plain = made(stream(*data), source=source, shared=shared)

    with pytest.MonkeyPatch.context() as monkeypatch:
        slowly(monkeypatch)
        thorough = made(stream(*data), source=source, shared=shared)

    assert _sorted(plain) == _sorted(thorough)


@settings(deadline=None)
@given(
    st.lists(st.one_of(_records(), st.binary(max_size=30), st.sampled_from([b"{", b"[", b"]", b'"', b"\n{", b"}{", b"\\"])), max_size=6),
    st.sampled_from([b"\n", b"", b",", b" "]),
    st.sampled_from(list(WRAPS)),
    st.floats(0, 1),
)
def test_no_file_raises(data, between, wrap, share):
    """Any bytes, cut off anywhere."""
    packed = WRAPS[wrap](between.join(data))

    made(file(packed[: int(len(packed) * share)]))
    made(file(packed))


@settings(deadline=None)
@given(
    st.dictionaries(st.text(max_size=10), st.text(max_size=30) | st.integers(-(2**63), 2**63) | st.booleans() | st.none(), max_size=5),
    st.text(min_size=1, max_size=40),
)
def test_what_load_reads_is_what_was_sent(properties, name):
    """The round trip through the staged file."""
    sent = event(properties=properties, event=name)

    result = made(stream(sent))

    (row,) = result.rows
    if not row["repairs"]:
        assert json.loads(row["properties"]) == properties
        assert row["event"] == name


def test_memory_does_not_grow_with_the_batch():
    """A block at a time: ten times the events, no more memory held."""
    packed = records.pack(records.Block(SHARD, [str(n) for n in range(2000)], [ARRIVAL] * 2000, [event()] * 2000))
    import tracemalloc

    peaks = []
    for blocks in (2, 20):
        tracemalloc.start()
        transform.transform(
            [(RawObject("k", 0, 0, 0, 0), io.BytesIO(packed * blocks))],
            transform.Rules(source="server", batch_id=BATCH, translate=True, shared=False),
            lambda users: {},
            _Nowhere(),
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < peaks[0] * 1.5


class _Nowhere:
    def staged(self, data, rows):
        pass

    def quarantined(self, data, events):
        pass
