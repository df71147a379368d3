"""
Files that have to be read field by field: CSV, JSON, and text with options that change values.

Each value leaves in the one form that PostgreSQL and Redshift read alike, so that what came in an uncommon form is read by
Redshift's rules.
"""

from __future__ import annotations

import csv
import json
import re
from datetime import timezone
from typing import TYPE_CHECKING

from . import load_errors
from .load_errors import BadRow, Column, invalid_utf8
from .values import check_value, to_boolean, to_date, to_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .copy_command import CopyCommand

MAX_ROW = 4 * 1024 * 1024
_BATCH = 2000

Piece = tuple[bytes, int, int]
"""Rows for PostgreSQL, how many they are, and how many lines of the file."""


def converted(blocks: Iterable[bytes], command: CopyCommand, columns: Sequence[Column], delimiter: bytes, null: bytes) -> Iterator[Piece]:
    """
    Yield rows in PostgreSQL's text format.

    Args:
        blocks: Blocks of whole lines.
        command: How they are to be read.
        columns: What the fields go to.
        delimiter: Of PostgreSQL's side.
        null: NULL of PostgreSQL's side, as it stands in the text.

    Raises:
        BadRow: ``line`` counts from 0 after the lines that were yielded.
    """
    out: list[bytes] = []
    begin = now = 0
    reader = _READERS[command.format](_lines(blocks), command, columns)
    while True:
        try:
            first, now, raw, fields = next(reader)
        except StopIteration:
            break
        except BadRow as bad:
            bad.line -= begin
            raise
        try:
            out.append(_row(fields, raw, command, columns, delimiter, null))
        except BadRow as bad:
            bad.line = first - begin
            raise
        if len(out) == _BATCH:
            yield b"".join(out), len(out), now - begin
            out, begin = [], now
    if out:
        yield b"".join(out), len(out), now - begin


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    for block in blocks:
        yield from block.splitlines(keepends=True) if b"\r" not in block else re.findall(rb"[^\n]*\n", block)


Record = tuple[int, int, bytes, "list[bytes | None]"]
"""First line, the line after it, the raw text, the fields."""


def _text(lines: Iterator[bytes], command: CopyCommand, columns: Sequence[Column]) -> Iterator[Record]:
    escape = "ESCAPE" in command.options
    number = 0
    for line in lines:
        first = number
        number += 1
        raw = line
        if escape:
            while _open_escape(raw):
                more = next(lines, b"")
                if not more:
                    break
                raw += more
                number += 1
        raw = raw[:-1].removesuffix(b"\r")
        if not raw.strip() and "IGNOREBLANKLINES" in command.options:
            continue
        if len(raw) > MAX_ROW:
            raise BadRow(*load_errors.ROW_TOO_LONG, line=first, raw_line=raw)
        fields = _fields(raw, command)
        missing = len(columns) - len(fields)
        if missing > 0 and "FILLRECORD" in command.options:
            fields += [None] * missing
        elif missing > 0:
            raise BadRow(*load_errors.DELIMITER_NOT_FOUND, columns[len(fields) - 1], first, raw, position=len(raw))
        elif missing < 0:
            raise BadRow(*load_errors.EXTRA_COLUMNS, None, first, raw)
        yield first, number, raw, fields


def _open_escape(raw: bytes) -> bool:
    body = raw[:-1]
    return (len(body) - len(body.rstrip(b"\\"))) % 2 == 1


