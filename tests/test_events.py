"""Events: the vocabulary of columns, reasons and repairs, and the page that explains them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polku import events, moments
from polku.errors import InvalidRecord

PAGE = (Path(__file__).parent.parent / "docs" / "events.md").read_text(encoding="utf-8")
CORPUS = "\n".join(path.read_text(encoding="utf-8") for path in (Path(__file__).parent / "corpus").glob("*.txt"))
PLACE = events.Place("p", 1_795_430_460_000_000, live=True)

NOT_IN_THE_CORPUS = {"file_too_large"}
"""It takes 16 GB; test_transform tries it with less."""


@pytest.mark.parametrize("code", [*events.REASONS, *events.REPAIRS])
def test_each_code_is_explained_in_the_docs_as_in_the_code(code):
    """The page and the code say the same sentence."""
    sentence = {**events.REASONS, **events.REPAIRS}[code]

    assert f"| `{code}` | {sentence} |" in PAGE


@pytest.mark.parametrize("column", events.COLUMNS, ids=lambda column: column.name)
def test_each_column_is_explained_in_the_docs(column):
    """With its type."""
    assert f"| `{column.name}` | {column.kind} |" in PAGE


def test_the_docs_explain_nothing_that_is_not_there():
    """A rule that was taken out is taken out of the page too."""
    codes = {match[1] for match in re.finditer(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)}

    assert codes == {*events.REASONS, *events.REPAIRS, *(column.name for column in events.COLUMNS)}


@pytest.mark.parametrize("code", sorted({*events.REASONS, *events.REPAIRS} - NOT_IN_THE_CORPUS))
def test_each_code_has_an_example_in_the_corpus(code):
    """A reason that no input leads to would be untried."""
    assert re.search(rf"aside\('{code}'\)|repairs='[^']*\b{code}\b", CORPUS)


def test_all_codes_together_fit_their_column():
    """An event can need every repair at once."""
    limit = next(column.limit for column in events.COLUMNS if column.name == "repairs")

    assert len(",".join(events.REPAIRS)) <= limit


def test_an_id_that_was_derived_depends_on_the_place_alone():
    """So that replays agree; and it fits its column."""
    first = events.read(b'{"userId":"u"}', events.BARE, PLACE, server=True)
    again = events.read(b'{"userId":"u"}', events.BARE, PLACE._replace(received=0), server=True)

    assert first.message_id == again.message_id == events.derived_message_id("p")
    assert first.message_id != events.derived_message_id("q")


@pytest.mark.parametrize(
    ("event", "rest"),
    [
        (b'{"sentAt":"x","a":1}', b'{"a":1}'),
        (b'{"a":1,"sentAt":"x"}', b'{"a":1}'),
        (b'{"a":1, "sentAt" : "x" , "b":2}', b'{"a":1 , "b":2}'),
        (b'{"sentAt":"x"}', b"{}"),
        (b'{"a":1,"sentAt":7}', b'{"a":1}'),
        (b'{"a":1,"sentAt":"\\u0041"}', b'{"a":1}'),
        (b'{"a":{"sentAt":1},"sentAt":"x"}', b'{"a":{"sentAt":1}}'),
        (b'{"a":1,"\\u0073entAt":"x"}', b'{"a":1}'),
    ],
)
def test_the_fingerprint_leaves_out_the_events_own_sent_at(event, rest):
    """Wherever it stands and however it is written."""
    assert events.without_sent_at(event) == rest


@pytest.mark.parametrize("data", [b"", b" ", b"\xef\xbb\xbf", b"[", b'{"batch":[', b"\xff{", b"[[[[[[1]]]]]]"])
def test_what_cannot_be_cut_into_events_says_why(data):
    """Or is an event that cannot be read."""

    def read_all():
        return [events.read(event, outer, PLACE, server=True) for event, outer in events.unpack(data)]

    with pytest.raises(InvalidRecord) as caught:
        read_all()

    assert caught.value.reason in events.REASONS
    assert len(caught.value.detail) <= 250


@given(st.integers(moments.EARLIEST, moments.LATEST))
def test_a_moment_that_is_shown_can_be_read(moment):
    """Every microsecond of the years 1 to 9999."""
    assert moments.read(moments.show(moment)) == moment


@given(st.text(max_size=40) | st.from_regex(r"\A\d{1,4}-\d\d?-\d\d?[T ]?[\d:.,]{0,16}(Z|[+-][\d:]{1,6})?\Z"))
def test_a_time_that_cannot_be_read_is_a_value_error(text):
    """And no other error, and never a time out of range."""
    try:
        moment = moments.read(text)
    except ValueError:
        return

    assert moments.EARLIEST <= moment <= moments.LATEST
