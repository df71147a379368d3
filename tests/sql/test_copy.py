"""COPY reads what transform writes: delimited text without quoting, compressed with zstd, named by a manifest."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from polku import events, transform
from tests.sql.warehouse import COLUMNS, Batch, Copy, batch_id, expected, files, render
from tests.staged_files import file, made, stream
from tests.test_corpus import CASES

COPY = Path("load/31_copy_staged.sql")


def line(copy, **columns):
    """Return a copy as a line of a staged file."""
    values = {**copy.values("server"), **columns}
    return "\x01".join(r"\N" if values.get(column) is None else values[column] for column in COLUMNS) + "\n"


def zstd(*lines):
    """Return lines as a staged object."""
    return zstandard.compress("".join(lines).encode())


def load(warehouse, manifest, *copies):
    """Load one batch of these copies by the real COPY."""
    role = "arn:aws:iam::123456789012:role/polku"
    copy = render(str(COPY), load={"manifest": manifest, "iam_role": role})
    return warehouse.load("server", [Batch(number=1, copies=copies)], copy=copy, manifest=manifest)


def test_the_copy_statement_names_every_column_in_order():
    """The staged file has no header; a column in another place would be read as its neighbour."""
    text = render(str(COPY), load={"manifest": "s3://bucket/key", "iam_role": "arn"})
    named = [name.strip().strip('"') for name in text[text.index("copy staged (") + 13 : text.index(")\nfrom")].split(",")]

    assert tuple(named) == COLUMNS
    assert str(COPY) in files("load")


def test_copies_come_from_all_objects_of_a_manifest(warehouse, put_staged):
    """One object a part, some of them empty."""
    copies = (Copy(id="m"), Copy(id="m", at=1, position="1"), Copy(id="n", position="2"))

    load(warehouse, put_staged("several", zstd(line(copies[0])), transform.EMPTY, zstd(line(copies[1]), line(copies[2]))), *copies)

    assert warehouse.contents("server") == expected("server", copies)


def test_a_load_of_nothing_is_possible(warehouse, put_staged):
    """A part that came to nothing stages an empty object, so that COPY finds one."""
    assert load(warehouse, put_staged("nothing", transform.EMPTY)) == [(batch_id("server", 1), 0, 0, 0, 0, 0)]


TEXTS = [
    "",
    " ",
    "a,b",
    'say "hi"',
    "it's",
    "back\\slash",
    "|",
    "日本語",
    "😀" * 256,
    "משתמש",
    "\u202eevil",
    "NULL",
    "null",
    "nan",
    "%s",
    "{{ x }}",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_what_was_sent(warehouse, put_staged, text):
    """No quoting, no escapes: every character but the delimiter and the newline stands for itself."""
    properties = json.dumps({text: [text]}, ensure_ascii=False)

    load(warehouse, put_staged("text", zstd(line(Copy(id="m"), event=text, properties=properties))), Copy(id="m"))

    [(event, loaded, untouched)] = warehouse.read("select event, json_serialize(properties), traits from {s}.server")
    assert event == text
    assert json.loads(loaded) == {text: [text]}
    assert untouched is None


def test_properties_of_a_megabyte_are_loaded(warehouse, put_staged):
    """SUPER takes 16 MB, a row of COPY 4 MB, a string inside SUPER 65,535 bytes."""
    properties = json.dumps({f"key {n}": "x" * 60_000 for n in range(20)})

    load(warehouse, put_staged("large", zstd(line(Copy(id="m"), properties=properties))), Copy(id="m"))

    [(loaded,)] = warehouse.read("select json_serialize(properties) from {s}.server")
    assert json.loads(loaded) == json.loads(properties)


def test_every_row_of_the_corpus_is_taken_and_reads_back_as_it_was_written(warehouse, put_staged):
    """Nasty inputs that became rows are none that COPY refuses, cuts or changes."""
    found = [made(file(each.data) if "file" in each.words else stream(each.data), shared="shared" in each.words) for each in CASES]
    manifest = put_staged("corpus", *[data for one in found for data, _ in one.objects])
    copy = render(str(COPY), load={"manifest": manifest, "iam_role": "arn:aws:iam::123456789012:role/polku"})
    shown = [f"json_serialize({column.name})" if column.kind == "super" else f'"{column.name}"::varchar' for column in events.COLUMNS]
    create = render("load/30_create_staged.sql", schema=warehouse.schema, load={"table": "server"})

    loaded = warehouse.run([create, copy, f"select {', '.join(shown)} from staged"])

    assert Counter(map(_told, loaded)) == Counter(_told(tuple(row.values())) for one in found for row in one.rows)
    assert len(loaded) > 100


def _told(row):
    """A row for comparison."""
    kinds = [column.kind for column in events.COLUMNS]
    return tuple(
        None if value is None else _compact(value) if kind == "super" else _trimmed(value) if kind == "timestamp" else value
        for value, kind in zip(row, kinds, strict=True)
    )


def _trimmed(text):
    """A time without the zeros at the end of its fraction, which Redshift does not show."""
    return text.rstrip("0").removesuffix(".") if "." in text else text


def _compact(text):
    """JSON without white space between its tokens."""
    return "".join(re.findall(r'"(?:[^"\\]|\\.)*"|[^"\s]+', text))


REFUSED = {
    "a string is too long in bytes": {"event": "ä" * 513},
    "a time is none": {"sent_at": "yesterday"},
    "JSON is none": {"properties": "{"},
    "a column that must be there is not": {"fingerprint": None},
}


@pytest.mark.parametrize("columns", REFUSED.values(), ids=REFUSED.keys())
def test_a_row_that_does_not_fit_refuses_the_load(warehouse, put_staged, columns):
    """Transform promises rows that fit; one that does not is a bug, and nothing is cut or left out for it."""
    with pytest.raises(Exception, match=r"(?i)load into table|cannot insert|null"):
        load(warehouse, put_staged("refused", zstd(line(Copy(id="m"), **columns))), Copy(id="m"))

    assert not any(warehouse.snapshot().values())


def test_an_object_that_is_gone_refuses_the_load(warehouse, aws, put_staged):
    """The manifest says mandatory: less than all is nothing."""
    manifest = put_staged("gone", zstd(line(Copy(id="m"))), zstd(line(Copy(id="n", position="1"))))
    aws.client("s3").delete_object(Bucket=manifest.split("/")[2], Key="staged/gone/1.zst")

    with pytest.raises(Exception, match=r"(?i)gone/1.zst|manifest|does not exist|not found"):
        load(warehouse, manifest, Copy(id="m"), Copy(id="n", position="1"))

    assert not any(warehouse.snapshot().values())