def _fields(raw: bytes, command: CopyCommand) -> list[bytes | None]:
    delimiter = command.delimiter
    if "REMOVEQUOTES" in command.options:
        body = rb"\\.|[^\\" + re.escape(delimiter) + rb"]" if "ESCAPE" in command.options else rb"[^" + re.escape(delimiter) + rb"]"
        pattern = re.compile(rb'("[^"]*"|\'[^\']*\'|(?:' + body + rb")*)(?:" + re.escape(delimiter) + rb"|$)", re.DOTALL)
        pieces, at = [], 0
        while True:
            match = pattern.match(raw, at)
            if match is None:
                raise BadRow(1216, "Invalid quote formatting", raw_line=raw)
            pieces.append(match[1])
            if match.end() == match.end(1):
                break
            at = match.end()
    elif "ESCAPE" in command.options:
        pieces = re.findall(
            rb"((?:\\.|[^\\" + re.escape(delimiter) + rb"])*)(?:" + re.escape(delimiter) + rb"|$)", raw + delimiter, re.DOTALL
        )[:-1]
        pieces = pieces or [b""]
    else:
        pieces = raw.split(delimiter)
    return [_field(piece, command) for piece in pieces]


def _field(piece: bytes, command: CopyCommand) -> bytes | None:
    if piece == command.null:
        return None
    if "REMOVEQUOTES" in command.options and len(piece) > 1 and piece[:1] in b"\"'" and piece[:1] == piece[-1:]:
        piece = piece[1:-1]
    if "ESCAPE" in command.options and b"\\" in piece:
        piece = re.sub(rb"\\(.)", rb"\1", piece, flags=re.DOTALL)
    return piece


def _csv(lines: Iterator[bytes], command: CopyCommand, columns: Sequence[Column]) -> Iterator[Record]:  # noqa: C901
    held: list[bytes] = []

    def decoded() -> Iterator[str]:
        for line in lines:
            held.append(line)
            yield line.decode("latin-1")

    reader = csv.reader(
        decoded(),
        delimiter=command.delimiter.decode(),
        quotechar=command.quote.decode(),
        doublequote=True,
        strict=True,
        lineterminator="\n",
    )
    csv.field_size_limit(MAX_ROW + 1)
    number = 0
    while True:
        first = number
        held.clear()
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            code, reason = load_errors.CSV_UNENDED if "end of data" in str(error) else load_errors.CSV_QUOTE
            raise BadRow(code, reason, None, first, b"".join(held)) from error
        number = reader.line_num
        raw = b"".join(held).removesuffix(b"\n").removesuffix(b"\r")
        if not raw.strip() and "IGNOREBLANKLINES" in command.options:
            continue
        if len(raw) > MAX_ROW:
            raise BadRow(*load_errors.ROW_TOO_LONG, line=first, raw_line=raw)
        fields: list[bytes | None] = [None if (value := text.encode("latin-1")) == command.null else value for text in row] or [b""]
        missing = len(columns) - len(fields)
        if missing > 0 and "FILLRECORD" in command.options:
            fields += [None] * missing
        elif missing > 0:
            raise BadRow(*load_errors.DELIMITER_NOT_FOUND, columns[len(fields) - 1], first, raw, position=len(raw))
        elif missing < 0:
            raise BadRow(*load_errors.EXTRA_COLUMNS, None, first, raw)
        yield first, number, raw, fields


def _json(lines: Iterator[bytes], command: CopyCommand, columns: Sequence[Column]) -> Iterator[Record]:  # noqa: C901
    """Objects one after another; in a file whose every line is one, at the cost of a line."""
    decoder = json.JSONDecoder()
    names = {c.name: i for i, c in enumerate(columns)}
    ignore_case = command.json_paths == "auto ignorecase"
    waiting, first = "", 0
    for number, line in enumerate(lines, start=1):
        try:
            waiting += line.decode()
        except UnicodeDecodeError as error:
            raise BadRow(1220, "String contains invalid or unsupported UTF8 codepoints", None, number - 1, line) from error
        while True:
            waiting = waiting.lstrip()
            if not waiting:
                first = number
                break
            try:
                found, end = decoder.raw_decode(waiting)
            except (ValueError, RecursionError):
                break  # it may go on in the next line
            if not isinstance(found, dict):
                raise BadRow(1216, "Invalid JSON format: an object is expected", None, first, waiting[:1024].encode())
            raw, waiting = waiting[:end].encode(), waiting[end:]
            if len(raw) > MAX_ROW:
                raise BadRow(*load_errors.ROW_TOO_LONG, line=first, raw_line=raw)
            fields: list[bytes | None] = [None] * len(columns)
            for key, value in found.items():
                index = names.get(key.lower() if ignore_case else key)
                if index is not None:
                    fields[index] = _json_field(value, columns[index])
            yield first, number, raw, fields
    if waiting:
        raise BadRow(1216, "Invalid JSON format", None, first, waiting[:1024].encode())


