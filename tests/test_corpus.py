"""
The corpus: nasty inputs kept as files, each with what must become of it.

``tests/corpus/*.txt`` hold one case a paragraph::

    some-id: a remark
    < b'...' * 3            a record of the stream, as a Python expression; gzip(), zstd(), lines() may be used
    = userId b'7'           or: a plain event in which one field's JSON is this; no JSON: the field is left out; may be repeated
    file / client / shared  or any of them: in a buffer file, of the client source, in a stream that both share
    > row(user_id='7', repairs='number_to_text')      what must become of each event, in order of position: some columns of a row
    > aside('not_json')                               or the reason
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zstandard

from tests.staged_files import file, made, stream

FOLDER = Path(__file__).parent / "corpus"
PLAIN = {
    "messageId": b'"m"',
    "timestamp": b'"2026-11-23T10:41:00.000Z"',
    "type": b'"track"',
    "event": b'"E"',
    "userId": b'"u"',
    "properties": b"{}",
}
CHECKS = {"properties", "traits", "context", "integrations", "extra"}


class Case(NamedTuple):
    """One paragraph of the corpus."""

    name: str
    data: bytes
    words: frozenset[str]
    expected: list[Any]


def event(**changes: bytes | None) -> bytes:
    """Return a plain event with the JSON of some fields changed."""
    fields = {key: value for key, value in {**PLAIN, **changes}.items() if value is not None}
    return b"{" + b",".join(json.dumps(key).encode() + b":" + value for key, value in fields.items()) + b"}"


NAMES = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "event": event,
    "lines": lambda *data: b"\n".join(data),
    "envelope": lambda inner, path=b'"/server"', sent=b'"2026-11-23T10:41:00.000Z"': (
        b'{"event":' + inner + b',"sentAt":' + sent + b',"context":{"resourcePath":' + path + b"}}"
    ),
    "row": lambda **columns: columns,
    "aside": lambda reason: reason,
}


def cases() -> list[Case]:
    """Return every case of every file."""
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
            lines = [line for line in paragraph.splitlines() if line and not line.startswith("#")]
            if lines:
                found.append(case(path.stem, lines))
    return found


def case(family: str, lines: list[str]) -> Case:
    """Return the case that a paragraph describes."""
    data: bytes | None = None
    changes: dict[str, bytes | None] = {}
    words: set[str] = set()
    expected = []
    for line in lines[1:]:
        mark, rest = line[:2], line[2:]
        if mark == "< ":
            data = (data or b"") + eval(rest, NAMES)
        elif mark == "= ":
            key, _, value = rest.partition(" ")
            changes[key] = eval(value, NAMES) if value else None
        elif mark == "> ":
            expected.append(eval(rest, NAMES))
        else:
            words.update(line.split())
    return Case(f"{family}:{lines[0].partition(':')[0]}", event(**changes) if data is None else data, frozenset(words), expected)


CASES = cases()


def test_the_corpus_is_as_large_as_it_claims_and_every_case_has_a_name_of_its_own():
    """A paragraph that is not read would be a test that is not run."""
    assert len(CASES) >= 200
    assert len({each.name for each in CASES}) == len(CASES)


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.name)
def test_each_input_becomes_what_it_must(each):
    """Loaded so, or quarantined for that reason; and its bytes are kept in quarantine."""
    words = each.words
    source = "client" if "client" in words else "server"

    result = made(file(each.data) if "file" in words else stream(each.data), source=source, shared="shared" in words)

    outcomes = sorted([*result.rows, *result.aside], key=lambda line: line["position"])
    assert [line.get("reason", "row") for line in outcomes] == [want if isinstance(want, str) else "row" for want in each.expected]
    for line, want in zip(outcomes, each.expected, strict=True):
        if isinstance(want, dict):
            assert {key: seen(key, line[key]) for key in want} == want
        elif "file" not in words:
            assert line["bytes"] == each.data if len(outcomes) == 1 else line["bytes"] in each.data


def seen(column: str, value: str | None) -> Any:
    """Return a column's value for comparison: SUPER as Python values, text as it is."""
    return json.loads(value) if column in CHECKS and value is not None else value