def _json_field(value: object, column: Column) -> bytes | None:
    if value is None and column.kind != "super":
        return None
    if column.kind != "super" and isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if column.kind != "super" and isinstance(value, bool):
        return b"true" if value else b"false"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


_READERS = {"text": _text, "csv": _csv, "json": _json}


def _row(fields: list[bytes | None], raw: bytes, command: CopyCommand, columns: Sequence[Column], delimiter: bytes, null: bytes) -> bytes:
    out = []
    for field, column in zip(fields, columns, strict=True):
        value = _value(field, raw, command, column)
        if value is None:
            out.append(null)
            continue
        value = value.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        out.append(value.replace(delimiter, b"\\" + delimiter) if delimiter in value else value)
    return delimiter.join(out) + b"\n"


def _value(field: bytes | None, raw: bytes, command: CopyCommand, column: Column) -> bytes | None:  # noqa: C901
    kind, options = column.kind, command.options
    value = field
    if value is not None and kind in ("varchar", "char"):
        if (not value and "EMPTYASNULL" in options) or ("BLANKSASNULL" in options and not value.strip()):
            value = None
        elif "TRIMBLANKS" in options:
            value = value.rstrip(b" ")
    elif value is not None and not value.strip():
        value = None
    if value is None:
        if column.not_null:
            raise _bad(load_errors.MISSING, column, raw, field or b"")
        return None
    value = _valid_text(value, command, column, raw)
    if kind in ("varchar", "char") and "TRUNCATECOLUMNS" in options and len(value) > column.length > 0:
        value = value[: column.length].decode("utf-8", "ignore").encode()
    fault = check_value(value, column, command.time_format, command.date_format)
    if fault:
        raise _bad(fault, column, raw, value)
    if kind == "bool":
        return b"t" if to_boolean(value.decode()) else b"f"
    if kind in ("timestamp", "timestamptz"):
        found = to_timestamp(value.decode(), command.time_format or "auto", zoned=kind == "timestamptz")
        return (found.astimezone(timezone.utc) if found.tzinfo else found).isoformat(" ").encode()
    if kind == "date":
        return to_date(value.decode(), command.date_format).isoformat().encode()
    if kind in ("varchar", "char", "super"):
        return value
    return value.strip()


def _valid_text(value: bytes, command: CopyCommand, column: Column, raw: bytes) -> bytes:
    if value.isascii() and b"\0" not in value:
        return value
    if b"\0" in value:
        raise _bad(load_errors.NUL, column, raw, value)
    try:
        value.decode()
    except UnicodeDecodeError as error:
        if command.replacement is None:
            raise _bad((1220, invalid_utf8(value, error)), column, raw, value) from error
        return _replaced(value, command.replacement.encode())
    return value


def _replaced(value: bytes, mark: bytes) -> bytes:
    """Each byte of what is no UTF-8 becomes the mark, so the length stays."""
    out = b""
    while value:
        try:
            value.decode()
        except UnicodeDecodeError as error:
            out += value[: error.start] + mark * (error.end - error.start)
            value = value[error.end :]
        else:
            return out + value
    return out


def _bad(fault: tuple[int, str], column: Column, raw: bytes, value: bytes) -> BadRow:
    return BadRow(fault[0], fault[1], column, raw_line=raw, raw_field=value, position=max(raw.find(value), 0) if value else 0)
